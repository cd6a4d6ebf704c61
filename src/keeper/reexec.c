/*
 * reexec.c - a keeper that becomes another build of itself.
 *
 * It stays the same process: the worker is its child as before, and its descriptors keep their numbers. What it
 * knows goes along in a memory file. The new program is tried first, in a process of its own, which reads
 * that file and ends: so a program that cannot take over is found out while nothing has happened.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x31504545524b424f) /* "OBKREEP1" */
#define VERSION 2u        /* one more whenever struct carried, or what it means, is another */
#define TRY_PATIENCE 2000 /* ms */

/* Members of struct keeper that go along as they are. */
/* clang-format off */
#define PLAIN(X) \
    X(door) X(control_door) X(one_client) X(ready_fd) X(notify_fd) X(program) X(sent_which) \
    X(sent_answer) X(child) X(socket) X(counts) X(ready) X(child_ready) X(child_heard) X(role) \
    X(in_step) X(deaths) X(messages) X(message_deaths) X(waits_since) X(faults) \
    X(start_at) X(dead) X(control) X(status_so_far) X(alone) X(has_terminal) X(terminal)
/* clang-format on */

struct carried {
    uint64_t magic;
    uint32_t version;
    uint32_t size;
    uint64_t tried; /* MAGIC: who tried it can read this */
#define X(member) __typeof__(((struct keeper *)0)->member) member;
    PLAIN(X)
#undef X
    int32_t leaving; /* a worker that has yet to be buried */
    int32_t asked;   /* one that may come to rest late */
    int32_t asker;   /* which control connection waits for an answer, -1: it has gone */
    uint32_t files;
    uint32_t held;
    struct {
        int fd, error;
    } file[MAX_FILES];
    char program_path[CONTROL_PATH];
};

/* ---- Away ---------------------------------------------------------------------------------------------- */

static int save(const struct keeper *k, const struct control *asker)
{
    struct carried c = { .magic = MAGIC,
                         .version = VERSION,
                         .size = sizeof c,
                         .leaving = k->upgrade.leaving,
                         .asked = k->upgrade.asked,
                         .asker = (int32_t)(asker - k->control),
                         .files = k->files,
                         .held = k->held.count };
    size_t held = k->held.count * sizeof *k->held.held;

#define X(member) memcpy(&c.member, &k->member, sizeof c.member);
    PLAIN(X)
#undef X
    for (unsigned i = 0; i < k->files; i++)
        c.file[i].fd = k->file[i].fd, c.file[i].error = k->file[i].error;
    snprintf(c.program_path, sizeof c.program_path, "%s", k->command[0]);
    int fd = memfd_create("outboard-keeper", MFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (pwrite(fd, &c, sizeof c, 0) == sizeof c &&
        pwrite(fd, k->held.held, held, sizeof c) == (ssize_t)held)
        return fd;
    close(fd);
    return -EIO;
}

/* Whether they stay open in the next program. */
static void keep_descriptors(const struct keeper *k, bool keep)
{
    const int own[] = { k->door,    k->control_door, k->ready_fd, k->notify_fd,
                        k->program, k->socket,       k->counts };
    int flag = keep ? 0 : FD_CLOEXEC;

    for (unsigned i = 0; i < sizeof own / sizeof *own; i++)
        fcntl(own[i], F_SETFD, flag);
    for (unsigned i = 0; i < CONTROL_MOST; i++)
        fcntl(k->control[i].fd, F_SETFD, flag);
    for (unsigned i = 0; i < k->files; i++)
        fcntl(k->file[i].fd, F_SETFD, flag);
    for (uint32_t i = 0; i < k->held.count; i++)
        fcntl(k->held.held[i].fd, F_SETFD, flag);
}

/* Returns only if that fails. */
static void become(const struct keeper *k, int program, const char *path, int state, bool try)
{
    char option[32], **argv = calloc((size_t)k->words + 2, sizeof *argv);

    if (!argv)
        return;
    snprintf(option, sizeof option, "--%s=%d", try ? "try" : "resume", state);
    argv[0] = (char *)(uintptr_t)path;
    argv[1] = option;
    for (int i = 1; i <= k->words; i++)
        argv[i + 1] = k->word_list[i]; /* which ends with a NULL */
    fcntl(state, F_SETFD, 0);
    execveat(program, "", argv, environ, AT_EMPTY_PATH);
    free(argv);
}

static int watch_process(pid_t pid)
{
    return pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
}

/* Does it take over, as far as can be said? A worker that dies meanwhile does not wait for that. */
static bool would_take_over(const struct keeper *k, int program, const char *path, int state, const char **why)
{
    pid_t pid = fork();
    siginfo_t end = { 0 };

    if (pid == 0) {
        become(k, program, path, state, true);
        _exit(127);
    }
    *why = "no process can be made to try it";
    if (pid < 0)
        return false;
    struct pollfd p[] = { { watch_process(pid), POLLIN, 0 }, { watch_process(k->child), POLLIN, 0 } };
    if (p[0].fd < 0 || poll(p, 2, TRY_PATIENCE) < 1 || !p[0].revents)
        kill(pid, SIGKILL);
    *why = p[1].revents ? "its worker has died meanwhile"
                        : "this program does not take over: not an outboard-keeper, or of a build that knows another state";
    for (unsigned i = 0; i < 2; i++)
        if (p[i].fd >= 0)
            close(p[i].fd);
    uint64_t tried = 0;
    return waitid(P_PID, (id_t)pid, &end, WEXITED) == 0 && end.si_code == CLD_EXITED &&
           end.si_status == 0 &&
           pread(state, &tried, sizeof tried, offsetof(struct carried, tried)) == sizeof tried &&
           tried == MAGIC;
}

int reexec(struct keeper *k, const struct control *asker, int program, const char *path,
           const char **why)
{
    if (k->upgrade.phase || k->ending) {
        *why = k->ending ? "it is about to end" : "an upgrade of the worker is under way";
        return -ECANCELED;
    }
    int state = save(k, asker);
    if (state < 0)
        return state;
    if (would_take_over(k, program, path, state, why)) {
        keep_descriptors(k, true);
        become(k, program, path, state, false);
        keep_descriptors(k, false);
    }
    close(state);
    return -ECANCELED;
}

/* ---- Here ---------------------------------------------------------------------------------------------- */

static int read_held(struct keeper *k, int fd, uint32_t count)
{
    struct held h;

    for (uint32_t i = 0; i < count; i++) {
        int ret = pread(fd, &h, sizeof h, (off_t)(sizeof(struct carried) + i * sizeof h)) ==
                          sizeof h
                      ? held_put(&k->held, h.name, h.fd, KEEPER_MAX_HELD)
                      : -EINVAL;
        if (ret < 0)
            return ret;
    }
    return 0;
}

int reexec_resume(struct keeper *k, int fd, bool try)
{
    struct carried c;
    struct stat st;

    if (pread(fd, &c, sizeof c, 0) != sizeof c || c.magic != MAGIC || c.version != VERSION ||
        c.size != sizeof c || c.files != k->files || c.asker >= (int32_t)CONTROL_MOST ||
        fstat(fd, &st) < 0 || st.st_size != (off_t)(sizeof c + c.held * sizeof(struct held)))
        return -EINVAL;
    if (try)
        return pwrite(fd, &c.magic, sizeof c.magic, offsetof(struct carried, tried)) < 0 ? -errno
                                                                                         : 0;
#define X(member) memcpy(&k->member, &c.member, sizeof c.member);
    PLAIN(X)
#undef X
    for (unsigned i = 0; i < k->files; i++)
        k->file[i].fd = c.file[i].fd, k->file[i].error = c.file[i].error;
    k->upgrade.leaving = c.leaving;
    k->upgrade.asked = c.asked;
    free(k->command[0]);
    c.program_path[sizeof c.program_path - 1] = '\0';
    k->command[0] = strdup(c.program_path);
    int ret = k->command[0] ? read_held(k, fd, c.held) : -ENOMEM;
    close(fd);
    keep_descriptors(k, false);
    if (ret == 0)
        keeper_log(k, "its keeper is another build from here on");
    if (ret == 0 && c.asker >= 0)
        control_answer(k, &k->control[c.asker], 0, NULL);
    return ret;
}

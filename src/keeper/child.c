/*
 * child.c - one worker after the other.
 *
 * The kernel counts the bytes that a process has written and read, and shows the counts until it is
 * buried: the successor tells by them what of its predecessor's last write has left. The block's step
 * word tells whether a worker got anything done: one that dies at the word where its predecessor died
 * was killed by the same message, most likely.
 */
#include "keeper/keeper.h"
#include "state/block.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define DROP_AFTER 3u   /* deaths at one message, until it is refused */
#define FAILED_AFTER 6u /* deaths without a step between them, until the device has failed */
#define MS UINT64_C(1000000)

static const char *const role_name[] = { "serve", "drop", "failed" };

/* ---- Starting -------------------------------------------------------------------------------------- */

static void run_child(const struct keeper *k, int socket)
{
    char fd[32], role[32];
    char **word = k->command;
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    fcntl(socket, F_SETFD, 0);
    snprintf(fd, sizeof fd, "--keeper-fd=%d", socket);
    snprintf(role, sizeof role, "--role=%s", role_name[k->role]);
    while (*word)
        word++;
    word[0] = fd; /* the command has room for two more words */
    word[1] = role;
    word[2] = NULL;
    execveat(k->program, "", k->command, environ, AT_EMPTY_PATH);
    fprintf(stderr, "outboard: %s: cannot start a worker: %s\n", k->name, strerror(errno));
    _exit(127);
}

int child_start(struct keeper *k)
{
    int pair[2];

    k->start_at = 0;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    pid_t pid = fork();
    int error = errno;
    if (pid == 0)
        run_child(k, pair[1]);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return -error;
    }
    k->child = pid;
    k->socket = pair[0];
    return 0;
}

void child_signal(const struct keeper *k, int signal)
{
    if (k->child)
        kill(k->child, signal);
}

/* ---- After its end --------------------------------------------------------------------------------- */

static uint64_t number_after(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* While it is not buried yet. */
static void read_counts(struct keeper *k)
{
    char path[64], text[512];

    snprintf(path, sizeof path, "/proc/%d/task/%d/io", k->child, k->child);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (n < 0) {
        keeper_log(k, "%s: %s: what the worker wrote last is not known", path, strerror(errno));
        n = 0;
    }
    if (fd >= 0)
        close(fd);
    text[n] = '\0';
    k->dead.read = number_after(text, "rchar: ");
    k->dead.written = number_after(text, "wchar: ");
}

/* Deaths at one step word. */
static void count_death(struct keeper *k)
{
    uint64_t word = 0;
    int block = held_get(&k->held, NAME_BLOCK);

    if (block >= 0 && pread(block, &word, sizeof word, offsetof(struct block_header, word)) != sizeof word)
        word = 0;
    k->deaths = word == k->word && k->restarts ? k->deaths + 1 : 1;
    k->word = word;
    k->dead.deaths = k->deaths;
    k->restarts++;
}

static void tell_death(const struct keeper *k, const siginfo_t *info)
{
    if (info->si_code == CLD_EXITED)
        keeper_log(k, "the worker ended with status %d", info->si_status);
    else
        keeper_log(k, "the worker was killed by signal %d (%s)%s", info->si_status,
                   strsignal(info->si_status), info->si_code == CLD_DUMPED ? ", core dumped" : "");
}

/* The first successors come at once; what waits for them must not wait for 4 seconds. */
static uint64_t pause_before(const struct keeper *k)
{
    static const unsigned ms[] = { 0, 0, 10, 50, 100, 200, 500 };
    unsigned last = sizeof ms / sizeof *ms - 1;

    return ms[k->deaths < last ? k->deaths : last] * MS;
}

static void plan(struct keeper *k)
{
    enum child_role before = k->role;

    if (before == CHILD_FAILED || k->deaths >= FAILED_AFTER)
        k->role = CHILD_FAILED;
    else
        k->role = k->deaths >= DROP_AFTER ? CHILD_DROP : CHILD_SERVE;
    if (k->role == CHILD_DROP && before != CHILD_DROP)
        keeper_log(k, "%u workers died of one message: it is refused", k->deaths);
    if (k->role == CHILD_FAILED && before != CHILD_FAILED)
        keeper_log(k, "no worker gets on: the device has failed");
    k->start_at = keeper_now() + pause_before(k);
}

/* One that ended by itself. True: there is nothing more to be planned. */
static bool ended_well(struct keeper *k, int status)
{
    if (k->role == CHILD_DROP && status == 0) {
        k->role = CHILD_SERVE;
        k->deaths = 0;
        k->start_at = keeper_now();
        return true;
    }
    if (k->role == CHILD_DROP && status == WORKER_NOTHING_TO_DROP) {
        k->deaths = FAILED_AFTER;
        return false;
    }
    if (status == 0 || !k->ready) {
        k->ending = true;
        k->status = status;
        return true;
    }
    return false;
}

void child_ended(struct keeper *k)
{
    siginfo_t info = { 0 };

    if (!k->child || waitid(P_PID, (id_t)k->child, &info, WEXITED | WNOWAIT | WNOHANG) < 0 || !info.si_pid)
        return;
    read_counts(k);
    waitpid(k->child, NULL, 0);
    /* What it asked for before it died has to be done. */
    while (requests_serve(k) == 0 && k->socket >= 0)
        if (recv(k->socket, &(char){ 0 }, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
            break;
    close(k->socket);
    k->socket = -1;
    k->child = 0;
    if (k->ending || (info.si_code == CLD_EXITED && ended_well(k, info.si_status)))
        return;
    tell_death(k, &info);
    if (!k->ready) {
        k->ending = true;
        k->status = 1;
        return;
    }
    count_death(k);
    plan(k);
}

/*
 * keeper.c - the program: its command line, its loop, its end.
 *
 *     outboard-keeper --name=NAME [--door=FD] [--socket-path=PATH] [--client=FD] [--ready-fd=FD]
 *                     [--notify-fd=FD] [--control=FD --control-path=PATH] [--file=PATH | --read-file=PATH]...
 *                     [--remove=PATH]... [--sandbox=off] -- COMMAND...
 *
 * It is started by "outboard serve", which checks what people type and gives it open descriptors. The
 * COMMAND starts a worker; two words are added to it.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE UINT64_C(5000000000) /* ns that a worker has to end when it is asked to */

static uint64_t read_clock(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t keeper_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t keeper_date(void)
{
    return read_clock(CLOCK_REALTIME);
}

/* Again and again: the first alarm may come before the call. */
void keeper_hurry(bool on)
{
    ualarm(on ? 10000 : 0, on ? 10000 : 0);
}

/* At most so many bytes that no pipe takes a part of them. */
static bool say(const char *text, size_t n)
{
    struct pollfd p = { STDERR_FILENO, POLLOUT, 0 };

    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
        return false;
    keeper_hurry(true); /* others may have filled it since */
    ssize_t done = write(STDERR_FILENO, text, n);
    keeper_hurry(false);
    return done > 0;
}

/* Who does not read what we say must not stop us, and O_NONBLOCK is not ours to set: others share the
 * description. A line that would have to wait is lost, and the next one that need not says so. */
void keeper_log(const struct keeper *k, const char *format, ...)
{
    static unsigned lost;
    char text[640];
    int n = 0;
    va_list args;

    if (lost)
        n = snprintf(text, sizeof text, "outboard: %.64s: lines that nobody read are lost: %u\n", k->name, lost);
    n += snprintf(text + n, sizeof text - (size_t)n, "outboard: %.64s: ", k->name);
    va_start(args, format);
    vsnprintf(text + n, sizeof text - (size_t)n - 1, format, args);
    va_end(args);
    strcat(text, "\n");
    lost = say(text, strlen(text)) ? 0 : lost + 1;
}

/* A service manager, as sd_notify(3) says it. */
void keeper_notify(const struct keeper *k, const char *text)
{
    if (k->notify_fd >= 0)
        send(k->notify_fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* ---- Beginning ------------------------------------------------------------------------------------- */

/* What this is, whatever the path leads to later. One that cannot be opened is the device's to tell. */
static int add_file(struct keeper *k, const char *path, bool readonly)
{
    if (k->files == MAX_FILES)
        return -E2BIG;
    int fd = k->resume < 0 ? open(path, O_PATH | O_CLOEXEC) : -1;
    k->file[k->files++] = (struct backend){ path, fd, fd < 0 ? -errno : 0, readonly };
    return 0;
}

static const char *value_of(const char *word, const char *key)
{
    size_t n = strlen(key);

    return strncmp(word, key, n) == 0 && word[n] == '=' ? word + n + 1 : NULL;
}

static int take_fd(const char *value)
{
    int fd = atoi(value);

    return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : fd;
}

/* What the build before this one was told, and has had. */
static bool is_old(const struct keeper *k, const char *word)
{
    return k->resume >= 0 && (value_of(word, "--door") || value_of(word, "--control") || value_of(word, "--ready-fd") ||
                              value_of(word, "--notify-fd") || value_of(word, "--client"));
}

/* -1: a word that is not known, or wrong. */
static int take_option(struct keeper *k, const char *word)
{
    const char *value;

    if (is_old(k, word))
        return 0;
    if ((value = value_of(word, "--name")))
        k->name = value;
    else if ((value = value_of(word, "--socket-path")))
        k->socket_path = value;
    else if ((value = value_of(word, "--control-path")))
        k->control_path = value;
    else if ((value = value_of(word, "--remove")) && k->removes < MAX_REMOVE)
        k->remove[k->removes++] = value;
    else if ((value = value_of(word, "--sandbox")))
        k->no_spaces = strcmp(value, "off") == 0;
    else if ((value = value_of(word, "--file")))
        return add_file(k, value, false);
    else if ((value = value_of(word, "--read-file")))
        return add_file(k, value, true);
    else if ((value = value_of(word, "--resume")) || (value = value_of(word, "--try"))) {
        k->try = word[2] == 't';
        k->word_list++; /* it is the first word, and not for the build after this one */
        k->words--;
        return (k->resume = take_fd(value)) < 0 ? -1 : 0;
    } else if ((value = value_of(word, "--door")))
        return (k->door = take_fd(value)) < 0 ? -1 : 0;
    else if ((value = value_of(word, "--control")))
        return (k->control_door = take_fd(value)) < 0 ? -1 : 0;
    else if ((value = value_of(word, "--ready-fd")))
        return (k->ready_fd = take_fd(value)) < 0 ? -1 : 0;
    else if ((value = value_of(word, "--notify-fd")))
        return (k->notify_fd = take_fd(value)) < 0 ? -1 : 0;
    else if ((value = value_of(word, "--client"))) {
        int fd = take_fd(value);
        k->one_client = true;
        return fd < 0 ? -1 : held_put(&k->held, NAME_SEAT, fd, KEEPER_MAX_HELD);
    } else
        return -1;
    return 0;
}

static int parse(struct keeper *k, int argc, char **argv)
{
    int i = 1;

    k->word_list = argv;
    k->words = argc;

    for (; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (take_option(k, argv[i]) < 0)
            return fprintf(stderr, "outboard-keeper: %s: cannot use this\n", argv[i]), -1;
    i++;
    if (i >= argc)
        return fprintf(stderr, "outboard-keeper: it is started by \"outboard serve\"\n"), -1;
    k->command = calloc((size_t)(argc - i) + 3, sizeof *k->command);
    if (!k->command)
        return -1;
    memcpy(k->command, argv + i, (size_t)(argc - i) * sizeof *argv);
    if (!(k->command[0] = strdup(argv[i]))) /* an upgrade replaces it */
        return -1;
    k->program = k->resume < 0 ? open(k->command[0], O_PATH | O_CLOEXEC) : -1;
    if (k->program < 0 && k->resume < 0)
        return fprintf(stderr, "outboard-keeper: %s: %s\n", k->command[0], strerror(errno)), -1;
    return 0;
}

/* Without SA_RESTART: a call that waits ends. */
static void wake_up(int signal)
{
    (void)signal;
}

static int watch_signals(struct keeper *k)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGALRM, &(struct sigaction){ .sa_handler = wake_up }, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    k->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return k->signals < 0 ? -errno : 0;
}

/* poll(2) refuses more than the limit allows, open or not. */
#define LEAST_DESCRIPTORS 14

static void raise_descriptor_limit(struct keeper *k)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    k->most = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < INT_MAX
                  ? (int)(limit.rlim_cur - limit.rlim_cur / 8)
                  : INT_MAX;
}

/* ---- Going on -------------------------------------------------------------------------------------- */

static void end_soon(struct keeper *k)
{
    k->ending = true;
    child_signal(k, SIGTERM);
}

static void end_of_child(struct keeper *k)
{
    child_ended(k);
    if (k->upgrade.leaving && waitpid(k->upgrade.leaving, NULL, WNOHANG))
        k->upgrade.leaving = 0;
}

static void take_signals(struct keeper *k)
{
    struct signalfd_siginfo s;

    while (read(k->signals, &s, sizeof s) == sizeof s) {
        if (s.ssi_signo == SIGCHLD)
            end_of_child(k);
        else if (!k->ending)
            end_soon(k);
    }
}

/* ms until something is due; -1: only events. */
static int patience(const struct keeper *k, uint64_t kill_at)
{
    uint64_t due = k->ending ? kill_at : k->start_at, now = keeper_now();

    if (!k->ending && k->upgrade.phase && (!due || k->upgrade.deadline < due))
        due = k->upgrade.deadline;
    if (!due)
        return -1;
    return due <= now ? 0 : (int)((due - now) / 1000000 + 1);
}

static void turn(struct keeper *k, uint64_t kill_at)
{
    struct pollfd p[4 + CONTROL_MOST] = {
        { k->signals, POLLIN, 0 },
        { k->socket, POLLIN, 0 },
        { !k->ending && door_open(k) ? k->door : -1, POLLIN, 0 },
        { k->control_door, POLLIN, 0 },
    };

    for (unsigned i = 0; i < CONTROL_MOST; i++)
        p[4 + i] = (struct pollfd){ k->control[i].fd, POLLIN, 0 };
    if (poll(p, sizeof p / sizeof *p, patience(k, kill_at)) < 0)
        return;
    if (p[1].revents && requests_serve(k) < 0) {
        close(k->socket); /* it is about to end: SIGCHLD will say */
        k->socket = -1;
    }
    if (p[2].revents && door_open(k))
        door_accept(k);
    for (unsigned i = 0; i < CONTROL_MOST; i++)
        if (p[4 + i].revents)
            control_ready(k, &k->control[i]);
    if (p[3].revents)
        control_accept(k);
    if (p[0].revents)
        take_signals(k);
    if (!k->ending && k->upgrade.phase && k->upgrade.deadline <= keeper_now())
        upgrade_tick(k);
    if (!k->ending && k->start_at && k->start_at <= keeper_now())
        child_start(k);
}

static void run(struct keeper *k)
{
    uint64_t kill_at = 0;

    while (!k->ending || k->child) {
        turn(k, kill_at);
        if (k->ending && !kill_at) {
            keeper_notify(k, "STOPPING=1");
            kill_at = keeper_now() + PATIENCE;
        } else if (kill_at && k->child && kill_at <= keeper_now()) {
            child_signal(k, SIGKILL);
            kill_at = keeper_now() + PATIENCE;
        }
    }
}

/* A device that uses the terminal may die without having put it back. Only who has it in the foreground may. */
static void put_terminal_back(const struct keeper *k)
{
    if (k->has_terminal && tcgetpgrp(STDIN_FILENO) == getpgrp() && (k->terminal.c_lflag & ICANON))
        tcsetattr(STDIN_FILENO, TCSANOW, &k->terminal);
}

/* From the command line, or from what the build before this one left. */
static int begin(struct keeper *k)
{
    int ret = k->most < LEAST_DESCRIPTORS ? -EMFILE : 0;

    if (ret == 0 && !k->try)
        ret = watch_signals(k);
    if (ret < 0)
        return ret;
    if (k->resume >= 0)
        return reexec_resume(k, k->resume, k->try);
    k->status_so_far.keeper_started = keeper_date();
    k->has_terminal = tcgetattr(STDIN_FILENO, &k->terminal) == 0;
    k->start_at = keeper_now();
    return door_bell(k);
}

int main(int argc, char **argv)
{
    struct keeper k = { .name = "device", .door = -1, .control_door = -1, .ready_fd = -1, .notify_fd = -1,
                        .signals = -1, .socket = -1, .counts = -1, .resume = -1 };
    int ret;

    for (unsigned i = 0; i < CONTROL_MOST; i++)
        k.control[i].fd = -1;
    raise_descriptor_limit(&k);
    if (parse(&k, argc, argv) < 0)
        return 2;
    if ((ret = begin(&k)) < 0) {
        keeper_log(&k, "cannot start: %s", strerror(-ret));
        k.status = 1;
    }
    if (k.try)
        _exit(k.status);
    if (ret == 0)
        run(&k);
    put_terminal_back(&k);
    if (k.socket_path)
        unlink(k.socket_path);
    if (k.control_path)
        unlink(k.control_path);
    for (unsigned i = 0; k.ready && i < k.removes; i++)
        unlink(k.remove[i]);
    held_drop_all(&k.held);
    free(k.command[0]);
    free(k.command);
    free(k.upgrade.path);
    return k.status;
}

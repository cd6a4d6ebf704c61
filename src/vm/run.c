/*
 * run.c - a VM's processes, from the first to the end of the last.
 */
#include "vm/run.h"
#include "vm/command.h"
#include "vm/spawn.h"
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How long QEMU, and then the devices, may take to end when they are told to. */
enum { GRACE_MS = 10000 };

struct child {
    const char *name;
    pid_t pid;   /* 0: not running */
    int status;  /* as waitpid() has it, once it ended */
    int ready;   /* read end of the pipe on which a device says that it listens; -1: it did */
};

struct run {
    const struct vm *vm;
    const struct vm_host *host;
    sigset_t old_mask;
    int signals; /* signalfd */
    bool ending; /* QEMU has ended, or something asked for the end: deaths are no news */
    bool hurry;  /* asked a second time */
    struct child qemu;
    struct child devices[VM_MAX_DEVICES];
};

static void __attribute__((format(printf, 2, 3))) say(const struct run *r, const char *format, ...)
{
    char sentence[VM_WHY_SIZE];
    va_list values;
    va_start(values, format);
    vsnprintf(sentence, sizeof(sentence), format, values);
    va_end(values);
    r->host->say(sentence);
}

static int exit_status(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* ---- Children ------------------------------------------------------------------------------- */

static int start_child(struct run *r, struct child *c, struct argv *argv, struct vm_spawn how)
{
    pid_t pid = -ENOMEM;
    how.mask = &r->old_mask;
    if (!argv->failed)
        pid = vm_spawn(argv, how);
    if (pid < 0)
        say(r, "%s: %s", argv->count ? argv->word[0] : c->name, strerror((int)-pid));
    argv_free(argv);
    if (pid < 0)
        return (int)pid;
    c->pid = pid;
    return 0;
}

static int start_device(struct run *r, unsigned i)
{
    const struct vm_device *d = &r->vm->devices[i];
    struct child *c = &r->devices[i];
    struct argv argv = { 0 };
    int ready[2];
    if (pipe2(ready, O_CLOEXEC | O_NONBLOCK) < 0) {
        say(r, "%s: %s", d->id, strerror(errno));
        return -errno;
    }
    c->ready = ready[0];
    vm_serve_command(d, r->host->program, r->host->rundir, ready[1], &argv);
    int error = start_child(r, c, &argv,
                            (struct vm_spawn){ .no_input = !d->takes_terminal, .keep = ready[1] });
    close(ready[1]);
    return error;
}

static int start_qemu(struct run *r)
{
    struct argv argv = { 0 };
    bool terminal_taken = false;
    for (unsigned i = 0; i < r->vm->devices_count; i++)
        terminal_taken |= r->vm->devices[i].takes_terminal;
    vm_qemu_command(r->vm, r->host->qemu, r->host->accel, r->host->rundir, &argv);
    return start_child(r, &r->qemu, &argv, (struct vm_spawn){ .no_input = terminal_taken });
}

/* Has it ended? If so, it is reaped, once. */
static bool reap(struct child *c)
{
    if (c->pid <= 0 || waitpid(c->pid, &c->status, WNOHANG) != c->pid)
        return false;
    c->pid = 0;
    return true;
}

static void device_ended(struct run *r, const struct child *c, bool started)
{
    if (r->ending)
        return;
    const char *what = started ? "ended, the VM goes on without it" : "ended before it was ready";
    if (WIFSIGNALED(c->status))
        say(r, "%s %s: signal %d (%s)", c->name, what, WTERMSIG(c->status),
            strsignal(WTERMSIG(c->status)));
    else if (started)
        say(r, "%s %s: exit status %d", c->name, what, WEXITSTATUS(c->status));
    /* else it has said so itself: it exits like this when its parameters are wrong. */
}

/* How many of the VM's children have ended just now; QEMU's end is the end of all. */
static unsigned reap_all(struct run *r, bool started)
{
    unsigned ended = 0;
    if (reap(&r->qemu))
        r->ending = true;
    for (unsigned i = 0; i < r->vm->devices_count; i++) {
        struct child *c = &r->devices[i];
        if (!reap(c))
            continue;
        ended++;
        device_ended(r, c, started);
    }
    return ended;
}

/* ---- Waiting -------------------------------------------------------------------------------- */

/* Takes what signals there are. Those that ask for the end count before the deaths they caused. */
static void take_signals(struct run *r)
{
    struct signalfd_siginfo info;
    while (read(r->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGCHLD)
            continue;
        r->hurry = r->ending;
        r->ending = true;
    }
}

/* true once the device has written its newline. The end of the pipe says nothing: its process may
 * have closed it without a word, and if it died SIGCHLD is on its way. */
static bool look_ready(struct child *c)
{
    char c1;
    ssize_t n = read(c->ready, &c1, 1);
    if (n < 0)
        return false;
    close(c->ready);
    c->ready = -1;
    return n == 1;
}

/* 0 when all devices listen; -EIO: one has died; -EINTR: the end was asked for. */
static int wait_ready(struct run *r)
{
    unsigned count = r->vm->devices_count;
    unsigned ready = 0;
    while (ready < count) {
        struct pollfd p[VM_MAX_DEVICES + 1];
        for (unsigned i = 0; i < count; i++)
            p[i] = (struct pollfd){ .fd = r->devices[i].ready, .events = POLLIN };
        p[count] = (struct pollfd){ .fd = r->signals, .events = POLLIN };
        if (poll(p, count + 1, -1) < 0 && errno != EINTR)
            return -errno;
        if (p[count].revents)
            take_signals(r);
        if (reap_all(r, false))
            return -EIO;
        if (r->ending)
            return -EINTR;
        for (unsigned i = 0; i < count; i++)
            if (p[i].revents && look_ready(&r->devices[i]))
                ready++;
    }
    return 0;
}

/* Waits for a signal, at most so long; -1: as long as it takes. */
static void wait_signal(struct run *r, int timeout_ms)
{
    struct pollfd p = { .fd = r->signals, .events = POLLIN };
    if (poll(&p, 1, timeout_ms) > 0)
        take_signals(r);
}

static int now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int)(now.tv_sec % 1000000) * 1000 + (int)(now.tv_nsec / 1000000);
}

/* ---- The end -------------------------------------------------------------------------------- */

static bool any_running(const struct child *children, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (children[i].pid > 0)
            return true;
    return false;
}

static void kill_all(const struct child *children, unsigned count, int signal)
{
    for (unsigned i = 0; i < count; i++)
        if (children[i].pid > 0)
            kill(children[i].pid, signal);
}

static void end(struct run *r, struct child *children, unsigned count)
{
    int start = now_ms();
    kill_all(children, count, SIGTERM);
    while (any_running(children, count)) {
        int left = GRACE_MS - (now_ms() - start);
        if (left <= 0 || r->hurry) {
            kill_all(children, count, SIGKILL);
            left = -1;
        }
        wait_signal(r, left);
        reap_all(r, true);
    }
}

static int work(struct run *r)
{
    for (unsigned i = 0; i < r->vm->devices_count; i++)
        if (start_device(r, i) < 0)
            return 1;
    int error = wait_ready(r);
    if (error == -EINTR)
        return 0;
    if (error || start_qemu(r) < 0)
        return 1;
    while (r->qemu.pid > 0 && !r->ending) {
        wait_signal(r, -1);
        reap_all(r, true);
    }
    return 0;
}

int vm_run(const struct vm *vm, const struct vm_host *host)
{
    struct run r = { .vm = vm, .host = host, .qemu = { .name = "QEMU", .ready = -1 } };
    for (unsigned i = 0; i < vm->devices_count; i++)
        r.devices[i] = (struct child){ .name = vm->devices[i].id, .ready = -1 };

    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigaddset(&mask, SIGINT);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGHUP);
    sigprocmask(SIG_BLOCK, &mask, &r.old_mask);
    r.signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (r.signals < 0) {
        say(&r, "signalfd: %s", strerror(errno));
        sigprocmask(SIG_SETMASK, &r.old_mask, NULL);
        return 1;
    }

    int status = work(&r);
    r.ending = true;
    end(&r, &r.qemu, 1);
    end(&r, r.devices, vm->devices_count);
    for (unsigned i = 0; i < vm->devices_count; i++)
        if (r.devices[i].ready >= 0)
            close(r.devices[i].ready);
    take_signals(&r);
    close(r.signals);
    sigprocmask(SIG_SETMASK, &r.old_mask, NULL);
    return status ? status : exit_status(r.qemu.status);
}

/*
 * worker.c - starting, serving, ending.
 *
 * What the C library and the compiler make of our calls, beside those that files of the lower floors name:
 *
 * #syscalls worker: brk mmap[2]&PROT_EXEC=0 munmap futex
 * #syscalls worker: rt_sigaction rt_sigreturn getpid gettid
 * #syscalls worker: clock_gettime exit_group
 */
#include "worker/worker.h"
#include "keeper/protocol.h"
#include "server/late.h"
#include "server/log.h"
#include "worker/crash.h"
#include "worker/failed.h"
#include "worker/keeping.h"
#include "worker/loop.h"
#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "syscalls_door.h"

#define REST_PATIENCE UINT64_C(1500000000) /* ns; meanwhile clients wait, for no more than 5 s in all */
#define LOOK_AGAIN UINT64_C(1000000)
#define LATE_AGAIN UINT64_C(10000000)

struct worker {
    struct loop loop;
    struct served served;
    struct watch signals;
    struct keeping keeping;
    struct sandbox sandbox;
    bool one_client; /* --fd was a connection: its end is ours */
    uint64_t rest_until; /* CLOCK_MONOTONIC ns: asked to come to rest, for so long; 0: not */
};

static int fail(const char *what, int error)
{
    char line[160];
    int n = snprintf(line, sizeof line, "outboard: serve: %s: %s\n", what, strerror(error < 0 ? -error : error));

    server_say(line, (size_t)n);
    return 1;
}

static void signalled(struct watch *w, uint32_t events)
{
    struct worker *worker =
        (struct worker *)(void *)((uint8_t *)w - offsetof(struct worker, signals));
    struct signalfd_siginfo s;
    (void)events;

    /* Counted, as all that this process reads. */
    while (read(w->fd, &s, sizeof s) == sizeof s) {
        if (worker->served.dev)
            ob_moved(worker->served.dev, sizeof s, 0);
        if (s.ssi_signo == SIGUSR1 && worker->served.dev && worker->keeping.watch.fd >= 0)
            worker->rest_until = ob_now(worker->served.dev) + REST_PATIENCE;
        else if (s.ssi_signo != SIGUSR1)
            worker->loop.stop = true;
    }
}

/* SIGTERM and SIGINT arrive as events, and SIGUSR1, by which a keeper asks for rest; SIGPIPE and SIGXFSZ
 * are errors of the writes that they belong to. */
static int watch_signals(struct worker *w)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    w->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (w->signals.fd < 0)
        return -errno;
    w->signals.ready = signalled;
    return watch_control(w->loop.epoll, EPOLL_CTL_ADD, &w->signals, EPOLLIN);
}

/* A guest's memory may come in many files, and each needs a descriptor. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void client_gone(struct ob_device *dev, void *ctx)
{
    struct worker *w = ctx;
    (void)dev;
    if (w->one_client)
        w->loop.stop = true;
}

static void tell_ready(struct ob_device *dev, int fd)
{
    if (fd < 0)
        return;
    effect_write_plain(&dev->block, fd, "\n", 1); /* counted, as all that this process writes */
    close(fd);
}

/* A datagram, which the kernel does not count among what is written. */
static void notify(const struct worker_settings *settings, const char *text)
{
    const struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };

    if (settings->notify_fd >= 0)
        wire_send_now(settings->notify_fd, &iov, 1);
}

static void log_totals(struct ob_device *dev)
{
    const struct shared_facts *s = dev->facts;

    ob_debug(dev, "served %" PRIu64 " messages, %" PRIu64 " interrupts, %" PRIu64 " errors, %" PRIu64
                  " bytes in, %" PRIu64 " bytes out",
             s->messages, s->interrupts, s->errors, s->bytes_in, s->bytes_out);
}

/* ---- The sandbox ------------------------------------------------------------------------------------- */

/* What neither the command line nor the keeper gave us came by mistake. */
static void close_others(const struct worker_settings *s, struct sandbox *sandbox)
{
    const int given[] = { s->door, s->client, s->keeper_fd, s->ready_fd, s->notify_fd, s->tidy_fd };

    if (s->sandbox)
        sandbox_close_others(sandbox, given, sizeof given / sizeof *given);
}

static void confine(struct ob_device *dev, const struct worker_settings *settings, struct sandbox *s)
{
    char names[1024];

    if (!settings->sandbox) {
        if (!dev->inherited && SANDBOX_POSSIBLE)
            server_log(dev, "there is no sandbox around this device (--sandbox=off)");
        else if (!dev->inherited)
            ob_debug(dev, "there is no sandbox around this device: this build checks itself, and needs the outside");
        server_device_threads(dev);
        return;
    }
    if (settings->keeper_fd < 0)
        ob_syscalls(dev, syscalls_door);
    unsigned count = sandbox_syscalls(dev->syscalls, names, sizeof names);
    if (!dev->inherited)
        ob_debug(dev, "sandbox: %u system calls: %s", count, names);
    wire_version_prepare();
    dev->confined = true;
    sandbox_enter(s, settings->keeper_fd >= 0);
    server_device_threads(dev);
    sandbox_filter(s, dev->syscalls);
    s->in_force |= dev->ring_restricted ? SANDBOX_RING : 0;
}

/* Where the host does not allow all of it, the first worker says so, and each for which something else is refused. */
static void tell_sandbox(struct ob_device *dev, const struct sandbox *s)
{
    struct shared_facts *f = dev->facts;

    if (s->refused && (!dev->inherited || s->refused != f->sandbox_refused))
        server_log(dev, "this host does not allow all of the sandbox: %s", s->note);
    f->sandbox = s->in_force;
    f->sandbox_refused = s->refused;
    memcpy(f->sandbox_note, s->note, sizeof f->sandbox_note - 1); /* the beginning of a long one */
}

static void report_refused_call(struct ob_device *dev)
{
    int call = sandbox_refused_call;

    if (call < 0)
        return;
    sandbox_refused_call = -1;
    server_log(dev, "system call %d is none that this device has told of: refused", call);
}

/* ---- Serving ---------------------------------------------------------------------------------------- */

/* Whoever takes over finds all in the block, and in keeping. */
static void rest(struct worker *w)
{
    struct ob_device *dev = w->served.dev;
    bool kept = w->keeping.watch.fd >= 0; /* else there is nobody to rest for */
    int ret = kept ? server_rest(dev) : -EPIPE;

    if (ret == 0 && (ret = keeping_rest(&w->keeping)) == 0)
        _exit(WORKER_AT_REST);
    if (ret == -EBUSY && ob_now(dev) < w->rest_until)
        return;
    w->rest_until = 0;
    if (kept)
        keeping_tell(&w->keeping, ret == -EINVAL ? "a migration is under way" : "the device does not come to rest");
    if (dev->resting)
        server_no_rest(dev);
}

static void run(struct worker *w)
{
    struct served *served = &w->served;

    while (!w->loop.stop) {
        bool late = late_waits(served->dev);
        loop_turn(&w->loop, w->rest_until ? LOOK_AGAIN : late ? LATE_AGAIN : UINT64_MAX);
        if (late)
            late_look_again(served->dev);
        if (w->rest_until)
            rest(w);
        report_refused_call(served->dev);
        if (w->one_client && lobby_empty(&served->lobby) && !server_busy(served->dev))
            break;
    }
}

/* What an earlier worker left is looked at in the sandbox alone: that one may have been its guest's. */
static int begin(struct ob_device *dev, const struct worker_settings *settings, const struct sandbox *sandbox,
                 const struct effect_counts *dead)
{
    int ret = server_device_block(dev);

    if (ret < 0)
        return ret;
    bool found = dev->inherited && dev->other_block < 0; /* by a successor, whatever happens now */
    crash_record(found ? dev->facts : NULL);
    ret = server_device_recover(dev, dead);
    if (ret < 0)
        return ret;
    crash_record(dev->inherited ? dev->facts : NULL);
    dev->facts->role = settings->role;
    tell_sandbox(dev, sandbox);
    return server_device_start(dev);
}

/* NULL: with errno. */
static struct ob_device *make_device(struct worker *w, const struct worker_settings *settings,
                                     const struct server_keeping *keeping, int block,
                                     const struct effect_counts *dead)
{
    struct ob_device *dev =
        server_device_open(settings->plugin, settings->plugin->name, settings->options,
                           settings->option_count, w->loop.epoll, keeping, block);
    if (!dev)
        return NULL;
    confine(dev, settings, &w->sandbox);
    int ret = begin(dev, settings, &w->sandbox, dead);
    if (ret < 0) {
        crash_record(NULL);
        server_device_free(dev);
        errno = -ret;
        return NULL;
    }
    dev->disconnected = client_gone;
    dev->disconnected_ctx = w;
    w->served.dev = dev;
    return dev;
}

static int serve(struct worker *w, const struct worker_settings *settings)
{
    struct served *served = &w->served;

    if (!make_device(w, settings, NULL, -1, NULL))
        return 1;
    int ret = lobby_open(&served->lobby, served->dev, settings->door);
    if (ret < 0) {
        server_device_free(served->dev);
        return fail("cannot listen", ret);
    }
    w->one_client = settings->client >= 0;
    if (w->one_client)
        lobby_welcome(&served->lobby, settings->client);
    w->loop.first = served;
    tell_ready(served->dev, settings->ready_fd);
    notify(settings, "READY=1");
    run(w);
    notify(settings, "STOPPING=1");
    lobby_close(&served->lobby);
    log_totals(served->dev);
    server_device_free(served->dev);
    return 0;
}

/* ---- With a keeper ---------------------------------------------------------------------------------- */

/* The keeper has died. The session goes on to its end, though nobody could take it over now. */
static void keeper_gone(struct watch *watch, uint32_t events)
{
    struct worker *w = (struct worker *)(void *)((uint8_t *)watch - offsetof(struct worker, keeping.watch));

    (void)events;
    server_log(w->served.dev, "the keeper has died: this worker goes on without, until its client has gone");
    epoll_ctl(w->loop.epoll, EPOLL_CTL_DEL, watch->fd, NULL);
    keeping_close(&w->keeping);
    w->served.dev->keeping = NULL;
    w->one_client = true;
}

/* The block of the worker before this one, or -ENOENT: this is the first. */
static int inherit(struct worker *w, struct effect_counts *dead)
{
    int ret = keeping_dead(&w->keeping, dead);

    return ret < 0 ? ret : w->keeping.calls.get(w->keeping.calls.ctx, NAME_BLOCK);
}

/* A client that is sent away takes its memory back. It may go by itself before; or we may be told to end. */
static void wait_for_late_io(struct worker *w)
{
    struct pollfd told = { .fd = w->signals.fd, .events = POLLIN };

    while (late_io(&w->keeping.calls) && poll(&told, 1, LATE_AGAIN / 1000000) == 0)
        ;
}

/* Lets go of all that was kept: of the client, whose connection ends by that, and of what it had set up. */
static void forget(struct worker *w)
{
    const struct server_keeping *k = &w->keeping.calls;
    uint32_t name = 0;

    while ((name = k->next(k->ctx, name)))
        if (name != NAME_BELL && (name < NAME_SEAT || name >= NAME_SEAT + KEEPER_SEATS))
            k->drop(k->ctx, name);
}

/* The exit status of a worker that cannot begin. */
static int cannot_begin(int error)
{
    return error == ENOMEM || error == EAGAIN || error == EMFILE || error == ENFILE ? WORKER_SHORT : 1;
}

static int open_kept(struct worker *w, const struct worker_settings *settings)
{
    struct effect_counts dead;
    struct served *served = &w->served;

    if (settings->role == ROLE_LOST) {
        wait_for_late_io(w);
        forget(w);
    }
    int block = inherit(w, &dead);
    if (block < 0 && (block != -ENOENT || settings->role == ROLE_UPGRADE))
        return fail("keeper", block), cannot_begin(-block);
    if (settings->role == ROLE_UPGRADE)
        keeping_upgrade(&w->keeping);
    struct ob_device *dev = make_device(w, settings, &w->keeping.calls, block < 0 ? -1 : block, &dead);
    int error = errno;
    if (!dev && settings->role == ROLE_UPGRADE)
        keeping_tell(&w->keeping, server_last_line());
    if (!dev)
        return cannot_begin(error);
    int ret = 0;
    if (block < 0)
        ret = w->keeping.calls.put(w->keeping.calls.ctx, NAME_BLOCK, dev->block.fd);
    if (ret == 0)
        ret = lobby_open(&served->lobby, dev, -1);
    if (ret == 0)
        ret = watch_control(w->loop.epoll, EPOLL_CTL_ADD, &w->keeping.watch, EPOLLIN);
    if (ret < 0)
        return fail("keeper", ret), cannot_begin(-ret);
    w->loop.first = served;
    w->keeping.watch.ready = keeper_gone;
    return 0;
}

static int serve_kept(struct worker *w, const struct worker_settings *settings)
{
    struct ob_plugin failed;
    struct worker_settings own = *settings;

    bool inert = settings->role != ROLE_SERVE && settings->role != ROLE_UPGRADE;

    failed_plugin(&failed, settings->plugin);
    if (inert)
        own.plugin = &failed;
    w->keeping.calls.inert = inert;
    w->one_client = settings->one_client;
    int status = open_kept(w, &own);
    if (status != 0)
        return status;
    struct ob_device *dev = w->served.dev;
    dev->refuse_next = settings->role == ROLE_DROP;
    dev->refuse_all = settings->role == ROLE_REFUSE;
    server_resume(dev);
    if (settings->role == ROLE_DROP || settings->role == ROLE_REFUSE) {
        dev->facts->left = dev->facts->worker;
        _exit(dev->refuse_next ? WORKER_NOTHING_TO_DROP : 0); /* not a word to the client: others go on */
    }
    int ret = keeping_ready(&w->keeping);
    crash_record(dev->facts); /* a first one without this has no successor */
    if (ret < 0 && ret != -EPIPE) /* it has died: keeper_gone() will hear of that */
        return fail("keeper", ret);
    run(w);
    lobby_close(&w->served.lobby);
    log_totals(dev);
    server_device_free(dev);
    return 0;
}

int worker_run(const struct worker_settings *settings)
{
    struct worker w = { .signals.fd = -1, .keeping.watch.fd = -1 };

    close_others(settings, &w.sandbox);
    crash_open(settings->plugin->name);
    raise_descriptor_limit();
    int ret = loop_open(&w.loop);
    if (ret == 0)
        ret = watch_signals(&w);
    if (ret < 0)
        return fail("cannot start", ret);
    int status;
    if (settings->keeper_fd >= 0) {
        keeping_open(&w.keeping, settings->keeper_fd);
        status = serve_kept(&w, settings);
        keeping_close(&w.keeping);
    } else {
        status = serve(&w, settings);
    }
    close(w.signals.fd);
    loop_close(&w.loop);
    return status;
}

/*
 * worker.c - starting, serving, ending.
 */
#include "worker/worker.h"
#include "worker/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct worker {
    struct loop loop;
    struct served served;
    struct watch signals;
    bool one_client; /* --fd was a connection: its end is ours */
};

static int fail(const char *what, int error)
{
    fprintf(stderr, "outboard: serve: %s: %s\n", what, strerror(error < 0 ? -error : error));
    return 1;
}

static void signalled(struct watch *w, uint32_t events)
{
    struct worker *worker =
        (struct worker *)(void *)((uint8_t *)w - offsetof(struct worker, signals));
    (void)events;
    worker->loop.stop = true;
}

/* SIGTERM and SIGINT arrive as events; SIGPIPE and SIGXFSZ are errors of the writes
 * that they belong to. */
static int watch_signals(struct worker *w)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return -errno;
    w->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (w->signals.fd < 0)
        return -errno;
    w->signals.ready = signalled;
    return watch_control(w->loop.epoll, EPOLL_CTL_ADD, &w->signals, EPOLLIN);
}

/* Who starts us may have closed some of 0 to 2. What we open must not get their numbers. */
static void fill_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
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

static bool is_listening(int fd)
{
    int value = 0;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size) == 0 && value;
}

static int check_socket(int fd)
{
    int domain = 0, type = 0;
    socklen_t size = sizeof domain;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0)
        return -errno;
    size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
        return -errno;
    if (domain != AF_UNIX || type != SOCK_STREAM)
        return -EPROTOTYPE;
    return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ||
                   fcntl(fd, F_SETFD, FD_CLOEXEC) < 0
               ? -errno
               : 0;
}

/* Opens the way in for clients. *door: the listening socket, or -1. */
static int open_door(struct worker *w, const struct worker_settings *settings, int *door)
{
    char what[32];
    int ret;

    *door = -1;
    if (settings->socket_path) {
        ret = wire_listen(settings->socket_path, door);
        return ret < 0 ? fail(settings->socket_path, ret) : 0;
    }
    snprintf(what, sizeof what, "--fd=%d", settings->fd);
    ret = check_socket(settings->fd);
    if (ret < 0)
        return fail(what, ret);
    if (is_listening(settings->fd))
        *door = settings->fd;
    else
        w->one_client = true;
    return 0;
}

static void tell_ready(struct ob_device *dev, int fd)
{
    if (fd < 0)
        return;
    effect_write_plain(&dev->block, fd, "\n", 1); /* counted, as all that this process writes */
    close(fd);
}

static void log_totals(struct ob_device *dev)
{
    const struct shared_session *s = dev->session;

    ob_debug(dev, "served %" PRIu64 " messages, %" PRIu64 " interrupts, %" PRIu64 " errors, %" PRIu64
                  " bytes in, %" PRIu64 " bytes out",
             s->messages, s->interrupts, s->errors, s->bytes_in, s->bytes_out);
}

static int serve(struct worker *w, const struct worker_settings *settings, int door)
{
    struct served *served = &w->served;

    served->dev = server_device_new(settings->plugin, settings->plugin->name, settings->options,
                                    settings->option_count, w->loop.epoll, NULL, -1, NULL);
    if (!served->dev)
        return 1;
    served->dev->disconnected = client_gone;
    served->dev->disconnected_ctx = w;
    int ret = lobby_open(&served->lobby, served->dev, door);
    if (ret < 0) {
        server_device_free(served->dev);
        return fail("cannot listen", ret);
    }
    if (w->one_client)
        lobby_welcome(&served->lobby, settings->fd);
    w->loop.first = served;
    tell_ready(served->dev, settings->ready_fd);
    while (!w->loop.stop) {
        loop_turn(&w->loop, UINT64_MAX);
        if (w->one_client && lobby_empty(&served->lobby) && !server_busy(served->dev))
            break;
    }
    lobby_close(&served->lobby);
    log_totals(served->dev);
    server_device_free(served->dev);
    return 0;
}

int worker_run(const struct worker_settings *settings)
{
    struct worker w = { .signals.fd = -1 };
    int door;

    fill_standard_descriptors();
    raise_descriptor_limit();
    int ret = loop_open(&w.loop);
    if (ret == 0)
        ret = watch_signals(&w);
    if (ret < 0)
        return fail("cannot start", ret);
    if (open_door(&w, settings, &door) != 0)
        return 1;
    int status = serve(&w, settings, door);
    if (settings->socket_path) {
        close(door);
        unlink(settings->socket_path);
    }
    close(w.signals.fd);
    loop_close(&w.loop);
    return status;
}

/*
 * stand_in.c - see stand_in.h.
 */
#include "stand_in.h"
#include "abort.h"
#include "worker/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PUT, DROP, GET, NEXT, SEND, STOP };

struct request {
    uint32_t what;
    uint32_t name;
    uint32_t size; /* of bytes to send */
    uint32_t unused;
    uint64_t which;
};

static void fatal(const char *what)
{
    perror(what);
    abort();
}

static void tell(int sock, const void *buf, size_t n, int fd)
{
    struct iovec iov = { (void *)(uintptr_t)buf, n };
    if (wire_send(sock, &iov, 1, &fd, fd >= 0) != (ssize_t)n)
        fatal("stand-in: send");
}

static bool hear(int sock, void *buf, size_t n, int *fd)
{
    struct wire_fds fds;
    ssize_t got = wire_receive(sock, buf, n, &fds);
    if (fd)
        *fd = got > 0 && fds.count ? fds.fd[0] : -1;
    return got == (ssize_t)n;
}

/* ---- The worker's side ----------------------------------------------------------------------------- */

static int control, stop_event;
static struct stand_in *working;

static int ask(uint32_t what, uint32_t name, int fd, int *got)
{
    struct request r = { .what = what, .name = name };
    int32_t answer = -1;
    tell(control, &r, sizeof r, fd);
    if (!hear(control, &answer, sizeof answer, got))
        _exit(3);
    return answer;
}

static int put(void *ctx, uint32_t name, int fd)
{
    (void)ctx;
    return ask(PUT, name, fd, NULL);
}

static void drop(void *ctx, uint32_t name)
{
    (void)ctx;
    ask(DROP, name, -1, NULL);
}

static int get(void *ctx, uint32_t name)
{
    int fd;
    (void)ctx;
    return ask(GET, name, -1, &fd) < 0 || fd < 0 ? -ENOENT : fd;
}

static uint32_t next(void *ctx, uint32_t after)
{
    (void)ctx;
    return (uint32_t)ask(NEXT, after, -1, NULL);
}

static ssize_t send_through(void *ctx, uint64_t which, const void *bytes, size_t n, const int *fds,
                            unsigned nfds)
{
    struct request r = { .what = SEND, .size = (uint32_t)n, .which = which };
    int32_t answer = -1;
    (void)ctx;

    tell(control, &r, sizeof r, nfds ? fds[0] : -1); /* no test asks what the others are */
    tell(control, bytes, n, -1);
    return hear(control, &answer, sizeof answer, NULL) ? answer : -EPIPE;
}

/* Nothing that the tests do moves or removes a disk's file. */
static int open_file(void *ctx, unsigned n, int flags)
{
    (void)ctx;
    for (unsigned i = 0; i < working->option_count; i++)
        if (strcmp(working->options[i].key, "file") == 0 && n-- == 0)
            return open(working->options[i].value, flags | O_CLOEXEC);
    return -ENOENT;
}

static void asked_to_stop(struct watch *w, uint32_t events)
{
    (void)events;
    *(bool *)(void *)(w + 1) = true;
}

/* ---- Where it may die ------------------------------------------------------------------------------ */

static long die_at;

/* All of the block but input, output and buffers, whose bytes count by what is said of them elsewhere. */
static void arm(const struct block *b)
{
    uint8_t *start = (uint8_t *)b->h, *end = start + b->h->size;
    uint8_t *input = block_part(b, SHARED_INPUT), *state = block_part(b, SHARED_DEVICE);
    struct abort_range ranges[2 + 4] = { { start, (size_t)(input - start) } };
    int n = 1;

    start = block_part(b, SHARED_REGIONS);
    for (unsigned i = 0; i < working->buffer_count; i++) {
        uint8_t *buffer = state + working->buffers[i].address;
        ranges[n++] = (struct abort_range){ start, (size_t)(buffer - start) };
        start = buffer + working->buffers[i].size;
    }
    ranges[n++] = (struct abort_range){ start, (size_t)(end - start) };
    abort_arm(ranges, n, die_at);
}

static void arm_guest(struct ob_device *dev)
{
    for (unsigned i = 0; i < working->guest_count; i++) {
        struct memory_piece piece;
        if (memory_translate(dev->memory, working->guest[i].address, working->guest[i].size,
                             MEMORY_WRITE, &piece, 1) == 1)
            abort_also((struct abort_range){ piece.base, working->guest[i].size });
    }
}

/* The first that a successor does with the block; and the first after its memory is there. */
bool __real_step_recover(struct block *b);
bool __wrap_step_recover(struct block *b);
bool __wrap_step_recover(struct block *b)
{
    if (working->recovery)
        arm(b);
    return __real_step_recover(b);
}

static int watch_file(void *ctx, int inotify, unsigned n)
{
    (void)ctx;
    (void)inotify;
    (void)n;
    return -EPERM;
}

static void work(struct stand_in *s, long at)
{
    const struct server_keeping keeping = { s->worker, put,          drop,      get,
                                            next,      send_through, open_file, .watch = watch_file };
    static struct {
        struct watch watch;
        bool stop;
    } stop;
    struct loop loop;
    struct served served;
    int block = ask(GET, STAND_IN_BLOCK, -1, &block) < 0 ? -1 : block;

    working = s;
    die_at = at;
    signal(SIGPIPE, SIG_IGN);
    if (loop_open(&loop) < 0)
        fatal("worker: loop");
    bool is_new = block < 0;
    struct ob_device *dev = server_device_new(s->plugin, "test", s->options, s->option_count,
                                              loop.epoll, &keeping, block, &s->dead);
    if (!dev)
        _exit(4);
    if (is_new) {
        put(NULL, STAND_IN_BLOCK, dev->block.fd);
        int sock = get(NULL, KEEP_CONNECTION);
        if (sock < 0 || server_attach(dev, sock) < 0)
            _exit(5);
    }
    served.dev = dev;
    served.next = NULL;
    lobby_open(&served.lobby, dev, -1);
    loop.first = &served;
    stop.watch = (struct watch){ stop_event, asked_to_stop };
    watch_control(loop.epoll, EPOLL_CTL_ADD, &stop.watch, EPOLLIN);

    if (is_new || !s->recovery)
        arm(&dev->block);
    arm_guest(dev);
    server_resume(dev);
    while (!stop.stop)
        loop_turn(&loop, UINT64_MAX);
    loop_turn(&loop, 0);
    abort_disarm();
    struct request r = { .what = STOP, .name = (uint32_t)abort_points() };
    tell(control, &r, sizeof r, -1);
    server_device_free(dev);
    loop_close(&loop);
    exit(0); /* not _exit: a sanitizer wants to look for leaks */
}

/* ---- The stand-in's side --------------------------------------------------------------------------- */

static struct held *find(struct stand_in *s, uint32_t name)
{
    for (int i = 0; i < s->held_count; i++)
        if (s->held[i].name == name)
            return &s->held[i];
    return NULL;
}

int stand_in_fd(const struct stand_in *s, uint32_t name)
{
    struct held *h = find((struct stand_in *)(uintptr_t)s, name);
    return h ? h->fd : -1;
}

static void let_go(struct stand_in *s, uint32_t name)
{
    struct held *h = find(s, name);
    if (!h)
        return;
    close(h->fd);
    *h = s->held[--s->held_count];
}

void stand_in_drop(struct stand_in *s, uint32_t kind)
{
    for (int i = s->held_count; i--;)
        if ((s->held[i].name & 0xff000000u) == kind)
            let_go(s, s->held[i].name);
}

static void hold(struct stand_in *s, uint32_t name, int fd)
{
    let_go(s, name);
    if (fd < 0 || s->held_count == 64)
        fatal("stand-in: hold");
    s->held[s->held_count++] = (struct held){ name, fd };
}

static uint32_t lowest_above(const struct stand_in *s, uint32_t after)
{
    uint32_t lowest = 0;
    for (int i = 0; i < s->held_count; i++)
        if (s->held[i].name > after && (!lowest || s->held[i].name < lowest))
            lowest = s->held[i].name;
    return lowest;
}

static int send_once(struct stand_in *s, uint64_t which, const void *bytes, size_t n, int fd)
{
    struct iovec iov = { (void *)(uintptr_t)bytes, n };
    if (s->sent_which != which) {
        s->sent_which = which;
        s->sent_answer = (int)wire_send(stand_in_fd(s, KEEP_CONNECTION), &iov, 1, &fd, 1);
    }
    return s->sent_answer;
}

/* Serves one request. Returns false when the worker has ended its side. */
static bool serve(struct stand_in *s, long *points)
{
    struct request r;
    int fd;
    int32_t answer = 0;

    if (!hear(s->control, &r, sizeof r, &fd))
        return false;
    int back = -1;
    uint8_t bytes[4096];
    switch (r.what) {
    case PUT: hold(s, r.name, fd); break;
    case DROP: let_go(s, r.name); break;
    case GET:
        back = stand_in_fd(s, r.name);
        answer = back < 0 ? -ENOENT : 0;
        break;
    case NEXT: answer = (int32_t)lowest_above(s, r.name); break;
    case SEND:
        if (r.size > sizeof bytes || !hear(s->control, bytes, r.size, NULL))
            return false;
        answer = send_once(s, r.which, bytes, r.size, fd);
        close(fd);
        break;
    case STOP:
        *points = r.name;
        return true;
    default: fatal("stand-in: request");
    }
    struct iovec iov = { &answer, sizeof answer };
    wire_send(s->control, &iov, 1, &back, back >= 0); /* a worker that died does not mind */
    return true;
}

void stand_in_new(struct stand_in *s, const struct ob_plugin *plugin,
                  const struct option_value *options, unsigned option_count)
{
    int pair[2];
    *s = (struct stand_in){ .plugin = plugin, .options = options, .option_count = option_count,
                            .control = -1, .twin = -1 };
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
        fatal("socketpair");
    s->client = pair[0];
    hold(s, KEEP_CONNECTION, pair[1]);
}

void stand_in_free(struct stand_in *s)
{
    stand_in_stop(s);
    while (s->held_count)
        let_go(s, s->held[0].name);
    if (s->twin >= 0)
        close(s->twin);
    close(s->client);
}

/* A memory file with the same bytes, and holes in the same places. */
static int copy_file(int from)
{
    struct stat st;
    char buf[65536];
    int to = memfd_create("copy", MFD_CLOEXEC);

    if (to < 0 || fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
        fatal("copy");
    off_t at = 0;
    while ((at = lseek(from, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(from, at, SEEK_HOLE);
        while (at < end) {
            size_t n = (size_t)(end - at) < sizeof buf ? (size_t)(end - at) : sizeof buf;
            if (pread(from, buf, n, at) != (ssize_t)n || pwrite(to, buf, n, at) != (ssize_t)n)
                fatal("copy");
            at += (off_t)n;
        }
    }
    return to;
}

static int copy_held(const struct held *h)
{
    struct stat st;
    if (fstat(h->fd, &st) == 0 && S_ISREG(st.st_mode))
        return copy_file(h->fd);
    if ((h->name & 0xf0000000u) != KEEP_IRQ && (h->name & 0xf0000000u) != KEEP_IOEVENT)
        return dup(h->fd);
    /* An eventfd like it, with nothing in it. */
    return eventfd(0, O_CLOEXEC | O_NONBLOCK);
}

static void new_twin(struct stand_in *s)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
        fcntl(pair[1], F_SETFL, O_NONBLOCK) < 0)
        fatal("socketpair");
    s->twin = pair[0];
    hold(s, KEEP_TWIN, pair[1]);
}

void stand_in_copy(struct stand_in *to, const struct stand_in *from)
{
    stand_in_new(to, from->plugin, from->options, from->option_count);
    to->recovery = from->recovery;
    to->worker = from->worker;
    to->dead = from->dead;
    memcpy(to->guest, from->guest, sizeof to->guest);
    to->guest_count = from->guest_count;
    memcpy(to->buffers, from->buffers, sizeof to->buffers);
    to->buffer_count = from->buffer_count;
    for (int i = 0; i < from->held_count; i++)
        if (from->held[i].name == KEEP_TWIN)
            new_twin(to);
        else if (from->held[i].name != KEEP_CONNECTION)
            hold(to, from->held[i].name, copy_held(&from->held[i]));
    if (wire_set_peek_offset(stand_in_fd(to, KEEP_CONNECTION), 0) < 0)
        fatal("peek offset");
}

void stand_in_start(struct stand_in *s, long at)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        fatal("socketpair");
    stop_event = eventfd(0, EFD_CLOEXEC);
    fflush(NULL);
    s->worker++;
    s->pid = fork();
    if (s->pid < 0)
        fatal("fork");
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pair[0]);
        close(s->client);
        if (s->twin >= 0)
            close(s->twin);
        for (int i = 0; i < s->held_count; i++)
            close(s->held[i].fd);
        control = pair[1];
        work(s, at);
    }
    close(pair[1]);
    s->control = pair[0];
}

/* The worker has died: what it had read and written is known until it is reaped. */
static int bury(struct stand_in *s)
{
    struct block_header h = { .owner = 0 };
    siginfo_t info;
    int status, block = stand_in_fd(s, STAND_IN_BLOCK);

    if (waitid(P_PID, (id_t)s->pid, &info, WEXITED | WNOWAIT) < 0)
        fatal("wait");
    if (block >= 0 && pread(block, &h, sizeof h, 0) != sizeof h)
        fatal("block");
    /* Of one that died before the block was its own, nothing is of interest. */
    if (h.owner == s->worker && effect_counts(s->pid, &s->dead) < 0)
        fatal("counts");
    if (waitpid(s->pid, &status, 0) != s->pid)
        fatal("wait");
    close(s->control);
    close(stop_event);
    s->control = -1;
    return status;
}

static void expect_killed(int status)
{
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fatal("stand-in: the worker died of something else");
}

size_t stand_in_run(struct stand_in *s, uint8_t *buf, size_t have, size_t bytes, bool *alive,
                    void (*on_bytes)(struct stand_in *s, const uint8_t *buf, size_t n))
{
    long points;

    *alive = true;
    while (have < bytes && *alive) {
        struct pollfd p[] = { { s->client, POLLIN, 0 },
                              { s->control, POLLIN, 0 },
                              { s->on_twin ? s->twin : -1, POLLIN, 0 } };
        if (poll(p, 3, 10000) <= 0)
            fatal("stand-in: the worker says nothing");
        if (p[0].revents & POLLIN) {
            struct wire_fds fds;
            ssize_t n = wire_receive(s->client, buf + have, bytes - have, &fds);
            if (fds.count && s->twin < 0 && stand_in_fd(s, KEEP_TWIN) >= 0) {
                s->twin = fds.fd[0];
                fds.fd[0] = -1;
            }
            wire_fds_close(&fds);
            have += n > 0 ? (size_t)n : 0;
            if (on_bytes)
                on_bytes(s, buf, have);
        }
        if (p[2].revents)
            s->on_twin(s);
        if (p[1].revents)
            *alive = serve(s, &points);
    }
    if (!*alive)
        expect_killed(bury(s));
    return have;
}

bool stand_in_until(struct stand_in *s, bool (*done)(void *ctx), void *ctx)
{
    struct pollfd p[64];
    long points;

    while (!done(ctx)) {
        nfds_t n = 2;
        p[0] = (struct pollfd){ s->control, POLLIN, 0 };
        p[1] = (struct pollfd){ s->client, POLLIN, 0 };
        for (int i = 0; i < s->held_count && n < 64; i++)
            if ((s->held[i].name & 0xf0000000u) == KEEP_IRQ)
                p[n++] = (struct pollfd){ s->held[i].fd, POLLIN, 0 };
        if (poll(p, n, 20000) <= 0)
            fatal("stand-in: the worker says nothing");
        if (p[0].revents && !serve(s, &points)) {
            expect_killed(bury(s));
            return false;
        }
    }
    return true;
}

long stand_in_stop(struct stand_in *s)
{
    long points = -1;

    if (s->control < 0)
        return -1;
    eventfd_write(stop_event, 1);
    while (serve(s, &points))
        ;
    int status = bury(s);
    if (points >= 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        fatal("stand-in: the worker did not end well");
    return points;
}

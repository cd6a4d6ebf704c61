/*
 * requests.c - what a worker may ask of its keeper. Each request is checked as an enemy's.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct packet {
    struct keeper_request request;
    uint8_t bytes[KEEPER_MAX_SEND];
};

/* Descriptors that came with a request. Those that are not taken out are closed. */
struct descriptors {
    int fd[KEEPER_MAX_FDS];
    unsigned count;
};

/* Puts them beside a message; `control` has room for them. */
static void attach(struct msghdr *m, void *control, const int *fds, unsigned n)
{
    m->msg_control = control;
    m->msg_controllen = CMSG_SPACE(n * sizeof(int));
    struct cmsghdr *c = CMSG_FIRSTHDR(m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(c), fds, n * sizeof(int));
}

static int take_one(struct descriptors *d)
{
    if (d->count != 1)
        return -EINVAL;
    d->count = 0;
    return d->fd[0];
}

static int put(struct keeper *k, uint32_t name, struct descriptors *d)
{
    int fd = take_one(d);

    return fd < 0 ? fd : held_put(&k->held, name, fd, KEEPER_MAX_HELD);
}

/* Once for each `which`: a successor that cannot know whether it was done asks again. */
static int send_once(struct keeper *k, const struct keeper_request *r, const uint8_t *bytes,
                     const struct descriptors *d)
{
    char control[CMSG_SPACE(sizeof d->fd)] __attribute__((aligned(8)));
    struct iovec iov = { (void *)(uintptr_t)bytes, r->size };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    int connection = held_get(&k->held, NAME_CONNECTION);

    if (connection < 0 || r->size == 0)
        return -EINVAL;
    if (k->sent_which == r->which && k->sent_answer > 0)
        return k->sent_answer;
    if (d->count)
        attach(&m, control, d->fd, d->count);
    ssize_t n;
    do
        n = sendmsg(connection, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    k->sent_which = r->which;
    k->sent_answer = n < 0 ? -errno : (int)n;
    return k->sent_answer;
}

/* A file description of its own for each worker: what the kernel still does for a dead one holds the
 * dead one's alone. */
static int open_anew(const struct keeper *k, const struct keeper_request *r)
{
    char path[64];

    if (r->name >= k->files)
        return -EINVAL;
    const struct backend *b = &k->file[r->name];
    if (b->error)
        return b->error;
    snprintf(path, sizeof path, "/proc/self/fd/%d", b->fd);
    int flags = (int)r->flags & (O_ACCMODE | O_DIRECT | O_NONBLOCK | O_APPEND);
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY);
    return fd < 0 ? -errno : fd;
}

static int get(const struct keeper *k, uint32_t name)
{
    int fd = held_get(&k->held, name);

    if (fd < 0)
        return -ENOENT;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? -errno : copy;
}

static void tell_ready(struct keeper *k)
{
    k->ready = true;
    if (k->ready_fd < 0)
        return;
    ssize_t ignored = write(k->ready_fd, "\n", 1);
    (void)ignored;
    close(k->ready_fd);
    k->ready_fd = -1;
}

/* The answer; *back: a descriptor to go with it, to be closed then. */
static struct keeper_answer serve(struct keeper *k, const struct packet *p, struct descriptors *d, int *back)
{
    const struct keeper_request *r = &p->request;
    struct keeper_answer a = { 0 };

    switch (r->what) {
    case KEEPER_PUT: a.result = put(k, r->name, d); break;
    case KEEPER_DROP: held_drop(&k->held, r->name); break;
    case KEEPER_GET: a.result = *back = get(k, r->name); break;
    case KEEPER_NEXT: a.result = (int32_t)held_next(&k->held, r->name); break;
    case KEEPER_SEND: a.result = send_once(k, r, p->bytes, d); break;
    case KEEPER_OPEN: a.result = *back = open_anew(k, r); break;
    case KEEPER_DEAD: a = k->dead; break;
    case KEEPER_READY: tell_ready(k); break;
    default: a.result = -EINVAL;
    }
    if (*back >= 0)
        a.result = 0;
    return a;
}

static void answer(const struct keeper *k, const struct keeper_answer *a, int fd)
{
    char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
    struct iovec iov = { (void *)(uintptr_t)a, sizeof *a };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (fd >= 0)
        attach(&m, control, &fd, 1);
    sendmsg(k->socket, &m, MSG_NOSIGNAL | MSG_DONTWAIT); /* who has died since does not mind */
}

static void take_descriptors(struct msghdr *m, struct descriptors *d)
{
    d->count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        unsigned n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(d->fd, CMSG_DATA(c), n * sizeof(int)); /* no more than `control` has room for */
        d->count = n;
    }
}

int requests_serve(struct keeper *k)
{
    struct packet p;
    struct descriptors d;
    char control[CMSG_SPACE(sizeof d.fd)] __attribute__((aligned(8)));
    struct iovec iov = { &p, sizeof p };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
                        .msg_controllen = sizeof control };
    struct keeper_answer a = { .result = -EINVAL };
    int back = -1;

    ssize_t n = recvmsg(k->socket, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    if (n == 0)
        return -1;
    take_descriptors(&m, &d);
    bool whole = !(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) && (size_t)n >= sizeof p.request &&
                 p.request.size == (size_t)n - sizeof p.request;
    if (whole)
        a = serve(k, &p, &d, &back);
    answer(k, &a, back);
    if (back >= 0)
        close(back);
    for (unsigned i = 0; i < d.count; i++)
        close(d.fd[i]);
    return 0;
}

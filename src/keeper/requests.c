/*
 * requests.c - what a worker may ask of its keeper. Each request is checked as an enemy's.
 */
#include "keeper/keeper.h"
#include "keeper/packet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

struct packet {
    struct keeper_request request;
    uint8_t bytes[KEEPER_MAX_SEND];
};

/* What a worker gives is held in every case, or closed. */
static int hold(struct keeper *k, uint32_t name, int fd)
{
    if (fd < k->most)
        return held_put(&k->held, name, fd, KEEPER_MAX_HELD);
    close(fd);
    return -EMFILE;
}

static int put(struct keeper *k, uint32_t name, struct descriptors *d)
{
    int fd = descriptors_take_one(d);

    return fd < 0 ? fd : hold(k, name, fd);
}

/* Once for each `which`: a successor that cannot know whether it was done asks again. */
static int send_once(struct keeper *k, const struct keeper_request *r, const uint8_t *bytes,
                     const struct descriptors *d)
{
    int connection = held_get(&k->held, NAME_CONNECTION);

    if (connection < 0 || r->size == 0)
        return -EINVAL;
    if (k->sent_which == r->which && k->sent_answer > 0)
        return k->sent_answer;
    k->sent_which = r->which;
    k->sent_answer = (int)packet_send(connection, bytes, r->size, d->fd, d->count);
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
    if (b->readonly && (r->flags & O_ACCMODE) != O_RDONLY)
        return -EROFS;
    snprintf(path, sizeof path, "/proc/self/fd/%d", b->fd);
    int flags = (int)r->flags & (O_ACCMODE | O_DIRECT | O_NONBLOCK | O_APPEND);
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY);
    return fd < 0 ? -errno : fd;
}

/* The worker has no paths, which inotify wants to be told. */
static int watch_file(const struct keeper *k, uint32_t file, const struct descriptors *d)
{
    char path[64];

    if (file >= k->files || d->count != 1)
        return -EINVAL;
    snprintf(path, sizeof path, "/proc/self/fd/%d", k->file[file].fd);
    int watch = inotify_add_watch(d->fd[0], path, IN_MODIFY);
    return watch < 0 ? -errno : watch;
}

static int get(const struct keeper *k, uint32_t name)
{
    int fd = held_get(&k->held, name);

    if (fd < 0)
        return -ENOENT;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return copy < 0 ? -errno : copy;
}

/* A client that a worker accepts itself is lost if it dies before it has put it. The listening socket is the worker's,
 * who can make it one that waits. */
static int accept_for(struct keeper *k, uint32_t name, uint32_t as)
{
    int listener = held_get(&k->held, name);

    if (listener < 0)
        return -ENOENT;
    keeper_hurry(true);
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int error = errno;
    keeper_hurry(false);
    if (fd < 0)
        return -error;
    int ret = hold(k, as, fd);
    return ret < 0 ? ret : get(k, as);
}

static void tell_pause(struct keeper *k)
{
    k->status_so_far.pause = keeper_now() - k->alone;
    k->alone = 0;
    uint64_t us = k->status_so_far.pause / 1000;
    keeper_log(k, "another worker goes on, after %u.%u ms", (unsigned)(us / 1000), (unsigned)(us / 100 % 10));
}

static void tell_ready(struct keeper *k)
{
    if (!k->ready)
        keeper_notify(k, "READY=1");
    if (k->ready && k->alone)
        tell_pause(k);
    k->ready = true;
    k->child_ready = keeper_now();
    k->waits_since = 0;
    if (k->role == CHILD_LOST)
        child_found_itself(k);
    upgrade_ready(k);
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
    case KEEPER_ACCEPT: a.result = *back = accept_for(k, r->name, r->flags); break;
    case KEEPER_WATCH: a.result = watch_file(k, r->name, d); break;
    case KEEPER_DEAD: a = k->dead; break;
    case KEEPER_READY: tell_ready(k); break;
    case KEEPER_REST: upgrade_rests(k); break;
    case KEEPER_TELL: upgrade_told(k, p->bytes, r->size); break;
    default: a.result = -EINVAL;
    }
    if (*back >= 0)
        a.result = 0;
    return a;
}

int requests_serve(struct keeper *k)
{
    struct packet p;
    struct descriptors d;
    struct keeper_answer a = { .result = -EINVAL };
    int back = -1;

    ssize_t n = packet_receive(k->socket, &p, sizeof p, &d);
    if (n == -EAGAIN)
        return 0;
    if (n == 0 || (n < 0 && n != -EMSGSIZE))
        return -1;
    k->child_heard = true;
    if (n >= (ssize_t)sizeof p.request && p.request.size == (size_t)n - sizeof p.request)
        a = serve(k, &p, &d, &back);
    packet_send(k->socket, &a, sizeof a, &back, back >= 0); /* who has died since does not mind */
    if (back >= 0)
        close(back);
    descriptors_close(&d);
    return 0;
}

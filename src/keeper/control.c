/*
 * control.c - the control socket. See control.h.
 *
 * Few can be connected at a time. Who comes then takes the place of the one who has been silent for
 * longest, so that nobody can keep others out.
 */
#include "keeper/control.h"
#include "keeper/keeper.h"
#include "keeper/packet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void leave(struct keeper *k, struct control *c)
{
    if (k->upgrade.asker == c)
        k->upgrade.asker = NULL; /* which goes on all the same */
    close(c->fd);
    c->fd = -1;
}

/* Who connected, as the kernel knows; nobody, if that is no socket. */
static struct ucred peer_of(int sock)
{
    struct ucred peer = { 0, (uid_t)-1, (gid_t)-1 };
    socklen_t size = sizeof peer;

    getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    return peer;
}

static bool may_ask(int sock)
{
    uid_t uid = peer_of(sock).uid;

    return uid == 0 || uid == geteuid();
}

static struct control *free_place(struct keeper *k)
{
    struct control *oldest = k->control;

    for (struct control *c = k->control; c < k->control + CONTROL_MOST; c++) {
        if (c->fd < 0)
            return c;
        if (c != k->upgrade.asker && (oldest == k->upgrade.asker || c->heard < oldest->heard))
            oldest = c;
    }
    leave(k, oldest);
    return oldest;
}

void control_accept(struct keeper *k)
{
    const struct control_answer refusal = { .result = -EACCES, .size = sizeof refusal };
    int sock = accept4(k->control_door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (sock < 0) {
        door_failed(k, errno);
    } else if (may_ask(sock)) {
        *free_place(k) = (struct control){ sock, keeper_now() };
    } else {
        packet_send(sock, &refusal, sizeof refusal, NULL, 0);
        close(sock);
    }
}

/* Nobody changes a block but its worker. */
static int open_block(const struct keeper *k)
{
    char path[64];
    int block = held_get(&k->held, NAME_BLOCK);

    snprintf(path, sizeof path, "/proc/self/fd/%d", block);
    return block < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

static struct keeper_status status(const struct keeper *k)
{
    struct keeper_status s = k->status_so_far;

    s.keeper = getpid();
    s.worker = k->child;
    s.number = k->dead.worker;
    s.role = k->role;
    s.ready = k->ready;
    s.held = k->held.count;
    s.client = peer_of(held_get(&k->held, NAME_CONNECTION)).pid;
    for (uint32_t i = 0; i < KEEPER_SEATS; i++)
        s.seats += held_get(&k->held, NAME_SEAT | i) >= 0;
    snprintf(s.name, sizeof s.name, "%s", k->name);
    return s;
}

static void answer(struct keeper *k, struct control *c, int result, const char *why, int back)
{
    struct control_answer a = { .result = result, .size = sizeof a, .status = status(k) };

    snprintf(a.why, sizeof a.why, "%s", why ? why : "");
    if (packet_send(c->fd, &a, sizeof a, &back, back >= 0) < 0)
        leave(k, c); /* it does not listen */
}

void control_answer(struct keeper *k, struct control *c, int result, const char *why)
{
    answer(k, c, result, why, -1);
}

static void tell_status(struct keeper *k, struct control *c)
{
    int block = open_block(k);

    answer(k, c, 0, NULL, block);
    if (block >= 0)
        close(block);
}

/* The answer comes later, unless it cannot even begin. */
static void begin_upgrade(struct keeper *k, struct control *c, const char *path,
                          struct descriptors *d)
{
    const char *why = NULL;
    int program = descriptors_take_one(d);
    int result = program < 0 ? program : upgrade_begin(k, c, program, path, &why);

    if (result < 0)
        answer(k, c, result, why, -1);
}

static void replace_keeper(struct keeper *k, struct control *c, const char *path,
                           struct descriptors *d)
{
    const char *why = NULL;
    int result = d->count == 1 ? reexec(k, c, d->fd[0], path, &why) : -EINVAL;

    answer(k, c, result, why, -1);
}

static void serve(struct keeper *k, struct control *c, const struct control_request *r, size_t n,
                  struct descriptors *d)
{
    size_t path = n - sizeof *r;

    if (n < sizeof *r || r->size != n)
        answer(k, c, -EINVAL, NULL, -1);
    else if (r->what == CONTROL_STATUS && !path && !d->count)
        tell_status(k, c);
    else if (r->what == CONTROL_UPGRADE && path > 1 &&
             memchr(r->path, '\0', path) == r->path + path - 1)
        begin_upgrade(k, c, r->path, d);
    else if (r->what == CONTROL_REEXEC && path > 1 &&
             memchr(r->path, '\0', path) == r->path + path - 1)
        replace_keeper(k, c, r->path, d);
    else
        answer(k, c, -EINVAL, NULL, -1);
}

void control_ready(struct keeper *k, struct control *c)
{
    union {
        struct control_request request;
        char bytes[sizeof(struct control_request) + CONTROL_PATH];
    } packet;
    struct descriptors d;

    ssize_t n = packet_receive(c->fd, &packet, sizeof packet, &d);
    if (n == -EAGAIN)
        return;
    if (n == 0 || (n < 0 && n != -EMSGSIZE)) {
        leave(k, c);
        return;
    }
    c->heard = keeper_now();
    serve(k, c, &packet.request, n < 0 ? 0 : (size_t)n, &d);
    descriptors_close(&d);
}

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

static void leave(struct control *c)
{
    close(c->fd);
    c->fd = -1;
}

static bool may_ask(int sock)
{
    struct ucred peer;
    socklen_t size = sizeof peer;

    return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

static struct control *free_place(struct keeper *k)
{
    struct control *oldest = k->control;

    for (struct control *c = k->control; c < k->control + CONTROL_MOST; c++) {
        if (c->fd < 0)
            return c;
        if (c->heard < oldest->heard)
            oldest = c;
    }
    leave(oldest);
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
    return block < 0 ? -1 : open(path, O_RDONLY | O_CLOEXEC);
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
    for (uint32_t i = 0; i < KEEPER_SEATS; i++)
        s.seats += held_get(&k->held, NAME_SEAT | i) >= 0;
    snprintf(s.name, sizeof s.name, "%s", k->name);
    return s;
}

/* *back: a descriptor to go with the answer, or -1. */
static int serve(struct keeper *k, const struct control_request *r, int *back)
{
    switch (r->what) {
    case CONTROL_STATUS: *back = open_block(k); return 0;
    default: return -EINVAL;
    }
}

static void answer(struct keeper *k, struct control *c, int result, int back)
{
    struct control_answer a = { .result = result, .size = sizeof a, .status = status(k) };

    if (packet_send(c->fd, &a, sizeof a, &back, back >= 0) < 0)
        leave(c); /* it does not listen */
}

void control_ready(struct keeper *k, struct control *c)
{
    struct control_request r;
    struct descriptors d;
    int back = -1, result = -EINVAL;

    ssize_t n = packet_receive(c->fd, &r, sizeof r, &d);
    if (n == -EAGAIN)
        return;
    if (n == 0 || (n < 0 && n != -EMSGSIZE)) {
        leave(c);
        return;
    }
    c->heard = keeper_now();
    if (n == sizeof r && r.size == sizeof r && !d.count)
        result = serve(k, &r, &back);
    descriptors_close(&d);
    answer(k, c, result, back);
    if (back >= 0)
        close(back);
}

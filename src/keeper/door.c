/*
 * door.c - clients that come.
 *
 * A client is accepted here, not by a worker, so that none is lost with one. It is held under the name
 * of a seat, and the bell, an eventfd that every worker gets, rings. The worker calls it from there, and
 * gives the seat back when the client has become the session or has been sent away.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static uint32_t free_seat(const struct keeper *k)
{
    for (uint32_t i = 0; i < KEEPER_SEATS; i++)
        if (held_get(&k->held, NAME_SEAT | i) < 0)
            return NAME_SEAT | i;
    return 0;
}

bool door_open(const struct keeper *k)
{
    return k->door >= 0 && free_seat(k);
}

int door_bell(struct keeper *k)
{
    int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    return bell < 0 ? -errno : held_put(&k->held, NAME_BELL, bell, KEEPER_MAX_HELD);
}

void door_failed(const struct keeper *k, int error)
{
    const struct timespec pause = { 0, 10000000 };

    if (error == EAGAIN || error == EINTR || error == ECONNABORTED)
        return;
    keeper_log(k, "cannot accept a connection: %s", strerror(error));
    nanosleep(&pause, NULL); /* it would keep us awake */
}

void door_accept(struct keeper *k)
{
    int sock = accept4(k->door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (sock < 0) {
        door_failed(k, errno);
        return;
    }
    held_put(&k->held, free_seat(k), sock, KEEPER_MAX_HELD);
    keeper_hurry(true);
    eventfd_write(held_get(&k->held, NAME_BELL), 1);
    keeper_hurry(false);
}

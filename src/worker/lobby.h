/*
 * lobby.h - where clients wait until they have said who they are.
 *
 * A connection becomes the device's session when its VERSION message has arrived whole, and nobody
 * else has one; a second client gets EBUSY in reply. So one that connects and says nothing, or sends
 * garbage, keeps nobody else away. It is let go after a while, or when too many wait.
 *
 * Where there is a keeper, it accepts, and rings a bell: those who wait are held there too, under the
 * names of seats, and are called from there by each worker anew.
 */
#ifndef WORKER_LOBBY_H
#define WORKER_LOBBY_H

#include "server/device.h"

#define LOBBY_SEATS 8
#define LOBBY_PATIENCE UINT64_C(5000000000) /* ns */

struct lobby {
    struct watch door; /* listening socket, fd -1: none */
    struct watch bell; /* the keeper's, fd -1: none */
    struct ob_device *dev;
    int spare; /* given up for a moment when there is no descriptor left to accept with */
    struct seat {
        struct watch watch; /* fd -1: free */
        struct lobby *lobby;
        uint64_t deadline; /* CLOCK_MONOTONIC, ns */
        uint32_t name;     /* with the keeper, 0: none */
    } seats[LOBBY_SEATS];
};

/* Listens on `door` (stays the caller's to close), or (-1) for the bell of the device's keeper, if it has
 * one. 0 or -errno. */
int lobby_open(struct lobby *l, struct ob_device *dev, int door);

/* Seats a connection; takes it over in every case. */
void lobby_welcome(struct lobby *l, int sock);

bool lobby_empty(const struct lobby *l);

/* CLOCK_MONOTONIC ns when somebody will have waited too long (UINT64_MAX: nobody waits). */
uint64_t lobby_next_deadline(const struct lobby *l);
void lobby_run(struct lobby *l, uint64_t now);

void lobby_close(struct lobby *l);

#endif

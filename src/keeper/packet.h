/*
 * packet.h - packets with descriptors beside them, from whom nobody trusts.
 */
#ifndef KEEPER_PACKET_H
#define KEEPER_PACKET_H

#include "keeper/protocol.h"

#include <stddef.h>
#include <sys/types.h>

/* Those that came with a packet. Who takes one out counts it out. */
struct descriptors {
    int fd[KEEPER_MAX_FDS];
    unsigned count;
};

void descriptors_close(struct descriptors *d);

/* The only one, which is the caller's now; -EINVAL: there is none, or more. */
int descriptors_take_one(struct descriptors *d);

/* Neither waits. Bytes, 0 at the end, or -errno: -EAGAIN, and -EMSGSIZE for a packet that was too long, or
 * came with too many descriptors; it is gone, and those are closed. */
ssize_t packet_receive(int sock, void *buf, size_t size, struct descriptors *d);
ssize_t packet_send(int sock, const void *bytes, size_t n, const int *fds, unsigned nfds);

#endif

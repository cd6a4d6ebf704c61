/*
 * protocol.h - what a worker and its keeper say to each other.
 *
 * Over a SOCK_SEQPACKET pair: one request, one answer, in turn. A descriptor goes beside a PUT, SEND or
 * STOP request, and beside the answer to a GET or OPEN. The keeper takes all of it for hostile: a worker
 * may have been taken over by its guest.
 *
 * The keeper holds descriptors under names that mean nothing to it, apart from these.
 */
#ifndef KEEPER_PROTOCOL_H
#define KEEPER_PROTOCOL_H

#include <stdint.h>

enum keeper_what {
    KEEPER_PUT = 1, /* hold this descriptor under `name`, instead of what is there */
    KEEPER_DROP,    /* let `name` go */
    KEEPER_GET,     /* a duplicate of `name`; -ENOENT */
    KEEPER_NEXT,    /* result: the lowest name above `name`, 0: none */
    KEEPER_SEND,    /* send `size` bytes that follow, with the descriptor, on NAME_CONNECTION; `which` */
    KEEPER_OPEN,    /* open backend file number `name` with `flags` (open(2)), anew */
    KEEPER_DEAD,    /* answer: what the kernel counted of the worker that the block belongs to */
    KEEPER_READY,   /* clients can be served */
    KEEPER_REST,    /* it was asked to rest, does, and will not touch the block again */
    KEEPER_TELL,    /* `size` bytes that follow say why there is no upgrade */
    KEEPER_ACCEPT,  /* accept(2) on `name`, hold what comes of it under the name `flags`, and give a duplicate */
    KEEPER_WATCH,   /* let this inotify descriptor tell when backend file number `name` is changed */
};

#define NAME_CONNECTION 0x10000000u
#define NAME_BLOCK 0x10000001u
#define NAME_BELL 0x10000002u  /* an eventfd: somebody has come to a seat */
#define NAME_NEW_BLOCK 0x10000003u /* of a worker that is to take over: the block when it is READY */
#define NAME_SEAT 0x11000000u  /* | number: a client that has not said yet who it is */
#define KEEPER_SEATS 16u /* more than a worker has: it sends away who waited longest */

/* What --role= tells a worker: enum worker_role there, enum child_role here. */
#define KEEPER_ROLES "serve", "drop", "failed", "upgrade", "lost", "refuse"

/* Exit status of a worker that was to refuse a message, and found none. */
#define WORKER_NOTHING_TO_DROP 3

/* Exit status of one that was asked to rest (SIGUSR1), so that another can take over, and does. */
#define WORKER_AT_REST 4

/* Exit status of one that could not begin for want of memory or descriptors, which may be there again soon. */
#define WORKER_SHORT 5

#define KEEPER_MAX_TEXT 200u
#define KEEPER_MAX_SEND 4096u /* bytes of a reply that goes with descriptors */
#define KEEPER_MAX_HELD 70000u
#define KEEPER_MAX_FDS 16u

struct keeper_request {
    uint32_t what;
    uint32_t name;
    uint64_t which; /* of a SEND: the same number again gets the same answer, and nothing is sent */
    uint32_t flags;
    uint32_t size;
};

struct keeper_answer {
    int32_t result; /* 0 or more, or -errno */
    uint32_t worker; /* of KEEPER_DEAD: the number of the one who asks */
    uint64_t read;    /* of KEEPER_DEAD: rchar and wchar */
    uint64_t written;
};

#endif

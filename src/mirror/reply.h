/*
 * reply.h - a message of the mirror under construction: bytes and descriptors.
 */
#ifndef MIRROR_REPLY_H
#define MIRROR_REPLY_H

#include <outboard/vfio_user.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define REPLY_SPACE (2u << 20)
#define REPLY_FDS 253 /* more does not go through a socket at once */

struct reply {
    size_t size; /* what is sent; header->size may lie */
    unsigned nfds;
    int fds[REPLY_FDS]; /* not owned */
    bool error;
    uint8_t bytes[REPLY_SPACE] __attribute__((aligned(16)));
};

static inline struct vfio_user_header *reply_header(struct reply *r)
{
    return (struct vfio_user_header *)(void *)r->bytes;
}

/* What follows the header. */
static inline void *reply_body(struct reply *r)
{
    return r->bytes + sizeof(struct vfio_user_header);
}

/* Changes the size of the message to that with a body of n bytes. New bytes are what they were. */
static inline void reply_resize(struct reply *r, size_t n)
{
    r->size = sizeof(struct vfio_user_header) + n;
    reply_header(r)->size = (uint32_t)r->size;
}

static inline void reply_set(struct reply *r, const void *body, size_t n)
{
    if (n)
        memcpy(reply_body(r), body, n);
    reply_resize(r, n);
}

#endif

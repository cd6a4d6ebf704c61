/*
 * stream.h - the client's messages, one after the other.
 */
#ifndef MIRROR_STREAM_H
#define MIRROR_STREAM_H

#include "mirror/play.h"

/* The longest message of a client: QEMU's DMA replies may have 1 MiB of data. */
#define STREAM_LONGEST ((1u << 20) + 4096u)

/* The next command; NULL when nothing came for the timeout, or the connection has ended. */
struct waiting *stream_next(struct play *p);
void stream_free(struct waiting *w);

#endif

/*
 * learn.h - what has to be known about a server before it is checked. Nothing is judged here.
 */
#ifndef CHECK_LEARN_H
#define CHECK_LEARN_H

#include "check/run.h"

/* A negotiated connection in r->client. A server that still has its last client is asked again, for
 * as long as the time limit. 0, or -errno and a line in `why`. */
int learn_connect(struct run *r, char *why, size_t space);

/* That, and r->facts. */
int learn(struct run *r, char *why, size_t space);

#endif

/*
 * keeping.h - the worker's end of what it has with its keeper (keeper/protocol.h).
 */
#ifndef WORKER_KEEPING_H
#define WORKER_KEEPING_H

#include "server/device.h"

struct keeping {
    struct watch watch; /* the socket; -1: there is no keeper */
    struct server_keeping calls;
};

/* `fd` is the socket that the keeper left open for us; it becomes ours. */
void keeping_open(struct keeping *k, int fd);
void keeping_close(struct keeping *k);

/* What the kernel counted of the worker whose block this one inherits; and which number this one has.
 * 0 or -errno. */
int keeping_dead(struct keeping *k, struct effect_counts *counts);

/* Clients can be served now. */
int keeping_ready(struct keeping *k);

/* For a worker that is to take over at an upgrade: it is ready when all is taken over, before it has begun. */
void keeping_upgrade(struct keeping *k);

/* This one is at rest, as it was asked to be, and ends; unless this fails. */
int keeping_rest(struct keeping *k);

/* Why not: a sentence for who wanted the upgrade. */
void keeping_tell(struct keeping *k, const char *text);

#endif

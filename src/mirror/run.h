/*
 * run.h - one connection with a client, or more where it comes back, and the verdict on it.
 */
#ifndef MIRROR_RUN_H
#define MIRROR_RUN_H

#include "mirror/child.h"
#include "mirror/misbehaviour.h"
#include "report/result.h"

struct mirror_options;

struct mirror {
    const struct mirror_options *options;
    int listener;
    int stop;             /* a signalfd */
    bool ends_itself;     /* the command, when nobody misbehaves */
    bool reads_registers; /* the client does */
};

struct run {
    struct mirror *mirror;
    struct play play;
    struct child child;
    bool connected;
    bool closed_first; /* the client closed the connection, or ended */
    bool came_back;
    uint64_t deadline;
};

/* `detail`: what the client did, in a line. */
enum verdict judge(const struct run *run, char *detail, size_t size);

#endif

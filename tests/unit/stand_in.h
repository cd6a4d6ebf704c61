/*
 * stand_in.h - a stand-in for the keeper: holds what a worker leaves, and starts the next one.
 *
 * The test's process holds the block, the connection and all descriptors. Workers are children of it;
 * they put descriptors into its keeping, and take them out, over a socket.
 */
#ifndef TESTS_STAND_IN_H
#define TESTS_STAND_IN_H

#include "server/device.h"

#define STAND_IN_BLOCK 1u /* name under which a new worker leaves its block */

struct stand_in {
    const struct ob_plugin *plugin;
    const struct option_value *options;
    unsigned option_count;
    int client;     /* the client's end of the connection */
    int twin;       /* and that of the twin socket, -1: there is none */
    void (*on_twin)(struct stand_in *s); /* called when something is there */
    int control;    /* to the worker that runs now, -1: none */
    int pid;
    uint64_t worker; /* number of the last one */
    struct effect_counts dead; /* of the last one that the block belonged to */
    struct held {
        uint32_t name;
        int fd;
    } held[64];
    int held_count;
    bool recovery; /* a successor may die already while it takes over */
    struct stand_in_range {
        uint64_t address;
        size_t size;
    } guest[4]; /* guest memory, page aligned, whose stores are points too */
    unsigned guest_count;
    struct stand_in_range buffers[4]; /* parts of the device's state, by offset, upwards, whose stores are
                                         no points: I/O goes there, and would find them read-only */
    unsigned buffer_count;
    uint64_t sent_which; /* the last message with descriptors that was sent for a worker... */
    int sent_answer;     /* ...and what came of it */
};

/* Makes a device with a client that is connected but has said nothing. */
void stand_in_new(struct stand_in *s, const struct ob_plugin *plugin,
                  const struct option_value *options, unsigned option_count);
void stand_in_free(struct stand_in *s);

/* A copy of everything as it is while no worker runs: block, guest memory, descriptors; with a new
 * connection (nothing may be under way in the old one). */
void stand_in_copy(struct stand_in *to, const struct stand_in *from);

/* Starts a worker, which dies at point `at` (0: never). */
void stand_in_start(struct stand_in *s, long at);

/* Serves the worker's requests until `bytes` have come from it for the client (into buf, which holds
 * `have` already), or it has died. Returns the bytes in buf. *alive tells. on_bytes, if given, is
 * called after each arrival. */
size_t stand_in_run(struct stand_in *s, uint8_t *buf, size_t have, size_t bytes, bool *alive,
                    void (*on_bytes)(struct stand_in *s, const uint8_t *buf, size_t n));

/* Serves the worker's requests until done(ctx), which is asked after each that it did to the outside, or
 * it has died. False: it has died. */
bool stand_in_until(struct stand_in *s, bool (*done)(void *ctx), void *ctx);

/* Lets the worker finish what it can and end, and tells how many points there were. Without a worker
 * -1. */
long stand_in_stop(struct stand_in *s);

int stand_in_fd(const struct stand_in *s, uint32_t name); /* -1: not held */
void stand_in_drop(struct stand_in *s, uint32_t kind);    /* all of a kind: KEEP_DEVICE and its like */

#endif

/*
 * loop.h - one thread, one epoll, any number of devices.
 */
#ifndef WORKER_LOOP_H
#define WORKER_LOOP_H

#include "worker/lobby.h"

struct served {
    struct ob_device *dev;
    struct lobby lobby;
    struct served *next;
};

struct loop {
    int epoll;
    struct served *first;
    bool stop;
};

int loop_open(struct loop *loop); /* 0 or -errno */
void loop_close(struct loop *loop);

/* Serves until somebody sets loop->stop. */
void loop_run(struct loop *loop);

/* One turn: waits for events, at most `patience` ns if nothing is due earlier. */
void loop_turn(struct loop *loop, uint64_t patience);

#endif

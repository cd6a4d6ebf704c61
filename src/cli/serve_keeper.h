/*
 * serve_keeper.h - from `outboard serve` to the keeper of its workers.
 */
#ifndef CLI_SERVE_KEEPER_H
#define CLI_SERVE_KEEPER_H

#include "worker/worker.h"

/* The keeper that belongs to this program. */
void serve_keeper_path(const char *self, char *path, size_t space);

struct keeper_sockets {
    const char *socket_path;  /* of the door, NULL: it was given to us */
    const char *control_path; /* of: */
    int control;              /* a listening socket, -1: none */
};

/*
 * Becomes the keeper: returns only after an error, which was told, with the exit status. `device` is what
 * the user calls it. The keeper removes the sockets' paths at its end.
 */
int serve_keeper(const struct worker_settings *settings, const char *device,
                 const struct keeper_sockets *sockets, bool verbose);

#endif

/*
 * serve_keeper.h - from `outboard serve` to the keeper of its workers.
 */
#ifndef CLI_SERVE_KEEPER_H
#define CLI_SERVE_KEEPER_H

#include "worker/worker.h"

/*
 * Becomes the keeper: returns only after an error, which was told, with the exit status. `device` is what
 * the user calls it; socket_path, if not NULL, is removed at the end.
 */
int serve_keeper(const struct worker_settings *settings, const char *device, const char *socket_path,
                 bool verbose);

#endif

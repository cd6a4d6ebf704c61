/*
 * worker.h - the device process: one device, served until a signal ends it.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "server/device.h"

struct worker_settings {
    const struct ob_plugin *plugin;
    const struct option_value *options;
    unsigned option_count;
    const char *socket_path; /* made, and removed at the end; or NULL: */
    int fd;                  /* a listening socket, or a connection of one client */
    int ready_fd;            /* gets a newline when the device can be connected to; -1: nobody asks */
};

/* Returns the exit status, after a line on stderr if it is not 0. */
int worker_run(const struct worker_settings *settings);

#endif

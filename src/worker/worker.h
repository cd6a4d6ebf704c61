/*
 * worker.h - the device process: one device, served until a signal ends it.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include "server/device.h"

/* What a keeper wants of a worker. */
enum worker_role {
    ROLE_SERVE,
    ROLE_DROP,    /* refuse the next message, and end; runs no device code */
    ROLE_FAILED,  /* serve a device that has failed; nor does this one */
    ROLE_UPGRADE, /* take over from another build, whose worker is at rest, and serve */
    ROLE_LOST,    /* as ROLE_FAILED, without what earlier workers left */
    ROLE_REFUSE,  /* refuse all messages that wait, and end; runs no device code */
};

struct worker_settings {
    const struct ob_plugin *plugin;
    const struct option_value *options;
    unsigned option_count;
    int door;                /* a listening socket, -1: there is none; */
    int client;              /* or a connection of one client, whose end is ours; */
    int keeper_fd;           /* or the keeper's socket */
    bool one_client;         /* the keeper was given a connection */
    enum worker_role role;
    bool sandbox;
    int tidy_fd;             /* the caller's, to stay open; or -1 */
    int ready_fd;            /* gets a newline when the device can be connected to; -1: nobody asks */
    int notify_fd;           /* a service manager's socket, as sd_notify(3) says, or -1 */
};

/* Returns the exit status, after a line on stderr if it is not 0. */
int worker_run(const struct worker_settings *settings);

#endif

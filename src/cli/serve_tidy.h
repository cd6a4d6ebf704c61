/*
 * serve_tidy.h - who removes sockets after a process that has no file system any more.
 *
 * With a keeper it is the keeper. Without one a child waits for the end, and does nothing else.
 */
#ifndef CLI_SERVE_TIDY_H
#define CLI_SERVE_TIDY_H

#include "worker/worker.h"

/* The path of the nth socket (from 0) at which the device itself listens; NULL at the end. */
const char *serve_device_socket(const struct worker_settings *s, unsigned nth);

/* Starts the child. What to give to serve_tidy(), or -1 after an error, which was told. */
int serve_tidy_start(const struct worker_settings *s, const char *socket_path);

/* After a good end the device's sockets go too; after another they may be somebody else's. Waits until it
 * is done. */
void serve_tidy(int tidy, bool well);

/* The same, by this process. */
void serve_remove_sockets(const struct worker_settings *s, const char *socket_path, bool well);

#endif

/*
 * failed.h - a device of which nothing runs any more.
 *
 * It has the declaration of the one that it was, and so takes its block over. Served by a worker that is `inert`, its
 * registers read all ones, as those of a device that is not there, and writes to them go nowhere.
 */
#ifndef WORKER_FAILED_H
#define WORKER_FAILED_H

#include "server/device.h"

/* The plugin without its functions; *p must live as long as the device. */
void failed_plugin(struct ob_plugin *p, const struct ob_plugin *of);

#endif

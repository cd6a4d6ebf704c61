/*
 * failed.h - a plugin like another, of which nothing runs.
 *
 * Its declaration is the same, so that it takes the block over; its registers read all ones, as those of
 * a device that is not there any more, and writes to them go nowhere.
 */
#ifndef WORKER_FAILED_H
#define WORKER_FAILED_H

#include <outboard/device.h>

struct ob_plugin plugin_failed(const struct ob_plugin *of);

#endif

/*
 * late.h - I/O of processes that have died, as a worker sees it that runs no device code.
 *
 * A device that does I/O which outlives its process marks it by locks (ob_late_locks()). Where its code runs, it waits
 * for its predecessors' itself. Where it does not, because the device has failed, the framework looks for the locks in
 * the files that the device has in keeping. Until they are gone the guest is told nothing by which it could take its
 * memory back: reads of registers wait (they would say that the device is gone), and so do unmaps, resets and the end of
 * a session, for as long as a client listens.
 */
#ifndef SERVER_LATE_H
#define SERVER_LATE_H

#include "server/device.h"

/* May a dead worker still have I/O under way? */
bool late_io(const struct server_keeping *keeping);

/* For an inert device: looks, and holds its client's memory or lets go of it. */
void late_look(struct ob_device *dev);

/* Until then it has to be looked again, between steps, which also goes on with what waited. */
static inline bool late_waits(const struct ob_device *dev)
{
    return dev->inert && dev->memory_held;
}
void late_look_again(struct ob_device *dev);

#endif

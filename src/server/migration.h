/*
 * migration.h - VFIO's migration: the states of a device, and the stream of its state.
 *
 * The state of a migration is in the block like all else: a successor goes on where a worker died. The
 * stream that goes out is made anew at each read, from a state that stands still; the one that comes in
 * is kept in the block until it is whole.
 */
#ifndef SERVER_MIGRATION_H
#define SERVER_MIGRATION_H

#include "server/device.h"

/*
 * Goes to another state, by as many arcs as it takes, each in a step of its own: a failure leaves the
 * device where it has come to. 0, -EINPROGRESS: what is under way has to end first, or:
 *   -EINVAL  no such state, no way there; or, for a stream that was to be loaded, not a good one (the
 *            state is ERROR then)
 *   others   what the device said when it was to run again
 */
int migration_set(struct ob_device *dev, uint32_t state);

/* VFIO_USER_MIG_DATA_READ and _WRITE. Inside a step. */
int migration_read(struct ob_device *dev, const struct wire_message *m, struct reply *reply);
int migration_write(struct ob_device *dev, const struct wire_message *m);

/* The device runs again; its state is RUNNING already. Inside a step. 0 or what the device says. */
int migration_start(struct ob_device *dev);

/* A stop that did not come to its end: the one who wanted it has gone. Between steps. */
void migration_unstop(struct ob_device *dev);

/*
 * A new client finds the device running, with its state as it was when it was stopped. Not so if a stream that came
 * in was not loaded, or if the state was read to its end: then it has gone elsewhere and runs there, and what was
 * begun (a write to a disk) must not be done twice. Such a device is reset. Between steps.
 */
void migration_attached(struct ob_device *dev);

#endif

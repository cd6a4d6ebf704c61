/*
 * handover.h - from one build of a device to another: what is in the block for the other, and taking over.
 *
 * A block belongs to the build that made it: another one may lay out the device's state otherwise. So it
 * makes a block of its own and fills that from the other. What is the framework's is copied, which needs
 * the same SHARED_LAYOUT in both. The device's state goes by the table of its fields (state/table.h):
 *
 *   at an upgrade, from a worker that is at rest, through the stream that migrates it, with all that this
 *   checks; the device's loaded() looks at it. A build from which the other could not take over again is
 *   refused.
 *
 *   after the death of an upgraded worker, field by field, also those that do not migrate, as a successor
 *   of the same build would find them.
 */
#ifndef SERVER_HANDOVER_H
#define SERVER_HANDOVER_H

#include "server/device.h"

/* The table for this device's block, which is the caller's to free, or NULL. */
struct table *handover_table(const struct ob_device *dev);

/* For a worker that does not run the device's open(): what that did without (ob_without_areas() and the like) is
 * taken from the block behind fd, which stays the caller's. 0 or -errno. */
int handover_shape(struct ob_device *dev, int fd);

/*
 * Fills the device's new block from the one behind fd, which is closed then. 0, or -errno after a line of
 * log that says why; the other block is what it was. What the descriptors in keeping are to the block is the
 * same in both.
 */
int handover_take(struct ob_device *dev, int fd, bool upgrade);

#endif

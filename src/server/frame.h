/*
 * frame.h - what migrates beside the device's own state: config space, interrupts, timers, transfers, and
 * the memory of regions.
 *
 * It has a form of its own (struct shared_frame), so that a stream does not depend on how the block
 * happens to keep these things. What belongs to a client, which is another one at the destination, is
 * not in it: DMA regions, eventfds, masks that were set by SET_IRQS.
 */
#ifndef SERVER_FRAME_H
#define SERVER_FRAME_H

#include "server/device.h"

/* The memory of regions comes last: it is not in the block, and not put back when a step is undone. */
enum { SECTION_FRAMEWORK, SECTION_DEVICE, SECTION_REGIONS };

/* Makes the stream of this device, once its block is there. 0 or -errno. */
int frame_open(struct ob_device *dev);
void frame_close(struct ob_device *dev);

/* How much room a stream needs that comes in: ours, and fields that we do not know. */
uint64_t frame_incoming_size(const struct ob_device *dev);

/* Inside a step, while the device is stopped. frame_save() fills the copy in; -EINVAL after a line of log:
 * a transfer's buffer lies in no field. frame_load() takes it over; -EINVAL with a sentence: it makes no
 * sense. */
int frame_save(struct ob_device *dev);
void frame_touch(struct ob_device *dev); /* all that is about to be loaded, but for regions */
int frame_load(struct ob_device *dev, char why[FIELDS_WHY]);

#endif

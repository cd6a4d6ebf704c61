/*
 * guest.h - guest memory that the device holds by pointer, and messages that have to wait for it.
 *
 * While a range is pinned, no region that it lies in is unmapped and no reset is acknowledged: the
 * message waits at the head of the stream, the device may start nothing new (-EBUSY), and the last
 * put lets the message run.
 *
 * A command on the twin socket that the client has not answered is a pin of all memory: what the client
 * does about it is not in order with what it does about replies on the connection, and a late DMA_WRITE
 * would hit what has taken the memory's place. (On the connection itself, it is in order; and no client
 * must be made to wait there, QEMU answers no DMA while it waits for a reply.)
 */
#ifndef SERVER_GUEST_H
#define SERVER_GUEST_H

#include "server/device.h"

/* Must the unmap of the region at this address or with this number, or a reset (guest_all_pinned),
 * wait? If so, nothing new is pinned from now on, until guest_released(). */
bool guest_pinned(struct ob_device *dev, uint64_t address);
bool guest_region_pinned(struct ob_device *dev, uint32_t id);
bool guest_all_pinned(struct ob_device *dev);

/* The message that waited has been run (or its client is gone): the device may go on. In no step. */
void guest_released(struct ob_device *dev);

#endif

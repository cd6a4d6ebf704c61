/*
 * record.h - what a device leaves in its block for those who look from outside: events of the flight
 * recorder, facts and counters.
 *
 * A few stores each, on the path of messages; no step undoes them. What is expensive there is to ask for
 * the time: a message asks twice, everything else takes the time of the step that it belongs to.
 */
#ifndef SERVER_RECORD_H
#define SERVER_RECORD_H

#include "server/device.h"

/* Fills in the facts of a new device, or of one that is taken over from a dead worker, whose death is reported. */
void record_start(struct ob_device *dev, bool inherited);
void record_started(struct ob_device *dev); /* it begins, or goes on */

/* A message that is taken up, and what became of it: 0, the error of its reply, or -EINPROGRESS. */
void record_message(struct ob_device *dev, const struct wire_message *m, bool whole);
void record_reply(struct ob_device *dev, const struct vfio_user_header *command, const struct reply *reply,
                  int error);
void record_answer(struct ob_device *dev, const struct vfio_user_header *reply);

void record_client(struct ob_device *dev, bool here);

/* Guest memory was mapped, or unmapped (modulo 2^64: a client maps more than there is); and what it listens
 * to, counted anew. */
void record_memory(struct ob_device *dev, uint64_t bytes);
void record_interrupts(struct ob_device *dev);

/* Anything else: see enum recorded_kind. */
void record_event(struct ob_device *dev, enum recorded_kind kind, uint32_t index, uint64_t value);
void record_dma(struct ob_device *dev, unsigned slot, const struct shared_dma *d, int error);

#endif

/*
 * ioevent.h - writes that clients may signal instead of sending them (VFIO_USER_DEVICE_GET_REGION_IO_FDS).
 */
#ifndef SERVER_IOEVENT_H
#define SERVER_IOEVENT_H

#include "server/device.h"

/* 0 or -errno; frees. */
int ioevent_open(struct ob_device *dev);
void ioevent_close(struct ob_device *dev);

/* The command. Makes the eventfds when it is the first for its region. Inside a step. */
int ioevent_info(struct ob_device *dev, const struct wire_message *m, struct reply *reply);

/* The descriptors of a region's reply. Their number. */
unsigned ioevent_fds(const struct ob_device *dev, uint32_t region, int fds[WIRE_MAX_FDS]);

/* The client has gone: nothing that it still holds reaches the device. Inside its last step; and after. */
void ioevent_release(struct ob_device *dev);
void ioevent_forget(struct ob_device *dev);

/* Serves what was signalled while nobody could: the device was stopped, or its worker died. Between steps. */
void ioevent_run(struct ob_device *dev);

/* For a successor: takes them out of keeping. 0 or -errno. */
int ioevent_recover(struct ob_device *dev);

/* Is what is kept under KEEP_IOEVENT | number of any use? */
bool ioevent_is_used(const struct ob_device *dev, uint32_t number);

/* Checks the declaration of a region's. 0, or -1 with a sentence in `why`. */
int ioevent_check(const struct ob_ioevent *events, unsigned count, uint64_t size, const char *region,
                  char *why, size_t space);

#endif

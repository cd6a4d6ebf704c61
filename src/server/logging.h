/*
 * logging.h - VFIO_DEVICE_FEATURE_DMA_LOGGING_START, _STOP and _REPORT: which pages the device wrote.
 */
#ifndef SERVER_LOGGING_H
#define SERVER_LOGGING_H

#include "server/device.h"

/*
 * Inside a step; `data` is the feature's, n bytes of it. -errno, or the size of the reply's data. If that is more
 * than there is room for, the reply has none, and nothing was done.
 */
int logging_start(struct ob_device *dev, const void *data, size_t n, struct reply *reply);
int logging_report(struct ob_device *dev, const void *data, size_t n, size_t room,
                   struct reply *reply);
int logging_stop(struct ob_device *dev);

/* The client has gone, and its log with it. Inside a step. */
void logging_end(struct ob_device *dev);

/* After a step: clears what it reported, forgets the log that it ended. */
void logging_settle(struct ob_device *dev);

/* For a successor: the log, and what of it was to be cleared. 0 or -errno. */
int logging_recover(struct ob_device *dev);

#endif

/*
 * region_memory.h - the shared memory of regions that clients can map.
 */
#ifndef SERVER_REGION_MEMORY_H
#define SERVER_REGION_MEMORY_H

#include "server/device.h"

/* Makes it, or takes over what a dead worker left. 0 or -errno. */
int region_memory_open(struct ob_device *dev, bool inherited);
void region_memory_close(struct ob_device *dev);

#endif

/*
 * region_table.h - the regions of a device by their VFIO index, and the shared memory of those that
 * can be mapped.
 */
#ifndef SERVER_REGION_TABLE_H
#define SERVER_REGION_TABLE_H

#include "server/device.h"

/* What the plugin declares; nothing is opened. */
void region_table_describe(struct ob_device *dev);

/* Makes the shared memory, or takes over what a dead worker left. 0 or -errno. */
int region_table_open(struct ob_device *dev, bool inherited);
void region_table_close(struct ob_device *dev);

#endif

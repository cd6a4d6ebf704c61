/*
 * region.h - accesses of the client to the device's regions. Inside a step.
 */
#ifndef SERVER_REGION_H
#define SERVER_REGION_H

#include "server/device.h"

/* Bytes in region `index`, 0 if there is no such region. */
uint64_t region_size(const struct ob_device *dev, uint32_t index);

/* Commands REGION_READ, REGION_WRITE and REGION_WRITE_MULTI. 0 or -errno. */
int region_read(struct ob_device *dev, const struct wire_message *m, struct reply *reply);
int region_write(struct ob_device *dev, const struct wire_message *m, struct reply *reply);
int region_write_multi(struct ob_device *dev, const struct wire_message *m, struct reply *reply);

/* After a message that has been run, in its last step: the next REGION_WRITE_MULTI begins anew. */
void region_multi_over(struct ob_device *dev);

#endif

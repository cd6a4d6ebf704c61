/*
 * region.h - accesses of the client to the device's regions. Inside a step.
 */
#ifndef SERVER_REGION_H
#define SERVER_REGION_H

#include "server/device.h"

/* Does [at, at + n) lie in [start, start + size), or touch it? The latter where neither wraps round. */
static inline bool region_within(uint64_t at, size_t n, uint64_t start, uint64_t size)
{
    return at >= start && at - start <= size && n <= size - (at - start);
}
static inline bool region_touches(uint64_t at, size_t n, uint64_t start, uint64_t size)
{
    return at < start + size && start < at + n;
}

/* Commands REGION_READ, REGION_WRITE and REGION_WRITE_MULTI. 0 or -errno. */
int region_read(struct ob_device *dev, const struct wire_message *m, struct reply *reply);
int region_write(struct ob_device *dev, const struct wire_message *m, struct reply *reply);
int region_write_multi(struct ob_device *dev, const struct wire_message *m, struct reply *reply);

/* A write that came in another way. 0 or -errno. */
int region_write_one(struct ob_device *dev, uint32_t index, uint64_t at, const void *buf, size_t n);

/* After a message that has been run, in its last step: the next REGION_WRITE_MULTI begins anew. */
void region_multi_over(struct ob_device *dev);

#endif

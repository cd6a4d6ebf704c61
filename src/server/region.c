/*
 * region.c - from an offset in a region to whoever serves it: shared memory, the framework itself
 * (config space, the MSI-X table), or the device's own code.
 */
#include "server/region.h"
#include "server/late.h"

#include <string.h>

/* Shared memory in this region. 1: *memory is what is behind this access, 0: not concerned, -EINVAL: half
 * in, half out. */
static int area_access(struct ob_device *dev, uint32_t index, uint64_t at, size_t n, uint8_t **memory)
{
    const struct region *r = &dev->region[index];

    for (unsigned i = 0; i < r->areas_count; i++) {
        const struct ob_area *area = &r->areas[i];
        if (!region_touches(at, n, area->offset, area->size))
            continue;
        *memory = r->memory + at;
        return region_within(at, n, area->offset, area->size) ? 1 : -EINVAL;
    }
    return 0;
}

static bool width_allowed(const struct region *r, uint64_t at, size_t n)
{
    return !r->widths || (n <= 8 && (n & (n - 1)) == 0 && (r->widths & n) && at % n == 0);
}

/* What a device's code may say to an access; -EINPROGRESS has a meaning of its own in dispatch(). */
static int checked(int ret)
{
    return ret > 0 || ret < -4095 || ret == -EINPROGRESS ? -EIO : ret;
}

static int check_range(const struct ob_device *dev, uint32_t index, uint64_t at, size_t n)
{
    uint64_t size = index < dev->region_count ? dev->region[index].size : 0;

    return size && region_within(at, n, 0, size) ? 0 : -EINVAL; /* nor is there nothing of no region */
}

static int read_one(struct ob_device *dev, uint32_t index, uint64_t at, void *buf, size_t n)
{
    int ret = check_range(dev, index, at, n);
    if (ret < 0 || n == 0)
        return ret;
    const struct region *r = &dev->region[index];
    uint8_t *memory;
    int served = area_access(dev, index, at, n, &memory);
    if (served > 0)
        memcpy(buf, memory, n);
    if (served == 0 && r->own)
        served = r->own(dev, at, buf, NULL, n);
    if (served)
        return served < 0 ? served : 0;
    if (!r->read || !width_allowed(r, at, n))
        return -EINVAL;
    if (dev->inert && (dev->quiesce = late_waits(dev)))
        return -EINPROGRESS;
    if (server_stopped(dev) || dev->inert) {
        memset(buf, 0xff, n); /* as from a device that is switched off; nothing may change by this */
        return 0;
    }
    server_enter(dev);
    return checked(r->read(dev, at, buf, n));
}

int region_write_one(struct ob_device *dev, uint32_t index, uint64_t at, const void *buf, size_t n)
{
    int ret = check_range(dev, index, at, n);
    if (ret < 0 || n == 0)
        return ret;
    const struct region *r = &dev->region[index];
    uint8_t *memory;
    int served = area_access(dev, index, at, n, &memory);
    if (served > 0)
        memcpy(memory, buf, n);
    if (served == 0 && r->own)
        served = r->own(dev, at, NULL, buf, n);
    if (served)
        return served < 0 ? served : 0;
    if (!r->write || !width_allowed(r, at, n))
        return -EINVAL;
    if (server_stopped(dev))
        return -EBUSY;
    if (dev->inert)
        return 0; /* it goes nowhere */
    server_enter(dev);
    return checked(r->write(dev, at, buf, n));
}

int region_read(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    const struct vfio_user_region_access *a = &m->region;

    memcpy(reply->body, a, sizeof *a);
    reply->size = sizeof *a + a->count;
    return read_one(dev, a->region, a->offset, reply->body + sizeof *a, a->count);
}

int region_write(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    const struct vfio_user_region_access *a = &m->region;

    memcpy(reply->body, a, sizeof *a);
    reply->size = sizeof *a;
    return region_write_one(dev, a->region, a->offset, m->data, a->count);
}

/*
 * Each write is a step of its own, as if it had come alone: a client puts into one message what has
 * nothing in common but the moment. So one that fails leaves the others as they are; the error of the
 * first is the reply's. How far the message has come is in the block, for a successor, and for a reset
 * in the middle that has to wait.
 */
int region_write_multi(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    struct shared_session *s = dev->session;

    for (uint32_t i = s->multi_done; i < m->multi.wr_cnt; i++) {
        struct vfio_user_write w = wire_multi_write(m, i);
        int ret = region_write_one(dev, w.region, w.offset, w.data, w.count);
        if (ret == -EINPROGRESS)
            return ret;
        if (ret < 0) {
            server_step_undo(dev);
            SET(dev, s->multi_error, s->multi_error ? s->multi_error : ret);
        }
        SET(dev, s->multi_done, i + 1);
        server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
        server_step_begin(dev);
    }
    memcpy(reply->body, &m->multi, sizeof m->multi);
    reply->size = sizeof m->multi;
    return s->multi_error;
}

void region_multi_over(struct ob_device *dev)
{
    if (!dev->session->multi_done)
        return;
    SET(dev, dev->session->multi_done, 0);
    SET(dev, dev->session->multi_error, 0);
}

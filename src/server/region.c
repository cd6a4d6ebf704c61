/*
 * region.c - from an offset in a region to whoever serves it: config space, the MSI-X table and
 * pending bits, shared memory, or the device's own code.
 */
#include "server/region.h"
#include "server/config.h"
#include "server/irq.h"

#include <string.h>

uint64_t region_size(const struct ob_device *dev, uint32_t index)
{
    if (index == VFIO_PCI_CONFIG_REGION_INDEX)
        return dev->config_size;
    return index < dev->region_count && dev->region[index].bar ? dev->region[index].bar->size : 0;
}

static bool within(uint64_t at, size_t n, uint64_t start, uint64_t size)
{
    return at >= start && at - start <= size && n <= size - (at - start);
}

static bool touches(uint64_t at, size_t n, uint64_t start, uint64_t size)
{
    return at < start + size && start < at + n;
}

/* Shared memory in this region. 1: *memory is what is behind this access, 0: not concerned, -EINVAL: half
 * in, half out. */
static int area_access(struct ob_device *dev, uint32_t index, uint64_t at, size_t n, uint8_t **memory)
{
    const struct ob_bar *bar = dev->region[index].bar;

    for (unsigned i = 0; i < bar->areas_count; i++) {
        const struct ob_area *area = &bar->areas[i];
        if (!touches(at, n, area->offset, area->size))
            continue;
        *memory = dev->region[index].memory + at;
        return within(at, n, area->offset, area->size) ? 1 : -EINVAL;
    }
    return 0;
}

static bool width_allowed(const struct ob_bar *bar, uint64_t at, size_t n)
{
    return !bar->widths || (n <= 8 && (n & (n - 1)) == 0 && (bar->widths & n) && at % n == 0);
}

/* MSI-X structures in this BAR. 1: served, 0: not concerned, -EINVAL: half in, half out. */
static int msix_access(struct ob_device *dev, uint32_t index, uint64_t at, void *in, const void *out,
                       size_t n)
{
    const struct ob_msix *msix = &dev->plugin->irq.msix;
    uint64_t table_size = msix->count * 16u, pba_size = (msix->count + 63u) / 64 * 8;

    if (!msix->count || msix->bar != index)
        return 0;
    if (within(at, n, msix->table, table_size)) {
        if (in)
            irq_table_read(dev, at - msix->table, in, n);
        else
            irq_table_write(dev, at - msix->table, out, n);
        return 1;
    }
    if (within(at, n, msix->pba, pba_size)) {
        if (in)
            irq_pba_read(dev, at - msix->pba, in, n);
        return 1; /* pending bits are not for writing */
    }
    return touches(at, n, msix->table, table_size) || touches(at, n, msix->pba, pba_size) ? -EINVAL
                                                                                          : 0;
}

/* What a device's code may say to an access; -EINPROGRESS has a meaning of its own in dispatch(). */
static int checked(int ret)
{
    return ret > 0 || ret < -4095 || ret == -EINPROGRESS ? -EIO : ret;
}

static int bar_read(struct ob_device *dev, uint32_t index, uint64_t at, void *buf, size_t n)
{
    const struct ob_bar *bar = dev->region[index].bar;
    uint8_t *memory;
    int served = area_access(dev, index, at, n, &memory);
    if (served > 0)
        memcpy(buf, memory, n);
    if (served == 0)
        served = msix_access(dev, index, at, buf, NULL, n);
    if (served)
        return served < 0 ? served : 0;
    if (!bar->read || !width_allowed(bar, at, n))
        return -EINVAL;
    server_enter(dev);
    return checked(bar->read(dev, at, buf, n));
}

static int bar_write(struct ob_device *dev, uint32_t index, uint64_t at, const void *buf, size_t n)
{
    const struct ob_bar *bar = dev->region[index].bar;
    uint8_t *memory;
    int served = area_access(dev, index, at, n, &memory);
    if (served > 0)
        memcpy(memory, buf, n);
    if (served == 0)
        served = msix_access(dev, index, at, NULL, buf, n);
    if (served)
        return served < 0 ? served : 0;
    if (!bar->write || !width_allowed(bar, at, n))
        return -EINVAL;
    server_enter(dev);
    return checked(bar->write(dev, at, buf, n));
}

static int check_range(const struct ob_device *dev, uint32_t index, uint64_t at, size_t n)
{
    uint64_t size = region_size(dev, index);

    return size && within(at, n, 0, size) ? 0 : -EINVAL; /* nor is there nothing of no region */
}

static int write_one(struct ob_device *dev, uint32_t index, uint64_t at, const void *buf, size_t n)
{
    int ret = check_range(dev, index, at, n);
    if (ret < 0 || n == 0)
        return ret;
    if (index == VFIO_PCI_CONFIG_REGION_INDEX)
        return config_write(dev, at, buf, n);
    return bar_write(dev, index, at, buf, n);
}

int region_read(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    const struct vfio_user_region_access *a = &m->region;
    uint8_t *data = reply->body + sizeof *a;

    int ret = check_range(dev, a->region, a->offset, a->count);
    if (ret < 0)
        return ret;
    memcpy(reply->body, a, sizeof *a);
    reply->size = sizeof *a + a->count;
    if (a->count == 0)
        return 0;
    if (a->region == VFIO_PCI_CONFIG_REGION_INDEX) {
        config_read(dev, a->offset, data, a->count);
        return 0;
    }
    return bar_read(dev, a->region, a->offset, data, a->count);
}

int region_write(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    const struct vfio_user_region_access *a = &m->region;

    memcpy(reply->body, a, sizeof *a);
    reply->size = sizeof *a;
    return write_one(dev, a->region, a->offset, m->data, a->count);
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
        int ret = write_one(dev, w.region, w.offset, w.data, w.count);
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

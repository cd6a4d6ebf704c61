/*
 * info.c - the replies that describe the device.
 */
#include "server/info.h"
#include "server/irq.h"
#include "server/log.h"
#include "server/region.h"

#include <string.h>

int info_version(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    struct vfio_user_version version = { .major = VFIO_USER_MAJOR };
    struct wire_capabilities theirs, ours;

    if (dev->session->negotiated)
        return -EINVAL;
    if (m->version.major != VFIO_USER_MAJOR) {
        server_log(dev, "client speaks version %u.%u, this server %u.x", m->version.major,
                   m->version.minor, VFIO_USER_MAJOR);
        return -ENOTSUP;
    }
    int ret = wire_capabilities_parse(m->data, m->data_size, &theirs);
    if (ret < 0) {
        server_log(dev, "the capabilities in the client's version message are not valid");
        return ret;
    }
    version.minor = m->version.minor < VFIO_USER_MINOR ? m->version.minor : VFIO_USER_MINOR;
    wire_capabilities_ours(&ours);
    ours.write_multiple = theirs.write_multiple; /* ours must be a subset of theirs */
    memcpy(reply->body, &version, sizeof version);
    int n = wire_capabilities_format(&ours, (char *)reply->body + sizeof version,
                                     reply->space - sizeof version);
    if (n < 0)
        return n;
    reply->size = sizeof version + (size_t)n;
    SET(dev, dev->session->client, theirs);
    SET(dev, dev->session->negotiated, 1);
    return 0;
}

int info_device(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    struct vfio_user_device_info info = {
        .argsz = sizeof info,
        .flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
        .num_regions = REGION_COUNT,
        .num_irqs = VFIO_PCI_NUM_IRQS,
    };
    (void)dev;
    (void)m;
    memcpy(reply->body, &info, sizeof info);
    reply->size = sizeof info;
    return 0;
}

/* The sparse mmap capability behind the fixed part. Its size. */
static size_t sparse_mmap(const struct ob_bar *bar, uint8_t *at)
{
    struct vfio_region_info_cap_sparse_mmap cap = {
        .header = { .id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1 },
        .nr_areas = bar->areas_count,
    };
    struct vfio_region_sparse_mmap_area area;

    memcpy(at, &cap, sizeof cap);
    for (unsigned i = 0; i < bar->areas_count; i++) {
        area.offset = bar->areas[i].offset;
        area.size = bar->areas[i].size;
        memcpy(at + sizeof cap + i * sizeof area, &area, sizeof area);
    }
    return sizeof cap + bar->areas_count * sizeof area;
}

static bool mapped_whole(const struct ob_bar *bar)
{
    return bar->areas_count == 1 && bar->areas[0].offset == 0 && bar->areas[0].size == bar->size;
}

int info_region(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    struct vfio_region_info info = { .index = m->region_info.index };
    uint32_t room = m->region_info.argsz;
    size_t size = sizeof info;

    if (info.index >= REGION_COUNT)
        return -EINVAL;
    info.size = region_size(dev, info.index);
    if (info.size)
        info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    if (info.index < 6 && dev->plugin->bar[info.index].areas_count) {
        const struct ob_bar *bar = &dev->plugin->bar[info.index];
        info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
        if (!mapped_whole(bar)) {
            info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
            size += sparse_mmap(bar, reply->body + size);
            /* One without the room gets no offset that it could not follow. */
            info.cap_offset = size <= room ? sizeof info : 0;
        }
        reply->fds_what = 1 + info.index;
    }
    info.argsz = (uint32_t)size;
    memcpy(reply->body, &info, sizeof info);
    reply->size = size <= room ? size : sizeof info;
    return 0;
}

int info_irq(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    struct vfio_irq_info info = { .argsz = sizeof info, .index = m->irq_info.index };

    if (info.index >= VFIO_PCI_NUM_IRQS)
        return -EINVAL;
    info.count = irq_count(dev, info.index);
    info.flags = irq_info_flags(dev, info.index);
    memcpy(reply->body, &info, sizeof info);
    reply->size = sizeof info;
    return 0;
}

/*
 * info.c - the replies that describe the device.
 */
#include "server/info.h"
#include "server/bus.h"
#include "server/log.h"
#include "server/twin.h"
#include "wire/dma.h"

#include <string.h>

/* A device without transfers sends no commands; a client that wants no reply gets no socket with it. */
static bool offer_twin(struct ob_device *dev, const struct wire_message *m,
                       const struct wire_capabilities *theirs)
{
    if (!theirs->twin_socket || !dev->plugin->dmas || (m->header.flags & VFIO_USER_FLAG_NO_REPLY))
        return false;
    int ret = twin_open(dev);
    if (ret < 0)
        server_log(dev, "no twin socket: %s", strerror(-ret));
    return ret == 0;
}

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
    ours.twin_socket = offer_twin(dev, m, &theirs);
    ours.twin_socket_fd_index = ours.twin_socket ? 0 : -1;
    memcpy(reply->body, &version, sizeof version);
    int n = wire_capabilities_format(&ours, (char *)reply->body + sizeof version,
                                     reply->space - sizeof version);
    if (n < 0) {
        twin_close(dev);
        return n;
    }
    reply->size = sizeof version + (size_t)n;
    if (ours.twin_socket) {
        reply->fds_what = FDS_TWIN;
        SET(dev, dev->session->twin, 1);
        SET(dev, dev->session->dma_layout, WIRE_DMA_64); /* who knows this knows the text */
    }
    SET(dev, dev->session->client, theirs);
    SET(dev, dev->session->negotiated, 1);
    return 0;
}

int info_device(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    struct vfio_user_device_info info = {
        .argsz = sizeof info,
        .flags = dev->bus->flags | VFIO_DEVICE_FLAGS_RESET,
        .num_regions = dev->region_count,
        .num_irqs = dev->irq_types,
    };
    (void)m;
    memcpy(reply->body, &info, sizeof info);
    reply->size = sizeof info;
    return 0;
}

/* ---- Regions ------------------------------------------------------------------------------------- */

static void sparse_mmap(struct capabilities *c, const struct region *r)
{
    struct vfio_region_sparse_mmap_area area;
    uint32_t size = (uint32_t)(sizeof(struct vfio_region_info_cap_sparse_mmap) +
                               r->areas_count * sizeof area);
    uint8_t *at = info_add_capability(c, VFIO_REGION_INFO_CAP_SPARSE_MMAP, size);

    memcpy(at, &r->areas_count, sizeof r->areas_count);
    for (unsigned i = 0; i < r->areas_count; i++) {
        area.offset = r->areas[i].offset;
        area.size = r->areas[i].size;
        memcpy(at + 8 + i * sizeof area, &area, sizeof area);
    }
}

static void typed(struct capabilities *c, const struct ob_typed_region *type)
{
    const uint32_t words[2] = { type->type, type->subtype };
    memcpy(info_add_capability(c, VFIO_REGION_INFO_CAP_TYPE, sizeof(struct vfio_region_info_cap_type)),
           words, sizeof words);
}

uint8_t *info_add_capability(struct capabilities *c, uint16_t id, uint32_t size)
{
    uint8_t *at = c->body + c->size;
    struct vfio_info_cap_header header = { .id = id, .version = 1 };

    memcpy(c->next, &c->size, sizeof c->size);
    memset(at, 0, size);
    memcpy(at, &header, sizeof header);
    c->next = at + offsetof(struct vfio_info_cap_header, next);
    c->size += size;
    return at + sizeof header;
}

static bool mapped_whole(const struct region *r)
{
    return r->areas_count == 1 && r->areas[0].offset == 0 && r->areas[0].size == r->size;
}

int info_region(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    struct vfio_region_info info = { .index = m->region_info.index };
    struct capabilities caps = { reply->body, sizeof info, &info.cap_offset };
    uint32_t room = m->region_info.argsz;

    if (info.index >= dev->region_count)
        return -EINVAL;
    const struct region *r = &dev->region[info.index];
    info.size = r->size;
    info.flags = r->flags;
    if (r->fd >= 0) {
        info.flags |= VFIO_REGION_INFO_FLAG_MMAP;
        reply->fds_what = FDS_REGION | info.index;
        if (!mapped_whole(r))
            sparse_mmap(&caps, r);
    }
    if (r->type)
        typed(&caps, r->type);
    if (dev->bus->region_capability)
        dev->bus->region_capability(dev, info.index, &caps);
    reply->size = caps.size <= room ? caps.size : sizeof info;
    /* The flag says that they are in this reply. QEMU, which asks again with the room that it learns from
     * argsz, does not get that far if the flag comes without an offset. */
    if (reply->size > sizeof info)
        info.flags |= VFIO_REGION_INFO_FLAG_CAPS;
    else
        info.cap_offset = 0;
    info.argsz = caps.size;
    memcpy(reply->body, &info, sizeof info);
    return 0;
}

/* ---- Interrupts ---------------------------------------------------------------------------------- */

int info_irq(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    struct vfio_irq_info info = { .argsz = sizeof info, .index = m->irq_info.index };

    if (info.index >= dev->irq_types)
        return -EINVAL;
    info.count = dev->irq_type[info.index].count;
    info.flags = info.count ? dev->irq_type[info.index].flags : 0;
    memcpy(reply->body, &info, sizeof info);
    reply->size = sizeof info;
    return 0;
}

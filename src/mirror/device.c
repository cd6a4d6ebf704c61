/*
 * device.c - the device that the mirror plays.
 */
#include "mirror/device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define CAP_MSIX 0x40u
#define PENDING_BITS 0x800u

static void put(uint8_t *at, uint32_t value, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void init_config(uint8_t *c)
{
    put(c + PCI_VENDOR_ID, 0x1234, 2);
    put(c + PCI_DEVICE_ID, 0x6d69, 2);
    put(c + PCI_STATUS, PCI_STATUS_CAP_LIST, 2);
    put(c + PCI_CLASS_REVISION, 0xff000001, 4);
    put(c + PCI_SUBSYSTEM_VENDOR_ID, 0x1234, 2);
    put(c + PCI_SUBSYSTEM_ID, 0x6d69, 2);
    put(c + PCI_CAPABILITY_LIST, CAP_MSIX, 1);
    put(c + PCI_INTERRUPT_PIN, 1, 1);
    put(c + CAP_MSIX, PCI_CAP_ID_MSIX, 1);
    put(c + CAP_MSIX + PCI_MSIX_FLAGS, DEVICE_VECTORS - 1, 2);
    put(c + CAP_MSIX + PCI_MSIX_TABLE, DEVICE_TABLE, 4);
    put(c + CAP_MSIX + PCI_MSIX_PBA, PENDING_BITS | DEVICE_TABLE, 4);
}

int device_init(struct device *d)
{
    memset(d, 0, sizeof *d);
    init_config(d->config);
    memcpy(d->registers, "MIRR", 4);
    d->state = VFIO_DEVICE_STATE_RUNNING;
    d->mapped = MAP_FAILED;
    d->memory = memfd_create("mirror", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    d->eventfd = eventfd(0, EFD_CLOEXEC);
    d->gift = memfd_create("gift", MFD_CLOEXEC);
    if (d->memory >= 0 && d->eventfd >= 0 && d->gift >= 0 &&
        ftruncate(d->memory, DEVICE_FILE_SIZE) == 0 &&
        fcntl(d->memory, F_ADD_SEALS, F_SEAL_SHRINK) == 0)
        d->mapped = mmap(NULL, DEVICE_MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, d->memory,
                         0);
    if (d->mapped == MAP_FAILED) {
        int ret = -errno;
        device_free(d);
        return ret;
    }
    memcpy(d->mapped, "MEM0", 4);
    memcpy(d->mapped + DEVICE_AREA_START, "MEM1", 4);
    return 0;
}

void device_free(struct device *d)
{
    for (unsigned i = 0; i < d->maps_count; i++)
        if (d->maps[i].fd >= 0)
            close(d->maps[i].fd);
    d->maps_count = 0;
    if (d->mapped != MAP_FAILED)
        munmap(d->mapped, DEVICE_MEMORY_SIZE);
    d->mapped = MAP_FAILED;
    if (d->memory >= 0)
        close(d->memory);
    if (d->eventfd >= 0)
        close(d->eventfd);
    if (d->gift >= 0)
        close(d->gift);
    d->memory = d->eventfd = d->gift = -1;
}

uint64_t device_bar4(const struct device *d)
{
    return get32(d->config + PCI_BASE_ADDRESS_4) & ~0xfu;
}

void device_error(const struct vfio_user_header *h, int error, struct reply *r)
{
    r->nfds = 0;
    r->error = true;
    *reply_header(r) = (struct vfio_user_header){
        .id = h->id,
        .command = h->command,
        .flags = VFIO_USER_FLAG_TYPE_REPLY | VFIO_USER_FLAG_ERROR,
        .error = (uint32_t)error,
    };
    reply_resize(r, 0);
}

/* ---- Regions ------------------------------------------------------------------------------- */

static const uint32_t sizes[VFIO_PCI_NUM_REGIONS] = {
    [DEVICE_REGISTERS] = DEVICE_REGISTERS_SIZE,
    [DEVICE_MEMORY] = DEVICE_MEMORY_SIZE,
    [DEVICE_TABLE] = DEVICE_TABLE_SIZE,
    [VFIO_PCI_CONFIG_REGION_INDEX] = DEVICE_CONFIG_SIZE,
};

static uint8_t *region(struct device *d, uint32_t index)
{
    switch (index) {
    case DEVICE_REGISTERS:
        return d->registers;
    case DEVICE_MEMORY:
        return d->mapped;
    case DEVICE_TABLE:
        return d->table;
    default:
        return d->config;
    }
}

/* Bits of a byte of config space that can be written. */
static uint8_t writable(uint64_t at)
{
    static const uint32_t bars[6] = { [DEVICE_REGISTERS] = ~(DEVICE_REGISTERS_SIZE - 1),
                                      [DEVICE_MEMORY] = ~(DEVICE_MEMORY_SIZE - 1),
                                      [DEVICE_TABLE] = ~(DEVICE_TABLE_SIZE - 1) };

    if (at >= PCI_BASE_ADDRESS_0 && at < PCI_BASE_ADDRESS_0 + sizeof bars)
        return (uint8_t)(bars[(at - PCI_BASE_ADDRESS_0) / 4] >> (8 * (at % 4)));
    switch (at) {
    case PCI_COMMAND:
        return PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    case PCI_COMMAND + 1:
        return PCI_COMMAND_INTX_DISABLE >> 8;
    case CAP_MSIX + PCI_MSIX_FLAGS + 1:
        return (PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL) >> 8;
    case PCI_INTERRUPT_LINE:
        return 0xff;
    default:
        return 0;
    }
}

static void write_bytes(struct device *d, uint32_t index, uint64_t at, const uint8_t *data,
                        uint32_t n)
{
    uint8_t *to = region(d, index) + at;

    for (uint32_t i = 0; i < n; i++) {
        uint8_t bits = 0xff;
        if (index == VFIO_PCI_CONFIG_REGION_INDEX)
            bits = writable(at + i);
        else if (index == DEVICE_REGISTERS && at + i < 8)
            bits = 0;
        to[i] = (uint8_t)((to[i] & ~bits) | (data[i] & bits));
    }
}

static bool inside(uint32_t index, uint64_t at, uint64_t n)
{
    return index < VFIO_PCI_NUM_REGIONS && at <= sizes[index] && n <= sizes[index] - at;
}

static void access_region(struct device *d, const struct wire_message *m, struct reply *r)
{
    const struct vfio_user_region_access *a = &m->region;
    bool is_read = m->header.command == VFIO_USER_REGION_READ;

    if (!inside(a->region, a->offset, a->count)) {
        device_error(&m->header, EINVAL, r);
        return;
    }
    reply_set(r, a, sizeof *a);
    if (!is_read) {
        write_bytes(d, a->region, a->offset, m->data, a->count);
        return;
    }
    put(d->registers + 4, d->pending, 4);
    memcpy((uint8_t *)reply_body(r) + sizeof *a, region(d, a->region) + a->offset, a->count);
    reply_resize(r, sizeof *a + a->count);
}

static void write_multi(struct device *d, const struct wire_message *m, struct reply *r)
{
    uint64_t done = 0;

    for (; done < m->multi.wr_cnt; done++) {
        struct vfio_user_write w = wire_multi_write(m, done);
        if (!inside(w.region, w.offset, w.count))
            break;
        write_bytes(d, w.region, w.offset, w.data, w.count);
    }
    reply_set(r, &done, sizeof done);
}

static void region_info(struct device *d, const struct wire_message *m, struct reply *r)
{
    struct device_sparse full = { .info = { .argsz = sizeof full.info,
                                            .index = m->region_info.index } };

    if (full.info.index >= VFIO_PCI_NUM_REGIONS) {
        device_error(&m->header, EINVAL, r);
        return;
    }
    full.info.size = sizes[full.info.index];
    if (full.info.size)
        full.info.flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    if (full.info.index != DEVICE_MEMORY) {
        reply_set(r, &full, sizeof full.info);
        return;
    }
    full.info.flags |= VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS;
    full.info.argsz = sizeof full;
    r->fds[0] = d->memory;
    r->nfds = 1;
    full.info.cap_offset = sizeof full.info;
    full.cap.header.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP;
    full.cap.header.version = 1;
    full.cap.nr_areas = 1;
    full.area.offset = DEVICE_AREA_START;
    full.area.size = DEVICE_AREA_SIZE;
    reply_set(r, &full, m->region_info.argsz < sizeof full ? sizeof full.info : sizeof full);
}

static void io_fds(struct device *d, const struct wire_message *m, struct reply *r)
{
    struct {
        struct vfio_user_region_io_fds head;
        struct vfio_user_sub_region sub;
    } full = { .head = { .argsz = sizeof full.head, .index = m->io_fds.index } };

    if (m->io_fds.index == DEVICE_REGISTERS) {
        full.head.argsz = sizeof full;
        full.head.count = 1;
        full.sub.offset = 0x100;
        full.sub.size = 4;
        full.sub.type = VFIO_USER_IO_FD_TYPE_IOEVENTFD;
    }
    bool fits = full.head.count && m->io_fds.argsz >= sizeof full;
    reply_set(r, &full, fits ? sizeof full : sizeof full.head);
    r->fds[0] = d->eventfd;
    r->nfds = fits;
}

/* ---- Memory -------------------------------------------------------------------------------- */

static void dma_map(struct device *d, const struct wire_message *m, struct wire_fds *fds,
                    struct reply *r)
{
    if (d->maps_count == DEVICE_MAPS) {
        device_error(&m->header, ENOSPC, r);
        return;
    }
    d->maps[d->maps_count++] = (struct device_map){ m->map.address, m->map.size, m->map.flags,
                                                    fds->count ? fds->fd[0] : -1 };
    if (fds->count)
        fds->fd[0] = -1;
}

static void dma_unmap(struct device *d, const struct wire_message *m, struct reply *r)
{
    bool all = m->unmap.flags & VFIO_DMA_UNMAP_FLAG_ALL, found = all;

    for (unsigned i = 0; i < d->maps_count;) {
        struct device_map *map = &d->maps[i];
        if (!all && (map->address != m->unmap.address || map->size != m->unmap.size)) {
            i++;
            continue;
        }
        found = true;
        if (map->fd >= 0)
            close(map->fd);
        *map = d->maps[--d->maps_count];
    }
    if (found)
        reply_set(r, &m->unmap, sizeof m->unmap);
    else
        device_error(&m->header, ENOENT, r);
}

/* ---- The rest ------------------------------------------------------------------------------ */

static void device_info(const struct wire_message *m, struct reply *r)
{
    (void)m;
    struct vfio_user_device_info info = { .argsz = sizeof info,
                                          .flags = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_RESET,
                                          .num_regions = VFIO_PCI_NUM_REGIONS,
                                          .num_irqs = DEVICE_IRQ_TYPES };
    reply_set(r, &info, sizeof info);
}

static void irq_info(const struct wire_message *m, struct reply *r)
{
    struct vfio_irq_info info = { .argsz = sizeof info, .index = m->irq_info.index };

    if (info.index >= DEVICE_IRQ_TYPES) {
        device_error(&m->header, EINVAL, r);
        return;
    }
    if (info.index == VFIO_PCI_INTX_IRQ_INDEX) {
        info.flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
        info.count = 1;
    } else if (info.index == VFIO_PCI_MSIX_IRQ_INDEX) {
        info.flags = VFIO_IRQ_INFO_EVENTFD;
        info.count = DEVICE_VECTORS;
    }
    reply_set(r, &info, sizeof info);
}

/* The log of dirty pages: nothing is ever written, so all bits are zero. */
static void log_report(const struct wire_message *m, struct reply *r)
{
    struct vfio_user_device_feature head = { .flags = m->feature.flags };
    struct vfio_user_dma_logging_report report = { 0 };

    if (m->data_size >= sizeof report)
        memcpy(&report, m->data, sizeof report);
    uint64_t pages = report.page_size ? report.length / report.page_size : 0;
    if (pages == 0 || pages > REPLY_SPACE) {
        device_error(&m->header, EINVAL, r);
        return;
    }
    size_t bits = (size_t)(pages + 63) / 64 * 8;
    uint8_t *body = reply_body(r);
    head.argsz = (uint32_t)(sizeof head + sizeof report + bits);
    memcpy(body, &head, sizeof head);
    memcpy(body + sizeof head, &report, sizeof report);
    memset(body + sizeof head + sizeof report, 0, bits);
    reply_resize(r, head.argsz);
}

/* What was sent comes back. */
static void feature_echo(const struct wire_message *m, size_t n, struct reply *r)
{
    struct vfio_user_device_feature head = { .argsz = (uint32_t)(sizeof head + n),
                                             .flags = m->feature.flags };
    if (n > m->data_size)
        n = m->data_size;
    reply_set(r, &head, sizeof head);
    memcpy((uint8_t *)reply_body(r) + sizeof head, m->data, n);
    reply_resize(r, sizeof head + n);
}

static void migration_state(struct device *d, const struct wire_message *m, struct reply *r)
{
    struct {
        struct vfio_user_device_feature head;
        struct vfio_device_feature_mig_state state;
    } full = { .head = { .argsz = sizeof full, .flags = m->feature.flags } };

    if ((m->feature.flags & VFIO_DEVICE_FEATURE_SET) && m->data_size >= sizeof d->state)
        memcpy(&d->state, m->data, sizeof d->state);
    d->state_at = 0;
    full.state.device_state = d->state;
    full.state.data_fd = -1;
    reply_set(r, &full, sizeof full);
}

static void migration(const struct wire_message *m, struct reply *r)
{
    struct {
        struct vfio_user_device_feature head;
        struct vfio_device_feature_migration migration;
    } full = { .head = { .argsz = sizeof full, .flags = m->feature.flags },
               .migration = { .flags = VFIO_MIGRATION_STOP_COPY } };

    reply_set(r, &full, sizeof full);
}

static void feature(struct device *d, const struct wire_message *m, struct reply *r)
{
    if (m->feature.flags & VFIO_DEVICE_FEATURE_PROBE) {
        feature_echo(m, 0, r);
        return;
    }
    switch (m->feature.flags & VFIO_DEVICE_FEATURE_MASK) {
    case VFIO_DEVICE_FEATURE_MIGRATION:
        migration(m, r);
        break;
    case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
        migration_state(d, m, r);
        break;
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
        feature_echo(m, m->data_size, r);
        break;
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP:
        feature_echo(m, 0, r);
        break;
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT:
        log_report(m, r);
        break;
    default:
        device_error(&m->header, ENOTTY, r);
    }
}

static void mig_data_read(struct device *d, const struct wire_message *m, struct reply *r)
{
    size_t left = DEVICE_STATE_SIZE - d->state_at;
    uint32_t n = m->mig_data.size < left ? m->mig_data.size : (uint32_t)left;
    struct vfio_user_mig_data head = { .argsz = (uint32_t)(sizeof head + n), .size = n };

    d->state_at += n;
    reply_set(r, &head, sizeof head);
    memset((uint8_t *)reply_body(r) + sizeof head, 'm', n);
    reply_resize(r, sizeof head + n);
}

void device_reply(struct device *d, const struct wire_message *m, struct wire_fds *fds,
                  struct reply *r)
{
    r->nfds = 0;
    r->error = false;
    *reply_header(r) = (struct vfio_user_header){ .id = m->header.id,
                                                  .command = m->header.command,
                                                  .flags = VFIO_USER_FLAG_TYPE_REPLY };
    reply_resize(r, 0);
    switch (m->header.command) {
    case VFIO_USER_DMA_MAP:
        dma_map(d, m, fds, r);
        break;
    case VFIO_USER_DMA_UNMAP:
        dma_unmap(d, m, r);
        break;
    case VFIO_USER_DEVICE_GET_INFO:
        device_info(m, r);
        break;
    case VFIO_USER_DEVICE_GET_REGION_INFO:
        region_info(d, m, r);
        break;
    case VFIO_USER_DEVICE_GET_REGION_IO_FDS:
        io_fds(d, m, r);
        break;
    case VFIO_USER_DEVICE_GET_IRQ_INFO:
        irq_info(m, r);
        break;
    case VFIO_USER_REGION_READ:
    case VFIO_USER_REGION_WRITE:
        access_region(d, m, r);
        break;
    case VFIO_USER_REGION_WRITE_MULTI:
        write_multi(d, m, r);
        break;
    case VFIO_USER_DEVICE_FEATURE:
        feature(d, m, r);
        break;
    case VFIO_USER_MIG_DATA_READ:
        mig_data_read(d, m, r);
        break;
    case VFIO_USER_DEVICE_SET_IRQS: /* nothing is ever raised */
    case VFIO_USER_DEVICE_RESET:
    case VFIO_USER_MIG_DATA_WRITE:
        break;
    default:
        device_error(&m->header, ENOTSUP, r);
    }
}

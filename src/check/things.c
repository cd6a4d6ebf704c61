/*
 * things.c - connections, descriptors, DMA regions and requests that checks are made of.
 */
#include "check/run.h"

#include <fcntl.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- Connections ----------------------------------------------------------------------------- */

struct peer *client(struct run *r)
{
    if (r->client.sock < 0)
        fail(r, "expected the connection to work on, got its end");
    return &r->client;
}

struct peer *another(struct run *r)
{
    if (r->peer_count == MOST_PEERS)
        fail(r, "this check opens too many connections");
    struct peer *p = &r->peers[r->peer_count++];
    memset(p, 0, sizeof *p);
    int ret = peer_connect(p, r->options->socket_path, r->options->timeout_ms);
    if (ret < 0)
        fail(r, "expected a new connection, got %s", strerror(-ret));
    return p;
}

struct peer *stranger(struct run *r)
{
    peer_close(&r->client);
    return another(r);
}

void *zeroes(struct run *r, size_t n)
{
    void *block = r->block_count < MOST_BLOCKS ? calloc(1, n) : NULL;
    if (!block)
        skip(r, "no memory for %zu bytes here", n);
    return r->blocks[r->block_count++] = block;
}

/* ---- Descriptors ----------------------------------------------------------------------------- */

int keep(struct run *r, int fd)
{
    if (fd < 0 || r->fd_count == MOST_FDS)
        skip(r, "no descriptor left here: %s", strerror(errno));
    return r->fds[r->fd_count++] = fd;
}

void give_away(struct run *r, int fd)
{
    for (unsigned i = 0; i < r->fd_count; i++)
        if (r->fds[i] == fd)
            r->fds[i] = -1;
    close(fd);
}

int an_eventfd(struct run *r)
{
    return keep(r, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
}

uint64_t eventfd_count(int fd)
{
    uint64_t n;
    return read(fd, &n, sizeof n) == (ssize_t)sizeof n ? n : 0;
}

int a_memory_file(struct run *r, uint64_t size)
{
    int fd = keep(r, memfd_create("check", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (ftruncate(fd, (off_t)size) < 0)
        skip(r, "no memory file of %llu bytes here: %s", (unsigned long long)size, strerror(errno));
    return fd;
}

void a_pipe(struct run *r, int fds[2])
{
    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
        skip(r, "no pipe here: %s", strerror(errno));
    keep(r, fds[0]);
    keep(r, fds[1]);
}

int a_file(struct run *r, const char *path, int flags)
{
    return keep(r, open(path, flags | O_CLOEXEC));
}

/* ---- DMA regions ----------------------------------------------------------------------------- */

struct vfio_user_dma_map a_map(uint64_t address, uint64_t size)
{
    return (struct vfio_user_dma_map){
        .argsz = sizeof(struct vfio_user_dma_map),
        .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        .address = address,
        .size = size,
    };
}

enum outcome try_map(struct run *r, const struct vfio_user_dma_map *map, int fd)
{
    struct ask ask = { VFIO_USER_DMA_MAP, map, sizeof *map, fd < 0 ? NULL : &fd, fd >= 0, 0 };
    enum outcome outcome = try(r, &ask);

    if (outcome == SERVED && r->client.size)
        fail(r, "reply to VFIO_USER_DMA_MAP: expected no payload, got %zu bytes", r->client.size);
    if (outcome == SERVED && r->offer_count < MOST_OFFERS)
        r->offers[r->offer_count++] = (struct offer){ map->address, map->size };
    return outcome;
}

void map(struct run *r, uint64_t address, uint64_t size, int fd)
{
    struct vfio_user_dma_map m = a_map(address, size);
    enum outcome outcome = try_map(r, &m, fd);
    if (outcome == REFUSED)
        fail(r, "VFIO_USER_DMA_MAP of 0x%llx bytes at 0x%llx: expected success, got %s",
             (unsigned long long)size, (unsigned long long)address,
             strerror((int)r->client.header.error));
    if (outcome == CLOSED)
        fail(r, "VFIO_USER_DMA_MAP: expected a reply, got the end of the connection");
}

enum outcome try_unmap(struct run *r, uint64_t address, uint64_t size, uint32_t flags)
{
    struct vfio_user_dma_unmap m = { sizeof m, flags, address, size };
    enum outcome outcome = try(r, ASK(VFIO_USER_DMA_UNMAP, m));
    if (outcome != SERVED)
        return outcome;
    for (unsigned i = 0; i < r->offer_count; i++)
        if (r->offers[i].address == address && r->offers[i].size == size)
            r->offers[i] = r->offers[--r->offer_count];
    return SERVED;
}

void unmap(struct run *r, uint64_t address, uint64_t size)
{
    enum outcome outcome = try_unmap(r, address, size, 0);
    if (outcome == REFUSED)
        fail(r, "VFIO_USER_DMA_UNMAP of a region: expected success, got %s",
             strerror((int)r->client.header.error));
    if (outcome == CLOSED)
        fail(r, "VFIO_USER_DMA_UNMAP: expected a reply, got the end of the connection");
}

bool is_mapped(struct run *r, uint64_t address, uint64_t size)
{
    struct vfio_user_dma_map m = a_map(address, size);
    enum outcome outcome = try_map(r, &m, -1);
    if (outcome == CLOSED)
        fail(r, "VFIO_USER_DMA_MAP: expected a reply, got the end of the connection");
    if (outcome == SERVED)
        unmap(r, address, size);
    return outcome == REFUSED;
}

int memory_for(struct run *r, const struct check *c, uint64_t size)
{
    return c->needs & NEED_MAPPED ? a_memory_file(r, size) : -1;
}

/* ---- Requests -------------------------------------------------------------------------------- */

/* Copies a structure to the body. */
#define BODY(structure) (memcpy(body, &(structure), sizeof(structure)), sizeof(structure))

static size_t harmless_write(struct run *r, void *body)
{
    struct {
        struct vfio_user_region_access access;
        uint8_t data[4];
    } __attribute__((packed))
    w = { { 0, VFIO_PCI_CONFIG_REGION_INDEX, 4 }, { 0 } }; /* vendor and device: read only */
    return is_pci(r) ? BODY(w) : 0;
}

static size_t harmless_multi(struct run *r, void *body)
{
    struct {
        struct vfio_user_write_multi multi;
        struct vfio_user_write write;
    } w = { { 1 }, { 0, VFIO_PCI_CONFIG_REGION_INDEX, 4, { 0 } } };
    return is_pci(r) && r->facts.write_multiple ? BODY(w) : 0;
}

size_t harmless(struct run *r, uint16_t command, void *body)
{
    struct vfio_user_dma_map dma = a_map(BASE, PAGE);
    struct vfio_user_dma_unmap undma = { sizeof undma, 0, BASE, PAGE };
    struct vfio_user_device_info device = { .argsz = sizeof device };
    struct vfio_region_info region = { .argsz = sizeof region };
    struct vfio_user_region_io_fds io_fds = { .argsz = sizeof io_fds };
    struct vfio_irq_info irq = { .argsz = sizeof irq };
    struct vfio_irq_set set = { sizeof set, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0,
                                0, 0 };
    struct vfio_user_region_access read = { 0, VFIO_PCI_CONFIG_REGION_INDEX, 4 };
    struct vfio_user_device_feature feature = { sizeof feature, VFIO_DEVICE_FEATURE_PROBE |
                                                                    VFIO_DEVICE_FEATURE_GET |
                                                                    VFIO_DEVICE_FEATURE_MIGRATION };
    struct vfio_user_mig_data data = { .argsz = sizeof data };

    switch (command) {
    case VFIO_USER_DMA_MAP:
        return BODY(dma);
    case VFIO_USER_DMA_UNMAP:
        return BODY(undma);
    case VFIO_USER_DEVICE_GET_INFO:
        return BODY(device);
    case VFIO_USER_DEVICE_GET_REGION_INFO:
        return BODY(region);
    case VFIO_USER_DEVICE_GET_REGION_IO_FDS:
        return BODY(io_fds);
    case VFIO_USER_DEVICE_GET_IRQ_INFO:
        return BODY(irq);
    case VFIO_USER_DEVICE_SET_IRQS:
        return BODY(set);
    case VFIO_USER_REGION_READ:
        return is_pci(r) ? BODY(read) : 0;
    case VFIO_USER_REGION_WRITE:
        return harmless_write(r, body);
    case VFIO_USER_REGION_WRITE_MULTI:
        return harmless_multi(r, body);
    case VFIO_USER_DEVICE_FEATURE:
        return BODY(feature);
    case VFIO_USER_MIG_DATA_READ:
    case VFIO_USER_MIG_DATA_WRITE:
        return BODY(data);
    default:
        return 0;
    }
}

uint32_t some_irq(struct run *r)
{
    for (uint32_t i = 0; i < r->facts.irqs; i++)
        if (r->facts.irq[i].count && (r->facts.irq[i].flags & VFIO_IRQ_INFO_EVENTFD))
            return i;
    skip(r, "the device has no interrupts");
}

bool is_pci(const struct run *r)
{
    return r->facts.device.flags & VFIO_DEVICE_FLAGS_PCI;
}

uint32_t config_size(const struct run *r)
{
    uint64_t size = r->facts.region[VFIO_PCI_CONFIG_REGION_INDEX].size;
    return size > PCI_CFG_SPACE_EXP_SIZE ? PCI_CFG_SPACE_EXP_SIZE : (uint32_t)size;
}

uint64_t config_get(struct run *r, uint32_t at, unsigned n)
{
    struct vfio_user_region_access a = { at, VFIO_PCI_CONFIG_REGION_INDEX, n };
    const uint8_t *body = served(r, ASK(VFIO_USER_REGION_READ, a), sizeof a + n);
    uint64_t value = 0;
    memcpy(&value, body + sizeof a, n);
    return value;
}

void config_set(struct run *r, uint32_t at, unsigned n, uint64_t value)
{
    struct {
        struct vfio_user_region_access access;
        uint64_t data;
    } w = { { at, VFIO_PCI_CONFIG_REGION_INDEX, n }, value };
    struct ask ask = { VFIO_USER_REGION_WRITE, &w, sizeof w.access + n, NULL, 0, 0 };
    served(r, &ask, sizeof w.access);
}

/*
 * dma.c - the caller's memory that the device may use, and the server's commands that reach it.
 *
 * The maps are a tree ordered by address. Maps never overlap, so a comparison that calls
 * overlapping ranges equal orders them, and finds the one that holds an address.
 */
#include "client/client.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>

struct dma_map {
    uint64_t first; /* address */
    uint64_t last;  /* of the last byte: a map may end at the end of the address space */
    uint8_t *memory;
    uint32_t flags;
};

static int compare(const void *a, const void *b)
{
    const struct dma_map *x = a, *y = b;
    return x->last < y->first ? -1 : x->first > y->last;
}

static struct dma_map *find(struct ob_client *c, uint64_t first, uint64_t last)
{
    struct dma_map key = { .first = first, .last = last };
    struct dma_map **node = tfind(&key, &c->dma, compare);
    return node ? *node : NULL;
}

static void drop(struct ob_client *c, struct dma_map *map)
{
    tdelete(map, &c->dma, compare);
    free(map);
    c->dma_count--;
}

void client_dma_clear(struct ob_client *c)
{
    tdestroy(c->dma, free);
    c->dma = NULL;
    c->dma_count = 0;
}

int client_dma_copy(struct ob_client *c, uint64_t address, void *buf, uint64_t n, uint32_t need)
{
    uint8_t *at = buf;

    /* All of it must be allowed before any of it is touched. */
    for (int pass = 0; pass < 2; pass++) {
        uint64_t where = address, left = n;
        while (left > 0) {
            struct dma_map *map = find(c, where, where);
            if (!map || !(map->flags & need))
                return EFAULT;
            uint64_t piece = map->last - where;
            piece = piece < left - 1 ? piece + 1 : left;
            uint8_t *memory = map->memory + (where - map->first);
            if (pass == 1 && need == VFIO_DMA_MAP_FLAG_READ)
                memcpy(at + (where - address), memory, piece);
            else if (pass == 1)
                memcpy(memory, at + (where - address), piece);
            where += piece;
            left -= piece;
        }
    }
    return 0;
}

bool client_command(struct ob_client *c, const void *bytes, size_t n, size_t nfds, struct answer *a)
{
    struct wire_message m;
    int ret = wire_decode_command(bytes, n, nfds, &m);

    if (ret == 0 && m.header.command != VFIO_USER_DMA_READ &&
        m.header.command != VFIO_USER_DMA_WRITE)
        ret = -ENOTSUP; /* a command that only clients send */
    if (ret == 0 && (m.dma.count == 0 || m.dma.count > c->ours.max_data_xfer_size))
        ret = -EINVAL;
    *a = (struct answer){ .command = m.header, .error = -ret };
    if (ret == 0) {
        a->address = m.dma.address;
        a->count = m.dma.count;
    }
    if (ret == 0 && m.header.command == VFIO_USER_DMA_WRITE)
        a->error = client_dma_copy(c, m.dma.address, (void *)(uintptr_t)m.data, m.dma.count,
                                   VFIO_DMA_MAP_FLAG_WRITE);
    return !(m.header.flags & VFIO_USER_FLAG_NO_REPLY);
}

/* ---- The caller's side ------------------------------------------------------------------- */

/* Before the server hears of it, so that its first command finds the map. */
static int add(struct ob_client *c, const struct dma_map *map)
{
    struct dma_map *copy = malloc(sizeof *copy);
    if (!copy)
        return client_refuse(c, -ENOMEM, "no memory for another DMA map");
    *copy = *map;

    pthread_mutex_lock(&c->lock);
    uint64_t page = c->theirs.pgsizes & -c->theirs.pgsizes; /* the smallest */
    int ret = 0;
    if (c->negotiated && c->dma_count >= c->theirs.max_dma_maps) {
        client_set_error(c, "the server takes no more than %u DMA maps", c->theirs.max_dma_maps);
        ret = -ENOSPC;
    } else if (find(c, map->first, map->last)) {
        client_set_error(c, "DMA map at 0x%llx overlaps another", (unsigned long long)map->first);
        ret = -EEXIST;
    } else if (c->negotiated && !c->failed && (map->first | (map->last + 1)) & (page - 1)) {
        client_set_error(c, "DMA map at 0x%llx: the server takes whole pages of %llu bytes",
                         (unsigned long long)map->first, (unsigned long long)page);
        ret = -EINVAL;
    } else if (!tsearch(copy, &c->dma, compare)) {
        client_set_error(c, "no memory for another DMA map");
        ret = -ENOMEM;
    } else {
        c->dma_count++;
    }
    pthread_mutex_unlock(&c->lock);
    if (ret < 0)
        free(copy);
    return ret;
}

/* false: there is no such map. */
static bool remove_exactly(struct ob_client *c, uint64_t first, uint64_t last)
{
    pthread_mutex_lock(&c->lock);
    struct dma_map *map = find(c, first, last);
    bool found = map && map->first == first && map->last == last;
    if (found)
        drop(c, map);
    pthread_mutex_unlock(&c->lock);
    return found;
}

int ob_client_dma_map(struct ob_client *c, uint64_t address, uint64_t size, void *memory, int fd,
                      uint64_t offset, uint32_t flags)
{
    const uint32_t both = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    uint64_t last = address + (size - 1);

    if (size == 0 || last < address || size > SIZE_MAX || !memory || !flags || (flags & ~both) ||
        (fd < 0 && offset) || offset + size < offset)
        return client_refuse(c, -EINVAL,
                             "DMA map of 0x%llx bytes at 0x%llx, offset 0x%llx, flags "
                             "0x%x makes no sense",
                             (unsigned long long)size, (unsigned long long)address,
                             (unsigned long long)offset, flags);
    int ret = add(c, &(struct dma_map){ address, last, memory, flags });
    if (ret < 0)
        return ret;

    struct call call = {
        .request = { .header.command = VFIO_USER_DMA_MAP,
                     .map = { .argsz = sizeof call.request.map,
                              .flags = flags,
                              .offset = offset,
                              .address = address,
                              .size = size } },
        .fixed = sizeof call.request.map,
        .fds = &fd,
        .nfds = fd >= 0,
    };
    ret = client_call(c, &call);
    if (ret < 0)
        remove_exactly(c, address, last);
    return ret;
}

static int send_unmap(struct ob_client *c, uint64_t address, uint64_t size, uint32_t flags)
{
    struct call call = {
        .request = { .header.command = VFIO_USER_DMA_UNMAP,
                     .unmap = { .argsz = sizeof call.request.unmap,
                                .flags = flags,
                                .address = address,
                                .size = size } },
        .fixed = sizeof call.request.unmap,
    };
    return client_call(c, &call);
}

int ob_client_dma_unmap(struct ob_client *c, uint64_t address, uint64_t size)
{
    uint64_t last = address + (size - 1);

    pthread_mutex_lock(&c->lock);
    struct dma_map *map = size && last >= address ? find(c, address, last) : NULL;
    bool found = map && map->first == address && map->last == last;
    if (!found)
        client_set_error(c, "there is no DMA map of 0x%llx bytes at 0x%llx",
                         (unsigned long long)size, (unsigned long long)address);
    pthread_mutex_unlock(&c->lock);
    if (!found)
        return -ENOENT;

    /* The server may use the memory until it has replied. */
    int ret = send_unmap(c, address, size, 0);
    remove_exactly(c, address, last);
    return ret;
}

int ob_client_dma_unmap_all(struct ob_client *c)
{
    int ret = send_unmap(c, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL);
    pthread_mutex_lock(&c->lock);
    client_dma_clear(c);
    pthread_mutex_unlock(&c->lock);
    return ret;
}

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
    } else if (c->negotiated && !c->failed && (map->first | (map->last + 1)) & (page - 1) &&
               !find(c, map->first, map->last)) {
        client_set_error(c, "DMA map at 0x%llx: the server takes whole pages of %llu bytes",
                         (unsigned long long)map->first, (unsigned long long)page);
        ret = -EINVAL;
    } else {
        struct dma_map **node = tsearch(copy, &c->dma, compare);
        ret = !node ? -ENOMEM : *node != copy ? -EEXIST : 0;
        c->dma_count += ret == 0;
    }
    if (ret == -ENOMEM)
        client_set_error(c, "no memory for another DMA map");
    if (ret == -EEXIST)
        client_set_error(c, "DMA map at 0x%llx overlaps another", (unsigned long long)map->first);
    pthread_mutex_unlock(&c->lock);
    if (ret < 0)
        free(copy);
    return ret;
}

/* With the lock. false: there is no such map. */
static bool remove_exactly(struct ob_client *c, uint64_t first, uint64_t last)
{
    struct dma_map *map = find(c, first, last);
    bool found = map && map->first == first && map->last == last;
    if (found)
        drop(c, map);
    return found;
}

/* A map that the server did not take was none. One that is being unmapped the server may use until it
 * has replied; whatever that says, it is gone then. */
void client_dma_ended(struct ob_client *c, const struct wire_message *request, int result)
{
    if (request->header.command == VFIO_USER_DMA_MAP && result < 0)
        remove_exactly(c, request->map.address, request->map.address + (request->map.size - 1));
    else if (request->header.command == VFIO_USER_DMA_UNMAP && request->unmap.flags)
        client_dma_clear(c);
    else if (request->header.command == VFIO_USER_DMA_UNMAP)
        remove_exactly(c, request->unmap.address, request->unmap.address + (request->unmap.size - 1));
}

/* Remembers the map, and makes the call that tells the server of it. */
static int map_call(struct ob_client *c, uint64_t address, uint64_t size, void *memory, const int *fd,
                    uint64_t offset, uint32_t flags, struct call *call)
{
    const uint32_t both = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    uint64_t last = address + (size - 1);

    if (size == 0 || last < address || size > SIZE_MAX || !memory || !flags || (flags & ~both) ||
        (*fd < 0 && offset) || offset + size < offset)
        return client_refuse(c, -EINVAL,
                             "DMA map of 0x%llx bytes at 0x%llx, offset 0x%llx, flags "
                             "0x%x makes no sense",
                             (unsigned long long)size, (unsigned long long)address,
                             (unsigned long long)offset, flags);
    *call = (struct call){
        .request = { .header.command = VFIO_USER_DMA_MAP,
                     .map = { .argsz = sizeof call->request.map,
                              .flags = flags,
                              .offset = offset,
                              .address = address,
                              .size = size } },
        .fixed = sizeof call->request.map,
        .fds = fd,
        .nfds = *fd >= 0,
    };
    return add(c, &(struct dma_map){ address, last, memory, flags });
}

static struct call unmap_call(uint64_t address, uint64_t size, uint32_t flags)
{
    return (struct call){
        .request = { .header.command = VFIO_USER_DMA_UNMAP,
                     .unmap = { .argsz = sizeof(struct vfio_user_dma_unmap),
                                .flags = flags,
                                .address = address,
                                .size = size } },
        .fixed = sizeof(struct vfio_user_dma_unmap),
    };
}

static int check_unmap(struct ob_client *c, uint64_t address, uint64_t size)
{
    uint64_t last = address + (size - 1);

    pthread_mutex_lock(&c->lock);
    struct dma_map *map = size && last >= address ? find(c, address, last) : NULL;
    bool found = map && map->first == address && map->last == last;
    if (!found)
        client_set_error(c, "there is no DMA map of 0x%llx bytes at 0x%llx",
                         (unsigned long long)size, (unsigned long long)address);
    pthread_mutex_unlock(&c->lock);
    return found ? 0 : -ENOENT;
}

/* The call, to its end: the reply, or an error. */
static int call_and_end(struct ob_client *c, struct call *call)
{
    int ret = client_call(c, call);
    pthread_mutex_lock(&c->lock);
    client_dma_ended(c, &call->request, ret);
    pthread_mutex_unlock(&c->lock);
    return ret;
}

static int start_call(struct ob_client *c, struct call *call, struct ob_request **request)
{
    int ret = client_start_held(c, call, request);
    if (ret < 0 && call->request.header.command == VFIO_USER_DMA_MAP) {
        pthread_mutex_lock(&c->lock);
        client_dma_ended(c, &call->request, ret);
        pthread_mutex_unlock(&c->lock);
    }
    return ret;
}

int ob_client_dma_map(struct ob_client *c, uint64_t address, uint64_t size, void *memory, int fd,
                      uint64_t offset, uint32_t flags)
{
    struct call call;
    int ret = map_call(c, address, size, memory, &fd, offset, flags, &call);
    return ret < 0 ? ret : call_and_end(c, &call);
}

int ob_client_start_dma_map(struct ob_client *c, uint64_t address, uint64_t size, void *memory, int fd,
                            uint64_t offset, uint32_t flags, struct ob_request **request)
{
    struct call call;
    int ret = map_call(c, address, size, memory, &fd, offset, flags, &call);
    return ret < 0 ? ret : start_call(c, &call, request);
}

int ob_client_dma_unmap(struct ob_client *c, uint64_t address, uint64_t size)
{
    struct call call = unmap_call(address, size, 0);
    int ret = check_unmap(c, address, size);
    return ret < 0 ? ret : call_and_end(c, &call);
}

int ob_client_start_dma_unmap(struct ob_client *c, uint64_t address, uint64_t size,
                              struct ob_request **request)
{
    struct call call = unmap_call(address, size, 0);
    int ret = check_unmap(c, address, size);
    return ret < 0 ? ret : start_call(c, &call, request);
}

int ob_client_dma_unmap_all(struct ob_client *c)
{
    struct call call = unmap_call(0, 0, VFIO_DMA_UNMAP_FLAG_ALL);
    return call_and_end(c, &call);
}

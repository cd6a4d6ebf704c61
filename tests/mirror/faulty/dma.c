/*
 * dma.c - the server's commands, and the memory that it may reach with them.
 */
#include "faulty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct map {
    uint64_t address, size;
    uint8_t *memory;
    uint32_t flags;
    bool gone;
};

static struct map maps[16];
static unsigned maps_count;

void dma_add(uint64_t address, uint64_t size, uint8_t *memory, uint32_t flags)
{
    maps[maps_count++] = (struct map){ address, size, memory, flags, false };
}

void dma_remove(uint64_t address)
{
    for (unsigned i = 0; i < maps_count; i++)
        if (maps[i].address == address)
            maps[i].gone = true;
}

static bool lies_in(const struct map *map, uint64_t address, uint64_t count)
{
    if (fault(FAULT_DMA_END))
        return address - map->address < map->size;
    if (fault(FAULT_DMA_WRAP))
        return address >= map->address && address + count <= map->address + map->size;
    return address >= map->address && count <= map->size &&
           address - map->address <= map->size - count;
}

/* The map in which an access lies, or NULL with *error. */
static const struct map *find(uint64_t address, uint64_t count, uint32_t flag, uint32_t *error)
{
    *error = EFAULT;
    for (unsigned i = 0; i < maps_count; i++) {
        const struct map *map = &maps[i];
        if ((map->gone && !fault(FAULT_DMA_STALE)) || !lies_in(map, address, count))
            continue;
        if (!(map->flags & flag) && !fault(FAULT_DMA_RIGHTS))
            return NULL;
        *error = 0;
        return map;
    }
    if (fault(FAULT_DMA_BOUNDS))
        *error = 0;
    return NULL;
}

/* Replies are kept while more commands come: never more than one, but for a fault. */
static uint8_t *kept;
static size_t kept_size;

static void reply(const struct message *m, uint32_t error, const struct vfio_user_dma_access *a,
                  size_t data)
{
    static uint8_t bytes[32 + MOST_DATA];
    struct vfio_user_header h = m->h;

    if ((h.flags & VFIO_USER_FLAG_NO_REPLY) && !fault(FAULT_DMA_POSTED))
        return;
    h.flags = VFIO_USER_FLAG_TYPE_REPLY | (error ? VFIO_USER_FLAG_ERROR : 0);
    h.error = error;
    h.size = (uint32_t)(sizeof h + (a && !error ? sizeof *a + data : 0));
    memcpy(bytes, &h, sizeof h);
    if (a)
        memcpy(bytes + sizeof h, a, sizeof *a);
    if (fault(FAULT_GROW)) {
        kept = realloc(kept, kept_size + h.size);
        memcpy(kept + kept_size, bytes, h.size);
        kept_size += h.size;
        if (io_ready(300))
            return;
        io_send(kept, kept_size, NULL, 0);
        kept_size = 0;
        return;
    }
    for (int i = 0; i < (fault(FAULT_DMA_TWICE) ? 2 : 1); i++)
        io_send(bytes, h.size, NULL, 0);
}

void dma_serve(const struct message *m)
{
    struct vfio_user_dma_access a = { 0 };
    bool is_read = m->h.command == VFIO_USER_DMA_READ;
    uint32_t error;

    if (!is_read && m->h.command != VFIO_USER_DMA_WRITE) {
        reply(m, fault(FAULT_DMA_UNKNOWN) ? 0 : ENOTSUP, NULL, 0);
        return;
    }
    if (m->size < sizeof a) {
        reply(m, EINVAL, NULL, 0);
        return;
    }
    memcpy(&a, m->body, sizeof a);
    uint64_t count = a.count;
    if (fault(FAULT_DMA_COUNT) && count > 4096)
        count = 4096;
    if (!is_read && count != m->size - sizeof a && !fault(FAULT_DMA_DATA) &&
        !fault(FAULT_DMA_COUNT)) {
        reply(m, EINVAL, NULL, 0);
        return;
    }
    const struct map *map = find(
        a.address, count, is_read ? VFIO_DMA_MAP_FLAG_READ : VFIO_DMA_MAP_FLAG_WRITE, &error);
    if (!error && count > MOST_DATA && !fault(FAULT_DMA_WRAP) && !fault(FAULT_DMA_END))
        error = E2BIG;
    (void)map; /* what is in it does not matter here */
    reply(m, error, &a, is_read && count <= MOST_DATA ? (size_t)count : 0);
}

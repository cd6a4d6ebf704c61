/*
 * dma_map.c - the table of DMA regions in the block, and the memory floor that is made from it.
 */
#include "server/dma.h"
#include "server/guest.h"
#include "server/log.h"
#include "server/record.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Makes the file of a new region known, and safe. Its number in *file, and whether it is new. */
static int add_file(struct ob_device *dev, int fd, uint32_t *file, bool *is_new)
{
    int kept = dev->keeping ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (dev->keeping && kept < 0) {
        int ret = -errno;
        close(fd);
        return ret;
    }
    uint32_t number = ids_take(&dev->file_ids);

    *file = number;
    int ret = memory_file_add(dev->memory, fd, file);
    *is_new = ret == 1;
    if (ret != 1)
        ids_give(&dev->file_ids, number);
    if (ret == 1 && dev->keeping) {
        ret = dev->keeping->put(dev->keeping->ctx, KEEP_FILE | number, kept);
        if (ret < 0) {
            memory_file_drop(dev->memory, number);
            ids_give(&dev->file_ids, number);
        }
    }
    if (kept >= 0)
        close(kept);
    return ret < 0 ? ret : 0;
}

static void remove_file(struct ob_device *dev, uint32_t file)
{
    ids_give(&dev->file_ids, file);
    if (dev->keeping)
        dev->keeping->drop(dev->keeping->ctx, KEEP_FILE | file);
}

static int add_region(struct ob_device *dev, const struct memory_region *r)
{
    uint32_t id = ids_take(&dev->region_ids);
    if (id == dev->region_ids.end)
        return -ENOSPC;
    int ret = memory_map(dev->memory, id, r);
    if (ret < 0) {
        ids_give(&dev->region_ids, id);
        return ret;
    }
    SET(dev, dev->regions[id], *r);
    SET(dev, dev->session->regions, dev->session->regions + 1);
    if (id >= dev->session->regions_end)
        SET(dev, dev->session->regions_end, id + 1);
    record_memory(dev, r->size);
    return 0;
}

int dma_map(struct ob_device *dev, const struct wire_message *m, struct wire_fds *fds)
{
    struct memory_region r = {
        .address = m->map.address,
        .size = m->map.size,
        .offset = m->map.offset,
        .file = MEMORY_NO_FILE,
        .flags = (m->map.flags & VFIO_DMA_MAP_FLAG_READ ? MEMORY_READ : 0) |
                 (m->map.flags & VFIO_DMA_MAP_FLAG_WRITE ? MEMORY_WRITE : 0),
    };
    bool is_new = false;

    if ((r.address | r.size) % VFIO_USER_DEFAULT_PGSIZES)
        return -EINVAL;
    if (fds->count == 1) {
        int fd = fds->fd[0];
        fds->fd[0] = -1;
        int ret = add_file(dev, fd, &r.file, &is_new);
        if (ret < 0)
            return ret;
    }
    int ret = add_region(dev, &r);
    if (ret < 0 && is_new) {
        memory_file_drop(dev->memory, r.file);
        remove_file(dev, r.file);
    }
    return ret;
}

/* The file may be put back into the table by undoing this step: what keeps it stays until the end. */
static void file_is_gone(struct ob_device *dev, uint32_t file)
{
    if (dev->keeping)
        dev->files_gone[dev->files_gone_count++] = file;
}

void dma_unmap_all(struct ob_device *dev)
{
    size_t size = dev->session->regions_end * sizeof *dev->regions;

    for (uint32_t i = 0; i < dev->file_ids.next; i++)
        if (memory_file_fd(dev->memory, i) >= 0)
            file_is_gone(dev, i);
    server_touch(dev, dev->regions, size);
    memset(dev->regions, 0, size);
    SET(dev, dev->session->regions, 0);
    SET(dev, dev->session->regions_end, 0);
    memory_unmap_all(dev->memory);
    ids_reset(&dev->region_ids);
    ids_reset(&dev->file_ids);
    record_memory(dev, 0 - dev->facts->memory_bytes);
}

/* Numbers of a region that has gone and, if it was the last one of its file, of that. */
static void give_back(struct ob_device *dev, uint32_t id, uint32_t file_gone)
{
    ids_give(&dev->region_ids, id);
    if (file_gone != MEMORY_NO_FILE) {
        ids_give(&dev->file_ids, file_gone);
        file_is_gone(dev, file_gone);
    }
}

static int unmap_region(struct ob_device *dev, uint64_t address, uint64_t size)
{
    uint32_t file_gone;

    int64_t id = memory_unmap(dev->memory, address, size, &file_gone);
    if (id < 0)
        return (int)id;
    SET(dev, dev->regions[id].size, 0);
    SET(dev, dev->session->regions, dev->session->regions - 1);
    record_memory(dev, 0 - size);
    give_back(dev, (uint32_t)id, file_gone);
    return 0;
}

/* The first region, by address, of which something is in [address, last]: its id, or -ENOENT. */
static int64_t first_inside(struct ob_device *dev, uint64_t address, uint64_t last)
{
    int64_t id = memory_next(dev->memory, address);
    return id < 0 || dev->regions[id].address > last ? -ENOENT : id;
}

/* Bytes of regions in [address, last], or -EINVAL: one lies there in part, or -EINPROGRESS. */
static int64_t mapped_inside(struct ob_device *dev, uint64_t address, uint64_t last)
{
    uint64_t bytes = 0, at = address, end;

    for (int64_t id; (id = first_inside(dev, at, last)) >= 0; at = end + 1) {
        const struct memory_region *r = &dev->regions[id];
        end = r->address + (r->size - 1);
        if (r->address < address || end > last)
            return -EINVAL;
        if (guest_region_pinned(dev, (uint32_t)id))
            return -EINPROGRESS;
        bytes += r->size;
        if (end == last)
            break; /* perhaps of all addresses */
    }
    return bytes > INT64_MAX ? INT64_MAX : (int64_t)bytes;
}

/*
 * The protocol has clients unmap exactly what they mapped. But one whose guest has an IOMMU passes
 * on what the guest invalidates: any range, with many regions in it, or none. (QEMU does, at each
 * change of a domain; to refuse would leave memory to the device that the guest took away.) So for
 * what is not one region, the rule is that of VFIO itself (type 1, version 2): all regions inside go,
 * none may be cut in two, and the size that is returned is what was unmapped: perhaps nothing.
 */
static int unmap_range(struct ob_device *dev, uint64_t address, uint64_t size, uint64_t *unmapped)
{
    uint64_t last = address + (size - 1);
    uint32_t file_gone;

    if (size == 0 || last < address)
        return -EINVAL;
    int64_t bytes = mapped_inside(dev, address, last);
    if (bytes < 0)
        return (int)bytes;
    *unmapped = (uint64_t)bytes;
    if (bytes == 0)
        return 0;
    server_touch(dev, &dev->session->regions, sizeof dev->session->regions);
    for (int64_t id; (id = first_inside(dev, address, last)) >= 0;) {
        struct memory_region *r = &dev->regions[id];
        memory_unmap(dev->memory, r->address, r->size, &file_gone);
        SET(dev, r->size, 0);
        dev->session->regions--;
        give_back(dev, (uint32_t)id, file_gone);
    }
    record_memory(dev, 0 - (uint64_t)bytes);
    return 0;
}

int dma_unmap(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    struct vfio_user_dma_unmap unmap = m->unmap;
    int ret = 0;

    bool all = unmap.flags & VFIO_DMA_UNMAP_FLAG_ALL;
    if (all ? guest_all_pinned(dev) : guest_pinned(dev, unmap.address))
        return -EINPROGRESS;
    if (all)
        dma_unmap_all(dev);
    else
        ret = unmap_region(dev, unmap.address, unmap.size);
    if (ret == -ENOENT)
        ret = unmap_range(dev, unmap.address, unmap.size, &unmap.size);
    memcpy(reply->body, &unmap, sizeof unmap);
    reply->size = sizeof unmap;
    return ret;
}

void dma_drop_files(struct ob_device *dev)
{
    while (dev->files_gone_count)
        dev->keeping->drop(dev->keeping->ctx, KEEP_FILE | dev->files_gone[--dev->files_gone_count]);
}

static int recover_region(struct ob_device *dev, uint32_t id, const struct memory_region *r)
{
    if (r->file != MEMORY_NO_FILE && memory_file_fd(dev->memory, r->file) < 0) {
        uint32_t file = r->file;
        int fd = dev->keeping->get(dev->keeping->ctx, KEEP_FILE | file);
        int ret = fd < 0 ? fd : memory_file_add(dev->memory, fd, &file);
        if (ret < 0)
            return ret;
    }
    return memory_map(dev->memory, id, r);
}

/* Numbers between those in use are free. */
static void free_between(struct id_pool *p, const uint8_t *used)
{
    for (uint32_t i = p->next; i-- > 0;)
        if (!used[i])
            ids_give(p, i);
}

int dma_recover(struct ob_device *dev)
{
    uint32_t end = dev->session->regions_end;
    uint8_t *used = calloc(2, WIRE_MAX_DMA_MAPS + 1); /* there is one more number for files */
    uint8_t *used_files = used + WIRE_MAX_DMA_MAPS + 1;
    uint64_t bytes = 0;

    if (!used)
        return -ENOMEM;
    for (uint32_t id = 0; id < end; id++) {
        const struct memory_region *r = &dev->regions[id];
        if (!r->size)
            continue;
        int ret = recover_region(dev, id, r);
        if (ret < 0) {
            server_log(dev, "cannot map guest memory at 0x%llx again: %s",
                       (unsigned long long)r->address, strerror(-ret));
            free(used);
            return ret;
        }
        used[id] = 1;
        bytes += r->size;
        if (r->file != MEMORY_NO_FILE) {
            used_files[r->file] = 1;
            if (r->file >= dev->file_ids.next)
                dev->file_ids.next = r->file + 1;
        }
    }
    record_memory(dev, bytes - dev->facts->memory_bytes);
    dev->region_ids.next = end;
    free_between(&dev->region_ids, used);
    free_between(&dev->file_ids, used_files);
    free(used);
    return 0;
}

/*
 * region.c - what the server says about a region, and what of it can be mapped.
 */
#include "faulty.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_TRY 256u

static struct vfio_region_info info;

static bool inside(uint64_t offset, uint64_t size, uint64_t whole)
{
    return offset <= whole && size <= whole - offset;
}

static void touch(volatile uint8_t *p, uint64_t size)
{
    for (uint64_t i = 0; i < size; i += 4096)
        p[i] = p[i];
}

static void map_area(int fd, uint64_t offset, uint64_t size)
{
    struct stat st;

    if (size == 0 || offset % 4096 || size % 4096)
        give_up("an area that is not made of pages");
    if (!inside(offset, size, info.size) && !fault(FAULT_AREA_BOUNDS))
        give_up("an area outside of its region");
    uint64_t at = info.offset + offset;
    if (at < offset || at > INT64_MAX || at % 4096)
        give_up("an offset that no file has");
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        give_up("a descriptor that is no file");
    bool short_file = !inside(at, size, (uint64_t)st.st_size);
    if (short_file && !fault(FAULT_MAP_FILE))
        give_up("a file that is too short");
    int seals = fcntl(fd, F_GET_SEALS);
    bool can_shrink = seals < 0 || !(seals & F_SEAL_SHRINK);
    if (can_shrink && !fault(FAULT_MAP_SHRINK) && !fault(FAULT_MAP_FILE))
        return; /* it is reached by messages */
    uint8_t *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)at);
    if (p == MAP_FAILED)
        give_up("cannot be mapped");
    if (!short_file && !fault(FAULT_MAP_SHRINK))
        touch(p, size);
    if (fault(FAULT_MAP_SHRINK))
        mapped = p;
}

static volatile uint64_t seen; /* what is read has to be read, though nobody uses it */

static void areas(const struct message *m, uint32_t at, int fd)
{
    struct vfio_region_info_cap_sparse_mmap cap;
    struct vfio_region_sparse_mmap_area area;

    if (!inside(at, sizeof cap, m->size) && !fault(FAULT_CAPS_BOUNDS))
        give_up("a capability that is cut off");
    memcpy(&cap, m->body + at, sizeof cap);
    if (cap.nr_areas > (m->size - at - sizeof cap) / sizeof area && !fault(FAULT_AREAS) &&
        !fault(FAULT_CAPS_BOUNDS))
        give_up("%u areas", cap.nr_areas);
    for (uint32_t i = 0; i < cap.nr_areas; i++) {
        memcpy(&area, m->body + at + sizeof cap + i * sizeof area, sizeof area);
        seen = area.size;
        if (!fault(FAULT_AREAS) || i == 0)
            map_area(fd, area.offset, area.size);
    }
}

static void capabilities(const struct message *m, int fd)
{
    struct vfio_info_cap_header cap;
    unsigned left = 1000;
    bool sparse = false;

    for (uint32_t at = info.flags & VFIO_REGION_INFO_FLAG_CAPS ? info.cap_offset : 0; at;
         at = cap.next) {
        if ((at < sizeof info || !inside(at, sizeof cap, m->size)) && !fault(FAULT_CAPS_BOUNDS))
            give_up("a capability outside of the reply");
        if (left-- == 0 && !fault(FAULT_CAPS_LOOP))
            give_up("capabilities in a loop");
        memcpy(&cap, m->body + at, sizeof cap);
        if (cap.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP && !sparse) {
            sparse = true;
            areas(m, at, fd);
        }
    }
    if (!sparse && info.size)
        map_area(fd, 0, info.size);
}

static uint32_t ask(uint32_t index, uint32_t size, struct message *m)
{
    struct vfio_region_info request = { .argsz = size, .index = index };

    call(&(struct request){ .command = VFIO_USER_DEVICE_GET_REGION_INFO,
                            .body = &request,
                            .size = sizeof request,
                            .least = sizeof info,
                            .most = size,
                            .reply_fds = 1 },
         m);
    memcpy(&info, m->body, sizeof info);
    if (m->h.flags & VFIO_USER_FLAG_ERROR)
        memset(&info, 0, sizeof info);
    else if (info.index != index && !fault(FAULT_ECHO))
        give_up("region %u instead of %u", info.index, index);
    return info.argsz;
}

void region(uint32_t index, struct message *m)
{
    uint32_t size = FIRST_TRY, wanted;

    for (unsigned i = 0; (wanted = ask(index, size, m)) > size; i++) {
        if ((i == 2 || wanted > MOST_DATA) && !fault(FAULT_ARGSZ))
            give_up("info of region %u takes %u bytes", index, wanted);
        if (m->nfds)
            close(m->fds[0]);
        if (!fault(FAULT_ARGSZ))
            size = wanted;
    }
    bool mappable = info.flags & VFIO_REGION_INFO_FLAG_MMAP;
    io_drop_fds(m, mappable);
    if (!mappable)
        return;
    if (m->nfds == 0)
        give_up("region %u comes without a descriptor", index);
    capabilities(m, m->fds[0]);
    close(m->fds[0]);
}

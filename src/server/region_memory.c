/*
 * region_memory.c - a memory file for each region that has areas.
 */
#include "server/region_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

void *ob_region_memory(struct ob_device *dev, unsigned region)
{
    return region < dev->region_count ? dev->region[region].memory : NULL;
}

/* Sealed, so that a client cannot pull the memory away under us. */
/* #syscalls worker: memfd_create ftruncate fcntl */
static int make_file(uint64_t size)
{
    int fd = memfd_create("outboard-region", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        int ret = -errno;
        close(fd);
        return ret;
    }
    return fd;
}

static int open_region(struct ob_device *dev, uint32_t i, bool inherited)
{
    struct region *r = &dev->region[i];
    const struct server_keeping *keeping = dev->keeping;
    int fd = inherited ? keeping->get(keeping->ctx, KEEP_REGION | i) : make_file(r->size);

    if (fd < 0)
        return fd;
    void *p = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED) {
        int ret = -errno;
        close(fd);
        return ret;
    }
    r->fd = fd;
    r->memory = p;
    return inherited || !keeping ? 0 : keeping->put(keeping->ctx, KEEP_REGION | i, fd);
}

int region_memory_open(struct ob_device *dev, bool inherited)
{
    for (uint32_t i = 0; i < dev->region_count; i++) {
        int ret = dev->region[i].areas_count ? open_region(dev, i, inherited) : 0;
        if (ret < 0)
            return ret;
    }
    return 0;
}

void region_memory_close(struct ob_device *dev)
{
    for (uint32_t i = 0; i < dev->region_count; i++) {
        struct region *r = &dev->region[i];
        if (r->memory)
            munmap(r->memory, r->size);
        if (r->fd >= 0)
            close(r->fd);
    }
}

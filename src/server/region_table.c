/*
 * region_table.c - from the plugin's declaration to regions, and memory files for areas.
 */
#include "server/region_table.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

void *ob_bar_memory(struct ob_device *dev, unsigned bar)
{
    return bar < dev->region_count ? dev->region[bar].memory : NULL;
}

static void describe(struct region *r, const struct ob_bar *bar, const struct ob_typed_region *type)
{
    *r = (struct region){ .bar = bar && bar->size ? bar : NULL, .type = type, .fd = -1 };
}

void region_table_describe(struct ob_device *dev)
{
    const struct ob_plugin *plugin = dev->plugin;
    uint32_t n = 0;

    for (; n < VFIO_PCI_NUM_REGIONS; n++)
        describe(&dev->region[n], n < 6 ? &plugin->bar[n] : NULL, NULL);
    for (uint32_t i = 0; i < plugin->regions_count && i < REGIONS_TYPED_MAX; i++, n++)
        describe(&dev->region[n], &plugin->regions[i].region, &plugin->regions[i]);
    dev->region_count = n;
}

/* Sealed, so that a client cannot pull the memory away under us. */
static int make_file(uint64_t size)
{
    int fd = memfd_create("outboard-bar", MFD_CLOEXEC | MFD_ALLOW_SEALING);
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
    int fd = inherited ? keeping->get(keeping->ctx, KEEP_BAR | i) : make_file(r->bar->size);

    if (fd < 0)
        return fd;
    void *p = mmap(NULL, r->bar->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED) {
        int ret = -errno;
        close(fd);
        return ret;
    }
    r->fd = fd;
    r->memory = p;
    return inherited || !keeping ? 0 : keeping->put(keeping->ctx, KEEP_BAR | i, fd);
}

int region_table_open(struct ob_device *dev, bool inherited)
{
    for (uint32_t i = 0; i < dev->region_count; i++) {
        const struct ob_bar *bar = dev->region[i].bar;
        int ret = bar && bar->areas_count ? open_region(dev, i, inherited) : 0;
        if (ret < 0)
            return ret;
    }
    return 0;
}

void region_table_close(struct ob_device *dev)
{
    for (uint32_t i = 0; i < dev->region_count; i++) {
        struct region *r = &dev->region[i];
        if (r->memory)
            munmap(r->memory, r->bar->size);
        if (r->fd >= 0)
            close(r->fd);
    }
}

/*
 * failed.c - see failed.h.
 */
#include "worker/failed.h"

#include <string.h>

static int read_ones(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    (void)dev;
    (void)at;
    memset(buf, 0xff, n);
    return 0;
}

static int write_nothing(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    (void)dev;
    (void)at;
    (void)buf;
    (void)n;
    return 0;
}

void failed_plugin(struct ob_plugin *p, const struct ob_plugin *of)
{
    *p = *of;
    p->open = p->start = NULL;
    p->close = p->irq_changed = p->memory_changed = p->work = p->committed = NULL;
    p->reset = NULL;
    p->timer = NULL;
    p->dma_done = NULL;
    p->pending = NULL;
    p->stop = NULL;
    p->loaded = NULL;
}

/* Config space stays: the framework serves it, not the device. */
void failed_regions(struct ob_device *dev)
{
    for (uint32_t i = 0; i < dev->region_count; i++) {
        if (dev->region[i].read)
            dev->region[i].read = read_ones;
        if (dev->region[i].write)
            dev->region[i].write = write_nothing;
    }
}

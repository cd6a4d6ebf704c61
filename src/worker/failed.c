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

struct ob_plugin plugin_failed(const struct ob_plugin *of)
{
    struct ob_plugin p = {
        .name = of->name,
        .summary = of->summary,
        .options = of->options,
        .pci = of->pci,
        .irq = of->irq,
        .state = of->state,
        .timers = of->timers,
        .dmas = of->dmas,
    };

    for (int i = 0; i < 6; i++) {
        p.bar[i] = of->bar[i];
        if (of->bar[i].size) {
            p.bar[i].read = read_ones;
            p.bar[i].write = write_nothing;
        }
    }
    return p;
}

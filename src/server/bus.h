/*
 * bus.h - what a device's bus adds to what every device has.
 *
 * Every device has regions and interrupts by number (struct region, struct irq_type in device.h). A
 * bus says which these are, from the plugin's declaration for it. PCI adds config space, and with it
 * messages and the bus master bit (pci/); a platform device has names instead (platform.c).
 */
#ifndef SERVER_BUS_H
#define SERVER_BUS_H

#include "server/info.h"

struct bus {
    const char *name;     /* in bus=NAME */
    uint32_t flags;       /* VFIO_DEVICE_FLAGS_* */
    bool (*declared)(const struct ob_plugin *plugin);
    /* 0, or -1 with a sentence in `why`. */
    int (*check)(const struct ob_plugin *plugin, char *why, size_t space);
    /* Fills in the device's regions and interrupts. 0 or -errno. */
    int (*describe)(struct ob_device *dev);
    /* Its own part of a reset, inside a step. NULL: has none. */
    void (*reset)(struct ob_device *dev);
    /* Is the device allowed to reach guest memory? NULL: always. */
    bool (*may_dma)(const struct ob_device *dev);
    /* Adds a capability of its own to a region's info. NULL: has none. */
    void (*region_capability)(const struct ob_device *dev, uint32_t region, struct capabilities *c);
};

extern const struct bus bus_pci, bus_platform;

/* The nth bus that a plugin is declared for, NULL at the end. The first is what it is on unasked. */
const struct bus *bus_of(const struct ob_plugin *plugin, unsigned nth);

/* The option bus=, for a plugin that can be on several; else NULL. */
const struct ob_option *bus_option(const struct ob_plugin *plugin);

/* The bus by the value of that option, NULL: the plugin is not declared for one of this name. */
const struct bus *bus_find(const struct ob_plugin *plugin, const char *name);

/* Checks of the declaration that are the same on every bus: areas of a region. */
int bus_check_areas(const struct ob_area *areas, unsigned count, uint64_t size, const char *region,
                    char *why, size_t space);

static inline bool bus_may_dma(const struct ob_device *dev)
{
    return !dev->bus->may_dma || dev->bus->may_dma(dev);
}

#endif

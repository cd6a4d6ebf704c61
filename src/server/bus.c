/*
 * bus.c - which bus a device is on.
 */
#include "server/bus.h"

#include <stdio.h>
#include <string.h>

static const struct bus *const all[] = { &bus_pci, &bus_platform };

#define BUSES (sizeof all / sizeof *all)

const struct bus *bus_of(const struct ob_plugin *plugin, unsigned nth)
{
    for (unsigned i = 0; i < BUSES; i++)
        if (all[i]->declared(plugin) && nth-- == 0)
            return all[i];
    return NULL;
}

const struct ob_option *bus_option(const struct ob_plugin *plugin)
{
    static const struct ob_option option = { "bus", "pci|platform", "what the device is attached to",
                                             "pci", 0 };
    return bus_of(plugin, 1) ? &option : NULL;
}

const struct bus *bus_find(const struct ob_plugin *plugin, const char *name)
{
    const struct bus *bus;

    for (unsigned i = 0; (bus = bus_of(plugin, i)); i++)
        if (strcmp(bus->name, name) == 0)
            return bus;
    return NULL;
}

int bus_check_areas(const struct ob_area *areas, unsigned count, uint64_t size, const char *region,
                    char *why, size_t space)
{
    for (unsigned i = 0; i < count; i++) {
        const struct ob_area *a = &areas[i];
        if (a->offset % 4096 || a->size % 4096 || !a->size || a->size > size ||
            a->offset > size - a->size) {
            snprintf(why, space, "%s: area %u must be whole pages inside it", region, i);
            return -1;
        }
        if (i && a->offset < areas[i - 1].offset + areas[i - 1].size) {
            snprintf(why, space, "%s: areas must be in order, and apart", region);
            return -1;
        }
    }
    if (count > 64) {
        snprintf(why, space, "%s: more than 64 areas", region);
        return -1;
    }
    return 0;
}

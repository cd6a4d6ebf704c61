/*
 * platform.c - devices that sit at an address, and not on PCI: regions and interrupts by number, each
 * index of interrupts with one in it, as Linux's VFIO has them (drivers/vfio/platform).
 *
 * What a devicetree would say of the device goes with each of its regions: VFIO_USER_REGION_INFO_CAP_PLATFORM
 * in vfio_user.h.
 */
#include "server/bus.h"
#include "server/ioevent.h"

#include <outboard/vfio_user.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_SIZE 32u /* with its end; a devicetree allows no longer ones */
#define MAX_COMPATIBLE 16u

static bool declared(const struct ob_plugin *plugin)
{
    return plugin->platform.compatible;
}

/* ---- The declaration ------------------------------------------------------------------------- */

#define FAIL(...)                         \
    do {                                  \
        snprintf(why, space, __VA_ARGS__); \
        return -1;                        \
    } while (0)

static bool is_name(const char *name)
{
    if (!name || !name[0] || strlen(name) >= NAME_MAX_SIZE)
        return false;
    for (; *name; name++)
        if (*name <= ' ' || *name > '~')
            return false;
    return true;
}

static int check_region(const struct ob_platform *p, unsigned i, char *why, size_t space)
{
    const struct ob_platform_region *r = &p->regions[i];
    char what[64];

    if (!is_name(r->name))
        FAIL("region %u: a name of up to %u printable characters is needed", i, NAME_MAX_SIZE - 1);
    for (unsigned j = 0; j < i; j++)
        if (strcmp(p->regions[j].name, r->name) == 0)
            FAIL("region %s: there are two", r->name);
    if (!r->size || r->size > UINT64_C(1) << 40)
        FAIL("region %s: size must be 1 to 2^40", r->name);
    snprintf(what, sizeof what, "region %s", r->name);
    if (ioevent_check(r->ioevents, r->ioevents_count, r->size, what, why, space) < 0)
        return -1;
    return bus_check_areas(r->areas, r->areas_count, r->size, what, why, space);
}

static int check_irq(const struct ob_platform *p, unsigned i, char *why, size_t space)
{
    if (!is_name(p->irqs[i].name))
        FAIL("interrupt %u: a name of up to %u printable characters is needed", i, NAME_MAX_SIZE - 1);
    for (unsigned j = 0; j < i; j++)
        if (strcmp(p->irqs[j].name, p->irqs[i].name) == 0)
            FAIL("interrupt %s: there are two", p->irqs[i].name);
    return 0;
}

static int check(const struct ob_plugin *plugin, char *why, size_t space)
{
    const struct ob_platform *p = &plugin->platform;
    unsigned n = 0;

    for (; p->compatible[n] && n <= MAX_COMPATIBLE; n++)
        if (!is_name(p->compatible[n]))
            FAIL("compatible: \"%s\" is not 1 to %u printable characters", p->compatible[n],
                 NAME_MAX_SIZE - 1);
    if (n == 0 || n > MAX_COMPATIBLE)
        FAIL("compatible: 1 to %u names are needed", MAX_COMPATIBLE);
    if (!p->regions_count || p->regions_count > PLATFORM_REGIONS_MAX || p->irqs_count > IRQ_LINES)
        FAIL("a platform device has 1 to %u regions and up to %u interrupts", PLATFORM_REGIONS_MAX,
             IRQ_LINES);
    for (unsigned i = 0; i < p->regions_count; i++)
        if (check_region(p, i, why, space) < 0)
            return -1;
    for (unsigned i = 0; i < p->irqs_count; i++)
        if (check_irq(p, i, why, space) < 0)
            return -1;
    return 0;
}

/* ---- What it is to the framework --------------------------------------------------------------- */

static int describe(struct ob_device *dev)
{
    const struct ob_platform *p = &dev->plugin->platform;

    dev->region_count = p->regions_count;
    for (unsigned i = 0; i < p->regions_count; i++) {
        const struct ob_platform_region *r = &p->regions[i];
        bool areas = r->areas_count;
        dev->region[i] = (struct region){
            .size = r->size,
            .flags = (r->read || areas ? VFIO_REGION_INFO_FLAG_READ : 0) |
                     (r->write || areas ? VFIO_REGION_INFO_FLAG_WRITE : 0),
            .widths = r->widths,
            .read = r->read,
            .write = r->write,
            .ioevents = r->ioevents,
            .ioevents_count = r->ioevents_count,
            .areas = r->areas,
            .areas_count = r->areas_count,
            .fd = -1,
        };
    }
    dev->irq_types = dev->lines = p->irqs_count;
    for (unsigned i = 0; i < p->irqs_count; i++)
        dev->irq_type[i] = (struct irq_type){
            .first = i,
            .count = 1,
            .flags = VFIO_IRQ_INFO_EVENTFD |
                     (p->irqs[i].edge ? 0 : VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED),
        };
    return 0;
}

/* ---- What it is to a client -------------------------------------------------------------------- */

/* All three: the bytes that it takes, ends included, which are written if there is a place for them. */
static uint32_t put_name(uint8_t *to, const char *name)
{
    uint32_t size = (uint32_t)strlen(name) + 1;
    if (to)
        memcpy(to, name, size);
    return size;
}

static uint32_t put_compatible(uint8_t *to, const struct ob_platform *p)
{
    uint32_t size = 0;
    for (unsigned i = 0; p->compatible[i]; i++)
        size += put_name(to ? to + size : NULL, p->compatible[i]);
    return size;
}

static uint32_t put_irq_names(uint8_t *to, const struct ob_platform *p)
{
    uint32_t size = 0;
    for (unsigned i = 0; i < p->irqs_count; i++)
        size += put_name(to ? to + size : NULL, p->irqs[i].name);
    return size;
}

static void capability(const struct ob_device *dev, uint32_t region, struct capabilities *c)
{
    const struct ob_platform *p = &dev->plugin->platform;
    const char *name = p->regions[region].name;
    const uint32_t sizes[4] = { put_name(NULL, name), put_compatible(NULL, p), put_irq_names(NULL, p), 0 };
    uint32_t size = (uint32_t)sizeof(struct vfio_user_region_info_cap_platform) + sizes[0] + sizes[1] +
                    sizes[2];

    uint8_t *at = info_add_capability(c, VFIO_USER_REGION_INFO_CAP_PLATFORM, (size + 7) / 8 * 8);
    memcpy(at, sizes, sizeof sizes);
    at += sizeof sizes;
    at += put_name(at, name);
    at += put_compatible(at, p);
    put_irq_names(at, p);
}

const struct bus bus_platform = {
    .name = "platform",
    .flags = VFIO_DEVICE_FLAGS_PLATFORM,
    .declared = declared,
    .check = check,
    .describe = describe,
    .region_capability = capability,
};

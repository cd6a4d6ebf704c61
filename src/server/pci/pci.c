/*
 * pci.c - the PCI face of a device: BARs and config space as regions, INTx and messages as interrupts.
 */
#include "server/bus.h"
#include "server/ioevent.h"
#include "server/pci/config.h"
#include "server/pci/msix.h"

#include <outboard/vfio_user.h>
#include <stdio.h>

static bool declared(const struct ob_plugin *plugin)
{
    return plugin->pci.vendor || !plugin->platform.compatible;
}

/* ---- The declaration ------------------------------------------------------------------------- */

#define FAIL(...)                         \
    do {                                  \
        snprintf(why, space, __VA_ARGS__); \
        return -1;                        \
    } while (0)

static bool power_of_two(uint64_t n)
{
    return n && (n & (n - 1)) == 0;
}

static int check_bar(const struct ob_plugin *p, int i, char *why, size_t space)
{
    const struct ob_bar *bar = &p->bar[i];
    char what[16];

    if (!bar->size)
        return 0;
    if (!power_of_two(bar->size) || bar->size < (bar->kind == OB_BAR_IO ? 4u : 16u))
        FAIL("BAR %d: size must be a power of two, at least 4 (I/O) or 16 (memory)", i);
    if (bar->kind == OB_BAR_IO ? bar->size > 256 : bar->kind == OB_BAR_MEM32 && bar->size > 1u << 31)
        FAIL("BAR %d: too large for its kind", i);
    if (bar->kind == OB_BAR_MEM64 && (i == 5 || p->bar[i + 1].size))
        FAIL("BAR %d: a 64-bit BAR takes the next one as well", i);
    if (bar->kind == OB_BAR_IO && bar->areas_count)
        FAIL("BAR %d: areas must be in memory", i);
    snprintf(what, sizeof what, "BAR %d", i);
    if (ioevent_check(bar->ioevents, bar->ioevents_count, bar->size, what, why, space) < 0)
        return -1;
    return bus_check_areas(bar->areas, bar->areas_count, bar->size, what, why, space);
}

/* A client that maps these would change them unseen. */
static bool in_an_area(const struct ob_bar *bar, uint64_t at, uint64_t size)
{
    for (unsigned a = 0; a < bar->areas_count; a++)
        if (bar->areas[a].offset < at + size && at < bar->areas[a].offset + bar->areas[a].size)
            return true;
    return false;
}

static int check_irqs(const struct ob_plugin *p, char *why, size_t space)
{
    const struct ob_msix *x = &p->irq.msix;
    uint64_t table = x->count * 16u, pba = (x->count + 63u) / 64 * 8;

    if (p->irq.msi && (!power_of_two(p->irq.msi) || p->irq.msi > 32))
        FAIL("MSI: vectors must be 1, 2, 4, 8, 16 or 32");
    if (!x->count)
        return 0;
    if (x->count > 2048 || x->bar > 5 || p->bar[x->bar].kind == OB_BAR_IO || x->table % 8 || x->pba % 8)
        FAIL("MSI-X: at most 2048 vectors, in a memory BAR, at multiples of 8");
    uint64_t size = p->bar[x->bar].size;
    if (x->table + table > size || x->pba + pba > size ||
        (x->table < x->pba + pba && x->pba < x->table + table))
        FAIL("MSI-X: table and pending bits must lie in BAR %u, apart", x->bar);
    if (in_an_area(&p->bar[x->bar], x->table, table) || in_an_area(&p->bar[x->bar], x->pba, pba))
        FAIL("MSI-X: table and pending bits must not lie in an area of BAR %u", x->bar);
    return 0;
}

static int check_typed_regions(const struct ob_plugin *p, char *why, size_t space)
{
    char what[32];

    if (p->regions_count > REGIONS_TYPED_MAX)
        FAIL("at most %u typed regions", REGIONS_TYPED_MAX);
    for (unsigned i = 0; i < p->regions_count; i++) {
        const struct ob_bar *r = &p->regions[i].region;
        snprintf(what, sizeof what, "typed region %u", i);
        if (!r->size || r->size > INT64_MAX || r->kind == OB_BAR_IO)
            FAIL("%s: must have a size, and not be of I/O ports", what);
        if (bus_check_areas(r->areas, r->areas_count, r->size, what, why, space) < 0 ||
            ioevent_check(r->ioevents, r->ioevents_count, r->size, what, why, space) < 0)
            return -1;
    }
    return 0;
}

static int check(const struct ob_plugin *p, char *why, size_t space)
{
    if (p->pci.class_code > 0xffffff)
        FAIL("class code: 24 bits");
    for (unsigned i = 0; i < p->pci.vendor_capabilities_count; i++)
        if (p->pci.vendor_capabilities[i].size > 240)
            FAIL("vendor capability %u: more than 240 bytes", i);
    for (int i = 0; i < 6; i++)
        if (check_bar(p, i, why, space) < 0)
            return -1;
    if (check_typed_regions(p, why, space) < 0)
        return -1;
    return check_irqs(p, why, space);
}

/* ---- What it is to the framework --------------------------------------------------------------- */

#define READ_WRITE (VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE)

static struct region region_of(const struct ob_bar *bar)
{
    return (struct region){
        .size = bar->size,
        .flags = READ_WRITE,
        .widths = bar->widths,
        .read = bar->read,
        .write = bar->write,
        .ioevents = bar->ioevents,
        .ioevents_count = bar->ioevents_count,
        .ports = bar->kind == OB_BAR_IO,
        .areas = bar->areas,
        .areas_count = bar->areas_count,
        .fd = -1,
    };
}

static void describe_regions(struct ob_device *dev)
{
    const struct ob_plugin *plugin = dev->plugin;
    struct region *r = dev->region;

    for (unsigned i = 0; i < 6; i++)
        if (plugin->bar[i].size)
            r[i] = region_of(&plugin->bar[i]);
    if (plugin->irq.msix.count)
        r[plugin->irq.msix.bar].own = msix_access;
    r[VFIO_PCI_CONFIG_REGION_INDEX] = (struct region){
        .size = dev->config_size, .flags = READ_WRITE, .own = config_access, .fd = -1,
    };
    dev->region_count = VFIO_PCI_NUM_REGIONS;
    for (unsigned i = 0; i < plugin->regions_count; i++) {
        r[dev->region_count] = region_of(&plugin->regions[i].region);
        r[dev->region_count++].type = &plugin->regions[i];
    }
}

static void describe_irqs(struct ob_device *dev)
{
    const struct ob_irqs *irq = &dev->plugin->irq;
    const struct irq_type types[VFIO_PCI_NUM_IRQS] = {
        [VFIO_PCI_INTX_IRQ_INDEX] = { IRQ_INTX, irq->intx, VFIO_IRQ_INFO_AUTOMASKED },
        [VFIO_PCI_MSI_IRQ_INDEX] = { IRQ_MSI, irq->msi, 0 },
        [VFIO_PCI_MSIX_IRQ_INDEX] = { IRQ_MSIX, irq->msix.count, 0 },
        [VFIO_PCI_ERR_IRQ_INDEX] = { IRQ_ERR, irq->err, 0 },
        [VFIO_PCI_REQ_IRQ_INDEX] = { IRQ_REQ, irq->req, 0 },
    };

    dev->lines = irq->intx;
    dev->irq_types = VFIO_PCI_NUM_IRQS;
    for (unsigned i = 0; i < VFIO_PCI_NUM_IRQS; i++) {
        dev->irq_type[i] = types[i];
        dev->irq_type[i].flags |= VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE;
    }
}

static int describe(struct ob_device *dev)
{
    int ret = config_describe(dev);

    describe_regions(dev);
    describe_irqs(dev);
    return ret;
}

static void reset(struct ob_device *dev)
{
    config_reset(dev);
    msix_reset(dev);
}

const struct bus bus_pci = {
    .name = "pci",
    .flags = VFIO_DEVICE_FLAGS_PCI,
    .declared = declared,
    .check = check,
    .describe = describe,
    .reset = reset,
    .may_dma = config_bus_master,
};

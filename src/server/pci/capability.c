/*
 * capability.c - power management, MSI, MSI-X, PCI Express and vendor-specific capabilities.
 *
 * One walk lays them out, in that order, from 0x40 on; it is done once for the offsets and writable
 * bits, and at each reset for the contents.
 */
#include "server/pci/capability.h"
#include "server/pci/le.h"

#include <linux/pci_regs.h>
#include <string.h>

#define FIRST 0x40u
#define END 0x100u
#define EXPRESS_SIZE 0x3cu

struct walk {
    uint8_t *config; /* NULL when only the mask is wanted */
    uint8_t *mask;   /* NULL when only the contents are */
    unsigned at;
    uint8_t *link; /* where the offset of the next capability goes */
    bool full;
};

/* Offset of a new capability of this size, 0 when there is no room. */
static uint16_t add(struct walk *w, uint8_t id, unsigned size)
{
    unsigned at = w->at;

    if (at + size > END) {
        w->full = true;
        return 0;
    }
    if (w->config) {
        *w->link = (uint8_t)at;
        w->config[at] = id;
        w->link = &w->config[at + PCI_CAP_LIST_NEXT];
    }
    w->at = (at + size + 3) / 4 * 4;
    return (uint16_t)at;
}

static void power_management(struct walk *w)
{
    uint16_t at = add(w, PCI_CAP_ID_PM, PCI_PM_SIZEOF);
    if (at && w->config) {
        put16(w->config + at + PCI_PM_PMC, 3); /* version 1.2: D0 and D3hot */
        put16(w->config + at + PCI_PM_CTRL, PCI_PM_CTRL_NO_SOFT_RESET);
    }
    if (at && w->mask)
        put16(w->mask + at + PCI_PM_CTRL, PCI_PM_CTRL_STATE_MASK);
}

static uint16_t msi(struct walk *w, unsigned vectors)
{
    uint16_t at = add(w, PCI_CAP_ID_MSI, 14);
    uint16_t log2 = (uint16_t)__builtin_ctz(vectors);
    if (at && w->config)
        put16(w->config + at + PCI_MSI_FLAGS, (uint16_t)(PCI_MSI_FLAGS_64BIT | log2 << 1));
    if (at && w->mask) {
        put16(w->mask + at + PCI_MSI_FLAGS, PCI_MSI_FLAGS_ENABLE | PCI_MSI_FLAGS_QSIZE);
        put32(w->mask + at + PCI_MSI_ADDRESS_LO, 0xfffffffc);
        put32(w->mask + at + PCI_MSI_ADDRESS_HI, 0xffffffff);
        put16(w->mask + at + PCI_MSI_DATA_64, 0xffff);
    }
    return at;
}

static uint16_t msix(struct walk *w, const struct ob_msix *m)
{
    uint16_t at = add(w, PCI_CAP_ID_MSIX, PCI_CAP_MSIX_SIZEOF);
    if (at && w->config) {
        put16(w->config + at + PCI_MSIX_FLAGS, (uint16_t)(m->count - 1));
        put32(w->config + at + PCI_MSIX_TABLE, m->table | m->bar);
        put32(w->config + at + PCI_MSIX_PBA, m->pba | m->bar);
    }
    if (at && w->mask)
        put16(w->mask + at + PCI_MSIX_FLAGS, PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL);
    return at;
}

static uint16_t express(struct walk *w)
{
    uint16_t at = add(w, PCI_CAP_ID_EXP, EXPRESS_SIZE);
    if (at && w->config) {
        uint8_t *c = w->config + at;
        put16(c + PCI_EXP_FLAGS, 2 | PCI_EXP_TYPE_ENDPOINT << 4);
        put32(c + PCI_EXP_DEVCAP, PCI_EXP_DEVCAP_RBER | PCI_EXP_DEVCAP_FLR);
        put16(c + PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_RELAX_EN | PCI_EXP_DEVCTL_NOSNOOP_EN);
        put32(c + PCI_EXP_LNKCAP, PCI_EXP_LNKCAP_SLS_2_5GB | 1 << 4);
        put16(c + PCI_EXP_LNKSTA, PCI_EXP_LNKSTA_CLS_2_5GB | PCI_EXP_LNKSTA_NLW_X1);
    }
    if (at && w->mask) {
        put16(w->mask + at + PCI_EXP_DEVCTL, 0x7fff); /* all but Initiate FLR, which reads as 0 */
        put16(w->mask + at + PCI_EXP_LNKCTL, PCI_EXP_LNKCTL_ASPMC | PCI_EXP_LNKCTL_RCB |
                                                 PCI_EXP_LNKCTL_CCC | PCI_EXP_LNKCTL_ES);
    }
    return at;
}

static void vendor(struct walk *w, const struct ob_vendor_capability *v)
{
    uint16_t at = add(w, PCI_CAP_ID_VNDR, v->size + 3u);
    if (at && w->config) {
        w->config[at + 2] = (uint8_t)(v->size + 3);
        memcpy(w->config + at + 3, v->data, v->size);
    }
}

static void walk(struct ob_device *dev, struct walk *w)
{
    const struct ob_plugin *plugin = dev->plugin;

    if (plugin->pci.power_management)
        power_management(w);
    if (plugin->irq.msi)
        dev->cap_msi = msi(w, plugin->irq.msi);
    if (plugin->irq.msix.count)
        dev->cap_msix = msix(w, &plugin->irq.msix);
    if (plugin->pci.express)
        dev->cap_express = express(w);
    for (unsigned i = 0; i < plugin->pci.vendor_capabilities_count; i++)
        vendor(w, &plugin->pci.vendor_capabilities[i]);
}

int capability_describe(struct ob_device *dev)
{
    struct walk w = { .mask = dev->config_mask, .at = FIRST };
    walk(dev, &w);
    return w.full ? -ENOSPC : 0;
}

void capability_reset(struct ob_device *dev)
{
    struct walk w = { .config = dev->config, .at = FIRST, .link = &dev->config[PCI_CAPABILITY_LIST] };
    walk(dev, &w);
    if (w.at != FIRST)
        dev->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
}

bool capability_function_reset(const struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    uint64_t byte = dev->cap_express + PCI_EXP_DEVCTL + 1u;
    return at <= byte && byte < at + n &&
           (((const uint8_t *)buf)[byte - at] & (PCI_EXP_DEVCTL_BCR_FLR >> 8));
}

/*
 * msix.c - the MSI-X table and pending bits.
 *
 * A client that programs its interrupts by SET_IRQS may never write here (QEMU keeps the table to
 * itself), so a vector whose control word was never written is not masked by it.
 */
#include "server/pci/msix.h"
#include "server/irq.h"
#include "server/region.h"

#include <string.h>

static void table_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    server_touch(dev, dev->irqs->msix_table + at, n);
    memcpy(dev->irqs->msix_table + at, buf, n);
    for (uint64_t vector = at / 16; vector * 16 + 12 < at + n; vector++) {
        if (vector * 16 + 12 < at)
            continue;
        if (dev->irqs->msix_table[vector * 16 + 12] & 1)
            irq_mask(dev, IRQ_MSIX + (uint32_t)vector);
        else
            irq_unmask(dev, IRQ_MSIX + (uint32_t)vector);
    }
}

static void pba_read(const struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    uint8_t *bytes = buf;
    for (size_t i = 0; i < n; i++) {
        bytes[i] = 0;
        for (unsigned bit = 0; bit < 8; bit++) {
            uint64_t vector = (at + i) * 8 + bit;
            if (vector < dev->plugin->irq.msix.count &&
                (dev->irqs->irq[IRQ_MSIX + vector] & IRQ_PENDING))
                bytes[i] |= (uint8_t)(1u << bit);
        }
    }
}

int msix_access(struct ob_device *dev, uint64_t at, void *in, const void *out, size_t n)
{
    const struct ob_msix *msix = &dev->plugin->irq.msix;
    uint64_t table_size = msix->count * 16u, pba_size = (msix->count + 63u) / 64 * 8;

    if (region_within(at, n, msix->table, table_size)) {
        if (in)
            memcpy(in, dev->irqs->msix_table + (at - msix->table), n);
        else
            table_write(dev, at - msix->table, out, n);
        return 1;
    }
    if (region_within(at, n, msix->pba, pba_size)) {
        if (in)
            pba_read(dev, at - msix->pba, in, n);
        return 1; /* pending bits are not for writing */
    }
    bool half = region_touches(at, n, msix->table, table_size) ||
                region_touches(at, n, msix->pba, pba_size);
    return half ? -EINVAL : 0;
}

void msix_reset(struct ob_device *dev)
{
    for (uint32_t i = 0; i < dev->plugin->irq.msix.count; i++) {
        uint8_t *entry = &dev->irqs->msix_table[i * 16];
        server_touch(dev, entry, 16);
        memset(entry, 0, 16);
        entry[12] = 1; /* Mask, as PCI has it after a reset */
    }
}

/*
 * irq.c - raising interrupts, masking them, signalling them.
 *
 * INTx is a level: it is signalled when it rises and nobody masked it, and it masks itself by that
 * (VFIO_IRQ_INFO_AUTOMASKED). The client unmasks after its end of interrupt; if the level is still
 * high, it is signalled again. Messages are events: a masked one stays pending.
 */
#include "server/irq.h"
#include "server/config.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

static uint8_t *flags_of(struct ob_device *dev, uint32_t irq)
{
    server_touch(dev, &dev->irqs->irq[irq], 1);
    return &dev->irqs->irq[irq];
}

static void signal_later(struct ob_device *dev, uint32_t irq)
{
    *flags_of(dev, irq) |= IRQ_SIGNAL;
    SET(dev, dev->irqs->signals, 1);
}

static void mask_event(struct ob_device *dev)
{
    if (!dev->irqs->intx_mask_event)
        return;
    SET(dev, dev->irqs->signal_mask_event, 1);
    SET(dev, dev->irqs->signals, 1);
}

void irq_look_again(struct ob_device *dev)
{
    uint8_t flags = dev->irqs->irq[IRQ_INTX];
    if (!dev->irqs->intx_level || !(flags & IRQ_TRIGGER) || (flags & IRQ_MASKED) ||
        config_intx_disabled(dev))
        return;
    *flags_of(dev, IRQ_INTX) |= IRQ_MASKED;
    signal_later(dev, IRQ_INTX);
    mask_event(dev);
}

void ob_intx(struct ob_device *dev, bool level)
{
    if (!dev->plugin->irq.intx || dev->irqs->intx_level == level)
        return;
    SET(dev, dev->irqs->intx_level, level);
    irq_look_again(dev);
}

static bool message_masked(const struct ob_device *dev, uint32_t irq)
{
    return (dev->irqs->irq[irq] & IRQ_MASKED) || (irq >= IRQ_MSIX && config_msix_masked(dev));
}

static void raise_message(struct ob_device *dev, uint32_t irq)
{
    if (!(dev->irqs->irq[irq] & IRQ_TRIGGER))
        return;
    if (message_masked(dev, irq))
        *flags_of(dev, irq) |= IRQ_PENDING;
    else
        signal_later(dev, irq);
}

/* A message that waited behind a mask goes out when the mask is gone. */
static void release_pending(struct ob_device *dev, uint32_t irq)
{
    if (!(dev->irqs->irq[irq] & IRQ_PENDING) || message_masked(dev, irq))
        return;
    *flags_of(dev, irq) &= (uint8_t)~IRQ_PENDING;
    raise_message(dev, irq);
}

unsigned ob_vectors(struct ob_device *dev)
{
    return dev->irqs->msix_vectors ? dev->plugin->irq.msix.count
           : dev->irqs->msi_vectors ? dev->plugin->irq.msi
                                    : 0;
}

void ob_message(struct ob_device *dev, unsigned vector)
{
    if (dev->irqs->msix_vectors) {
        if (vector < dev->plugin->irq.msix.count)
            raise_message(dev, IRQ_MSIX + vector);
    } else if (vector < dev->plugin->irq.msi) {
        raise_message(dev, IRQ_MSI + vector);
    }
}

void ob_error_irq(struct ob_device *dev)
{
    raise_message(dev, IRQ_ERR);
}

void ob_request_irq(struct ob_device *dev)
{
    raise_message(dev, IRQ_REQ);
}

void irq_msix_unmasked(struct ob_device *dev)
{
    for (uint32_t i = 0; i < dev->plugin->irq.msix.count; i++)
        release_pending(dev, IRQ_MSIX + i);
}

void irq_mask(struct ob_device *dev, uint32_t irq)
{
    if (dev->irqs->irq[irq] & IRQ_MASKED)
        return;
    *flags_of(dev, irq) |= IRQ_MASKED;
    if (irq == IRQ_INTX)
        mask_event(dev);
}

void irq_unmask(struct ob_device *dev, uint32_t irq)
{
    *flags_of(dev, irq) &= (uint8_t)~IRQ_MASKED;
    if (irq == IRQ_INTX)
        irq_look_again(dev);
    else
        release_pending(dev, irq);
}

void irq_trigger(struct ob_device *dev, uint32_t irq)
{
    if (dev->irqs->irq[irq] & IRQ_TRIGGER)
        signal_later(dev, irq);
}

void irq_reset(struct ob_device *dev)
{
    struct shared_irqs *irqs = dev->irqs;

    SET(dev, irqs->intx_level, 0);
    for (uint32_t i = 0; i < IRQ_COUNT; i++)
        if (irqs->irq[i] & (IRQ_PENDING | IRQ_SIGNAL | IRQ_MASKED))
            *flags_of(dev, i) &= IRQ_TRIGGER;
    for (uint32_t i = 0; i < dev->plugin->irq.msix.count; i++) {
        uint8_t *entry = &irqs->msix_table[i * 16];
        server_touch(dev, entry, 16);
        memset(entry, 0, 16);
        entry[12] = 1; /* Mask, as PCI has it after a reset */
    }
}

/* ---- The MSI-X table --------------------------------------------------------------------------
 *
 * A client that programs its interrupts by SET_IRQS may never write here (QEMU keeps the table to
 * itself), so a vector whose control word was never written is not masked by it.
 */

void irq_table_read(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    memcpy(buf, dev->irqs->msix_table + at, n);
}

void irq_table_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
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

void irq_pba_read(struct ob_device *dev, uint64_t at, void *buf, size_t n)
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

/* ---- After the step ---------------------------------------------------------------------------- */

/* Writes to an eventfd whose counter is full would wait; the client that filled it loses nothing. */
static void signal_eventfd(struct ob_device *dev, int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    const uint64_t one = 1;

    if (fd < 0 || poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
        return;
    effect_write_plain(&dev->block, fd, &one, sizeof one);
    dev->session->interrupts++;
}

static void flush_range(struct ob_device *dev, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        if (!(dev->irqs->irq[i] & IRQ_SIGNAL))
            continue;
        signal_eventfd(dev, dev->irq_fd[i]);
        dev->irqs->irq[i] &= (uint8_t)~IRQ_SIGNAL;
    }
}

void irq_flush(struct ob_device *dev)
{
    if (!dev->irqs->signals)
        return;
    flush_range(dev, IRQ_INTX, 1);
    flush_range(dev, IRQ_MSI, dev->plugin->irq.msi);
    flush_range(dev, IRQ_MSIX, dev->plugin->irq.msix.count);
    flush_range(dev, IRQ_ERR, 2);
    if (dev->irqs->signal_mask_event) {
        signal_eventfd(dev, dev->intx_mask_fd);
        dev->irqs->signal_mask_event = 0;
    }
    block_store(&dev->irqs->signals, 0);
}

/*
 * irq.c - raising interrupts, masking them, signalling them.
 *
 * INTx is a line with a level, and so are those of a platform device that are not edges: it is
 * signalled when it rises and nobody masked it, and it masks itself by that (VFIO_IRQ_INFO_AUTOMASKED).
 * The client unmasks after its end of interrupt; if the level is still high, it is signalled again.
 * Messages and edges are events: a masked one stays pending.
 *
 * What config space says is asked of every device: where there is none it is zero, and masks nothing.
 */
#include "server/irq.h"
#include "server/pci/config.h"
#include "server/record.h"

#include <poll.h>

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

static void mask_event(struct ob_device *dev, uint32_t line)
{
    if (!dev->irqs->mask_event[line])
        return;
    SET(dev, dev->irqs->signal_mask_event[line], 1);
    SET(dev, dev->irqs->signals, 1);
}

void irq_look_again(struct ob_device *dev, uint32_t line)
{
    uint8_t flags = dev->irqs->irq[line];
    if (!dev->irqs->level[line] || !(flags & IRQ_TRIGGER) || (flags & IRQ_MASKED) ||
        config_intx_disabled(dev) || server_stopped(dev))
        return;
    *flags_of(dev, line) |= IRQ_MASKED;
    signal_later(dev, line);
    mask_event(dev, line);
}

static bool message_masked(const struct ob_device *dev, uint32_t irq)
{
    return (dev->irqs->irq[irq] & IRQ_MASKED) || (irq >= IRQ_MSIX && irq < IRQ_ERR && config_msix_masked(dev));
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

void ob_irq(struct ob_device *dev, unsigned index, bool level)
{
    if (index >= dev->lines || dev->irqs->level[index] == level)
        return;
    SET(dev, dev->irqs->level[index], level);
    if (irq_has_level(dev, index))
        irq_look_again(dev, index);
    else if (level)
        raise_message(dev, index);
}

/* A message that waited behind a mask goes out when the mask is gone. */
static void release_pending(struct ob_device *dev, uint32_t irq)
{
    if (!(dev->irqs->irq[irq] & IRQ_PENDING) || message_masked(dev, irq) || server_stopped(dev))
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

void irq_run(struct ob_device *dev)
{
    for (uint32_t i = 0; i < dev->lines; i++) {
        if (irq_has_level(dev, i))
            irq_look_again(dev, i);
        else
            release_pending(dev, i);
    }
    for (uint32_t i = 0; i < dev->plugin->irq.msi; i++)
        release_pending(dev, IRQ_MSI + i);
    irq_msix_unmasked(dev);
}

void irq_mask(struct ob_device *dev, uint32_t irq)
{
    if (dev->irqs->irq[irq] & IRQ_MASKED)
        return;
    *flags_of(dev, irq) |= IRQ_MASKED;
    if (irq_has_level(dev, irq))
        mask_event(dev, irq);
}

void irq_unmask(struct ob_device *dev, uint32_t irq)
{
    *flags_of(dev, irq) &= (uint8_t)~IRQ_MASKED;
    if (irq_has_level(dev, irq))
        irq_look_again(dev, irq);
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

    for (uint32_t i = 0; i < dev->lines; i++)
        SET(dev, irqs->level[i], 0);
    FOR_EACH_IRQ(dev, i)
        if (irqs->irq[i] & (IRQ_PENDING | IRQ_SIGNAL | IRQ_MASKED))
            *flags_of(dev, i) &= IRQ_TRIGGER;
}

/* ---- After the step ---------------------------------------------------------------------------- */

/*
 * Writes to an eventfd whose counter is full would wait; the client that filled it loses nothing. One that
 * fills it between the look and the write makes its own worker wait until it reads: eventfds know no
 * RWF_NOWAIT, and O_NONBLOCK would be set for the client too, which may want to wait in its reads.
 */
/* #syscalls worker: poll|ppoll write */
static void signal_eventfd(struct ob_device *dev, int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    const uint64_t one = 1;

    if (fd < 0 || poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
        return;
    effect_write_plain(&dev->block, fd, &one, sizeof one);
    dev->facts->interrupts++;
}

static void flush_range(struct ob_device *dev, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        if (!(dev->irqs->irq[i] & IRQ_SIGNAL))
            continue;
        signal_eventfd(dev, dev->irq_fd[i]);
        record_event(dev, RECORDED_IRQ, i, 0);
        dev->irqs->irq[i] &= (uint8_t)~IRQ_SIGNAL;
    }
}

void irq_flush(struct ob_device *dev)
{
    if (!dev->irqs->signals)
        return;
    flush_range(dev, 0, dev->lines);
    flush_range(dev, IRQ_MSI, dev->plugin->irq.msi);
    flush_range(dev, IRQ_MSIX, dev->plugin->irq.msix.count);
    flush_range(dev, IRQ_ERR, 2);
    for (uint32_t i = 0; i < dev->lines; i++) {
        if (!dev->irqs->signal_mask_event[i])
            continue;
        signal_eventfd(dev, dev->line[i].mask_fd);
        dev->irqs->signal_mask_event[i] = 0;
    }
    block_store(&dev->irqs->signals, 0);
}

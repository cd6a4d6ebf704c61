/*
 * irq.h - interrupts: what the client set up, what the device raises.
 *
 * Everything here runs inside a step and changes only the block; eventfds are written by irq_flush(),
 * after the step. An interrupt may be signalled twice if the process dies right there: interrupts
 * may be spurious, but must not be lost.
 */
#ifndef SERVER_IRQ_H
#define SERVER_IRQ_H

#include "server/device.h"

/* VFIO_USER_DEVICE_SET_IRQS. Takes the descriptors that it keeps out of fds. 0 or -errno. */
int irq_set(struct ob_device *dev, const struct wire_message *m, struct wire_fds *fds);

/* The client is gone: its eventfds and masks too; what the device asserts stays. */
void irq_release(struct ob_device *dev);

/* Back to the state after a reset: nothing raised or masked. Eventfds stay. */
void irq_reset(struct ob_device *dev);

/* By the number of the interrupt (IRQ_*): what SET_IRQS does without eventfds. A trigger by the client
 * is signalled whether masked or not. */
void irq_mask(struct ob_device *dev, uint32_t irq);
void irq_unmask(struct ob_device *dev, uint32_t irq);
void irq_trigger(struct ob_device *dev, uint32_t irq);

/* The interrupt of a line with a level may have become deliverable. */
void irq_look_again(struct ob_device *dev, uint32_t line);

/* Is it a line that has a level? Others are events. */
static inline bool irq_has_level(const struct ob_device *dev, uint32_t irq)
{
    return irq < dev->lines && (dev->irq_type[irq].flags & VFIO_IRQ_INFO_AUTOMASKED);
}

/* The next of the interrupts that the device has; UINT32_MAX: the first. Their numbers have gaps. */
static inline uint32_t irq_next(const struct ob_device *dev, uint32_t irq)
{
    irq++;
    if (irq >= dev->lines && irq < IRQ_MSI)
        irq = IRQ_MSI;
    if (irq >= IRQ_MSI + dev->plugin->irq.msi && irq < IRQ_MSIX)
        irq = IRQ_MSIX;
    if (irq >= IRQ_MSIX + dev->plugin->irq.msix.count && irq < IRQ_ERR)
        irq = IRQ_ERR;
    return irq;
}

#define FOR_EACH_IRQ(dev, i) \
    for (uint32_t i = irq_next(dev, UINT32_MAX); i < IRQ_COUNT; i = irq_next(dev, i))

/* The function mask of MSI-X was cleared: what was pending goes out. */
void irq_msix_unmasked(struct ob_device *dev);

/* The device was stopped and runs again: what could not be signalled meanwhile goes out. */
void irq_run(struct ob_device *dev);

/* After a step: signals what it raised. */
void irq_flush(struct ob_device *dev);

/* After a step that changed what the client set up: closes eventfds that have no use any more. */
void irq_forget_unused(struct ob_device *dev);

/* Is the eventfd that is kept under this number of any use? */
bool irq_is_used(const struct ob_device *dev, uint32_t number);

/* For a successor: takes the eventfds back out of keeping. 0 or -errno. */
int irq_recover(struct ob_device *dev);

#endif

/*
 * irq_set.c - what a client may ask of interrupts: GET_IRQ_INFO and SET_IRQS in all its forms.
 *
 * The meaning of the eventfds that come with ACTION_MASK and ACTION_UNMASK: the first is signalled by
 * us whenever INTx gets masked. The second is signalled by the client, and unmasks: that is what
 * Linux's VFIO does with it, and what KVM's resampling needs.
 */
#include "server/irq.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

uint32_t irq_count(const struct ob_device *dev, uint32_t index)
{
    const struct ob_irqs *irq = &dev->plugin->irq;

    switch (index) {
    case VFIO_PCI_INTX_IRQ_INDEX: return irq->intx;
    case VFIO_PCI_MSI_IRQ_INDEX: return irq->msi;
    case VFIO_PCI_MSIX_IRQ_INDEX: return irq->msix.count;
    case VFIO_PCI_ERR_IRQ_INDEX: return irq->err;
    case VFIO_PCI_REQ_IRQ_INDEX: return irq->req;
    default: return 0;
    }
}

uint32_t irq_info_flags(const struct ob_device *dev, uint32_t index)
{
    if (!irq_count(dev, index))
        return 0;
    return VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE |
           (index == VFIO_PCI_INTX_IRQ_INDEX ? VFIO_IRQ_INFO_AUTOMASKED : 0);
}

static uint32_t first_of(uint32_t index)
{
    static const uint32_t first[] = { IRQ_INTX, IRQ_MSI, IRQ_MSIX, IRQ_ERR, IRQ_REQ };
    return first[index];
}

/* Only an eventfd can neither block us for long nor carry data to somebody else. All it shares with
 * the other anonymous files, which refuse a write of 8 bytes, is that it has no type. */
static bool is_eventfd(int fd)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) == O_RDWR && fstat(fd, &st) == 0 &&
           (st.st_mode & S_IFMT) == 0;
}

/*
 * Puts new descriptors into keeping, under numbers from `first` on, or none of them: what was kept there
 * before (`old`, -1: nothing) is put back. (If even that fails, the step is undone all the same, and a
 * successor would signal the new one. The client is given the error, and has both.)
 */
static int keep(struct ob_device *dev, uint32_t first, const int *old, const int *fds, uint32_t count)
{
    const struct server_keeping *k = dev->keeping;

    for (uint32_t i = 0; k && i < count; i++) {
        int ret = k->put(k->ctx, KEEP_IRQ | (first + i), fds[i]);
        if (ret == 0)
            continue;
        for (; i > 0; i--) {
            if (old[i - 1] >= 0)
                k->put(k->ctx, KEEP_IRQ | (first + i - 1), old[i - 1]);
            else
                k->drop(k->ctx, KEEP_IRQ | (first + i - 1));
        }
        return ret;
    }
    return 0;
}

static void forget(struct ob_device *dev, uint32_t number, int *fd)
{
    if (*fd < 0)
        return;
    close(*fd);
    *fd = -1;
    if (dev->keeping)
        dev->keeping->drop(dev->keeping->ctx, KEEP_IRQ | number);
}

static void count_vectors(struct ob_device *dev, uint32_t irq, int change)
{
    if (irq >= IRQ_MSIX && irq < IRQ_ERR)
        SET(dev, dev->irqs->msix_vectors, dev->irqs->msix_vectors + (uint32_t)change);
    else if (irq >= IRQ_MSI && irq < IRQ_MSIX)
        SET(dev, dev->irqs->msi_vectors, dev->irqs->msi_vectors + (uint32_t)change);
}

/* The old eventfd goes only when the new state is certain: see irq_forget_unused(). */
static void set_trigger(struct ob_device *dev, uint32_t irq, bool on)
{
    uint8_t *flags = &dev->irqs->irq[irq];
    bool was = *flags & IRQ_TRIGGER;

    server_touch(dev, flags, 1);
    *flags = on ? *flags | IRQ_TRIGGER : *flags & (uint8_t)~(IRQ_TRIGGER | IRQ_SIGNAL | IRQ_PENDING);
    if (was != on)
        count_vectors(dev, irq, on ? 1 : -1);
    /* What INTx asserts now was not told to the new listener, and its mask was the old one's. */
    if (irq == IRQ_INTX) {
        *flags &= (uint8_t)~IRQ_MASKED;
        irq_look_again(dev);
    }
}

/* An eventfd of the client takes the place of the one that was there. From here on nothing fails. */
static void replace(int *slot, int *fd)
{
    if (*slot >= 0)
        close(*slot);
    *slot = *fd;
    *fd = -1;
}

static int set_triggers(struct ob_device *dev, uint32_t first, uint32_t count, struct wire_fds *fds)
{
    int ret = keep(dev, first, &dev->irq_fd[first], fds->fd, fds->count);
    if (ret < 0)
        return ret;
    for (uint32_t i = 0; i < fds->count; i++)
        replace(&dev->irq_fd[first + i], &fds->fd[i]);
    for (uint32_t i = 0; i < count; i++)
        set_trigger(dev, first + i, fds->count != 0);
    return 0;
}

static void unmask_signalled(struct watch *w, uint32_t events)
{
    struct ob_device *dev =
        (struct ob_device *)(void *)((uint8_t *)w - offsetof(struct ob_device, intx_unmask));
    uint64_t count;
    struct iovec iov = { &count, sizeof count };
    (void)events;

    if (preadv2(w->fd, &iov, 1, -1, RWF_NOWAIT) > 0)
        dev->block.h->read += sizeof count;
    server_step_begin(dev);
    irq_unmask(dev, IRQ_INTX);
    server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
}

/* Edge triggered: a signal is seen once, even if the read failed. */
static int watch_unmask(struct ob_device *dev, int fd)
{
    struct epoll_event event = { .events = (uint32_t)EPOLLIN | (uint32_t)EPOLLET,
                                 .data.ptr = &dev->intx_unmask };

    dev->intx_unmask.ready = unmask_signalled;
    return epoll_ctl(dev->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int set_intx_events(struct ob_device *dev, bool mask, struct wire_fds *fds)
{
    uint8_t *on = mask ? &dev->irqs->intx_mask_event : &dev->irqs->intx_unmask_event;
    int *slot = mask ? &dev->intx_mask_fd : &dev->intx_unmask.fd;

    if (fds->count) {
        int ret = mask ? 0 : watch_unmask(dev, fds->fd[0]);
        if (ret == 0)
            ret = keep(dev, IRQ_COUNT + (mask ? 0 : 1), slot, fds->fd, 1);
        if (ret < 0) {
            if (!mask)
                epoll_ctl(dev->epoll, EPOLL_CTL_DEL, fds->fd[0], NULL);
            return ret;
        }
    }
    SET(dev, *on, fds->count != 0);
    if (!mask && *slot >= 0)
        epoll_ctl(dev->epoll, EPOLL_CTL_DEL, *slot, NULL);
    if (fds->count)
        replace(slot, &fds->fd[0]);
    return 0;
}

static int set_eventfds(struct ob_device *dev, const struct vfio_irq_set *set, struct wire_fds *fds)
{
    for (uint32_t i = 0; i < fds->count; i++)
        if (!is_eventfd(fds->fd[i]))
            return -EINVAL;
    if (set->flags & VFIO_IRQ_SET_ACTION_TRIGGER)
        return set_triggers(dev, first_of(set->index) + set->start, set->count, fds);
    if (set->index != VFIO_PCI_INTX_IRQ_INDEX)
        return -EINVAL;
    return set_intx_events(dev, set->flags & VFIO_IRQ_SET_ACTION_MASK, fds);
}

/* Eventfds of interrupts that have none any more. After the step, so that a successor which finds
 * the step undone finds them as well. */
void irq_forget_unused(struct ob_device *dev)
{
    for (uint32_t i = 0; i < IRQ_COUNT; i++)
        if (dev->irq_fd[i] >= 0 && !(dev->irqs->irq[i] & IRQ_TRIGGER))
            forget(dev, i, &dev->irq_fd[i]);
    if (!dev->irqs->intx_mask_event)
        forget(dev, IRQ_COUNT, &dev->intx_mask_fd);
    if (!dev->irqs->intx_unmask_event)
        forget(dev, IRQ_COUNT + 1, &dev->intx_unmask.fd);
}

static void act(struct ob_device *dev, uint32_t action, uint32_t irq)
{
    if (action == VFIO_IRQ_SET_ACTION_TRIGGER)
        irq_trigger(dev, irq);
    else if (action == VFIO_IRQ_SET_ACTION_MASK)
        irq_mask(dev, irq);
    else
        irq_unmask(dev, irq);
}

static int set(struct ob_device *dev, const struct wire_message *m, struct wire_fds *fds)
{
    const struct vfio_irq_set *set = &m->irq_set;
    uint32_t action = set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
    uint32_t count = irq_count(dev, set->index);
    const uint8_t *chosen = set->flags & VFIO_IRQ_SET_DATA_BOOL ? m->data : NULL;

    if (!count || (uint64_t)set->start + set->count > count)
        return -EINVAL;
    dev->irqs_changed = true;
    if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD)
        return set_eventfds(dev, set, fds);

    uint32_t first = first_of(set->index) + set->start;
    if (set->count == 0) {
        if (action != VFIO_IRQ_SET_ACTION_TRIGGER)
            return -EINVAL;
        for (uint32_t i = 0; i < count; i++)
            set_trigger(dev, first + i, false);
        return 0;
    }
    for (uint32_t i = 0; i < set->count; i++)
        if (!chosen || chosen[i])
            act(dev, action, first + i);
    return 0;
}

int irq_set(struct ob_device *dev, const struct wire_message *m, struct wire_fds *fds)
{
    int ret = set(dev, m, fds);
    if (ret == 0 && dev->plugin->irq_changed) {
        server_enter(dev);
        dev->plugin->irq_changed(dev);
    }
    return ret;
}

void irq_release(struct ob_device *dev)
{
    for (uint32_t i = 0; i < IRQ_COUNT; i++) {
        if (dev->irqs->irq[i]) {
            server_touch(dev, &dev->irqs->irq[i], 1);
            dev->irqs->irq[i] = 0;
        }
    }
    SET(dev, dev->irqs->intx_mask_event, 0);
    SET(dev, dev->irqs->intx_unmask_event, 0);
    SET(dev, dev->irqs->signal_mask_event, 0);
    SET(dev, dev->irqs->signals, 0);
    SET(dev, dev->irqs->msi_vectors, 0);
    SET(dev, dev->irqs->msix_vectors, 0);
    if (dev->intx_unmask.fd >= 0)
        epoll_ctl(dev->epoll, EPOLL_CTL_DEL, dev->intx_unmask.fd, NULL);
    dev->irqs_changed = true;
}

bool irq_is_used(const struct ob_device *dev, uint32_t number)
{
    if (number < IRQ_COUNT)
        return dev->irqs->irq[number] & IRQ_TRIGGER;
    return number == IRQ_COUNT ? dev->irqs->intx_mask_event : dev->irqs->intx_unmask_event;
}

static int take_back(struct ob_device *dev, uint32_t number, int *fd)
{
    *fd = dev->keeping->get(dev->keeping->ctx, KEEP_IRQ | number);
    return *fd < 0 ? *fd : 0;
}

int irq_recover(struct ob_device *dev)
{
    int ret = 0;
    for (uint32_t i = 0; i < IRQ_COUNT && ret == 0; i++)
        if (dev->irqs->irq[i] & IRQ_TRIGGER)
            ret = take_back(dev, i, &dev->irq_fd[i]);
    if (ret == 0 && dev->irqs->intx_mask_event)
        ret = take_back(dev, IRQ_COUNT, &dev->intx_mask_fd);
    if (ret == 0 && dev->irqs->intx_unmask_event)
        ret = take_back(dev, IRQ_COUNT + 1, &dev->intx_unmask.fd);
    if (ret == 0 && dev->irqs->intx_unmask_event)
        ret = watch_unmask(dev, dev->intx_unmask.fd);
    return ret;
}

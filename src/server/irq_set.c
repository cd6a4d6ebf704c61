/*
 * irq_set.c - what a client may ask of interrupts: SET_IRQS in all its forms.
 *
 * The meaning of the eventfds that come with ACTION_MASK and ACTION_UNMASK: the first is signalled by
 * us whenever INTx, or another line with a level, gets masked. The second is signalled by the client,
 * and unmasks: that is what Linux's VFIO does with it, and what KVM's resampling needs.
 */
#include "server/irq.h"

#include <sys/uio.h>
#include <unistd.h>

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
    /* What a line asserts now was not told to the new listener, and its mask was the old one's. */
    if (irq_has_level(dev, irq)) {
        *flags &= (uint8_t)~IRQ_MASKED;
        irq_look_again(dev, irq);
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

/* #syscalls worker: preadv2 */
static void unmask_signalled(struct watch *w, uint32_t events)
{
    struct line *line = (struct line *)(void *)w;
    struct ob_device *dev = line->dev;
    uint64_t count;
    struct iovec iov = { &count, sizeof count };
    (void)events;

    if (preadv2(w->fd, &iov, 1, -1, RWF_NOWAIT) > 0)
        dev->block.h->read += sizeof count;
    server_step_begin(dev);
    irq_unmask(dev, (uint32_t)(line - dev->line));
    server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
}

/* Edge triggered: a signal is seen once, even if the read failed. */
static int watch_unmask(struct line *line, int fd)
{
    struct epoll_event event = { .events = (uint32_t)EPOLLIN | (uint32_t)EPOLLET,
                                 .data.ptr = &line->unmask };

    line->unmask.ready = unmask_signalled;
    return epoll_ctl(line->dev->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int set_mask_event(struct ob_device *dev, uint32_t n, struct wire_fds *fds)
{
    int *slot = &dev->line[n].mask_fd;
    int ret = keep(dev, IRQ_MASK_EVENT(n), slot, fds->fd, fds->count);

    if (ret < 0)
        return ret;
    SET(dev, dev->irqs->mask_event[n], fds->count != 0);
    if (fds->count)
        replace(slot, &fds->fd[0]);
    return 0;
}

static int set_unmask_event(struct ob_device *dev, uint32_t n, struct wire_fds *fds)
{
    struct line *line = &dev->line[n];
    int *slot = &line->unmask.fd;

    if (fds->count) {
        int ret = watch_unmask(line, fds->fd[0]);
        if (ret < 0)
            return ret;
        ret = keep(dev, IRQ_UNMASK_EVENT(n), slot, fds->fd, 1);
        if (ret < 0) {
            epoll_ctl(dev->epoll, EPOLL_CTL_DEL, fds->fd[0], NULL);
            return ret;
        }
    }
    SET(dev, dev->irqs->unmask_event[n], fds->count != 0);
    if (*slot >= 0)
        epoll_ctl(dev->epoll, EPOLL_CTL_DEL, *slot, NULL);
    if (fds->count)
        replace(slot, &fds->fd[0]);
    return 0;
}

static int set_eventfds(struct ob_device *dev, const struct vfio_irq_set *set, struct wire_fds *fds)
{
    uint32_t first = dev->irq_type[set->index].first + set->start;

    for (uint32_t i = 0; i < fds->count; i++)
        if (!wire_is_eventfd(fds->fd[i]))
            return -EINVAL;
    if (set->flags & VFIO_IRQ_SET_ACTION_TRIGGER)
        return set_triggers(dev, first, set->count, fds);
    if (!irq_has_level(dev, first))
        return -EINVAL;
    return set->flags & VFIO_IRQ_SET_ACTION_MASK ? set_mask_event(dev, first, fds)
                                                 : set_unmask_event(dev, first, fds);
}

/* Eventfds of interrupts that have none any more. After the step, so that a successor which finds
 * the step undone finds them as well. */
void irq_forget_unused(struct ob_device *dev)
{
    FOR_EACH_IRQ(dev, i)
        if (dev->irq_fd[i] >= 0 && !(dev->irqs->irq[i] & IRQ_TRIGGER))
            forget(dev, i, &dev->irq_fd[i]);
    for (uint32_t i = 0; i < dev->lines; i++) {
        if (!dev->irqs->mask_event[i])
            forget(dev, IRQ_MASK_EVENT(i), &dev->line[i].mask_fd);
        if (!dev->irqs->unmask_event[i])
            forget(dev, IRQ_UNMASK_EVENT(i), &dev->line[i].unmask.fd);
    }
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
    const uint8_t *chosen = set->flags & VFIO_IRQ_SET_DATA_BOOL ? m->data : NULL;

    if (set->index >= dev->irq_types)
        return -EINVAL;
    const struct irq_type *type = &dev->irq_type[set->index];
    if (!type->count || (uint64_t)set->start + set->count > type->count)
        return -EINVAL;
    if (action != VFIO_IRQ_SET_ACTION_TRIGGER && !(type->flags & VFIO_IRQ_INFO_MASKABLE))
        return -EINVAL;
    dev->irqs_changed = true;
    if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD)
        return set_eventfds(dev, set, fds);

    uint32_t first = type->first + set->start;
    if (set->count == 0) {
        if (action != VFIO_IRQ_SET_ACTION_TRIGGER)
            return -EINVAL;
        for (uint32_t i = 0; i < type->count; i++)
            set_trigger(dev, type->first + i, false);
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
    if (ret == 0 && dev->plugin->irq_changed && !server_stopped(dev)) {
        server_enter(dev);
        dev->plugin->irq_changed(dev);
    }
    return ret;
}

void irq_release(struct ob_device *dev)
{
    FOR_EACH_IRQ(dev, i) {
        if (dev->irqs->irq[i]) {
            server_touch(dev, &dev->irqs->irq[i], 1);
            dev->irqs->irq[i] = 0;
        }
    }
    for (uint32_t i = 0; i < dev->lines; i++) {
        SET(dev, dev->irqs->mask_event[i], 0);
        SET(dev, dev->irqs->unmask_event[i], 0);
        SET(dev, dev->irqs->signal_mask_event[i], 0);
        if (dev->line[i].unmask.fd >= 0)
            epoll_ctl(dev->epoll, EPOLL_CTL_DEL, dev->line[i].unmask.fd, NULL);
    }
    SET(dev, dev->irqs->signals, 0);
    SET(dev, dev->irqs->msi_vectors, 0);
    SET(dev, dev->irqs->msix_vectors, 0);
    dev->irqs_changed = true;
}

bool irq_is_used(const struct ob_device *dev, uint32_t number)
{
    if (number < IRQ_COUNT)
        return dev->irqs->irq[number] & IRQ_TRIGGER;
    for (uint32_t i = 0; i < dev->lines; i++)
        if (number == IRQ_MASK_EVENT(i) || number == IRQ_UNMASK_EVENT(i))
            return number == IRQ_MASK_EVENT(i) ? dev->irqs->mask_event[i] : dev->irqs->unmask_event[i];
    return false;
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
    for (uint32_t i = 0; i < dev->lines && ret == 0; i++) {
        struct line *line = &dev->line[i];
        if (dev->irqs->mask_event[i])
            ret = take_back(dev, IRQ_MASK_EVENT(i), &line->mask_fd);
        if (ret == 0 && dev->irqs->unmask_event[i])
            ret = take_back(dev, IRQ_UNMASK_EVENT(i), &line->unmask.fd);
        if (ret == 0 && dev->irqs->unmask_event[i])
            ret = watch_unmask(line, line->unmask.fd);
    }
    return ret;
}

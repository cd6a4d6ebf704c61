/*
 * irq.c - interrupts: what there is, and what signals what.
 */
#include "client/client.h"

#include <errno.h>

int ob_client_irq_info(struct ob_client *c, uint32_t index, struct vfio_irq_info *info)
{
    struct call call = {
        .request = { .header.command = VFIO_USER_DEVICE_GET_IRQ_INFO,
                     .irq_info = { .argsz = sizeof call.request.irq_info, .index = index } },
        .fixed = sizeof call.request.irq_info,
    };
    int ret = client_call(c, &call);
    if (ret < 0)
        return ret;
    if (call.reply.irq_info.index != index)
        return client_bad_reply(c, &call, "the reply is about another index");
    if (call.reply.irq_info.count > WIRE_MAX_IRQS)
        return client_bad_reply(c, &call, "more interrupts than anyone can mean");
    *info = call.reply.irq_info;
    return 0;
}

static int set_irqs(struct ob_client *c, uint32_t index, uint32_t flags, uint32_t start,
                    uint32_t count, const uint8_t *on, const int *fds, unsigned nfds)
{
    size_t data_size = on ? count : 0;
    struct call call = {
        .request = { .header.command = VFIO_USER_DEVICE_SET_IRQS,
                     .irq_set = { .argsz = (uint32_t)(sizeof call.request.irq_set + data_size),
                                  .flags = flags,
                                  .index = index,
                                  .start = start,
                                  .count = count } },
        .fixed = sizeof call.request.irq_set,
        .data = on,
        .data_size = data_size,
        .fds = fds,
        .nfds = nfds,
    };
    return client_call(c, &call);
}

static int check_range(struct ob_client *c, uint32_t action, uint32_t start, uint32_t count)
{
    if (action != VFIO_IRQ_SET_ACTION_TRIGGER && action != VFIO_IRQ_SET_ACTION_MASK &&
        action != VFIO_IRQ_SET_ACTION_UNMASK)
        return client_refuse(c, -EINVAL, "0x%x is not an interrupt's action", action);
    if (count == 0 || count > WIRE_MAX_IRQS || start > UINT32_MAX - count)
        return client_refuse(c, -EINVAL, "%u interrupts from %u on are out of range", count, start);
    return 0;
}

/* How many of the next entries are of one kind: all descriptors, at most max, or none. */
static uint32_t run_length(const int *fds, uint32_t count, uint32_t max)
{
    bool some = fds[0] >= 0;
    uint32_t n = 1;

    while (n < count && (fds[n] >= 0) == some && (!some || n < max))
        n++;
    return n;
}

int ob_client_irq_eventfds(struct ob_client *c, uint32_t index, uint32_t action, uint32_t start,
                           uint32_t count, const int *fds)
{
    struct ob_capabilities theirs;
    uint32_t flags = VFIO_IRQ_SET_DATA_EVENTFD | action;

    int ret = check_range(c, action, start, count);
    if (ret == 0)
        ret = ob_client_capabilities(c, NULL, &theirs);
    if (ret == 0 && !fds)
        return set_irqs(c, index, flags, start, count, NULL, NULL, 0);
    uint32_t max = theirs.max_msg_fds < WIRE_MAX_FDS ? theirs.max_msg_fds : WIRE_MAX_FDS;
    while (ret == 0 && count > 0) {
        uint32_t n = run_length(fds, count, max);
        ret = set_irqs(c, index, flags, start, n, NULL, fds, fds[0] >= 0 ? n : 0);
        fds += n;
        start += n;
        count -= n;
    }
    return ret;
}

int ob_client_irq_act(struct ob_client *c, uint32_t index, uint32_t action, uint32_t start,
                      uint32_t count, const uint8_t *on)
{
    int ret = check_range(c, action, start, count);
    if (ret < 0)
        return ret;
    return set_irqs(c, index, (on ? VFIO_IRQ_SET_DATA_BOOL : VFIO_IRQ_SET_DATA_NONE) | action,
                    start, count, on, NULL, 0);
}

int ob_client_irq_disable(struct ob_client *c, uint32_t index)
{
    return set_irqs(c, index, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, NULL,
                    NULL, 0);
}

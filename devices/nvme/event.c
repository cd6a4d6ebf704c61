/*
 * event.c - Asynchronous Event Requests (5.2): what happened, and who waits for it.
 *
 * An event that was reported is masked until its log page is read. Requests are the oldest first.
 */
#include "nvme.h"

#include <string.h>

static const struct {
    uint32_t dw0;
    uint8_t page;
    uint32_t enable; /* bit of the feature that allows it, 0: always */
} events[EVENT_KINDS] = {
    [EVENT_DOORBELL] = { EVENT_INVALID_DOORBELL, LOG_ERROR, 0 },
    [EVENT_DOORBELL_VALUE] = { EVENT_INVALID_DOORBELL_VALUE, LOG_ERROR, 0 },
    [EVENT_HOT] = { EVENT_TEMPERATURE, LOG_SMART, 1u << 1 },
    [EVENT_NS_CHANGED] = { EVENT_NAMESPACE, LOG_CHANGED_NAMESPACES, 1u << 8 },
};

void event_request(struct ob_device *dev, uint32_t i)
{
    struct nvme *s = ob_state(dev);

    if (s->event_count == EVENTS) {
        slot_done(dev, i, SC_AER_LIMIT | SC_DNR, 0);
        return;
    }
    SET(dev, s->slot[i].stage, SLOT_WAIT);
    SET(dev, s->event_slot[s->event_count], (uint16_t)i);
    SET(dev, s->event_count, s->event_count + 1);
}

static uint32_t take_request(struct ob_device *dev, uint32_t n)
{
    struct nvme *s = ob_state(dev);
    uint32_t i = s->event_slot[n];

    ob_touch(dev, s->event_slot, sizeof s->event_slot);
    memmove(s->event_slot + n, s->event_slot + n + 1, (EVENTS - 1 - n) * sizeof s->event_slot[0]);
    SET(dev, s->event_count, s->event_count - 1);
    return i;
}

void event_happened(struct ob_device *dev, enum event e)
{
    struct nvme *s = ob_state(dev);

    if (!events[e].enable || (s->features.events & events[e].enable))
        SET(dev, s->event_pending, s->event_pending | 1u << e);
}

void event_report(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    uint32_t ready;

    while (s->event_count && (ready = s->event_pending & ~s->event_masked)) {
        unsigned e = (unsigned)__builtin_ctz(ready);
        SET(dev, s->event_pending, s->event_pending & ~(1u << e));
        SET(dev, s->event_masked, s->event_masked | 1u << e);
        slot_done(dev, take_request(dev, 0), 0, events[e].dw0);
    }
}

void event_log_read(struct ob_device *dev, uint8_t page)
{
    struct nvme *s = ob_state(dev);

    for (unsigned e = 0; e < EVENT_KINDS; e++)
        if (events[e].page == page)
            SET(dev, s->event_masked, s->event_masked & ~(1u << e));
}

bool event_abort(struct ob_device *dev, uint16_t cid)
{
    struct nvme *s = ob_state(dev);

    for (uint32_t n = 0; n < s->event_count; n++)
        if (s->slot[s->event_slot[n]].command.cid == cid) {
            slot_done(dev, take_request(dev, n), SC_ABORT_REQUESTED, 0);
            return true;
        }
    return false;
}

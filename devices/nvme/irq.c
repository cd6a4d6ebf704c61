/*
 * irq.c - interrupts: messages per completion queue, or the wire; and their coalescing (5.21.1.8).
 */
#include "nvme.h"

/* Several entries make one interrupt, unless the vector asked not to wait. The admin queue never does. */
static bool coalesced(const struct nvme *s, const struct nvme_cq *cq)
{
    uint32_t time = s->features.coalescing >> 8 & 0xff;

    return time && (s->features.coalescing & 0xff) && cq != &s->cq[0] &&
           !(s->features.vector_uncoalesced[cq->vector / 32] & 1u << cq->vector % 32);
}

static void raise(struct private *p, const struct nvme_cq *cq)
{
    p->vector[cq->vector] = 1;
    p->vectors = true;
}

void irq_posted(struct ob_device *dev, struct nvme_cq *cq)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    if (!cq->interrupts)
        return;
    if (ob_vectors(dev) && coalesced(s, cq)) {
        if (++cq->unsignalled <= (s->features.coalescing & 0xff)) {
            p->coalescing = true;
            return;
        }
        cq->unsignalled = 0;
    }
    raise(p, cq);
}

static bool has_news(const struct nvme *s, uint32_t q)
{
    const struct nvme_cq *cq = &s->cq[q];

    if (!cq->entries || !cq->interrupts || cq->head == cq->tail)
        return false;
    return !far_is_posting(s, q) || (cq->head + 1u) % cq->entries != cq->tail;
}

/* INTMS masks the wire; for MSI-X the table's own mask bits count. */
void irq_level(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    bool level = has_news(s, 0);

    for (uint64_t left = s->interrupting; left; left &= left - 1)
        level |= has_news(s, (uint32_t)__builtin_ctzll(left) + 1);
    ob_intx(dev, level && !(s->intms & 1) && ob_vectors(dev) == 0);
}

void irq_end(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    if (p->coalescing && !p->coalesce_timer) {
        p->coalesce_timer = true;
        ob_timer_set(dev, TIMER_COALESCE,
                     ob_now(dev) + (s->features.coalescing >> 8 & 0xff) * 100000ull);
    }
    p->coalescing = false;
    if (ob_vectors(dev) == 0) {
        doorbell_watch_heads(dev);
        irq_level(dev);
    }
    if (!p->vectors)
        return;
    p->vectors = false;
    for (uint32_t v = 0; v < QUEUES; v++) {
        if (!p->vector[v])
            continue;
        p->vector[v] = 0;
        ob_message(dev, v);
    }
}

void irq_timer(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    p->coalesce_timer = false;
    for (uint32_t q = 1; q < QUEUES; q++) {
        if (!s->cq[q].unsignalled)
            continue;
        SET(dev, s->cq[q].unsignalled, 0);
        raise(p, &s->cq[q]);
    }
    irq_end(dev);
}

/*
 * irq.c - interrupts: messages per completion queue, or the wire; and how several entries make one.
 *
 * A driver may ask for coalescing (5.21.1.8). If it does not, and has its heads in memory, we see how many
 * entries wait at a time until it takes them. Who has many commands under way gets one message for half as
 * many entries: it goes on with its commands meanwhile. Who has one gets its message at once. What is
 * held is bounded by HELD_NS, and a queue where holding was in vain is left alone for a while.
 */
#include "nvme.h"

#define HELD_NS 100000u
#define NOT_HELD 64u /* entries after a message that was held in vain */

/* Several entries make one interrupt, unless the vector asked not to wait. The admin queue never does. */
static bool coalesced(const struct nvme *s, const struct nvme_cq *cq)
{
    uint32_t time = s->features.coalescing >> 8 & 0xff;

    return time && (s->features.coalescing & 0xff) && cq != &s->cq[0] &&
           !(s->features.vector_uncoalesced[cq->vector / 32] & 1u << cq->vector % 32);
}

static void raise(struct ob_device *dev, uint32_t q)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    p->vector[s->cq[q].vector] = 1;
    p->vectors = true;
    p->signalled[q] = s->cq[q].tail;
    if (q)
        p->held &= ~(1ull << (q - 1));
}

void irq_posted(struct ob_device *dev, struct nvme_cq *cq)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    uint32_t q = (uint32_t)(cq - s->cq);

    if (!cq->interrupts)
        return;
    if (ob_vectors(dev) && coalesced(s, cq)) {
        if (++cq->unsignalled <= (s->features.coalescing & 0xff)) {
            p->coalescing = true;
            return;
        }
        cq->unsignalled = 0;
        raise(dev, q);
    } else if (q) {
        p->posted |= 1ull << (q - 1);
    } else {
        raise(dev, 0);
    }
}

/* ---- Holding ---------------------------------------------------------------------------------------- */

static uint32_t distance(const struct nvme_cq *cq, uint32_t from, uint32_t to)
{
    return (to + cq->entries - from) % cq->entries;
}

/* Entries that the driver has not taken yet. 0: it does not say. */
static uint32_t untaken(struct ob_device *dev, uint32_t q)
{
    const struct nvme *s = ob_state(dev);
    uint32_t head;

    if (!doorbell_head(dev, q, &head) || head >= s->cq[q].entries)
        return 0;
    return distance(&s->cq[q], head, s->cq[q].tail);
}

static bool hold(struct ob_device *dev, uint32_t q)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    const struct nvme_cq *cq = &s->cq[q];
    uint32_t n = untaken(dev, q);

    if (ob_vectors(dev) == 0)
        return false;
    if (p->not_held[q]) {
        p->not_held[q]--;
        return false;
    }
    if (n > p->depth[q])
        p->depth[q] = (uint16_t)n;
    if (distance(cq, p->signalled[q], cq->tail) >= p->depth[q] / 2u)
        return false;
    p->held |= 1ull << (q - 1);
    ob_timer_set(dev, TIMER_HELD, ob_now(dev) + HELD_NS);
    return true;
}

/* Nothing more came. */
void irq_held(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    for (uint64_t left = p->held; left; left &= left - 1) {
        uint32_t q = (uint32_t)__builtin_ctzll(left) + 1;
        p->depth[q] = 0;
        p->not_held[q] = NOT_HELD;
        if (s->cq[q].entries)
            raise(dev, q);
    }
    p->held = 0;
    irq_end(dev);
}

/* ---- The wire --------------------------------------------------------------------------------------- */

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

/* ---- Both ------------------------------------------------------------------------------------------- */

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
    for (uint64_t left = p->posted; left; left &= left - 1) {
        uint32_t q = (uint32_t)__builtin_ctzll(left) + 1;
        if (s->cq[q].entries && !hold(dev, q)) /* else it was deleted since */
            raise(dev, q);
    }
    p->posted = 0;
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
        raise(dev, q);
    }
    irq_end(dev);
}

void irq_adopt(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);

    for (uint32_t q = 0; q < QUEUES; q++)
        if (has_news(s, q))
            raise(dev, q);
    irq_end(dev);
}

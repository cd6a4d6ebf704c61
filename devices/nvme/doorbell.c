/*
 * doorbell.c - doorbells: registers, or memory that is looked at while I/O flows (5.7 Doorbell Buffer
 * Config, 7.13).
 *
 * In memory there is, for each doorbell, its value, which the driver writes, and an event index, which
 * we write: a driver whose value passes the index writes the register too. While we look we keep the
 * index out of the driver's way, and when it has become quiet we put it right before the driver, look
 * once more, and sleep. A timer ends the looking, so that an end of polling is never missed.
 *
 * How long we look without success is learnt from the sleeps: one that ended so soon that looking would
 * have caught the command makes it longer, any other makes it shorter. So a guest that is always back in
 * a moment pays no trap, and one that is not costs little in vain.
 *
 * With doorbells=mapped the registers are memory themselves, and no write to them traps. Then sleeping is
 * looking seldom: after ever longer naps, up to NAP_MOST_NS.
 *
 * Drivers do not keep the admin queue's values in memory, though the specification has them there. So
 * that queue lives from its registers, and its index asks for a trap always.
 */
#include "nvme.h"

#include <stdatomic.h>
#include <string.h>

/* How long without a new command until we sleep; up to twice as long. */
#define POLL_LEAST_NS 25000u
#define POLL_MOST_NS 500000u
#define NAP_LEAST_NS 50000u
#define NAP_MOST_NS 1000000u

static uint64_t doorbell_at(uint32_t q, bool cq)
{
    return q * 8ull + (cq ? 4 : 0);
}

/* ---- Values ---------------------------------------------------------------------------------------- */

static void bad_value(struct ob_device *dev, uint32_t q, uint32_t value)
{
    ob_debug(dev, "queue %u: doorbell value %u is no entry of the queue", q, value);
    event_happened(dev, EVENT_DOORBELL_VALUE);
}

static void take_tail(struct ob_device *dev, uint32_t q, uint32_t value)
{
    struct nvme *s = ob_state(dev);
    struct nvme_sq *sq = &s->sq[q];

    if (value == sq->tail)
        return;
    if (value >= sq->entries)
        bad_value(dev, q, value);
    else
        SET(dev, sq->tail, (uint16_t)value);
}

/* A head may only move over entries that were posted. */
static void take_head(struct ob_device *dev, uint32_t q, uint32_t value)
{
    struct nvme *s = ob_state(dev);
    struct nvme_cq *cq = &s->cq[q];

    if (value == cq->head)
        return;
    uint32_t used = (cq->tail + cq->entries - cq->head) % cq->entries;
    uint32_t read = (value + cq->entries - cq->head) % cq->entries;
    if (value >= cq->entries || read > used)
        bad_value(dev, q, value);
    else
        SET(dev, cq->head, (uint16_t)value);
}

/* ---- Registers ------------------------------------------------------------------------------------- */

void doorbell_write(struct ob_device *dev, uint64_t at, uint32_t value)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    uint32_t q = (uint32_t)(at / 8);
    bool is_cq = at & 4;

    if (!is_running(s))
        return;
    if (q >= QUEUES || !(is_cq ? s->cq[q].entries : s->sq[q].entries)) {
        ob_debug(dev, "doorbell of queue %u, which there is not", q);
        event_happened(dev, EVENT_DOORBELL);
        work_soon(dev);
        return;
    }
    /* A register that is written beside the memory may be older than that: it only wakes us. */
    if (q && s->shadow) {
        p->rung = true;
    } else if (is_cq) {
        take_head(dev, q, value);
        irq_level(dev);
    } else {
        take_tail(dev, q, value);
    }
    work_soon(dev);
}

/* ---- Memory ---------------------------------------------------------------------------------------- */

static uint32_t *mapped(struct ob_device *dev)
{
    return (uint32_t *)(void *)((uint8_t *)ob_bar_memory(dev, 0) + REG_DOORBELLS);
}

/* NULL: doorbells are registers. */
static const uint32_t *in_memory(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    const struct private *p = ob_private(dev);

    if (p->mapped)
        return mapped(dev);
    return s->shadow ? ob_memory_peek(dev, s->shadow_doorbells, QUEUES * 8) : NULL;
}

static uint32_t load(const uint32_t *p)
{
    return atomic_load_explicit((const _Atomic uint32_t *)p, memory_order_acquire);
}

/* A head that somebody waits for: for room, or for the wire to fall. */
static bool head_moved(struct ob_device *dev, const uint32_t *values)
{
    const struct nvme *s = ob_state(dev);
    const struct private *p = ob_private(dev);
    bool wire = p->mapped && ob_vectors(dev) == 0;

    if (!p->blocked && !wire)
        return false;
    for (uint32_t q = p->mapped ? 0 : 1; q < QUEUES; q++) {
        const struct nvme_cq *cq = &s->cq[q];
        if (cq->entries && (cq_full(cq) || (wire && cq->interrupts)) && cq->head != cq->tail &&
            load(&values[2 * q + 1]) != cq->head)
            return true;
    }
    return false;
}

bool doorbell_moved(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    const uint32_t *values;

    if (!is_running(s) || !(values = in_memory(dev)))
        return false;
    if (p->mapped && load(values) != p->seen[0])
        return true;
    for (uint64_t left = s->live; left; left &= left - 1) {
        uint32_t q = (uint32_t)__builtin_ctzll(left) + 1;
        if (load(&values[2 * q]) != p->seen[q])
            return true;
    }
    return head_moved(dev, values);
}

static void set_event(struct ob_device *dev, uint32_t q, bool is_cq, uint32_t index)
{
    const struct nvme *s = ob_state(dev);

    if (s->shadow)
        ob_memory_write(dev, s->shadow_events + doorbell_at(q, is_cq), &index, sizeof index);
}

/*
 * An index that the driver's next values do not pass: on the other side of the queue from its tail. (A
 * value passes the index when it goes from at or below it to above it, counted in 16 bits, so that a
 * wrap of the queue passes all above the old value and all below the new one.)
 */
static void keep_away(struct ob_device *dev, uint32_t q)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    const struct nvme_sq *sq = &s->sq[q];
    uint32_t half = sq->entries / 2;
    uint16_t away = (uint16_t)(sq->tail < half ? sq->entries - 1 : half ? half - 1 : 0);

    if (p->event_index[q] == away)
        return;
    p->event_index[q] = away;
    set_event(dev, q, false, away);
}

static bool look_at(struct ob_device *dev, uint32_t q, uint32_t value)
{
    struct private *p = ob_private(dev);

    if (value == p->seen[q])
        return false;
    p->seen[q] = value;
    take_tail(dev, q, value);
    if (p->polling)
        keep_away(dev, q);
    return true;
}

void doorbell_look(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    const uint32_t *values = in_memory(dev);
    bool moved = p->rung || (p->mapped && !p->polling && !p->nap_ns);

    if (!values)
        return;
    p->rung = false;
    if (p->mapped)
        moved |= look_at(dev, 0, load(values));
    for (uint64_t left = s->live; left; left &= left - 1) {
        uint32_t q = (uint32_t)__builtin_ctzll(left) + 1;
        moved |= look_at(dev, q, load(&values[2 * q]));
    }
    if (moved)
        doorbell_poll(dev);
}

void doorbell_refresh_head(struct ob_device *dev, uint32_t cq)
{
    const struct private *p = ob_private(dev);
    const uint32_t *values = cq || p->mapped ? in_memory(dev) : NULL;

    if (values)
        take_head(dev, cq, load(&values[2 * cq + 1]));
}

bool doorbell_head(struct ob_device *dev, uint32_t cq, uint32_t *head)
{
    const uint32_t *values = in_memory(dev);

    if (values)
        *head = load(&values[2 * cq + 1]);
    return values != NULL;
}

/* ---- Looking and sleeping --------------------------------------------------------------------------- */

static void learn(struct private *p, uint64_t now)
{
    uint64_t slept = now - p->asleep_since;

    if (slept + p->poll_ns < POLL_MOST_NS)
        p->poll_ns *= 2;
    else
        p->poll_ns /= 2;
    if (p->poll_ns < POLL_LEAST_NS)
        p->poll_ns = POLL_LEAST_NS;
    if (p->poll_ns > POLL_MOST_NS)
        p->poll_ns = POLL_MOST_NS;
}

static void look_until(struct ob_device *dev, uint64_t end)
{
    ob_poll_until(dev, end);
    ob_timer_set(dev, TIMER_POLL, end);
}

void doorbell_poll(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    p->moved = true;
    if (p->polling)
        return;
    uint64_t now = ob_now(dev);
    learn(p, now);
    p->polling = true;
    p->nap_ns = 0;
    look_until(dev, now + p->poll_ns);
    for (uint64_t left = s->live; left; left &= left - 1)
        keep_away(dev, (uint32_t)__builtin_ctzll(left) + 1);
}

/* Nobody will tell us of a doorbell that is mapped. */
static void nap(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    p->nap_ns = p->nap_ns ? 2 * p->nap_ns : NAP_LEAST_NS;
    if (p->nap_ns > NAP_MOST_NS)
        p->nap_ns = NAP_MOST_NS;
    ob_timer_set(dev, TIMER_POLL, ob_now(dev) + p->nap_ns);
}

/* The driver is to write a register at its next value. */
static void ask_for_traps(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    for (uint64_t left = s->live; left; left &= left - 1) {
        uint32_t q = (uint32_t)__builtin_ctzll(left) + 1;
        p->event_index[q] = s->sq[q].tail;
        set_event(dev, q, false, s->sq[q].tail);
    }
    for (uint32_t q = 1; p->blocked && q < QUEUES; q++)
        if (s->cq[q].entries && cq_full(&s->cq[q]))
            set_event(dev, q, true, s->cq[q].head);
    atomic_thread_fence(memory_order_seq_cst);
}

static void sleep_now(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    p->polling = p->moved = false;
    p->asleep_since = ob_now(dev);
    ob_poll_until(dev, 0);
    if (is_running(s) && p->mapped)
        nap(dev);
    else if (is_running(s) && s->shadow)
        ask_for_traps(dev);
    /* A driver that wrote its value before it saw the index rings no register: look once more. */
    if (doorbell_moved(dev))
        doorbell_poll(dev);
    if (p->again || p->polling)
        work_soon(dev);
}

void doorbell_timer(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    if (!p->polling) {
        if (!p->nap_ns || !is_running(s))
            return;
        if (doorbell_moved(dev))
            work_soon(dev);
        nap(dev);
        return;
    }
    if (!p->moved) {
        sleep_now(dev);
        return;
    }
    p->moved = false;
    look_until(dev, ob_now(dev) + p->poll_ns);
}

void doorbell_watch_heads(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    const struct private *p = ob_private(dev);

    if (p->mapped && s->cq[0].entries)
        doorbell_refresh_head(dev, 0);
    for (uint64_t left = s->shadow || p->mapped ? s->interrupting : 0; left; left &= left - 1) {
        uint32_t q = (uint32_t)__builtin_ctzll(left) + 1;
        if (s->cq[q].head == s->cq[q].tail)
            continue;
        set_event(dev, q, true, s->cq[q].head);
        atomic_thread_fence(memory_order_seq_cst);
        doorbell_refresh_head(dev, q);
    }
}

void doorbell_new_sq(struct ob_device *dev, uint32_t q)
{
    struct private *p = ob_private(dev);

    p->seen[q] = 0;
    p->event_index[q] = 0;
    if (p->mapped)
        mapped(dev)[2 * q] = 0;
}

void doorbell_new_cq(struct ob_device *dev, uint32_t q)
{
    const struct private *p = ob_private(dev);

    if (p->mapped)
        mapped(dev)[2 * q + 1] = 0;
}

uint16_t doorbell_configure(struct ob_device *dev, uint64_t doorbells, uint64_t events)
{
    struct nvme *s = ob_state(dev);
    uint32_t value[QUEUES * 2];

    if (doorbells % page_size(s) || events % page_size(s) || !doorbells || !events)
        return SC_INVALID_FIELD | SC_DNR;
    /* Both sides begin with what the registers said. */
    for (uint32_t q = 0; q < QUEUES; q++) {
        value[2 * q] = s->sq[q].tail;
        value[2 * q + 1] = s->cq[q].head;
    }
    if (ob_memory_write(dev, doorbells, value, sizeof value) < 0 ||
        ob_memory_write(dev, events, value, sizeof value) < 0)
        return SC_DATA_TRANSFER | SC_DNR;
    SET(dev, s->shadow, 1);
    SET(dev, s->shadow_doorbells, doorbells);
    SET(dev, s->shadow_events, events);
    doorbell_start(dev);
    return 0;
}

void doorbell_forget(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    p->polling = p->moved = p->rung = false;
    p->nap_ns = 0;
    memset(p->seen, 0, sizeof p->seen);
    memset(p->event_index, 0, sizeof p->event_index);
}

void doorbell_start(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    for (uint32_t q = 0; q < QUEUES; q++)
        p->seen[q] = p->event_index[q] = s->sq[q].tail;
    if (in_memory(dev))
        doorbell_poll(dev);
}

/*
 * slot.c - the table of commands in flight.
 *
 * A bit of slot_map says whether a slot is in use. A free slot whose last request the engine still has
 * is left alone: the buffers of that request hang on its number.
 */
#include "nvme.h"
#include "run.h"

#include <string.h>

void ring_push(struct ring *r, uint32_t i)
{
    r->slot[(r->first + r->count++) % SLOTS] = (uint16_t)i;
}

uint32_t ring_pop(struct ring *r)
{
    uint32_t i = r->slot[r->first];
    r->first = (r->first + 1) % SLOTS;
    r->count--;
    return i;
}

uint32_t slot_next(const struct nvme *s, uint32_t from)
{
    if (from >= SLOTS)
        return SLOTS;
    uint32_t word = from / 64;
    uint64_t bits = s->slot_map[word] & UINT64_MAX << from % 64;
    while (!bits) {
        if (++word == SLOTS / 64)
            return SLOTS;
        bits = s->slot_map[word];
    }
    return word * 64 + (uint32_t)__builtin_ctzll(bits);
}

/* How many commands in flight have this hash; it saves most searches for a conflict. There may be more
 * than an octet counts: then it stays where it is, and searches happen in vain. */
static uint8_t *count_of(struct private *p, uint32_t sqid, uint16_t cid)
{
    return &p->cids[(cid + sqid * 1031u) % sizeof p->cids];
}

static void count(struct private *p, const struct nvme_slot *slot, int change)
{
    uint8_t *n = count_of(p, slot->sq, slot->command.cid);

    p->slots_used += (uint32_t)change;
    if (*n != UINT8_MAX)
        *n = (uint8_t)(*n + change);
}

static uint32_t find_free(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);

    for (uint32_t word = 0; word < SLOTS / 64; word++) {
        uint64_t bits = ~s->slot_map[word];
        while (bits) {
            uint32_t i = word * 64 + (uint32_t)__builtin_ctzll(bits);
            if (!run_is_busy(dev, i))
                return i;
            bits &= bits - 1;
        }
    }
    return NO_SLOT;
}

uint32_t slot_new(struct ob_device *dev, uint32_t sqid, const struct nvme_command *c)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    if (sqid && p->slots_used >= SLOTS - ADMIN_SLOTS)
        return NO_SLOT;
    uint32_t i = find_free(dev);
    if (i == NO_SLOT)
        return i;
    SET(dev, s->slot_map[i / 64], s->slot_map[i / 64] | 1ull << i % 64);
    struct nvme_slot *slot = &s->slot[i];
    ob_touch(dev, slot, sizeof *slot);
    *slot = (struct nvme_slot){ .command = *c, .sq = (uint16_t)sqid, .stage = SLOT_NEW };
    count(p, slot, 1);
    slot_hold_queue(dev, sqid);
    account_began(dev, i);
    return i;
}

void slot_free(struct ob_device *dev, uint32_t i)
{
    struct nvme *s = ob_state(dev);

    if (s->slot[i].far)
        far_end(dev, i);
    count(ob_private(dev), &s->slot[i], -1);
    SET(dev, s->slot_map[i / 64], s->slot_map[i / 64] & ~(1ull << i % 64));
    slot_release_queue(dev, s->slot[i].sq);
}

void slot_hold_queue(struct ob_device *dev, uint32_t sqid)
{
    struct nvme *s = ob_state(dev);
    SET(dev, s->sq[sqid].in_flight, (uint16_t)(s->sq[sqid].in_flight + 1));
}

void slot_release_queue(struct ob_device *dev, uint32_t sqid)
{
    struct nvme *s = ob_state(dev);
    struct nvme_sq *sq = &s->sq[sqid];

    SET(dev, sq->in_flight, (uint16_t)(sq->in_flight - 1));
    if (sq->deleting && sq->in_flight == 0)
        admin_queue_empty(dev, sqid);
}

void slot_done(struct ob_device *dev, uint32_t i, uint16_t status, uint32_t dw0)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    struct nvme_slot *slot = &s->slot[i];

    if (slot->far)
        far_end(dev, i);
    ob_touch(dev, slot, sizeof *slot);
    slot->stage = SLOT_DONE;
    slot->status = status;
    slot->dw0 = dw0;
    if (status)
        log_error(dev, slot->sq, &slot->command, status);
    ring_push(&p->post, i);
    p->again = true;
}

uint32_t slot_find(const struct nvme *s, uint32_t sqid, uint16_t cid, bool refused)
{
    uint32_t left = s->sq[sqid].in_flight;

    for (uint32_t i = slot_next(s, 0); left && i < SLOTS; i = slot_next(s, i + 1)) {
        const struct nvme_slot *slot = &s->slot[i];
        if (slot->sq != sqid)
            continue;
        bool is_refused = slot->stage == SLOT_DONE && slot->status == (SC_CID_CONFLICT | SC_DNR);
        if (slot->command.cid == cid && is_refused == refused)
            return i;
        left--;
    }
    return NO_SLOT;
}

bool slot_conflict(struct ob_device *dev, uint32_t sqid, uint16_t cid)
{
    struct private *p = ob_private(dev);
    return *count_of(p, sqid, cid) && slot_find(ob_state(dev), sqid, cid, false) != NO_SLOT;
}

void slot_count_all(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    memset(p->cids, 0, sizeof p->cids);
    p->slots_used = 0;
    for (uint32_t i = slot_next(s, 0); i < SLOTS; i = slot_next(s, i + 1))
        count(p, &s->slot[i], 1);
}

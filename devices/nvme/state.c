/*
 * state.c - what migrates of a controller, and what may be believed of it; standing still and going on.
 *
 * Commands that were fetched and have not completed stay in their slots, and are executed again by
 * whoever loads the state, as after a death. The files are locked by who may execute commands: they are
 * let go at the stop, and taken by the next one who starts with an enabled controller.
 */
#include "run.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- Fields ----------------------------------------------------------------------------------------- */

static const struct ob_field sq_fields[] = {
    OB_INT(struct nvme_sq, address), OB_INT(struct nvme_sq, entries),   OB_INT(struct nvme_sq, head),
    OB_INT(struct nvme_sq, tail),    OB_INT(struct nvme_sq, cq),        OB_INT(struct nvme_sq, in_flight),
    OB_INT(struct nvme_sq, deleting), OB_END,
};

static const struct ob_field cq_fields[] = {
    OB_INT(struct nvme_cq, address), OB_INT(struct nvme_cq, entries), OB_INT(struct nvme_cq, head),
    OB_INT(struct nvme_cq, tail),    OB_INT(struct nvme_cq, vector),  OB_INT(struct nvme_cq, users),
    OB_INT(struct nvme_cq, unsignalled), OB_INT(struct nvme_cq, phase), OB_INT(struct nvme_cq, interrupts),
    OB_END,
};

/* A command is as the specification lays it out, and little-endian. */
static const struct ob_field slot_fields[] = {
    OB_BYTES(struct nvme_slot, command), OB_INT(struct nvme_slot, sq), OB_INT(struct nvme_slot, stage),
    OB_INT(struct nvme_slot, status),    OB_INT(struct nvme_slot, dw0),
    OB_RUNTIME_INT(struct nvme_slot, far), OB_END,
};

static const struct ob_field far_fields[] = {
    OB_INT(struct nvme_far, stage),  OB_INT(struct nvme_far, slot),    OB_INT(struct nvme_far, moving),
    OB_INT(struct nvme_far, list),   OB_INT(struct nvme_far, want),    OB_INT(struct nvme_far, want_at),
    OB_INT(struct nvme_far, length), OB_INT(struct nvme_far, at),      OB_INT(struct nvme_far, next),
    OB_INT(struct nvme_far, ranges), OB_BYTES(struct nvme_far, range), OB_BYTES(struct nvme_far, buffer),
    OB_END,
};

static const struct ob_field error_fields[] = {
    OB_INT(struct nvme_error, number), OB_INT(struct nvme_error, sq),   OB_INT(struct nvme_error, cid),
    OB_INT(struct nvme_error, status), OB_INT(struct nvme_error, location), OB_INT(struct nvme_error, lba),
    OB_INT(struct nvme_error, nsid),   OB_INT(struct nvme_error, specific), OB_END,
};

/* Not among them: commands whose data goes by messages (far), which begin anew. */
const struct ob_field state_fields[] = {
    OB_INT(struct nvme, identity.lba_shift),
    OB_INT(struct nvme, identity.namespaces),
    OB_INT(struct nvme, identity.queues),
    OB_INT(struct nvme, identity.readonly),
    OB_BYTES(struct nvme, identity.serial),
    OB_INTS(struct nvme, identity.hash),
    OB_INT(struct nvme, cc),
    OB_INT(struct nvme, csts),
    OB_INT(struct nvme, intms),
    OB_INT(struct nvme, aqa),
    OB_INT(struct nvme, asq),
    OB_INT(struct nvme, acq),
    OB_INT(struct nvme, resetting),
    OB_INT(struct nvme, shutting),
    OB_INT(struct nvme, subsystem_reset),
    OB_TIME(struct nvme, power_on),
    OB_INT(struct nvme, shadow),
    OB_INT(struct nvme, shadow_doorbells),
    OB_INT(struct nvme, shadow_events),
    OB_INT(struct nvme, features.arbitration),
    OB_INT(struct nvme, features.power),
    OB_INT(struct nvme, features.temperature_over),
    OB_INT(struct nvme, features.temperature_under),
    OB_INTS(struct nvme, features.error_recovery),
    OB_INT(struct nvme, features.write_cache),
    OB_INT(struct nvme, features.coalescing),
    OB_INT(struct nvme, features.events),
    OB_INTS(struct nvme, features.vector_uncoalesced),
    OB_INT(struct nvme, features.timestamp),
    OB_TIME(struct nvme, features.timestamp_time),
    OB_INT(struct nvme, event_pending),
    OB_INT(struct nvme, event_masked),
    OB_INTS(struct nvme, event_slot),
    OB_INT(struct nvme, event_count),
    OB_INTS(struct nvme, changed),
    OB_INTS(struct nvme, blocks),
    OB_INT(struct nvme, counters.reads),
    OB_INT(struct nvme, counters.writes),
    OB_INT(struct nvme, counters.blocks_read),
    OB_INT(struct nvme, counters.blocks_written),
    OB_INT(struct nvme, counters.syncs),
    OB_INT(struct nvme, counters.media_errors),
    OB_INT(struct nvme, counters.errors),
    OB_INT(struct nvme, counters.power_cycles),
    OB_INT(struct nvme, counters.unsafe_shutdowns),
    OB_INT(struct nvme, counters.busy_ns),
    OB_STRUCTS(struct nvme, error, error_fields),
    OB_INT(struct nvme, live),
    OB_INT(struct nvme, interrupting),
    OB_STRUCTS(struct nvme, sq, sq_fields),
    OB_STRUCTS(struct nvme, cq, cq_fields),
    OB_INTS(struct nvme, slot_map),
    OB_STRUCTS(struct nvme, slot, slot_fields),
    OB_INT(struct nvme, fetch.sq),
    OB_INT(struct nvme, fetch.count),
    OB_BYTES(struct nvme, fetch.command),
    OB_BYTES(struct nvme, post.entry),
    OB_INT(struct nvme, post.address),
    OB_INT(struct nvme, post.stage),
    OB_INT(struct nvme, post.slot),
    /* What a successor on this host needs besides. */
#ifdef OUTBOARD_NEXT_BUILD
    OB_OPTIONAL_INTS(struct nvme, spare),
#endif
    OB_RUNTIME_INT(struct nvme, epoch),
    OB_RUNTIME_STRUCTS(struct nvme, far, far_fields),
    OB_END,
};

/* ---- What may be believed --------------------------------------------------------------------------- */

#define REFUSE(dev, ...)                 \
    do {                                 \
        ob_error((dev), __VA_ARGS__);    \
        return -EINVAL;                  \
    } while (0)

static int check_range(struct ob_device *dev, const char *field, uint64_t value, uint64_t most)
{
    if (value > most)
        REFUSE(dev, "field %s: %" PRIu64 " is out of range", field, value);
    return 0;
}

/* Does the disk of this process look the same to the guest? */
static int check_identity(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    const struct private *p = ob_private(dev);
    const struct nvme_identity *id = &s->identity;

    if (id->lba_shift != p->lba_shift)
        REFUSE(dev, "lba=%u here, blocks of %" PRIu64 " bytes in the stream", 1u << p->lba_shift,
               id->lba_shift < 64 ? UINT64_C(1) << id->lba_shift : 0);
    if (id->namespaces != p->namespaces)
        REFUSE(dev, "%u namespaces here, %u in the stream", p->namespaces, id->namespaces);
    if (id->queues != p->queues)
        REFUSE(dev, "queues=%u here, %u in the stream", p->queues, id->queues);
    if (id->readonly != p->readonly)
        REFUSE(dev, "readonly=%s here, and not in the stream", p->readonly ? "on" : "off");
    for (unsigned i = 0; i < sizeof id->serial; i++)
        if (id->serial[i] && (i >= 20 || !isprint(id->serial[i])))
            REFUSE(dev, "field identity.serial: not a serial number");
    for (uint32_t i = 0; i < NAMESPACES; i++) {
        uint64_t here = i < p->namespaces ? p->ns[i].bytes >> p->lba_shift : 0;
        if (s->blocks[i] > here)
            REFUSE(dev, "namespace %u: %" PRIu64 " blocks in the stream, the file has %" PRIu64, i + 1,
                   s->blocks[i], here);
    }
    return 0;
}

static int check_registers(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    bool ready = s->csts & CSTS_RDY;

    if ((s->cc & ~CC_ALL) || CC_CSS(s->cc) || CC_AMS(s->cc) || CC_MPS(s->cc) > MPS_MAX)
        if (ready || (s->cc & ~CC_ALL))
            REFUSE(dev, "field cc: 0x%x is out of range", s->cc);
    if ((s->csts & ~(CSTS_RDY | CSTS_CFS | CSTS_SHST | CSTS_NSSRO)) || (s->csts & CSTS_SHST) == CSTS_SHST)
        REFUSE(dev, "field csts: 0x%x is out of range", s->csts);
    if ((s->aqa & ~0x0fff0fffu) || ((s->asq | s->acq) & 0xfff))
        REFUSE(dev, "fields aqa, asq, acq: out of range");
    if (ready != (s->sq[0].entries != 0) || ready != (s->cq[0].entries != 0))
        REFUSE(dev, "field csts: an enabled controller has admin queues, and no other");
    if (check_range(dev, "resetting", s->resetting, ready) < 0 ||
        check_range(dev, "shutting", s->shutting, 1) < 0 ||
        check_range(dev, "subsystem_reset", s->subsystem_reset, 1) < 0 ||
        check_range(dev, "shadow", s->shadow, ready) < 0 ||
        check_range(dev, "event_pending", s->event_pending, (1u << EVENT_KINDS) - 1) < 0 ||
        check_range(dev, "event_masked", s->event_masked, (1u << EVENT_KINDS) - 1) < 0)
        return -EINVAL;
    if (s->shadow && ((s->shadow_doorbells | s->shadow_events) & 0xfff))
        REFUSE(dev, "fields shadow_doorbells, shadow_events: not on a page");
    return 0;
}

static bool cq_makes_sense(const struct nvme *s, const struct private *p, uint32_t q)
{
    const struct nvme_cq *cq = &s->cq[q];
    uint32_t users = 0;

    if (!cq->entries)
        return true;
    for (uint32_t i = 0; i < QUEUES; i++)
        users += s->sq[i].entries && s->sq[i].cq == q;
    return q <= p->queues && cq->entries >= 2 && cq->entries <= ENTRIES && cq->head < cq->entries &&
           cq->tail < cq->entries && cq->vector < QUEUES && cq->phase <= 1 && cq->interrupts <= 1 &&
           cq->users == users && cq->address % 4096 == 0;
}

static bool sq_makes_sense(const struct nvme *s, const struct private *p, uint32_t q, uint32_t in_flight)
{
    const struct nvme_sq *sq = &s->sq[q];

    if (!sq->entries)
        return in_flight == 0;
    return q <= p->queues && sq->entries >= 2 && sq->entries <= ENTRIES && sq->head < sq->entries &&
           sq->tail < sq->entries && sq->cq < QUEUES && (q == 0) == (sq->cq == 0) &&
           s->cq[sq->cq].entries && sq->deleting <= (q != 0) && sq->in_flight == in_flight &&
           sq->address % 4096 == 0;
}

static int check_queues(struct ob_device *dev, const uint32_t *in_flight)
{
    const struct nvme *s = ob_state(dev);
    const struct private *p = ob_private(dev);
    uint64_t live = 0, interrupting = 0;

    for (uint32_t q = 0; q < QUEUES; q++) {
        if (!cq_makes_sense(s, p, q))
            REFUSE(dev, "field cq[]: completion queue %u makes no sense", q);
        if (!sq_makes_sense(s, p, q, in_flight[q]))
            REFUSE(dev, "field sq[]: submission queue %u makes no sense", q);
        if (q && s->sq[q].entries)
            live |= 1ull << (q - 1);
        if (q && s->cq[q].entries && s->cq[q].interrupts)
            interrupting |= 1ull << (q - 1);
    }
    if (live != s->live || interrupting != s->interrupting)
        REFUSE(dev, "fields live, interrupting: not what the queues are");
    return 0;
}

static bool is_used(const struct nvme *s, uint32_t i)
{
    return i < SLOTS && (s->slot_map[i / 64] & 1ull << i % 64);
}

static bool waits_for_event(const struct nvme *s, uint32_t i)
{
    for (uint32_t n = 0; n < s->event_count; n++)
        if (s->event_slot[n] == i)
            return true;
    return false;
}

static bool slot_makes_sense(const struct nvme *s, uint32_t i)
{
    const struct nvme_slot *slot = &s->slot[i];

    if (slot->sq >= QUEUES || !s->sq[slot->sq].entries || slot->status > 0x7fff)
        return false;
    if (slot->stage != SLOT_WAIT)
        return (slot->stage == SLOT_NEW || slot->stage == SLOT_DONE) && !waits_for_event(s, i);
    uint32_t q = slot->command.cdw10 & 0xffff;
    return slot->sq == 0 && (waits_for_event(s, i) ||
                             (slot->command.opcode == ADMIN_DELETE_SQ && q < QUEUES && s->sq[q].deleting));
}

static int check_slots(struct ob_device *dev, uint32_t *in_flight)
{
    const struct nvme *s = ob_state(dev);

    if (check_range(dev, "event_count", s->event_count, EVENTS) < 0)
        return -EINVAL;
    for (uint32_t n = 0; n < s->event_count; n++)
        for (uint32_t m = 0; m <= n; m++)
            if (!is_used(s, s->event_slot[n]) || (m < n && s->event_slot[m] == s->event_slot[n]))
                REFUSE(dev, "field event_slot: slot %u holds no request", s->event_slot[n]);
    for (uint32_t i = slot_next(s, 0); i < SLOTS; i = slot_next(s, i + 1)) {
        if (!slot_makes_sense(s, i))
            REFUSE(dev, "field slot[]: slot %u makes no sense", i);
        in_flight[s->slot[i].sq]++;
    }
    return 0;
}

/* Transfers by messages that were under way. */
static int check_far(struct ob_device *dev, uint32_t *in_flight)
{
    const struct nvme *s = ob_state(dev);
    uint32_t sq = s->post.entry.sqid, i = s->post.slot;

    if (check_range(dev, "fetch.count", s->fetch.count, FAR_FETCH) < 0 ||
        check_range(dev, "fetch.sq", s->fetch.sq, QUEUES - 1) < 0 ||
        check_range(dev, "post.stage", s->post.stage, POST_LAST) < 0)
        return -EINVAL;
    if (s->fetch.count)
        in_flight[s->fetch.sq]++;
    if (s->post.stage && (sq >= QUEUES || !s->sq[sq].entries))
        REFUSE(dev, "field post.entry: of no queue");
    if (s->post.stage == POST_FIRST && (!is_used(s, i) || s->slot[i].stage != SLOT_DONE || s->slot[i].sq != sq))
        REFUSE(dev, "field post.slot: %u is out of range", i);
    if (s->post.stage == POST_LAST)
        in_flight[sq]++;
    return 0;
}

int state_loaded(struct ob_device *dev, uint32_t version)
{
    struct nvme *s = ob_state(dev);
    uint32_t in_flight[QUEUES] = { 0 };

    (void)version; /* there is one */
    namespaces_measure(dev);
    if (check_identity(dev) < 0 || check_registers(dev) < 0 || check_slots(dev, in_flight) < 0 ||
        check_far(dev, in_flight) < 0 || check_queues(dev, in_flight) < 0)
        return -EINVAL;
    far_forget(dev);
    for (unsigned i = 0; i < DMAS; i++)
        ob_dma_cancel(dev, i); /* where its buffer is cannot be believed: far_adopt() begins it anew */
    for (uint32_t i = slot_next(s, 0); i < SLOTS; i = slot_next(s, i + 1))
        SET(dev, s->slot[i].far, 0);
    SET(dev, s->epoch, s->epoch + 1); /* nothing that this process knows is of this state */
    return 0;
}

/* ---- Standing still --------------------------------------------------------------------------------- */

/* Commands that have ended keep how they did. The others begin anew, and so does what had yet to go to
 * the guest by messages. */
static void keep_results(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    for (uint32_t i = slot_next(s, 0); i < SLOTS; i = slot_next(s, i + 1)) {
        const struct nvme_run *run = &p->run[i];
        struct nvme_slot *slot = &s->slot[i];
        bool has_ended = slot->stage == SLOT_NEW && run->stage == RUN_FINISHED &&
                         (run->status || !slot->far || slot->command.opcode != NVM_READ);
        if (has_ended) {
            ob_touch(dev, slot, sizeof *slot);
            slot->stage = SLOT_DONE;
            slot->status = run->status;
            if (run->status)
                log_error(dev, slot->sq, &slot->command, run->status);
            else
                io_count(dev, slot->command.opcode, run->io.length);
        }
        if (slot->far)
            SET(dev, slot->far, 0);
    }
}

int state_stop(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    p->stopping = true;
    if (p->barred || p->outstanding || p->go_on.count)
        return -EBUSY;
    keep_results(dev);
    far_forget(dev);
    if (p->held)
        irq_held(dev);
    work_count(dev);
    lock_release(dev);
    p->stopped = true;
    return 0;
}

/* ---- Going on --------------------------------------------------------------------------------------- */

static void introduce(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    struct nvme_identity *id = &s->identity;

    if (id->lba_shift == 0) {
        ob_touch(dev, id, sizeof *id);
        id->lba_shift = p->lba_shift;
        id->namespaces = p->namespaces;
        id->queues = p->queues;
        id->readonly = p->readonly;
        memcpy(id->serial, p->serial, sizeof id->serial);
        for (uint32_t i = 0; i < p->namespaces; i++)
            id->hash[i] = p->ns[i].hash;
    }
    memcpy(p->serial, id->serial, sizeof p->serial);
    for (uint32_t i = 0; i < p->namespaces; i++)
        p->ns[i].hash = id->hash[i];
}

bool state_goes_on(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    bool goes_on = p->stopping && !p->stopped;

    if (goes_on) {
        p->stopping = false;
        work_soon(dev);
    }
    return goes_on;
}

int state_start(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    bool enabled = s->csts & CSTS_RDY;

    if ((enabled || (!p->started && !p->incoming)) && lock_files(dev) < 0)
        return -EBUSY;
    if (enabled)
        lock_barrier(dev);
    introduce(dev);
    work_forget(dev);
    p->started = true;
    p->stopping = p->stopped = false;
    return 0;
}

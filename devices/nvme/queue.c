/*
 * queue.c - commands in, completions out; and what a dead process had written beyond the tail.
 */
#include "nvme.h"

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

/* Bounds of one step, so that messages never wait long. */
#define STEP_COMMANDS 64u
#define STEP_BYTES (512u << 10) /* moved on this thread */

/* ---- Out ------------------------------------------------------------------------------------------- */

/* The dword with the phase goes last: a driver that sees it sees all of the entry. */
static int write_entry(struct ob_device *dev, uint64_t at, const struct nvme_completion *e)
{
    const size_t first = offsetof(struct nvme_completion, cid);

    int ret = ob_memory_write(dev, at, e, first);
    atomic_thread_fence(memory_order_release);
    if (ret == 0)
        ret = ob_memory_write(dev, at + first, &e->cid, sizeof *e - first);
    return ret;
}

int cq_post(struct ob_device *dev, const struct nvme_sq *sq, uint32_t sqid, uint16_t cid,
            uint16_t status, uint32_t dw0)
{
    struct nvme *s = ob_state(dev);
    struct nvme_cq *cq = &s->cq[sq->cq];
    struct nvme_completion e = {
        .dw0 = dw0,
        .sqhd = sq->head,
        .sqid = (uint16_t)sqid,
        .cid = cid,
        .status = (uint16_t)(status << 1 | cq->phase),
    };

    int ret = write_entry(dev, cq->address + cq->tail * sizeof e, &e);
    if (ret < 0) {
        if (ret != -EREMOTE)
            controller_fatal(dev, "a completion queue cannot be written");
        return ret;
    }
    cq_advance(dev, cq);
    irq_posted(dev, cq);
    return 0;
}

static bool is_full(struct ob_device *dev, uint32_t cq)
{
    struct nvme *s = ob_state(dev);

    if (cq_full(&s->cq[cq]))
        doorbell_refresh_head(dev, cq);
    return cq_full(&s->cq[cq]);
}

/* False: it has to wait for room. */
static bool post_slot(struct ob_device *dev, uint32_t i)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    struct nvme_slot *slot = &s->slot[i];
    struct nvme_sq *sq = sq_of(s, slot);
    uint16_t status = slot->status;

    if (s->post.stage && p->far_cq[sq->cq])
        return false;
    bool full = is_full(dev, sq->cq);
    if (full && !sq->deleting)
        return false;
    if (slot->stage != SLOT_DONE) {
        status = run_result(dev, i);
        if (status) {
            slot_done(dev, i, status, 0);
            return true;
        }
        if (slot->far && far_ran(dev, i))
            return true;
    }
    /* Nobody makes room in the completion queue of a queue that is being deleted; the driver counts
     * its commands as aborted. */
    int ret = full ? 0 : cq_post(dev, sq, slot->sq, slot->command.cid, status, slot->dw0);
    if (ret == -EREMOTE && !far_post(dev, i, status, slot->dw0))
        return false;
    account_posted(dev, i, status);
    if (ret == 0)
        slot_free(dev, i);
    return true;
}

void queue_post_ready(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    uint32_t n = p->post.count, waiting = 0;

    while (n--) {
        uint32_t i = ring_pop(&p->post);
        if (!post_slot(dev, i)) {
            ring_push(&p->post, i);
            waiting++;
        }
    }
    p->blocked |= waiting != 0;
    p->again |= p->post.count > waiting;
}

/* ---- In -------------------------------------------------------------------------------------------- */

struct round {
    uint32_t commands; /* that this step may still fetch */
    uint64_t bytes;
};

enum fetched { FETCHED, FETCHED_TO_SLOT, NOT_FETCHED };

static enum fetched to_slot(struct ob_device *dev, struct nvme_sq *sq, uint32_t sqid,
                            const struct nvme_command *c, uint16_t status)
{
    struct private *p = ob_private(dev);

    uint32_t i = slot_new(dev, sqid, c);
    if (i == NO_SLOT)
        return NOT_FETCHED;
    sq->head = (uint16_t)(sq->head + 1u == sq->entries ? 0 : sq->head + 1);
    if (status)
        slot_done(dev, i, status, 0);
    else if (sqid == 0)
        admin_execute(dev, i);
    else
        ring_push(&p->start, i);
    return FETCHED_TO_SLOT;
}

static enum fetched to_done_slot(struct ob_device *dev, struct nvme_sq *sq, uint32_t sqid,
                                 const struct nvme_command *c)
{
    uint32_t i = slot_new(dev, sqid, c);

    if (i == NO_SLOT)
        return NOT_FETCHED;
    sq->head = (uint16_t)(sq->head + 1u == sq->entries ? 0 : sq->head + 1);
    slot_done(dev, i, 0, 0);
    return FETCHED_TO_SLOT;
}

/*
 * One command. Only while `at_once` may it be executed and completed here: once a command of this
 * queue went to a slot that is not valid yet, no entry may say that the driver can use its place.
 */
static enum fetched fetch_one(struct ob_device *dev, uint32_t sqid, bool at_once, struct round *r)
{
    struct nvme *s = ob_state(dev);
    struct nvme_sq *sq = &s->sq[sqid];
    struct nvme_command c;
    struct io io;

    int ret = ob_memory_read(dev, sq->address + sq->head * sizeof c, &c, sizeof c);
    if (ret == -EPERM)
        return NOT_FETCHED; /* bus mastering is off: later */
    if (ret == -EREMOTE) {
        far_fetch(dev, sqid);
        return NOT_FETCHED;
    }
    if (ret < 0) {
        controller_fatal(dev, "a submission queue cannot be read");
        return NOT_FETCHED;
    }
    if (slot_conflict(dev, sqid, c.cid))
        return to_slot(dev, sq, sqid, &c, SC_CID_CONFLICT | SC_DNR);
    if (sqid == 0)
        return to_slot(dev, sq, sqid, &c, 0);
    uint16_t status = io_check(dev, &c, &io);
    if (status || !at_once || !io_at_once(dev, &c, &io))
        return to_slot(dev, sq, sqid, &c, status);

    r->bytes -= io.length < r->bytes ? io.length : r->bytes;
    uint16_t head = sq->head;
    sq->head = (uint16_t)(sq->head + 1u == sq->entries ? 0 : sq->head + 1);
    ret = cq_post(dev, sq, sqid, c.cid, 0, 0);
    if (ret == 0)
        account_at_once(dev, c.opcode, io.length);
    if (ret != -EREMOTE)
        return ret ? NOT_FETCHED : FETCHED;
    /* Executed, but not to be completed at once: without a slot it is executed again, later. */
    sq->head = head;
    return to_done_slot(dev, sq, sqid, &c);
}

/* A burst of one queue. True: it has more. */
static bool fetch_queue(struct ob_device *dev, uint32_t sqid, uint32_t burst, struct round *r)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    struct nvme_sq *sq = &s->sq[sqid];
    bool at_once = true;

    if (!sq->entries || sq->deleting || sq->head == sq->tail ||
        (s->fetch.count && s->fetch.sq == sqid))
        return false;
    ob_touch(dev, sq, sizeof *sq);
    while (sq->head != sq->tail && burst && r->commands && r->bytes) {
        if (is_full(dev, sq->cq)) {
            p->blocked = true;
            return false;
        }
        enum fetched f = fetch_one(dev, sqid, at_once, r);
        if (f == NOT_FETCHED)
            return false;
        at_once &= f == FETCHED;
        burst--;
        r->commands--;
        if (sq->deleting || !is_running(s))
            return false;
    }
    return sq->head != sq->tail;
}

/*
 * Round robin (4.13.1): the admin queue first, then one burst of each queue in turn, beginning where
 * the last step ended. A queue is visited once in a step: what it has beyond its burst comes next time.
 */
void queue_fetch(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    struct round r = { STEP_COMMANDS, STEP_BYTES };
    uint32_t burst = s->features.arbitration & 7;
    bool more;

    burst = burst == 7 || !(s->live & (s->live - 1)) ? UINT32_MAX : 1u << burst;
    more = fetch_queue(dev, 0, 1, &r);
    uint32_t from = p->resume;
    uint64_t order = from ? s->live >> from | s->live << (64 - from) : s->live;
    while (order && is_running(s)) {
        uint32_t bit = (uint32_t)__builtin_ctzll(order);
        order &= order - 1;
        uint32_t q = (from + bit) % 64;
        if (!r.commands || !r.bytes) {
            p->resume = (uint16_t)q;
            more = true;
            break;
        }
        more |= fetch_queue(dev, q + 1, burst, &r);
        p->resume = (uint16_t)((q + 1) % 64);
    }
    p->again |= more;
}

void queue_take(struct ob_device *dev, uint32_t sqid, const struct nvme_command *c, uint32_t n)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    struct nvme_sq *sq = &s->sq[sqid];

    ob_touch(dev, sq, sizeof *sq);
    for (; n && is_running(s) && !sq->deleting; n--, c++) {
        struct io io;
        uint16_t status = 0;

        if (is_full(dev, sq->cq)) {
            p->blocked = true;
            return;
        }
        if (slot_conflict(dev, sqid, c->cid))
            status = SC_CID_CONFLICT | SC_DNR;
        else if (sqid)
            status = io_check(dev, c, &io);
        if (to_slot(dev, sq, sqid, c, status) == NOT_FETCHED)
            return;
    }
}

/* ---- After a death --------------------------------------------------------------------------------- */

/* A command that was executed and completed in the step that fetched it: its place is the driver's
 * again. The tail that the dead process knew may have been undone as well. */
static bool adopt_head(struct ob_device *dev, struct nvme_sq *sq, uint32_t head)
{
    if (head >= sq->entries || head == sq->head)
        return false;
    uint32_t fetched = (head + sq->entries - sq->head) % sq->entries;
    uint32_t known = (sq->tail + sq->entries - sq->head) % sq->entries;
    ob_touch(dev, sq, sizeof *sq);
    if (fetched > known)
        sq->tail = (uint16_t)head;
    sq->head = (uint16_t)head;
    return true;
}

/*
 * An entry that the dead process wrote in a step that is not valid: true if it makes sense. The driver
 * can write what it likes here too. It will then miss completions, and nothing worse may happen.
 */
static bool adopt(struct ob_device *dev, uint32_t cqid, const struct nvme_completion *e)
{
    struct nvme *s = ob_state(dev);

    if (e->sqid >= QUEUES || !s->sq[e->sqid].entries || s->sq[e->sqid].cq != cqid)
        return false;
    uint32_t i = slot_find(s, e->sqid, e->cid, e->status >> 1 == (SC_CID_CONFLICT | SC_DNR));
    if (i == NO_SLOT)
        return adopt_head(dev, &s->sq[e->sqid], e->sqhd);
    if (s->slot[i].stage == SLOT_WAIT)
        return false;
    slot_free(dev, i);
    return true;
}

/* The phase alone says what is there: of the driver's head, which comes from memory, the dead process may
 * have known more than the state says. */
static void adopt_queue(struct ob_device *dev, uint32_t cqid)
{
    struct nvme *s = ob_state(dev);
    struct nvme_cq *cq = &s->cq[cqid];
    struct nvme_completion e;

    for (uint32_t n = 1; n < cq->entries; n++) {
        if (ob_memory_read(dev, cq->address + cq->tail * sizeof e, &e, sizeof e) < 0 ||
            (e.status & 1) != cq->phase || !adopt(dev, cqid, &e))
            return;
        ob_touch(dev, cq, sizeof *cq);
        if (cq_full(cq))
            cq->head = (uint16_t)(cq->head + 1u == cq->entries ? 0 : cq->head + 1);
        cq_advance(dev, cq);
    }
}

void queue_adopt(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    slot_count_all(dev);
    if (can_complete(s))
        for (uint32_t i = 0; i < QUEUES; i++)
            if (s->cq[i].entries)
                adopt_queue(dev, i);
    /* What is left is executed anew, or posted. (A deletion that has ended just now is in the state.) */
    p->post.count = 0;
    for (uint32_t i = slot_next(s, 0); i < SLOTS; i = slot_next(s, i + 1)) {
        const struct nvme_slot *slot = &s->slot[i];
        if (far_of(s, i) || (s->post.stage == POST_FIRST && s->post.slot == i))
            continue;
        if (slot->far)
            SET(dev, s->slot[i].far, 0);
        if (slot->stage == SLOT_DONE)
            ring_push(&p->post, i);
        else if (slot->stage == SLOT_NEW)
            ring_push(slot->sq ? &p->start : &p->far, i);
    }
    far_adopt(dev);
    irq_adopt(dev);
}

/*
 * far.c - memory that is reached by messages alone: the client gave it without a descriptor.
 *
 * Everything finds out that memory is far by trying (-EREMOTE), so a command may mix both kinds. From
 * there on all is slow and simple. Submission queues are read, one at a time, into struct nvme_fetch.
 * Completion entries are written, one at a time, out of struct nvme_post. A command with data gets one
 * of a few places (struct nvme_far) and goes through it in this order:
 *
 *     its list is read, its data is read, it is executed as if the place were the guest's memory, its
 *     data is written
 *
 * and ends in its slot as others do. Each arrow between them is a transfer of the framework, which a
 * successor inherits with the state. Nothing here waits: a register is answered while transfers are
 * under way, and a reset by CC.EN, or the deletion of a queue, ends when they have. The client answers
 * transfers while it resets the device or not at all; the framework cancels them then.
 *
 * Two things differ from memory that is mapped, since a driver can see an entry before we know that it
 * was written. The slot is free, and the tail moved on, before the dword with the phase is sent: the
 * driver may use the identifier again, and move its head, at once. And an interrupt follows when the
 * write was answered.
 *
 * Shadow doorbells need memory that can be looked at, so Doorbell Buffer Config fails with far memory.
 */
#include "data.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* ---- Submission queues ------------------------------------------------------------------------------ */

void far_fetch(struct ob_device *dev, uint32_t sqid)
{
    struct private *p = ob_private(dev);

    if (sqid == 0)
        p->far_admin = true;
    else
        p->far_queues |= 1ull << (sqid - 1);
}

/* The admin queue first, then each in turn. */
static uint32_t next_queue(const struct nvme *s, const struct private *p)
{
    uint32_t from = s->fetch.sq % 64; /* the bit behind that of the last one */

    if (p->far_admin || !p->far_queues)
        return 0;
    uint64_t order = from ? p->far_queues >> from | p->far_queues << (64 - from) : p->far_queues;
    return (from + (uint32_t)__builtin_ctzll(order)) % 64 + 1;
}

static void read_entries(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    const struct nvme_sq *sq = &s->sq[s->fetch.sq];

    ob_dma_read(dev, DMA_FETCH, sq->address + sq->head * sizeof s->fetch.command[0],
                s->fetch.command, s->fetch.count * sizeof s->fetch.command[0]);
}

/* Queues that still have entries say so again in the next step. */
static void begin_fetch(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    uint32_t q = next_queue(s, p);
    const struct nvme_sq *sq = &s->sq[q];
    bool asked = q || p->far_admin;

    if (s->fetch.count || !is_running(s))
        return;
    p->far_admin = false;
    p->far_queues = 0;
    if (!asked || !sq->entries || sq->deleting || sq->head == sq->tail)
        return;
    uint32_t n = (sq->tail > sq->head ? sq->tail : sq->entries) - sq->head;
    SET(dev, s->fetch.sq, (uint16_t)q);
    SET(dev, s->fetch.count, (uint16_t)(n < FAR_FETCH ? n : FAR_FETCH));
    slot_hold_queue(dev, q);
    read_entries(dev);
}

static void fetched(struct ob_device *dev, int error)
{
    struct nvme *s = ob_state(dev);
    uint32_t q = s->fetch.sq, n = s->fetch.count;

    SET(dev, s->fetch.count, 0);
    slot_release_queue(dev, q);
    if (!is_running(s) || error == -EPERM)
        return; /* bus mastering is off: later */
    if (error)
        controller_fatal(dev, "a submission queue cannot be read");
    else if (s->sq[q].entries)
        queue_take(dev, q, s->fetch.command, n);
}

/* ---- Completion queues ------------------------------------------------------------------------------ */

#define FIRST offsetof(struct nvme_completion, cid) /* bytes of an entry that go first */

static void write_entry(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    const struct nvme_post *post = &s->post;

    if (post->stage == POST_FIRST)
        ob_dma_write(dev, DMA_POST, post->address, &post->entry, FIRST);
    else
        ob_dma_write(dev, DMA_POST, post->address + FIRST, &post->entry.cid,
                     sizeof post->entry - FIRST);
}

bool far_post(struct ob_device *dev, uint32_t i, uint16_t status, uint32_t dw0)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    struct nvme_slot *slot = &s->slot[i];
    const struct nvme_sq *sq = sq_of(s, slot);
    const struct nvme_cq *cq = &s->cq[sq->cq];

    p->far_cq[sq->cq] = true;
    if (slot->stage != SLOT_DONE) { /* its result is taken, and must stay */
        if (slot->far)
            far_end(dev, i);
        ob_touch(dev, slot, sizeof *slot);
        slot->stage = SLOT_DONE;
        slot->status = status;
        slot->dw0 = dw0;
    }
    if (s->post.stage)
        return false;
    ob_touch(dev, &s->post, sizeof s->post);
    s->post = (struct nvme_post){
        .entry = { .dw0 = dw0, .sqhd = sq->head, .sqid = slot->sq, .cid = slot->command.cid,
                   .status = (uint16_t)(status << 1 | cq->phase) },
        .address = cq->address + cq->tail * sizeof s->post.entry,
        .stage = POST_FIRST,
        .slot = (uint16_t)i,
    };
    write_entry(dev);
    return true;
}

static void posted(struct ob_device *dev, int error)
{
    struct nvme *s = ob_state(dev);
    uint32_t sqid = s->post.entry.sqid;
    struct nvme_cq *cq = &s->cq[s->sq[sqid].cq];

    if (error && can_complete(s))
        controller_fatal(dev, "a completion queue cannot be written");
    if (!can_complete(s)) {
        SET(dev, s->post.stage, POST_IDLE);
    } else if (s->post.stage == POST_FIRST) {
        SET(dev, s->post.stage, POST_LAST);
        slot_hold_queue(dev, sqid); /* until the entry is there */
        slot_free(dev, s->post.slot);
        cq_advance(dev, cq);
        write_entry(dev);
    } else {
        SET(dev, s->post.stage, POST_IDLE);
        ob_touch(dev, cq, sizeof *cq);
        irq_posted(dev, cq);
        slot_release_queue(dev, sqid);
    }
}

/* ---- Commands with data ----------------------------------------------------------------------------- */


static void touch_head(struct ob_device *dev, struct nvme_far *f)
{
    ob_touch(dev, f, offsetof(struct nvme_far, range));
}

struct nvme_far *far_of(struct nvme *s, uint32_t i)
{
    uint32_t k = s->slot[i].far - 1u;
    bool is = k < FARS && s->far[k].stage != FAR_FREE && s->far[k].stage != FAR_DEAD &&
              s->far[k].slot == i;

    return is ? &s->far[k] : NULL;
}

void far_end(struct ob_device *dev, uint32_t i)
{
    struct nvme *s = ob_state(dev);
    struct nvme_far *f = far_of(s, i);

    SET(dev, s->slot[i].far, 0);
    if (f)
        SET(dev, f->stage, f->moving ? FAR_DEAD : FAR_FREE);
}

static void move(struct ob_device *dev, struct nvme_far *f)
{
    struct nvme *s = ob_state(dev);
    unsigned dma = DMA_FAR + (unsigned)(f - s->far);

    SET(dev, f->moving, 1);
    if (f->stage == FAR_LIST)
        ob_dma_read(dev, dma, f->want_at, f->buffer + f->list, f->want);
    else if (f->stage == FAR_IN)
        ob_dma_read(dev, dma, f->range[f->next].address, f->buffer + f->at, f->range[f->next].size);
    else
        ob_dma_write(dev, dma, f->range[f->next].address, f->buffer + f->at, f->range[f->next].size);
}

/* While its list is read: where it is wanted to go on, if not all of it is there. */
int far_read_list(struct ob_device *dev, uint64_t address, void *buf, size_t n)
{
    struct private *p = ob_private(dev);
    struct nvme_far *f = p->window;

    if (n > TRANSFER - p->window_at)
        return -E2BIG;
    if (p->window_at + n <= f->list) {
        memcpy(buf, f->buffer + p->window_at, n);
        p->window_at += (uint32_t)n;
        return 0;
    }
    f->want_at = address; /* touched by walk_list() */
    f->want = (uint32_t)n;
    return -EREMOTE;
}

/*
 * Walks the list from its start with what is there of it. The walk reads the same each time, so it gets
 * as far as the list is there. A status; SC_FAR: the next part is on its way.
 */
static uint16_t walk_list(struct ob_device *dev, struct nvme_far *f, const struct nvme_command *c)
{
    struct private *p = ob_private(dev);
    struct data d;

    touch_head(dev, f);
    f->stage = FAR_LIST;
    p->window = f;
    p->window_at = 0;
    uint16_t status = data_map(dev, c, f->length, &d);
    p->window = NULL;
    if (status == SC_FAR)
        move(dev, f);
    if (status)
        return status;
    f->next = f->at = 0;
    f->ranges = d.count;
    ob_touch(dev, f->range, d.count * sizeof f->range[0]);
    for (uint32_t i = 0; i < d.count; i++) {
        f->range[i].address = d.range[i].address;
        f->range[i].size = d.range[i].size;
    }
    return 0;
}

/* Bytes of data that the command brings, or (admin commands tell when they are executed) takes. */
static uint32_t length_of(struct ob_device *dev, const struct nvme_slot *slot)
{
    const struct nvme_command *c = &slot->command;
    struct io io;

    if (slot->sq == 0)
        return c->opcode == ADMIN_SET_FEATURES && (c->cdw10 & 0xff) == FEAT_TIMESTAMP ? 8 : 0;
    switch (c->opcode) {
    case NVM_DSM: return ((c->cdw10 & 0xff) + 1) * (uint32_t)sizeof(struct nvme_dsm_range);
    case NVM_COPY: return ((c->cdw12 & 0xff) + 1) * (uint32_t)sizeof(struct nvme_copy_range);
    default: return io_check(dev, c, &io) ? 0 : (uint32_t)io.length;
    }
}

static void end(struct ob_device *dev, struct nvme_far *f, uint16_t status)
{
    struct nvme *s = ob_state(dev);
    slot_done(dev, f->slot, status, s->slot[f->slot].dw0);
}

static void execute(struct ob_device *dev, struct nvme_far *f)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    struct nvme_slot *slot = &s->slot[f->slot];
    uint32_t dw0 = 0;

    SET(dev, f->stage, FAR_RUN);
    if (slot->sq) {
        ring_push(&p->start, f->slot);
        return;
    }
    SET(dev, f->length, 0);
    p->window = f;
    uint16_t status = admin_run(dev, &slot->command, &dw0);
    p->window = NULL;
    SET(dev, slot->dw0, dw0);
    if (!status && f->length) {
        status = walk_list(dev, f, &slot->command); /* without a list: its data are in two pages at most */
        SET(dev, f->stage, FAR_OUT);
        if (!status) {
            move(dev, f);
            return;
        }
    }
    end(dev, f, status);
}

static void begin(struct ob_device *dev, struct nvme_far *f)
{
    struct nvme *s = ob_state(dev);
    const struct nvme_slot *slot = &s->slot[f->slot];

    if (f->length) {
        uint16_t status = walk_list(dev, f, &slot->command);
        if (status == SC_FAR)
            return;
        if (status) {
            end(dev, f, status);
            return;
        }
        if (!slot->sq || slot->command.opcode != NVM_READ) {
            SET(dev, f->stage, FAR_IN);
            move(dev, f);
            return;
        }
    }
    execute(dev, f);
}

static void begin_waiting(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    for (uint32_t k = 0; k < FARS && p->far.count && can_complete(s); k++) {
        struct nvme_far *f = &s->far[k];
        if (f->stage != FAR_FREE)
            continue;
        uint32_t i = ring_pop(&p->far);
        touch_head(dev, f);
        memset(f, 0, offsetof(struct nvme_far, range));
        f->slot = (uint16_t)i;
        f->length = length_of(dev, &s->slot[i]);
        SET(dev, s->slot[i].far, (uint16_t)(k + 1));
        begin(dev, f);
    }
}

static void moved(struct ob_device *dev, struct nvme_far *f, int error)
{
    struct nvme *s = ob_state(dev);

    touch_head(dev, f);
    f->moving = 0;
    if (f->stage == FAR_DEAD)
        f->stage = FAR_FREE;
    if (f->stage == FAR_FREE || !can_complete(s))
        return;
    if (error) {
        end(dev, f, SC_DATA_TRANSFER | SC_DNR);
        return;
    }
    if (f->stage == FAR_LIST) {
        f->list += f->want;
        begin(dev, f);
        return;
    }
    f->at += (uint32_t)f->range[f->next++].size;
    if (f->next < f->ranges)
        move(dev, f);
    else if (f->stage == FAR_IN)
        execute(dev, f);
    else
        end(dev, f, 0);
}

bool far_ran(struct ob_device *dev, uint32_t i)
{
    struct nvme *s = ob_state(dev);
    struct nvme_far *f = far_of(s, i);

    if (!f || s->slot[i].command.opcode != NVM_READ)
        return false;
    SET(dev, f->stage, FAR_OUT);
    move(dev, f);
    return true;
}

/* ---- All of it ---------------------------------------------------------------------------------------- */

void far_wait(struct ob_device *dev, uint32_t i)
{
    struct private *p = ob_private(dev);

    ring_push(&p->far, i);
    work_soon(dev);
}

void far_go_on(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    if (p->far_admin || p->far_queues)
        begin_fetch(dev);
    if (p->far.count)
        begin_waiting(dev);
}

/* What came of it is gone on with in a later step: no entry is written in the one that makes it valid. */
void far_done(struct ob_device *dev, unsigned dma, int error)
{
    struct nvme *s = ob_state(dev);
    const struct private *p = ob_private(dev);

    if (p->barred) {
        lock_later(dev, dma, error);
        return;
    }
    switch (dma) {
    case DMA_POST: posted(dev, error); break;
    case DMA_FETCH: fetched(dev, error); break;
    default: moved(dev, &s->far[dma - DMA_FAR], error); break;
    }
    irq_end(dev);
    work_soon(dev);
}

bool far_is_moving(const struct nvme *s)
{
    bool moving = s->fetch.count || s->post.stage;

    for (uint32_t k = 0; k < FARS; k++)
        moving |= s->far[k].moving != 0;
    return moving;
}

bool far_is_idle(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    const struct private *p = ob_private(dev);
    bool busy = p->far.count || s->fetch.count || s->post.stage;

    for (uint32_t k = 0; k < FARS; k++)
        busy |= s->far[k].stage != FAR_FREE;
    return !busy;
}

/* No transfer is under way, or the framework has cancelled them. */
void far_clear(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);

    SET(dev, s->fetch.count, 0);
    SET(dev, s->post.stage, POST_IDLE);
    for (uint32_t k = 0; k < FARS; k++) {
        touch_head(dev, &s->far[k]);
        s->far[k].stage = FAR_FREE;
        s->far[k].moving = 0;
    }
}

void far_forget(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);

    for (uint32_t k = 0; k < FARS; k++) {
        struct nvme_far *f = &s->far[k];
        if (f->stage == FAR_FREE && !f->moving)
            continue;
        ob_dma_cancel(dev, DMA_FAR + k);
        touch_head(dev, f);
        f->stage = FAR_FREE;
        f->moving = 0;
    }
}

/* Transfers go on by themselves, unless they were left behind with another host: -EBUSY otherwise. */
void far_adopt(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    if (s->fetch.count)
        read_entries(dev);
    if (s->post.stage)
        write_entry(dev);
    for (uint32_t k = 0; k < FARS; k++) {
        struct nvme_far *f = &s->far[k];
        if (f->moving && f->stage != FAR_DEAD)
            move(dev, f);
        else if (f->stage == FAR_RUN)
            ring_push(&p->start, f->slot);
    }
}

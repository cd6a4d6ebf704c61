/*
 * admin.c - admin commands: queues, and who serves the others.
 */
#include "nvme.h"

#include <string.h>

/* ---- Queues (5.3 to 5.6) ---------------------------------------------------------------------------- */

static uint16_t create_cq(struct ob_device *dev, const struct nvme_command *c)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    uint32_t q = c->cdw10 & 0xffff, entries = (c->cdw10 >> 16) + 1, vector = c->cdw11 >> 16;

    if (q == 0 || q > p->queues || s->cq[q].entries)
        return SC_QUEUE_ID | SC_DNR;
    if (entries < 2 || entries > ENTRIES || CC_IOCQES(s->cc) != 4)
        return SC_QUEUE_SIZE | SC_DNR;
    if (vector >= QUEUES || (ob_vectors(dev) && vector >= ob_vectors(dev)))
        return SC_VECTOR | SC_DNR;
    if (!(c->cdw11 & 1))
        return SC_INVALID_FIELD | SC_DNR; /* contiguous queues alone: CAP.CQR */
    if (c->prp1 % page_size(s))
        return SC_PRP_OFFSET | SC_DNR;
    ob_touch(dev, &s->cq[q], sizeof s->cq[q]);
    s->cq[q] = (struct nvme_cq){ .address = c->prp1, .entries = entries, .vector = (uint16_t)vector,
                                 .phase = 1, .interrupts = c->cdw11 >> 1 & 1 };
    doorbell_new_cq(dev, q);
    if (s->cq[q].interrupts)
        SET(dev, s->interrupting, s->interrupting | 1ull << (q - 1));
    return 0;
}

static uint16_t create_sq(struct ob_device *dev, const struct nvme_command *c)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    uint32_t q = c->cdw10 & 0xffff, entries = (c->cdw10 >> 16) + 1, cq = c->cdw11 >> 16;

    if (q == 0 || q > p->queues || s->sq[q].entries)
        return SC_QUEUE_ID | SC_DNR;
    if (cq == 0 || cq > p->queues || !s->cq[cq].entries)
        return SC_CQ_INVALID | SC_DNR;
    if (entries < 2 || entries > ENTRIES || CC_IOSQES(s->cc) != 6)
        return SC_QUEUE_SIZE | SC_DNR;
    if (!(c->cdw11 & 1))
        return SC_INVALID_FIELD | SC_DNR;
    if (c->prp1 % page_size(s))
        return SC_PRP_OFFSET | SC_DNR;
    ob_touch(dev, &s->sq[q], sizeof s->sq[q]);
    s->sq[q] = (struct nvme_sq){ .address = c->prp1, .entries = entries, .cq = (uint16_t)cq };
    SET(dev, s->cq[cq].users, (uint16_t)(s->cq[cq].users + 1));
    SET(dev, s->live, s->live | 1ull << (q - 1));
    doorbell_new_sq(dev, q);
    return 0;
}

static void remove_sq(struct ob_device *dev, uint32_t q)
{
    struct nvme *s = ob_state(dev);
    struct nvme_cq *cq = &s->cq[s->sq[q].cq];

    SET(dev, cq->users, (uint16_t)(cq->users - 1));
    SET(dev, s->live, s->live & ~(1ull << (q - 1)));
    ob_touch(dev, &s->sq[q], sizeof s->sq[q]);
    s->sq[q] = (struct nvme_sq){ 0 };
}

/* Commands that were fetched end first, each with its completion. */
static void delete_sq(struct ob_device *dev, uint32_t i)
{
    struct nvme *s = ob_state(dev);
    uint32_t q = s->slot[i].command.cdw10 & 0xffff;

    if (q == 0 || q >= QUEUES || !s->sq[q].entries || s->sq[q].deleting) {
        slot_done(dev, i, SC_QUEUE_ID | SC_DNR, 0);
        return;
    }
    SET(dev, s->sq[q].deleting, 1);
    SET(dev, s->slot[i].stage, SLOT_WAIT);
    if (s->sq[q].in_flight == 0)
        admin_queue_empty(dev, q);
}

void admin_queue_empty(struct ob_device *dev, uint32_t sqid)
{
    struct nvme *s = ob_state(dev);

    for (uint32_t i = slot_next(s, 0); i < SLOTS; i = slot_next(s, i + 1)) {
        const struct nvme_slot *slot = &s->slot[i];
        if (slot->sq == 0 && slot->stage == SLOT_WAIT && slot->command.opcode == ADMIN_DELETE_SQ &&
            (slot->command.cdw10 & 0xffff) == sqid) {
            remove_sq(dev, sqid);
            slot_done(dev, i, 0, 0);
            return;
        }
    }
}

static uint16_t delete_cq(struct ob_device *dev, const struct nvme_command *c)
{
    struct nvme *s = ob_state(dev);
    uint32_t q = c->cdw10 & 0xffff;

    if (q == 0 || q >= QUEUES || !s->cq[q].entries)
        return SC_QUEUE_ID | SC_DNR;
    if (s->cq[q].users)
        return SC_QUEUE_DELETION | SC_DNR;
    SET(dev, s->interrupting, s->interrupting & ~(1ull << (q - 1)));
    ob_touch(dev, &s->cq[q], sizeof s->cq[q]);
    s->cq[q] = (struct nvme_cq){ 0 };
    return 0;
}

/* ---- Others ----------------------------------------------------------------------------------------- */

/*
 * Abort (5.1): a request for events can be taken back; a command that waits for the disk cannot be
 * any more, and the driver is told so.
 */
static uint16_t abort_command(struct ob_device *dev, const struct nvme_command *c, uint32_t *dw0)
{
    uint32_t q = c->cdw10 & 0xffff;

    *dw0 = !(q == 0 && event_abort(dev, (uint16_t)(c->cdw10 >> 16)));
    return 0;
}

uint16_t admin_run(struct ob_device *dev, const struct nvme_command *c, uint32_t *dw0)
{
    const struct private *p = ob_private(dev);

    /* Fused operations and SGLs are not for admin commands (CNS and log pages: 4.4). */
    if (COMMAND_FUSE(c) || COMMAND_PSDT(c))
        return SC_INVALID_FIELD | SC_DNR;
    if (c->opcode == ADMIN_DOORBELL_BUFFER && p->mapped)
        return SC_INVALID_OPCODE | SC_DNR;
    switch (c->opcode) {
    case ADMIN_CREATE_CQ: return create_cq(dev, c);
    case ADMIN_CREATE_SQ: return create_sq(dev, c);
    case ADMIN_DELETE_CQ: return delete_cq(dev, c);
    case ADMIN_IDENTIFY: return identify(dev, c);
    case ADMIN_GET_LOG: return log_page(dev, c);
    case ADMIN_GET_FEATURES: return feature_get(dev, c, dw0);
    case ADMIN_SET_FEATURES: return feature_set(dev, c, dw0);
    case ADMIN_ABORT: return abort_command(dev, c, dw0);
    case ADMIN_DOORBELL_BUFFER: return doorbell_configure(dev, c->prp1, c->prp2);
    default: return SC_INVALID_OPCODE | SC_DNR;
    }
}

void admin_execute(struct ob_device *dev, uint32_t i)
{
    struct nvme *s = ob_state(dev);
    const struct nvme_command *c = &s->slot[i].command;
    uint32_t dw0 = 0;

    ob_trace(dev, "admin", c->opcode, c->cdw10);
    namespaces_look(dev);
    if (c->opcode == ADMIN_AER) {
        event_request(dev, i);
        return;
    }
    if (c->opcode == ADMIN_DELETE_SQ) {
        delete_sq(dev, i);
        return;
    }
    uint16_t status = admin_run(dev, c, &dw0);
    if (status == SC_FAR)
        far_wait(dev, i); /* and nothing was done yet */
    else
        slot_done(dev, i, status, dw0);
}

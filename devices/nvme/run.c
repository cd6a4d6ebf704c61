/*
 * run.c - I/O commands that may block: from a slot to requests of the engine and back.
 *
 * A command is started after the step that put it into its slot. Each of its requests is followed by
 * a look at the result in a step (run_reap), and the next one is submitted after that step. Two
 * commands may hold back: one whose memory the client is just taking back, and one that needs a bounce
 * buffer while all are in use. They stay in the ring `start`.
 *
 * While a request is under way some guest memory is pinned, or where there is none, ob_hold() says so:
 * that keeps a reset from being acknowledged before the file is left alone.
 */
#include "run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OWN SLOTS /* the run that flushes everything for a shutdown */

struct bounces {
    uint8_t *free[BOUNCES];
    unsigned count;
    unsigned made;
};

int run_open(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    p->run = calloc(SLOTS + 1, sizeof *p->run);
    p->bounces = calloc(1, sizeof *p->bounces);
    return p->run && p->bounces ? 0 : -ENOMEM;
}

bool run_is_busy(struct ob_device *dev, uint32_t i)
{
    struct private *p = ob_private(dev);
    return p->run[i].stage != RUN_IDLE;
}

/* ---- What a run holds ------------------------------------------------------------------------------- */

bool run_take_bounce(struct ob_device *dev, struct nvme_run *run)
{
    struct private *p = ob_private(dev);
    struct bounces *b = p->bounces;

    if (b->count)
        run->bounce = b->free[--b->count];
    else if (b->made < BOUNCES && (run->bounce = aligned_alloc(4096, BOUNCE)))
        b->made++;
    return run->bounce != NULL;
}

static void release(struct ob_device *dev, struct nvme_run *run)
{
    struct private *p = ob_private(dev);

    if (run->data)
        data_put(dev, run->data, run->access);
    if (run->held)
        ob_release(dev);
    if (run->bounce)
        p->bounces->free[p->bounces->count++] = run->bounce;
    free(run->data);
    free(run->iov);
    free(run->list);
    run->data = NULL;
    run->iov = NULL;
    run->list = NULL;
    run->bounce = NULL;
    run->held = false;
}

static void finish(struct ob_device *dev, uint32_t i, uint16_t status)
{
    struct private *p = ob_private(dev);
    struct nvme_run *run = &p->run[i];

    release(dev, run);
    run->stage = RUN_FINISHED;
    run->status = status;
    if (i != OWN && !run->orphan)
        ring_push(&p->post, i);
    work_soon(dev);
}

/* ---- Requests -------------------------------------------------------------------------------------- */

static void submit(struct ob_device *dev, struct nvme_run *run)
{
    struct private *p = ob_private(dev);
    const struct engine_request *r = &run->request;

    run->stage = RUN_BUSY;
    p->outstanding++;
    p->engine->kind->submit(p->engine, &run->request);
    if (r->by_caller)
        work_soon(dev); /* nothing else will tell that there is a result */
    if (r->by_caller && r->result > 0)
        ob_moved(dev, r->op == ENGINE_READ ? (uint64_t)r->result : 0,
                 r->op == ENGINE_WRITE ? (uint64_t)r->result : 0);
}

static void go_on(struct ob_device *dev, uint32_t i)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    struct nvme_run *run = &p->run[i];

    if (request_next(dev, run, &s->slot[i].command))
        submit(dev, run);
    else
        finish(dev, i, 0);
}

/* ---- Beginning -------------------------------------------------------------------------------------- */

/* False: not now. */
static bool start(struct ob_device *dev, uint32_t i)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    struct nvme_run *run = &p->run[i];
    const struct nvme_command *c = &s->slot[i].command;

    if (p->outstanding >= OUTSTANDING)
        return false;
    *run = (struct nvme_run){ .stage = RUN_GO_ON };
    if (is_writing(c->opcode))
        p->written = true;
    p->window = far_of(s, i);
    int ret = request_prepare(dev, run, c);
    p->window = NULL;
    if (ret < 0) {
        release(dev, run);
        run->stage = RUN_IDLE;
        if (ret == -EREMOTE) {
            far_wait(dev, i);
            return true;
        }
        p->retry |= ret == -EBUSY;
        return false;
    }
    if (ret)
        finish(dev, i, (uint16_t)ret);
    else
        go_on(dev, i);
    return true;
}

/* Called after every step. */
void run_start(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    for (uint32_t n = p->go_on.count; n; n--) {
        uint32_t i = ring_pop(&p->go_on);
        if (can_complete(s))
            go_on(dev, i);
        else
            finish(dev, i, SC_INTERNAL); /* nobody will hear of it; but a reset waits for its memory */
    }
    p->retry = false;
    while (p->start.count && can_complete(s) && !p->stopping) {
        if (!start(dev, p->start.slot[p->start.first]))
            break;
        ring_pop(&p->start);
    }
    p->engine->kind->kick(p->engine);
}

/* ---- Results ---------------------------------------------------------------------------------------- */

static void result(struct ob_device *dev, uint32_t i)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    struct nvme_run *run = &p->run[i];
    const struct nvme_command *c = &s->slot[i].command;
    bool moves = run->request.op == ENGINE_READ || run->request.op == ENGINE_WRITE;
    int64_t n = run->request.result;

    if (run->request.op == ENGINE_SYNC || run->request.durable)
        p->delta.syncs++;
    if (n == -EINTR || n == -EAGAIN || (n < 0 && request_otherwise(dev, run, c, (int)n))) {
        ; /* the same again, or in another way */
    } else if (n < 0 || (n == 0 && moves)) {
        /* 0 bytes: the file has become shorter. */
        finish(dev, i, io_status(n ? (int)n : -EIO, run->request.op != ENGINE_READ));
        return;
    } else {
        uint16_t status = request_moved(dev, run, c, (uint64_t)n);
        if (status) {
            finish(dev, i, status);
            return;
        }
    }
    run->stage = RUN_GO_ON;
    ring_push(&p->go_on, i);
}

static void own_result(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    struct nvme_run *run = &p->run[OWN];

    p->delta.syncs++;
    if (run->request.result < 0)
        ob_error(dev, "flush at shutdown: %s", strerror((int)-run->request.result));
    run->stage = RUN_GO_ON;
    run->range++;
}

void run_reap(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    struct engine_request *r;

    while ((r = p->engine->kind->reap(p->engine))) {
        struct nvme_run *run =
            (struct nvme_run *)(void *)((uint8_t *)r - offsetof(struct nvme_run, request));
        p->outstanding--;
        if (run->orphan) {
            release(dev, run);
            run->stage = RUN_IDLE;
        } else if (run == &p->run[OWN]) {
            own_result(dev);
        } else {
            result(dev, (uint32_t)(run - p->run));
        }
    }
}

bool run_has_results(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    return p->engine->kind->ready(p->engine);
}

uint16_t run_result(struct ob_device *dev, uint32_t i)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    struct nvme_run *run = &p->run[i];

    run->stage = RUN_IDLE;
    if (!run->status)
        io_count(dev, s->slot[i].command.opcode, run->io.length);
    return run->status;
}

/* ---- Everything ------------------------------------------------------------------------------------- */

/* One file after the other. True when it is done. */
bool run_flush_all(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    struct nvme_run *run = &p->run[OWN];

    if (run->stage == RUN_BUSY)
        return false;
    if (run->stage == RUN_IDLE)
        run->range = 0;
    if (run->range == p->namespaces) {
        run->stage = RUN_IDLE;
        return true;
    }
    run->request = (struct engine_request){ .op = ENGINE_SYNC, .fd = p->ns[run->range].fd };
    run->orphan = false;
    submit(dev, run);
    return false;
}

void run_forget(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    p->start.count = p->post.count = p->go_on.count = p->far.count = 0;
    for (uint32_t i = 0; i <= SLOTS; i++) {
        struct nvme_run *run = &p->run[i];
        if (run->stage == RUN_BUSY) {
            run->orphan = true;
        } else if (run->stage != RUN_IDLE) {
            release(dev, run);
            run->stage = RUN_IDLE;
        }
    }
}

void run_close(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    if (p->engine)
        p->engine->kind->close(p->engine);
    for (uint32_t i = 0; p->run && i <= SLOTS; i++)
        if (p->run[i].stage != RUN_IDLE) {
            free(p->run[i].data);
            free(p->run[i].iov);
            free(p->run[i].list);
            free(p->run[i].bounce);
        }
    for (unsigned i = 0; p->bounces && i < p->bounces->count; i++)
        free(p->bounces->free[i]);
    free(p->bounces);
    free(p->run);
}

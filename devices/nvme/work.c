/*
 * work.c - the one step that moves commands on: results in, completions out, new commands in.
 *
 * It is called when a file's I/O ended, when a doorbell was written or was seen to have moved, and
 * when an earlier step left more to do. What it decides to start is started after it (committed).
 */
#include "engine.h"
#include "nvme.h"

#include <sched.h>
#include <string.h>

#define LOOKS 64u /* until the core is offered to others */

void work_soon(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    p->again = true;
    if (!p->polling)
        ob_poll_until(dev, 1); /* one look, at once */
}

/* #syscalls nvme: sched_yield */
bool work_pending(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    if (p->barred)
        return p->again;
    if (p->again || run_has_results(dev) || doorbell_moved(dev))
        return true;
    /* The threads that io_uring or we have may need this very core; and so may whoever brings the guest
     * its interrupts. */
    if (p->outstanding || ++p->looks % LOOKS == 0)
        sched_yield();
    return false;
}

void work_count(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);
    uint64_t *to = (uint64_t *)(void *)&s->counters, *from = (uint64_t *)(void *)&p->delta;

    ob_touch(dev, to, sizeof s->counters);
    for (unsigned i = 0; i < sizeof s->counters / sizeof *to; i++)
        to[i] += from[i];
    p->delta = (struct nvme_counters){ 0 };
}

void work(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    p->again = p->blocked = false;
    p->looks = 0;
    if (p->barred)
        return;
    run_reap(dev);
    controller_settle(dev);
    if (can_complete(s))
        queue_post_ready(dev);
    if (is_running(s) && !p->stopping) {
        doorbell_look(dev);
        account_begin(dev);
        queue_fetch(dev);
        event_report(dev);
    }
    if (!p->stopping)
        far_go_on(dev);
    if (p->written)
        namespaces_written(dev);
    work_count(dev);
    account_end(dev);
    irq_end(dev);
    if (p->again)
        work_soon(dev);
}

void work_forget(struct ob_device *dev)
{
    const struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    run_forget(dev);
    slot_count_all(dev);
    doorbell_forget(dev);
    p->blocked = p->coalesce_timer = p->far_admin = false;
    p->far_queues = p->held = p->posted = 0;
    memset(p->far_cq, 0, sizeof p->far_cq);
    p->epoch = s->epoch;
}

void work_committed(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    if (p->epoch != s->epoch)
        work_forget(dev);
    if (p->barred)
        return;
    if (p->start.count || p->go_on.count)
        run_start(dev);
    bool idle = p->outstanding == 0 && (!can_complete(s) || (!p->start.count && !p->post.count && far_is_idle(dev)));
    if (s->shutting && !p->flushed && idle && !p->stopping && run_flush_all(dev)) {
        p->flushed = true;
        work_soon(dev);
    }
    p->engine->kind->kick(p->engine);
}

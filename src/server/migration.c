/*
 * migration.c - see migration.h. The rules are those of enum vfio_device_mig_state in <linux/vfio.h>.
 */
#include "server/migration.h"
#include "server/dma.h"
#include "server/frame.h"
#include "server/guest.h"
#include "server/irq.h"
#include "server/log.h"
#include "server/reset.h"

#include <stdio.h>
#include <string.h>

enum {
    ERROR = VFIO_DEVICE_STATE_ERROR,
    STOP = VFIO_DEVICE_STATE_STOP,
    RUNNING = VFIO_DEVICE_STATE_RUNNING,
    STOP_COPY = VFIO_DEVICE_STATE_STOP_COPY,
    RESUMING = VFIO_DEVICE_STATE_RESUMING,
    P2P = VFIO_DEVICE_STATE_RUNNING_P2P, /* not ours, and not vfio-user's */
    PRE_COPY = OB_DEVICE_STATE_PRE_COPY,
    STATES,
};

/* The first arc of the shortest path from one state to another. ERROR: there is none. */
static const uint8_t next_state[STATES][STATES] = {
    [STOP] = { [STOP] = STOP, [RUNNING] = RUNNING, [STOP_COPY] = STOP_COPY, [RESUMING] = RESUMING,
               [PRE_COPY] = RUNNING },
    [RUNNING] = { [STOP] = STOP, [RUNNING] = RUNNING, [STOP_COPY] = STOP, [RESUMING] = STOP,
                  [PRE_COPY] = PRE_COPY },
    [STOP_COPY] = { [STOP] = STOP, [RUNNING] = STOP, [STOP_COPY] = STOP_COPY, [RESUMING] = STOP },
    [RESUMING] = { [STOP] = STOP, [RUNNING] = STOP, [STOP_COPY] = STOP, [RESUMING] = RESUMING,
                   [PRE_COPY] = STOP },
    [PRE_COPY] = { [STOP] = RUNNING, [RUNNING] = RUNNING, [STOP_COPY] = STOP_COPY,
                   [RESUMING] = RUNNING, [PRE_COPY] = PRE_COPY },
};

/* ---- Stopping and running --------------------------------------------------------------------------- */

/* Deadlines become times that are left, and back. */
static void freeze_timers(struct ob_device *dev, uint64_t now)
{
    server_touch(dev, dev->work->deadline, sizeof dev->work->deadline);
    for (unsigned i = 0; i < dev->plugin->timers; i++)
        dev->work->deadline[i] = dev->work->deadline[i] > now ? dev->work->deadline[i] - now : 0;
}

static void thaw_timers(struct ob_device *dev, uint64_t now)
{
    server_touch(dev, dev->work->deadline, sizeof dev->work->deadline);
    for (unsigned i = 0; i < dev->plugin->timers; i++) {
        uint64_t left = dev->work->deadline[i];
        dev->work->deadline[i] = left < UINT64_MAX - now ? now + left : UINT64_MAX;
    }
}

/* Nothing is under way any more when this has succeeded. */
static int stop(struct ob_device *dev)
{
    bool busy = false;

    if (dev->plugin->stop) {
        server_enter(dev);
        busy = dev->plugin->stop(dev) == -EBUSY;
    }
    bool pinned = guest_all_pinned(dev);
    dev->stopping = pinned || busy;
    dev->quiesce = dev->stopping;
    if (dev->stopping)
        return -EINPROGRESS;
    dma_stop(dev);
    uint64_t now = ob_now(dev);
    freeze_timers(dev, now);
    SET(dev, dev->migration->stopped_at, now);
    dev->poll_until = 0;
    server_pause_watches(dev);
    return 0;
}

static int start(struct ob_device *dev)
{
    if (dev->plugin->start) {
        server_enter(dev);
        int ret = dev->plugin->start(dev);
        if (ret < 0)
            return ret;
    }
    irq_run(dev);
    server_resume_watches(dev);
    return 0;
}

int migration_start(struct ob_device *dev)
{
    int ret = start(dev);
    return ret < 0 && (ret < -4095 || ret == -EINPROGRESS) ? -EIO : ret;
}

void migration_unstop(struct ob_device *dev)
{
    if (!dev->stopping)
        return;
    dev->stopping = false;
    dev->quiesce = false;
    server_step_begin(dev);
    if (dev->plugin->start) {
        server_enter(dev);
        if (dev->plugin->start(dev) < 0)
            server_log(dev, "it was asked to stop, and does not go on");
    }
    server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
}

/* ---- At rest, for another build --------------------------------------------------------------------- */

bool ob_stays(struct ob_device *dev)
{
    return dev->resting;
}

int server_rest(struct ob_device *dev)
{
    bool busy = dev->pin_count != 0 || dev->draining;

    if (dev->migration->state != RUNNING || dev->stopping)
        return -EINVAL;
    dev->resting = true;
    server_step_begin(dev);
    if (dev->plugin->stop) {
        server_enter(dev);
        busy |= dev->plugin->stop(dev) == -EBUSY;
    }
    dev->at_rest = !busy;
    if (!busy)
        dma_stop(dev);
    server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
    return busy ? -EBUSY : 0;
}

void server_no_rest(struct ob_device *dev)
{
    dev->resting = dev->at_rest = false;
    server_step_begin(dev);
    if (dev->plugin->stop && dev->plugin->start) {
        server_enter(dev);
        if (dev->plugin->start(dev) < 0)
            server_log(dev, "it was asked to rest, and does not go on");
    }
    server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
    server_resume(dev);
}

/* ---- Loading ---------------------------------------------------------------------------------------- */

static int load_all(struct ob_device *dev, char why[FIELDS_WHY])
{
    struct shared_migration *g = dev->migration;
    uint32_t versions[FIELDS_SECTIONS];

    frame_touch(dev);
    int ret = fields_load(dev->stream, ob_now(dev), dev->incoming, g->received, versions, why);
    if (ret == 0)
        ret = frame_load(dev, why);
    if (ret == 0 && dev->plugin->loaded) {
        snprintf(why, FIELDS_WHY, "the device refused it");
        ret = dev->plugin->loaded(dev, versions[SECTION_DEVICE]);
    }
    return ret < 0 ? -EINVAL : 0;
}

/* RESUMING to STOP. A stream that cannot be loaded leaves the old state behind, and ERROR. */
static int load(struct ob_device *dev)
{
    char why[FIELDS_WHY];

    int ret = load_all(dev, why);
    if (ret == 0)
        return 0;
    server_step_undo(dev);
    server_log(dev, "the state that came in cannot be loaded: %s", why);
    SET(dev, dev->migration->state, ERROR);
    return ret;
}

/* ---- From state to state ---------------------------------------------------------------------------- */

/* Nothing of the state that it has now was read yet. */
static void begin_saving(struct ob_device *dev)
{
    SET(dev, dev->migration->read, 0);
}

static void begin_resuming(struct ob_device *dev)
{
    SET(dev, dev->migration->read, 0);
    SET(dev, dev->migration->received, 0);
    SET(dev, dev->migration->described, 0);
}

/* One arc. What it does to the process beside the block can only follow a success. */
static int take_arc(struct ob_device *dev, uint32_t from, uint32_t to)
{
    int ret = 0;

    if (from == RESUMING)
        ret = load(dev);
    else if (to == STOP && from == RUNNING)
        ret = stop(dev);
    else if (from == PRE_COPY && to == STOP_COPY)
        ret = stop(dev);
    if (ret == 0 && to == STOP_COPY)
        ret = frame_save(dev);
    if (ret < 0)
        return ret;
    if (to == RESUMING)
        begin_resuming(dev);
    else if (from == RUNNING || (to == STOP_COPY && from == STOP))
        begin_saving(dev);
    SET(dev, dev->migration->state, to);
    if (from == STOP && to == RUNNING) {
        thaw_timers(dev, ob_now(dev));
        ret = migration_start(dev);
    }
    return ret;
}

/* Ends the step that this arc was, whether it succeeded or is undone but for the state ERROR. */
static void end_arc(struct ob_device *dev)
{
    server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
    server_step_begin(dev);
}

int migration_set(struct ob_device *dev, uint32_t state)
{
    const struct shared_migration *g = dev->migration;

    if (state >= STATES || !next_state[g->state][state])
        return -EINVAL;
    while (g->state != state) {
        uint32_t from = g->state, to = next_state[from][state];
        int ret = take_arc(dev, from, to);
        if (ret == 0 || g->state == ERROR)
            end_arc(dev);
        if (ret < 0)
            return ret;
    }
    return 0;
}

/* Its state was read to the end, and it has not run since. */
static bool moved(const struct ob_device *dev)
{
    const struct shared_migration *g = dev->migration;
    return server_stopped(dev) && g->read == fields_size(dev->stream);
}

/* To RUNNING from whatever the last client left. */
static int go_on(struct ob_device *dev)
{
    uint32_t state = dev->migration->state;

    if (state == ERROR || state == RESUMING || moved(dev))
        return server_reset(dev);
    return migration_set(dev, RUNNING);
}

void migration_attached(struct ob_device *dev)
{
    if (dev->migration->state == RUNNING)
        return;
    server_step_begin(dev);
    if (go_on(dev) < 0) {
        server_step_undo(dev);
        server_log(dev, "it was stopped for a migration, and cannot go on now");
    }
    server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
    dma_fail_all(dev); /* the memory of who began them has gone */
    dma_pump(dev);
}

/* ---- The stream ------------------------------------------------------------------------------------- */

int migration_read(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    struct shared_migration *g = dev->migration;
    struct vfio_user_mig_data data = m->mig_data;
    uint64_t end;

    if (g->state == STOP_COPY)
        end = fields_size(dev->stream);
    else if (g->state == PRE_COPY)
        end = fields_description_size(dev->stream); /* it does not depend on the state */
    else
        return -EINVAL;
    if (data.size > WIRE_MAX_DATA || data.argsz < sizeof data + data.size)
        return -EINVAL;
    uint64_t left = end - (g->read < end ? g->read : end);
    data.size = data.size < left ? data.size : (uint32_t)left;
    data.argsz = (uint32_t)sizeof data + data.size;
    memcpy(reply->body, &data, sizeof data);
    fields_read(dev->stream, g->stopped_at, g->read, reply->body + sizeof data, data.size);
    reply->size = data.argsz;
    SET(dev, g->read, g->read + data.size);
    return 0;
}

int migration_write(struct ob_device *dev, const struct wire_message *m)
{
    struct shared_migration *g = dev->migration;
    char why[FIELDS_WHY];

    if (g->state != RESUMING)
        return -EINVAL;
    if (m->data_size > dev->incoming_size - g->received) {
        server_log(dev, "more bytes of a state come in than there is room for");
        return -E2BIG;
    }
    memcpy(dev->incoming + g->received, m->data, m->data_size); /* nobody looks there before `received` */
    SET(dev, g->received, g->received + m->data_size);
    if (g->described)
        return 0;
    int ret = fields_check(dev->stream, dev->incoming, g->received, why);
    if (ret == -EAGAIN)
        return 0;
    if (ret < 0) {
        server_log(dev, "the state that comes in does not fit: %s", why);
        return ret;
    }
    SET(dev, g->described, 1);
    return 0;
}

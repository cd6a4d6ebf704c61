/*
 * reset.c - back to the start. What the client set up (memory, eventfds) is its own and stays.
 */
#include "server/reset.h"
#include "server/bus.h"
#include "server/dma.h"
#include "server/guest.h"
#include "server/irq.h"
#include "server/migration.h"
#include "server/record.h"

static void reset(struct ob_device *dev, enum ob_reset kind)
{
    record_event(dev, RECORDED_RESET, 0, kind);
    if (dev->bus->reset)
        dev->bus->reset(dev);
    irq_reset(dev);
    dma_cancel(dev);
    SET(dev, dev->work->timers, 0);
    if (dev->plugin->reset) {
        server_enter(dev);
        dev->plugin->reset(dev, kind);
    }
}

int server_reset(struct ob_device *dev)
{
    if (guest_all_pinned(dev))
        return -EINPROGRESS;
    bool stopped = server_stopped(dev);
    SET(dev, dev->migration->state, VFIO_DEVICE_STATE_RUNNING);
    reset(dev, OB_RESET_DEVICE);
    return stopped ? migration_start(dev) : 0;
}

void server_power_on(struct ob_device *dev)
{
    SET(dev, dev->migration->state, VFIO_DEVICE_STATE_RUNNING);
    reset(dev, OB_RESET_POWER_ON);
}

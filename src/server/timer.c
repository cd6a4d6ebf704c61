/*
 * timer.c - deadlines of the device. They are in the block: a successor keeps them.
 */
#include "server/device.h"
#include "server/dma.h"
#include "server/record.h"

#include <time.h>

uint64_t ob_now(struct ob_device *dev)
{
    struct timespec now;
    (void)dev;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void ob_timer_set(struct ob_device *dev, unsigned id, uint64_t deadline)
{
    if (id >= dev->plugin->timers)
        return;
    SET(dev, dev->work->deadline[id], deadline);
    SET(dev, dev->work->timers, dev->work->timers | UINT64_C(1) << id);
}

void ob_timer_cancel(struct ob_device *dev, unsigned id)
{
    if (id < dev->plugin->timers && (dev->work->timers & UINT64_C(1) << id))
        SET(dev, dev->work->timers, dev->work->timers & ~(UINT64_C(1) << id));
}

void ob_poll_until(struct ob_device *dev, uint64_t deadline)
{
    dev->poll_until = deadline;
}

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Looks before the loop asks the kernel for other events, and works before it does. */
#ifndef POLL_LOOKS
#define POLL_LOOKS 64
#endif
#define WORKS 16

void server_poll(struct ob_device *dev, uint64_t now)
{
    int works = 0;

    if (now >= dev->poll_until)
        dev->poll_until = 0;
    for (int looks = 0; looks < POLL_LOOKS && works < WORKS; looks++) {
        if (!dev->plugin->pending(dev)) {
            relax();
            continue;
        }
        server_step_begin(dev);
        server_enter(dev);
        dev->plugin->work(dev);
        server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
        works++;
        looks = 0;
    }
    if (works)
        server_push(dev);
}

uint64_t server_next_deadline(const struct ob_device *dev)
{
    uint64_t held = server_held_until(dev), next = dev->dma_more ? 0 : held;

    if (server_stopped(dev))
        return held;
    for (uint64_t left = dev->work->timers; left; left &= left - 1) {
        uint64_t deadline = dev->work->deadline[__builtin_ctzll(left)];
        next = deadline < next ? deadline : next;
    }
    return next;
}

void server_run_timers(struct ob_device *dev, uint64_t now)
{
    for (uint64_t left = server_stopped(dev) ? 0 : dev->work->timers; left; left &= left - 1) {
        unsigned id = (unsigned)__builtin_ctzll(left);
        if (!(dev->work->timers & UINT64_C(1) << id) || dev->work->deadline[id] > now)
            continue;
        server_step_begin(dev);
        server_enter(dev);
        ob_timer_cancel(dev, id);
        record_event(dev, RECORDED_TIMER, id, 0);
        if (dev->plugin->timer)
            dev->plugin->timer(dev, id);
        server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
    }
    server_push(dev);
    server_run_overdue(dev, now);
}

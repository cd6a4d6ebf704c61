/*
 * loop.c - waiting, and calling who is ready.
 */
#include "worker/loop.h"

#include <time.h>
#include <unistd.h>

#define EVENTS 16

int loop_open(struct loop *loop)
{
    *loop = (struct loop){ .epoll = epoll_create1(EPOLL_CLOEXEC) };
    return loop->epoll < 0 ? -errno : 0;
}

void loop_close(struct loop *loop)
{
    close(loop->epoll);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t next_deadline(const struct loop *loop)
{
    uint64_t next = UINT64_MAX;
    for (const struct served *s = loop->first; s; s = s->next) {
        if (s->dev->poll_until)
            return 0;
        uint64_t device = server_next_deadline(s->dev), lobby = lobby_next_deadline(&s->lobby);
        next = device < next ? device : next;
        next = lobby < next ? lobby : next;
    }
    return next;
}

static void run_due(struct loop *loop)
{
    uint64_t now = now_ns();
    for (struct served *s = loop->first; s; s = s->next) {
        if (s->dev->poll_until)
            server_poll(s->dev, now);
        if (server_next_deadline(s->dev) <= now)
            server_run_timers(s->dev, now);
        if (lobby_next_deadline(&s->lobby) <= now)
            lobby_run(&s->lobby, now);
    }
}

/* #syscalls worker: epoll_pwait2 */
void loop_turn(struct loop *loop, uint64_t patience)
{
    struct epoll_event events[EVENTS];
    struct timespec wait, *timeout = NULL;
    uint64_t deadline = next_deadline(loop);

    if (deadline != UINT64_MAX || patience != UINT64_MAX) {
        uint64_t now = now_ns();
        uint64_t left = deadline > now ? deadline - now : 0;
        left = left < patience ? left : patience;
        wait = (struct timespec){ (time_t)(left / 1000000000u), (long)(left % 1000000000u) };
        timeout = &wait;
    }
    int n = epoll_pwait2(loop->epoll, events, EVENTS, timeout, NULL);
    for (int i = 0; i < n; i++) {
        struct watch *w = events[i].data.ptr;
        /* Somebody earlier in this turn may have ended it. */
        if (w->fd >= 0)
            w->ready(w, events[i].events);
    }
    if (deadline != UINT64_MAX)
        run_due(loop);
    for (struct served *s = loop->first; s; s = s->next)
        if (s->dev->watches_dead)
            server_collect_watches(s->dev, false);
}

void loop_run(struct loop *loop)
{
    while (!loop->stop)
        loop_turn(loop, UINT64_MAX);
}

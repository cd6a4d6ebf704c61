/*
 * watch.h - what the event loop calls when a descriptor is ready.
 *
 * The pointer in an epoll event is a struct watch. Its owner keeps it alive while it is registered.
 */
#ifndef SERVER_WATCH_H
#define SERVER_WATCH_H

#include <errno.h>
#include <stdint.h>
#include <sys/epoll.h>

struct watch {
    int fd; /* -1: not in use */
    void (*ready)(struct watch *w, uint32_t events);
};

/* #syscalls worker: epoll_ctl */
static inline int watch_control(int epoll, int op, struct watch *w, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.ptr = w };
    return epoll_ctl(epoll, op, w->fd, &event) < 0 ? -errno : 0;
}

#endif

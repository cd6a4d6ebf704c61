/*
 * clock.c - see clock.h. The linker puts these functions in the place of the C library's.
 */
#include "clock.h"
#include "sockets.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#define SECOND UINT64_C(1000000000)

static bool stopped;
static uint64_t now;

void clock_stop(void)
{
    now = 1000 * SECOND;
    stopped = true;
}

void clock_go_on(void)
{
    stopped = false;
}

void clock_advance(uint64_t ns)
{
    now += ns;
}

int __real_clock_gettime(clockid_t id, struct timespec *t);
int __wrap_clock_gettime(clockid_t id, struct timespec *t);
int __wrap_clock_gettime(clockid_t id, struct timespec *t)
{
    if (!stopped || (id != CLOCK_MONOTONIC && id != CLOCK_MONOTONIC_COARSE))
        return __real_clock_gettime(id, t);
    t->tv_sec = (time_t)(now / SECOND);
    t->tv_nsec = (long)(now % SECOND);
    return 0;
}

/* Nothing happens while the only thread waits, but that the time passes. */
int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    if (!stopped && !sockets_poll)
        return __real_poll(fds, n, timeout);
    int ready = sockets_poll ? sockets_poll(fds, n) : __real_poll(fds, n, 0);
    if (ready == 0 && timeout > 0)
        now += (uint64_t)timeout * 1000000u;
    return ready;
}

int __real_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *t);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *t);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *lock, const struct timespec *t)
{
    if (!stopped)
        return __real_pthread_cond_timedwait(cond, lock, t);
    uint64_t deadline = (uint64_t)t->tv_sec * SECOND + (uint64_t)t->tv_nsec;
    if (deadline > now)
        now = deadline;
    return ETIMEDOUT;
}

/*
 * recorder.c - starting a ring, and reading one.
 */
#include "state/recorder.h"

#include <assert.h>

static_assert(sizeof(struct recorded) == 64, "other processes read it");
static_assert(offsetof(struct recorder, event) == 64, "other processes read it");
static_assert((RECORDER_EVENTS & (RECORDER_EVENTS - 1)) == 0, "a power of two");

void recorder_start(struct recorder *r)
{
    r->layout = RECORDER_LAYOUT;
    r->events = RECORDER_EVENTS;
}

void recorder_adopt(struct recorder *r)
{
    uint64_t next = r->last + 1;

    if (r->event[next % RECORDER_EVENTS].sequence == next)
        r->last = next;
}

const struct recorded *recorder_find(const struct recorder *r, uint64_t sequence)
{
    const struct recorded *e = &r->event[sequence % RECORDER_EVENTS];

    return sequence && e->sequence == sequence ? e : NULL;
}

unsigned recorder_read(const struct recorder *copy, uint64_t last, struct recorded to[RECORDER_EVENTS])
{
    unsigned n = 0;
    /* The writer may be at work on last + 1, in the place of the one that many before it. */
    uint64_t first = last + 1 > RECORDER_EVENTS ? last + 2 - RECORDER_EVENTS : 1;
    uint64_t end = copy->last + 1;

    if (last < copy->last || last >= UINT64_MAX - 1 || end < first || end - first >= RECORDER_EVENTS)
        return 0;
    for (uint64_t i = first; i <= end; i++) {
        const struct recorded *e = recorder_find(copy, i);
        if (e)
            to[n++] = *e;
    }
    return n;
}

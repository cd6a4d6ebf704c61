/*
 * recorder.h - the flight recorder: a ring of the last things that happened to a device.
 *
 * It lies in the block and survives the worker; no step undoes what was recorded. An event is written by
 * plain stores: its sequence number goes to 0 first and is stored last, so what a worker leaves that is
 * killed in the middle is a ring with one empty place. Other processes read it while it is being written:
 * recorder_read() tells whole events from others. Fixed width; RECORDER_LAYOUT changes with the meaning
 * of anything here, new kinds of events are added without.
 */
#ifndef STATE_RECORDER_H
#define STATE_RECORDER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define RECORDER_LAYOUT 1u
#define RECORDER_EVENTS 512u /* a power of two */
#define RECORDER_TEXT 16u

/* What the members of an event mean for each kind; those that are not mentioned are 0. */
enum recorded_kind {
    RECORDED_NONE,
    RECORDED_WORKER,    /* a worker took the device: value: its number, index: the signal of which the one
                           before it died, if that one could catch it */
    RECORDED_RECOVERED, /* and goes on where that one was: value: ns that it took */
    RECORDED_CLIENT,    /* a client came */
    RECORDED_GONE,      /* it went */
    RECORDED_MESSAGE,   /* a command of the client: command, id; and for commands that have them: index (region,
                        type of interrupt), offset (or address), size, value (the first bytes of a write;
                        flags of others) */
    RECORDED_REPLY,     /* it was served: command, id, error; value: the first bytes of a read */
    RECORDED_WAITS,     /* it has to wait, and will be taken up again: command, id */
    RECORDED_ANSWER,    /* the client's reply to a command of ours: command, id, error */
    RECORDED_IRQ,       /* an interrupt was signalled: index, as shared.h numbers them */
    RECORDED_TIMER,     /* a timer of the device: index */
    RECORDED_BACKEND,   /* a backend is ready: index: descriptor, value: events */
    RECORDED_DMA,       /* a transfer ended: index: slot, offset: address, size, error */
    RECORDED_RESET,     /* the device was reset: value: enum ob_reset */
    RECORDED_DEVICE,    /* what the device itself recorded: text, offset and value */
    RECORDED_KINDS,
};

struct recorded {
    uint64_t sequence; /* from 1; 0: nothing is here */
    uint64_t time;     /* CLOCK_MONOTONIC ns, no older than the step that it belongs to */
    uint16_t kind;     /* enum recorded_kind */
    uint16_t id;
    uint16_t command;
    uint16_t index;
    int32_t error; /* 0 or a negative errno */
    uint32_t reserved;
    uint64_t offset;
    uint64_t value;
    union {
        uint64_t size;
        char text[RECORDER_TEXT]; /* ends with a NUL, unless all of it is used */
    };
};

struct recorder {
    uint32_t layout;
    uint32_t events;   /* RECORDER_EVENTS */
    uint64_t last;     /* sequence number of the newest event; one more may be there already */
    uint64_t in_hand;  /* that of the RECORDED_MESSAGE that is being served, 0: none */
    uint64_t reserved[5];
    struct recorded event[RECORDER_EVENTS]; /* number n is at n % RECORDER_EVENTS */
};

/* The sequence number that the event got. */
static inline uint64_t recorder_add(struct recorder *r, const struct recorded *e)
{
    uint64_t n = r->last + 1;
    struct recorded *to = &r->event[n % RECORDER_EVENTS];

    __atomic_store_n(&to->sequence, 0, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    memcpy(&to->time, &e->time, sizeof *to - offsetof(struct recorded, time));
    __atomic_store_n(&to->sequence, n, __ATOMIC_RELEASE);
    __atomic_store_n(&r->last, n, __ATOMIC_RELEASE);
    return n;
}

/* A new one; and one that another worker left, perhaps between two stores. */
void recorder_start(struct recorder *r);
void recorder_adopt(struct recorder *r);

/* Event number `sequence`, or NULL: it was overwritten, or never was. */
const struct recorded *recorder_find(const struct recorder *r, uint64_t sequence);

/*
 * For readers: the events of a copy that can be believed to be whole, oldest first, into `to`; how many.
 * `last` is r->last as it was read again after the copy was made: what may have been overwritten
 * meanwhile is left out. The copy's bytes may be anything.
 */
unsigned recorder_read(const struct recorder *copy, uint64_t last, struct recorded to[RECORDER_EVENTS]);

#endif

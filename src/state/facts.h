/*
 * facts.h - what there is to be known of a device and its workers, from outside.
 *
 * It lies in the block and survives the worker; no step undoes it. The keeper and the command line read
 * it in other processes, while it is being written, and take it for hostile: a worker may have been
 * taken over. Fixed width: members are added at the end alone, and `size` says how far they go;
 * FACTS_LAYOUT changes when one means something else. Texts end with a NUL.
 */
#ifndef STATE_FACTS_H
#define STATE_FACTS_H

#include "state/histogram.h"
#include "state/recorder.h"

#define FACTS_LAYOUT 1u

/* What of the sandbox is in force: bit and name. */
#define FACTS_SANDBOX(X)                   \
    X(0, NO_NEW_PRIVS, "no-new-privs")     \
    X(1, USER, "user-namespace")           \
    X(2, MOUNT, "mount-namespace")         \
    X(3, NET, "net-namespace")             \
    X(4, IPC, "ipc-namespace")             \
    X(5, PID, "pid-namespace")             \
    X(6, ROOT, "empty-root")               \
    X(7, LANDLOCK, "landlock")             \
    X(8, SECCOMP, "seccomp")               \
    X(9, RING, "ring-restricted")          \
    X(10, RLIMITS, "rlimits")              \
    X(11, NOT_DUMPABLE, "not-dumpable")    \
    X(12, CAPABILITIES, "no-capabilities") \
    X(13, DESCRIPTORS, "closed-descriptors") \
    X(14, STDIO, "no-terminal")
enum facts_sandbox {
#define X(bit, name, text) SANDBOX_##name = 1u << bit,
    FACTS_SANDBOX(X)
#undef X
};

/* Requests that a device served for its guest: ob_account(). */
enum facts_request { FACTS_READ, FACTS_WRITE, FACTS_OTHER, FACTS_REQUESTS };

/*
 * How a worker died. The dying one writes what the signal said, if it is one that it catches; its
 * successor adds what it was doing, and counts.
 */
struct facts_death {
    uint64_t worker; /* number of the one that died, 0: none did */
    uint64_t time;   /* CLOCK_REALTIME ns: of the signal, or when the successor came */
    int32_t signal;  /* 0: it was not caught (SIGKILL, or it ended by itself) */
    int32_t code;    /* si_code */
    uint64_t address;     /* si_addr */
    uint64_t instruction; /* instruction pointer... */
    uint64_t object_offset; /* ...which is this far in... */
    char object[64];        /* ...this file, "": in none that is known */
    uint64_t step;   /* enum step_kind of the step that it died in, 0: in none */
    uint64_t told;   /* it was reported */
    uint64_t again;  /* deaths before it in a row, of the same signal at the same place... */
    uint64_t told_signal, told_offset; /* ...which was this */
    struct recorded message; /* RECORDED_MESSAGE that it was serving, else RECORDED_NONE */
    uint64_t took_over; /* it had not begun: the message is the one that it inherited */
};

struct shared_facts {
    uint32_t layout; /* FACTS_LAYOUT */
    uint32_t size;   /* sizeof(struct shared_facts) */
    char plugin[32];
    char bus[16];
    uint64_t born; /* CLOCK_REALTIME ns: when the first worker made the device */

    /* The worker that has the block, or had it last. */
    uint64_t worker;  /* its number, from 1; 0 without a keeper */
    uint32_t pid;     /* as it knows itself: inside a PID namespace this is not what others see */
    uint32_t role;    /* enum worker_role */
    uint64_t started; /* CLOCK_REALTIME ns... */
    uint64_t started_monotonic; /* ...and CLOCK_MONOTONIC ns */

    uint32_t sandbox;         /* SANDBOX_* that are in force */
    uint32_t sandbox_refused; /* SANDBOX_* that were wanted, and that the host does not allow */
    char sandbox_note[160];   /* about those, for people */

    /* The client. */
    uint64_t client_since;    /* CLOCK_REALTIME ns, 0: there is none */
    uint64_t clients;         /* that have come, this one included */
    uint64_t memory_bytes;    /* of guest memory that it mapped... */
    uint32_t memory_regions;  /* ...in so many regions */
    uint32_t interrupts_used; /* that it gave an eventfd for */

    /* Counters, of all workers and clients. */
    uint64_t messages;
    uint64_t errors; /* messages that were refused */
    uint64_t interrupts;
    uint64_t bytes_in;
    uint64_t bytes_out;
    uint64_t workers; /* that took the device, the first included */
    uint64_t left;    /* number of the last one that went on purpose */
    struct {
        uint64_t count;
        uint64_t bytes;
    } request[FACTS_REQUESTS];

    struct facts_death death; /* the last one */
    uint64_t has_begun; /* number of the last worker that had taken over, or made the device, and began to serve */
    uint64_t reserved[14];

    struct histogram message_time; /* from when one is taken up until its reply is ready */
    struct histogram request_time[FACTS_REQUESTS];
};

#endif

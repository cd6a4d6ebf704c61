/*
 * shared.h - what of a served device lives in the block: its parts, and their layouts.
 *
 * Whatever is not here (descriptors, mappings, indexes) a successor derives from what is here, and
 * from the descriptors that were kept for it.
 */
#ifndef SERVER_SHARED_H
#define SERVER_SHARED_H

#include "memory/memory.h"
#include "state/facts.h"
#include "state/recorder.h"
#include "wire/limits.h"
#include "wire/version.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One more whenever something of this file, or of what it includes, is laid out otherwise: a build takes
 * over from another only if it has the same (handover.h). */
#define SHARED_LAYOUT 1u

enum shared_part {
    SHARED_SESSION, /* struct shared_session */
    SHARED_INPUT,   /* bytes that were looked at */
    SHARED_OUTPUT,  /* replies, and commands to the client */
    SHARED_FACTS,   /* struct shared_facts (state/facts.h): for readers outside, covered by no undoing... */
    SHARED_RECORDER, /* ...and so is struct recorder (state/recorder.h) */
    SHARED_REGIONS, /* struct memory_region[WIRE_MAX_DMA_MAPS]; size 0: no region */
    SHARED_CONFIG,  /* PCI config space; of no use to a device that is not PCI */
    SHARED_IRQS,    /* struct shared_irqs */
    SHARED_WORK,    /* struct shared_work */
    SHARED_DEVICE,  /* the device's own state */
    SHARED_MIGRATION, /* struct shared_migration */
    SHARED_STREAM,    /* the bytes of a stream that comes in */
    SHARED_TABLE,     /* struct table: the fields of the device's state, for another build */
    SHARED_PARTS,
};

#define SHARED_BUFFER (WIRE_MAX_MESSAGE + 4096u)

/* Replies must not end behind this, so that the longest always fits. */
#define SHARED_OUTPUT_FULL (SHARED_BUFFER - WIRE_MAX_MESSAGE)

/* Descriptors that go with a reply. */
#define FDS_REGION 0x100u /* | index of a region: its shared memory */
#define FDS_TWIN 0x200u   /* the client's end of the twin socket */
#define FDS_IOEVENTS 0x300u /* | index of a region: its eventfds */

#define SHARED_TYPED_REGIONS 16u
#define SHARED_REGION_INDEXES (9u + SHARED_TYPED_REGIONS) /* VFIO_PCI_NUM_REGIONS */
#define SHARED_IOEVENTS 16u                        /* of a region */

/*
 * One client's use of the device, and how far its stream has come. The input buffer holds `looked`
 * bytes of the stream, of which the first `taken` have left the socket already.
 */
struct shared_session {
    uint32_t connected;
    uint32_t negotiated;
    struct wire_capabilities client; /* what the client can take */

    uint32_t looked;
    uint32_t taken;
    uint32_t take_intent; /* bytes that are being taken */
    uint32_t sent;        /* bytes of the output that have left */
    uint32_t fds_at;      /* output offset of the message that carries descriptors */
    uint64_t fds_which;   /* the step that wrote it: names it for those who ask twice */
    uint32_t fds_what;    /* which descriptors those are: FDS_*, 0: none */

    uint16_t next_id; /* of our commands to the client */
    uint16_t twin;    /* which have a socket of their own */
    uint32_t dma_layout; /* enum wire_dma_layout: of the client's DMA messages */
    uint16_t ioevents[SHARED_REGION_INDEXES];         /* eventfds that the client has: how many */
    uint16_t ioevents_pending[SHARED_REGION_INDEXES]; /* bits of those that were signalled, and not served */
    uint32_t regions; /* DMA regions in the table */
    uint32_t regions_end; /* one more than the highest number in use */
    uint64_t held_since;  /* CLOCK_MONOTONIC ns: the message that is next waits for I/O to end; 0: none does */
    uint32_t multi_done;  /* writes of the REGION_WRITE_MULTI that is next in the stream */
    int32_t multi_error;  /* of the first of them that failed */
};

/* Interrupts are numbered through: lines, then MSI, MSI-X, ERR, REQ. PCI has one line, INTx; a platform
 * device has nothing but lines. */
#define IRQ_LINES 16u
#define IRQ_INTX 0u
#define IRQ_MSI IRQ_LINES
#define IRQ_MSIX (IRQ_MSI + 32u)
#define IRQ_ERR (IRQ_MSIX + 2048u)
#define IRQ_REQ (IRQ_ERR + 1u)
#define IRQ_COUNT (IRQ_REQ + 1u)

/* Numbers of what else a client may hand over for line n, see irq_set.c. */
#define IRQ_MASK_EVENT(n) (IRQ_COUNT + 2u * (n))
#define IRQ_UNMASK_EVENT(n) (IRQ_COUNT + 2u * (n) + 1u)

/* What is known of one interrupt. */
#define IRQ_TRIGGER 1u /* the client gave an eventfd to signal */
#define IRQ_MASKED 2u  /* by the client, or by itself after the interrupt of a level */
#define IRQ_PENDING 4u /* raised while masked */
#define IRQ_SIGNAL 8u  /* to be signalled as soon as the step is done */

struct shared_irqs {
    uint8_t level[IRQ_LINES];
    uint8_t mask_event[IRQ_LINES];   /* the client gave an eventfd that is signalled at each masking... */
    uint8_t unmask_event[IRQ_LINES]; /* ...and one that it signals to unmask */
    uint8_t signal_mask_event[IRQ_LINES]; /* to be signalled as soon as the step is done */
    uint32_t signals;          /* something has a signal flag */
    uint32_t msi_vectors;      /* that have a trigger */
    uint32_t msix_vectors;
    uint8_t irq[IRQ_COUNT];    /* IRQ_* flags */
    uint8_t msix_table[2048 * 16];
};

/* A transfer between guest memory and the device's state. Pieces of it that the client is asked for are
 * in the table of commands. */
struct shared_dma {
    uint32_t busy;
    uint32_t is_write;  /* to guest memory */
    int32_t error;      /* of the first piece that failed */
    uint32_t look;      /* 1 + where one byte is to be read, to learn the layout of messages; 0: nowhere */
    uint64_t address;
    uint64_t buffer;    /* offset in the device's state */
    uint32_t size;
    uint32_t asked;     /* bytes that the client has been asked for, from the start... */
    uint32_t done;      /* ...and those that it has answered for */
    uint32_t under_way; /* commands that it has not answered */
};

enum command_kind { COMMAND_READ = 1, COMMAND_WRITE, COMMAND_LOOK };

/* A DMA_READ or DMA_WRITE that the client has not answered: bytes [at, at + size) of a transfer. */
struct shared_command {
    uint8_t kind; /* enum command_kind, 0: answered */
    uint8_t slot; /* of the transfer */
    uint16_t id;
    uint32_t at;
    uint32_t size;
};

/*
 * Commands by position, which counts on: the oldest that is not answered is `first`, the next that will
 * be sent gets `end`. On a twin socket, `out` says how far they have left, and `got` and `head` what has
 * come of the next reply.
 */
#define SHARED_COMMANDS 8u
struct shared_commands {
    uint32_t first, end;
    uint64_t out; /* position << 32 | bytes of that command that have left */
    uint32_t got; /* bytes of the reply, or more than those of a short one */
    uint32_t cancelled; /* replies that will come, and that nobody waits for any more */
    uint8_t head[32];
    struct shared_command ring[SHARED_COMMANDS];
};

#define SHARED_MAX_TIMERS 64u
#define SHARED_MAX_DMAS 64u
#define SHARED_MAX_DMA (1u << 20) /* bytes of one transfer */

struct shared_work {
    uint64_t timers; /* bits of those that are set */
    uint64_t deadline[SHARED_MAX_TIMERS]; /* while the device is stopped: what is left of the time */
    uint64_t dmas; /* bits of those that are not idle */
    struct shared_dma dma[SHARED_MAX_DMAS];
    struct shared_commands commands;
};

/* What migrates of the framework's own part of a device: a copy, in a form of its own. See frame.h. */
struct shared_frame {
    uint8_t config[4096];
    uint8_t line_level[IRQ_LINES];
    uint8_t line_pending[IRQ_LINES];
    uint8_t msi_pending[32];
    uint8_t msix_masked[2048];
    uint8_t msix_pending[2048];
    uint8_t msix_table[2048 * 16];
    uint64_t timers; /* bits of those that are set */
    uint64_t timer_left[SHARED_MAX_TIMERS];
    struct shared_frame_dma {
        uint8_t queued;
        uint8_t is_write;
        char field[64]; /* of the device's state: where the buffer is... */
        uint64_t byte;  /* ...and how far in its elements it begins */
        uint64_t address;
        uint32_t size;
        uint32_t done;
    } dma[SHARED_MAX_DMAS];
};

/* Migration, and the log of dirty pages. */
struct shared_migration {
    uint32_t state;      /* enum vfio_device_mig_state */
    uint32_t described;  /* the description of the stream that comes in has come, and fits */
    uint64_t read;       /* bytes that the client has read of our stream */
    uint64_t received;   /* bytes of the stream that comes in */
    uint64_t stopped_at; /* CLOCK_MONOTONIC ns */

    uint32_t logging;
    uint32_t reporting; /* that part of the log was reported, and is to be cleared after the step */
    uint64_t report_address, report_size;

    struct shared_frame frame;
};

#endif

/*
 * shared.h - what of a served device lives in the block: its parts, and their layouts.
 *
 * Whatever is not here (descriptors, mappings, indexes) a successor derives from what is here, and
 * from the descriptors that were kept for it.
 */
#ifndef SERVER_SHARED_H
#define SERVER_SHARED_H

#include "memory/memory.h"
#include "wire/limits.h"
#include "wire/version.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum shared_part {
    SHARED_SESSION, /* struct shared_session */
    SHARED_INPUT,   /* bytes that were looked at */
    SHARED_OUTPUT,  /* replies, and commands to the client */
    SHARED_REGIONS, /* struct memory_region[WIRE_MAX_DMA_MAPS]; size 0: no region */
    SHARED_CONFIG,  /* PCI config space; of no use to a device that is not PCI */
    SHARED_IRQS,    /* struct shared_irqs */
    SHARED_WORK,    /* struct shared_work */
    SHARED_DEVICE,  /* the device's own state */
    SHARED_PARTS,
};

#define SHARED_BUFFER (WIRE_MAX_MESSAGE + 4096u)

/* Replies must not end behind this, so that the longest always fits. */
#define SHARED_OUTPUT_FULL (SHARED_BUFFER - WIRE_MAX_MESSAGE)

/* Descriptors that go with a reply. */
#define FDS_REGION 0x100u /* | index of a region: its shared memory */

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
    uint32_t regions; /* DMA regions in the table */
    uint32_t regions_end; /* one more than the highest number in use */
    uint32_t multi_done;  /* writes of the REGION_WRITE_MULTI that is next in the stream */
    int32_t multi_error;  /* of the first of them that failed */

    /* Counters, for people. They stay when a client goes, and count what all of them had. */
    uint64_t messages;
    uint64_t errors;
    uint64_t interrupts;
    uint64_t bytes_in;
    uint64_t bytes_out;
};
#define SHARED_SESSION_OWN offsetof(struct shared_session, messages) /* bytes that end with a client */

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

enum dma_state { DMA_IDLE, DMA_QUEUED, DMA_SENT, DMA_FINISHED };

/* A transfer between guest memory and the device's state. */
struct shared_dma {
    uint32_t state;     /* enum dma_state */
    uint32_t is_write;  /* to guest memory */
    int32_t error;      /* of a finished one */
    uint16_t id;        /* of the command that was sent */
    uint16_t reserved;
    uint64_t address;
    uint64_t buffer;    /* offset in the device's state */
    uint32_t size;
    uint32_t done;      /* bytes */
    uint32_t piece;     /* bytes asked for in the command that was sent */
    uint32_t reserved2;
};

#define SHARED_MAX_TIMERS 64u
#define SHARED_MAX_DMAS 64u

struct shared_work {
    uint64_t timers; /* bits of those that are set */
    uint64_t deadline[SHARED_MAX_TIMERS];
    uint64_t dmas; /* bits of those that are not idle */
    struct shared_dma dma[SHARED_MAX_DMAS];
};

#endif

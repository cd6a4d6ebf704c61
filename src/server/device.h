/*
 * device.h - a served device, as the files of this floor see it.
 *
 * Data flows one way: session.c brings bytes from the socket, dispatch.c makes each message a step
 * and gives it to the file that serves its command (info.c, region.c, irq.c, dma_map.c, dma.c,
 * reset.c), which may call the device. What only some devices have is behind bus.h. What they change in the block they touch first. What leaves
 * the process (replies, interrupts, commands to the client) leaves after the step is done.
 */
#ifndef SERVER_DEVICE_H
#define SERVER_DEVICE_H

#include "memory/dirty.h"
#include "memory/memory.h"
#include "server/ids.h"
#include "server/shared.h"
#include "server/watch.h"
#include "state/block.h"
#include "state/effect.h"
#include "state/step.h"
#include "state/fields.h"
#include "wire/message.h"
#include "wire/socket.h"

#include <outboard/device.h>

/*
 * Descriptors that a successor needs are put into somebody's keeping, under a name. put() must have
 * taken effect when it returns; a descriptor that nobody's block refers to does no harm. All may be
 * left out (struct server_keeping *keeping == NULL): then a device does not outlive its process.
 */
#define KEEP_CONNECTION 0x10000000u
#define KEEP_BLOCK 0x10000001u
#define KEEP_NEW_BLOCK 0x10000003u /* of a worker that is to take over, until it is the one */
#define KEEP_DEVICE 0x12000000u   /* | number that the device chose: ob_keep(); never dropped for it */
#define KEEP_DEVICE_NUMBERS 4096u
#define KEEP_LATE 0x13000000u     /* a file by whose number this device is known, see ob_late_locks() */
#define KEEP_FILE 0x20000000u     /* | number of a file of guest memory */
#define KEEP_IRQ 0x30000000u      /* | number of the interrupt, or of an event of a line: IRQ_MASK_EVENT... */
#define KEEP_REGION 0x40000000u   /* | number of the region whose memory it is */
#define KEEP_DIRTY 0x50000000u    /* the log of dirty pages */
#define KEEP_IOEVENT 0x70000000u  /* | index of the region << 8 | number of the eventfd */
#define KEEP_TWIN 0x60000000u     /* | 0: our end of the twin socket, 1: the client's, until it is sent */
struct server_keeping {
    uint64_t worker; /* number of this process among the device's workers, from 1 */
    int (*put)(void *ctx, uint32_t name, int fd);
    void (*drop)(void *ctx, uint32_t name);
    int (*get)(void *ctx, uint32_t name); /* a new duplicate, or -errno */
    uint32_t (*next)(void *ctx, uint32_t after); /* the lowest name above this one, 0: none */
    /* Sends bytes and descriptors on the connection, once for each `which`: asked again, by a successor
     * that cannot know, it only repeats its answer. Bytes or -errno. */
    ssize_t (*send)(void *ctx, uint64_t which, const void *bytes, size_t n, const int *fds, unsigned nfds);
    /* Opens a file that the command line named, anew: the n-th value of an OB_OPTION_FILE, in the order of
     * the command line. A descriptor or -errno. */
    int (*open)(void *ctx, unsigned n, int flags);
    /* accept4(2) on what is kept as `listener`; the connection is kept as `name`, and returned. -errno. */
    int (*accept)(void *ctx, uint32_t listener, uint32_t name);
    /* inotify_add_watch(2) for changes of such a file: its result, or -errno. */
    int (*watch)(void *ctx, int inotify, unsigned n);
    void *ctx;
    /* An upgrade: the block is another build's, whose worker rests. When all is taken over, this is called;
     * what it returns, if not 0, is why not. NULL: no upgrade. */
    int (*taken_over)(void *ctx);
    /* None of the device's code runs in this process, and its plugin has no functions but its registers', which are
     * not called: it refuses a message, or serves a device that has failed. */
    bool inert;
};

struct option_value {
    const char *key;
    const char *value;
};

/* A region of the device, on whatever bus: what is declared of it, and its memory. */
struct region {
    uint64_t size;  /* 0: there is none of this number */
    uint32_t flags; /* VFIO_REGION_INFO_FLAG_READ, _WRITE */
    unsigned widths;
    int (*read)(struct ob_device *dev, uint64_t at, void *buf, size_t n);
    int (*write)(struct ob_device *dev, uint64_t at, const void *buf, size_t n);
    /* What the framework serves itself: reads into `in`, or writes `out`. 1: served, 0: not concerned,
     * or -errno. NULL: nothing. */
    int (*own)(struct ob_device *dev, uint64_t at, void *in, const void *out, size_t n);
    const struct ob_area *areas;
    unsigned areas_count;
    const struct ob_ioevent *ioevents;
    unsigned ioevents_count;
    bool ports; /* of I/O, not of memory */
    const struct ob_typed_region *type; /* of one that clients find by its type, else NULL */
    int fd;          /* memory file behind its areas, -1: it has none */
    uint8_t *memory; /* the same, mapped */
};
#define REGIONS_TYPED_MAX SHARED_TYPED_REGIONS
#define REGIONS_MAX SHARED_REGION_INDEXES
#define PLATFORM_REGIONS_MAX 16u

/* What a client knows as one index of interrupts. */
struct irq_type {
    uint32_t first; /* number of the first one (IRQ_*) */
    uint32_t count;
    uint32_t flags; /* VFIO_IRQ_INFO_* */
};


/* An interrupt line's events beside the interrupt itself, see irq_set.c. */
struct line {
    struct watch unmask; /* first: the watch is how the line is found again */
    int mask_fd;
    struct ob_device *dev;
};

struct bus;

struct ob_device {
    const struct ob_plugin *plugin; /* a copy, so that this device may do without something */
    struct ob_plugin declared;
    const struct bus *bus;
    char name[64]; /* for lines of log */
    void *private;
    const struct option_value *options;
    unsigned option_count;
    int epoll;
    const struct ob_syscall *syscalls[6]; /* lists of those that the device makes; NULL at their end */
    bool confined; /* in a sandbox: there are no paths any more */

    struct block block;
    int counts; /* the kernel's of this thread's reads and writes, open until the device starts; -1 */
    uint32_t without; /* what is declared, and not there: TABLE_WITHOUT_* */
    bool inert;       /* see struct server_keeping */
    bool ring_restricted;
    bool inherited; /* the block is a dead worker's */
    int other_block; /* that of another build, to be taken over at the start; -1 */
    struct shared_session *session;
    struct shared_facts *facts;
    struct recorder *recorder;
    uint8_t *input;
    uint8_t *output;
    struct memory_region *regions;
    uint8_t *config;
    struct shared_irqs *irqs;
    struct shared_work *work;
    struct shared_migration *migration;
    uint8_t *incoming; /* the stream that comes in... */
    uint64_t incoming_size; /* ...as much as there is room for */
    void *state;
    bool state_kept; /* the whole state is in the undo log of this step */

    /* Derived, and this process's own. */
    const struct server_keeping *keeping;
    struct region region[REGIONS_MAX];
    uint32_t region_count; /* indexes from 0 on that a client may ask for */
    struct irq_type irq_type[IRQ_LINES];
    unsigned irq_types;
    unsigned lines; /* interrupts that are wires, numbers 0 to lines - 1 */
    uint8_t *config_mask; /* bits of config space that a client may write */
    uint16_t config_size;
    uint16_t cap_msi, cap_msix, cap_express; /* offsets in config space, 0: none */
    struct memory *memory;
    uint32_t *pins;     /* of each region, see guest.h */
    uint64_t pin_count; /* of all */
    bool memory_held;   /* a pin of all memory: ob_hold_memory() */
    bool quiesce;       /* a message waits for pins to go; nothing new is pinned */
    bool refused;       /* somebody wanted to pin meanwhile */
    bool refuse_next;   /* the next message is answered with an error, and then... */
    bool halted;        /* ...none is run any more */
    bool refuse_all;    /* the same for all messages that are there */
    bool overdue;       /* the message that waits has waited too long */
    bool resume;        /* a pin has gone: try the message again */
    bool draining;      /* the client has gone, its memory is still pinned */
    bool stopping;      /* the message that waits is a stop, for which the device is not ready */
    bool resting;       /* no message is run: another worker is to take over... */
    bool at_rest;       /* ...and can, now */
    uint64_t poll_until; /* CLOCK_MONOTONIC ns, 0: no polling */
    uint64_t now;           /* CLOCK_MONOTONIC ns, as of the first look in this step; 0: none yet */
    uint64_t message_began; /* the same, when the message in hand was first taken up; 0: none is */
    struct id_pool region_ids;
    struct id_pool file_ids;
    int irq_fd[IRQ_COUNT];    /* eventfds to signal, -1: none */
    struct line line[IRQ_LINES];

    struct watch connection; /* fd -1: no client */
    struct wire_fds fds;     /* that came with a message which has not been run */
    uint32_t fds_end;        /* input offset behind the bytes that they came with; 0: there are none */
    bool fds_cut;            /* the look that brought them ended for lack of space */
    bool unlooked;           /* the socket may hold more than was looked at */
    bool output_blocked;
    struct watch twin;       /* our end of the socket for commands to the client, fd -1: there is none */
    int twin_peer;           /* the other end, until the client has it; -1 */
    bool twin_blocked;
    struct ioevent *ioevents; /* that the client has: see ioevent.c */
    bool ioevents_wait;      /* some were signalled while the device stands still */
    bool irqs_changed;       /* this step changed what the client set up for interrupts */
    uint32_t *files_gone;    /* numbers of files whose last region this step unmapped... */
    uint32_t files_gone_count; /* ...to be dropped from keeping when it is valid */
    bool opened;             /* the plugin's open() succeeded */
    bool watches_dead;       /* some watch waits to be collected */
    bool dma_more;           /* transfers wait for the next turn of the loop */
    uint64_t log_second;     /* see log.c */
    unsigned log_lines;
    struct device_watch *watches; /* of backends */
    bool watches_paused;          /* the device is stopped */
    struct table *table;          /* what stands in the block of this build */
    struct fields *stream;        /* NULL: the device cannot migrate */
    struct frame_fields *frame_fields;
    struct dirty *dirty;          /* NULL: writes are not logged */
    void (*disconnected)(struct ob_device *dev, void *ctx);
    void *disconnected_ctx;
};

/* Room for the body of a reply, and what to send with it. */
struct reply {
    uint8_t *body;
    size_t space;
    size_t size;
    uint32_t fds_what; /* see shared_session */
};

/*
 * Makes a device in five stages. The first has the process's rights, and looks at no byte that a peer or an earlier
 * worker wrote: it checks the plugin's declaration and opens the backends. block_fd is the block that a dead worker
 * left (of whatever build: handover.h), or -1. Options stay the caller's and must outlive the device. On error NULL
 * and errno, after a line of log that says why.
 */
struct ob_device *server_device_open(const struct ob_plugin *plugin, const char *name,
                                     const struct option_value *options, unsigned option_count,
                                     int epoll, const struct server_keeping *keeping, int block_fd);

/* Threads of the device's own, before the process's system calls are filtered. */
void server_device_threads(struct ob_device *dev);

/* The others: 0 or -errno; then a line of log says why, and the device has only to be freed. Maps the block, if it is
 * of this build, or makes one; dev->facts are there from then on, and of the dead worker there is a report. */
int server_device_block(struct ob_device *dev);

/* The state is what it was, or that of a device that is switched on. The block is then the one that the keeper has. */
int server_device_recover(struct ob_device *dev, const struct effect_counts *dead);

/* The device begins to run, or goes on. */
int server_device_start(struct ob_device *dev);

/* All five. */
struct ob_device *server_device_new(const struct ob_plugin *plugin, const char *name,
                                    const struct option_value *options, unsigned option_count,
                                    int epoll, const struct server_keeping *keeping, int block_fd,
                                    const struct effect_counts *dead);
void server_device_free(struct ob_device *dev);

/* The time of this step: asking the clock is what costs. */
static inline uint64_t server_now(struct ob_device *dev)
{
    return dev->now ? dev->now : (dev->now = ob_now(dev));
}

/* Does the device stand still (any state of a migration but RUNNING and PRE_COPY, or at rest)? */
static inline bool server_stopped(const struct ob_device *dev)
{
    uint32_t state = dev->migration->state;
    return dev->at_rest || (state != VFIO_DEVICE_STATE_RUNNING && state != OB_DEVICE_STATE_PRE_COPY);
}

/*
 * To be called between steps, again and again, when another worker shall take over: no message is run from
 * here on. 0: the device is at rest, and this process must end without another step (what it left behind can
 * be adopted by a build like this one, too). -EBUSY: not yet. -EINVAL: a migration is under way. After
 * server_no_rest() all goes on.
 */
int server_rest(struct ob_device *dev);
void server_no_rest(struct ob_device *dev);

/* Before the device's code is called in a step: keeps its state for the way back. */
static inline void server_enter(struct ob_device *dev)
{
    if (!dev->state_kept && !dev->plugin->state.touched) {
        step_touch(&dev->block, dev->state, dev->plugin->state.size);
        dev->state_kept = true;
    }
}

/* A step, and what leaves the process after it. Steps that no message began keep run and reply. */
static inline void server_step_begin(struct ob_device *dev)
{
    step_begin(&dev->block, STEP_OTHER);
    dev->state_kept = false;
    dev->now = 0;
}
static inline void server_message_begin(struct ob_device *dev)
{
    step_begin(&dev->block, STEP_MESSAGE);
    dev->state_kept = false;
}
void server_step_end(struct ob_device *dev, uint32_t run, uint32_t reply);

/* The step goes on as if nothing had been done in it. */
static inline void server_step_undo(struct ob_device *dev)
{
    step_cancel(&dev->block);
    dev->state_kept = false;
}

/* CLOCK_MONOTONIC ns of the next timer, UINT64_MAX: none; and what to do when it has passed. */
uint64_t server_next_deadline(const struct ob_device *dev);
void server_run_timers(struct ob_device *dev, uint64_t now);

/* The same for a message that waits for I/O to end: it is answered with an error. */
uint64_t server_held_until(const struct ob_device *dev);
void server_run_overdue(struct ob_device *dev, uint64_t now);

/* While the device polls: looks a while, and works if there is something. */
void server_poll(struct ob_device *dev, uint64_t now);

/* After steps that no message began: sends what they left for the client, and goes on with transfers. */
void server_push(struct ob_device *dev);

/* Backends of a device that stands still are not listened to. */
void server_pause_watches(struct ob_device *dev);
void server_resume_watches(struct ob_device *dev);

/* Frees watches that ended, or all; only when no event of this turn of the loop is left. */
void server_collect_watches(struct ob_device *dev, bool all);

/* For a successor: the connection and how far its streams have come, of which the effect that was under
 * way has reached this far (0 or -errno); then, once the device has started, whatever waits. */
int server_recover_session(struct ob_device *dev, enum effect_kind kind, uint64_t reached);
void server_recover_drained(struct ob_device *dev); /* there was no client, or not any more */
void server_resume(struct ob_device *dev);

/* A client has come (socket taken over; its VERSION message has not been read yet). */
int server_attach(struct ob_device *dev, int sock);
bool server_busy(const struct ob_device *dev);
void server_disconnect(struct ob_device *dev, const char *why);

static inline void server_touch(struct ob_device *dev, void *p, size_t n)
{
    step_touch(&dev->block, p, n);
}
/* Touch and store. */
#define SET(dev, lvalue, v)                                 \
    do {                                                    \
        server_touch((dev), &(lvalue), sizeof(lvalue));     \
        (lvalue) = (v);                                     \
    } while (0)

#endif

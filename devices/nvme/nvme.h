/*
 * nvme.h - the controller: its state, what a process knows beside it, and which file does what.
 *
 *   nvme.c      the plugin: options, beginning, end          registers.c  BAR 0, enable, reset, shutdown
 *   state.c     what migrates, and what may be believed of it; standing still and going on
 *   work.c      the step that does everything                doorbell.c   shadow doorbells, polling
 *   queue.c     fetching, posting, adopting                  irq.c        interrupts and coalescing
 *   slot.c      the table of commands in flight              data.c       PRP and SGL
 *   admin.c     admin commands, queues    identify.c log.c feature.c event.c    what those return
 *   account.c   what people are told of I/O commands
 *   io.c        I/O commands: checks      run.c request.c  I/O commands: execution
 *   far.c       all of it by messages, where the client's memory cannot be mapped
 *   namespace.c the files                 lock.c       whose they are, and since when
 *   engine*.c   I/O that may block
 *
 * ORDER OF STORES. A command ends by its completion entry in guest memory, and that store and the
 * step that makes it so are two. So what a completion acknowledges, beside the data that moved,
 * must be valid before the entry is written:
 *   - A command that changes the state (admin commands, errors, which are logged) does so in one step,
 *     which puts it into a slot as SLOT_DONE; a later step writes the entry and frees the slot.
 *   - A command that only moves data may be fetched, executed and completed in one step. Until such a
 *     step is valid, executing the command once more does no harm, unless its entry was written.
 *   - A completion entry's head pointer covers only commands that are completed or stand in valid
 *     slots, since the driver may use their place again at once.
 * A successor therefore looks for entries beyond the tail of each completion queue, and takes them as
 * done (queue_adopt()): their slots are freed, or their submission queue's head moves behind them.
 */
#ifndef NVME_H
#define NVME_H

#include "spec.h"

#include <outboard/device.h>

/* Ids that no driver has quirks for: a vendor that the PCI SIG never gave to anybody. */
#define PCI_VENDOR 0x6f62u
#define PCI_DEVICE 0x0001u
#define FIRMWARE "1.0"

#define QUEUES 65u        /* the admin queues and 64 pairs for I/O */
#define ENTRIES 4096u
#define SLOTS 1024u       /* commands in flight in all */
#define NAMESPACES 16u
#define ERRORS 64u        /* of the error log */
#define EVENTS 4u         /* Asynchronous Event Requests at a time */
#define ADMIN_SLOTS 16u   /* that I/O leaves free */
#define COPY_RANGE_BLOCKS 4096u /* limits of Copy: MSSRL, MCL, and 128 ranges */
#define COPY_BLOCKS 32768u
#define COPY_RANGES 128u
#define TRANSFER (1u << 20) /* bytes of one command, 4 KiB << MDTS */
#define RANGES (TRANSFER / 4096u + 1) /* of guest memory that one command's data lies in */
#define FARS 4u       /* commands at a time whose data goes by messages */
#define FAR_FETCH 8u  /* entries of a submission queue that are read at a time by messages */
#define MDTS 8u
#define NO_SLOT UINT32_MAX
#define MPS_MAX 4u /* of CC.MPS: pages of 64 KiB */

/* ---- What outlives the process -------------------------------------------------------------------- */

struct nvme_sq {
    uint64_t address;
    uint32_t entries; /* 0: there is no such queue */
    uint16_t head;
    uint16_t tail;
    uint16_t cq;
    uint16_t in_flight; /* slots */
    uint8_t deleting;   /* nothing more is fetched */
    uint8_t reserved[3];
};

struct nvme_cq {
    uint64_t address;
    uint32_t entries; /* 0: there is no such queue */
    uint16_t head;
    uint16_t tail;
    uint16_t vector;
    uint16_t users;    /* submission queues */
    uint16_t unsignalled; /* entries that wait for others, with interrupt coalescing */
    uint8_t phase;     /* of the next entry */
    uint8_t interrupts;
};

enum slot_stage {
    SLOT_NEW = 1, /* to be executed, or being executed */
    SLOT_WAIT,    /* for an event, or for its queue to become empty */
    SLOT_DONE,    /* to be posted */
};

struct nvme_slot {
#ifdef OUTBOARD_NEXT_BUILD
    uint64_t spare; /* see tests/upgrade */
#endif
    struct nvme_command command; /* as fetched: checked once, never read from the guest again */
    uint16_t sq;
    uint16_t stage;
    uint16_t status;
    uint16_t far; /* 1 + which struct nvme_far has its data, 0: none */
    uint32_t dw0;
    uint32_t reserved;
};

/* Far memory: the client gave it without a descriptor, and every access is a message (far.c). The
 * framework's transfers, by number: what comes first goes first. */
enum { DMA_POST, DMA_FAR, DMA_FETCH = DMA_FAR + FARS, DMAS };

/* Entries of a submission queue that are being read. */
struct nvme_fetch {
    uint16_t sq;
    uint16_t count; /* 0: none are */
    uint32_t reserved;
    struct nvme_command command[FAR_FETCH];
};

/* An entry of a completion queue that is being written: the dword with the phase goes last, and when it
 * does, the command's slot is free and the entry counts as posted. */
enum post_stage { POST_IDLE, POST_FIRST, POST_LAST };
struct nvme_post {
    struct nvme_completion entry;
    uint64_t address;
    uint16_t stage;
    uint16_t slot;
    uint32_t reserved;
};

enum far_stage {
    FAR_FREE,
    FAR_LIST, /* the command's list is being read, to the beginning of the buffer */
    FAR_IN,   /* its data, to the buffer */
    FAR_RUN,  /* the engine has it, or will */
    FAR_OUT,  /* its data goes to the guest */
    FAR_DEAD, /* its slot is gone, a transfer is not */
};

struct nvme_far {
    uint16_t stage;
    uint16_t slot;
    uint32_t moving;  /* a transfer is under way */
    uint32_t list;    /* bytes of the list that are there */
    uint32_t want;    /* bytes of it that are being read... */
    uint64_t want_at; /* ...from here */
    uint32_t length;  /* of the data */
    uint32_t at;      /* bytes of it that were moved */
    uint32_t next;    /* range that is being moved */
    uint32_t ranges;
    struct {
        uint64_t address, size;
    } range[RANGES];
    uint8_t buffer[TRANSFER] __attribute__((aligned(4096))); /* as O_DIRECT wants it */
};

struct nvme_error {
    uint64_t number;
    uint16_t sq;
    uint16_t cid;
    uint16_t status; /* with the phase bit's place */
    uint16_t location;
    uint64_t lba;
    uint32_t nsid;
    uint32_t reserved;
    uint64_t specific;
};

struct nvme_features {
    uint32_t arbitration, power, temperature_over, temperature_under, error_recovery[NAMESPACES],
        write_cache, coalescing, events;
    uint32_t vector_uncoalesced[(QUEUES + 31) / 32];
    uint32_t reserved;
    uint64_t timestamp;      /* ms, as the host set it... */
    uint64_t timestamp_time; /* ...at this CLOCK_MONOTONIC ns; 0: never */
};

/* Of the controller's whole life, SMART. */
struct nvme_counters {
    uint64_t reads, writes; /* commands */
    uint64_t blocks_read, blocks_written; /* in 512 bytes */
    uint64_t syncs;         /* times that data was waited for until it was on the disk */
    uint64_t media_errors;
    uint64_t errors;        /* entries ever made in the error log */
    uint64_t power_cycles;
    uint64_t unsafe_shutdowns;
    uint64_t busy_ns;
};

/* What the guest was told about the disk, and remembers: it is the same after a move. */
struct nvme_identity {
    uint32_t lba_shift; /* 0: nothing is known yet */
    uint32_t namespaces;
    uint32_t queues;
    uint32_t readonly;
    uint8_t serial[24];
    uint64_t hash[NAMESPACES];
};

#ifdef OUTBOARD_NEXT_BUILD
#define STATE_VERSION 2
#else
#define STATE_VERSION 1
#endif

struct nvme {
#ifdef OUTBOARD_NEXT_BUILD
    uint64_t spare[700];
#endif
    struct nvme_identity identity;
    uint32_t cc, csts, intms, aqa;
    uint64_t asq, acq;
    uint32_t resetting; /* CC.EN was cleared: ends when no I/O is under way */
    uint32_t shutting;  /* CC.SHN was set: ends when all is on the disk */
    uint32_t subsystem_reset;
    uint64_t power_on;  /* CLOCK_MONOTONIC ns */
    uint32_t epoch;     /* one more with each reset */

    uint32_t shadow;    /* doorbells are in memory... */
    uint64_t shadow_doorbells, shadow_events; /* ...here; page aligned */

    struct nvme_features features;

    uint32_t event_pending; /* bits by enum event: happened, to be reported */
    uint32_t event_masked;  /* reported, until its log page is read */
    uint16_t event_slot[EVENTS]; /* slots of the requests that wait, oldest first */
    uint32_t event_count;

    uint32_t changed[NAMESPACES / 32 + 1]; /* the changed namespace log */
    uint64_t blocks[NAMESPACES];           /* size of each namespace as the guest was told */

    struct nvme_counters counters;
    struct nvme_error error[ERRORS]; /* a ring: number % ERRORS */

    uint64_t live;         /* I/O submission queues that exist: bit id - 1 */
    uint64_t interrupting; /* I/O completion queues with interrupts, the same way */
    struct nvme_sq sq[QUEUES];
    struct nvme_cq cq[QUEUES];
    uint64_t slot_map[SLOTS / 64];
    struct nvme_slot slot[SLOTS];

    struct nvme_fetch fetch;
    struct nvme_post post;
    struct nvme_far far[FARS]; /* not for a build or a host that begins those commands anew */
};

/* ---- What is this process's own --------------------------------------------------------------------- */

struct nvme_run;    /* run.h */
struct nvme_engine; /* engine.h */
struct bounces;     /* run.c */

struct nvme_namespace {
    int fd;            /* for I/O */
    int owner;         /* another description, for the lock */
    uint64_t bytes;    /* of the file, when we last looked */
    uint64_t blocks;   /* of the namespace */
    uint32_t align;    /* of memory and offsets, for O_DIRECT; 1: none */
    uint8_t at_once;   /* enum at_once */
    bool no_zero_range;
    bool no_punch;
    int watch;         /* inotify's */
    uint64_t hash;     /* for its identifiers */
};

/* Which I/O may be tried on the loop's thread, since it will not wait for a disk. */
#define AT_ONCE_READ 1u   /* preadv2() with at_once_flags */
#define AT_ONCE_WRITE 2u
#define AT_ONCE_MEMORY 4u /* the file is memory itself: RWF_NOWAIT is neither known nor needed */

struct ring {
    uint16_t slot[SLOTS];
    uint32_t first, count;
};

struct private {
    struct nvme_namespace ns[NAMESPACES];
    uint32_t namespaces;
    uint32_t queues; /* pairs for I/O */
    uint32_t lba_shift;
    bool readonly;
    bool mapped; /* doorbells are a page that clients map */
    bool incoming; /* another process may still have the files */
    bool started;  /* this process has begun */
    bool stopping; /* nothing new is begun */
    bool stopped;
    char serial[24];

    uint64_t late_locks;   /* see lock.c */
    bool barred;           /* a dead process may still have I/O under way: no command is executed or completed... */
    bool barred_told;
    uint64_t barred_since; /* ...CLOCK_MONOTONIC ns */
    uint32_t late_dmas;    /* transfers that ended meanwhile... */
    int late_error[DMAS];  /* ...and how */

    struct nvme_engine *engine;
    struct nvme_run *run; /* SLOTS + 1: one for each slot, and one of the controller's own */
    struct bounces *bounces;
    uint32_t outstanding; /* requests that the engine has */

    /* Slots by what is to be done next: rings, since a slot is in at most one of them. */
    struct ring start; /* NEW ones, to be started after this step */
    struct ring go_on; /* that the engine has served, and that need another request */
    struct ring post;  /* DONE ones, or finished by the engine */
    struct ring far;   /* NEW ones that wait for a struct nvme_far */
    struct nvme_far *window;   /* memory of the command in hand: its own place, or NULL, the guest's */
    uint32_t window_at;        /* bytes of its list that were looked at */
    uint64_t far_queues;       /* I/O submission queues with entries to be read by messages */
    bool far_admin;            /* and the admin queue */
    bool far_cq[QUEUES];       /* completion queues that are far, as far as we know */
    uint8_t cids[4096];  /* commands in flight by a hash of their queue and identifier */
    uint32_t slots_used;
    uint32_t epoch;    /* of the state, when all this was made from it */
    bool rung;         /* a doorbell's register was written though it is in memory */
    bool again;        /* there is more to do at once */
    bool blocked;      /* some completion queue is full */
    bool retry;        /* guest memory was busy: start again when it is not */
    uint16_t resume;   /* the queue at which the next round begins */

    uint64_t posted; /* I/O completion queues that got entries in this step: bit id - 1 */
    uint64_t held;   /* those whose message waits for more entries */
    uint16_t depth[QUEUES];     /* entries at a time that the driver had not taken; learnt */
    uint16_t not_held[QUEUES];  /* no message is held for so many entries */
    uint16_t signalled[QUEUES]; /* the tail when the last message was raised */
    bool coalescing;        /* entries were posted without an interrupt... */
    bool coalesce_timer;    /* ...and this is set, to make up for it */
    uint8_t vector[QUEUES]; /* to be signalled at the end of this step */
    bool vectors;           /* some are */
    struct nvme_counters delta; /* to be added to the state's when this step ends */
    bool flushed;               /* all files are, for a shutdown */

    /* For account.c. */
    uint64_t began[SLOTS]; /* CLOCK_MONOTONIC ns: when the command in this slot was fetched; 0: not known */
    uint64_t ended;        /* when this step began to post; 0: it has not */
    uint64_t timed;        /* when this step began; 0: what it does at once is not timed */
    uint32_t steps;
    struct at_once {
        uint64_t commands, bytes;
    } at_once[OB_ACCOUNT_WRITE + 1]; /* that this step fetched, executed and posted */

    /* Shadow doorbells. */
    bool polling;
    uint32_t looks; /* in vain */
    bool moved; /* since the timer of the polling was set */
    uint64_t poll_ns;      /* how long to look; learnt */
    uint64_t asleep_since; /* CLOCK_MONOTONIC ns */
    uint64_t nap_ns;       /* mapped, and asleep for so long; 0: not asleep */
    uint32_t seen[QUEUES];    /* what the doorbell said when we last took it */
    uint16_t event_index[QUEUES];

    int inotify;
    bool sizes_watched;
    bool written; /* since the sizes were last looked at */
};

/* What the keeper has, see ob_keep(). */
enum { KEEP_OWNER, KEEP_INOTIFY = KEEP_OWNER + NAMESPACES };

enum { TIMER_POLL, TIMER_COALESCE, TIMER_HELD, TIMER_SIZES, TIMER_BARRIER, TIMERS };

/* Touch and store. */
#define SET(dev, lvalue, v)                            \
    do {                                               \
        ob_touch((dev), &(lvalue), sizeof(lvalue));    \
        (lvalue) = (v);                                \
    } while (0)

static inline uint32_t page_size(const struct nvme *s)
{
    return 4096u << CC_MPS(s->cc);
}

static inline bool is_running(const struct nvme *s)
{
    return (s->csts & (CSTS_RDY | CSTS_CFS | CSTS_SHST)) == CSTS_RDY && !s->resetting;
}

/* Commands that were fetched may still end. */
static inline bool can_complete(const struct nvme *s)
{
    return (s->csts & (CSTS_RDY | CSTS_CFS)) == CSTS_RDY && !s->resetting;
}

static inline struct nvme_sq *sq_of(struct nvme *s, const struct nvme_slot *slot)
{
    return &s->sq[slot->sq];
}

/* ---- state.c ---- */
extern const struct ob_field state_fields[];
int state_loaded(struct ob_device *dev, uint32_t version);
int state_stop(struct ob_device *dev);
bool state_goes_on(struct ob_device *dev); /* a stop had not come to its end, and never mind */
/* Another state than this process knew, or the same after a stop: takes it up. */
int state_start(struct ob_device *dev);

/* ---- registers.c ---- */
int registers_read(struct ob_device *dev, uint64_t at, void *buf, size_t n);
int registers_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n);
/* The controller cannot go on: CSTS.CFS, and one line of log. */
void controller_fatal(struct ob_device *dev, const char *why);
/* Everything that a controller reset clears. No I/O is under way. */
void controller_clear(struct ob_device *dev);
/* What CC asked for and was waited for: called in steps, when requests ended. */
void controller_settle(struct ob_device *dev);

/* ---- work.c ---- */
bool work_pending(struct ob_device *dev);
void work(struct ob_device *dev);
void work_committed(struct ob_device *dev);
void work_forget(struct ob_device *dev); /* what this process knows is of another state */
void work_count(struct ob_device *dev);  /* what was counted goes to the state */
void work_soon(struct ob_device *dev); /* in any callback: work() will be called at once */

/* ---- doorbell.c ---- */
void doorbell_write(struct ob_device *dev, uint64_t at, uint32_t value);
/* Takes the shadow doorbells' values over. */
void doorbell_look(struct ob_device *dev);
void doorbell_refresh_head(struct ob_device *dev, uint32_t cq); /* for a queue that seems full */
/* What the driver says of its head in memory, unchecked. False: nothing. */
bool doorbell_head(struct ob_device *dev, uint32_t cq, uint32_t *head);
bool doorbell_moved(struct ob_device *dev); /* outside of steps */
/* Doorbells go into memory from now on. A status. */
uint16_t doorbell_configure(struct ob_device *dev, uint64_t doorbells, uint64_t events);
void doorbell_new_sq(struct ob_device *dev, uint32_t q);
void doorbell_new_cq(struct ob_device *dev, uint32_t q);
void doorbell_start(struct ob_device *dev); /* for a successor: nothing has been seen */
void doorbell_forget(struct ob_device *dev); /* after a reset: doorbells are registers */
/* With INTx: the driver's heads let the wire fall, so ask for a trap at each. */
void doorbell_watch_heads(struct ob_device *dev);
/* Keeps looking for a while from now on. */
void doorbell_poll(struct ob_device *dev);
void doorbell_timer(struct ob_device *dev);

/* ---- queue.c ---- */
/* Fetches and handles commands of all queues in turn, up to a bound. */
void queue_fetch(struct ob_device *dev);
/* Posts what is to be posted, as far as there is room. */
void queue_post_ready(struct ob_device *dev);
static inline bool cq_full(const struct nvme_cq *cq)
{
    return (cq->tail + 1u == cq->entries ? 0 : cq->tail + 1u) == cq->head;
}
/* The tail moves over an entry. */
static inline void cq_advance(struct ob_device *dev, struct nvme_cq *cq)
{
    ob_touch(dev, cq, sizeof *cq);
    if (++cq->tail == cq->entries) {
        cq->tail = 0;
        cq->phase ^= 1;
    }
}
/* Writes an entry. 0, -EREMOTE: only messages reach the queue; else the memory is gone, and so is the
 * controller. */
int cq_post(struct ob_device *dev, const struct nvme_sq *sq, uint32_t sqid, uint16_t cid,
             uint16_t status, uint32_t dw0);
/* Commands that were read by messages. */
void queue_take(struct ob_device *dev, uint32_t sqid, const struct nvme_command *c, uint32_t n);
/* For a successor. */
void queue_adopt(struct ob_device *dev);

/* ---- slot.c ---- */
uint32_t slot_new(struct ob_device *dev, uint32_t sqid, const struct nvme_command *c);
void slot_free(struct ob_device *dev, uint32_t i);
/* The result, valid with this step, posted in a later one. Errors are logged. */
void slot_done(struct ob_device *dev, uint32_t i, uint16_t status, uint32_t dw0);
/* Is a command with this identifier in flight? And which one (refused: the one that was found to have
 * the identifier of another)? NO_SLOT: none. */
bool slot_conflict(struct ob_device *dev, uint32_t sqid, uint16_t cid);
uint32_t slot_find(const struct nvme *s, uint32_t sqid, uint16_t cid, bool refused);
void slot_count_all(struct ob_device *dev); /* for a successor, and after a reset */
/* For all slots in use: for (i = slot_next(s, 0); i < SLOTS; i = slot_next(s, i + 1)) */
uint32_t slot_next(const struct nvme *s, uint32_t from);
void ring_push(struct ring *r, uint32_t i);
uint32_t ring_pop(struct ring *r);

/* Counts as a command in flight, so that the queue stays. */
void slot_hold_queue(struct ob_device *dev, uint32_t sqid);
void slot_release_queue(struct ob_device *dev, uint32_t sqid);

/* ---- far.c ---- */
#define SC_FAR 0xffff /* in place of a status: only messages reach the command's memory */
void far_wait(struct ob_device *dev, uint32_t i); /* the slot's command shall go by messages */
void far_go_on(struct ob_device *dev);            /* in work(): what can begin */
void far_fetch(struct ob_device *dev, uint32_t sqid);
/* A command's entry is sent off. False: not now, another one is on its way. */
bool far_post(struct ob_device *dev, uint32_t i, uint16_t status, uint32_t dw0);
/* Is the entry before the tail not written yet? */
static inline bool far_is_posting(const struct nvme *s, uint32_t cqid)
{
    return s->post.stage == POST_LAST && s->sq[s->post.entry.sqid].cq == cqid;
}
/* The engine has executed the command. True: its data has yet to go to the guest. */
bool far_ran(struct ob_device *dev, uint32_t i);
void far_end(struct ob_device *dev, uint32_t i); /* the slot needs its data no more */
void far_done(struct ob_device *dev, unsigned dma, int error);
struct nvme_far *far_of(struct nvme *s, uint32_t i); /* or NULL */
int far_read_list(struct ob_device *dev, uint64_t address, void *buf, size_t n);
bool far_is_moving(const struct nvme *s); /* transfers are under way */
bool far_is_idle(struct ob_device *dev);
void far_clear(struct ob_device *dev);
void far_forget(struct ob_device *dev); /* commands with data by messages, whose slots begin anew */
void far_adopt(struct ob_device *dev);

/* ---- irq.c ---- */
void irq_posted(struct ob_device *dev, struct nvme_cq *cq);
void irq_end(struct ob_device *dev); /* of a step: raise what was gathered */
void irq_level(struct ob_device *dev);
void irq_timer(struct ob_device *dev);
void irq_held(struct ob_device *dev); /* the other timer's */
void irq_adopt(struct ob_device *dev); /* for a successor: what the driver may not have heard of */

/* ---- admin.c and its like: a command in a slot is executed, and its slot becomes done or waits ---- */
void admin_execute(struct ob_device *dev, uint32_t i);
uint16_t admin_run(struct ob_device *dev, const struct nvme_command *c, uint32_t *dw0); /* a status */
void admin_queue_empty(struct ob_device *dev, uint32_t sqid); /* a queue that is being deleted */
uint16_t identify(struct ob_device *dev, const struct nvme_command *c);
uint16_t log_page(struct ob_device *dev, const struct nvme_command *c);
void log_error(struct ob_device *dev, uint32_t sqid, const struct nvme_command *c, uint16_t status);
uint16_t feature_get(struct ob_device *dev, const struct nvme_command *c, uint32_t *dw0);
uint16_t feature_set(struct ob_device *dev, const struct nvme_command *c, uint32_t *dw0);
void feature_reset(struct ob_device *dev);
uint32_t feature_temperature(void); /* kelvin */

/* ---- event.c ---- */
enum event { EVENT_DOORBELL, EVENT_DOORBELL_VALUE, EVENT_HOT, EVENT_NS_CHANGED, EVENT_KINDS };
void event_request(struct ob_device *dev, uint32_t i);
void event_happened(struct ob_device *dev, enum event e);
void event_report(struct ob_device *dev); /* what happened, if requests wait for it; in work() */
void event_log_read(struct ob_device *dev, uint8_t page); /* its events may be reported again */
bool event_abort(struct ob_device *dev, uint16_t cid);

/* ---- io.c ---- */
struct io {
    struct nvme_namespace *ns;
    uint32_t nsid;
    uint64_t offset; /* bytes */
    uint64_t length;
    bool fua;
};
static inline bool is_writing(uint8_t opcode)
{
    return opcode == NVM_WRITE || opcode == NVM_WRITE_ZEROES || opcode == NVM_DSM ||
           opcode == NVM_COPY;
}
/* A status; *io is filled in for commands with a range of blocks. */
uint16_t io_check(struct ob_device *dev, const struct nvme_command *c, struct io *io);
/* True: the command was executed at once and without an error. */
bool io_at_once(struct ob_device *dev, const struct nvme_command *c, const struct io *io);
void io_count(struct ob_device *dev, uint8_t opcode, uint64_t bytes);
/* The status for an errno of the backend. */
uint16_t io_status(int error, bool write);

/* ---- account.c ---- */
void account_begin(struct ob_device *dev); /* before the step fetches */
void account_began(struct ob_device *dev, uint32_t i);
void account_posted(struct ob_device *dev, uint32_t i, uint16_t status); /* the command in slot i */
void account_at_once(struct ob_device *dev, uint8_t opcode, uint64_t bytes);
void account_end(struct ob_device *dev); /* of a step of work() */

/* ---- run.c ---- */
int run_open(struct ob_device *dev);
void run_close(struct ob_device *dev);
void run_start(struct ob_device *dev);     /* outside of steps: what waits to be submitted */
void run_reap(struct ob_device *dev);      /* in a step: looks at results */
bool run_has_results(struct ob_device *dev);
bool run_flush_all(struct ob_device *dev); /* for a shutdown, outside of steps: true when it is done */
void run_forget(struct ob_device *dev);    /* slots are gone: results mean nothing any more */
/* How the command in slot i, which is in the ring `post`, ended: takes the result away. */
uint16_t run_result(struct ob_device *dev, uint32_t i);

/* ---- namespace.c ---- */
int namespaces_open(struct ob_device *dev);
void namespaces_close(struct ob_device *dev);
int namespaces_start(struct ob_device *dev);
void namespaces_measure(struct ob_device *dev); /* how large the files are now */
void namespaces_look(struct ob_device *dev); /* have sizes changed? In a step. */
void namespaces_reset(struct ob_device *dev); /* timers were cancelled */
void namespaces_timer(struct ob_device *dev);
void namespaces_written(struct ob_device *dev); /* in a step: there were writes */

/* ---- lock.c ---- */
int lock_open(struct ob_device *dev, uint32_t i); /* for namespace i, whose file is open */
void lock_close(struct ob_device *dev, uint32_t i);
int lock_files(struct ob_device *dev); /* the files are ours, or -EBUSY after a line of log */
void lock_release(struct ob_device *dev);
/* Before commands are executed: looks whether another process's I/O is over. If not, this one is barred until
 * the timer finds that it is. */
void lock_barrier(struct ob_device *dev);
void lock_timer(struct ob_device *dev);
void lock_later(struct ob_device *dev, unsigned dma, int error); /* a transfer ended while barred */

#endif

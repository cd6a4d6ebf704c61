/*
 * faulty.h - a client with seeded faults, each of which the mirror has to find.
 *
 * It shares no code with our library. Without a fault it checks everything, and ends with status 1 at
 * the first thing that is out of order. With one, it leaves one check out, or does one thing wrong.
 */
#ifndef FAULTY_H
#define FAULTY_H

#include <outboard/vfio_user.h>
#include <stdbool.h>
#include <stddef.h>

#define FAULTS(X)                                                                       \
    X(NONE, "none", "checks everything")                                                \
    X(ID, "id", "takes any reply for its own")                                          \
    X(COMMAND, "command", "does not look at a reply's command")                         \
    X(TYPE, "type", "takes any message for a reply")                                    \
    X(ASSERT, "assert", "asserts that only replies come that it waits for")             \
    X(SIZE, "size", "reads messages of any size into one buffer")                       \
    X(ALLOCATE, "allocate", "allocates what a message says to need")                    \
    X(BODY, "body", "does not see that a body is too short")                            \
    X(TAIL, "tail", "does not see that a body is too long")                             \
    X(ERROR_ZERO, "error-zero", "takes an error without a number for success")          \
    X(ERROR_SIGN, "error-sign", "takes the negative of an error number for its result") \
    X(ERROR_BIT, "error-bit", "looks at the error number alone, at 4,095 at most")      \
    X(COUNT, "count", "copies as much data as a read's reply says")                     \
    X(SHORT_READ, "short-read", "is content with fewer bytes than it asked for")        \
    X(ECHO, "echo", "does not look at what a reply is about")                           \
    X(WRITTEN, "written", "does not look at how much was written")                      \
    X(VERSION, "version", "does not look at the version")                               \
    X(JSON, "json", "skips version data that it cannot parse")                          \
    X(JSON_TYPE, "json-type", "makes numbers of everything in version data")            \
    X(LIMITS, "limits", "does not keep to the server's limits")                         \
    X(TWIN, "twin", "lets a twin socket be turned on")                                  \
    X(REGIONS, "regions", "believes in any number of regions and interrupt types")      \
    X(IRQS, "irqs", "sets up as many interrupts as it is told")                         \
    X(ARGSZ, "argsz", "asks again for as long as the server wants more room")           \
    X(CAPS_BOUNDS, "caps-bounds", "follows capabilities anywhere")                      \
    X(CAPS_LOOP, "caps-loop", "follows capabilities in circles")                        \
    X(AREAS, "areas", "believes in any number of areas")                                \
    X(AREA_BOUNDS, "area-bounds", "maps areas outside of the region")                   \
    X(MAP_FILE, "map-file", "maps files beyond their end")                              \
    X(MAP_SHRINK, "map-shrink", "touches mappings of files that can shrink")            \
    X(MEMORY_SHRINK, "memory-shrink", "gives its own memory away unsealed")             \
    X(LEAK, "leak", "keeps descriptors that it has no use for")                         \
    X(DMA_BOUNDS, "dma-bounds", "lets the server at any memory")                        \
    X(DMA_END, "dma-end", "looks at where an access begins alone")                      \
    X(DMA_WRAP, "dma-wrap", "adds up addresses without a look at overflow")             \
    X(DMA_RIGHTS, "dma-rights", "lets the server write what it may read, and back")     \
    X(DMA_STALE, "dma-stale", "lets the server at what was unmapped")                   \
    X(DMA_COUNT, "dma-count", "cuts off large counts, and replies success")             \
    X(DMA_DATA, "dma-data", "writes as many bytes as a count says, not as there are")   \
    X(DMA_POSTED, "dma-posted", "replies where no reply is wanted")                     \
    X(DMA_TWICE, "dma-twice", "replies twice")                                          \
    X(DMA_UNKNOWN, "dma-unknown", "replies success to commands that it does not know")  \
    X(GROW, "grow", "keeps replies in memory while more commands come")                 \
    X(SILENCE, "silence", "waits for replies for ever")                                 \
    X(END, "end", "waits for more after the end of the stream")                         \
    X(SIGPIPE, "sigpipe", "is killed when it writes to a closed socket")                \
    X(FEATURE, "feature", "does not look at what a feature's reply says")               \
    X(MIG_DATA, "mig-data", "copies as much migration data as it is told")

#define FAULT_NAME(name, word, text) FAULT_##name,
enum fault { FAULTS(FAULT_NAME) FAULTS_IN_ALL };

extern enum fault the_fault;
extern uint8_t *mapped; /* memory of BAR2, where it should not have been mapped */
static inline bool fault(enum fault f)
{
    return the_fault == f;
}

/* Ends the program: something is out of order. */
_Noreturn void give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* n bytes, the last of them right before memory that cannot be touched. */
void *guarded(size_t n);

/* ---- io.c: messages ------------------------------------------------------------------------ */

#define MOST_DATA 65536u
#define MOST_BODY (MOST_DATA + 4096u)
#define MOST_FDS 16u

struct message {
    struct vfio_user_header h;
    uint8_t *body; /* MOST_BODY bytes, guarded */
    size_t size;   /* of the body */
    int fds[MOST_FDS];
    unsigned nfds;
    bool fds_lost;
};

void io_start(const char *path, unsigned timeout_ms);
void io_send(const void *bytes, size_t n, const int *fds, unsigned nfds);
/* The next message of any kind; gives up after the timeout. */
void io_receive(struct message *m);
/* Is there something to receive, within so much time? */
bool io_ready(int ms);
/* Closes the message's descriptors, from the first one on that is not wanted. */
void io_drop_fds(struct message *m, unsigned wanted);

/* ---- dma.c: memory for the server ---------------------------------------------------------- */

/* The server may use it. */
void dma_add(uint64_t address, uint64_t size, uint8_t *memory, uint32_t flags);
void dma_remove(uint64_t address);
/* Answers a command of the server. */
void dma_serve(const struct message *m);

/* ---- call.c: a request and its reply ------------------------------------------------------- */

struct request {
    uint16_t command;
    const void *body;
    size_t size;
    const int *fds;
    unsigned nfds;
    size_t least, most; /* of the reply's body */
    unsigned reply_fds; /* at most */
};

/* Sends a request, returns its id; receives the reply to it, whose body and descriptors are in *m. */
uint16_t call_send(const struct request *r);
void call_wait(const struct request *r, uint16_t id, struct message *m);
void call(const struct request *r, struct message *m);

/* ---- region.c, version.c ------------------------------------------------------------------- */

extern uint64_t limit_fds, limit_data, limit_maps; /* of the server */
extern bool takes_multi;

void version(struct message *m);
/* Asks for a region, and uses what of it can be mapped. */
void region(uint32_t index, struct message *m);

#endif

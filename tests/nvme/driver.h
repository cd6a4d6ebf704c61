/*
 * driver.h - a small NVMe driver in user space, for tests and measurements.
 *
 * It reaches the controller through the client library alone, as any vfio-user client would, and does
 * nothing that it was not told to: queues are made, entries written and doorbells rung one by one, so
 * that a test can do each of these wrong. Functions that talk to the device end the program with a
 * line if the connection fails, unless they say otherwise.
 *
 * The environment's NVME_MEMORY says how the device gets its memory: "mapped" (or nothing), "messages",
 * or "mixed", which changes between the two all the time.
 */
#ifndef NVME_DRIVER_H
#define NVME_DRIVER_H

#include "../../devices/nvme/spec.h"

#include <outboard/client.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define DRIVER_QUEUES 65u
#define DRIVER_BASE 0x100000000ull /* where the device sees the memory */

struct driver_queue {
    struct nvme_command *sq;
    volatile struct nvme_completion *cq;
    uint64_t sq_address, cq_address;
    uint32_t entries;
    uint32_t tail, head;
    uint8_t phase;
    uint16_t next_cid;
};

struct driver {
    struct ob_client *client;
    uint8_t *memory;
    uint64_t size, used;
    int memory_fd;
    enum { DRIVER_MAPPED, DRIVER_MESSAGES, DRIVER_MIXED } kind;
    struct driver_queue queue[DRIVER_QUEUES];
    bool shadow;
    _Atomic uint32_t *doorbells, *events; /* shadow ones */
    _Atomic uint32_t *mapped; /* the registers themselves, with doorbells=mapped; else NULL */
    uint64_t traps; /* doorbell registers written */
};

/* ---- A served disk ------------------------------------------------------------------------------- */

struct disk {
    char folder[64];
    char socket[96];
    char file[96];
    pid_t pid;
};

/* Makes a file of this size in `folder` (NULL: a new one below /tmp) and serves it with the program
 * that the environment's OUTBOARD names; args are further words for the command line, NULL at the end. */
void disk_serve(struct disk *disk, const char *folder, uint64_t size, const char *const *args);
/* What is served: "nvme", or a file with a plugin. */
extern const char *disk_device;
/* Called in the new process before it becomes the program; NULL: nothing. */
extern void (*disk_child)(void);
void disk_serve_again(struct disk *disk, const char *const *args);
/* Ends the process, which has to end well, and removes the file. */
void disk_end(struct disk *disk);
/* The process that runs a device for this keeper: the last of its line. 0: none does just now. */
pid_t disk_worker(pid_t keeper);

/* ---- The controller ------------------------------------------------------------------------------ */

void driver_connect(struct driver *d, const char *socket, uint64_t memory);
void driver_close(struct driver *d);

/* One more map of memory that driver_connect() made, as NVME_MEMORY has it for this address. 0 or -errno. */
int driver_map(struct driver *d, uint64_t address, void *memory, uint64_t size);
/* All of it, as driver_connect() does. */
void driver_map_all(struct driver *d);
/* Answers the device's messages, if it may have some. */
void driver_answer(struct driver *d);

uint32_t driver_read32(struct driver *d, uint32_t reg);
uint64_t driver_read64(struct driver *d, uint32_t reg);
void driver_write32(struct driver *d, uint32_t reg, uint32_t v);
void driver_write64(struct driver *d, uint32_t reg, uint64_t v);
/* Waits up to 20 s for (CSTS & mask) == value. */
bool driver_wait_csts(struct driver *d, uint32_t mask, uint32_t value);

/* Bus mastering on, admin queues, CC.EN. */
void driver_enable(struct driver *d, uint32_t entries);
void driver_disable(struct driver *d);

/* Memory that the device can reach, zeroed, never given back; *address is the device's view of it. */
void *driver_alloc(struct driver *d, uint64_t size, uint64_t align, uint64_t *address);
static inline uint64_t driver_address(const struct driver *d, const void *p)
{
    return DRIVER_BASE + (uint64_t)((const uint8_t *)p - d->memory);
}

/* ---- Queues -------------------------------------------------------------------------------------- */

/* A pair with completion queue number q as well. vector: -1, or of its interrupts. A status. */
uint16_t driver_queue(struct driver *d, uint32_t q, uint32_t entries, int vector);
uint16_t driver_delete_queue(struct driver *d, uint32_t q);
/* False: not with this memory. */
bool driver_shadow(struct driver *d);

/* Puts a command at the tail (its cid is filled in unless `keep_cid`), without ringing. Its cid. */
uint16_t driver_put(struct driver *d, uint32_t q, const struct nvme_command *c);
void driver_ring(struct driver *d, uint32_t q);
/* A completion, if there is one. */
bool driver_poll(struct driver *d, uint32_t q, struct nvme_completion *c);
/* Waits up to 20 s for one. */
bool driver_wait(struct driver *d, uint32_t q, struct nvme_completion *c);
void driver_ring_head(struct driver *d, uint32_t q);

/* One command, waited for. Its status; dw0 may be NULL. 0xffff: no answer within 20 s. */
uint16_t driver_do(struct driver *d, uint32_t q, const struct nvme_command *c, uint32_t *dw0);

static inline uint16_t driver_status(const struct nvme_completion *c)
{
    return c->status >> 1;
}

#endif

/*
 * nvme_client.h - the driver of a disk whose process dies: what it sends, and what it must see.
 *
 * A client trusts each completion at once, as a driver may: what was read is compared and scribbled
 * over, what was written is compared with the file and its memory scribbled over, and so is the command
 * in its queue. So a command that is executed once more after its completion does harm that is seen.
 * Commands must complete once each, with the status that was expected. Completions are looked for
 * when their interrupt comes, so a lost one is missed; and when a worker has died. Where the device gets no
 * descriptor of the client's memory, the client looks while it answers the write of an entry, as a driver
 * that polls would.
 *
 * Failures end the running test of cmocka.
 */
#ifndef TESTS_NVME_CLIENT_H
#define TESTS_NVME_CLIENT_H

#include "stand_in.h"
#undef SET /* the device's own is another */
#include "nvme/nvme.h"

#define GUEST 0x100000u /* address of guest memory */
#define GUEST_SIZE (2u << 20)
#define DISK_SIZE (1u << 20)
#define CLIENT_QUEUES 4u
#define COMMANDS 256u /* of one scenario */
#define BIG (256u << 10) /* more than the device does at once */

struct command {
    struct nvme_command c;
    uint8_t q;
    bool done;
    bool maybe;  /* may complete, or not */
    bool conflicts; /* has the identifier of another, and is told apart by its status */
    bool waits;  /* of its own accord it never completes: not waited for */
    uint16_t status;
    uint32_t dw0; /* as completed */
    uint8_t *data;
    uint32_t bytes;
    uint32_t source, copied; /* of Copy: bytes on the disk */
    uint8_t rest; /* what its memory must hold from now on, 0: anything */
};

struct client {
    struct stand_in s;
    const char *where; /* the scenario, for lines about failures */
    long point;

    uint8_t *mem;
    bool far; /* the device reaches it by messages alone */
    struct client_queue {
        uint32_t entries; /* 0: there is none */
        uint32_t tail, head;
        uint32_t freed; /* head of the submission queue, as the device said */
        uint8_t phase;
        bool owed;      /* a completion was seen whose interrupt was not */
    } q[CLIENT_QUEUES];
    bool shadow;
    bool shut_down;
    struct command command[COMMANDS];
    unsigned commands;
    uint32_t errors; /* in the error log, in all */
    uint32_t smalls, bigs; /* buffers that were given out */

    uint8_t in[WIRE_MAX_MESSAGE];
    size_t have;
    unsigned asked, answered; /* messages and replies */
    uint32_t register_value;  /* as read last */
    uint32_t wait_mask, wait_value; /* CSTS is read until it is this */
    bool waiting;

    bool (*script)(struct client *c, int stage); /* the next thing to do; false: that was all */
    int stage;
    bool finished;
    bool fenced; /* after all that was answered before, the device has answered once more */
};

extern int disk_fd;
extern uint8_t disk_model[DISK_SIZE]; /* what the disk must hold */
void disk_new(void); /* the file's contents at the start of every scenario */

/* ---- Doing ---- */
void client_negotiate(struct client *c); /* memory, interrupts, bus mastering; a fresh device */
void client_enable(struct client *c);    /* writes the registers and waits for CSTS.RDY */
void client_wait_csts(struct client *c, uint32_t mask, uint32_t value);
void client_chat(struct client *c); /* some reads of a register: replies, while I/O is under way */
void client_write32(struct client *c, uint32_t reg, uint32_t value);
void client_reset_message(struct client *c);
/* The controller is off: all queues are gone, all memory is the client's again. */
void client_forget(struct client *c);
void client_forget_queue(struct client *c, unsigned q); /* one pair was deleted */

struct command *client_put(struct client *c, unsigned q, struct nvme_command n, uint16_t status);
void client_ring(struct client *c, unsigned q);
/* Changes the command that is `back` places before the tail. */
void client_rewrite(struct client *c, unsigned q, uint32_t back, const struct nvme_command *n);
/* Commands on namespace 1; lba and blocks of 512 bytes, 4 KiB or BIG at most. */
struct command *client_rw(struct client *c, unsigned q, uint8_t opcode, uint32_t lba, uint32_t blocks,
                          uint32_t flags, uint16_t status);
struct command *client_admin(struct client *c, uint8_t opcode, uint32_t cdw10, uint32_t cdw11,
                             uint64_t prp1, uint16_t status);
void client_copy(struct client *c, unsigned q, uint32_t to, uint32_t from, uint32_t blocks);
void client_create_cq(struct client *c, unsigned q, uint32_t entries);
void client_create_sq(struct client *c, unsigned q, uint32_t entries);
void client_configure_doorbells(struct client *c);
uint64_t client_address(const struct client *c, const void *p);
void *client_buffer(struct client *c, uint32_t bytes); /* 4096 at most, or BIG */

/* ---- Seeing ---- */
void client_map(struct client *c); /* the memory of a copied stand-in */
void client_expect_dw0(struct client *c, uint32_t dw0); /* of the last command */
bool client_done(void *client); /* for stand_in_until() */
void client_look_at_rest(struct client *c); /* no worker runs */
/* No worker runs, and all is over: file, memory, and the device's state. */
void client_check(struct client *c);
void client_close(struct client *c);

#endif

/*
 * run.h - what this process knows of a command that it executes: the part of a slot that dies with it.
 */
#ifndef NVME_RUN_H
#define NVME_RUN_H

#include "data.h"
#include "engine.h"

#define OUTSTANDING 256u /* requests that the engine gets at once */
#define BOUNCE (128u << 10)
#define BOUNCES 16u

enum run_stage {
    RUN_IDLE,
    RUN_BUSY,     /* the engine has its request */
    RUN_GO_ON,    /* a request ended and the next one is to be submitted */
    RUN_FINISHED, /* status says how */
};

struct nvme_run {
    uint8_t stage;
    bool orphan; /* its slot is gone: what comes out of it is dropped */
    uint16_t status;
    struct engine_request request;

    struct io io;
    uint64_t at;    /* bytes done, of this range */
    uint32_t range; /* of a command with several, the current one */
    /* Copy: what was read (half) is being written; copied so far, in all. */
    bool writing;
    uint64_t half;
    uint64_t copied;

    /* Guest memory, pinned. */
    struct data *data;
    unsigned access;
    struct iovec *iov;
    int iovcnt;
    bool held; /* nothing is, and ob_hold() was called */

    uint8_t *bounce; /* BOUNCE bytes, aligned */
    struct iovec one; /* of it */
    void *list;      /* ranges of Dataset Management or Copy, as they were read */
    uint32_t list_count;
};

/* ---- request.c ---- */

/* Checks the command and gets hold of its memory. 0, a status, -EREMOTE: by messages alone, or another
 * negative number: later. */
int request_prepare(struct ob_device *dev, struct nvme_run *run, const struct nvme_command *c);
/* Fills in the next request. False: all is done. */
bool request_next(struct ob_device *dev, struct nvme_run *run, const struct nvme_command *c);
/* The request moved n bytes (> 0, or 0 where nothing is to be moved). A status. */
uint16_t request_moved(struct ob_device *dev, struct nvme_run *run, const struct nvme_command *c,
                       uint64_t n);
/* It failed since the file system cannot do this. True: there is another way to try. */
bool request_otherwise(struct ob_device *dev, struct nvme_run *run, const struct nvme_command *c,
                       int error);

/* ---- run.c ---- */

/* False: all are in use. */
bool run_take_bounce(struct ob_device *dev, struct nvme_run *run);
bool run_is_busy(struct ob_device *dev, uint32_t i);

#endif

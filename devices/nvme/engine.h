/*
 * engine.h - I/O on files that may block, without blocking the caller.
 *
 * Two engines do the same: io_uring, and threads where that is forbidden. A request is the caller's
 * structure, and everything in it stays put until engine_reap() has returned it. One thread uses an
 * engine.
 */
#ifndef NVME_ENGINE_H
#define NVME_ENGINE_H

#include <outboard/device.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum engine_op {
    ENGINE_READ,
    ENGINE_WRITE,
    ENGINE_SYNC,  /* fdatasync */
    ENGINE_ZERO,  /* fallocate: reads as zeros from now on, and keeps its place on the disk */
    ENGINE_PUNCH, /* fallocate: reads as zeros, and gives its place back */
};

struct engine_request {
    enum engine_op op;
    int fd;
    bool durable; /* of a write: on the disk when it is done */
    const struct iovec *iov;
    int iovcnt;
    uint64_t offset; /* bytes */
    uint64_t length; /* of ENGINE_ZERO and ENGINE_PUNCH */
    int64_t result;  /* bytes or -errno */
    bool by_caller;  /* submit() did it itself */
    struct nvme_engine *owner;   /* the engine's own... */
    struct engine_request *next; /* ...both */
};

struct nvme_engine {
    const struct engine_kind *kind;
};

struct engine_kind {
    const char *name;
    /* NULL with errno. At most `depth` requests will be under way. */
    struct nvme_engine *(*open)(unsigned depth);
    void (*make_threads)(void); /* once it is open; NULL: it needs none */
    /* Waits for what is under way. */
    void (*close)(struct nvme_engine *e);
    int (*fd)(const struct nvme_engine *e); /* readable when there may be something to reap */
    void (*submit)(struct nvme_engine *e, struct engine_request *r);
    void (*kick)(struct nvme_engine *e); /* what was submitted starts now at the latest */
    struct engine_request *(*reap)(struct nvme_engine *e); /* or NULL */
    bool (*ready)(const struct nvme_engine *e); /* cheap: would reap() find one? */
    bool restricted; /* it is a ring, which can do nothing but this */
    const struct ob_syscall *syscalls; /* that it makes once it is open */
};

extern const struct engine_kind engine_uring, engine_threads;

#endif

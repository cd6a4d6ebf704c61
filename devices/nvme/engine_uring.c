/*
 * engine_uring.c - io_uring.
 *
 * The ring may do what a disk needs and no more: IORING_REGISTER_RESTRICTIONS, since a sandbox's
 * filter does not see what a ring is asked to do.
 */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "syscalls_uring.h"

#define SUBMISSIONS 256u

struct uring {
    struct nvme_engine engine;
    struct io_uring ring;
    unsigned queued; /* not yet submitted */
    struct engine_request *failed; /* that the kernel did not take */
};

static int restrict_ring(struct io_uring *ring)
{
    static const uint8_t ops[] = { IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC,
                                   IORING_OP_FALLOCATE };
    struct io_uring_restriction r[sizeof ops + 1];

    memset(r, 0, sizeof r);
    for (unsigned i = 0; i < sizeof ops; i++) {
        r[i].opcode = IORING_RESTRICTION_SQE_OP;
        r[i].sqe_op = ops[i];
    }
    r[sizeof ops].opcode = IORING_RESTRICTION_REGISTER_OP;
    r[sizeof ops].register_op = IORING_REGISTER_ENABLE_RINGS;
    /* liburing 2.3 forgets to export its functions for these two. */
    unsigned fd = (unsigned)ring->ring_fd;
    int ret = io_uring_register(fd, IORING_REGISTER_RESTRICTIONS, r, sizeof ops + 1);
    return ret < 0 ? ret : io_uring_register(fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static struct nvme_engine *uring_open(unsigned depth)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED,
        .cq_entries = depth > SUBMISSIONS ? depth : SUBMISSIONS,
    };
    struct uring *u = calloc(1, sizeof *u);

    if (!u)
        return NULL;
    u->engine.kind = &engine_uring;
    int ret = io_uring_queue_init_params(SUBMISSIONS, &u->ring, &params);
    if (ret == 0 && (ret = restrict_ring(&u->ring)) < 0)
        io_uring_queue_exit(&u->ring);
    if (ret < 0) {
        free(u);
        errno = -ret;
        return NULL;
    }
    io_uring_ring_dontfork(&u->ring);
    return &u->engine;
}

static void uring_close(struct nvme_engine *e)
{
    struct uring *u = (struct uring *)e;
    io_uring_queue_exit(&u->ring); /* waits for what was submitted */
    free(u);
}

static int uring_fd(const struct nvme_engine *e)
{
    return ((const struct uring *)e)->ring.ring_fd;
}

/* The type of offsets is not the same in all versions of liburing. */
static void prepare_fallocate(struct io_uring_sqe *sqe, const struct engine_request *r, int mode)
{
    io_uring_prep_fallocate(sqe, r->fd, mode | FALLOC_FL_KEEP_SIZE, 0, 0);
    sqe->off = r->offset;
    sqe->addr = r->length;
}

static void prepare(struct io_uring_sqe *sqe, const struct engine_request *r)
{
    switch (r->op) {
    case ENGINE_READ:
        io_uring_prep_readv(sqe, r->fd, r->iov, (unsigned)r->iovcnt, r->offset);
        break;
    case ENGINE_WRITE:
        io_uring_prep_writev(sqe, r->fd, r->iov, (unsigned)r->iovcnt, r->offset);
        sqe->rw_flags = r->durable ? RWF_DSYNC : 0;
        break;
    case ENGINE_SYNC:
        io_uring_prep_fsync(sqe, r->fd, IORING_FSYNC_DATASYNC);
        break;
    case ENGINE_ZERO: prepare_fallocate(sqe, r, FALLOC_FL_ZERO_RANGE); break;
    case ENGINE_PUNCH: prepare_fallocate(sqe, r, FALLOC_FL_PUNCH_HOLE); break;
    }
}

/* #syscalls uring: io_uring_enter */
static void uring_kick(struct nvme_engine *e)
{
    struct uring *u = (struct uring *)e;

    while (u->queued) {
        int n = io_uring_submit(&u->ring);
        if (n == -EINTR)
            continue;
        if (n <= 0)
            return; /* EAGAIN, EBUSY: no memory just now; ready() keeps the caller coming back */
        u->queued -= (unsigned)n;
    }
}

static void uring_submit(struct nvme_engine *e, struct engine_request *r)
{
    struct uring *u = (struct uring *)e;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

    if (!sqe) {
        uring_kick(e);
        sqe = io_uring_get_sqe(&u->ring);
    }
    if (!sqe) {
        r->result = -EAGAIN;
        r->next = u->failed;
        u->failed = r;
        return;
    }
    prepare(sqe, r);
    io_uring_sqe_set_data(sqe, r);
    u->queued++;
}

static struct engine_request *uring_reap(struct nvme_engine *e)
{
    struct uring *u = (struct uring *)e;
    struct engine_request *r = u->failed;
    struct io_uring_cqe *cqe;

    if (r) {
        u->failed = r->next;
        return r;
    }
    if (u->queued)
        uring_kick(e);
    if (io_uring_peek_cqe(&u->ring, &cqe) < 0)
        return NULL;
    r = io_uring_cqe_get_data(cqe);
    r->result = cqe->res;
    io_uring_cqe_seen(&u->ring, cqe);
    return r;
}

static bool uring_ready(const struct nvme_engine *e)
{
    const struct uring *u = (const struct uring *)e;
    return u->failed || u->queued || io_uring_cq_ready(&u->ring) > 0;
}

const struct engine_kind engine_uring = {
    .name = "uring",
    .open = uring_open,
    .close = uring_close,
    .fd = uring_fd,
    .submit = uring_submit,
    .kick = uring_kick,
    .reap = uring_reap,
    .ready = uring_ready,
    .restricted = true, /* or there is none: see uring_open() */
    .syscalls = syscalls_uring,
};

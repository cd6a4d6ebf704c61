/*
 * request.c - I/O commands that may block: which requests each is made of.
 */
#include "run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- Preparing ------------------------------------------------------------------------------------- */

static bool iov_aligned(const struct iovec *iov, int n, uint32_t align)
{
    for (int i = 0; i < n; i++)
        if ((uintptr_t)iov[i].iov_base % align || iov[i].iov_len % align)
            return false;
    return true;
}

/* Data that came, or shall go, by messages. */
static int use_window(struct nvme_run *run, struct nvme_far *window)
{
    run->iov = malloc(sizeof *run->iov);
    if (!run->iov)
        return SC_INTERNAL;
    *run->iov = (struct iovec){ window->buffer, run->io.length };
    run->iovcnt = 1;
    return 0;
}

/* The guest's data, by pointer. 0, a status, -EBUSY or -EREMOTE. */
static int pin_data(struct ob_device *dev, struct nvme_run *run, const struct nvme_command *c,
                    unsigned access)
{
    struct private *p = ob_private(dev);
    struct data d;
    struct iovec iov[2 * RANGES];

    if (p->window)
        return use_window(run, p->window);
    uint16_t status = data_map(dev, c, run->io.length, &d);
    if (status)
        return status == SC_FAR ? -EREMOTE : status;
    int n = data_get(dev, &d, access, iov, 2 * RANGES);
    if (n == -EBUSY || n == -EREMOTE)
        return n;
    if (n < 0)
        return SC_DATA_TRANSFER | SC_DNR;
    size_t size = offsetof(struct data, range) + d.count * sizeof d.range[0];
    run->data = malloc(size);
    run->iov = malloc((size_t)n * sizeof *iov);
    if (!run->data || !run->iov) {
        data_put(dev, &d, access);
        free(run->data);
        run->data = NULL;
        return SC_INTERNAL;
    }
    memcpy(run->data, &d, size);
    memcpy(run->iov, iov, (size_t)n * sizeof *iov);
    run->iovcnt = n;
    run->access = access;
    return 0;
}

/* The ranges of Dataset Management and Copy, read once. */
static int read_list(struct ob_device *dev, struct nvme_run *run, const struct nvme_command *c,
                     uint32_t count, uint32_t each)
{
    run->list_count = count;
    run->list = malloc((size_t)count * each);
    if (!run->list)
        return SC_INTERNAL;
    uint16_t status = data_from_guest(dev, c, run->list, count * each);
    return status == SC_FAR ? -EREMOTE : status;
}

/* All ranges are checked before the first is touched. */
static int prepare_dsm(struct ob_device *dev, struct nvme_run *run, const struct nvme_command *c)
{
    int status = read_list(dev, run, c, (c->cdw10 & 0xff) + 1, sizeof(struct nvme_dsm_range));
    const struct nvme_dsm_range *r = run->list;

    for (uint32_t i = 0; !status && i < run->list_count; i++)
        if (r[i].lba > run->io.ns->blocks || r[i].blocks > run->io.ns->blocks - r[i].lba)
            status = SC_LBA_RANGE | SC_DNR;
    return status;
}

static int prepare_copy(struct ob_device *dev, struct nvme_run *run, const struct nvme_command *c)
{
    struct private *p = ob_private(dev);
    int status = read_list(dev, run, c, (c->cdw12 & 0xff) + 1, sizeof(struct nvme_copy_range));
    const struct nvme_copy_range *r = run->list;
    uint64_t total = 0;

    for (uint32_t i = 0; !status && i < run->list_count; i++) {
        uint64_t blocks = r[i].blocks + 1ull;
        if (r[i].lba > run->io.ns->blocks || blocks > run->io.ns->blocks - r[i].lba)
            status = SC_LBA_RANGE | SC_DNR;
        total += blocks;
        if (blocks > COPY_RANGE_BLOCKS || total > COPY_BLOCKS)
            status = SC_COMMAND_SIZE | SC_DNR;
    }
    if (!status && (run->io.offset >> p->lba_shift) + total > run->io.ns->blocks)
        status = SC_LBA_RANGE | SC_DNR;
    run->io.length = total << p->lba_shift;
    return status;
}

static bool needs_bounce(const struct nvme_run *run, uint8_t opcode)
{
    switch (opcode) {
    case NVM_READ:
    case NVM_WRITE: return !iov_aligned(run->iov, run->iovcnt, run->io.ns->align);
    case NVM_COMPARE:
    case NVM_VERIFY:
    case NVM_COPY: return true;
    case NVM_WRITE_ZEROES: return run->io.ns->no_zero_range && run->io.ns->no_punch;
    default: return false;
    }
}

int request_prepare(struct ob_device *dev, struct nvme_run *run, const struct nvme_command *c)
{
    int ret = io_check(dev, c, &run->io);

    if (ret)
        return ret;
    switch (c->opcode) {
    case NVM_READ: ret = pin_data(dev, run, c, OB_WRITE); break;
    case NVM_WRITE:
    case NVM_COMPARE: ret = pin_data(dev, run, c, OB_READ); break;
    case NVM_DSM: ret = prepare_dsm(dev, run, c); break;
    case NVM_COPY: ret = prepare_copy(dev, run, c); break;
    default: break;
    }
    if (ret == 0 && needs_bounce(run, c->opcode) && !run_take_bounce(dev, run))
        ret = -EAGAIN;
    if (ret == 0 && !run->data) {
        ret = ob_hold(dev);
        run->held = ret == 0;
    }
    return ret;
}

/* ---- Requests -------------------------------------------------------------------------------------- */

static void request_bounce(struct nvme_run *run, enum engine_op op, uint64_t offset, uint64_t left)
{
    run->one = (struct iovec){ run->bounce, left < BOUNCE ? left : BOUNCE };
    run->request = (struct engine_request){ .op = op, .fd = run->io.ns->fd, .iov = &run->one,
                                            .iovcnt = 1, .offset = offset,
                                            .durable = op == ENGINE_WRITE && run->io.fua };
}

/* Copies between the bounce buffer and the guest's pieces, from byte `at` of the transfer. Compares
 * instead if that is the command: false if they differ. */
static bool move(struct nvme_run *run, uint8_t opcode, uint64_t at, size_t n)
{
    uint8_t *buf = run->bounce;

    for (int i = 0; i < run->iovcnt && n; i++) {
        const struct iovec *v = &run->iov[i];
        if (at >= v->iov_len) {
            at -= v->iov_len;
            continue;
        }
        uint8_t *guest = (uint8_t *)v->iov_base + at;
        size_t here = v->iov_len - at < n ? v->iov_len - at : n;
        at = 0;
        if (opcode == NVM_READ)
            memcpy(guest, buf, here);
        else if (opcode == NVM_WRITE)
            memcpy(buf, guest, here);
        else if (memcmp(buf, guest, here) != 0)
            return false;
        buf += here;
        n -= here;
    }
    return true;
}

static void next_rw(struct nvme_run *run, uint8_t opcode)
{
    enum engine_op op = opcode == NVM_WRITE ? ENGINE_WRITE : ENGINE_READ;

    if (run->bounce) {
        request_bounce(run, op, run->io.offset + run->at, run->io.length - run->at);
        if (opcode == NVM_WRITE)
            move(run, opcode, run->at, run->one.iov_len);
        return;
    }
    run->request = (struct engine_request){
        .op = op, .fd = run->io.ns->fd, .iov = run->iov + run->range,
        .iovcnt = run->iovcnt - (int)run->range, .offset = run->io.offset + run->at,
        .durable = op == ENGINE_WRITE && run->io.fua,
    };
}

static void next_zero(struct nvme_run *run, bool deallocate)
{
    const struct nvme_namespace *ns = run->io.ns;

    if (ns->no_zero_range && ns->no_punch) {
        request_bounce(run, ENGINE_WRITE, run->io.offset + run->at, run->io.length - run->at);
        memset(run->bounce, 0, run->one.iov_len);
        return;
    }
    bool punch = ns->no_zero_range || (deallocate && !ns->no_punch);
    run->request = (struct engine_request){ .op = punch ? ENGINE_PUNCH : ENGINE_ZERO, .fd = ns->fd,
                                            .offset = run->io.offset, .length = run->io.length };
}

static void next_copy(struct nvme_run *run, uint32_t lba_shift)
{
    const struct nvme_copy_range *r = (const struct nvme_copy_range *)run->list + run->range;
    uint64_t size = (r->blocks + 1ull) << lba_shift;

    if (run->writing)
        request_bounce(run, ENGINE_WRITE, run->io.offset + run->copied, run->half);
    else
        request_bounce(run, ENGINE_READ, (r->lba << lba_shift) + run->at, size - run->at);
}

bool request_next(struct ob_device *dev, struct nvme_run *run, const struct nvme_command *c)
{
    struct private *p = ob_private(dev);
    const struct nvme_dsm_range *r;

    switch (c->opcode) {
    case NVM_READ:
    case NVM_WRITE:
    case NVM_COMPARE:
    case NVM_VERIFY:
        if (run->at == run->io.length)
            return false;
        next_rw(run, c->opcode);
        return true;
    case NVM_WRITE_ZEROES:
        if (run->at == run->io.length && (!run->io.fua || run->range))
            return false;
        if (run->at == run->io.length) {
            /* fallocate knows no FUA. */
            run->range = 1;
            run->request = (struct engine_request){ .op = ENGINE_SYNC, .fd = run->io.ns->fd };
            return true;
        }
        next_zero(run, c->cdw12 & RW_DEAC);
        return true;
    case NVM_FLUSH:
        if (run->range == (c->nsid == NSID_ALL ? p->namespaces : 1))
            return false;
        run->request = (struct engine_request){
            .op = ENGINE_SYNC,
            .fd = p->ns[c->nsid == NSID_ALL ? run->range : c->nsid - 1].fd,
        };
        return true;
    case NVM_DSM:
        if (!(c->cdw11 & DSM_DEALLOCATE) || run->io.ns->no_punch)
            return false;
        r = run->list;
        while (run->range < run->list_count && r[run->range].blocks == 0)
            run->range++;
        if (run->range == run->list_count)
            return false;
        r += run->range;
        run->request = (struct engine_request){ .op = ENGINE_PUNCH, .fd = run->io.ns->fd,
                                                .offset = r->lba << p->lba_shift,
                                                .length = (uint64_t)r->blocks << p->lba_shift };
        return true;
    case NVM_COPY:
        if (run->range == run->list_count)
            return false;
        next_copy(run, p->lba_shift);
        return true;
    default: return false;
    }
}

/* ---- Results ---------------------------------------------------------------------------------------- */

/* Some of an iovec is done. Writes and reads of a file are rarely cut short. */
static void advance(struct nvme_run *run, uint64_t n)
{
    while (n && (int)run->range < run->iovcnt) {
        struct iovec *v = &run->iov[run->range];
        size_t here = v->iov_len < n ? v->iov_len : (size_t)n;
        v->iov_base = (uint8_t *)v->iov_base + here;
        v->iov_len -= here;
        n -= here;
        if (!v->iov_len)
            run->range++;
    }
}

uint16_t request_moved(struct ob_device *dev, struct nvme_run *run, const struct nvme_command *c,
                       uint64_t n)
{
    switch (c->opcode) {
    case NVM_READ:
    case NVM_WRITE:
        if (!run->bounce)
            advance(run, n);
        else if (c->opcode == NVM_READ)
            move(run, c->opcode, run->at, n);
        run->at += n;
        return 0;
    case NVM_COMPARE:
        if (!move(run, c->opcode, run->at, n))
            return SC_COMPARE_FAILURE | SC_DNR;
        run->at += n;
        return 0;
    case NVM_VERIFY: run->at += n; return 0;
    case NVM_WRITE_ZEROES:
        if (run->request.op == ENGINE_WRITE)
            run->at += n;
        else if (run->request.op != ENGINE_SYNC)
            run->at = run->io.length;
        return 0;
    case NVM_COPY:
        if (!run->writing) {
            run->half = n;
            run->writing = true;
            return 0;
        }
        if (n < run->half) /* the rest of the buffer goes in another request */
            memmove(run->bounce, run->bounce + n, run->half - n);
        run->half -= n;
        run->copied += n;
        run->at += n;
        run->writing = run->half != 0;
        struct private *p = ob_private(dev);
        const struct nvme_copy_range *r = (const struct nvme_copy_range *)run->list + run->range;
        if (!run->writing && run->at == (r->blocks + 1ull) << p->lba_shift) {
            run->range++;
            run->at = 0;
        }
        return 0;
    default: run->range++; return 0; /* Flush, Dataset Management */
    }
}

bool request_otherwise(struct ob_device *dev, struct nvme_run *run, const struct nvme_command *c,
                       int error)
{
    struct nvme_namespace *ns = run->io.ns;

    if (error != -EOPNOTSUPP && error != -ENOSYS && error != -EINVAL && error != -ENODEV)
        return false;
    /* Others that were under way at the same time learn it as well. */
    if (run->request.op == ENGINE_ZERO)
        ns->no_zero_range = true;
    else if (run->request.op == ENGINE_PUNCH)
        ns->no_punch = ns->no_zero_range = true;
    else
        return false;
    return !needs_bounce(run, c->opcode) || run->bounce || run_take_bounce(dev, run);
}

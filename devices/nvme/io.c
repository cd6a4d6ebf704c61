/*
 * io.c - I/O commands: what is checked before anything is done, and what can be done at once.
 */
#include "data.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#define AT_ONCE_BYTES (128u << 10) /* longer ones are worth a request of the engine */
#define AT_ONCE_RANGES 33u

/* A file that has become shorter gives errors where it was; a write there would not bring back what is
 * lost, but hide it. */
static uint16_t check_blocks(const struct private *p, const struct nvme_command *c, struct io *io,
                             uint64_t lba, uint64_t blocks)
{
    if (lba > io->ns->blocks || blocks > io->ns->blocks - lba)
        return SC_LBA_RANGE | SC_DNR;
    io->offset = lba << p->lba_shift;
    io->length = blocks << p->lba_shift;
    if (io->offset + io->length > io->ns->bytes)
        return is_writing(c->opcode) ? SC_WRITE_FAULT : SC_READ_ERROR;
    return 0;
}

static uint64_t start_lba(const struct nvme_command *c)
{
    return (uint64_t)c->cdw11 << 32 | c->cdw10;
}

/* Read, Write, Compare: data of the guest. */
static uint16_t check_transfer(const struct private *p, const struct nvme_command *c, struct io *io)
{
    uint64_t blocks = (c->cdw12 & 0xffff) + 1ull;

    if (c->cdw12 & RW_PRINFO) /* no namespace has protection information */
        return SC_INVALID_FIELD | SC_DNR;
    if (blocks << p->lba_shift > TRANSFER)
        return SC_INVALID_FIELD | SC_DNR;
    return check_blocks(p, c, io, start_lba(c), blocks);
}

static uint16_t check_namespace(const struct private *p, const struct nvme_command *c, struct io *io)
{
    if (c->opcode == NVM_FLUSH && c->nsid == NSID_ALL)
        return 0;
    if (c->nsid == 0 || c->nsid > p->namespaces)
        return SC_INVALID_NAMESPACE | SC_DNR;
    io->ns = (struct nvme_namespace *)(uintptr_t)&p->ns[c->nsid - 1];
    io->nsid = c->nsid;
    return 0;
}

uint16_t io_check(struct ob_device *dev, const struct nvme_command *c, struct io *io)
{
    const struct nvme *s = ob_state(dev);
    const struct private *p = ob_private(dev);
    bool writes = is_writing(c->opcode);
    uint16_t status;

    *io = (struct io){ .fua = (writes && !s->features.write_cache) || (c->cdw12 & RW_FUA) };
    switch (c->opcode) {
    case NVM_FLUSH: case NVM_WRITE: case NVM_READ: case NVM_COMPARE: case NVM_WRITE_ZEROES:
    case NVM_DSM: case NVM_VERIFY: case NVM_COPY: break;
    default: return SC_INVALID_OPCODE | SC_DNR;
    }
    if (COMMAND_FUSE(c) || COMMAND_PSDT(c) == 3)
        return SC_INVALID_FIELD | SC_DNR;
    status = check_namespace(p, c, io);
    if (status)
        return status;
    if (writes && p->readonly)
        return SC_WRITE_PROTECTED | SC_DNR;
    switch (c->opcode) {
    case NVM_READ:
    case NVM_WRITE:
    case NVM_COMPARE: return check_transfer(p, c, io);
    case NVM_WRITE_ZEROES:
    case NVM_VERIFY:
        if (c->cdw12 & RW_PRINFO)
            return SC_INVALID_FIELD | SC_DNR;
        return check_blocks(p, c, io, start_lba(c), (c->cdw12 & 0xffff) + 1ull);
    case NVM_COPY:
        /* Descriptor format 0 alone; the ranges are checked when they have been read. */
        if ((c->cdw12 & RW_PRINFO) || (c->cdw12 >> 8 & 15) || (c->cdw12 >> 12 & 15))
            return SC_INVALID_FIELD | SC_DNR;
        if ((c->cdw12 & 0xff) >= COPY_RANGES)
            return SC_COMMAND_SIZE | SC_DNR;
        return check_blocks(p, c, io, start_lba(c), 1);
    default: io->fua = false; return 0; /* Flush, Dataset Management */
    }
}

uint16_t io_status(int error, bool write)
{
    switch (error) {
    case -ENOSPC:
    case -EDQUOT:
    case -EFBIG: return SC_CAPACITY;
    case -EROFS:
    case -EPERM: return SC_WRITE_PROTECTED | SC_DNR;
    case -EFAULT: return SC_DATA_TRANSFER | SC_DNR; /* the client has cut its memory off */
    case -ENOMEM: return SC_INTERNAL;
    default: return write ? SC_WRITE_FAULT : SC_READ_ERROR;
    }
}

void io_count(struct ob_device *dev, uint8_t opcode, uint64_t bytes)
{
    struct private *p = ob_private(dev);

    switch (opcode) {
    case NVM_READ:
    case NVM_COMPARE:
    case NVM_VERIFY:
        p->delta.reads++;
        p->delta.blocks_read += bytes >> 9;
        break;
    case NVM_WRITE:
    case NVM_COPY:
        p->delta.writes++;
        p->delta.blocks_written += bytes >> 9;
        break;
    default: break;
    }
}

/* #syscalls nvme: preadv2 pwritev2 */
bool io_at_once(struct ob_device *dev, const struct nvme_command *c, const struct io *io)
{
    const bool write = c->opcode == NVM_WRITE;
    struct nvme_namespace *ns = io->ns;
    struct iovec iov[2 * AT_ONCE_RANGES];
    struct data d;

    if (c->opcode != NVM_READ && !write)
        return false;
    if (!(ns->at_once & (write ? AT_ONCE_WRITE : AT_ONCE_READ)) || io->length > AT_ONCE_BYTES ||
        (io->fua && write && !(ns->at_once & AT_ONCE_MEMORY)))
        return false;
    /* What is wrong here is found again, and said, on the long way. */
    if (data_map(dev, c, io->length, &d))
        return false;
    unsigned access = write ? OB_READ : OB_WRITE;
    int n = data_get(dev, &d, access, iov, 2 * AT_ONCE_RANGES);
    if (n < 0)
        return false;
    int flags = ns->at_once & AT_ONCE_MEMORY ? 0 : RWF_NOWAIT;
    ssize_t done = write ? pwritev2(ns->fd, iov, n, (off_t)io->offset, flags)
                         : preadv2(ns->fd, iov, n, (off_t)io->offset, flags);
    int error = done < 0 ? errno : 0;
    if (done > 0)
        ob_moved(dev, write ? 0 : (uint64_t)done, write ? (uint64_t)done : 0);
    data_put(dev, &d, access);
    if (error == EOPNOTSUPP)
        ns->at_once &= (uint8_t)~(write ? AT_ONCE_WRITE : AT_ONCE_READ);
    if (done != (ssize_t)io->length)
        return false;
    if (write)
        ((struct private *)ob_private(dev))->written = true;
    io_count(dev, c->opcode, io->length);
    return true;
}

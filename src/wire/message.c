/*
 * message.c - from bytes to a struct wire_message.
 */
#include "wire/message.h"
#include "wire/limits.h"

#include <errno.h>
#include <string.h>

/* What a command's request and reply look like: the size of the fixed part, and how the data behind it
 * is counted. */
enum tail {
    TAIL_NONE,  /* nothing may follow */
    TAIL_FREE,  /* something may follow that has its own rules */
    TAIL_COUNT, /* exactly as many bytes as the fixed part says */
};

struct shape {
    const char *name;
    uint8_t request;
    uint8_t reply;
    uint8_t request_tail;
    uint8_t reply_tail;
    bool from_server; /* the server asks, the client replies */
};

#define S(name, request, request_tail, reply, reply_tail, from_server) \
    [name] = { #name, request, reply, request_tail, reply_tail, from_server }

static const struct shape shapes[VFIO_USER_COMMANDS] = {
    S(VFIO_USER_VERSION, 4, TAIL_FREE, 4, TAIL_FREE, false),
    S(VFIO_USER_DMA_MAP, 32, TAIL_NONE, 0, TAIL_NONE, false),
    S(VFIO_USER_DMA_UNMAP, 24, TAIL_NONE, 24, TAIL_NONE, false),
    S(VFIO_USER_DEVICE_GET_INFO, 16, TAIL_NONE, 16, TAIL_FREE, false),
    S(VFIO_USER_DEVICE_GET_REGION_INFO, 32, TAIL_NONE, 32, TAIL_FREE, false),
    S(VFIO_USER_DEVICE_GET_REGION_IO_FDS, 16, TAIL_NONE, 16, TAIL_FREE, false),
    S(VFIO_USER_DEVICE_GET_IRQ_INFO, 16, TAIL_NONE, 16, TAIL_FREE, false),
    S(VFIO_USER_DEVICE_SET_IRQS, 20, TAIL_FREE, 0, TAIL_NONE, false),
    S(VFIO_USER_REGION_READ, 16, TAIL_NONE, 16, TAIL_COUNT, false),
    S(VFIO_USER_REGION_WRITE, 16, TAIL_COUNT, 16, TAIL_NONE, false),
    S(VFIO_USER_DMA_READ, 16, TAIL_NONE, 16, TAIL_COUNT, true),
    /* QEMU answers DMA_WRITE with a bare header, the text has a count of 4 bytes there. */
    S(VFIO_USER_DMA_WRITE, 16, TAIL_COUNT, 0, TAIL_FREE, true),
    S(VFIO_USER_DEVICE_RESET, 0, TAIL_NONE, 0, TAIL_NONE, false),
    S(VFIO_USER_REGION_WRITE_MULTI, 8, TAIL_COUNT, 8, TAIL_NONE, false),
    S(VFIO_USER_DEVICE_FEATURE, 8, TAIL_FREE, 8, TAIL_FREE, false),
    S(VFIO_USER_MIG_DATA_READ, 8, TAIL_NONE, 8, TAIL_COUNT, false),
    S(VFIO_USER_MIG_DATA_WRITE, 8, TAIL_COUNT, 0, TAIL_NONE, false),
};

static const struct shape *shape_of(uint16_t command)
{
    return command < VFIO_USER_COMMANDS && shapes[command].name ? &shapes[command] : NULL;
}

const char *wire_command_name(uint16_t command)
{
    const struct shape *shape = shape_of(command);
    return shape ? shape->name : "unknown";
}

int wire_header(const void *bytes, size_t n, size_t longest, struct vfio_user_header *h)
{
    if (n < sizeof *h)
        return 0;
    memcpy(h, bytes, sizeof *h);
    uint32_t type = h->flags & VFIO_USER_FLAG_TYPE;
    if (type != VFIO_USER_FLAG_TYPE_COMMAND && type != VFIO_USER_FLAG_TYPE_REPLY)
        return -EBADMSG;
    if (h->size < sizeof *h || h->size > longest || h->size > INT32_MAX)
        return -EBADMSG;
    return (int)h->size;
}

/* The bytes of data that the fixed part announces. Saturates, so that no sum can wrap round. */
static uint64_t announced(const struct wire_message *m)
{
    switch (m->header.command) {
    case VFIO_USER_REGION_READ:
    case VFIO_USER_REGION_WRITE:
        return m->region.count;
    case VFIO_USER_DMA_READ:
    case VFIO_USER_DMA_WRITE:
        return m->dma.count;
    case VFIO_USER_REGION_WRITE_MULTI:
        return m->multi.wr_cnt > WIRE_MAX_MESSAGE
                   ? UINT64_MAX
                   : m->multi.wr_cnt * sizeof(struct vfio_user_write);
    case VFIO_USER_MIG_DATA_READ:
    case VFIO_USER_MIG_DATA_WRITE:
        return m->mig_data.size;
    default:
        return 0;
    }
}

/* Fills in the fixed part and the tail. Header and sizes have been seen to agree with n. */
static int split(const void *bytes, size_t n, size_t fixed, enum tail tail, struct wire_message *m)
{
    const uint8_t *body = (const uint8_t *)bytes + sizeof m->header;
    size_t size = n - sizeof m->header;

    if (size < fixed || (tail == TAIL_NONE && size != fixed))
        return -EINVAL;
    memcpy((uint8_t *)m + offsetof(struct wire_message, version), body, fixed); /* any member */
    m->data = body + fixed;
    m->data_size = size - fixed;
    return tail == TAIL_COUNT && announced(m) != m->data_size ? -EINVAL : 0;
}

static bool sum_wraps(uint64_t a, uint64_t b)
{
    return a + b < a;
}

static int check_irq_set(const struct wire_message *m, size_t nfds)
{
    const struct vfio_irq_set *set = &m->irq_set;
    uint32_t data = set->flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
    uint32_t action = set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;

    if (set->flags & ~(uint32_t)(VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK))
        return -EINVAL;
    if (!data || (data & (data - 1)) || !action || (action & (action - 1)))
        return -EINVAL;
    if (sum_wraps(set->start, set->count) || set->start + (uint64_t)set->count > UINT32_MAX)
        return -EINVAL;
    /* A count of 0 means something only as "switch the whole type off". */
    if (set->count == 0 && (set->start != 0 || data != VFIO_IRQ_SET_DATA_NONE))
        return -EINVAL;
    if (m->data_size != (data == VFIO_IRQ_SET_DATA_BOOL ? set->count : 0))
        return -EINVAL;
    if (data == VFIO_IRQ_SET_DATA_EVENTFD ? nfds != 0 && nfds != set->count : nfds != 0)
        return -EINVAL;
    return set->argsz < sizeof *set ? -EINVAL : 0;
}

static int check_writes(const struct wire_message *m)
{
    for (size_t i = 0; i < m->multi.wr_cnt; i++) {
        struct vfio_user_write w = wire_multi_write(m, i);
        if (w.count == 0 || w.count > sizeof w.data || sum_wraps(w.offset, w.count))
            return -EINVAL;
    }
    return m->multi.wr_cnt == 0 ? -EINVAL : 0;
}

static int check_feature(const struct wire_message *m)
{
    const uint32_t methods = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET;
    uint32_t flags = m->feature.flags;

    if (flags & ~(VFIO_DEVICE_FEATURE_MASK | methods | VFIO_DEVICE_FEATURE_PROBE))
        return -EINVAL;
    if (!(flags & VFIO_DEVICE_FEATURE_PROBE) && ((flags & methods) == methods || !(flags & methods)))
        return -EINVAL;
    return m->feature.argsz < sizeof m->feature ? -EINVAL : 0;
}

/* Checks of a command's fields that need neither device nor session. */
static int check_command(const struct wire_message *m, size_t nfds)
{
    /* Only these carry descriptors. (SPDK's client sends the region's with DMA_UNMAP too.) */
    if (nfds && m->header.command != VFIO_USER_DMA_MAP &&
        m->header.command != VFIO_USER_DMA_UNMAP && m->header.command != VFIO_USER_DEVICE_SET_IRQS)
        return -EINVAL;

    switch (m->header.command) {
    case VFIO_USER_DMA_MAP:
        if (m->map.argsz < sizeof m->map || nfds > 1 || m->map.size == 0 ||
            sum_wraps(m->map.address, m->map.size - 1) ||
            (nfds && sum_wraps(m->map.offset, m->map.size)) ||
            (m->map.flags & ~(uint32_t)(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)) ||
            m->map.flags == 0)
            return -EINVAL;
        return 0;
    case VFIO_USER_DMA_UNMAP:
        if ((m->unmap.flags & ~(uint32_t)VFIO_DMA_UNMAP_FLAG_ALL) || nfds > 1)
            return -EINVAL;
        if (m->unmap.flags & VFIO_DMA_UNMAP_FLAG_ALL)
            return m->unmap.address || m->unmap.size ? -EINVAL : 0;
        return m->unmap.size == 0 || sum_wraps(m->unmap.address, m->unmap.size - 1) ? -EINVAL : 0;
    case VFIO_USER_DEVICE_GET_INFO:
        return m->device_info.argsz < sizeof m->device_info ? -EINVAL : 0;
    case VFIO_USER_DEVICE_GET_REGION_INFO:
        return m->region_info.argsz < sizeof m->region_info ? -EINVAL : 0;
    case VFIO_USER_DEVICE_GET_REGION_IO_FDS:
        return m->io_fds.argsz < sizeof m->io_fds || m->io_fds.flags ? -EINVAL : 0;
    case VFIO_USER_DEVICE_GET_IRQ_INFO:
        return m->irq_info.argsz < sizeof m->irq_info ? -EINVAL : 0;
    case VFIO_USER_DEVICE_SET_IRQS:
        return check_irq_set(m, nfds);
    case VFIO_USER_REGION_READ:
    case VFIO_USER_REGION_WRITE:
        return m->region.count > WIRE_MAX_DATA || sum_wraps(m->region.offset, m->region.count)
                   ? -EINVAL
                   : 0;
    case VFIO_USER_DMA_READ:
    case VFIO_USER_DMA_WRITE:
        return m->dma.count && sum_wraps(m->dma.address, m->dma.count - 1) ? -EINVAL : 0;
    case VFIO_USER_REGION_WRITE_MULTI:
        return check_writes(m);
    case VFIO_USER_DEVICE_FEATURE:
        return check_feature(m);
    default:
        return 0;
    }
}

int wire_decode_command(const void *bytes, size_t n, size_t nfds, struct wire_message *m)
{
    memset(m, 0, sizeof *m);
    if (n < sizeof m->header)
        return -EINVAL;
    memcpy(&m->header, bytes, sizeof m->header);
    const struct shape *shape = shape_of(m->header.command);
    if (!shape)
        return -ENOTSUP;
    if (wire_is_reply(&m->header) || m->header.size != n)
        return -EINVAL;
    int ret = split(bytes, n, shape->request, shape->request_tail, m);
    return ret < 0 ? ret : check_command(m, nfds);
}

int wire_decode_reply(const void *bytes, size_t n, uint16_t command, struct wire_message *m)
{
    const struct shape *shape = shape_of(command);

    memset(m, 0, sizeof *m);
    if (!shape || n < sizeof m->header)
        return -EBADMSG;
    memcpy(&m->header, bytes, sizeof m->header);
    if (!wire_is_reply(&m->header) || m->header.command != command || m->header.size != n)
        return -EBADMSG;
    if (m->header.flags & VFIO_USER_FLAG_ERROR)
        return 0; /* "the reply message must only include the reply header": more is tolerated */
    return split(bytes, n, shape->reply, shape->reply_tail, m) < 0 ? -EBADMSG : 0;
}

int wire_reply_error(const struct vfio_user_header *h)
{
    if (!(h->flags & VFIO_USER_FLAG_ERROR))
        return 0;
    return h->error == 0 || h->error > 4095 ? -EIO : -(int)h->error;
}

struct vfio_user_write wire_multi_write(const struct wire_message *m, size_t i)
{
    struct vfio_user_write w;
    memcpy(&w, (const uint8_t *)m->data + i * sizeof w, sizeof w);
    return w;
}

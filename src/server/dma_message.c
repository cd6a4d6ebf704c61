/*
 * dma_message.c - the table of commands to the client, and their replies.
 */
#include "server/dma_message.h"
#include "server/log.h"

#include <string.h>

static struct shared_commands *table(const struct ob_device *dev)
{
    return &dev->work->commands;
}

static struct shared_command *at(const struct ob_device *dev, uint32_t position)
{
    return &table(dev)->ring[position % SHARED_COMMANDS];
}

static uint32_t under_way(const struct ob_device *dev)
{
    return table(dev)->end - table(dev)->first;
}

bool dma_message_waits(const struct ob_device *dev)
{
    return dev->session->twin && under_way(dev) != 0;
}

bool dma_message_room(struct ob_device *dev)
{
    if (!dev->session->negotiated || dev->quiesce)
        return false;
    if (dev->session->twin)
        return under_way(dev) < SHARED_COMMANDS;
    if (under_way(dev) || dev->output_blocked)
        return false;
    if (step_reply(&dev->block) > SHARED_OUTPUT_FULL) {
        dev->dma_more = true; /* the output is about to leave */
        return false;
    }
    return true;
}

/* ---- Out ---------------------------------------------------------------------------------------- */

static uint16_t command_of(const struct shared_command *c)
{
    return c->kind == COMMAND_WRITE ? VFIO_USER_DMA_WRITE : VFIO_USER_DMA_READ;
}

static size_t make_head(struct ob_device *dev, const struct shared_command *c, uint8_t *head,
                        size_t *tail)
{
    return wire_dma_command(dev->session->dma_layout, command_of(c), c->id,
                            dev->work->dma[c->slot].address + c->at, c->size, head, tail);
}

static uint8_t *data_of(struct ob_device *dev, const struct shared_command *c)
{
    return (uint8_t *)dev->state + dev->work->dma[c->slot].buffer + c->at;
}

/* Behind the replies in the output. Its new end. */
static uint32_t put(struct ob_device *dev, const struct shared_command *c)
{
    uint8_t *to = dev->output + step_reply(&dev->block);
    size_t tail, n = make_head(dev, c, to, &tail);

    if (c->kind == COMMAND_WRITE) {
        memcpy(to + n, data_of(dev, c), c->size);
        n += c->size;
    }
    memset(to + n, 0, tail);
    return step_reply(&dev->block) + (uint32_t)(n + tail);
}

uint32_t dma_message_send(struct ob_device *dev, unsigned slot, struct shared_command what)
{
    struct shared_commands *t = table(dev);

    what.slot = (uint8_t)slot;
    what.id = dev->session->next_id;
    SET(dev, dev->session->next_id, (uint16_t)(what.id + 1));
    SET(dev, *at(dev, t->end), what);
    SET(dev, t->end, t->end + 1);
    return dev->session->twin ? step_reply(&dev->block) : put(dev, &what);
}

int dma_message_bytes(struct ob_device *dev, uint32_t position, size_t skip,
                      uint8_t head[WIRE_DMA_HEAD], struct iovec iov[DMA_MESSAGE_PIECES])
{
    const struct shared_command *c = at(dev, position);
    size_t tail, n = make_head(dev, c, head, &tail), data = c->kind == COMMAND_WRITE ? c->size : 0;
    int pieces = 0;

    if (skip < n)
        iov[pieces++] = (struct iovec){ head + skip, n - skip };
    skip = skip < n ? 0 : skip - n;
    if (skip < data)
        iov[pieces++] = (struct iovec){ data_of(dev, c) + skip, data - skip };
    return pieces;
}

/* ---- In ----------------------------------------------------------------------------------------- */

/* The command that this reply answers, NULL: nobody asked, or not yet. */
static struct shared_command *find(struct ob_device *dev, const struct vfio_user_header *h)
{
    const struct shared_commands *t = table(dev);
    uint32_t sent = dev->session->twin ? (uint32_t)(t->out >> 32) : t->end;

    for (uint32_t i = t->first; i != sent; i++) {
        struct shared_command *c = at(dev, i);
        if (c->kind && c->id == h->id && command_of(c) == h->command)
            return c;
    }
    return NULL;
}

static void answered(struct ob_device *dev, struct shared_command *c)
{
    struct shared_commands *t = table(dev);
    uint32_t first = t->first;

    SET(dev, c->kind, 0);
    while (first != t->end && !at(dev, first)->kind)
        first++;
    SET(dev, t->first, first);
}

/* What a reply says of the piece that was asked for: 0, or -EIO after a line of log. */
static int judge(struct ob_device *dev, const struct shared_command *c, const struct wire_message *m,
                 int bad)
{
    uint64_t address = dev->work->dma[c->slot].address + c->at;

    if (!bad && !(m->header.flags & VFIO_USER_FLAG_ERROR) && c->kind != COMMAND_WRITE &&
        (m->dma.address != address || m->dma.count != c->size))
        bad = -EBADMSG;
    int error = bad ? bad : wire_reply_error(&m->header);
    if (error)
        server_log(dev, "the client refused DMA at 0x%llx, %u bytes: %s",
                   (unsigned long long)address, c->size, strerror(-error));
    return error ? -EIO : 0;
}

/* Some clients repeat address and count in their reply to a write, some do not. */
static int decode(struct ob_device *dev, const struct shared_command *c, const uint8_t *bytes,
                  size_t n, struct wire_message *m, uint32_t *doubt)
{
    if (c->kind == COMMAND_WRITE)
        return wire_decode_reply(bytes, n, VFIO_USER_DMA_WRITE, m);
    enum wire_dma_layout layout = dev->session->dma_layout;
    int ret = wire_dma_read_reply(bytes, n, c->size, &layout, m, doubt);
    if (layout != dev->session->dma_layout)
        SET(dev, dev->session->dma_layout, layout);
    return ret;
}

int dma_message_reply(struct ob_device *dev, const uint8_t *bytes, size_t n,
                      struct shared_command *what, uint32_t *doubt)
{
    struct vfio_user_header header;
    struct shared_command *c = NULL;
    struct wire_message m;

    *what = (struct shared_command){ .kind = 0 };
    wire_header(bytes, n, WIRE_MAX_MESSAGE, &header);
    if (!dev->session->twin)
        c = find(dev, &header);
    if (!c && table(dev)->cancelled) {
        SET(dev, table(dev)->cancelled, table(dev)->cancelled - 1);
        return 0;
    }
    if (!c)
        return -EBADMSG;
    int ret = decode(dev, c, bytes, n, &m, doubt);
    bool doubted = ret == -EAGAIN;
    ret = judge(dev, c, &m, doubted ? 0 : ret);
    /* Until the end of a transfer its buffer is nobody's, so nothing in it has to be kept for the way back:
     * a successor that finds this step undone finds the reply as well, and copies again. */
    if (ret == 0 && !doubted && c->kind == COMMAND_READ && m.data)
        memcpy(data_of(dev, c), m.data, c->size);
    *doubt += c->at;
    *what = *c;
    answered(dev, c);
    return ret == 0 && doubted ? -EAGAIN : ret;
}

int dma_message_twin_reply(struct ob_device *dev, const uint8_t *head, size_t n,
                           struct shared_command *what)
{
    struct wire_message m;
    int bad = wire_dma_reply_head(head, n, &m);
    struct shared_command *c = find(dev, &m.header);

    *what = (struct shared_command){ .kind = 0 };
    if (!c)
        return -EBADMSG;
    int ret = judge(dev, c, &m, bad);
    *what = *c;
    answered(dev, c);
    return ret;
}

uint8_t *dma_message_place(struct ob_device *dev, const uint8_t *head)
{
    struct wire_message m;

    if (wire_dma_reply_head(head, WIRE_DMA_HEAD, &m) < 0 ||
        m.header.command != VFIO_USER_DMA_READ || (m.header.flags & VFIO_USER_FLAG_ERROR))
        return NULL;
    const struct shared_command *c = find(dev, &m.header);
    if (!c || m.dma.count != c->size || m.dma.address != dev->work->dma[c->slot].address + c->at)
        return NULL;
    return data_of(dev, c);
}

void dma_message_cancel(struct ob_device *dev)
{
    struct shared_commands *t = table(dev);

    if (t->first == t->end)
        return;
    SET(dev, t->cancelled, t->cancelled + (t->end - t->first));
    SET(dev, t->first, t->end);
}

void dma_message_forget(struct ob_device *dev)
{
    struct shared_commands *t = table(dev);

    server_touch(dev, t, sizeof *t);
    memset(t, 0, sizeof *t);
}

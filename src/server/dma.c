/*
 * dma.c - transfers between guest memory and the device's state.
 *
 * A transfer is a slot in the block, so a successor finds those that are under way. Memory that is
 * mapped is copied in one go; any other is asked for by DMA_READ and DMA_WRITE messages, in pieces
 * (dma_message.c). The device hears of the end in a step that also frees the slot.
 */
#include "server/dma.h"
#include "server/bus.h"
#include "server/dma_message.h"
#include "server/record.h"

#define TURN 64 /* transfers finished before others get their turn */

static int queue(struct ob_device *dev, bool is_write, unsigned slot, uint64_t address,
                 const void *buf, size_t n)
{
    uint64_t offset = (uint64_t)((const uint8_t *)buf - (const uint8_t *)dev->state);
    uint64_t size = dev->plugin->state.size;

    if (slot >= dev->plugin->dmas || n == 0 || n > SHARED_MAX_DMA || offset > size ||
        n > size - offset)
        return -EINVAL;
    if (dev->work->dma[slot].busy)
        return -EBUSY;
    SET(dev, dev->work->dma[slot],
        ((struct shared_dma){ .busy = 1, .is_write = is_write, .address = address,
                              .buffer = offset, .size = (uint32_t)n }));
    SET(dev, dev->work->dmas, dev->work->dmas | UINT64_C(1) << slot);
    return 0;
}

int ob_dma_read(struct ob_device *dev, unsigned slot, uint64_t address, void *buf, size_t n)
{
    return queue(dev, false, slot, address, buf, n);
}

int ob_dma_write(struct ob_device *dev, unsigned slot, uint64_t address, const void *buf, size_t n)
{
    return queue(dev, true, slot, address, buf, n);
}

static void free_slot(struct ob_device *dev, unsigned slot)
{
    SET(dev, dev->work->dma[slot].busy, 0);
    SET(dev, dev->work->dmas, dev->work->dmas & ~(UINT64_C(1) << slot));
}

void ob_dma_cancel(struct ob_device *dev, unsigned slot)
{
    if (slot < dev->plugin->dmas)
        free_slot(dev, slot);
}

/* Frees the slot and tells the device. Inside a step. */
static void finish(struct ob_device *dev, unsigned slot, int error)
{
    server_enter(dev);
    record_dma(dev, slot, &dev->work->dma[slot], error);
    free_slot(dev, slot);
    if (dev->plugin->dma_done)
        dev->plugin->dma_done(dev, slot, error);
}

static void finish_in_step(struct ob_device *dev, unsigned slot, int error)
{
    server_step_begin(dev);
    finish(dev, slot, error);
    server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
}

/* All of it at once, if all of it is mapped. A death in the middle leaves the slot queued, and the
 * copy is made again. */
static int copy(struct ob_device *dev, const struct shared_dma *d)
{
    uint8_t *buf = (uint8_t *)dev->state + d->buffer;

    if (!bus_may_dma(dev))
        return -EPERM;
    if (d->is_write)
        return memory_write(dev->memory, d->address, buf, d->size);
    return memory_read(dev->memory, d->address, buf, d->size);
}

/* ---- By messages ---------------------------------------------------------------------------------- */

/* How many bytes at the start of what is left can be read, for a look at the layout. */
#define LOOK 64u
static uint32_t readable(struct ob_device *dev, const struct shared_dma *d)
{
    struct memory_piece piece;
    uint32_t n = d->size - d->asked;

    n = n < LOOK ? n : LOOK;
    return memory_translate(dev->memory, d->address + d->asked, n, MEMORY_READ, &piece, 1) == 1 ? n : 0;
}

/* The next command of a transfer: its next piece, or what has to be known before. */
static struct shared_command next_command(struct ob_device *dev, const struct shared_dma *d)
{
    uint32_t limit = dev->session->client.max_data_xfer_size, n;
    uint32_t piece = d->size - d->asked;

    if (dev->session->dma_layout == WIRE_DMA_UNKNOWN && d->look)
        return (struct shared_command){ .kind = COMMAND_LOOK, .at = d->look - 1, .size = 1 };
    piece = piece < WIRE_MAX_DATA ? piece : WIRE_MAX_DATA;
    piece = piece < limit ? piece : limit;
    if (dev->session->dma_layout == WIRE_DMA_UNKNOWN && d->is_write && (n = readable(dev, d)))
        return (struct shared_command){ .kind = COMMAND_LOOK, .at = d->asked,
                                        .size = n < piece ? n : piece };
    return (struct shared_command){ .kind = d->is_write ? COMMAND_WRITE : COMMAND_READ,
                                    .at = d->asked, .size = piece };
}

/* In a step of its own. */
static void ask_client(struct ob_device *dev, unsigned slot)
{
    struct shared_dma *d = &dev->work->dma[slot];
    struct shared_command c = next_command(dev, d);

    if (c.kind == COMMAND_WRITE)
        memory_written(dev->memory, d->address + c.at, c.size);
    server_step_begin(dev);
    server_touch(dev, d, sizeof *d);
    d->under_way++;
    if (c.kind != COMMAND_LOOK)
        d->asked += c.size;
    if (c.kind == COMMAND_WRITE && dev->session->dma_layout == WIRE_DMA_UNKNOWN)
        SET(dev, dev->session->dma_layout, WIRE_DMA_64); /* there is no way to know */
    uint32_t end = dma_message_send(dev, slot, c);
    server_step_end(dev, step_run(&dev->block), end);
}

/* One transfer goes as far as it can. False: it has to wait for the client. */
static bool advance(struct ob_device *dev, unsigned slot)
{
    struct shared_dma *d = &dev->work->dma[slot];

    if (d->error || (d->under_way && d->asked == d->size))
        return false;
    /* Rights and bus mastering may have changed since the last piece; while others are under way,
     * regions have not. */
    int error = d->under_way && bus_may_dma(dev) ? -EREMOTE : copy(dev, d);
    if (error != -EREMOTE) {
        if (d->under_way)
            return false;
        finish_in_step(dev, slot, error);
        return true;
    }
    if (!dma_message_room(dev))
        return false;
    ask_client(dev, slot);
    return true;
}

/* Each slot once. How many went on: these may have begun others, also in slots that were passed. */
static int pump_once(struct ob_device *dev)
{
    int advanced = 0;

    for (uint64_t left = dev->work->dmas; left; left &= left - 1) {
        unsigned slot = (unsigned)__builtin_ctzll(left);
        if (dev->work->dma[slot].busy && advance(dev, slot))
            advanced++;
    }
    return advanced;
}

void dma_pump(struct ob_device *dev)
{
    int advanced, turn = 0;

    dev->dma_more = false;
    if (server_stopped(dev) || dev->inert)
        return; /* nobody would tell the device */
    do {
        advanced = pump_once(dev);
        turn += advanced;
    } while (advanced && turn < TURN);
    dev->dma_more |= advanced != 0;
}

/* A look has told the layout, or leaves no doubt that it makes no difference. */
static void looked(struct ob_device *dev, struct shared_dma *d, int error, uint32_t doubt)
{
    if (error == -EAGAIN)
        d->look = 1 + doubt;
    else if (dev->session->dma_layout == WIRE_DMA_UNKNOWN)
        SET(dev, dev->session->dma_layout, WIRE_DMA_64);
}

static void take_answer(struct ob_device *dev, const struct shared_command *c, int error,
                        uint32_t doubt)
{
    struct shared_dma *d = &dev->work->dma[c->slot];

    server_touch(dev, d, sizeof *d);
    d->under_way--;
    if (c->kind == COMMAND_LOOK) {
        looked(dev, d, error, doubt);
        return;
    }
    if (error == -EAGAIN) { /* what was read is asked for again when the layout is known */
        d->asked = c->at;
        d->look = 1 + doubt;
        return;
    }
    if (error && !d->error)
        d->error = error;
    d->done += c->size;
    if (d->error ? !d->under_way : d->done == d->size)
        finish(dev, c->slot, d->error);
}

int dma_reply(struct ob_device *dev, const uint8_t *bytes, size_t n)
{
    struct shared_command what;
    uint32_t doubt = 0;
    int ret = dma_message_reply(dev, bytes, n, &what, &doubt);

    if (!what.kind)
        return ret;
    take_answer(dev, &what, ret, doubt);
    return 0;
}

int dma_twin_reply(struct ob_device *dev, const uint8_t *head, size_t n)
{
    struct shared_command what;
    int ret = dma_message_twin_reply(dev, head, n, &what);

    if (!what.kind)
        return ret;
    take_answer(dev, &what, ret, 0);
    return 0;
}

void dma_cancel(struct ob_device *dev)
{
    for (uint64_t left = dev->work->dmas; left; left &= left - 1)
        SET(dev, dev->work->dma[__builtin_ctzll(left)].busy, 0);
    SET(dev, dev->work->dmas, 0);
    dma_message_cancel(dev);
}

/* The client may answer what was asked already. It is asked again later: that does no harm. */
void dma_stop(struct ob_device *dev)
{
    for (uint64_t left = dev->work->dmas; left; left &= left - 1) {
        struct shared_dma *d = &dev->work->dma[__builtin_ctzll(left)];
        server_touch(dev, d, sizeof *d);
        d->under_way = 0;
        d->error = 0;
        d->asked = d->done;
    }
    dma_message_cancel(dev);
}

void dma_fail_all(struct ob_device *dev)
{
    if (server_stopped(dev) || dev->inert)
        return; /* they fail, or not, when the device runs again */
    for (uint64_t left = dev->work->dmas; left; left &= left - 1)
        finish_in_step(dev, (unsigned)__builtin_ctzll(left), -EIO);
}

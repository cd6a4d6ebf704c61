/*
 * dma.c - transfers between guest memory and the device's state.
 *
 * A transfer is a slot in the block, so a successor finds those that are under way. Memory that is
 * mapped is copied in one go; any other is asked for by DMA_READ and DMA_WRITE messages, one at a
 * time: QEMU loses the rest of a reply that does not fit its socket's buffer. The device hears of the
 * end in a step that also frees the slot.
 */
#include "server/dma.h"
#include "server/bus.h"
#include "server/log.h"

#include <string.h>

#define TURN 64 /* transfers finished before others get their turn */

static int queue(struct ob_device *dev, bool is_write, unsigned slot, uint64_t address,
                 const void *buf, size_t n)
{
    uint64_t offset = (uint64_t)((const uint8_t *)buf - (const uint8_t *)dev->state);
    uint64_t size = dev->plugin->state.size;

    if (slot >= dev->plugin->dmas || n == 0 || n > SHARED_MAX_DMA || offset > size ||
        n > size - offset)
        return -EINVAL;
    if (dev->work->dma[slot].state != DMA_IDLE)
        return -EBUSY;
    SET(dev, dev->work->dma[slot],
        ((struct shared_dma){ .state = DMA_QUEUED, .is_write = is_write, .address = address,
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

/* Frees the slot and tells the device. Inside a step. */
static void finish(struct ob_device *dev, unsigned slot, int error)
{
    server_enter(dev);
    SET(dev, dev->work->dma[slot].state, DMA_IDLE);
    SET(dev, dev->work->dmas, dev->work->dmas & ~(UINT64_C(1) << slot));
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

static bool message_under_way(const struct ob_device *dev)
{
    for (unsigned i = 0; i < dev->plugin->dmas; i++)
        if (dev->work->dma[i].state == DMA_SENT)
            return true;
    return false;
}

/* Puts the command for the next piece behind the replies, in a step of its own. */
static void ask_client(struct ob_device *dev, unsigned slot)
{
    struct shared_dma *d = &dev->work->dma[slot];
    uint32_t at = step_reply(&dev->block);
    uint32_t limit = dev->session->client.max_data_xfer_size;
    uint32_t piece = d->size - d->done;

    piece = piece < WIRE_MAX_DATA ? piece : WIRE_MAX_DATA;
    piece = piece < limit ? piece : limit;
    struct vfio_user_dma_access access = { .address = d->address + d->done, .count = piece };
    if (d->is_write)
        memory_written(dev->memory, access.address, piece);
    struct vfio_user_header header = {
        .id = dev->session->next_id,
        .command = d->is_write ? VFIO_USER_DMA_WRITE : VFIO_USER_DMA_READ,
        .size = (uint32_t)(sizeof header + sizeof access + (d->is_write ? piece : 0)),
    };
    memcpy(dev->output + at, &header, sizeof header);
    memcpy(dev->output + at + sizeof header, &access, sizeof access);
    if (d->is_write)
        memcpy(dev->output + at + sizeof header + sizeof access,
               (uint8_t *)dev->state + d->buffer + d->done, piece);

    server_step_begin(dev);
    SET(dev, d->state, DMA_SENT);
    SET(dev, d->id, header.id);
    SET(dev, d->piece, piece);
    SET(dev, dev->session->next_id, (uint16_t)(header.id + 1));
    server_step_end(dev, step_run(&dev->block), at + header.size);
}

/* One queued transfer goes as far as it can. False: it has to wait for the client. */
static bool advance(struct ob_device *dev, unsigned slot)
{
    struct shared_dma *d = &dev->work->dma[slot];
    int error = copy(dev, d);

    if (error == -EREMOTE) {
        if (!dev->session->negotiated || message_under_way(dev) || dev->output_blocked)
            return false;
        if (step_reply(&dev->block) > SHARED_OUTPUT_FULL) {
            dev->dma_more = true; /* the output is about to leave */
            return false;
        }
        ask_client(dev, slot);
        return true;
    }
    finish_in_step(dev, slot, error);
    return true;
}

/* Each slot once. How many went on: these may have begun others, also in slots that were passed. */
static int pump_once(struct ob_device *dev)
{
    int advanced = 0;

    for (uint64_t left = dev->work->dmas; left; left &= left - 1) {
        unsigned slot = (unsigned)__builtin_ctzll(left);
        if (dev->work->dma[slot].state == DMA_QUEUED && advance(dev, slot))
            advanced++;
    }
    return advanced;
}

void dma_pump(struct ob_device *dev)
{
    int advanced, turn = 0;

    dev->dma_more = false;
    if (server_stopped(dev))
        return;
    do {
        advanced = pump_once(dev);
        turn += advanced;
    } while (advanced && turn < TURN);
    dev->dma_more |= advanced != 0;
}

static unsigned find_sent(const struct ob_device *dev, const struct vfio_user_header *h)
{
    for (unsigned i = 0; i < dev->plugin->dmas; i++) {
        const struct shared_dma *d = &dev->work->dma[i];
        if (d->state == DMA_SENT && d->id == h->id &&
            h->command == (d->is_write ? VFIO_USER_DMA_WRITE : VFIO_USER_DMA_READ))
            return i;
    }
    return SHARED_MAX_DMAS;
}

/* What the reply says of the piece that was asked for: 0, or -EIO. */
static int check_reply(struct ob_device *dev, const struct shared_dma *d,
                       const struct wire_message *m, int bad)
{
    int error = bad ? bad : wire_reply_error(&m->header);
    if (error) {
        server_log(dev, "the client refused DMA at 0x%llx, %u bytes: %s",
                   (unsigned long long)d->address + d->done, d->piece, strerror(-error));
        return -EIO;
    }
    if (d->is_write)
        return 0; /* some clients repeat address and count, some do not */
    return m->dma.address == d->address + d->done && m->dma.count == d->piece ? 0 : -EIO;
}

int dma_reply(struct ob_device *dev, const struct wire_message *m, int bad)
{
    unsigned slot = find_sent(dev, &m->header);
    if (slot == SHARED_MAX_DMAS)
        return -EBADMSG;
    struct shared_dma *d = &dev->work->dma[slot];
    int error = check_reply(dev, d, m, bad);
    if (error) {
        finish(dev, slot, error);
        return 0;
    }
    if (!d->is_write) {
        uint8_t *buf = (uint8_t *)dev->state + d->buffer + d->done;
        server_touch(dev, buf, d->piece);
        memcpy(buf, m->data, d->piece);
    }
    SET(dev, d->done, d->done + d->piece);
    SET(dev, d->state, DMA_QUEUED);
    if (d->done == d->size)
        finish(dev, slot, 0);
    return 0;
}

void dma_cancel(struct ob_device *dev)
{
    for (uint64_t left = dev->work->dmas; left; left &= left - 1)
        SET(dev, dev->work->dma[__builtin_ctzll(left)].state, DMA_IDLE);
    SET(dev, dev->work->dmas, 0);
}

/* The client may answer what was asked already. It is asked again later: that does no harm. */
void dma_stop(struct ob_device *dev)
{
    for (uint64_t left = dev->work->dmas; left; left &= left - 1) {
        struct shared_dma *d = &dev->work->dma[__builtin_ctzll(left)];
        if (d->state == DMA_SENT)
            SET(dev, d->state, DMA_QUEUED);
    }
}

void dma_fail_all(struct ob_device *dev)
{
    if (server_stopped(dev))
        return; /* they fail, or not, when the device runs again */
    for (uint64_t left = dev->work->dmas; left; left &= left - 1)
        finish_in_step(dev, (unsigned)__builtin_ctzll(left), -EIO);
}

/*
 * guest.c - a device's look at guest memory, and its pins.
 */
#include "server/guest.h"
#include "server/bus.h"
#include "server/dma_message.h"

static unsigned rights(unsigned access)
{
    return (access & OB_READ ? MEMORY_READ : 0) | (access & OB_WRITE ? MEMORY_WRITE : 0);
}

int ob_memory_read(struct ob_device *dev, uint64_t address, void *buf, size_t n)
{
    return bus_may_dma(dev) ? memory_read(dev->memory, address, buf, n) : -EPERM;
}

int ob_memory_write(struct ob_device *dev, uint64_t address, const void *buf, size_t n)
{
    return bus_may_dma(dev) ? memory_write(dev->memory, address, buf, n) : -EPERM;
}

const void *ob_memory_peek(struct ob_device *dev, uint64_t address, size_t n)
{
    struct memory_piece piece;
    if (!bus_may_dma(dev) ||
        memory_translate(dev->memory, address, n, MEMORY_READ, &piece, 1) != 1)
        return NULL;
    return piece.base;
}

#define PIECES 64 /* looked at together; a range may have any number, as behind a virtual IOMMU */

static void pin(struct ob_device *dev, const struct memory_piece *pieces, int n, int change)
{
    for (int i = 0; i < n; i++)
        dev->pins[pieces[i].id] += (uint32_t)change;
    dev->pin_count += (uint64_t)(int64_t)(n * change);
}

/* The next pieces of what is left of a range, and what is left then. Their number, or -EFAULT. */
static int next_pieces(struct ob_device *dev, uint64_t *address, uint64_t *left, unsigned access,
                       struct memory_piece *pieces)
{
    int count = memory_translate(dev->memory, *address, *left, rights(access), pieces, PIECES);

    if (count == -E2BIG)
        count = PIECES;
    for (int i = 0; i < count; i++) {
        *address += pieces[i].size;
        *left -= pieces[i].size;
    }
    return count;
}

static void unpin(struct ob_device *dev, uint64_t address, uint64_t n, unsigned access);

static int take(const struct memory_piece *pieces, int n, struct iovec *iov, int max)
{
    for (int i = 0; i < n; i++) {
        if (!pieces[i].base)
            return -EREMOTE;
        if (i == max)
            return -E2BIG;
        iov[i] = (struct iovec){ pieces[i].base, pieces[i].size };
    }
    return n;
}

int ob_memory_get(struct ob_device *dev, uint64_t address, uint64_t n, unsigned access,
                  struct iovec *iov, int max)
{
    struct memory_piece pieces[PIECES];
    uint64_t at = address, left = n, pinned = 0;
    int total = 0;

    if (!bus_may_dma(dev))
        return -EPERM;
    if (dev->quiesce) {
        dev->refused = true;
        return -EBUSY;
    }
    while (left) {
        int count = next_pieces(dev, &at, &left, access, pieces);
        int ret = count < 0 ? count : memory_check(dev->memory, pieces, count);
        if (ret == 0)
            ret = take(pieces, count, iov + total, max - total);
        if (ret < 0) {
            unpin(dev, address, pinned, access);
            return ret;
        }
        pin(dev, pieces, count, 1);
        total += count;
        pinned = n - left;
    }
    if (access & OB_WRITE)
        memory_written(dev->memory, address, n); /* at the put again: the log may be read in between */
    return total;
}

/* Regions stay in the table while they are pinned, whatever became of their files. */
static void put_lost(struct ob_device *dev, uint64_t address, uint64_t n)
{
    for (uint32_t id = 0; id < dev->session->regions_end; id++) {
        const struct memory_region *r = &dev->regions[id];
        if (!dev->pins[id] || r->address > address + (n - 1) || r->address + (r->size - 1) < address)
            continue;
        dev->pins[id]--;
        dev->pin_count--;
    }
}

static void unpin(struct ob_device *dev, uint64_t address, uint64_t n, unsigned access)
{
    struct memory_piece pieces[PIECES];

    /* What was translated once still is: it was pinned. Unless the client truncated its file. */
    while (n) {
        int count = next_pieces(dev, &address, &n, access, pieces);
        if (count < 0) {
            put_lost(dev, address, n);
            return;
        }
        pin(dev, pieces, count, -1);
    }
}

void ob_memory_put(struct ob_device *dev, uint64_t address, uint64_t n, unsigned access)
{
    unpin(dev, address, n, access);
    if (access & OB_WRITE)
        memory_written(dev->memory, address, n);
    if (dev->quiesce)
        dev->resume = true; /* the message that waits is tried again when this step is done */
}

/* Counts as a pin, of no region. */
int ob_hold(struct ob_device *dev)
{
    if (dev->quiesce) {
        dev->refused = true;
        return -EBUSY;
    }
    dev->pin_count++;
    return 0;
}

void ob_release(struct ob_device *dev)
{
    dev->pin_count--;
    if (dev->quiesce)
        dev->resume = true;
}

void ob_hold_memory(struct ob_device *dev, bool held)
{
    if (dev->memory_held == held)
        return;
    dev->memory_held = held;
    dev->pin_count += held ? 1 : UINT64_MAX;
    if (!held && dev->quiesce)
        dev->resume = true;
}

bool guest_all_pinned(struct ob_device *dev)
{
    dev->quiesce = dev->pin_count != 0 || dma_message_waits(dev);
    return dev->quiesce;
}

bool guest_pinned(struct ob_device *dev, uint64_t address)
{
    dev->quiesce = dev->memory_held || dma_message_waits(dev);
    if (dev->quiesce || !dev->pin_count)
        return dev->quiesce;
    int64_t id = memory_next(dev->memory, address);
    dev->quiesce = id >= 0 && dev->pins[id] && dev->regions[id].address <= address;
    return dev->quiesce;
}

bool guest_region_pinned(struct ob_device *dev, uint32_t id)
{
    dev->quiesce = dev->memory_held || dev->pins[id] != 0;
    return dev->quiesce;
}

void guest_released(struct ob_device *dev)
{
    dev->quiesce = dev->resume = false;
    if (!dev->refused)
        return;
    dev->refused = false;
    if (!dev->plugin->memory_changed || server_stopped(dev))
        return;
    server_step_begin(dev);
    server_enter(dev);
    dev->plugin->memory_changed(dev);
    server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
}

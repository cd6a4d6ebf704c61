/*
 * logging.c - see logging.h. The log itself is src/memory/dirty.c; its file is in keeping.
 *
 * A report also clears. The log is not in the block, so what is to be cleared is recorded in the step that
 * reports it, and cleared when that is done. A successor clears it again: nothing was marked in between.
 */
#include "server/logging.h"

#include <string.h>
#include <unistd.h>

static bool power_of_two(uint64_t n)
{
    return n && (n & (n - 1)) == 0;
}

static int take_ranges(const uint8_t *data, uint32_t n, struct dirty_range *to)
{
    struct vfio_device_feature_dma_logging_range r;

    for (uint32_t i = 0; i < n; i++) {
        memcpy(&r, data + i * sizeof r, sizeof r);
        if (!r.length || r.iova + (r.length - 1) < r.iova)
            return -EINVAL;
        to[i] = (struct dirty_range){ r.iova, r.length };
    }
    return 0;
}

static int keep(struct ob_device *dev, struct dirty *log)
{
    const struct server_keeping *k = dev->keeping;
    return k ? k->put(k->ctx, KEEP_DIRTY, dirty_fd(log)) : 0;
}

int logging_start(struct ob_device *dev, const void *data, size_t n, struct reply *reply)
{
    struct dirty_range ranges[DIRTY_MAX_RANGES];
    struct vfio_user_dma_logging_start start;

    if (n < sizeof start)
        return -EINVAL;
    memcpy(&start, data, sizeof start);
    if (start.num_ranges > DIRTY_MAX_RANGES)
        return -E2BIG;
    size_t size = start.num_ranges * sizeof(struct vfio_device_feature_dma_logging_range);
    if (n != sizeof start + size || !power_of_two(start.page_size) || start.reserved)
        return -EINVAL;
    if (dev->migration->logging)
        return -EINVAL;
    int ret = take_ranges((const uint8_t *)data + sizeof start, start.num_ranges, ranges);
    if (ret < 0)
        return ret;
    if (start.page_size < DIRTY_MIN_PAGE)
        start.page_size = DIRTY_MIN_PAGE;
    if (start.page_size > DIRTY_MAX_PAGE)
        start.page_size = DIRTY_MAX_PAGE;
    struct dirty *log =
        dirty_new((unsigned)__builtin_ctzll(start.page_size), ranges, start.num_ranges);
    ret = log ? keep(dev, log) : -errno;
    if (ret < 0) {
        dirty_free(log);
        return ret;
    }
    SET(dev, dev->migration->logging, 1);
    dev->dirty = log;
    memory_log(dev->memory, log);
    memcpy(reply->body + reply->size, &start, sizeof start);
    memcpy(reply->body + reply->size + sizeof start, (const uint8_t *)data + sizeof start, size);
    reply->size += sizeof start + size;
    return (int)(sizeof start + size);
}

int logging_report(struct ob_device *dev, const void *data, size_t n, size_t room,
                   struct reply *reply)
{
    struct vfio_user_dma_logging_report r;
    uint8_t *body = reply->body + reply->size;

    if (n < sizeof r)
        return -EINVAL;
    memcpy(&r, data, sizeof r);
    if (!power_of_two(r.page_size) || !r.length || r.iova + (r.length - 1) < r.iova ||
        !dev->migration->logging)
        return -EINVAL;
    uint64_t words = ((r.length - 1) / r.page_size) / 64 + 1;
    if (words > (WIRE_MAX_DATA - sizeof r) / 8)
        return -E2BIG;
    int whole = (int)(sizeof r + words * 8);
    if (room < (size_t)whole)
        return whole; /* and nothing is cleared: it will be asked for again */
    memcpy(body, &r, sizeof r);
    memset(body + sizeof r, 0, words * 8);
    int ret = dirty_report(dev->dirty, r.iova, r.length, r.page_size, body + sizeof r);
    if (ret < 0)
        return ret;
    reply->size += (size_t)whole;
    SET(dev, dev->migration->reporting, 1);
    SET(dev, dev->migration->report_address, r.iova);
    SET(dev, dev->migration->report_size, r.length);
    return whole;
}

int logging_stop(struct ob_device *dev)
{
    if (!dev->migration->logging)
        return -EINVAL;
    logging_end(dev);
    return 0;
}

void logging_end(struct ob_device *dev)
{
    SET(dev, dev->migration->logging, 0);
}

static void forget(struct ob_device *dev)
{
    memory_log(dev->memory, NULL);
    dirty_free(dev->dirty);
    dev->dirty = NULL;
    if (dev->keeping)
        dev->keeping->drop(dev->keeping->ctx, KEEP_DIRTY);
}

void logging_settle(struct ob_device *dev)
{
    struct shared_migration *g = dev->migration;

    if (g->reporting) {
        if (dev->dirty)
            dirty_clear(dev->dirty, g->report_address, g->report_size);
        block_store(&g->reporting, 0);
    }
    if (dev->dirty && !g->logging)
        forget(dev);
}

int logging_recover(struct ob_device *dev)
{
    const struct server_keeping *k = dev->keeping;

    if (!dev->migration->logging) {
        k->drop(k->ctx, KEEP_DIRTY); /* of a step that was undone, or had not come to this */
        return 0;
    }
    int fd = k->get(k->ctx, KEEP_DIRTY);
    if (fd < 0)
        return fd;
    dev->dirty = dirty_open(fd);
    if (!dev->dirty) {
        int ret = -errno;
        close(fd);
        return ret;
    }
    memory_log(dev->memory, dev->dirty);
    logging_settle(dev);
    return 0;
}

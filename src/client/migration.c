/*
 * migration.c - the state of a device: where it is, as bytes, on its way to another one; and the log of
 * the pages that it wrote to.
 */
#include "client/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RUNNING VFIO_DEVICE_STATE_RUNNING

int ob_client_migration(struct ob_client *c, uint64_t *flags)
{
    struct vfio_device_feature_migration f = { 0 };
    size_t n = 0;

    int ret = ob_client_device_feature(c, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, &f, 0,
                                       sizeof f, &n);
    *flags = ret == 0 && n == sizeof f ? f.flags : 0;
    /* Servers say that they do not have it in all of these ways. */
    return ret == -ENOTTY || ret == -ENOTSUP || ret == -EINVAL ? 0 : ret;
}

int ob_client_migration_state(struct ob_client *c, uint32_t *state)
{
    struct vfio_device_feature_mig_state s = { 0 };
    size_t n = 0;

    int ret = ob_client_device_feature(
        c, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &s, 0, sizeof s, &n);
    if (ret == 0 && n != sizeof s)
        return client_refuse(c, -EBADMSG, "the state of the migration has %zu bytes", n);
    *state = s.device_state;
    return ret;
}

int ob_client_set_migration_state(struct ob_client *c, uint32_t state)
{
    struct vfio_device_feature_mig_state s = { state, -1 };

    return ob_client_device_feature(
        c, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &s, sizeof s, sizeof s, NULL);
}

/* ---- Migration data ---------------------------------------------------------------------- */

static struct call mig_data_call(uint16_t command, size_t n)
{
    return (struct call){
        .request = { .header.command = command,
                     .mig_data = { .argsz = (uint32_t)(sizeof(struct vfio_user_mig_data) + n),
                                   .size = (uint32_t)n } },
        .fixed = sizeof(struct vfio_user_mig_data),
    };
}

ssize_t ob_client_mig_data_read(struct ob_client *c, void *buf, size_t n)
{
    uint8_t *at = buf;
    ssize_t most = ob_client_transfer_size(c);

    while (most > 0 && n > 0) {
        size_t piece = n < (size_t)most ? n : (size_t)most;
        struct call call = mig_data_call(VFIO_USER_MIG_DATA_READ, piece);
        call.space = at;
        call.room = piece;
        int ret = client_call(c, &call);
        if (ret < 0)
            return ret;
        if (call.got > piece)
            return client_bad_reply(c, &call, "more data than was asked for");
        at += call.got;
        n -= call.got;
        if (call.got < piece)
            break;
    }
    return most < 0 ? most : at - (uint8_t *)buf;
}

int ob_client_mig_data_write(struct ob_client *c, const void *buf, size_t n)
{
    const uint8_t *at = buf;
    ssize_t most = ob_client_transfer_size(c);

    while (most > 0 && n > 0) {
        size_t piece = n < (size_t)most ? n : (size_t)most;
        struct call call = mig_data_call(VFIO_USER_MIG_DATA_WRITE, piece);
        call.data = at;
        call.data_size = piece;
        int ret = client_call(c, &call);
        if (ret < 0)
            return ret;
        at += piece;
        n -= piece;
    }
    return most < 0 ? (int)most : 0;
}

/* ---- From one to another ------------------------------------------------------------------- */

#define PIECE 65536u

/* Whose fault an error is: of the side that was spoken to last. */
struct move {
    struct ob_client *from, *to;
    bool at_to;
    uint8_t *buf;
};

/* All that there is to be read. */
static int copy_data(struct move *m)
{
    ssize_t n;

    do {
        m->at_to = false;
        n = ob_client_mig_data_read(m->from, m->buf, PIECE);
        if (n <= 0)
            return (int)n;
        m->at_to = true;
        int ret = ob_client_mig_data_write(m->to, m->buf, (size_t)n);
        if (ret < 0)
            return ret;
    } while (n == PIECE);
    return 0;
}

static int set_state(struct move *m, bool at_to, uint32_t state)
{
    m->at_to = at_to;
    return ob_client_set_migration_state(at_to ? m->to : m->from, state);
}

static int knows_pre_copy(struct move *m)
{
    uint64_t flags;

    m->at_to = false;
    int ret = ob_client_migration(m->from, &flags);
    if (ret == 0 && !flags)
        return client_refuse(m->from, -ENOTSUP, "the device cannot migrate");
    return ret < 0 ? ret : (flags & OB_MIGRATION_PRE_COPY) != 0;
}

static int move(struct move *m, int (*at)(void *ctx, enum ob_move moment), void *ctx)
{
    int pre_copy = knows_pre_copy(m);
    int ret = pre_copy < 0 ? pre_copy : set_state(m, true, VFIO_DEVICE_STATE_RESUMING);

    if (ret == 0 && pre_copy) {
        ret = set_state(m, false, OB_DEVICE_STATE_PRE_COPY);
        if (ret == 0)
            ret = copy_data(m);
    }
    if (ret == 0 && at)
        ret = at(ctx, OB_MOVE_STOPS);
    if (ret == 0)
        ret = set_state(m, false, VFIO_DEVICE_STATE_STOP_COPY);
    if (ret == 0 && at)
        ret = at(ctx, OB_MOVE_STOPPED);
    if (ret == 0)
        ret = copy_data(m);
    if (ret == 0)
        ret = set_state(m, false, VFIO_DEVICE_STATE_STOP);
    if (ret == 0)
        ret = set_state(m, true, RUNNING);
    return ret;
}

int ob_client_move(struct ob_client *from, struct ob_client *to,
                   int (*at)(void *ctx, enum ob_move moment), void *ctx, bool *at_to)
{
    struct move m = { .from = from, .to = to, .buf = malloc(PIECE) };

    if (!m.buf)
        return client_refuse(from, -ENOMEM, "no memory for the state of a device");
    int ret = move(&m, at, ctx);
    if (ret < 0) {
        char why[OB_CLIENT_ERROR_SIZE];
        ob_client_error(m.at_to ? to : from, why, sizeof why);
        ob_client_reset(to);
        ob_client_set_migration_state(from, RUNNING);
        client_refuse(m.at_to ? to : from, ret, "%s", why); /* the first error counts */
    }
    if (at_to)
        *at_to = m.at_to;
    free(m.buf);
    return ret;
}

/* ---- The log of dirty pages ------------------------------------------------------------------ */

int ob_client_dirty_start(struct ob_client *c, uint64_t *page_size,
                          const struct vfio_device_feature_dma_logging_range *ranges, uint32_t n)
{
    struct vfio_user_dma_logging_start start = { .page_size = *page_size, .num_ranges = n };
    size_t size = sizeof start + n * sizeof *ranges, got = 0;

    if (n > (WIRE_MAX_DATA - sizeof start) / sizeof *ranges)
        return client_refuse(c, -E2BIG, "%u ranges to log do not fit a message", n);
    uint8_t *data = malloc(size);
    if (!data)
        return client_refuse(c, -ENOMEM, "no memory for %u ranges", n);
    memcpy(data, &start, sizeof start);
    if (n)
        memcpy(data + sizeof start, ranges, n * sizeof *ranges);
    int ret = ob_client_device_feature(
        c, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START, data, size, size, &got);
    if (ret == 0 && got >= sizeof start)
        memcpy(&start, data, sizeof start);
    free(data);
    if (ret == 0 && (start.page_size == 0 || (start.page_size & (start.page_size - 1))))
        return client_refuse(c, -EBADMSG, "the server logs pages of %llu bytes",
                             (unsigned long long)start.page_size);
    if (ret == 0)
        *page_size = start.page_size;
    return ret;
}

int ob_client_dirty_stop(struct ob_client *c)
{
    return ob_client_device_feature(
        c, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0, 0, NULL);
}

#define REPORT_WORDS 4096u

static int report(struct ob_client *c, const struct vfio_user_dma_logging_report *r, uint64_t words,
                  uint64_t *bitmap)
{
    struct {
        struct vfio_user_dma_logging_report head;
        uint64_t bits[REPORT_WORDS];
    } data = { .head = *r };
    size_t size = sizeof *r + words * 8, got = 0;

    int ret = ob_client_device_feature(
        c, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &data, sizeof *r, size, &got);
    if (ret == 0 && got != size)
        return client_refuse(c, -EBADMSG, "the log of dirty pages has %zu bytes, and not %zu", got, size);
    if (ret == 0 && memcmp(&data.head, r, sizeof *r) != 0)
        return client_refuse(c, -EBADMSG, "the server tells about the pages of another range");
    for (uint64_t i = 0; ret == 0 && i < words; i++)
        bitmap[i] |= data.bits[i];
    return ret;
}

int ob_client_dirty_report(struct ob_client *c, uint64_t address, uint64_t size, uint64_t page_size,
                           uint64_t *bitmap)
{
    if (!page_size || (page_size & (page_size - 1)) || !size || size % page_size ||
        address + (size - 1) < address)
        return client_refuse(c, -EINVAL, "a range of pages is empty, or wraps round");
    for (uint64_t page = 0, pages = size / page_size; page < pages;) {
        uint64_t n = pages - page < REPORT_WORDS * 64 ? pages - page : REPORT_WORDS * 64;
        struct vfio_user_dma_logging_report r = { address + page * page_size, n * page_size, page_size };
        int ret = report(c, &r, (n + 63) / 64, bitmap + page / 64);
        if (ret < 0)
            return ret;
        page += n;
    }
    return 0;
}

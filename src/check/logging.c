/*
 * logging.c - group "logging": the dirty log of a device's DMA.
 *
 * Nobody makes the device write here: what is checked is how the log is asked for. Bits for memory
 * that the device did write meanwhile are as good as none.
 */
#include "check/ask_feature.h"

#define START "VFIO_DEVICE_FEATURE_DMA_LOGGING_START / VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP"
#define REPORT "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT"

struct start {
    uint64_t page_size;
    uint32_t num_ranges, reserved;
    struct {
        uint64_t iova, length;
    } range[4];
};

struct report {
    uint64_t iova, length, page_size;
};

enum { NO_RANGES = 16, ONE_RANGE = 32, TWO_RANGES = 48 }; /* bytes of the request's data */

static struct start a_start(void)
{
    return (struct start){ .page_size = PAGE, .num_ranges = 1, .range = { { BASE, 64 * PAGE } } };
}

static enum outcome start(struct run *r, const struct start *s, size_t n)
{
    return ask_feature(r, FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START, FEATURE_WHOLE, s, n);
}

static enum outcome stop(struct run *r)
{
    return ask_feature(r, FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, 8, NULL, 0);
}

static enum outcome report(struct run *r, uint64_t iova, uint64_t length, uint64_t page_size,
                           uint32_t argsz)
{
    struct report q = { iova, length, page_size };
    return ask_feature(r, FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, argsz, &q,
                       sizeof q);
}

static void must_start(struct run *r)
{
    struct start s = a_start();
    if (start(r, &s, ONE_RANGE) != SERVED)
        fail(r, "DMA_LOGGING_START: expected success, got %s",
             strerror((int)r->client.header.error));
}

static void must_stop(struct run *r)
{
    if (stop(r) != SERVED)
        fail(r, "DMA_LOGGING_STOP: expected success, got %s",
             strerror((int)r->client.header.error));
}

static void start_stop(struct run *r, const struct check *c)
{
    (void)c;
    for (int i = 0; i < 3; i++) {
        must_start(r);
        must_stop(r);
    }
}

/* "the response data field will be the same as the request, unless the page size was changed" */
static void echo(struct run *r, const struct check *c)
{
    struct start s = a_start(), got;

    s.page_size = c->a;
    if (start(r, &s, ONE_RANGE) != SERVED) {
        if (c->a == PAGE)
            fail(r, "expected success, got %s", strerror((int)r->client.header.error));
        return;
    }
    if (r->client.size != 8 + ONE_RANGE)
        fail(r, "expected the request's %d bytes in the reply, got %zu", 8 + ONE_RANGE,
             r->client.size);
    memcpy(&got, r->client.body + 8, ONE_RANGE);
    uint64_t page = got.page_size;
    got.page_size = s.page_size;
    if (memcmp(&got, &s, ONE_RANGE) != 0)
        fail(r, "expected the ranges of the request in the reply, got others");
    if (page == 0 || (page & (page - 1)))
        fail(r, "page_size: expected a power of two, got %llu", (unsigned long long)page);
    must_stop(r);
}

static void all_memory(struct run *r, const struct check *c)
{
    struct start s = { .page_size = PAGE };
    (void)c;
    if (start(r, &s, NO_RANGES) != SERVED)
        fail(r, "no ranges, which is all: expected success, got %s",
             strerror((int)r->client.header.error));
    must_stop(r);
}

static void two_ranges(struct run *r, const struct check *c)
{
    struct start s = a_start();
    (void)c;
    s.num_ranges = 2;
    s.range[1].iova = BASE + 128 * PAGE;
    s.range[1].length = 64 * PAGE;
    if (start(r, &s, TWO_RANGES) != SERVED)
        note(r, "two ranges are refused");
    else
        must_stop(r);
}

/* VFIO: EINVAL. */
static void twice(struct run *r, const struct check *c)
{
    struct start s = a_start();
    (void)c;
    must_start(r);
    if (start(r, &s, ONE_RANGE) == SERVED)
        note(r, "a log is started twice");
    must_stop(r);
}

/* More ranges than there are: c->a. */
static void ranges_missing(struct run *r, const struct check *c)
{
    struct start s = a_start();
    s.num_ranges = (uint32_t)c->a;
    if (start(r, &s, ONE_RANGE) == SERVED) {
        stop(r);
        fail(r, "num_ranges %u and one range: expected an error, got success", s.num_ranges);
    }
}

static void bad_range(struct run *r, const struct check *c)
{
    struct start s = a_start();
    s.range[0].iova = c->a;
    s.range[0].length = c->b;
    if (start(r, &s, ONE_RANGE) == SERVED) {
        note(r, "a range of 0x%llx bytes at 0x%llx is served", (unsigned long long)c->b,
             (unsigned long long)c->a);
        must_stop(r);
    }
}

static void start_cut(struct run *r, const struct check *c)
{
    struct start s = a_start();
    if (start(r, &s, c->a) == SERVED) {
        stop(r);
        fail(r, "%u bytes of data: expected an error, got success", (unsigned)c->a);
    }
}

/* ---- The report ------------------------------------------------------------------------------ */

/* c->a pages of c->b bytes: the bitmap's size, and nothing set outside. */
static void bitmap(struct run *r, const struct check *c)
{
    uint64_t bits = c->a, bytes = (bits + 63) / 64 * 8;
    struct report got;

    map(r, BASE, 64 * PAGE, -1);
    must_start(r);
    if (report(r, BASE, c->a * c->b, c->b, FEATURE_WHOLE) != SERVED)
        fail(r, "a report of %llu pages of %llu: expected success, got %s",
             (unsigned long long)c->a, (unsigned long long)c->b,
             strerror((int)r->client.header.error));
    if (r->client.size != 8 + sizeof got + bytes)
        fail(r, "expected a bitmap of %llu bytes, got %zd", (unsigned long long)bytes,
             (ssize_t)r->client.size - 8 - (ssize_t)sizeof got);
    memcpy(&got, r->client.body + 8, sizeof got);
    if (got.iova != BASE || got.length != c->a * c->b || got.page_size != c->b)
        fail(r, "expected the request before the bitmap, got something else");
    for (uint64_t i = bits; i < bytes * 8; i++)
        if (r->client.body[8 + sizeof got + i / 8] & 1u << i % 8)
            fail(r, "expected zeroes outside of the range, got bit %llu of %llu",
                 (unsigned long long)i, (unsigned long long)bits);
    must_stop(r);
}

static void report_argsz(struct run *r, const struct check *c)
{
    struct report q = { BASE, 64 * PAGE, PAGE };
    (void)c;
    map(r, BASE, 64 * PAGE, -1);
    must_start(r);
    no_room(r, FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &q, sizeof q, 8 + sizeof q + 8);
    must_stop(r);
}

/* "only valid if logging of dirty pages has been previously started" */
static void report_without(struct run *r, const struct check *c)
{
    map(r, BASE, 64 * PAGE, -1);
    if (c->a) {
        must_start(r);
        must_stop(r);
    }
    if (report(r, BASE, 64 * PAGE, PAGE, FEATURE_WHOLE) == SERVED)
        fail(r, "expected an error, as no log was started, got success");
}

static void bad_page_size(struct run *r, const struct check *c)
{
    map(r, BASE, 64 * PAGE, -1);
    must_start(r);
    bool is_served = report(r, BASE, 64 * PAGE, c->a, FEATURE_WHOLE) == SERVED;
    must_stop(r);
    if (is_served)
        fail(r, "page_size %llu, which is no power of two: expected an error, got success",
             (unsigned long long)c->a);
}

/* Ranges that wrap round, are empty or as large as all there is: any answer, of a bounded size. */
static void odd_range(struct run *r, const struct check *c)
{
    map(r, BASE, 64 * PAGE, -1);
    must_start(r);
    report(r, c->a, c->b, PAGE, FEATURE_WHOLE);
    must_stop(r);
}

static void disconnected(struct run *r, const struct check *c)
{
    (void)c;
    must_start(r);
    peer_close(&r->client); /* afterwards the next client is served, and can start its own log */
}

static const struct check checks[] = {
    { "logging.start-stop", "a log can be started and stopped, again and again", START, start_stop,
      NEED_LOGGING, 0, 0 },
    { "logging.echo", "the reply to START is its request",
      START ": page_size, num_ranges, reserved, ranges", echo, NEED_LOGGING, PAGE, 0 },
    { "logging.page-2m", "with large pages", START ": page_size", echo, NEED_LOGGING, 2 << 20, 0 },
    { "logging.page-1", "with pages of one byte", START ": page_size", echo, NEED_LOGGING, 1, 0 },
    { "logging.all", "no ranges are all memory", START ": num_ranges", all_memory, NEED_LOGGING, 0,
      0 },
    { "logging.two-ranges", "two ranges", START ": num_ranges, iova, length", two_ranges,
      NEED_LOGGING, 0, 0 },
    { "logging.twice", "a second START gets an answer", START, twice, NEED_LOGGING, 0, 0 },
    { "logging.ranges-2", "two ranges, of which one is there, are refused", START ": num_ranges",
      ranges_missing, NEED_LOGGING, 2, 0 },
    { "logging.ranges-max", "2^32 - 1 ranges, of which one is there, are refused",
      START ": num_ranges", ranges_missing, NEED_LOGGING, UINT32_MAX, 0 },
    { "logging.range-wrap", "a range that wraps round gets an answer", START ": iova, length",
      bad_range, NEED_LOGGING, UINT64_MAX - PAGE + 1, 2 * PAGE },
    { "logging.range-empty", "a range of no bytes gets an answer", START ": length", bad_range,
      NEED_LOGGING, BASE, 0 },
    { "logging.start-cut", "START without its data is refused", START, start_cut, NEED_LOGGING, 0,
      0 },
    { "logging.start-cut-15", "START with a byte missing is refused", START, start_cut,
      NEED_LOGGING, 15, 0 },
    { "logging.bitmap-64", "64 pages are 8 bytes", REPORT ": iova, length, page_size", bitmap,
      NEED_LOGGING, 64, PAGE },
    { "logging.bitmap-1", "1 page is 8 bytes", REPORT ": length", bitmap, NEED_LOGGING, 1, PAGE },
    { "logging.bitmap-33", "33 pages are 8 bytes, and the rest is 0", REPORT ": length", bitmap,
      NEED_LOGGING, 33, PAGE },
    { "logging.bitmap-large", "pages of 64 KiB", REPORT ": page_size", bitmap, NEED_LOGGING, 4,
      16 * PAGE },
    { "logging.bitmap-small", "pages of 1 KiB", REPORT ": page_size", bitmap, NEED_LOGGING, 256,
      1024 },
    { "logging.report-argsz", "a report without room is told the size that is needed", "Message sizes", report_argsz,
      NEED_LOGGING, 0, 0 },
    { "logging.report-never", "a report of a log that was not started is refused", REPORT,
      report_without, NEED_LOGGING, 0, 0 },
    { "logging.report-stopped", "a report of a log that was stopped is refused", REPORT,
      report_without, NEED_LOGGING, 1, 0 },
    { "logging.page-0", "pages of no bytes are refused", REPORT ": page_size", bad_page_size,
      NEED_LOGGING, 0, 0 },
    { "logging.page-3000", "pages of 3000 bytes are refused", REPORT ": page_size", bad_page_size,
      NEED_LOGGING, 3000, 0 },
    { "logging.report-wrap", "a range that wraps round is no harm", REPORT ": iova, length",
      odd_range, NEED_LOGGING, UINT64_MAX - PAGE + 1, 2 * PAGE },
    { "logging.report-empty", "a range of no bytes is no harm", REPORT ": length", odd_range,
      NEED_LOGGING, BASE, 0 },
    { "logging.report-all", "a range of all memory is no harm", REPORT ": length", odd_range,
      NEED_LOGGING, 0, UINT64_MAX - PAGE + 1 },
    { "logging.report-elsewhere", "a range that is not mapped is no harm", REPORT ": iova",
      odd_range, NEED_LOGGING, BASE + (1 << 30), 64 * PAGE },
    { "logging.disconnected", "a client that goes with its log running", "Client Disconnection",
      disconnected, NEED_LOGGING | NEED_OWN, 0, 0 },
};
GROUP(check_logging, checks);

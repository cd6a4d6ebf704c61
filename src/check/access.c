/*
 * access.c - group "access": VFIO_USER_REGION_READ and VFIO_USER_REGION_WRITE.
 *
 * To read a register may already be to act on it: a serial port hands out its input. So what is
 * read is config space, which has no such registers, and memory; other registers only with
 * --destructive. Writes go where nobody can be: behind the end of a region. Those that hit a region
 * go to the vendor and device id, which nobody can change.
 */
#include "check/run.h"

#include <sys/mman.h>

#define READ "VFIO_USER_REGION_READ"
#define WRITE "VFIO_USER_REGION_WRITE"
#define CONFIG VFIO_PCI_CONFIG_REGION_INDEX

struct write {
    struct vfio_user_region_access access;
    uint8_t data[64];
};

static struct ask ask_read(const struct vfio_user_region_access *a)
{
    return (struct ask){ VFIO_USER_REGION_READ, a, sizeof *a, NULL, 0, 0 };
}

static struct ask ask_write(const struct write *w, size_t data)
{
    return (struct ask){ VFIO_USER_REGION_WRITE, w, sizeof w->access + data, NULL, 0, 0 };
}

/* The first region that may be read: config space, or any, if that is allowed. */
static uint32_t readable(struct run *r)
{
    if (is_pci(r))
        return CONFIG;
    if (!r->options->destructive)
        skip(r, "a read may act on the device, and --destructive is not given");
    for (uint32_t i = 0; i < r->facts.regions; i++)
        if (r->facts.region[i].size && (r->facts.region[i].flags & VFIO_REGION_INFO_FLAG_READ))
            return i;
    skip(r, "no region can be read");
}

/* A width at which its first register can be read. */
static uint32_t readable_width(struct run *r, uint32_t region)
{
    static const uint32_t widths[] = { 4, 1, 2, 8 };

    for (uint32_t i = 0; i < LENGTH(widths); i++) {
        struct vfio_user_region_access a = { 0, region, widths[i] };
        struct ask ask = ask_read(&a);
        if (try(r, &ask) == SERVED)
            return widths[i];
    }
    if (is_pci(r))
        fail(r, "a read of config space: expected success, got an error");
    skip(r, "the first register of region %u cannot be read", region);
}

/* Any region, for accesses that do not hit it. */
static uint32_t some_region(struct run *r)
{
    for (uint32_t i = r->facts.regions; i-- > 0;)
        if (r->facts.region[i].size)
            return i;
    skip(r, "the device has no regions");
}

static void echo(struct run *r, const struct check *c)
{
    uint32_t region = readable(r), n = readable_width(r, region);
    struct vfio_user_region_access a = { is_pci(r) ? c->a : 0, region, n }, got;
    struct ask ask = ask_read(&a);

    memcpy(&got, served(r, &ask, sizeof got), sizeof got);
    if (got.offset != a.offset || got.region != a.region)
        fail(r, "expected offset %llu and region %u in the reply, got %llu and %u",
             (unsigned long long)a.offset, a.region, (unsigned long long)got.offset, got.region);
    if (got.count != a.count || r->client.size != sizeof a + a.count)
        fail(r, "expected %u bytes, got a count of %u and %zu bytes", n, got.count,
             r->client.size - sizeof a);
}

/* Config space in pieces of this width is what it is byte by byte. A server may want dwords, or
 * aligned ones. */
static void width(struct run *r, const struct check *c)
{
    uint8_t bytes[64];
    uint32_t start = (uint32_t)c->b, n = (uint32_t)c->a;

    for (uint32_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)config_get(r, i, 1);
    for (uint32_t at = start; at + n <= sizeof bytes; at += n) {
        struct vfio_user_region_access a = { at, CONFIG, n };
        struct ask ask = ask_read(&a);
        enum outcome outcome = try(r, &ask);
        if (outcome == CLOSED)
            fail(r, "expected a reply, got the end of the connection");
        if (outcome == REFUSED) {
            note(r, "a read of %u bytes at 0x%x of config space is refused", n, at);
            return;
        }
        if (r->client.size != sizeof a + n)
            fail(r, "expected %u bytes, got %zu", n, r->client.size - sizeof a);
        if (memcmp(r->client.body + sizeof a, bytes + at, n) != 0)
            fail(r, "%u bytes at 0x%x are not what single bytes are there", n, at);
    }
}

static void count_zero(struct run *r, const struct check *c)
{
    struct write w = { { 0, readable(r), 0 }, { 0 } };
    struct ask ask = c->a ? ask_write(&w, 0) : ask_read(&w.access);
    enum outcome outcome = try(r, &ask);

    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == SERVED && r->client.size != sizeof w.access)
        fail(r, "expected no data, got %zu bytes", r->client.size - sizeof w.access);
}

/* Where a read or write starts that has nothing to hit. */
static uint64_t outside(const struct run *r, uint32_t region, const struct check *c)
{
    uint64_t size = r->facts.region[region].size;
    return c->b ? c->a : size + c->a;
}

/* VFIO refuses it, or reads nothing; a server could say so with a count of zero. */
static void read_outside(struct run *r, const struct check *c)
{
    uint32_t region = some_region(r);
    struct vfio_user_region_access a = { outside(r, region, c), region, 4 }, got = { 0 };
    struct ask ask = ask_read(&a);
    enum outcome outcome = try(r, &ask);

    if (outcome == CLOSED)
        fail(r, "expected an error reply, got the end of the connection");
    if (outcome == REFUSED)
        return;
    memcpy(&got, r->client.body, r->client.size < sizeof got ? r->client.size : sizeof got);
    if (got.count || r->client.size > sizeof got)
        fail(r, "4 bytes at 0x%llx of region %u: expected an error, got %u bytes",
             (unsigned long long)a.offset, region, got.count);
    note(r, "a read behind the end gives 0 bytes");
}

static void write_outside(struct run *r, const struct check *c)
{
    uint32_t region = some_region(r);
    struct write w = { { outside(r, region, c), region, 4 }, { 0 } };
    struct ask ask = ask_write(&w, 4);
    enum outcome outcome = try(r, &ask);

    if (outcome == CLOSED)
        fail(r, "expected an error reply, got the end of the connection");
    if (outcome == SERVED)
        fail(r, "4 bytes at 0x%llx of region %u: expected an error, got success",
             (unsigned long long)w.access.offset, region);
}

/* Half in, half out: an error, or the half that is in. */
static void read_straddles(struct run *r, const struct check *c)
{
    uint32_t region = readable(r);
    struct vfio_user_region_access a = { r->facts.region[region].size - 2, region, 4 }, got = { 0 };
    struct ask ask = ask_read(&a);
    enum outcome outcome = try(r, &ask);
    (void)c;

    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == REFUSED)
        return;
    memcpy(&got, r->client.body, r->client.size < sizeof got ? r->client.size : sizeof got);
    if (got.count > 2 || r->client.size != sizeof got + got.count)
        fail(r, "expected an error or the 2 bytes that are there, got %u", got.count);
    note(r, "a read over the end gives what is before it");
}

static void no_such_region(struct run *r, const struct check *c)
{
    uint32_t region = c->b ? (uint32_t)c->b : r->facts.device.num_regions;
    struct write w = { { 0, region, 4 }, { 0 } };
    struct ask ask = c->a ? ask_write(&w, 4) : ask_read(&w.access);
    refused(r, &ask, EINVAL);
}

static void empty_region(struct run *r, const struct check *c)
{
    for (uint32_t i = 0; i < r->facts.regions; i++) {
        if (r->facts.region[i].size || !r->facts.region[i].argsz)
            continue;
        struct write w = { { 0, i, 4 }, { 0 } };
        struct ask ask = c->a ? ask_write(&w, 4) : ask_read(&w.access);
        refused(r, &ask, 0);
        return;
    }
    skip(r, "no region is empty");
}

static void not_allowed(struct run *r, const struct check *c)
{
    uint32_t flag = c->a ? VFIO_REGION_INFO_FLAG_WRITE : VFIO_REGION_INFO_FLAG_READ;

    for (uint32_t i = 0; i < r->facts.regions; i++) {
        if (!r->facts.region[i].size || (r->facts.region[i].flags & flag))
            continue;
        struct write w = { { 0, i, 4 }, { 0 } };
        struct ask ask = c->a ? ask_write(&w, 4) : ask_read(&w.access);
        refused(r, &ask, 0);
        return;
    }
    skip(r, "all regions can be %s", c->a ? "written" : "read");
}

/* More than may be asked for: max_data_xfer_size of the server. */
static void count_too_large(struct run *r, const struct check *c)
{
    uint32_t region = readable(r);
    struct vfio_user_region_access a = { 0, region, c->a ? (uint32_t)c->a : r->facts.max_data + 1 };
    struct ask ask = ask_read(&a);
    enum outcome outcome = try(r, &ask);

    if (outcome == CLOSED)
        note(r, "a count of %u ends the connection", a.count);
    if (outcome == SERVED && r->client.size > sizeof a + r->facts.max_data)
        fail(r, "expected at most max_data_xfer_size = %u bytes, got %zu", r->facts.max_data,
             r->client.size - sizeof a);
    if (outcome == SERVED && r->facts.region[region].size < a.count &&
        r->client.size >= sizeof a + a.count)
        fail(r, "expected at most the %llu bytes of the region, got %zu",
             (unsigned long long)r->facts.region[region].size, r->client.size - sizeof a);
}

/* The data is not as long as its count says: c->a bytes for a count of c->b. */
static void data_mismatch(struct run *r, const struct check *c)
{
    struct write w = { { 0, CONFIG, (uint32_t)c->b }, { 0 } };
    uint64_t before = config_get(r, 0, 4);
    struct ask ask = ask_write(&w, c->a);
    enum outcome outcome;

    memcpy(w.data, &before, 4);
    outcome = try(r, &ask);
    if (outcome == SERVED && c->a < c->b)
        fail(r, "%u bytes of data for a count of %u: expected an error, got success",
             (unsigned)c->a, w.access.count);
    if (outcome == SERVED)
        note(r, "%u bytes of data for a count of %u are served", (unsigned)c->a, w.access.count);
    if (outcome == CLOSED)
        fail(r, "expected an error reply, got the end of the connection");
    still_works(r, client(r));
}

static void write_echo(struct run *r, const struct check *c)
{
    struct write w = { { 0, CONFIG, 4 }, { 0 } };
    struct vfio_user_region_access got;
    uint64_t before = config_get(r, 0, 4);
    struct ask ask = ask_write(&w, 4);
    (void)c;

    memcpy(w.data, &before, 4);
    memcpy(&got, served(r, &ask, sizeof got), sizeof got);
    if (memcmp(&got, &w.access, sizeof got) != 0)
        fail(r, "expected offset 0, region %u, count 4 in the reply, got %llu, %u, %u", CONFIG,
             (unsigned long long)got.offset, got.region, got.count);
    if (r->client.size != sizeof got)
        fail(r, "expected no data in the reply, got %zu bytes", r->client.size - sizeof got);
}

/* "must be supported ..., even if the corresponding memory or device region has been shared as
 * mappable": the bytes at both ends are the same. Somebody may be writing them, hence the tries. */
static void same_memory(struct run *r, const struct check *c)
{
    (void)c;
    for (uint32_t i = 0; i < r->facts.regions; i++) {
        struct vfio_region_info ask = { .argsz = 4096, .index = i }, info;
        memcpy(&info, served(r, ASK(VFIO_USER_DEVICE_GET_REGION_INFO, ask), sizeof info),
               sizeof info);
        if ((info.flags & (VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS)) !=
                VFIO_REGION_INFO_FLAG_MMAP ||
            !(info.flags & VFIO_REGION_INFO_FLAG_READ) || !r->client.fds.count)
            continue;
        uint8_t *memory = mmap(NULL, info.size, PROT_READ, MAP_SHARED, r->client.fds.fd[0],
                               (off_t)info.offset);
        if (memory == MAP_FAILED)
            continue;
        struct vfio_user_region_access a = { 0, i, 8 };
        struct ask read = ask_read(&a);
        bool same = false;
        for (int t = 0; t < 5 && !same; t++)
            same = try(r, &read) == SERVED && r->client.size == sizeof a + 8 &&
                   memcmp(r->client.body + sizeof a, memory, 8) == 0;
        munmap(memory, info.size);
        if (!same)
            fail(r, "region %u: expected a read to give what its mapping has, got something else",
                 i);
        return;
    }
    skip(r, "no region can be mapped as a whole");
}

static void pipelined(struct run *r, const struct check *c)
{
    uint32_t region = readable(r), n = readable_width(r, region), step = is_pci(r) ? 4 : 0;
    uint16_t ids[64];
    (void)c;

    for (uint32_t i = 0; i < LENGTH(ids); i++) {
        struct vfio_user_region_access a = { i % 16 * step, region, n };
        struct ask ask = ask_read(&a);
        ids[i] = post(r, &ask);
    }
    for (uint32_t i = 0; i < LENGTH(ids); i++) {
        if (reply_to(r, client(r), ids[i], VFIO_USER_REGION_READ) != SERVED)
            fail(r, "read %u of %zu: expected success, got an error", i, LENGTH(ids));
        struct vfio_user_region_access got = { 0 };
        memcpy(&got, r->client.body, r->client.size < sizeof got ? r->client.size : sizeof got);
        if (got.offset != i % 16 * step)
            fail(r, "expected replies in the order of the commands, got offset %llu for %u",
                 (unsigned long long)got.offset, i % 16 * step);
    }
}

/* The first and last register of each region, at any width. A device may refuse; it has to
 * answer. */
static void registers(struct run *r, const struct check *c)
{
    (void)c;
    for (uint32_t i = 0; i < r->facts.regions; i++) {
        for (uint32_t n = 1; n <= 8; n *= 2) {
            uint64_t size = r->facts.region[i].size;
            struct vfio_user_region_access a[] = { { 0, i, n }, { size - n, i, n } };
            for (uint32_t k = 0; k < 2 && size >= n; k++) {
                struct ask ask = ask_read(&a[k]);
                enum outcome outcome = try(r, &ask);
                if (outcome == CLOSED)
                    fail(r,
                         "region %u, %u bytes at 0x%llx: expected a reply, got the end of the "
                         "connection",
                         i, n, (unsigned long long)a[k].offset);
                if (outcome == SERVED && r->client.size != sizeof a[k] + n)
                    fail(r, "region %u: expected %u bytes, got %zu", i, n,
                         r->client.size - sizeof a[k]);
            }
        }
    }
}

#define BOTH(name, title, function, a, b)                                                   \
    { "access.read-" name, "a read " title, READ ": offset", read_##function, 0, a, b },    \
    {                                                                                       \
        "access.write-" name, "a write " title, WRITE ": offset", write_##function, 0, a, b \
    }

static const struct check checks[] = {
    { "access.read-echo", "the reply to a read repeats offset, region and count, and has the data",
      READ ": offset, region, count, data", echo, 0, 0, 0 },
    { "access.read-echo-4", "the same at another offset", READ ": offset, region, count, data",
      echo, 0, 4, 0 },
    { "access.write-echo", "the reply to a write repeats offset, region and count",
      WRITE ": offset, region, count, data", write_echo, NEED_PCI, 0, 0 },
    { "access.width-2", "two bytes of config space are what single bytes are", READ ": count",
      width, NEED_PCI, 2, 0 },
    { "access.width-4", "and four", READ ": count", width, NEED_PCI, 4, 0 },
    { "access.width-8", "and eight", READ ": count", width, NEED_PCI, 8, 0 },
    { "access.width-64", "and all 64 of the header", READ ": count", width, NEED_PCI, 64, 0 },
    { "access.width-3", "and three", READ ": count", width, NEED_PCI, 3, 0 },
    { "access.unaligned-2", "two bytes at an odd offset", READ ": offset", width, NEED_PCI, 2, 1 },
    { "access.unaligned-4", "four bytes at an odd offset", READ ": offset", width, NEED_PCI, 4, 1 },
    { "access.read-0", "a read of 0 bytes is answered", READ ": count", count_zero, 0, 0, 0 },
    { "access.write-0", "a write of 0 bytes is answered", WRITE ": count", count_zero, 0, 1, 0 },
    BOTH("end", "at the end of a region is refused", outside, 0, 0),
    BOTH("behind", "behind the end of a region is refused", outside, 4096, 0),
    BOTH("4g", "4 GiB behind the end is refused", outside, UINT64_C(1) << 32, 0),
    BOTH("2-63", "at 2^63 is refused", outside, UINT64_C(1) << 63, 1),
    BOTH("wrap", "that wraps round to 0 is refused", outside, UINT64_MAX - 1, 1),
    BOTH("wrap-4", "that ends at 2^64 is refused", outside, UINT64_MAX - 3, 1),
    { "access.read-straddle", "a read over the end of a region gives no more than there is",
      READ ": count", read_straddles, 0, 0, 0 },
    { "access.read-none-next", "a read of the region behind the last is refused", READ ": region",
      no_such_region, 0, 0, 0 },
    { "access.read-none-max", "a read of region 0xffffffff is refused", READ ": region",
      no_such_region, 0, 0, UINT32_MAX },
    { "access.read-none-2g", "a read of region 0x80000000 is refused", READ ": region",
      no_such_region, 0, 0, 0x80000000 },
    { "access.write-none-next", "a write to the region behind the last is refused",
      WRITE ": region", no_such_region, 0, 1, 0 },
    { "access.write-none-max", "a write to region 0xffffffff is refused", WRITE ": region",
      no_such_region, 0, 1, UINT32_MAX },
    { "access.read-empty", "a read of an empty region is refused", READ ": region", empty_region, 0,
      0, 0 },
    { "access.write-empty", "a write to an empty region is refused", WRITE ": region", empty_region,
      0, 1, 0 },
    { "access.read-right", "a region that cannot be read is not",
      "VFIO_USER_DEVICE_GET_REGION_INFO: VFIO_REGION_INFO_FLAG_READ", not_allowed, 0, 0, 0 },
    { "access.write-right", "a region that cannot be written is not",
      "VFIO_USER_DEVICE_GET_REGION_INFO: VFIO_REGION_INFO_FLAG_WRITE", not_allowed, 0, 1, 0 },
    { "access.read-over-limit", "a read of more than max_data_xfer_size gives no more than that",
      "VFIO_USER_VERSION: max_data_xfer_size", count_too_large, NEED_OWN, 0, 0 },
    { "access.read-count-2g", "a read of 2 GiB does no harm",
      "VFIO_USER_VERSION: max_data_xfer_size", count_too_large, NEED_OWN, 0x80000000, 0 },
    { "access.read-count-4g", "a read of 4 GiB does no harm",
      "VFIO_USER_VERSION: max_data_xfer_size", count_too_large, NEED_OWN, UINT32_MAX, 0 },
    { "access.write-no-data", "a write whose data is missing is refused", WRITE ": count, data",
      data_mismatch, NEED_PCI, 0, 4 },
    { "access.write-less-data", "a write with less data than its count is refused",
      WRITE ": count, data", data_mismatch, NEED_PCI, 2, 4 },
    { "access.write-more-data", "a write with more data than its count is answered",
      WRITE ": count, data", data_mismatch, NEED_PCI, 8, 4 },
    { "access.write-count-max", "a write of 4 GiB that are not there is refused",
      WRITE ": count, data", data_mismatch, NEED_PCI, 4, UINT32_MAX },
    { "access.memory", "a message reads what a mapping shows", "Read and Write Operations",
      same_memory, 0, 0, 0 },
    { "access.pipelined", "many reads at once are answered in their order", "Command Concurrency",
      pipelined, 0, 0, 0 },
    { "access.registers", "the ends of each region are answered at each width", READ, registers,
      NEED_DESTRUCTIVE, 0, 0 },
};
GROUP(check_access, checks);

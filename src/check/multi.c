/*
 * multi.c - group "multi": VFIO_USER_REGION_WRITE_MULTI. Writes that hit go to the vendor id.
 */
#include "check/run.h"

#include <linux/pci_regs.h>

#define M "VFIO_USER_REGION_WRITE_MULTI"
#define CONFIG VFIO_PCI_CONFIG_REGION_INDEX

enum { MOST = 8 };
struct multi {
    uint64_t wr_cnt;
    struct vfio_user_write write[MOST];
};

static struct multi harmless_multi(uint64_t n)
{
    struct multi m = { .wr_cnt = n };
    for (uint32_t i = 0; i < MOST; i++)
        m.write[i] = (struct vfio_user_write){ .offset = 0, .region = CONFIG, .count = 2 };
    return m;
}

static struct ask ask_multi(const struct multi *m, size_t writes)
{
    return (struct ask){
        VFIO_USER_REGION_WRITE_MULTI, m, sizeof m->wr_cnt + writes * sizeof m->write[0], NULL, 0, 0
    };
}

static void done(struct run *r, const struct check *c)
{
    struct multi m = harmless_multi(c->a);
    struct ask ask = ask_multi(&m, c->a);
    uint64_t n;
    memcpy(&n, served(r, &ask, sizeof n), sizeof n);
    if (n != c->a || r->client.size != sizeof n)
        fail(r, "expected wr_cnt %u in the reply, got %llu and %zu bytes", (unsigned)c->a,
             (unsigned long long)n, r->client.size);
}

static void none(struct run *r, const struct check *c)
{
    struct multi m = harmless_multi(0);
    struct ask ask = ask_multi(&m, 0);
    (void)c;
    if (try(r, &ask) == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
}

/* c->a is said, c->b are there. More than said is unusual. */
static void count_mismatch(struct run *r, const struct check *c)
{
    struct multi m = harmless_multi(c->a);
    struct ask ask = ask_multi(&m, c->b);
    enum outcome outcome = try(r, &ask);

    if (outcome == CLOSED)
        fail(r, "expected an error reply, got the end of the connection");
    if (outcome == SERVED && c->a > c->b)
        fail(r, "wr_cnt %llu with %u writes: expected an error, got success",
             (unsigned long long)c->a, (unsigned)c->b);
    if (outcome == SERVED)
        note(r, "wr_cnt %llu with %u writes is served", (unsigned long long)c->a, (unsigned)c->b);
    still_works(r, client(r));
}

/* "This format can only describe writes of 8 bytes or less." */
static void too_wide(struct run *r, const struct check *c)
{
    struct multi m = harmless_multi(1);
    m.write[0].count = (uint32_t)c->a;
    struct ask ask = ask_multi(&m, 1);
    refused(r, &ask, 0);
}

static void outside(struct run *r, const struct check *c)
{
    struct multi m = harmless_multi(2);
    m.write[1].offset = c->a;
    struct ask ask = ask_multi(&m, 2);
    uint64_t n = 0;
    enum outcome outcome = try(r, &ask);

    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == REFUSED)
        return;
    memcpy(&n, r->client.body, r->client.size < sizeof n ? r->client.size : sizeof n);
    if (n != 1) /* "the number of device writes completed" */
        fail(r, "expected an error, or one write that is done, got %llu", (unsigned long long)n);
}

static void no_such_region(struct run *r, const struct check *c)
{
    struct multi m = harmless_multi(1);
    m.write[0].region = c->a ? (uint32_t)c->a : r->facts.device.num_regions;
    struct ask ask = ask_multi(&m, 1);
    refused(r, &ask, 0);
}

static void order(struct run *r, const struct check *c)
{
    struct multi m = { .wr_cnt = MOST };
    uint8_t before = (uint8_t)config_get(r, PCI_INTERRUPT_LINE, 1);
    (void)c;

    for (uint32_t i = 0; i < MOST; i++) {
        m.write[i] = (struct vfio_user_write){ PCI_INTERRUPT_LINE, CONFIG, 1, { 0 } };
        m.write[i].data[0] = (uint8_t)(before + i + 1);
    }
    struct ask ask = ask_multi(&m, MOST);
    served(r, &ask, 8);
    uint64_t got = config_get(r, PCI_INTERRUPT_LINE, 1);
    config_set(r, PCI_INTERRUPT_LINE, 1, before);
    if (got != (uint8_t)(before + MOST))
        fail(r, "expected what the last write wrote, 0x%x, got 0x%llx", (uint8_t)(before + MOST),
             (unsigned long long)got);
}

#define N (NEED_PCI | NEED_MULTI)

static const struct check checks[] = {
    { "multi.one", "one write", M ": wr_cnt, wrs", done, N, 1, 0 },
    { "multi.eight", "eight writes", M ": wr_cnt, wrs", done, N, 8, 0 },
    { "multi.none", "no writes at all are answered", M ": wr_cnt", none, N, 0, 0 },
    { "multi.fewer", "fewer writes than wr_cnt says are refused", M ": wr_cnt", count_mismatch, N,
      2, 1 },
    { "multi.no-writes", "no writes, where wr_cnt says one, are refused", M ": wr_cnt",
      count_mismatch, N, 1, 0 },
    { "multi.more", "more writes than wr_cnt says are answered", M ": wr_cnt", count_mismatch, N, 1,
      2 },
    { "multi.count-2-60", "a wr_cnt whose size wraps round is refused", M ": wr_cnt",
      count_mismatch, N, UINT64_C(1) << 61, 0 },
    { "multi.count-wrap", "and one that wraps round to what is there", M ": wr_cnt", count_mismatch,
      N, (UINT64_C(1) << 61) + 1, 1 },
    { "multi.count-max", "and the largest", M ": wr_cnt", count_mismatch, N, UINT64_MAX, 1 },
    { "multi.wide-9", "a write of 9 bytes is refused", "Single Device Write Format: count",
      too_wide, N, 9, 0 },
    { "multi.wide-max", "a write of 4 GiB is refused", "Single Device Write Format: count",
      too_wide, N, UINT32_MAX, 0 },
    { "multi.outside", "a write behind the end of a region is not done",
      "Single Device Write Format: offset, data", outside, N, 1 << 20, 0 },
    { "multi.wrap", "a write that wraps round is not done", "Single Device Write Format: offset",
      outside, N, UINT64_MAX, 0 },
    { "multi.region", "a write to a region that is not there is refused",
      "Single Device Write Format: region", no_such_region, N, 0, 0 },
    { "multi.region-max", "a write to region 0xffffffff is refused",
      "Single Device Write Format: region", no_such_region, N, UINT32_MAX, 0 },
    { "multi.order", "writes are done in their order", M, order, N | NEED_DESTRUCTIVE, 0, 0 },
};
GROUP(check_multi, checks);

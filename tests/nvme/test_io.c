/*
 * test_io.c - I/O commands as a driver sees them: data, limits, statuses, and how queues go round.
 */
#include "fixture.h"

#include <stdlib.h>
#include <string.h>

static uint8_t host[2 * MIB];

/* ---- Data ------------------------------------------------------------------------------------------- */

static void writes_and_reads(void **state)
{
    static const struct { uint32_t blocks, offset; } shapes[] = {
        { 1, 0 }, { 8, 0 }, { 8, 512 }, { 16, 0 }, { 16, 4 }, { 17, 2048 }, { 256, 0 }, { 256, 3584 },
        { 2048, 0 }, { 2047, 4092 },
    };
    (void)state;

    for (unsigned i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        uint32_t bytes = shapes[i].blocks * 512;
        uint8_t *out = (uint8_t *)pages(bytes / 4096 + 2) + shapes[i].offset;
        uint8_t *in = (uint8_t *)pages(bytes / 4096 + 2) + shapes[i].offset;
        fill(out, bytes, i + 1);
        struct nvme_command w = rw(NVM_WRITE, out, 1000 * i, shapes[i].blocks);
        struct nvme_command r = rw(NVM_READ, in, 1000 * i, shapes[i].blocks);
        assert_int_equal(io(&w), 0);
        assert_int_equal(io(&r), 0);
        assert_true(is_filled(in, bytes, i + 1));
        file_read(1000ull * i * 512, host, bytes);
        assert_true(is_filled(host, bytes, i + 1));
    }
}

/* A list that begins in the middle of a page and goes on in two others. */
static void prp_lists_are_chained(void **state)
{
    uint8_t *data = pages(257);
    uint64_t *first = page(), *second = page();
    (void)state;

    fill(data, MIB, 7);
    struct nvme_command w = rw(NVM_WRITE, data, 0, 2048);
    unsigned at = 500, n = 0;
    uint64_t *list = first;
    for (unsigned i = 1; i < 256; i++) {
        if (list == first && at == 511) {
            list[at] = driver_address(&driver, second);
            list = second;
            at = 0;
        }
        list[at++] = driver_address(&driver, data + i * 4096);
        n++;
    }
    assert_int_equal(n, 255);
    w.prp2 = driver_address(&driver, first + 500);
    assert_int_equal(io(&w), 0);
    file_read(0, host, MIB);
    assert_true(is_filled(host, MIB, 7));

    /* The pointer stands alone in the first page. */
    first[511] = driver_address(&driver, second);
    for (unsigned i = 1; i < 256; i++)
        second[i - 1] = driver_address(&driver, data + i * 4096);
    fill(data, MIB, 8);
    w.prp2 = driver_address(&driver, first + 511);
    assert_int_equal(io(&w), 0);
    file_read(0, host, MIB);
    assert_true(is_filled(host, MIB, 8));
}

static struct nvme_sgl sgl(const void *p, uint32_t n, uint8_t type)
{
    return (struct nvme_sgl){ .address = driver_address(&driver, p), .length = n, .type = type };
}

static void set_sgl(struct nvme_command *c, struct nvme_sgl s)
{
    c->flags = 1 << 6;
    memcpy(&c->prp1, &s, sizeof s);
}

static void sgl_lists(void **state)
{
    uint8_t *data = pages(8);
    struct nvme_sgl *a = page(), *b = page();
    struct nvme_command w = rw(NVM_WRITE, NULL, 64, 16);
    (void)state;

    fill(data, 8192, 3);
    set_sgl(&w, sgl(data, 8192, SGL_DATA));
    assert_int_equal(io(&w), 0);
    file_read(64 * 512, host, 8192);
    assert_true(is_filled(host, 8192, 3));

    /* Odd pieces, in a segment and a last segment. */
    fill(data, 8192, 4);
    a[0] = sgl(data, 1, SGL_DATA);
    a[1] = sgl(data + 1, 4094, SGL_DATA);
    a[2] = sgl(data, 0, SGL_DATA);
    a[3] = sgl(b, 32, SGL_LAST_SEGMENT);
    b[0] = sgl(data + 4095, 3, SGL_DATA);
    b[1] = sgl(data + 4098, 4094, SGL_DATA);
    set_sgl(&w, sgl(a, 64, SGL_SEGMENT));
    assert_int_equal(io(&w), 0);
    file_read(64 * 512, host, 8192);
    assert_true(is_filled(host, 8192, 4));

    set_sgl(&w, sgl(data, 8191, SGL_DATA));
    assert_int_equal(io(&w), SC_SGL_LENGTH | SC_DNR);
    set_sgl(&w, sgl(data, 8193, SGL_DATA));
    assert_int_equal(io(&w), SC_SGL_LENGTH | SC_DNR);
    set_sgl(&w, sgl(data, 8192, 0x40));
    assert_int_equal(io(&w), SC_SGL_TYPE | SC_DNR);
    set_sgl(&w, sgl(a, 63, SGL_SEGMENT));
    assert_int_equal(io(&w), SC_SGL_SEGMENT | SC_DNR);
    set_sgl(&w, sgl(a, 0, SGL_LAST_SEGMENT));
    assert_int_equal(io(&w), SC_SGL_SEGMENT | SC_DNR);
    set_sgl(&w, sgl(a, 64, SGL_LAST_SEGMENT)); /* and it has a segment in it */
    assert_int_equal(io(&w), SC_SGL_SEGMENT | SC_DNR);
    set_sgl(&w, sgl(a, 48, SGL_SEGMENT)); /* it leads nowhere */
    assert_int_equal(io(&w), SC_SGL_SEGMENT | SC_DNR);
}

/* ---- Other commands --------------------------------------------------------------------------------- */

static void compare_finds_one_byte(void **state)
{
    uint8_t *data = pages(64);
    (void)state;

    fill(data, 64 * 4096, 5);
    struct nvme_command c = rw(NVM_WRITE, data, 0, 512);
    assert_int_equal(io(&c), 0);
    c.opcode = NVM_COMPARE;
    assert_int_equal(io(&c), 0);
    data[64 * 4096 - 1] ^= 1;
    assert_int_equal(io(&c), SC_COMPARE_FAILURE | SC_DNR);
    data[64 * 4096 - 1] ^= 1;
    data[0] ^= 0x80;
    assert_int_equal(io(&c), SC_COMPARE_FAILURE | SC_DNR);
}

static bool is_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (*p == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static void zeroes_and_deallocates(void **state)
{
    uint8_t *data = pages(256);
    struct nvme_dsm_range *range = page();
    (void)state;

    fill(data, MIB, 6);
    struct nvme_command w = rw(NVM_WRITE, data, 0, 2048);
    assert_int_equal(io(&w), 0);
    struct nvme_command z = rw(NVM_WRITE_ZEROES, NULL, 3, 100);
    assert_int_equal(io(&z), 0);
    z = rw(NVM_WRITE_ZEROES, NULL, 1000, 24);
    z.cdw12 |= RW_DEAC | RW_FUA;
    assert_int_equal(io(&z), 0);
    range[0] = (struct nvme_dsm_range){ .lba = 512, .blocks = 16 };
    range[1] = (struct nvme_dsm_range){ .lba = 700, .blocks = 0 };
    range[2] = (struct nvme_dsm_range){ .lba = 1201, .blocks = 3 };
    struct nvme_command d = { .opcode = NVM_DSM, .nsid = 1, .cdw10 = 2, .cdw11 = DSM_DEALLOCATE,
                              .prp1 = driver_address(&driver, range) };
    assert_int_equal(io(&d), 0);
    struct nvme_command r = rw(NVM_READ, data, 0, 2048);
    assert_int_equal(io(&r), 0);

    static uint8_t expected[MIB];
    fill(expected, MIB, 6);
    memset(expected + 3 * 512, 0, 100 * 512);
    memset(expected + 1000 * 512, 0, 24 * 512);
    memset(expected + 512 * 512, 0, 16 * 512);
    memset(expected + 1201 * 512, 0, 3 * 512);
    assert_memory_equal(data, expected, MIB);
    assert_true(is_zero(expected + 3 * 512, 100 * 512));

    /* One range of three is beyond the end: nothing is done. */
    range[0] = (struct nvme_dsm_range){ .lba = 0, .blocks = 3 };
    range[2] = (struct nvme_dsm_range){ .lba = 64 * 2048 - 1, .blocks = 2 };
    assert_int_equal(io(&d), SC_LBA_RANGE | SC_DNR);
    range[2] = (struct nvme_dsm_range){ .lba = UINT64_MAX, .blocks = 2 };
    assert_int_equal(io(&d), SC_LBA_RANGE | SC_DNR);
    assert_int_equal(io(&r), 0);
    assert_memory_equal(data, expected, MIB);
    d.cdw11 = 0; /* a hint only */
    range[2].lba = 0;
    assert_int_equal(io(&d), 0);
}

static void copies(void **state)
{
    uint8_t *data = pages(256);
    struct nvme_copy_range *range = page();
    (void)state;

    fill(data, MIB, 9);
    struct nvme_command w = rw(NVM_WRITE, data, 0, 2048);
    assert_int_equal(io(&w), 0);
    range[0] = (struct nvme_copy_range){ .lba = 1000, .blocks = 999 };
    range[1] = (struct nvme_copy_range){ .lba = 10, .blocks = 0 };
    struct nvme_command c = { .opcode = NVM_COPY, .nsid = 1, .cdw10 = 4096, .cdw12 = 1,
                              .prp1 = driver_address(&driver, range) };
    assert_int_equal(io(&c), 0);
    file_read(4096 * 512, host, 1001 * 512);
    assert_memory_equal(host, data + 1000 * 512, 1000 * 512);
    assert_memory_equal(host + 1000 * 512, data + 10 * 512, 512);

    range[1].lba = 64 * 2048;
    assert_int_equal(io(&c), SC_LBA_RANGE | SC_DNR);
    range[1] = (struct nvme_copy_range){ .lba = 10, .blocks = 4096 };
    assert_int_equal(io(&c), SC_COMMAND_SIZE | SC_DNR);
    range[1].blocks = 0;
    c.cdw10 = 64 * 2048 - 1000;
    assert_int_equal(io(&c), SC_LBA_RANGE | SC_DNR);
    c.cdw10 = 4096;
    c.cdw12 = 1 | 1 << 8; /* another format of ranges */
    assert_int_equal(io(&c), SC_INVALID_FIELD | SC_DNR);
    c.cdw12 = 128; /* ranges */
    assert_int_equal(io(&c), SC_COMMAND_SIZE | SC_DNR);
}

static void flush_and_verify(void **state)
{
    struct nvme_command f = { .opcode = NVM_FLUSH, .nsid = 1 };
    struct nvme_command v = rw(NVM_VERIFY, NULL, 0, 65536);
    (void)state;

    assert_int_equal(io(&f), 0);
    f.nsid = NSID_ALL;
    assert_int_equal(io(&f), 0);
    f.nsid = 2;
    assert_int_equal(io(&f), SC_INVALID_NAMESPACE | SC_DNR);
    assert_int_equal(io(&v), 0);
    v.cdw10 = 64 * 2048 - 65535;
    assert_int_equal(io(&v), SC_LBA_RANGE | SC_DNR);
}

/* ---- Limits ----------------------------------------------------------------------------------------- */

static void wrong_commands(void **state)
{
    const uint64_t last = 64 * 2048;
    uint8_t *data = pages(300);
    (void)state;

    struct { struct nvme_command c; uint16_t status; } wrong[] = {
        { rw(NVM_READ, data, last, 1), SC_LBA_RANGE | SC_DNR },
        { rw(NVM_READ, data, last - 1, 2), SC_LBA_RANGE | SC_DNR },
        { rw(NVM_WRITE, data, UINT64_MAX, 2), SC_LBA_RANGE | SC_DNR },
        { rw(NVM_WRITE, data, UINT64_MAX - 1, 1), SC_LBA_RANGE | SC_DNR },
        { rw(NVM_WRITE, data, 1ull << 55, 1), SC_LBA_RANGE | SC_DNR },
        { rw(NVM_WRITE_ZEROES, NULL, last, 1), SC_LBA_RANGE | SC_DNR },
        { rw(NVM_READ, data, 0, 2049), SC_INVALID_FIELD | SC_DNR },
        { rw(NVM_COMPARE, data, 0, 2049), SC_INVALID_FIELD | SC_DNR },
        { rw(0x0d, data, 0, 1), SC_INVALID_OPCODE | SC_DNR },
        { rw(0x04, data, 0, 1), SC_INVALID_OPCODE | SC_DNR },
        { rw(0xff, data, 0, 1), SC_INVALID_OPCODE | SC_DNR },
        { .c = { .opcode = NVM_READ, .nsid = 0 }, SC_INVALID_NAMESPACE | SC_DNR },
        { .c = { .opcode = NVM_READ, .nsid = 2 }, SC_INVALID_NAMESPACE | SC_DNR },
        { .c = { .opcode = NVM_READ, .nsid = NSID_ALL }, SC_INVALID_NAMESPACE | SC_DNR },
        { .c = { .opcode = NVM_READ, .nsid = 1, .flags = 1 }, SC_INVALID_FIELD | SC_DNR },
        { .c = { .opcode = NVM_READ, .nsid = 1, .flags = 0xc0 }, SC_INVALID_FIELD | SC_DNR },
        { .c = { .opcode = NVM_READ, .nsid = 1, .cdw12 = 1u << 29 }, SC_INVALID_FIELD | SC_DNR },
        { .c = { .opcode = NVM_READ, .nsid = 1, .prp1 = DRIVER_BASE + 2 }, SC_PRP_OFFSET | SC_DNR },
        { .c = { .opcode = NVM_READ, .nsid = 1, .prp1 = 0x1000 }, SC_DATA_TRANSFER | SC_DNR },
        { .c = { .opcode = NVM_READ, .nsid = 1, .prp1 = UINT64_MAX - 3 }, SC_DATA_TRANSFER | SC_DNR },
        { .c = { .opcode = NVM_READ, .nsid = 1, .prp1 = DRIVER_BASE, .prp2 = DRIVER_BASE + 512,
                 .cdw12 = 15 }, SC_PRP_OFFSET | SC_DNR },
        { .c = { .opcode = NVM_READ, .nsid = 1, .prp1 = DRIVER_BASE, .prp2 = 0x1000, .cdw12 = 15 },
          SC_DATA_TRANSFER | SC_DNR },
        { .c = { .opcode = NVM_READ, .nsid = 1, .prp1 = DRIVER_BASE, .prp2 = 0x1000, .cdw12 = 23 },
          SC_DATA_TRANSFER | SC_DNR },
        { .c = { .opcode = NVM_READ, .nsid = 1, .prp1 = DRIVER_BASE, .prp2 = DRIVER_BASE + 4,
                 .cdw12 = 23 }, SC_PRP_OFFSET | SC_DNR },
    };
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint16_t status = io(&wrong[i].c);
        if (status != wrong[i].status)
            fail_msg("wrong command %u: status 0x%x, not 0x%x", i, status, wrong[i].status);
    }
    struct nvme_command right = rw(NVM_READ, data, last - 1, 1);
    assert_int_equal(io(&right), 0);
}

/* ---- Queues ----------------------------------------------------------------------------------------- */

/* Many times round, with a different number of commands at a time; each is answered once. */
static void queues_go_round(void **state)
{
    uint8_t *data = page();
    uint32_t pending = 0, expected = 0;
    uint64_t done = 0;
    static bool busy[65536];
    (void)state;

    memset(busy, 0, sizeof busy);
    srand(1);
    for (unsigned round = 0; done < 20000; round++) {
        uint32_t n = (uint32_t)rand() % (63 - pending) + 1;
        for (uint32_t i = 0; i < n && pending < 63; i++, pending++) {
            struct nvme_command c = rw(rand() % 4 ? NVM_READ : NVM_VERIFY, data, (uint64_t)rand() % 1000, 1);
            uint16_t cid = driver_put(&driver, 1, &c);
            assert_false(busy[cid]);
            busy[cid] = true;
        }
        driver_ring(&driver, 1);
        uint32_t take = (uint32_t)rand() % pending + 1;
        while (take--) {
            struct nvme_completion e;
            assert_true(driver_wait(&driver, 1, &e));
            assert_int_equal(driver_status(&e), 0);
            assert_int_equal(e.sqid, 1);
            assert_true(e.sqhd < 64);
            assert_true(busy[e.cid]);
            busy[e.cid] = false;
            pending--;
            done++;
        }
        driver_ring_head(&driver, 1);
    }
    (void)expected;
}

static void queues_go_round_in_shadow(void **state)
{
    if (driver_shadow(&driver))
        queues_go_round(state);
}

/* As behind a virtual IOMMU: each page is a map of its own, and neighbours that the device joins. */
static void a_map_for_each_page(void **state)
{
    const uint64_t here = DRIVER_BASE + driver.size;
    uint8_t *data = pages(256), *back = pages(256);
    (void)state;

    for (unsigned i = 0; i < 256; i++)
        assert_int_equal(driver_map(&driver, here + i * 4096, data + (i * 37 % 256) * 4096, 4096), 0);
    fill(data, MIB, 7);
    struct nvme_command w = rw(NVM_WRITE, data, 0, 2048), r = rw(NVM_READ, back, 0, 2048);
    uint64_t *list = page();
    for (unsigned i = 1; i < 256; i++)
        list[i - 1] = here + i * 4096;
    w.prp1 = here;
    w.prp2 = driver_address(&driver, list);
    assert_int_equal(io(&w), 0);
    assert_int_equal(io(&r), 0);
    for (unsigned i = 0; i < 256; i++)
        assert_memory_equal(back + i * 4096, data + (i * 37 % 256) * 4096, 4096);
    memset(data, 0, MIB);
    r.prp1 = w.prp1;
    r.prp2 = w.prp2;
    assert_int_equal(io(&r), 0);
    assert_true(is_filled(data, MIB, 7));
    for (unsigned i = 0; i < 256; i++)
        assert_int_equal(ob_client_dma_unmap(driver.client, here + i * 4096, 4096), 0);
}

/* A completion queue that is full holds commands back, and loses none. */
static void full_completion_queue(void **state)
{
    uint8_t *data = page();
    struct nvme_command c = rw(NVM_READ, data, 0, 1);
    struct nvme_completion e;
    (void)state;

    for (int shadow = 0; shadow < 2; shadow++) {
        for (unsigned i = 0; i < 63; i++)
            driver_put(&driver, 1, &c);
        driver_ring(&driver, 1);
        for (unsigned i = 0; i < 63; i++)
            assert_true(driver_wait(&driver, 1, &e));
        /* All 63 places are taken until the head moves. */
        c.opcode = NVM_VERIFY;
        for (unsigned i = 0; i < 40; i++)
            driver_put(&driver, 1, &c);
        driver_ring(&driver, 1);
        struct nvme_command f = feature_command(false, FEAT_WRITE_CACHE, 0);
        assert_int_equal(admin(&f), 0); /* the others go on */
        assert_false(driver_poll(&driver, 1, &e));
        driver_ring_head(&driver, 1);
        for (unsigned i = 0; i < 40; i++) {
            assert_true(driver_wait(&driver, 1, &e));
            assert_int_equal(driver_status(&e), 0);
        }
        driver_ring_head(&driver, 1);
        if (!shadow)
            driver_shadow(&driver);
        c.opcode = NVM_READ;
    }
}

/* No queue of 64 is left behind by the others, all sharing one completion queue. */
static void arbitration(void **state)
{
    uint8_t *data = page();
    struct nvme_command cq = { .opcode = ADMIN_CREATE_CQ, .cdw10 = 4095u << 16 | 2, .cdw11 = 1 };
    uint32_t answered[65] = { 0 };
    struct nvme_completion e;
    (void)state;

    driver.queue[2].cq = pages(16);
    driver.queue[2].entries = 4096;
    driver.queue[2].phase = 1;
    driver.queue[2].head = 0;
    cq.prp1 = driver_address(&driver, (const void *)(uintptr_t)driver.queue[2].cq);
    assert_int_equal(admin(&cq), 0);
    for (uint32_t q = 2; q <= 64; q++) {
        struct driver_queue *dq = &driver.queue[q];
        dq->sq = page();
        dq->entries = q == 2 ? 4096 : 64;
        dq->tail = 0;
        struct nvme_command sq = { .opcode = ADMIN_CREATE_SQ, .cdw10 = 63u << 16 | q,
                                   .cdw11 = 2u << 16 | 1, .prp1 = driver_address(&driver, dq->sq) };
        assert_int_equal(admin(&sq), 0);
    }
    for (uint32_t q = 2; q <= 64; q++) {
        uint32_t entries = driver.queue[q].entries;
        driver.queue[q].entries = 64;
        for (unsigned i = 0; i < 63; i++) {
            struct nvme_command c = rw(NVM_READ, data, 0, 1);
            driver_put(&driver, q, &c);
        }
        driver.queue[q].entries = entries;
    }
    for (uint32_t q = 2; q <= 64; q++)
        driver_ring(&driver, q);
    for (unsigned i = 0; i < 63 * 63; i++) {
        assert_true(driver_wait(&driver, 2, &e));
        assert_int_equal(driver_status(&e), 0);
        assert_in_range(e.sqid, 2, 64);
        answered[e.sqid]++;
    }
    for (uint32_t q = 2; q <= 64; q++)
        assert_int_equal(answered[q], 63);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NVME_TEST(writes_and_reads),
        NVME_TEST(prp_lists_are_chained),
        NVME_TEST(sgl_lists),
        NVME_TEST(compare_finds_one_byte),
        NVME_TEST(zeroes_and_deallocates),
        NVME_TEST(copies),
        NVME_TEST(flush_and_verify),
        NVME_TEST(wrong_commands),
        NVME_TEST(queues_go_round),
        NVME_TEST(queues_go_round_in_shadow),
        NVME_TEST(full_completion_queue),
        NVME_TEST(arbitration),
        NVME_TEST(a_map_for_each_page),
    };
    return cmocka_run_group_tests(tests, fixture_serve, fixture_end);
}

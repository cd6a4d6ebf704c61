/*
 * test_dirty.c - the log of dirty pages against a model: one bit for each page of a small address space.
 */
#include <setjmp.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory/dirty.h"

#define UNIT 4096u
#define UNITS 65536u /* more than one piece of the log */

static uint64_t seed = 1;
static uint32_t random_number(uint32_t below)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

static bool bit(const uint64_t *map, uint64_t i)
{
    return map[i / 64] >> i % 64 & 1;
}

/* ---- The model: by units, which are the smallest pages ---------------------------------------------- */

static uint8_t watched[UNITS], dirty_units[UNITS];
static unsigned shift; /* of the log's pages, in units */

static void model_mark(uint64_t address, uint64_t n)
{
    uint64_t page = UINT64_C(1) << shift;
    for (uint64_t at = address / UNIT; at <= (address + n - 1) / UNIT && at < UNITS; at++)
        if (watched[at])
            memset(dirty_units + at / page * page, 1, page);
}

static void model_clear(uint64_t address, uint64_t n)
{
    uint64_t bytes = (uint64_t)UNIT << shift;
    for (uint64_t page = 0; page < UNITS >> shift; page++)
        if (page * bytes >= address && (page + 1) * bytes <= address + n)
            memset(dirty_units + (page << shift), 0, UINT64_C(1) << shift);
}

static bool model_has(uint64_t address, uint64_t n)
{
    for (uint64_t at = address / UNIT; at <= (address + n - 1) / UNIT; at++)
        if (at < UNITS && dirty_units[at])
            return true;
    return false;
}

/* ---- Against it -------------------------------------------------------------------------------------- */

static void compare(struct dirty *d, uint64_t address, uint64_t size, uint64_t page)
{
    uint64_t pages = (size - 1) / page + 1;
    uint64_t *map = calloc(pages / 64 + 1, 8);

    assert_int_equal(dirty_report(d, address, size, page, map), 0);
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t from = address + i * page, n = size - i * page < page ? size - i * page : page;
        if (bit(map, i) != model_has(from, n))
            fail_msg("page %llu of [0x%llx, +0x%llx) by 0x%llx: %d", (unsigned long long)i,
                     (unsigned long long)address, (unsigned long long)size, (unsigned long long)page,
                     bit(map, i));
    }
    for (uint64_t i = pages; i < (pages / 64 + 1) * 64; i++)
        assert_false(bit(map, i));
    free(map);
}

static struct dirty *reopen(struct dirty *d)
{
    int fd = dup(dirty_fd(d));
    dirty_free(d);
    d = dirty_open(fd);
    assert_non_null(d);
    return d;
}

static void run(unsigned log_shift, uint32_t ranges)
{
    struct dirty_range r[8];

    shift = log_shift;
    memset(watched, ranges == 0, sizeof watched);
    memset(dirty_units, 0, sizeof dirty_units);
    for (uint32_t i = 0; i < ranges; i++) {
        uint32_t from = random_number(UNITS - 100), n = 1 + random_number(UNITS / 8);
        n = n < UNITS - from ? n : UNITS - from;
        r[i] = (struct dirty_range){ (uint64_t)from * UNIT, (uint64_t)n * UNIT };
        memset(watched + from, 1, n);
    }
    struct dirty *d = dirty_new(12 + log_shift, r, ranges);
    assert_non_null(d);
    for (unsigned i = 0; i < 600; i++) {
        uint64_t address = (uint64_t)random_number(UNITS) * UNIT + random_number(UNIT);
        uint64_t n = 1 + random_number(random_number(4) ? 9000 : 30000000);
        n = n < (uint64_t)UNITS * UNIT - address ? n : (uint64_t)UNITS * UNIT - address;
        uint64_t page = (uint64_t)UNIT << random_number(5) >> (random_number(8) == 0 ? 5 : 0);
        switch (random_number(4)) {
        case 0:
        case 1:
            dirty_mark(d, address, n);
            model_mark(address, n);
            break;
        case 2: compare(d, random_number(2) ? address : address / UNIT * UNIT, n, page); break;
        default:
            dirty_clear(d, address, n);
            model_clear(address, n);
            break;
        }
        if (i % 100 == 99)
            d = reopen(d);
    }
    compare(d, 0, (uint64_t)UNITS * UNIT, UNIT);
    dirty_free(d);
}

static void test_model(void **state)
{
    (void)state;
    for (unsigned log_shift = 0; log_shift < 4; log_shift++)
        for (uint32_t ranges = 0; ranges < 8; ranges += ranges ? 3 : 1)
            run(log_shift, ranges);
}

/* ---- Ends -------------------------------------------------------------------------------------------- */

static void test_ends_of_the_address_space(void **state)
{
    uint64_t map[2] = { 0 };
    (void)state;

    struct dirty *d = dirty_new(12, NULL, 0);
    dirty_mark(d, UINT64_MAX, 1);
    dirty_mark(d, UINT64_MAX - 4096, 100000); /* as far as there is something */
    dirty_mark(d, 0, 0);
    dirty_mark(d, 0, 1);
    assert_int_equal(dirty_report(d, UINT64_MAX - 0xffff, 0x10000, 4096, map), 0);
    assert_true(map[0] == 0xc000 && map[1] == 0);
    assert_int_equal(dirty_report(d, 0, UINT64_MAX, UINT64_C(1) << 63, map), 0);
    assert_true(map[0] == 0xc003);
    dirty_clear(d, 0, UINT64_MAX); /* all but the last byte */
    map[0] = 0;
    assert_int_equal(dirty_report(d, 0, UINT64_MAX, UINT64_C(1) << 63, map), 0);
    assert_true(map[0] == 2);
    dirty_clear(d, UINT64_MAX - 4095, 4096);
    map[0] = 0;
    assert_int_equal(dirty_report(d, 0, UINT64_MAX, UINT64_C(1) << 63, map), 0);
    assert_true(map[0] == 0);
    dirty_free(d);

    const struct dirty_range all = { 0, UINT64_MAX }, last = { UINT64_MAX, 1 };
    const struct dirty_range both[] = { last, all };
    d = dirty_new(30, both, 2);
    dirty_mark(d, 5, 5);
    assert_int_equal(dirty_report(d, 0, 1u << 31, 1u << 30, map), 0);
    assert_true(map[0] == 1);
    dirty_free(d);
}

static void test_full(void **state)
{
    uint64_t map[1] = { 0 };
    unsigned marks = 0;
    (void)state;

    struct dirty *d = dirty_new(12, NULL, 0);
    while (dirty_report(d, 0, 4096, 4096, map) == 0) {
        dirty_mark(d, (uint64_t)marks++ << 40, 1);
        assert_true(marks < 1000000);
    }
    assert_true(marks > 10000);
    assert_int_equal(dirty_report(d, 0, 4096, 4096, map), -ENOSPC);
    d = reopen(d); /* it stays so */
    assert_int_equal(dirty_report(d, 0, 4096, 4096, map), -ENOSPC);
    dirty_mark(d, 0, UINT64_MAX); /* and takes no time */
    dirty_free(d);
}

static void test_a_file_that_is_no_log(void **state)
{
    int pipes[2];
    (void)state;

    assert_int_equal(pipe(pipes), 0);
    assert_null(dirty_open(pipes[0]));
    close(pipes[0]);
    close(pipes[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_ends_of_the_address_space),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_a_file_that_is_no_log),
    };
    return cmocka_run_group_tests_name("dirty", tests, NULL, NULL);
}

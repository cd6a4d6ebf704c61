/*
 * test_histogram.c - buckets without gaps, and quantiles that are right to an eighth.
 */
#include "state/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdlib.h>

static void floors_and_indexes_agree(void **unused)
{
    (void)unused;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        assert_true(histogram_floor(i) < histogram_floor(i + 1));
        assert_int_equal(histogram_index(histogram_floor(i)), i);
        assert_int_equal(histogram_index(histogram_floor(i + 1) - 1), i);
        if (i >= 8) /* no wider than an eighth of what it stands for */
            assert_true((histogram_floor(i + 1) - histogram_floor(i)) * 8 <= histogram_floor(i));
    }
    assert_int_equal(histogram_floor(HISTOGRAM_BUCKETS), UINT64_C(1) << 42);
    assert_int_equal(histogram_index(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static int ascending(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void quantiles_are_near(void **unused)
{
    enum { N = 10000 };
    static uint64_t times[N];
    static const unsigned permilles[] = { 1, 500, 900, 990, 999, 1000 };
    struct histogram h = { 0 };
    uint64_t seed = 1, sum = 0;

    (void)unused;
    for (unsigned i = 0; i < N; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        times[i] = (seed >> 33) >> (seed >> 20) % 30; /* all magnitudes up to 2 s */
        histogram_add(&h, times[i]);
        sum += times[i];
    }
    qsort(times, N, sizeof times[0], ascending);
    assert_int_equal(histogram_count(&h), N);
    assert_int_equal(h.sum, sum);
    for (unsigned i = 0; i < sizeof permilles / sizeof *permilles; i++) {
        uint64_t exact = times[permilles[i] * (N / 1000) - 1];
        uint64_t found = histogram_quantile(&h, permilles[i]);
        assert_true(found <= exact + exact / 8 + 1 && found + exact / 8 + 1 >= exact);
    }
}

static void nothing_and_nonsense(void **unused)
{
    struct histogram h = { 0 }, more = { 0 };

    (void)unused;
    assert_int_equal(histogram_count(&h), 0);
    assert_int_equal(histogram_quantile(&h, 500), 0);
    histogram_add(&h, 1000);
    histogram_add(&more, 3000);
    histogram_merge(&h, &more);
    assert_int_equal(histogram_count(&h), 2);
    assert_int_equal(h.sum, 4000);
    /* Counts that overflow are somebody's lie: any answer will do, but there has to be one. */
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        h.bucket[i] = UINT64_MAX;
    histogram_quantile(&h, 990);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floors_and_indexes_agree),
        cmocka_unit_test(quantiles_are_near),
        cmocka_unit_test(nothing_and_nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

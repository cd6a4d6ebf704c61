/*
 * histogram.c - what a reader makes of the counts.
 */
#include "state/histogram.h"

uint64_t histogram_count(const struct histogram *h)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        count += h->bucket[i];
    return count;
}

uint64_t histogram_quantile(const struct histogram *h, unsigned permille)
{
    uint64_t count = histogram_count(h), seen = 0;
    /* The smallest number of counts that is no less than this share; no product that could overflow. */
    uint64_t rank = count / 1000 * permille + (count % 1000 * permille + 999) / 1000;

    if (count == 0)
        return 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->bucket[i];
        if (seen >= rank && h->bucket[i])
            return histogram_floor(i) + (histogram_floor(i + 1) - histogram_floor(i)) / 2;
    }
    return 0;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    to->sum += from->sum;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        to->bucket[i] += from->bucket[i];
}

/*
 * histogram.h - how long things took: counts in buckets whose width grows with the time.
 *
 * Each power of two of nanoseconds has eight buckets, so a bucket is at most an eighth wide of what it
 * stands for. Fixed width, so that other processes can read one: bucket i counts the times t with
 * histogram_index(t) == i, and histogram_floor(i) <= t < histogram_floor(i + 1), but for the last one,
 * which takes all that is longer.
 */
#ifndef STATE_HISTOGRAM_H
#define STATE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS 320u /* up to 2^42 ns, more than an hour */

struct histogram {
    uint64_t sum; /* ns, of all */
    uint64_t bucket[HISTOGRAM_BUCKETS];
};

static inline unsigned histogram_index(uint64_t ns)
{
    if (ns < 8)
        return (unsigned)ns;
    unsigned power = 63u - (unsigned)__builtin_clzll(ns);
    unsigned i = (power - 2) * 8 + ((unsigned)(ns >> (power - 3)) & 7);
    return i < HISTOGRAM_BUCKETS ? i : HISTOGRAM_BUCKETS - 1;
}

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
    h->bucket[histogram_index(ns)]++;
    h->sum += ns;
}

static inline void histogram_add_many(struct histogram *h, uint64_t ns, uint64_t times)
{
    h->bucket[histogram_index(ns)] += times;
    h->sum += ns * times;
}

/* The shortest time that bucket i <= HISTOGRAM_BUCKETS counts. */
static inline uint64_t histogram_floor(unsigned i)
{
    return i < 8 ? i : (uint64_t)(8 + i % 8) << (i / 8 - 1);
}

/* For readers; the counts may be anything. All of them; and the time that `permille` of 1000 did not exceed:
 * the middle of its bucket, 0 if nothing was counted. */
uint64_t histogram_count(const struct histogram *h);
uint64_t histogram_quantile(const struct histogram *h, unsigned permille);
/* Adds what another one counted. */
void histogram_merge(struct histogram *to, const struct histogram *from);

#endif

/*
 * translate.c - how long the translation of a guest address takes, for 1 to 65,000 regions.
 *
 * Prints one JSON object. All times are nanoseconds of this thread for one operation, whatever else
 * runs on the machine (which the caches feel, though), medians of the rounds:
 *   random     at a random place of a random region, one independent of the other
 *   dependent  the same, where each address is known only when the one before is translated
 *   same       always the same region
 *   map, unmap in random order, without the messages that ask for it
 * The time to draw a random number is part of it. Regions are 4 KiB of one file, with as much space
 * between them, and were mapped in random order.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "memory/memory.h"

#define PAGE 4096u
#define STRIDE (2 * PAGE)
#define ROUNDS 9
#define LOOKUPS 2000000u
#define LARGEST 65000u

static const uint32_t sizes[] = { 1, 16, 256, LARGEST };

static uint64_t state = 88172645463325252u;

/* A counter, mixed: the next number does not wait for the one before. */
static inline uint64_t draw(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 32) * 0xd6e8feb86659fd93u;
    return z ^ z >> 32;
}

/* A number below n out of the upper half of r. */
static inline uint64_t below(uint64_t r, uint64_t n)
{
    return (r >> 32) * n >> 32;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof(*values), by_value);
    return values[ROUNDS / 2];
}

static void fail(const char *what)
{
    fprintf(stderr, "translate: %s failed\n", what);
    exit(1);
}

/* `dependent` is a constant where this is used: a processor would wait even for a masked value. */
static inline __attribute__((always_inline)) double lookups(struct memory *m, uint32_t regions,
                                                            bool dependent)
{
    struct memory_piece piece = { 0 };
    uint64_t found = 0;
    double start = now();
    for (uint32_t i = 0; i < LOOKUPS; i++) {
        uint64_t r = draw();
        if (dependent)
            r ^= (uint64_t)(uintptr_t)piece.base << 20;
        uint64_t address = below(r, regions) * STRIDE + (r & (PAGE - 64));
        found += (uint64_t)memory_translate(m, address, 64, MEMORY_WRITE, &piece, 1);
    }
    double time = now() - start;
    if (found != LOOKUPS)
        fail("memory_translate");
    return time / LOOKUPS;
}

static void shuffle(uint32_t *order, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        order[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t other = (uint32_t)below(draw(), i), swap = order[other];
        order[other] = order[i - 1];
        order[i - 1] = swap;
    }
}

static double map_all(struct memory *m, uint32_t file, const uint32_t *order, uint32_t n)
{
    double start = now();
    for (uint32_t i = 0; i < n; i++) {
        struct memory_region r = { .address = (uint64_t)order[i] * STRIDE,
                                   .size = PAGE,
                                   .offset = (uint64_t)order[i] * PAGE,
                                   .file = file,
                                   .flags = MEMORY_READ | MEMORY_WRITE };
        if (memory_map(m, i, &r))
            fail("memory_map");
    }
    return (now() - start) / n;
}

static double unmap_all(struct memory *m, const uint32_t *order, uint32_t n)
{
    uint32_t gone;
    double start = now();
    for (uint32_t i = 0; i < n; i++)
        if (memory_unmap(m, (uint64_t)order[i] * STRIDE, PAGE, &gone) < 0)
            fail("memory_unmap");
    return (now() - start) / n;
}

int main(void)
{
    static uint32_t order[LARGEST];
    int fd = memfd_create("translate", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)LARGEST * PAGE))
        fail("memfd_create");

    printf("{\"bench\": \"translate\", \"unit\": \"ns\", \"results\": [");
    for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
        uint32_t n = sizes[s];
        double random[ROUNDS], dependent[ROUNDS], same[ROUNDS], map[ROUNDS], unmap[ROUNDS];
        for (int round = 0; round < ROUNDS; round++) {
            struct memory *m = memory_new(65535, 16);
            uint32_t file = 0;
            if (!m || memory_file_add(m, dup(fd), &file) != 1)
                fail("memory_new");
            shuffle(order, n);
            map[round] = map_all(m, file, order, n);
            lookups(m, n, false); /* warm */
            random[round] = lookups(m, n, false);
            dependent[round] = lookups(m, n, true);
            same[round] = lookups(m, 1, false);
            shuffle(order, n);
            unmap[round] = unmap_all(m, order, n);
            memory_free(m);
        }
        printf("%s\n  {\"regions\": %u, \"random\": %.1f, \"dependent\": %.1f, \"same\": %.1f, "
               "\"map\": %.0f, \"unmap\": %.0f}",
               s ? "," : "", n, median(random), median(dependent), median(same), median(map),
               median(unmap));
    }
    printf("\n]}\n");
    return 0;
}

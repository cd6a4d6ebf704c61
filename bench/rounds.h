/*
 * rounds.h - what the benchmarks of two processes share: time, where the two run, medians of rounds.
 */
#ifndef BENCH_ROUNDS_H
#define BENCH_ROUNDS_H

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>

static inline double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Sorts them. */
static inline double median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, ascending);
    return values[n / 2];
}

static inline void pin(pid_t pid, const cpu_set_t *set)
{
    if (sched_setaffinity(pid, sizeof *set, set) == 0)
        return;
    fprintf(stderr, "bench: cannot pin process %d to a core\n", (int)pid);
    exit(1);
}

/* We run on the first core, the other ends (of one thread each) on the first or on the second. */
static inline void place(const cpu_set_t *all, pid_t server, pid_t child, bool two_cores)
{
    cpu_set_t core[2];
    unsigned found = 0;

    for (int i = 0; i < CPU_SETSIZE && found < 2; i++) {
        if (!CPU_ISSET(i, all))
            continue;
        CPU_ZERO(&core[found]);
        CPU_SET(i, &core[found++]);
    }
    if (found < 2) {
        fprintf(stderr, "bench: two cores are needed\n");
        exit(1);
    }
    pin(0, &core[0]);
    pin(server, &core[two_cores]);
    pin(child, &core[two_cores]);
}

#endif

/*
 * abort.h - dying at the n-th store to a block, or at the n-th system call that matters.
 *
 * abort_arm() makes the block read-only for this process. Each instruction that stores to it faults,
 * is counted, and is then let through alone (single-stepped), so a point lies before every store that
 * the processor executes, whoever compiled it (in a repeated string operation, before every 500th).
 * Calls of read, write, writev, preadv2, pwritev2, recv, recvmsg, sendmsg, setsockopt and io_uring_submit have
 * a point before and a point behind (the linker wraps them). Points are of the thread that armed.
 */
#ifndef TESTS_ABORT_H
#define TESTS_ABORT_H

#include <stddef.h>

struct abort_range {
    void *start; /* page aligned */
    size_t size;
};

/* Kills this process (SIGKILL) at point `at`, counted from 1; 0: never, only count. */
void abort_arm(const struct abort_range *ranges, int n, long at);
/* One more range, while armed. */
void abort_also(struct abort_range range);
void abort_disarm(void);
long abort_points(void);

#endif

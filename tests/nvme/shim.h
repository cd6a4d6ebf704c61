/*
 * shim.h - what a library that is loaded before all others makes of a process's file I/O, and what it
 * counts. Shared by the test and the process, in a file that SHIM_FILE names.
 */
#ifndef NVME_SHIM_H
#define NVME_SHIM_H

#include <stdatomic.h>

struct shim {
    _Atomic int fail_reads, fail_writes, fail_syncs, fail_allocations; /* errno, 0: no failure */
    _Atomic unsigned syncs;   /* fdatasync calls and durable writes that have ended */
    _Atomic unsigned writes;  /* calls */
    _Atomic unsigned slow_us; /* before each sync begins, so that whoever does not wait is seen */
};

#endif

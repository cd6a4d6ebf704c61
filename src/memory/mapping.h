/*
 * mapping.h - mappings of files that somebody else can truncate.
 *
 * An access to a page that the file no longer has raises SIGBUS. Mappings made here survive it: a
 * handler puts zeros in their place, for the whole of the mapping, and marks it broken. It is
 * installed for the process when the first mapping is made, finds mappings of all threads without a
 * lock, and passes other faults on to the handler that was there before. A program that installs
 * its own SIGBUS handler later must call the one that it replaces.
 *
 * The handler calls mmap(), which a sandbox must allow.
 *
 * Mappings of different threads are independent.
 */
#ifndef MEMORY_MAPPING_H
#define MEMORY_MAPPING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* In one process. Linux allows 65,530 mappings of all kinds; the rest is for everything else that a
 * process needs to go on, however many files a client sends. */
#define MEMORY_MAPPINGS_MAX 61440u

struct memory_mapping {
    _Atomic uintptr_t start; /* 0: not in use */
    _Atomic uintptr_t end;
    uint64_t offset; /* of `start`, in the file */
    uint32_t page;   /* size of the file's pages: of both ends a divisor */
    int prot;
    _Atomic uint32_t broken;
    uint32_t users;      /* kept by the users */
    _Atomic uint32_t next_spare; /* of the free list: index + 1 */
};

/* Number of mappings of this process that are broken. */
extern _Atomic uint32_t memory_mappings_broken;

/*
 * Maps [offset, offset + length) of fd, shared, with PROT_READ or PROT_READ | PROT_WRITE. Offset
 * and length are multiples of `page`. -ENOSPC: the kernel or the address space has no room for it,
 * or MEMORY_MAPPINGS_MAX; -EACCES: the file does not allow this access; -EINVAL: cannot be mapped.
 */
int memory_mapping_new(int fd, uint64_t offset, uint64_t length, uint32_t page, int prot,
                       struct memory_mapping **mapping);
void memory_mapping_free(struct memory_mapping *mapping);

static inline uint64_t memory_mapping_length(const struct memory_mapping *mapping)
{
    return atomic_load_explicit(&mapping->end, memory_order_relaxed) -
           atomic_load_explicit(&mapping->start, memory_order_relaxed);
}

static inline bool memory_mapping_is_broken(const struct memory_mapping *mapping)
{
    return atomic_load_explicit(&mapping->broken, memory_order_relaxed) != 0;
}

#endif

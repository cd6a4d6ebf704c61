/*
 * dirty.h - which pages of guest memory were written: the log behind memory_written().
 *
 * The log lives in a memory file, so that it outlasts the process that writes it, and has a bound: it
 * is a table of places for pieces of bitmap, each for 4096 neighbouring pages, which fills as pages are
 * written. A log that is full says so from then on (-ENOSPC), and then everything counts as written.
 *
 * A mark is in the file when dirty_mark() returns. One thread uses one log.
 */
#ifndef MEMORY_DIRTY_H
#define MEMORY_DIRTY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIRTY_MIN_PAGE 4096u
#define DIRTY_MAX_PAGE (1u << 30)
#define DIRTY_MAX_RANGES 4096u

struct dirty;

struct dirty_range {
    uint64_t address;
    uint64_t size; /* > 0, and address + size - 1 does not wrap */
};

/*
 * A log of writes to these ranges (n == 0: to everything), by pages of 2^page_shift bytes. Ranges may
 * overlap and come in any order; at most DIRTY_MAX_RANGES. NULL with errno. The file's descriptor stays
 * the log's.
 */
struct dirty *dirty_new(unsigned page_shift, const struct dirty_range *ranges, uint32_t n);
int dirty_fd(const struct dirty *d);
struct dirty *dirty_open(int fd); /* of a process that died; takes fd over if it succeeds */
void dirty_free(struct dirty *d); /* NULL is fine */

void dirty_mark(struct dirty *d, uint64_t address, uint64_t n);

/*
 * Which pages of [address, address + size), of `page` bytes each counted from `address`, hold something
 * that was written? Sets bits of
 * words of 8 bytes, which may lie anywhere, and clears none. size > 0 and does not wrap, page is a power of two. 0 or
 * -ENOSPC.
 */
int dirty_report(const struct dirty *d, uint64_t address, uint64_t size, uint64_t page,
                 void *bitmap);

/* Forgets what lies in this range. A page of the log that lies in it by half is kept: better reported
 * twice than not at all. */
void dirty_clear(struct dirty *d, uint64_t address, uint64_t size);

#endif

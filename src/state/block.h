/*
 * block.h - the memory that outlives a worker.
 *
 * Everything that a successor needs to go on lives in one block: a memory file (memfd), mapped
 * shared by the worker that runs now. It starts with a header that names its parts; what the parts
 * mean is their owners' business. A block is made for one device and used by one thread at a time.
 *
 * Stores to a block reach it in program order: a process that is killed leaves behind exactly the
 * stores that it had executed. All that must be prevented is the compiler's reordering, hence
 * block_store() and block_fence().
 */
#ifndef STATE_BLOCK_H
#define STATE_BLOCK_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define BLOCK_MAGIC UINT64_C(0x314b4c424442544f) /* "OTBDBLK1" */
#define BLOCK_LAYOUT 1u
#define BLOCK_MAX_PARTS 16u
#define BLOCK_MAX_READ 4096u

struct block_part {
    char name[16];
    uint64_t offset; /* from the start of the block, multiple of 4096 */
    uint64_t size;
};

/* The effect that is under way: see effect.h. */
struct block_effect {
    uint64_t state; /* enum effect_state, and the kind */
    uint64_t word;  /* step word when it began */
    uint64_t before; /* counter of the process when it began */
    uint64_t already; /* bytes of the same matter that earlier effects moved */
    int64_t result;
};

struct block_header {
    uint64_t magic;
    uint32_t layout;
    uint32_t part_count;
    uint64_t size;
    struct block_part parts[BLOCK_MAX_PARTS];

    /* Steps: see step.h. */
    uint64_t word;
    uint64_t undo_word;
    uint64_t undo_used;
    uint64_t step_kind; /* enum step_kind, of the last one that began */
    uint64_t messages;  /* steps of STEP_MESSAGE that were finished */

    /* Effects: see effect.h. */
    struct block_effect effect;
    uint64_t owner; /* number of the worker whose effect that is, and whose counts tell of it */
    uint64_t inherited_kind;
    int64_t inherited_result;
    uint64_t written; /* what /proc/self/io of this worker says as wchar, kept along */
    uint64_t read;    /* the same for rchar */
    uint8_t read_bytes[BLOCK_MAX_READ]; /* what the last effect read; no step undoes this */
};

struct block {
    struct block_header *h; /* mapped */
    uint8_t *undo;
    uint64_t undo_size;
    int fd;
};

/* Makes a block with these parts (name and size are used; sizes are rounded up to pages), all zeros.
 * 0 or -errno. */
int block_create(struct block *b, const struct block_part *parts, unsigned n);

/* Maps a block that another process left. Takes fd over if it succeeds; else b->h is NULL. -EPROTO: not a block of this
 * layout with these parts; -EBADMSG: one with a step that cannot be undone. */
int block_open(struct block *b, int fd, const struct block_part *parts, unsigned n);

/* Unmaps and closes. The block lives on if somebody else holds its descriptor. */
void block_close(struct block *b);

/* The start of part i. */
void *block_part(const struct block *b, unsigned i);

#define block_fence() atomic_signal_fence(memory_order_seq_cst)
#define block_store(p, v)                                  \
    do {                                                   \
        block_fence();                                     \
        *(volatile __typeof__(*(p)) *)(p) = (v);           \
        block_fence();                                     \
    } while (0)

#endif

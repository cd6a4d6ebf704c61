/*
 * index.h - the regions in the order of their addresses: a B+-tree in cache lines.
 *
 * With 65,000 regions a lookup costs what it misses in the caches, so the tree is dense: a region
 * takes 24 bytes, and a node of either kind three lines of 64 bytes. An inner node has 16 children;
 * a leaf has 8 regions: one line of addresses, two of what an access needs to know.
 *
 * The regions must not overlap, which the caller makes sure of. Nothing is allocated after
 * memory_index_init(). One thread at a time.
 */
#ifndef MEMORY_INDEX_H
#define MEMORY_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMORY_LEAF 8u
#define MEMORY_INNER 16u
#define MEMORY_INDEX_MAX (1u << 26) /* regions; their ids are smaller */

/*
 * What one word holds: bits 0-1 the flags, 12-47 where the region is in this process (page aligned;
 * 0: it has no file), 2-11 and 48-63 the id.
 */
struct memory_range {
    uint64_t start;
    uint64_t size; /* 0 only where there is no region */
    uint64_t word;
};

#define MEMORY_BASE_MASK 0x0000fffffffff000u

static inline uint64_t memory_word(const void *base, uint32_t id, uint32_t flags)
{
    return (uint64_t)(uintptr_t)base | (uint64_t)(id >> 10) << 48 | (id & 0x3ff) << 2 | flags;
}

static inline uint8_t *memory_word_base(uint64_t word)
{
    return (uint8_t *)(uintptr_t)(word & MEMORY_BASE_MASK);
}

static inline uint32_t memory_word_id(uint64_t word)
{
    return (uint32_t)(word >> 48) << 10 | ((uint32_t)word >> 2 & 0x3ff);
}

static inline uint32_t memory_word_flags(uint64_t word)
{
    return (uint32_t)word & 3;
}

/*
 * key[i] is the first address of entry i (of a child: of the first region in it), minus 1:
 * `key[i] < address` says whether to go there or beyond. Only the first entry, which needs no such
 * comparison, can begin at 0 and wrap round. The keys of entries that are not in use are
 * UINT64_MAX, which is below nothing.
 */
union memory_node {
    struct {
        uint64_t key[MEMORY_LEAF];
        struct {
            uint64_t size;
            uint64_t word;
        } entry[MEMORY_LEAF];
    } leaf;
    struct {
        uint64_t key[MEMORY_INNER];
        uint32_t child[MEMORY_INNER]; /* in lines of the pool; 0: not in use */
    } inner;
    uint64_t line[3][8];
} __attribute__((aligned(64)));

struct memory_index {
    union memory_node *root;
    uint8_t *pool;            /* of all the nodes that `max` regions can need */
    struct memory_range last; /* the one found last, or size 0 */
    uint32_t height;          /* inner nodes above a leaf */
    uint32_t count;
    uint32_t pool_used; /* in lines */
    uint32_t spare;     /* nodes that were given back, linked by child[0] */
    size_t pool_bytes;
};

/* max: 1 to MEMORY_INDEX_MAX. 0 or -ENOMEM. */
int memory_index_init(struct memory_index *x, uint32_t max);
void memory_index_free(struct memory_index *x);
void memory_index_clear(struct memory_index *x);

/* At most `max` regions at once, no two with the same start. */
void memory_index_insert(struct memory_index *x, const struct memory_range *r);

/* The region with this start must be there. */
void memory_index_erase(struct memory_index *x, uint64_t start);

/* The last region that starts at or below `address`. */
bool memory_index_floor(const struct memory_index *x, uint64_t address, struct memory_range *r);
/* The first region that starts above it. */
bool memory_index_above(const struct memory_index *x, uint64_t address, struct memory_range *r);

static inline union memory_node *memory_index_node(const struct memory_index *x, uint32_t line)
{
    return (union memory_node *)(void *)(x->pool + (size_t)line * 64);
}

/* Which entry to look at for an address: without branches, as nothing could predict them. */
static inline uint32_t memory_inner_slot(const union memory_node *node, uint64_t address)
{
    const uint64_t *key = node->inner.key;
    uint32_t at = 4u * ((uint32_t)(key[4] < address) + (uint32_t)(key[8] < address) +
                        (uint32_t)(key[12] < address));
    key += at;
    return at + (uint32_t)(key[1] < address) + (uint32_t)(key[2] < address) +
           (uint32_t)(key[3] < address);
}

static inline uint32_t memory_leaf_slot(const union memory_node *node, uint64_t address)
{
    const uint64_t *key = node->leaf.key;
    uint32_t at = 2u * ((uint32_t)(key[2] < address) + (uint32_t)(key[4] < address) +
                        (uint32_t)(key[6] < address));
    return at + (uint32_t)(key[at + 1] < address);
}

/* The region that holds the address, or false. */
static inline bool memory_index_find(struct memory_index *x, uint64_t address,
                                     struct memory_range *r)
{
    *r = x->last;
    /* For an address below the start the difference wraps round to more than any possible size. */
    if (address - r->start < r->size)
        return true;
    const union memory_node *node = x->root;
    for (uint32_t level = x->height; level > 0; level--)
        node = memory_index_node(x, node->inner.child[memory_inner_slot(node, address)]);
    /* Which of the other lines it will be is known only when the first is there. */
    __builtin_prefetch(node->line[1]);
    __builtin_prefetch(node->line[2]);
    uint32_t slot = memory_leaf_slot(node, address);
    r->start = node->leaf.key[slot] + 1;
    r->size = node->leaf.entry[slot].size;
    r->word = node->leaf.entry[slot].word;
    if (address - r->start >= r->size)
        return false;
    x->last = *r;
    return true;
}

#endif

/*
 * index.h - the regions in the order of their addresses: a B+-tree in 64-byte lines.
 *
 * A node has up to 16 entries, and beside them the 15 numbers that decide between those: a search
 * reads the numbers (two cache lines) and then one entry, in each node. In an inner node an entry
 * leads to a child, in a leaf it is a region with all that an access needs to know.
 *
 * The regions must not overlap, which the caller makes sure of. Nothing is allocated after
 * memory_index_init(). One thread at a time.
 */
#ifndef MEMORY_INDEX_H
#define MEMORY_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMORY_FAN 16u

struct memory_node;

struct memory_entry {
    uint64_t start; /* of the region; in an inner node: the lowest address that the child may hold */
    uint64_t size;  /* 0 only where there is no region */
    union {
        uint8_t *base; /* NULL: no file */
        struct memory_node *child;
    };
    uint32_t id;
    uint32_t flags;
};

struct memory_node {
    /* key[i] is entry[i + 1].start - 1, so that `key < address` says whether to go beyond entry i, or
     * UINT64_MAX, which is below nothing. Starts of entries after the first are never 0. */
    uint64_t key[MEMORY_FAN - 1];
    uint32_t count;
    uint32_t unused;
    struct memory_entry entry[MEMORY_FAN];
} __attribute__((aligned(64)));

struct memory_index {
    struct memory_node *root;
    const struct memory_entry *last; /* the one found last, or one of size 0 */
    uint32_t height;                 /* inner nodes above a leaf */
    uint32_t count;
    struct memory_node *pool; /* all nodes that `max` regions can need; untouched until used */
    uint32_t pool_used;
    uint32_t pool_size;
    struct memory_node *spare; /* given back; linked by entry[0].child */
};

/* 0 or -ENOMEM. */
int memory_index_init(struct memory_index *x, uint32_t max);
void memory_index_free(struct memory_index *x);
void memory_index_clear(struct memory_index *x);

/* At most `max` entries at once, no two with the same start. Pointers to entries end here. */
void memory_index_insert(struct memory_index *x, const struct memory_entry *e);

/* The entry with this start must be there. */
void memory_index_erase(struct memory_index *x, uint64_t start);

/* The last region that starts at or below `address`, or NULL. */
const struct memory_entry *memory_index_floor(const struct memory_index *x, uint64_t address);

/* Which entry of the node may hold the address: two rounds of comparisons without a branch, as no
 * branch could be predicted. */
static inline uint32_t memory_node_slot(const struct memory_node *node, uint64_t address)
{
    uint32_t at = 4u * ((uint32_t)(node->key[3] < address) + (uint32_t)(node->key[7] < address) +
                        (uint32_t)(node->key[11] < address));
    const uint64_t *key = node->key + at;
    return at + (uint32_t)(key[0] < address) + (uint32_t)(key[1] < address) +
           (uint32_t)(key[2] < address);
}

/* The region that holds the address, or NULL. */
static inline const struct memory_entry *memory_index_find(struct memory_index *x, uint64_t address)
{
    const struct memory_entry *e = x->last;
    /* For an address below the start the difference wraps round to more than any possible size. */
    if (address - e->start < e->size)
        return e;
    const struct memory_node *node = x->root;
    for (uint32_t level = x->height; level > 0; level--)
        node = node->entry[memory_node_slot(node, address)].child;
    e = &node->entry[memory_node_slot(node, address)];
    if (address - e->start >= e->size)
        return NULL;
    x->last = e;
    return e;
}

#endif

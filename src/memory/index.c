/* index.c - insertion and removal in the tree of regions. See index.h. */
#include "memory/index.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define LINES (sizeof(union memory_node) / 64)
#define LEVELS 16 /* more than MEMORY_INDEX_MAX regions need */

/* The way from the root to a leaf. */
struct path {
    union memory_node *node[LEVELS];
    uint32_t slot[LEVELS];
};

/* Nodes are changed as lists of items. In those of an inner node `word` is the child. */
struct list {
    uint32_t count;
    struct memory_range item[2 * MEMORY_INNER + 1]; /* two nodes, and one that comes */
};

/* Both kinds are at least half full, except for the root and the last node of each level. */
static uint32_t fan(bool leaf)
{
    return leaf ? MEMORY_LEAF : MEMORY_INNER;
}

int memory_index_init(struct memory_index *x, uint32_t max)
{
    size_t leaves = max / (MEMORY_LEAF / 2) + 1;
    size_t nodes = leaves + leaves / (MEMORY_INNER / 2 - 1) + LEVELS;
    size_t bytes = (nodes + 1) * sizeof(union memory_node);
    /* Pages of it come into being as they are used. */
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    *x = (struct memory_index){ .pool = p, .pool_bytes = bytes };
    memory_index_clear(x);
    return 0;
}

void memory_index_free(struct memory_index *x)
{
    if (x->pool)
        munmap(x->pool, x->pool_bytes);
    *x = (struct memory_index){ 0 };
}

static uint32_t node_new(struct memory_index *x)
{
    uint32_t line = x->spare;
    if (line != 0) {
        x->spare = memory_index_node(x, line)->inner.child[0];
    } else {
        line = x->pool_used;
        x->pool_used += LINES;
    }
    return line;
}

static void node_free(struct memory_index *x, uint32_t line)
{
    memory_index_node(x, line)->inner.child[0] = x->spare;
    x->spare = line;
}

/* Appends the items of a node. */
static void load(const union memory_node *node, bool leaf, struct list *list)
{
    struct memory_range *item = &list->item[list->count];
    uint32_t n = 0;
    if (leaf) {
        for (; n < MEMORY_LEAF && node->leaf.entry[n].size > 0; n++)
            item[n] = (struct memory_range){ node->leaf.key[n] + 1, node->leaf.entry[n].size,
                                             node->leaf.entry[n].word };
    } else {
        for (; n < MEMORY_INNER && node->inner.child[n] != 0; n++)
            item[n] = (struct memory_range){ node->inner.key[n] + 1, 0, node->inner.child[n] };
    }
    list->count += n;
}

/* Fills a node with n items. */
static void store(union memory_node *node, bool leaf, const struct memory_range *item, uint32_t n)
{
    memset(node, 0, sizeof(*node));
    for (uint32_t i = 0; i < fan(leaf); i++) {
        uint64_t key = i < n ? item[i].start - 1 : UINT64_MAX;
        if (leaf) {
            node->leaf.key[i] = key;
            node->leaf.entry[i].size = i < n ? item[i].size : 0;
            node->leaf.entry[i].word = i < n ? item[i].word : 0;
        } else {
            node->inner.key[i] = key;
            node->inner.child[i] = i < n ? (uint32_t)item[i].word : 0;
        }
    }
}

static void list_insert(struct list *list, uint32_t at, const struct memory_range *item)
{
    memmove(&list->item[at + 1], &list->item[at], (list->count - at) * sizeof(*item));
    list->item[at] = *item;
    list->count++;
}

static void list_remove(struct list *list, uint32_t at)
{
    list->count--;
    memmove(&list->item[at], &list->item[at + 1], (list->count - at) * sizeof(*list->item));
}

void memory_index_clear(struct memory_index *x)
{
    x->pool_used = LINES; /* line 0 stands for no node */
    x->spare = 0;
    x->height = 0;
    x->count = 0;
    x->last = (struct memory_range){ 0 };
    x->root = memory_index_node(x, node_new(x));
    store(x->root, true, NULL, 0);
}

static void descend(const struct memory_index *x, uint64_t address, struct path *path)
{
    union memory_node *node = x->root;
    for (uint32_t level = 0; level < x->height; level++) {
        uint32_t slot = memory_inner_slot(node, address);
        path->node[level] = node;
        path->slot[level] = slot;
        node = memory_index_node(x, node->inner.child[slot]);
    }
    path->node[x->height] = node;
    path->slot[x->height] = memory_leaf_slot(node, address);
}

static struct memory_range region_at(const union memory_node *leaf, uint32_t slot)
{
    return (struct memory_range){ leaf->leaf.key[slot] + 1, leaf->leaf.entry[slot].size,
                                  leaf->leaf.entry[slot].word };
}

bool memory_index_floor(const struct memory_index *x, uint64_t address, struct memory_range *r)
{
    struct path path;
    descend(x, address, &path);
    *r = region_at(path.node[x->height], path.slot[x->height]);
    return r->size > 0 && r->start <= address;
}

/* Is the node at this level of the path the last one of its level? */
static bool is_last(const struct path *path, uint32_t level)
{
    while (level-- > 0) {
        const uint32_t *child = path->node[level]->inner.child;
        uint32_t slot = path->slot[level];
        if (slot + 1 < MEMORY_INNER && child[slot + 1] != 0)
            return false;
    }
    return true;
}

bool memory_index_above(const struct memory_index *x, uint64_t address, struct memory_range *r)
{
    struct path path;
    descend(x, address, &path);
    uint32_t level = x->height, slot = path.slot[level];
    *r = region_at(path.node[level], slot);
    if (r->size > 0 && r->start > address)
        return true; /* the first of all */
    if (slot + 1 < MEMORY_LEAF) {
        *r = region_at(path.node[level], slot + 1);
        if (r->size > 0)
            return true;
    }
    /* The first of the next leaf. */
    if (is_last(&path, level))
        return false;
    do
        slot = path.slot[--level] + 1;
    while (slot == MEMORY_INNER || path.node[level]->inner.child[slot] == 0);
    const union memory_node *node = path.node[level];
    for (; level < x->height; level++, slot = 0)
        node = memory_index_node(x, node->inner.child[slot]);
    *r = region_at(node, 0);
    return true;
}

static void grow(struct memory_index *x, const struct memory_range *upper)
{
    uint32_t line = (uint32_t)(((uint8_t *)x->root - x->pool) / 64);
    struct memory_range item[2] = { { .start = 0, .word = line }, *upper };
    x->root = memory_index_node(x, node_new(x));
    x->height++;
    store(x->root, false, item, 2);
}

/* Spreads a list evenly over the children `low` and `low + 1` of a parent. */
static void spread(struct memory_index *x, union memory_node *parent, uint32_t low, bool leaf,
                   const struct list *all)
{
    uint32_t half = all->count / 2;
    const uint32_t *child = parent->inner.child + low;
    store(memory_index_node(x, child[0]), leaf, all->item, half);
    store(memory_index_node(x, child[1]), leaf, all->item + half, all->count - half);
    parent->inner.key[low + 1] = all->item[half].start - 1;
}

/* A child of `parent` is too small for its list, by one. Has the child before or after it room? */
static bool push_over(struct memory_index *x, union memory_node *parent, uint32_t slot, bool leaf,
                      const struct list *list)
{
    const uint32_t *child = parent->inner.child;
    struct list all = { 0 };
    if (slot > 0) {
        load(memory_index_node(x, child[slot - 1]), leaf, &all);
        if (all.count < fan(leaf)) {
            memcpy(all.item + all.count, list->item, list->count * sizeof(*list->item));
            all.count += list->count;
            spread(x, parent, slot - 1, leaf, &all);
            return true;
        }
    }
    if (slot + 1 < MEMORY_INNER && child[slot + 1] != 0) {
        all = *list;
        load(memory_index_node(x, child[slot + 1]), leaf, &all);
        if (all.count < list->count + fan(leaf)) {
            spread(x, parent, slot, leaf, &all);
            return true;
        }
    }
    return false;
}

void memory_index_insert(struct memory_index *x, const struct memory_range *r)
{
    struct path path;
    descend(x, r->start, &path);
    x->last = (struct memory_range){ 0 };
    x->count++;

    struct memory_range item = *r;
    for (uint32_t level = x->height;; level--) {
        union memory_node *node = path.node[level];
        bool leaf = level == x->height;
        struct list list = { 0 };
        load(node, leaf, &list);
        uint32_t at = path.slot[level];
        at += at < list.count && list.item[at].start < item.start;
        list_insert(&list, at, &item);
        if (list.count <= fan(leaf)) {
            store(node, leaf, list.item, list.count);
            return;
        }
        uint32_t keep = list.count - list.count / 2;
        if (at == list.count - 1 && is_last(&path, level)) {
            /* Regions often come in ascending order: then full nodes are left behind, not half
             * ones. An inner node must have two children, so that each child has a neighbour. */
            keep = leaf ? MEMORY_LEAF : MEMORY_INNER - 1;
        } else if (level > 0 &&
                   push_over(x, path.node[level - 1], path.slot[level - 1], leaf, &list)) {
            return;
        }
        uint32_t upper = node_new(x);
        store(node, leaf, list.item, keep);
        store(memory_index_node(x, upper), leaf, list.item + keep, list.count - keep);
        item = (struct memory_range){ .start = list.item[keep].start, .word = upper };
        if (level == 0) {
            grow(x, &item);
            return;
        }
    }
}

/* The children `low` and `low + 1` of a parent become one, if one can hold all, or share evenly. */
static void join(struct memory_index *x, union memory_node *parent, uint32_t low, bool leaf)
{
    uint32_t left = parent->inner.child[low];
    uint32_t right = parent->inner.child[low + 1];
    struct list all = { 0 };
    load(memory_index_node(x, left), leaf, &all);
    load(memory_index_node(x, right), leaf, &all);
    if (all.count > fan(leaf)) {
        spread(x, parent, low, leaf, &all);
        return;
    }
    store(memory_index_node(x, left), leaf, all.item, all.count);
    node_free(x, right);
    all.count = 0;
    load(parent, false, &all);
    list_remove(&all, low + 1);
    store(parent, false, all.item, all.count);
}

/*
 * The leaf of the path has a new first region. Its key in the inner nodes must follow: a region
 * that comes to the leaf before may reach up to this one, and is found only by addresses below the
 * key.
 */
static void move_key(const struct memory_index *x, struct path *path, uint64_t start)
{
    uint32_t top = x->height;
    do {
        if (top-- == 0)
            return; /* the first leaf of all */
    } while (path->slot[top] == 0);
    for (; top < x->height; top++)
        path->node[top]->inner.key[path->slot[top]] = start - 1;
}

void memory_index_erase(struct memory_index *x, uint64_t start)
{
    struct path path;
    descend(x, start, &path);
    x->last = (struct memory_range){ 0 };
    x->count--;

    uint32_t level = x->height;
    struct list list = { 0 };
    load(path.node[level], true, &list);
    list_remove(&list, path.slot[level]);
    store(path.node[level], true, list.item, list.count);
    if (path.slot[level] == 0 && list.count > 0)
        move_key(x, &path, list.item[0].start);
    while (level > 0 && list.count < fan(level == x->height) / 2) {
        level--;
        uint32_t slot = path.slot[level];
        join(x, path.node[level], slot > 0 ? slot - 1 : 0, level + 1 == x->height);
        list.count = 0;
        load(path.node[level], false, &list);
    }
    while (x->height > 0 && x->root->inner.child[1] == 0) {
        uint32_t line = (uint32_t)(((uint8_t *)x->root - x->pool) / 64);
        x->root = memory_index_node(x, x->root->inner.child[0]);
        x->height--;
        node_free(x, line);
    }
}

/* index.c - insertion and removal in the tree of regions. See index.h. */
#include "memory/index.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#define FAN MEMORY_FAN
#define LEAST (FAN / 2) /* entries of a node, except for the root and the last node of each level */
#define LEVELS 16       /* more than 2^32 regions need */

/* The way from the root to a leaf. */
struct path {
    struct memory_node *node[LEVELS];
    uint32_t slot[LEVELS];
};

static const struct memory_entry no_entry;

int memory_index_init(struct memory_index *x, uint32_t max)
{
    /* With LEAST entries in a node, and one exception in each level, n regions need no more. */
    size_t nodes = (size_t)max / (LEAST - 1) + LEVELS + 1;
    void *p = mmap(NULL, nodes * sizeof(struct memory_node), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    *x = (struct memory_index){ .pool = p, .pool_size = (uint32_t)nodes };
    memory_index_clear(x);
    return 0;
}

void memory_index_free(struct memory_index *x)
{
    if (x->pool)
        munmap(x->pool, x->pool_size * sizeof(struct memory_node));
    *x = (struct memory_index){ .last = &no_entry };
}

static struct memory_node *node_new(struct memory_index *x)
{
    struct memory_node *node = x->spare;
    if (node)
        x->spare = node->entry[0].child;
    else
        node = &x->pool[x->pool_used++];
    node->count = 0;
    return node;
}

static void node_free(struct memory_index *x, struct memory_node *node)
{
    node->entry[0].child = x->spare;
    x->spare = node;
}

/* Makes the keys follow the entries, after any change of those. */
static void node_rekey(struct memory_node *node)
{
    for (uint32_t i = 1; i < FAN; i++)
        node->key[i - 1] = i < node->count ? node->entry[i].start - 1 : UINT64_MAX;
    if (node->count == 0)
        node->entry[0] = no_entry;
}

void memory_index_clear(struct memory_index *x)
{
    x->pool_used = 0;
    x->spare = NULL;
    x->height = 0;
    x->count = 0;
    x->last = &no_entry;
    x->root = node_new(x);
    node_rekey(x->root);
}

static void node_insert(struct memory_node *node, uint32_t at, const struct memory_entry *e)
{
    memmove(&node->entry[at + 1], &node->entry[at], (node->count - at) * sizeof(*e));
    node->entry[at] = *e;
    node->count++;
    node_rekey(node);
}

static void node_remove(struct memory_node *node, uint32_t at)
{
    node->count--;
    memmove(&node->entry[at], &node->entry[at + 1], (node->count - at) * sizeof(*node->entry));
    node_rekey(node);
}

static void descend(const struct memory_index *x, uint64_t address, struct path *path)
{
    struct memory_node *node = x->root;
    for (uint32_t level = 0;; level++) {
        path->node[level] = node;
        path->slot[level] = memory_node_slot(node, address);
        if (level == x->height)
            return;
        node = node->entry[path->slot[level]].child;
    }
}

const struct memory_entry *memory_index_floor(const struct memory_index *x, uint64_t address)
{
    struct path path;
    descend(x, address, &path);
    const struct memory_entry *e = &path.node[x->height]->entry[path.slot[x->height]];
    if (e->size > 0 && e->start <= address)
        return e;
    /* The leaf's first region starts above: it is the last one of the leaf before, if there is one. */
    uint32_t level = x->height;
    do {
        if (level-- == 0)
            return NULL;
    } while (path.slot[level] == 0);
    const struct memory_node *node = path.node[level]->entry[path.slot[level] - 1].child;
    while (++level < x->height)
        node = node->entry[node->count - 1].child;
    return &node->entry[node->count - 1];
}

/* Is the node at this level of the path the last one of its level? */
static bool is_last(const struct path *path, uint32_t level)
{
    while (level-- > 0)
        if (path->slot[level] != path->node[level]->count - 1)
            return false;
    return true;
}

/* Inserts into a full node, the upper part of which goes to a new one. */
static struct memory_node *node_split(struct memory_index *x, struct memory_node *node, uint32_t at,
                                      const struct memory_entry *e, uint32_t keep)
{
    struct memory_entry all[FAN + 1];
    memcpy(all, node->entry, at * sizeof(*e));
    all[at] = *e;
    memcpy(all + at + 1, node->entry + at, (FAN - at) * sizeof(*e));

    struct memory_node *upper = node_new(x);
    upper->count = FAN + 1 - keep;
    memcpy(upper->entry, all + keep, upper->count * sizeof(*e));
    node_rekey(upper);
    node->count = keep;
    memcpy(node->entry, all, keep * sizeof(*e));
    node_rekey(node);
    return upper;
}

void memory_index_insert(struct memory_index *x, const struct memory_entry *e)
{
    struct path path;
    descend(x, e->start, &path);
    x->last = &no_entry;
    x->count++;

    uint32_t level = x->height;
    struct memory_node *node = path.node[level];
    uint32_t at = path.slot[level];
    at += at < node->count && node->entry[at].start < e->start;

    struct memory_entry up = *e;
    while (node->count == FAN) {
        /* Regions often arrive in ascending order: then full nodes are left behind, not half ones. */
        bool append = at == FAN && is_last(&path, level);
        struct memory_node *upper = node_split(x, node, at, &up, append ? FAN - 1 : FAN / 2 + 1);
        up = (struct memory_entry){ .start = upper->entry[0].start, .child = upper };
        if (level == 0) {
            struct memory_node *root = node_new(x);
            root->entry[0] = (struct memory_entry){ .child = node };
            root->entry[1] = up;
            root->count = 2;
            node_rekey(root);
            x->root = root;
            x->height++;
            return;
        }
        level--;
        node = path.node[level];
        at = path.slot[level] + 1;
    }
    node_insert(node, at, &up);
}

/* Entries low and low + 1 of the parent: becomes one node, returns true; or they share evenly. */
static bool join(struct memory_index *x, struct memory_node *parent, uint32_t low)
{
    struct memory_node *left = parent->entry[low].child;
    struct memory_node *right = parent->entry[low + 1].child;
    uint32_t total = left->count + right->count;
    uint32_t want = total <= FAN ? total : total / 2;

    if (want >= left->count) {
        uint32_t n = want - left->count;
        memcpy(left->entry + left->count, right->entry, n * sizeof(*left->entry));
        memmove(right->entry, right->entry + n, (right->count - n) * sizeof(*left->entry));
    } else {
        uint32_t n = left->count - want;
        memmove(right->entry + n, right->entry, right->count * sizeof(*left->entry));
        memcpy(right->entry, left->entry + want, n * sizeof(*left->entry));
    }
    left->count = want;
    right->count = total - want;
    node_rekey(left);
    if (right->count == 0) {
        node_free(x, right);
        node_remove(parent, low + 1);
        return true;
    }
    node_rekey(right);
    parent->entry[low + 1].start = right->entry[0].start;
    node_rekey(parent);
    return false;
}

void memory_index_erase(struct memory_index *x, uint64_t start)
{
    struct path path;
    descend(x, start, &path);
    x->last = &no_entry;
    x->count--;

    uint32_t level = x->height;
    node_remove(path.node[level], path.slot[level]);
    while (level > 0 && path.node[level]->count < LEAST) {
        level--;
        uint32_t slot = path.slot[level];
        if (!join(x, path.node[level], slot > 0 ? slot - 1 : 0))
            break;
    }
    while (x->height > 0 && x->root->count == 1) {
        struct memory_node *root = x->root;
        x->root = root->entry[0].child;
        x->height--;
        node_free(x, root);
    }
}

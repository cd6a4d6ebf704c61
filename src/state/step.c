/*
 * step.c - the undo log.
 *
 * An entry is a head and the old bytes, padded to 8. Its bytes are complete before undo_used counts
 * it, and undo_used counts it before step_touch() returns.
 */
#include "state/step.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

struct head {
    uint32_t size;     /* of the old bytes */
    uint32_t previous; /* size of the whole entry before this one */
    uint64_t offset;   /* in the block */
};

static uint64_t entry_size(uint64_t n)
{
    return sizeof(struct head) + (n + 7) / 8 * 8;
}

void step_begin(struct block *b, enum step_kind kind)
{
    block_store(&b->h->undo_used, 0);
    block_store(&b->h->step_kind, kind);
    block_store(&b->h->undo_word, b->h->word);
}

static void overflow(void)
{
    static const char line[] = "outboard: a step touched more than its undo log holds\n";
    struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

    /* A log that nobody reads must not keep it alive. */
    ssize_t ignored = poll(&p, 1, 0) == 1 ? write(STDERR_FILENO, line, sizeof line - 1) : 0;
    (void)ignored;
    _exit(70);
}

/* The last entry, from the size that the one after it will carry. */
static struct head *last_entry(const struct block *b, uint32_t size)
{
    return (struct head *)(void *)(b->undo + b->h->undo_used - size);
}

/* undo_used and the size of the last entry must change together: the size of the entry that ends at
 * undo_used stands behind it, in the place of the next head. */
static uint32_t *trailer(const struct block *b, uint64_t used)
{
    return &((struct head *)(void *)(b->undo + used))->previous;
}

void step_touch(struct block *b, void *p, size_t n)
{
    uint64_t used = b->h->undo_used;
    uint64_t offset = (uint64_t)((uint8_t *)p - (uint8_t *)b->h);

    if (n == 0)
        return;
    if (used) {
        const struct head *last = last_entry(b, *trailer(b, used));
        if (last->offset <= offset && offset + n <= last->offset + last->size)
            return;
    }
    uint64_t size = entry_size(n);
    if (n > b->undo_size || used + size + sizeof(struct head) > b->undo_size)
        overflow();
    struct head *head = (struct head *)(void *)(b->undo + used);
    head->size = (uint32_t)n;
    head->offset = offset;
    if (!used)
        head->previous = 0;
    memcpy(head + 1, p, n);
    *trailer(b, used + size) = (uint32_t)size;
    block_store(&b->h->undo_used, used + size);
}

void step_commit(struct block *b, uint32_t run, uint32_t reply)
{
    uint64_t sequence = (b->h->word >> 40) + 1;
    block_store(&b->h->word, sequence << 40 | (uint64_t)(run & STEP_MAX_BYTES) << 20 |
                                 (reply & STEP_MAX_BYTES));
    b->h->messages += b->h->step_kind == STEP_MESSAGE;
}

/* Newest first, so that a place that was touched twice gets its oldest bytes. */
void step_cancel(struct block *b)
{
    while (b->h->undo_used) {
        struct head *head = last_entry(b, *trailer(b, b->h->undo_used));
        memcpy((uint8_t *)b->h + head->offset, head + 1, head->size);
        block_store(&b->h->undo_used, (uint64_t)((uint8_t *)head - b->undo));
    }
}

bool step_recover(struct block *b)
{
    if (!step_is_open(b->h))
        return false;
    step_cancel(b);
    block_store(&b->h->undo_word, ~b->h->word); /* no step is open until the next begins */
    return true;
}

bool step_undo_makes_sense(const struct block *b)
{
    uint64_t used = b->h->undo_used, parts = (uint64_t)(b->undo - (uint8_t *)b->h);

    if (!step_is_open(b->h))
        return true;
    if (used % 8 || used > b->undo_size || b->undo_size - used < sizeof(struct head))
        return false;
    while (used) {
        uint64_t size = *trailer(b, used);
        if (size < sizeof(struct head) || size > used || size % 8)
            return false;
        used -= size;
        const struct head *head = (const struct head *)(const void *)(b->undo + used);
        /* In the header, there is one thing that steps change. */
        if (entry_size(head->size) != size || head->offset > parts || head->size > parts - head->offset ||
            head->offset < offsetof(struct block_header, inherited_kind))
            return false;
    }
    return true;
}

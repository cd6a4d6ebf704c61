/*
 * step.h - a step changes a block all or nothing.
 *
 * Before a range of the block is changed inside a step, its old bytes go to the undo log
 * (step_touch). The step becomes visible by one store of 8 bytes, the step word:
 *
 *     bits 40-63  sequence number, one more with each step
 *     bits 20-39  run: bytes of the client's stream that have been run, from the head of the socket
 *     bits  0-19  reply: bytes of the reply buffer that are to be sent
 *
 * The undo log carries the word under which it was begun. While the two agree the step is not done,
 * and a successor puts the old bytes back; the store of the new word makes the log void, the changes
 * valid, the message run and its reply ready, all at once.
 *
 * A step that fails in the middle, say by a message that turns out to be impossible, takes the same
 * way back: step_cancel().
 */
#ifndef STATE_STEP_H
#define STATE_STEP_H

#include "state/block.h"
#include <stdbool.h>

#define STEP_MAX_BYTES ((1u << 20) - 1)

static inline uint32_t step_run(const struct block *b)
{
    return (uint32_t)(b->h->word >> 20) & STEP_MAX_BYTES;
}

static inline uint32_t step_reply(const struct block *b)
{
    return (uint32_t)b->h->word & STEP_MAX_BYTES;
}

/* What began a step: for who asks of what a worker died. */
enum step_kind {
    STEP_OTHER = 1, /* a timer, a backend, a start */
    STEP_MESSAGE,
};

/* Begins a step. Steps do not nest. */
void step_begin(struct block *b, enum step_kind kind);

/* Did a worker die inside a step? For who only reads the header. */
static inline bool step_is_open(const struct block_header *h)
{
    return h->undo_word == h->word;
}

/* Keeps the bytes of [p, p + n), which lie in a part of the block, for the way back. A piece that was
 * just touched costs nothing. More than the log can hold ends the process with a line of log: only a
 * device that touches without end gets there, and its successor finds the step undone. */
void step_touch(struct block *b, void *p, size_t n);

/* All that the step did is valid from here on. */
void step_commit(struct block *b, uint32_t run, uint32_t reply);

/* Puts back all that was touched; the step goes on and may touch anew. */
void step_cancel(struct block *b);

/* For a successor, before anything else: undoes a step that was not done. True if there was one. */
bool step_recover(struct block *b);

/* Of a block of which nobody knows who wrote it: does its undo log stay inside itself, and the block? */
bool step_undo_makes_sense(const struct block *b);

#endif

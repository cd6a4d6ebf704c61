/*
 * held.h - descriptors under names.
 */
#ifndef KEEPER_HELD_H
#define KEEPER_HELD_H

#include <stdint.h>

struct held {
    uint32_t name;
    int fd;
};

/* In the order of names. */
struct held_table {
    struct held *held;
    uint32_t count;
    uint32_t room;
};

/* Holds fd, which becomes the table's in every case, instead of what had this name. 0, -ENOSPC (as many
 * as `most` are there) or -ENOMEM. */
int held_put(struct held_table *t, uint32_t name, int fd, uint32_t most);

void held_drop(struct held_table *t, uint32_t name);
void held_drop_all(struct held_table *t);

/* -1: there is none. It stays the table's. */
int held_get(const struct held_table *t, uint32_t name);

/* The lowest name above this one; 0: none. */
uint32_t held_next(const struct held_table *t, uint32_t after);

#endif

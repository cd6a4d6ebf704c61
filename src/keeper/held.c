/*
 * held.c - a sorted array: a session has a few dozen descriptors, and changes them seldom.
 */
#include "keeper/held.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The place of the first entry whose name is not below this one. */
static uint32_t place(const struct held_table *t, uint32_t name)
{
    uint32_t low = 0, high = t->count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (t->held[middle].name < name)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int make_room(struct held_table *t, uint32_t most)
{
    if (t->count >= most)
        return -ENOSPC;
    if (t->count < t->room)
        return 0;
    uint32_t room = t->room ? t->room * 2 : 64;
    struct held *held = realloc(t->held, room * sizeof *held);
    if (!held)
        return -ENOMEM;
    t->held = held;
    t->room = room;
    return 0;
}

int held_put(struct held_table *t, uint32_t name, int fd, uint32_t most)
{
    uint32_t at = place(t, name);

    if (at < t->count && t->held[at].name == name) {
        close(t->held[at].fd);
        t->held[at].fd = fd;
        return 0;
    }
    int ret = make_room(t, most);
    if (ret < 0) {
        close(fd);
        return ret;
    }
    memmove(&t->held[at + 1], &t->held[at], (t->count - at) * sizeof *t->held);
    t->held[at] = (struct held){ name, fd };
    t->count++;
    return 0;
}

void held_drop(struct held_table *t, uint32_t name)
{
    uint32_t at = place(t, name);

    if (at == t->count || t->held[at].name != name)
        return;
    close(t->held[at].fd);
    t->count--;
    memmove(&t->held[at], &t->held[at + 1], (t->count - at) * sizeof *t->held);
}

void held_drop_all(struct held_table *t)
{
    for (uint32_t i = 0; i < t->count; i++)
        close(t->held[i].fd);
    free(t->held);
    *t = (struct held_table){ 0 };
}

int held_get(const struct held_table *t, uint32_t name)
{
    uint32_t at = place(t, name);

    return at < t->count && t->held[at].name == name ? t->held[at].fd : -1;
}

uint32_t held_next(const struct held_table *t, uint32_t after)
{
    uint32_t at = after == UINT32_MAX ? t->count : place(t, after + 1);

    return at < t->count ? t->held[at].name : 0;
}

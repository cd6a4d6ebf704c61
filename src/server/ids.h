/*
 * ids.h - free numbers of a table, lowest first as far as they were never used.
 */
#ifndef SERVER_IDS_H
#define SERVER_IDS_H

#include <stdint.h>
#include <stdlib.h>

struct id_pool {
    uint32_t *free; /* a stack of numbers that were given back */
    uint32_t count;
    uint32_t next; /* the lowest that was never used */
    uint32_t end;
};

static inline int ids_init(struct id_pool *p, uint32_t end)
{
    *p = (struct id_pool){ .free = malloc(end * sizeof *p->free), .end = end };
    return p->free ? 0 : -1;
}

/* A free number, or `end` of the pool: all are taken. */
static inline uint32_t ids_take(struct id_pool *p)
{
    if (p->count)
        return p->free[--p->count];
    return p->next < p->end ? p->next++ : p->end;
}

static inline void ids_give(struct id_pool *p, uint32_t id)
{
    p->free[p->count++] = id;
}

static inline void ids_reset(struct id_pool *p)
{
    p->count = p->next = 0;
}

#endif

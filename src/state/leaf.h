/*
 * leaf.h - fields as a stream has them: arrays of structures taken apart.
 */
#ifndef STATE_LEAF_H
#define STATE_LEAF_H

#include "state/fields.h"

#define LEAF_NAME 64u

/* `structs` groups of `count` elements; the first group is at base, the next one `stride` behind. */
struct leaf {
    char name[LEAF_NAME];
    const char *section;
    uint32_t section_index;
    uint32_t index; /* in its section */
    uint8_t kind;   /* enum ob_field_kind */
    uint8_t flags;
    uint32_t size;
    uint32_t count;
    uint32_t structs;
    uint32_t stride;
    uint8_t *base;
    bool seen; /* by the loader */
};

static inline uint64_t leaf_elements(const struct leaf *l)
{
    return (uint64_t)l->structs * l->count;
}

static inline uint64_t leaf_bytes(const struct leaf *l)
{
    return leaf_elements(l) * l->size;
}

struct fields {
    char plugin[32];
    unsigned sections;
    struct fields_section section[FIELDS_SECTIONS];
    unsigned leaves; /* of the stream */
    unsigned all;    /* and those behind them, which are not in it: OB_FIELD_RUNTIME */
    struct leaf *leaf;
    uint8_t *description; /* the whole record */
    uint64_t description_size;
    uint64_t size;
};

/* What follows from plugin, sections and leaves. 0 or -ENOMEM. */
int fields_finish(struct fields *s);

/* Of a record. */
#define STREAM_MAGIC 0x534d424fu /* "OBMS" */
#define STREAM_FORMAT 1u
#define STREAM_HEAD 16u
#define STREAM_TAIL 4u
enum stream_record { STREAM_DESCRIPTION = 1, STREAM_VALUE, STREAM_END };

static inline void fields_put(uint8_t *p, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static inline uint64_t fields_get(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

/* The head of a record, and the beginning of its checksum. */
uint32_t fields_head(uint8_t head[STREAM_HEAD], enum stream_record what, uint64_t length, uint64_t at);

/* Times, on their way out and in. */
uint64_t fields_time_out(uint64_t time, uint64_t moment);
uint64_t fields_time_in(uint64_t distance, uint64_t moment);

#endif

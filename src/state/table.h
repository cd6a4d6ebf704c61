/*
 * table.h - the table of a device's fields, in the block beside its state: for another build.
 *
 * A block is laid out as the build that made it likes. With the table in it, another build finds the
 * device's state in there by the names of its fields: those of the stream (fields.h), and those that are
 * OB_FIELD_RUNTIME besides.
 */
#ifndef STATE_TABLE_H
#define STATE_TABLE_H

#include "state/leaf.h"

struct table_field {
    char name[LEAF_NAME];
    uint8_t kind; /* enum ob_field_kind */
    uint8_t flags;
    uint16_t reserved;
    uint32_t size;    /* of an element */
    uint32_t count;   /* of elements in a group */
    uint32_t structs; /* groups, */
    uint32_t stride;  /* which are so far apart */
    uint64_t offset;  /* of the first, in the state */
};

#define TABLE_WITHOUT_AREAS(bar) (1u << (bar))
#define TABLE_WITHOUT_MSIX (1u << 31)

struct table {
    char plugin[32];
    uint32_t version; /* of the fields */
    uint32_t layout;  /* of all other parts of the block */
    uint64_t shape;   /* a number for what else has to be the same of a device that takes over */
    uint32_t without; /* bits of what the device does without, though it is declared: TABLE_WITHOUT_* */
    uint32_t fields;
    struct table_field field[];
};

static inline uint64_t table_size(uint32_t fields)
{
    return sizeof(struct table) + (uint64_t)fields * sizeof(struct table_field);
}

/* Adds the fields of a state (NULL: none) to a table with room for fields_count() of them. */
void table_fill(struct table *t, const struct ob_field *fields);

/*
 * The fields of a state of `state_size` bytes at `state`, as a table of another build says, `size` bytes
 * of it: a stream of one section can be read from there. NULL with a sentence: the table makes no sense.
 */
struct fields *table_open(const struct table *t, uint64_t size, const char *section, void *state,
                          uint64_t state_size, char why[FIELDS_WHY]);

/* Of fields of one section each. Are all of `old` in `new`, as they are? 0, or -EINVAL with a sentence. So a
 * build that has those of `old` can take over from one that has those of `new`. */
int table_covers(const struct fields *new, const struct fields *old, char why[FIELDS_WHY]);

/* Fills all fields of `to` from those of the same name in `from`. -EINVAL with a sentence. */
int table_copy(struct fields *to, const struct fields *from, char why[FIELDS_WHY]);

/* Where [offset, offset + size) of the state of `from` is in that of `to`. -EINVAL: nowhere. */
int table_find(const struct fields *to, const struct fields *from, uint64_t size, uint64_t *offset);

#endif

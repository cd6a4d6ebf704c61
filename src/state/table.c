/*
 * table.c - see table.h.
 */
#include "state/table.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELDS_MAX 4096u

#define FAIL(why, ...)                          \
    do {                                        \
        snprintf(why, FIELDS_WHY, __VA_ARGS__); \
        return -EINVAL;                         \
    } while (0)

static void fill(struct table *t, const struct ob_field *f, const struct ob_field *array)
{
    struct table_field *to = &t->field[t->fields++];

    *to = (struct table_field){
        .kind = (uint8_t)f->kind,
        .flags = (uint8_t)(f->flags | (array ? array->flags : 0)),
        .size = f->size,
        .count = f->count,
        .structs = array ? array->count : 1,
        .stride = array ? array->size : 0,
        .offset = (uint64_t)f->offset + (array ? array->offset : 0),
    };
    snprintf(to->name, sizeof to->name, "%s%s%s", array ? array->name : "", array ? "[]." : "",
             f->name);
}

void table_fill(struct table *t, const struct ob_field *fields)
{
    for (const struct ob_field *f = fields; f && f->kind != OB_FIELD_END; f++) {
        if (f->kind != OB_FIELD_STRUCTS)
            fill(t, f, NULL);
        for (const struct ob_field *m = f->kind == OB_FIELD_STRUCTS ? f->fields : NULL;
             m && m->kind != OB_FIELD_END; m++)
            fill(t, m, f);
    }
}

/* ---- Of another build -------------------------------------------------------------------------------- */

static bool is_name(const char *name, size_t space)
{
    size_t n = strnlen(name, space);

    for (size_t i = 0; i < n; i++)
        if (!isgraph((unsigned char)name[i]))
            return false;
    return n && n < space;
}

static bool makes_sense(const struct table_field *f, uint64_t state_size)
{
    uint64_t group = (uint64_t)f->size * f->count;
    bool number = f->size == 1 || f->size == 2 || f->size == 4 || f->size == 8;

    if (!is_name(f->name, sizeof f->name) || !f->size || !f->count || !f->structs ||
        (f->kind == OB_FIELD_BYTES ? f->size != 1 : !number) ||
        (f->kind != OB_FIELD_BYTES && f->kind != OB_FIELD_INT && f->kind != OB_FIELD_TIME) ||
        (f->kind == OB_FIELD_TIME && f->size != 8) || (f->structs > 1 && f->stride < group))
        return false;
    uint64_t all = (uint64_t)(f->structs - 1) * f->stride; /* no overflow: 32 bits each */
    return group <= state_size && all <= state_size - group &&
           f->offset <= state_size - group - all;
}

static void add(struct fields *s, const struct table_field *f, uint32_t *index)
{
    const struct fields_section *of = &s->section[0];

    s->leaf[s->all++] = (struct leaf){
        .section = of->name,
        .index = (*index)++,
        .kind = f->kind,
        .flags = f->flags,
        .size = f->size,
        .count = f->count,
        .structs = f->structs,
        .stride = f->stride,
        .base = (uint8_t *)of->base + f->offset,
    };
    memcpy(s->leaf[s->all - 1].name, f->name, sizeof f->name);
}

static int open_fields(struct fields *s, const struct table *t, uint64_t size, uint64_t state_size,
                       char why[FIELDS_WHY])
{
    uint32_t index = 0;

    if (size < sizeof *t || !is_name(t->plugin, sizeof t->plugin) || t->fields > FIELDS_MAX ||
        size < table_size(t->fields))
        FAIL(why, "the table of fields makes no sense");
    memcpy(s->plugin, t->plugin, sizeof s->plugin);
    s->sections = 1;
    s->section[0].version = t->version;
    if (!(s->leaf = calloc(t->fields + 1, sizeof *s->leaf)))
        FAIL(why, "no memory");
    for (uint32_t i = 0; i < t->fields; i++) {
        if (!makes_sense(&t->field[i], state_size))
            FAIL(why, "number %" PRIu32 " of the table of fields makes no sense", i);
        if (!(t->field[i].flags & OB_FIELD_RUNTIME))
            add(s, &t->field[i], &index);
    }
    s->leaves = s->all;
    for (uint32_t i = 0; i < t->fields; i++)
        if (t->field[i].flags & OB_FIELD_RUNTIME)
            add(s, &t->field[i], &index);
    if (fields_finish(s) < 0)
        FAIL(why, "no memory");
    return 0;
}

static_assert(sizeof((struct table *)0)->plugin == sizeof((struct fields *)0)->plugin, "one name");

struct fields *table_open(const struct table *t, uint64_t size, const char *section, void *state,
                          uint64_t state_size, char why[FIELDS_WHY])
{
    struct fields *s = calloc(1, sizeof *s);

    if (!s) {
        snprintf(why, FIELDS_WHY, "no memory");
        return NULL;
    }
    s->section[0] = (struct fields_section){ .name = section, .base = state };
    if (open_fields(s, t, size, state_size, why) == 0)
        return s;
    fields_free(s);
    return NULL;
}

/* ---- From one to the other ----------------------------------------------------------------------------- */

static const struct leaf *find(const struct fields *s, const char *name)
{
    for (unsigned i = 0; i < s->all; i++)
        if (strcmp(s->leaf[i].name, name) == 0)
            return &s->leaf[i];
    return NULL;
}

static bool is_same(const struct leaf *a, const struct leaf *b)
{
    return a->kind == b->kind && a->size == b->size && a->count == b->count &&
           a->structs == b->structs;
}

int table_covers(const struct fields *new, const struct fields *old, char why[FIELDS_WHY])
{
    for (unsigned i = 0; i < old->all; i++) {
        const struct leaf *l = find(new, old->leaf[i].name);
        if (!l)
            FAIL(why, "field %s: not known here, so there would be no way back", old->leaf[i].name);
        if (!is_same(l, &old->leaf[i]))
            FAIL(why, "field %s: of another kind or size here, so there would be no way back",
                 l->name);
    }
    return 0;
}

int table_copy(struct fields *to, const struct fields *from, char why[FIELDS_WHY])
{
    for (unsigned i = 0; i < to->all; i++) {
        const struct leaf *l = &to->leaf[i];
        const struct leaf *f = find(from, l->name);
        if (!f || !is_same(l, f))
            FAIL(why, "field %s: %s", l->name, f ? "of another kind or size there" : "not there");
        for (uint32_t n = 0; n < l->structs; n++)
            memcpy(l->base + (uint64_t)n * l->stride, f->base + (uint64_t)n * f->stride,
                   (size_t)l->size * l->count);
    }
    return 0;
}

/* The group of a field's elements that holds the range; false: none does. */
static bool holds(const struct leaf *l, uint64_t start, uint64_t offset, uint64_t size,
                  uint32_t *group, uint64_t *at)
{
    uint64_t bytes = (uint64_t)l->size * l->count;

    if (offset < start)
        return false;
    uint64_t number = l->structs > 1 ? (offset - start) / l->stride : 0;
    *group = (uint32_t)number;
    *at = offset - start - number * l->stride;
    return number < l->structs && *at <= bytes && size <= bytes - *at;
}

int table_find(const struct fields *to, const struct fields *from, uint64_t size, uint64_t *offset)
{
    uint32_t group;
    uint64_t at;

    for (unsigned i = 0; i < from->all; i++) {
        const struct leaf *f = &from->leaf[i];
        if (!holds(f, (uint64_t)(f->base - (uint8_t *)from->section[0].base), *offset, size, &group,
                   &at))
            continue;
        const struct leaf *l = find(to, f->name);
        if (!l || !is_same(l, f))
            return -EINVAL;
        *offset = (uint64_t)(l->base - (uint8_t *)to->section[0].base) +
                  (uint64_t)group * l->stride + at;
        return 0;
    }
    return -EINVAL;
}

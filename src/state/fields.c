/*
 * fields.c - what a stream looks like, and writing one.
 */
#include "state/fields.h"
#include "state/crc32c.h"
#include "state/leaf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LITTLE (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)

/* ---- Layout --------------------------------------------------------------------------------------- */

static void add_leaf(struct fields *s, const struct fields_section *section, const struct ob_field *f,
                     const struct ob_field *array, uint32_t *index, bool runtime)
{
    uint8_t flags = (uint8_t)(f->flags | (array ? array->flags : 0));
    struct leaf *l = &s->leaf[s->all];

    if (!(flags & OB_FIELD_RUNTIME) == runtime)
        return;
    s->all++;
    *l = (struct leaf){
        .section = section->name,
        .section_index = (uint32_t)(section - s->section),
        .index = (*index)++,
        .kind = (uint8_t)f->kind,
        .flags = flags,
        .size = f->size,
        .count = f->count,
        .structs = array ? array->count : 1,
        .stride = array ? array->size : 0,
        .base = (uint8_t *)section->base + (array ? array->offset : 0) + f->offset,
    };
    snprintf(l->name, sizeof l->name, "%s%s%s", array ? array->name : "", array ? "[]." : "", f->name);
}

static void add_leaves(struct fields *s, const struct fields_section *section, bool runtime)
{
    uint32_t index = 0;

    for (const struct ob_field *f = section->fields; f->kind != OB_FIELD_END; f++) {
        if (f->kind != OB_FIELD_STRUCTS) {
            add_leaf(s, section, f, NULL, &index, runtime);
            continue;
        }
        for (const struct ob_field *m = f->fields; m->kind != OB_FIELD_END; m++)
            add_leaf(s, section, m, f, &index, runtime);
    }
}

unsigned fields_count(const struct ob_field *fields)
{
    unsigned n = 0;

    for (const struct ob_field *f = fields; f && f->kind != OB_FIELD_END; f++)
        n += f->kind == OB_FIELD_STRUCTS ? fields_count(f->fields) : 1;
    return n;
}

/* ---- The description ------------------------------------------------------------------------------- */

static uint8_t *put(uint8_t *p, uint64_t v, unsigned n)
{
    fields_put(p, v, n);
    return p + n;
}

static uint8_t *put_text(uint8_t *p, const char *text)
{
    size_t n = strlen(text);

    p = put(p, n, 2);
    memcpy(p, text, n);
    return p + n;
}

static uint8_t *describe_section(const struct fields *s, uint32_t section, uint8_t *p)
{
    const struct fields_section *of = &s->section[section];
    uint32_t count = 0;

    for (unsigned i = 0; i < s->leaves; i++)
        count += s->leaf[i].section_index == section;
    p = put_text(p, of->name);
    p = put(p, of->version, 4);
    p = put(p, count, 4);
    for (unsigned i = 0; i < s->leaves; i++) {
        const struct leaf *l = &s->leaf[i];
        if (l->section_index != section)
            continue;
        p = put_text(p, l->name);
        p = put(p, l->kind, 1);
        p = put(p, l->flags, 1);
        p = put(p, l->size, 4);
        p = put(p, leaf_elements(l), 8);
    }
    return p;
}

uint32_t fields_head(uint8_t head[STREAM_HEAD], enum stream_record what, uint64_t length, uint64_t at)
{
    uint8_t place[8];

    fields_put(head, STREAM_MAGIC, 4);
    fields_put(head + 4, what, 2);
    fields_put(head + 6, STREAM_FORMAT, 2);
    fields_put(head + 8, length, 8);
    fields_put(place, at, 8);
    return crc32c(crc32c(0, place, sizeof place), head, STREAM_HEAD);
}

static int describe(struct fields *s)
{
    size_t most = STREAM_HEAD + STREAM_TAIL + 64 + s->sections * 64 + s->leaves * (LEAF_NAME + 16);
    uint8_t *record = malloc(most), *body = record + STREAM_HEAD, *p = body;

    if (!record)
        return -ENOMEM;
    p = put_text(p, s->plugin);
    p = put(p, s->sections, 4);
    for (unsigned i = 0; i < s->sections; i++)
        p = describe_section(s, i, p);
    uint32_t crc = fields_head(record, STREAM_DESCRIPTION, (uint64_t)(p - body), 0);
    p = put(p, crc32c(crc, body, (size_t)(p - body)), STREAM_TAIL);
    s->description = record;
    s->description_size = (uint64_t)(p - record);
    return 0;
}

int fields_finish(struct fields *s)
{
    int ret = describe(s);

    s->size = s->description_size + STREAM_HEAD + 8 + STREAM_TAIL;
    for (unsigned i = 0; i < s->leaves; i++)
        s->size += STREAM_HEAD + 8 + leaf_bytes(&s->leaf[i]) + STREAM_TAIL;
    return ret;
}

struct fields *fields_new(const char *plugin, const struct fields_section *sections, unsigned n)
{
    struct fields *s = calloc(1, sizeof *s);
    unsigned leaves = 0;

    if (!s || n > sizeof s->section / sizeof *s->section) {
        free(s);
        errno = s ? EINVAL : ENOMEM;
        return NULL;
    }
    snprintf(s->plugin, sizeof s->plugin, "%s", plugin);
    s->sections = n;
    for (unsigned i = 0; i < n; i++) {
        s->section[i] = sections[i];
        leaves += fields_count(sections[i].fields);
    }
    s->leaf = calloc(leaves + 1, sizeof *s->leaf);
    if (s->leaf) {
        for (unsigned i = 0; i < n; i++)
            add_leaves(s, &s->section[i], false);
        s->leaves = s->all;
        for (unsigned i = 0; i < n; i++)
            add_leaves(s, &s->section[i], true);
        if (fields_finish(s) == 0)
            return s;
    }
    fields_free(s);
    errno = ENOMEM;
    return NULL;
}

void fields_free(struct fields *s)
{
    if (!s)
        return;
    free(s->leaf);
    free(s->description);
    free(s);
}

uint64_t fields_size(const struct fields *s)
{
    return s->size;
}

uint64_t fields_description_size(const struct fields *s)
{
    return s->description_size;
}

/* ---- Writing --------------------------------------------------------------------------------------- */

/* All bytes of the stream pass here, or as good as: those between from and to are kept. */
struct window {
    uint64_t at;
    uint64_t from, to;
    uint8_t *out;
    uint32_t crc;
    bool wants_crc;
};

static void pass(struct window *w, const void *bytes, uint64_t n)
{
    uint64_t start = w->from > w->at ? w->from - w->at : 0;
    uint64_t end = w->to > w->at ? w->to - w->at : 0;

    end = end < n ? end : n;
    if (w->wants_crc)
        w->crc = crc32c(w->crc, bytes, n);
    if (start < end)
        memcpy(w->out + (w->at + start - w->from), (const uint8_t *)bytes + start, end - start);
    w->at += n;
}

uint64_t fields_time_out(uint64_t time, uint64_t moment)
{
    return time ? time - moment : (uint64_t)INT64_MIN;
}

uint64_t fields_time_in(uint64_t distance, uint64_t moment)
{
    if (distance == (uint64_t)INT64_MIN)
        return 0;
    uint64_t time = moment + distance;
    return (int64_t)time > 0 ? time : 1; /* before this host was switched on */
}

static void pass_elements(struct window *w, const struct leaf *l, const uint8_t *p, uint64_t moment)
{
    if (l->kind == OB_FIELD_BYTES || (l->kind == OB_FIELD_INT && LITTLE)) {
        pass(w, p, (uint64_t)l->size * l->count);
        return;
    }
    for (uint32_t i = 0; i < l->count; i++, p += l->size) {
        uint8_t bytes[8];
        uint64_t v = 0;
        memcpy((uint8_t *)&v + (LITTLE ? 0 : 8 - l->size), p, l->size);
        fields_put(bytes, l->kind == OB_FIELD_TIME ? fields_time_out(v, moment) : v, l->size);
        pass(w, bytes, l->size);
    }
}

static void pass_value(struct window *w, const struct leaf *l, uint64_t moment)
{
    uint64_t length = 8 + leaf_bytes(l), whole = STREAM_HEAD + length + STREAM_TAIL;
    uint8_t head[STREAM_HEAD], number[8], crc[STREAM_TAIL];

    if (w->at + whole <= w->from || w->at >= w->to) {
        w->at += whole;
        return;
    }
    w->wants_crc = false;
    uint64_t crc_at = w->at + STREAM_HEAD + length;
    uint32_t start = fields_head(head, STREAM_VALUE, length, w->at);
    pass(w, head, sizeof head);
    w->crc = start;
    w->wants_crc = crc_at < w->to && crc_at + STREAM_TAIL > w->from;
    fields_put(number, l->section_index, 4);
    fields_put(number + 4, l->index, 4);
    pass(w, number, sizeof number);
    for (uint32_t i = 0; i < l->structs; i++)
        pass_elements(w, l, l->base + (uint64_t)i * l->stride, moment);
    w->wants_crc = false;
    fields_put(crc, w->crc, STREAM_TAIL);
    pass(w, crc, sizeof crc);
}

static void pass_end(struct window *w)
{
    uint8_t record[STREAM_HEAD + 8 + STREAM_TAIL];

    uint32_t crc = fields_head(record, STREAM_END, 8, w->at);
    fields_put(record + STREAM_HEAD, w->at, 8);
    fields_put(record + STREAM_HEAD + 8, crc32c(crc, record + STREAM_HEAD, 8), STREAM_TAIL);
    pass(w, record, sizeof record);
}

size_t fields_read(const struct fields *s, uint64_t moment, uint64_t at, void *buf, size_t n)
{
    if (at >= s->size)
        return 0;
    n = n < s->size - at ? n : (size_t)(s->size - at);
    struct window w = { .from = at, .to = at + n, .out = buf };

    pass(&w, s->description, s->description_size);
    for (unsigned i = 0; i < s->leaves && w.at < w.to; i++)
        pass_value(&w, &s->leaf[i], moment);
    if (w.at < w.to)
        pass_end(&w);
    return n;
}

void fields_each(const struct fields *s, unsigned section, void (*fn)(void *ctx, void *p, size_t n),
                 void *ctx)
{
    const struct fields_section *of = &s->section[section];

    for (const struct ob_field *f = of->fields; f->kind != OB_FIELD_END; f++)
        if (!(f->flags & OB_FIELD_RUNTIME))
            fn(ctx, (uint8_t *)of->base + f->offset, (size_t)f->size * f->count);
}

/* ---- Places ---------------------------------------------------------------------------------------- */

const char *fields_find_field(const struct fields *s, unsigned section, uint64_t offset, uint64_t size,
                              uint64_t *byte)
{
    for (unsigned i = 0; i < s->leaves; i++) {
        const struct leaf *l = &s->leaf[i];
        uint64_t start = (uint64_t)(l->base - (uint8_t *)s->section[section].base);
        uint64_t group = (uint64_t)l->size * l->count;
        if (l->section_index != section || offset < start)
            continue;
        uint64_t at = offset - start, in = l->structs > 1 ? at / l->stride : 0;
        at -= in * l->stride;
        if (in >= l->structs || at > group || size > group - at)
            continue;
        *byte = in * group + at;
        return l->name;
    }
    return NULL;
}

int fields_find_offset(const struct fields *s, unsigned section, const char *name, uint64_t byte,
                       uint64_t size, uint64_t *offset)
{
    for (unsigned i = 0; i < s->leaves; i++) {
        const struct leaf *l = &s->leaf[i];
        uint64_t group = (uint64_t)l->size * l->count;
        if (l->section_index != section || strcmp(l->name, name) != 0)
            continue;
        uint64_t in = byte / group, at = byte % group;
        if (in >= l->structs || size > group - at)
            return -EINVAL;
        *offset = (uint64_t)(l->base - (uint8_t *)s->section[section].base) + in * l->stride + at;
        return 0;
    }
    return -EINVAL;
}

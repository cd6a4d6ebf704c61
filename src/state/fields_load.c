/*
 * fields_load.c - reading a stream that somebody else wrote.
 *
 * The description is gone through twice: once alone, to see whether all fields fit, and once beside the
 * values, which follow in its order. So nothing has to be kept, however long it is.
 */
#include "state/crc32c.h"
#include "state/leaf.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LITTLE (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)

#define FAIL(why, ...)                          \
    do {                                        \
        snprintf(why, FIELDS_WHY, __VA_ARGS__); \
        return -EINVAL;                         \
    } while (0)

/* ---- Bytes ----------------------------------------------------------------------------------------- */

/* What is left of a body. Past its end there are zeros, and `bad` says so. */
struct reader {
    const uint8_t *p;
    uint64_t left;
    bool bad;
};

static const uint8_t *take(struct reader *r, uint64_t n)
{
    if (n > r->left) {
        r->bad = true;
        r->left = 0;
        return NULL;
    }
    const uint8_t *p = r->p;
    r->p += n;
    r->left -= n;
    return p;
}

static uint64_t take_number(struct reader *r, unsigned n)
{
    const uint8_t *p = take(r, n);
    return p ? fields_get(p, n) : 0;
}

/* A name that can be printed. */
static void take_name(struct reader *r, char name[LEAF_NAME])
{
    uint64_t n = take_number(r, 2);
    const uint8_t *p = n && n < LEAF_NAME ? take(r, n) : NULL;

    name[0] = 0;
    r->bad |= !p;
    for (uint64_t i = 0; p && i < n; i++) {
        r->bad |= !isgraph(p[i]);
        name[i] = (char)p[i];
        name[i + 1] = 0;
    }
    if (r->bad)
        name[0] = 0;
}

/* ---- Records --------------------------------------------------------------------------------------- */

struct record {
    unsigned what;
    struct reader body;
    uint64_t size; /* of all of it */
};

/* The record at `at` of n bytes. 0, -EAGAIN: it is cut off, -EINVAL. */
static int read_record(const uint8_t *bytes, uint64_t n, uint64_t at, struct record *r,
                       char why[FIELDS_WHY])
{
    const uint8_t *head = bytes + at;
    uint8_t expected[STREAM_HEAD];
    uint64_t left = n - at;

    if (left >= 4 && fields_get(head, 4) != STREAM_MAGIC)
        FAIL(why, "byte %" PRIu64 " of the stream: no record begins here", at);
    if (left < STREAM_HEAD)
        return -EAGAIN;
    if (fields_get(head + 6, 2) != STREAM_FORMAT)
        FAIL(why, "the stream has format %u, and not %u", (unsigned)fields_get(head + 6, 2),
             STREAM_FORMAT);
    uint64_t length = fields_get(head + 8, 8);
    if (length > left || left - length < STREAM_HEAD + STREAM_TAIL)
        return -EAGAIN;
    r->what = (unsigned)fields_get(head + 4, 2);
    r->body = (struct reader){ head + STREAM_HEAD, length, false };
    r->size = STREAM_HEAD + length + STREAM_TAIL;
    uint32_t crc = fields_head(expected, r->what, length, at);
    if (crc32c(crc, r->body.p, length) != fields_get(r->body.p + length, STREAM_TAIL))
        FAIL(why, "byte %" PRIu64 " of the stream: the checksum of this record is wrong", at);
    return 0;
}

/* ---- The description ------------------------------------------------------------------------------- */

/* Goes from field to field. */
struct walk {
    struct reader r;
    uint32_t sections, section;   /* how many; number of this one, counted from 1 */
    uint32_t fields, field;       /* of the section */
    const struct fields_section *of; /* our section of this name */
    uint32_t *versions;
    char section_name[LEAF_NAME];

    char name[LEAF_NAME];
    uint8_t kind, flags;
    uint32_t size;
    uint64_t count;
};

static int walk_begin(const struct fields *s, struct walk *w, struct reader body, uint32_t *versions,
                      char why[FIELDS_WHY])
{
    *w = (struct walk){ .r = body, .versions = versions };
    take_name(&w->r, w->name);
    if (w->r.bad)
        FAIL(why, "the stream's description makes no sense");
    if (strcmp(w->name, s->plugin) != 0)
        FAIL(why, "the stream is of a device %s, and not %s", w->name, s->plugin);
    w->sections = (uint32_t)take_number(&w->r, 4);
    if (w->sections != s->sections)
        FAIL(why, "the stream has %u sections, and not %u", w->sections, s->sections);
    return 0;
}

static int check_version(const struct fields_section *of, uint32_t version, char why[FIELDS_WHY])
{
    uint32_t oldest = of->oldest ? of->oldest : of->version;

    if (version > of->version || version < oldest)
        FAIL(why, "state of the %s: version %u in the stream, %u here", of->name, version, of->version);
    return 0;
}

static int begin_section(const struct fields *s, struct walk *w, char why[FIELDS_WHY])
{
    take_name(&w->r, w->section_name);
    uint32_t version = (uint32_t)take_number(&w->r, 4);
    w->fields = (uint32_t)take_number(&w->r, 4);
    w->field = 0;
    if (w->r.bad)
        FAIL(why, "the stream's description makes no sense");
    /* In our order: there is never another one. */
    w->of = &s->section[w->section];
    if (strcmp(w->section_name, w->of->name) != 0)
        FAIL(why, "the stream has a section %s, where %s is expected", w->section_name, w->of->name);
    w->section++;
    if (w->versions)
        w->versions[w->section - 1] = version;
    return check_version(w->of, version, why);
}

/* 1: here is one, 0: there are no more, -EINVAL. */
static int walk_next(const struct fields *s, struct walk *w, char why[FIELDS_WHY])
{
    while (w->field == w->fields) {
        if (w->section == w->sections) {
            if (w->r.left)
                FAIL(why, "the stream's description makes no sense");
            return 0;
        }
        int ret = begin_section(s, w, why);
        if (ret < 0)
            return ret;
    }
    w->field++;
    take_name(&w->r, w->name);
    w->kind = (uint8_t)take_number(&w->r, 1);
    w->flags = (uint8_t)take_number(&w->r, 1);
    w->size = (uint32_t)take_number(&w->r, 4);
    w->count = take_number(&w->r, 8);
    if (w->r.bad || !w->size || w->size > 8 || !w->count || w->count > UINT64_MAX / 16)
        FAIL(why, "the stream's description makes no sense");
    return 1;
}

static struct leaf *find_leaf(struct fields *s, const struct walk *w)
{
    for (unsigned i = 0; i < s->leaves; i++)
        if (s->leaf[i].section_index == w->section - 1 && strcmp(s->leaf[i].name, w->name) == 0)
            return &s->leaf[i];
    return NULL;
}

static const char *kind_name(unsigned kind)
{
    switch (kind) {
    case OB_FIELD_INT: return "a number";
    case OB_FIELD_BYTES: return "bytes";
    case OB_FIELD_TIME: return "a time";
    default: return "of an unknown kind";
    }
}

static int check_field(struct leaf *l, const struct walk *w, char why[FIELDS_WHY])
{
    if (!l && !(w->flags & OB_FIELD_OPTIONAL))
        FAIL(why, "field %s of the %s: unknown here", w->name, w->section_name);
    if (!l)
        return 0;
    if (l->seen)
        FAIL(why, "field %s: twice in the stream", l->name);
    l->seen = true;
    if (l->kind != w->kind)
        FAIL(why, "field %s: %s here, %s in the stream", l->name, kind_name(l->kind),
             kind_name(w->kind));
    if (l->size != w->size)
        FAIL(why, "field %s: %u bytes an element here, %u in the stream", l->name, l->size, w->size);
    if (leaf_elements(l) != w->count)
        FAIL(why, "field %s: %" PRIu64 " elements here, %" PRIu64 " in the stream", l->name,
             leaf_elements(l), w->count);
    return 0;
}

static int check_description(struct fields *s, const struct record *r, char why[FIELDS_WHY])
{
    struct walk w;
    int ret;

    if (r->what != STREAM_DESCRIPTION)
        FAIL(why, "the stream does not begin with a description");
    for (unsigned i = 0; i < s->leaves; i++)
        s->leaf[i].seen = false;
    if ((ret = walk_begin(s, &w, r->body, NULL, why)) < 0)
        return ret;
    while ((ret = walk_next(s, &w, why)) > 0)
        if ((ret = check_field(find_leaf(s, &w), &w, why)) < 0)
            return ret;
    if (ret < 0)
        return ret;
    for (unsigned i = 0; i < s->leaves; i++)
        if (!s->leaf[i].seen && !(s->leaf[i].flags & OB_FIELD_OPTIONAL))
            FAIL(why, "field %s of the %s: not in the stream", s->leaf[i].name, s->leaf[i].section);
    return 0;
}

int fields_check(struct fields *s, const void *bytes, size_t n, char why[FIELDS_WHY])
{
    struct record r;
    int ret = read_record(bytes, n, 0, &r, why);

    return ret < 0 ? ret : check_description(s, &r, why);
}

/* ---- Values ---------------------------------------------------------------------------------------- */

static void fill(const struct leaf *l, const uint8_t *from, uint64_t moment)
{
    uint64_t group = (uint64_t)l->size * l->count;

    for (uint32_t i = 0; i < l->structs; i++, from += group) {
        uint8_t *to = l->base + (uint64_t)i * l->stride;
        if (l->kind == OB_FIELD_BYTES || (l->kind == OB_FIELD_INT && LITTLE)) {
            memcpy(to, from, group);
            continue;
        }
        for (uint32_t e = 0; e < l->count; e++) {
            uint64_t v = fields_get(from + (uint64_t)e * l->size, l->size);
            v = l->kind == OB_FIELD_TIME ? fields_time_in(v, moment) : v;
            memcpy(to + (uint64_t)e * l->size, (uint8_t *)&v + (LITTLE ? 0 : 8 - l->size), l->size);
        }
    }
}

static void clear(const struct leaf *l)
{
    for (uint32_t i = 0; i < l->structs; i++)
        memset(l->base + (uint64_t)i * l->stride, 0, (size_t)l->size * l->count);
}

/* Of a field that we do not know: is it as good as not there? */
static bool is_nothing(const struct walk *w, const uint8_t *bytes, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        bool sign = w->kind == OB_FIELD_TIME && i % 8 == 7; /* INT64_MIN */
        if (bytes[i] != (sign ? 0x80 : 0))
            return false;
    }
    return true;
}

static int read_value(struct fields *s, const struct walk *w, struct record *r, uint64_t moment,
                      char why[FIELDS_WHY])
{
    uint64_t size = w->count * w->size;
    const struct leaf *l = find_leaf(s, w);

    if (r->what != STREAM_VALUE || take_number(&r->body, 4) != w->section - 1 ||
        take_number(&r->body, 4) != w->field - 1 || r->body.left != size)
        FAIL(why, "field %s: its value is not in its place", w->name);
    if (l)
        fill(l, r->body.p, moment);
    else if (!is_nothing(w, r->body.p, size))
        FAIL(why, "field %s of the %s: unknown here, and not zero", w->name, w->section_name);
    return 0;
}

/* A record that has to be there. */
static int next_record(const uint8_t *bytes, uint64_t n, uint64_t *at, struct record *r,
                       char why[FIELDS_WHY])
{
    int ret = read_record(bytes, n, *at, r, why);

    if (ret == -EAGAIN)
        FAIL(why, "the stream is not complete: it ends after %" PRIu64 " bytes", n);
    if (ret == 0)
        *at += r->size;
    return ret;
}

int fields_load(struct fields *s, uint64_t moment, const void *bytes, size_t n, uint32_t *versions,
                char why[FIELDS_WHY])
{
    struct record r;
    struct walk w;
    uint64_t at = 0;
    int ret, more;

    if ((ret = next_record(bytes, n, &at, &r, why)) < 0 || (ret = check_description(s, &r, why)) < 0 ||
        (ret = walk_begin(s, &w, r.body, versions, why)) < 0)
        return ret;
    while ((more = walk_next(s, &w, why)) > 0)
        if ((ret = next_record(bytes, n, &at, &r, why)) < 0 ||
            (ret = read_value(s, &w, &r, moment, why)) < 0)
            return ret;
    if (more < 0)
        return more;
    uint64_t end = at;
    if ((ret = next_record(bytes, n, &at, &r, why)) < 0)
        return ret;
    if (r.what != STREAM_END || r.body.left != 8 || take_number(&r.body, 8) != end || at != n)
        FAIL(why, "the stream does not end where it says");
    for (unsigned i = 0; i < s->leaves; i++)
        if (!s->leaf[i].seen)
            clear(&s->leaf[i]);
    return 0;
}

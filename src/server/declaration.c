/*
 * declaration.c - is a plugin's declaration one that can be served?
 */
#include "server/declaration.h"
#include "server/bus.h"

#include <stdio.h>
#include <string.h>

#define FAIL(...)                         \
    do {                                  \
        snprintf(why, space, __VA_ARGS__); \
        return -1;                        \
    } while (0)

static bool power_of_two(uint64_t n)
{
    return n && (n & (n - 1)) == 0;
}

/* Of a state or of the structures of an array, which have `space_of` bytes. */
static int check_fields(const struct ob_field *f, uint64_t space_of, size_t prefix, char *why,
                        size_t space)
{
    const struct ob_field *first = f;
    bool inside = prefix != 0;

    for (; f && f->kind != OB_FIELD_END; f++) {
        bool structs = f->kind == OB_FIELD_STRUCTS && !inside && f->fields;
        bool plain = (f->kind == OB_FIELD_INT || f->kind == OB_FIELD_BYTES || f->kind == OB_FIELD_TIME) &&
                     power_of_two(f->size) && f->size <= 8 &&
                     (f->kind != OB_FIELD_BYTES || f->size == 1) && (f->kind != OB_FIELD_TIME || f->size == 8);
        const char *name = f->name ? f->name : "without a name";
        if (!f->name || !f->name[0] || strlen(f->name) + prefix >= 64 || !f->count || !f->size ||
            !(structs || plain) || (uint64_t)f->offset + (uint64_t)f->size * f->count > space_of)
            FAIL("state: field %s does not lie in it, or is none", name);
        for (const struct ob_field *other = first; other < f; other++)
            if (strcmp(other->name, f->name) == 0)
                FAIL("state: two fields %s", name);
        if (structs && check_fields(f->fields, f->size, strlen(f->name) + 3, why, space) < 0)
            return -1;
    }
    return 0;
}

static int check_state(const struct ob_plugin *p, char *why, size_t space)
{
    const struct ob_state_info *s = &p->state;

    if (s->size > 16u << 20 || (!s->touched && s->size > 65536))
        FAIL("state: over 16 MiB, or over 64 KiB without being declared touched");
    return check_fields(s->fields, s->size, 0, why, space);
}

static int check_options(const struct ob_plugin *p, char *why, size_t space)
{
    for (const struct ob_option *o = p->options; o && o->key; o++) {
        if (!o->help || !o->value)
            FAIL("option %s: no help", o->key);
        if (bus_option(p) && strcmp(o->key, bus_option(p)->key) == 0)
            FAIL("option %s: is the framework's own", o->key);
    }
    return 0;
}

int declaration_check(const struct ob_plugin *p, char *why, size_t space)
{
    if (!p->name || !p->summary || strlen(p->name) >= 32 || !p->name[0] ||
        strspn(p->name, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(p->name))
        FAIL("name and summary are needed, the name of [a-z0-9-]");
    if (p->timers > SHARED_MAX_TIMERS || p->dmas > SHARED_MAX_DMAS)
        FAIL("at most %u timers and %u transfers", SHARED_MAX_TIMERS, SHARED_MAX_DMAS);
    const struct bus *bus;
    for (unsigned i = 0; (bus = bus_of(p, i)); i++)
        if (bus->check(p, why, space) < 0)
            return -1;
    if (check_options(p, why, space) < 0)
        return -1;
    return check_state(p, why, space);
}

/*
 * declaration.c - is a plugin's declaration one that can be served?
 */
#include "server/declaration.h"
#include "server/device.h"

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

/* What clients may map of a region, which `name` tells apart. */
static int check_areas(const struct ob_bar *bar, const char *name, char *why, size_t space)
{
    for (unsigned a = 0; a < bar->areas_count; a++) {
        const struct ob_area *area = &bar->areas[a];
        if (area->offset % 4096 || area->size % 4096 || !area->size || area->size > bar->size ||
            area->offset > bar->size - area->size || bar->kind == OB_BAR_IO)
            FAIL("%s: area %u must be whole pages inside a memory BAR", name, a);
    }
    for (unsigned a = 1; a < bar->areas_count; a++)
        if (bar->areas[a].offset < bar->areas[a - 1].offset + bar->areas[a - 1].size)
            FAIL("%s: areas must be in order, and apart", name);
    if (bar->areas_count > 64)
        FAIL("%s: more than 64 areas", name);
    return 0;
}

static int check_regions(const struct ob_plugin *p, char *why, size_t space)
{
    char name[32];

    if (p->regions_count > REGIONS_TYPED_MAX)
        FAIL("at most %u typed regions", REGIONS_TYPED_MAX);
    for (unsigned i = 0; i < p->regions_count; i++) {
        const struct ob_bar *r = &p->regions[i].region;
        snprintf(name, sizeof name, "typed region %u", i);
        if (!r->size || r->size > INT64_MAX || r->kind == OB_BAR_IO)
            FAIL("%s: must have a size, and not be of I/O ports", name);
        if (check_areas(r, name, why, space) < 0)
            return -1;
    }
    return 0;
}

static int check_bar(const struct ob_plugin *p, int i, char *why, size_t space)
{
    const struct ob_bar *bar = &p->bar[i];
    char name[16];

    if (!bar->size)
        return 0;
    if (!power_of_two(bar->size) || bar->size < (bar->kind == OB_BAR_IO ? 4u : 16u))
        FAIL("BAR %d: size must be a power of two, at least 4 (I/O) or 16 (memory)", i);
    if (bar->kind == OB_BAR_IO ? bar->size > 256 : bar->kind == OB_BAR_MEM32 && bar->size > 1u << 31)
        FAIL("BAR %d: too large for its kind", i);
    if (bar->kind == OB_BAR_MEM64 && (i == 5 || p->bar[i + 1].size))
        FAIL("BAR %d: a 64-bit BAR takes the next one as well", i);
    snprintf(name, sizeof name, "BAR %d", i);
    return check_areas(bar, name, why, space);
}

/* A client that maps these would change them unseen. */
static bool in_an_area(const struct ob_bar *bar, uint64_t at, uint64_t size)
{
    for (unsigned a = 0; a < bar->areas_count; a++)
        if (bar->areas[a].offset < at + size && at < bar->areas[a].offset + bar->areas[a].size)
            return true;
    return false;
}

static int check_irqs(const struct ob_plugin *p, char *why, size_t space)
{
    const struct ob_msix *x = &p->irq.msix;
    uint64_t table = x->count * 16u, pba = (x->count + 63u) / 64 * 8;

    if (p->irq.msi && (!power_of_two(p->irq.msi) || p->irq.msi > 32))
        FAIL("MSI: vectors must be 1, 2, 4, 8, 16 or 32");
    if (!x->count)
        return 0;
    if (x->count > 2048 || x->bar > 5 || p->bar[x->bar].kind == OB_BAR_IO || x->table % 8 || x->pba % 8)
        FAIL("MSI-X: at most 2048 vectors, in a memory BAR, at multiples of 8");
    uint64_t size = p->bar[x->bar].size;
    if (x->table + table > size || x->pba + pba > size ||
        (x->table < x->pba + pba && x->pba < x->table + table))
        FAIL("MSI-X: table and pending bits must lie in BAR %u, apart", x->bar);
    if (in_an_area(&p->bar[x->bar], x->table, table) || in_an_area(&p->bar[x->bar], x->pba, pba))
        FAIL("MSI-X: table and pending bits must not lie in an area of BAR %u", x->bar);
    return 0;
}

static int check_state(const struct ob_plugin *p, char *why, size_t space)
{
    const struct ob_state_info *s = &p->state;

    if (s->size > 16u << 20 || (!s->touched && s->size > 65536))
        FAIL("state: over 16 MiB, or over 64 KiB without being declared touched");
    for (const struct ob_field *f = s->fields; f && f->kind != OB_FIELD_END; f++)
        if (!f->name || !f->count || !power_of_two(f->size) || f->size > 8 ||
            (uint64_t)f->offset + (uint64_t)f->size * f->count > s->size)
            FAIL("state: field %s does not lie in it", f->name ? f->name : "without a name");
    return 0;
}

static int check_options(const struct ob_plugin *p, char *why, size_t space)
{
    for (const struct ob_option *o = p->options; o && o->key; o++)
        if (!o->help || !o->value)
            FAIL("option %s: no help", o->key);
    return 0;
}

int declaration_check(const struct ob_plugin *p, char *why, size_t space)
{
    if (!p->name || !p->summary || strlen(p->name) >= 32 || !p->name[0] ||
        strspn(p->name, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(p->name))
        FAIL("name and summary are needed, the name of [a-z0-9-]");
    if (p->timers > SHARED_MAX_TIMERS || p->dmas > SHARED_MAX_DMAS)
        FAIL("at most %u timers and %u transfers", SHARED_MAX_TIMERS, SHARED_MAX_DMAS);
    if (p->pci.class_code > 0xffffff)
        FAIL("class code: 24 bits");
    for (unsigned i = 0; i < p->pci.vendor_capabilities_count; i++)
        if (p->pci.vendor_capabilities[i].size > 240)
            FAIL("vendor capability %u: more than 240 bytes", i);
    for (int i = 0; i < 6; i++)
        if (check_bar(p, i, why, space) < 0)
            return -1;
    if (check_regions(p, why, space) < 0 || check_irqs(p, why, space) < 0 ||
        check_options(p, why, space) < 0)
        return -1;
    return check_state(p, why, space);
}

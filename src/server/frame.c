/*
 * frame.c - see frame.h.
 */
#include "server/frame.h"
#include "server/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRAMEWORK_VERSION 1u
#define UNKNOWN_FIELDS (64u << 10) /* of a newer build, in bytes of a stream */
#define FIELD_OVERHEAD 256u        /* in a stream, at most */
#define REGION_MAX (1u << 30)      /* bytes of a region's memory that may migrate */

#define AREAS_MAX 64u /* of a region, see declaration.c and its like */

struct frame_fields {
    struct ob_field frame[16];
    struct region_fields {
        char name[16];
        char area_name[AREAS_MAX][16];
        struct ob_field area[AREAS_MAX + 1];
    } region[REGIONS_MAX];
};

/* ---- What there is --------------------------------------------------------------------------------- */

static const struct ob_field dma_fields[] = {
    OB_INT(struct shared_frame_dma, queued),
    OB_INT(struct shared_frame_dma, is_write),
    OB_BYTES(struct shared_frame_dma, field),
    OB_INT(struct shared_frame_dma, byte),
    OB_INT(struct shared_frame_dma, address),
    OB_INT(struct shared_frame_dma, size),
    OB_INT(struct shared_frame_dma, done),
    OB_END,
};

/* Fields of the frame, as many elements as the plugin has. */
static void describe_frame(const struct ob_device *dev, struct ob_field *to)
{
    const struct ob_plugin *p = dev->plugin;
    bool pci = dev->config_size != 0;
    const struct {
        struct ob_field field;
        uint32_t count;
    } all[] = {
        { OB_BYTES(struct shared_frame, config), dev->config_size },
        { OB_INTS(struct shared_frame, line_level), dev->lines },
        { OB_INTS(struct shared_frame, line_pending), dev->lines },
        { OB_INTS(struct shared_frame, msi_pending), pci ? p->irq.msi : 0u },
        { OB_INTS(struct shared_frame, msix_masked), pci ? p->irq.msix.count : 0u },
        { OB_INTS(struct shared_frame, msix_pending), pci ? p->irq.msix.count : 0u },
        { OB_BYTES(struct shared_frame, msix_table), pci ? p->irq.msix.count * 16u : 0u },
        { OB_INT(struct shared_frame, timers), p->timers ? 1 : 0 },
        { OB_INTS(struct shared_frame, timer_left), p->timers },
        { OB_STRUCTS(struct shared_frame, dma, dma_fields), p->dmas },
    };

    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        if (!all[i].count)
            continue;
        *to = all[i].field;
        to++->count = all[i].count;
    }
    *to = (struct ob_field)OB_END;
}

static void describe_areas(const struct region *r, unsigned index, struct region_fields *f)
{
    snprintf(f->name, sizeof f->name, "region%u", index);
    for (unsigned i = 0; i < r->areas_count; i++) {
        snprintf(f->area_name[i], sizeof f->area_name[i], "area%u", i);
        f->area[i] = (struct ob_field){ f->area_name[i], OB_FIELD_BYTES, (uint32_t)r->areas[i].offset, 1,
                                        (uint32_t)r->areas[i].size, 0, NULL };
    }
    f->area[r->areas_count] = (struct ob_field)OB_END;
}

/* Without fields, the state means nothing to others; and some regions are too large to be copied. */
static bool can_migrate(const struct ob_device *dev)
{
    for (unsigned i = 0; i < REGIONS_MAX; i++) {
        const struct region *r = &dev->region[i];
        if (r->areas_count > AREAS_MAX || (r->areas_count && r->size > REGION_MAX))
            return false;
    }
    return dev->plugin->state.fields || !dev->plugin->state.size;
}

uint64_t frame_incoming_size(const struct ob_device *dev)
{
    uint64_t size = sizeof(struct shared_frame) + dev->plugin->state.size + UNKNOWN_FIELDS;

    if (!can_migrate(dev))
        return 0;
    for (const struct ob_field *f = dev->plugin->state.fields; f && f->kind != OB_FIELD_END; f++) {
        size += FIELD_OVERHEAD;
        for (const struct ob_field *m = f->kind == OB_FIELD_STRUCTS ? f->fields : NULL;
             m && m->kind != OB_FIELD_END; m++)
            size += FIELD_OVERHEAD;
    }
    for (unsigned i = 0; i < REGIONS_MAX; i++)
        for (unsigned a = 0; a < dev->region[i].areas_count; a++)
            size += dev->region[i].areas[a].size + FIELD_OVERHEAD;
    return size;
}

int frame_open(struct ob_device *dev)
{
    static const struct ob_field none[] = { OB_END };
    const struct ob_state_info *state = &dev->plugin->state;
    struct fields_section sections[SECTION_REGIONS + REGIONS_MAX];
    struct frame_fields *f;
    unsigned n = 0;

    if (!can_migrate(dev))
        return 0;
    if (!(f = calloc(1, sizeof *f)))
        return -ENOMEM;
    dev->frame_fields = f;
    describe_frame(dev, f->frame);
    sections[n++] = (struct fields_section){ "framework", FRAMEWORK_VERSION, 0, &dev->migration->frame,
                                             f->frame };
    sections[n++] = (struct fields_section){ "device", state->version, state->oldest, dev->state,
                                             state->fields ? state->fields : none };
    for (unsigned i = 0; i < REGIONS_MAX; i++) {
        const struct region *r = &dev->region[i];
        if (!r->areas_count)
            continue;
        describe_areas(r, i, &f->region[i]);
        sections[n++] = (struct fields_section){ f->region[i].name, 1, 0, r->memory, f->region[i].area };
    }
    dev->stream = fields_new(dev->plugin->name, sections, n);
    return dev->stream ? 0 : -errno;
}

void frame_close(struct ob_device *dev)
{
    fields_free(dev->stream);
    free(dev->frame_fields);
}

/* ---- Saving ---------------------------------------------------------------------------------------- */

static void save_irqs(const struct ob_device *dev, struct shared_frame *f)
{
    const struct shared_irqs *irqs = dev->irqs;

    for (unsigned i = 0; i < dev->lines; i++) {
        f->line_level[i] = irqs->level[i];
        f->line_pending[i] = (irqs->irq[i] & IRQ_PENDING) != 0;
    }
    for (unsigned i = 0; i < dev->plugin->irq.msi; i++)
        f->msi_pending[i] = (irqs->irq[IRQ_MSI + i] & IRQ_PENDING) != 0;
    for (unsigned i = 0; i < dev->plugin->irq.msix.count; i++) {
        uint8_t flags = irqs->irq[IRQ_MSIX + i];
        /* A client's mask does not count. The table's bit alone does not either: see irq.c. */
        f->msix_masked[i] = (flags & IRQ_MASKED) && (irqs->msix_table[i * 16 + 12] & 1);
        f->msix_pending[i] = (flags & IRQ_PENDING) != 0;
    }
    memcpy(f->msix_table, irqs->msix_table, dev->plugin->irq.msix.count * 16u);
}

static int save_dma(struct ob_device *dev, unsigned slot, struct shared_frame_dma *to)
{
    const struct shared_dma *d = &dev->work->dma[slot];

    *to = (struct shared_frame_dma){ .queued = d->busy != 0 };
    if (!to->queued)
        return 0;
    const char *name = fields_find_field(dev->stream, SECTION_DEVICE, d->buffer, d->size, &to->byte);
    if (!name) {
        server_log(dev, "it cannot migrate now: the buffer of transfer %u lies in no field of the state",
                   slot);
        return -EINVAL;
    }
    snprintf(to->field, sizeof to->field, "%s", name);
    to->is_write = d->is_write != 0;
    to->address = d->address;
    to->size = d->size;
    to->done = d->done;
    return 0;
}

static void touch(void *dev, void *p, size_t n)
{
    server_touch(dev, p, n);
}

void frame_touch(struct ob_device *dev)
{
    fields_each(dev->stream, SECTION_FRAMEWORK, touch, dev);
    server_enter(dev);
    if (dev->plugin->state.touched)
        fields_each(dev->stream, SECTION_DEVICE, touch, dev);
}

int frame_save(struct ob_device *dev)
{
    struct shared_frame *f = &dev->migration->frame;
    int ret = 0;

    fields_each(dev->stream, SECTION_FRAMEWORK, touch, dev);
    memcpy(f->config, dev->config, dev->config_size);
    save_irqs(dev, f);
    f->timers = dev->work->timers;
    memcpy(f->timer_left, dev->work->deadline, sizeof f->timer_left);
    for (unsigned i = 0; i < dev->plugin->dmas && ret == 0; i++)
        ret = save_dma(dev, i, &f->dma[i]);
    return ret;
}

/* ---- Loading --------------------------------------------------------------------------------------- */

#define FAIL(why, ...)                          \
    do {                                        \
        snprintf(why, FIELDS_WHY, __VA_ARGS__); \
        return -EINVAL;                         \
    } while (0)

/* What a guest cannot write is what the device is: it has to be the same device. */
static int load_config(struct ob_device *dev, const struct shared_frame *f, char why[FIELDS_WHY])
{
    for (uint32_t i = 0; i < dev->config_size; i++)
        if ((f->config[i] ^ dev->config[i]) & ~dev->config_mask[i])
            FAIL(why, "field config: byte 0x%x is %02x here, %02x in the stream", i, dev->config[i],
                 f->config[i]);
    server_touch(dev, dev->config, dev->config_size);
    memcpy(dev->config, f->config, dev->config_size);
    return 0;
}

static int check_bits(const uint8_t *values, unsigned n, const char *name, char why[FIELDS_WHY])
{
    for (unsigned i = 0; i < n; i++)
        if (values[i] > 1)
            FAIL(why, "field %s: element %u is %u, which is out of range", name, i, values[i]);
    return 0;
}

static void set_flags(struct ob_device *dev, uint32_t irq, uint8_t flags)
{
    SET(dev, dev->irqs->irq[irq],
        (uint8_t)((dev->irqs->irq[irq] & (IRQ_TRIGGER | (irq < IRQ_MSIX ? IRQ_MASKED : 0))) | flags));
}

static int load_irqs(struct ob_device *dev, const struct shared_frame *f, char why[FIELDS_WHY])
{
    unsigned msi = dev->plugin->irq.msi, msix = dev->plugin->irq.msix.count;

    if (check_bits(f->line_level, dev->lines, "line_level", why) < 0 ||
        check_bits(f->line_pending, dev->lines, "line_pending", why) < 0 ||
        check_bits(f->msi_pending, msi, "msi_pending", why) < 0 ||
        check_bits(f->msix_masked, msix, "msix_masked", why) < 0 ||
        check_bits(f->msix_pending, msix, "msix_pending", why) < 0)
        return -EINVAL;
    for (unsigned i = 0; i < dev->lines; i++) {
        SET(dev, dev->irqs->level[i], f->line_level[i]);
        set_flags(dev, i, f->line_pending[i] ? IRQ_PENDING : 0);
    }
    for (unsigned i = 0; i < msi; i++)
        set_flags(dev, IRQ_MSI + i, f->msi_pending[i] ? IRQ_PENDING : 0);
    for (unsigned i = 0; i < msix; i++) {
        bool masked = f->msix_masked[i] && (f->msix_table[i * 16 + 12] & 1);
        set_flags(dev, IRQ_MSIX + i,
                  (uint8_t)((f->msix_pending[i] ? IRQ_PENDING : 0) | (masked ? IRQ_MASKED : 0)));
    }
    server_touch(dev, dev->irqs->msix_table, msix * 16u);
    memcpy(dev->irqs->msix_table, f->msix_table, msix * 16u);
    return 0;
}

static int load_timers(struct ob_device *dev, const struct shared_frame *f, char why[FIELDS_WHY])
{
    unsigned n = dev->plugin->timers;

    if (n < 64 && f->timers >> n)
        FAIL(why, "field timers: 0x%" PRIx64 " is out of range", f->timers);
    server_touch(dev, dev->work, offsetof(struct shared_work, dmas));
    dev->work->timers = f->timers;
    memcpy(dev->work->deadline, f->timer_left, sizeof f->timer_left);
    return 0;
}

static int load_dma(struct ob_device *dev, unsigned slot, struct shared_frame_dma *f,
                    char why[FIELDS_WHY])
{
    struct shared_dma d = { .busy = 1, .is_write = f->is_write, .address = f->address,
                            .size = f->size, .asked = f->done, .done = f->done };

    if (f->queued > 1 || f->is_write > 1 || !memchr(f->field, 0, sizeof f->field))
        FAIL(why, "field dma[]: element %u is out of range", slot);
    if (!f->queued) {
        SET(dev, dev->work->dma[slot].busy, 0);
        return 0;
    }
    if (f->size == 0 || f->size > SHARED_MAX_DMA || f->done >= f->size ||
        fields_find_offset(dev->stream, SECTION_DEVICE, f->field, f->byte, f->size, &d.buffer) < 0)
        FAIL(why, "field dma[]: element %u has no place in the state", slot);
    SET(dev, dev->work->dma[slot], d);
    SET(dev, dev->work->dmas, dev->work->dmas | UINT64_C(1) << slot);
    return 0;
}

int frame_load(struct ob_device *dev, char why[FIELDS_WHY])
{
    struct shared_frame *f = &dev->migration->frame;

    int ret = load_config(dev, f, why);
    if (ret == 0)
        ret = load_irqs(dev, f, why);
    if (ret == 0)
        ret = load_timers(dev, f, why);
    SET(dev, dev->work->dmas, 0);
    for (unsigned i = 0; i < dev->plugin->dmas && ret == 0; i++)
        ret = load_dma(dev, i, &f->dma[i], why);
    return ret;
}

/*
 * handover.c - see handover.h.
 */
#include "server/handover.h"
#include "server/bus.h"
#include "server/log.h"
#include "state/foreign.h"
#include "state/table.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FAIL(why, ...)                          \
    do {                                        \
        snprintf(why, FIELDS_WHY, __VA_ARGS__); \
        return -EINVAL;                         \
    } while (0)

/* ---- The table --------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t hash, uint64_t number)
{
    for (unsigned i = 0; i < 8; i++, number >>= 8)
        hash = (hash ^ (number & 0xff)) * UINT64_C(0x100000001b3); /* FNV-1a */
    return hash;
}

/* What a client knows of the device beside config space, and what the framework keeps by number. */
static uint64_t shape(const struct ob_device *dev)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (uint32_t i = 0; i < dev->region_count; i++) {
        const struct region *r = &dev->region[i];
        h = mix(mix(mix(mix(h, r->size), r->flags), r->areas_count), r->ioevents_count);
        for (unsigned a = 0; a < r->areas_count; a++)
            h = mix(mix(h, r->areas[a].offset), r->areas[a].size);
    }
    for (unsigned i = 0; i < dev->irq_types; i++)
        h = mix(mix(mix(h, dev->irq_type[i].first), dev->irq_type[i].count),
                dev->irq_type[i].flags);
    return mix(mix(mix(mix(h, dev->lines), dev->plugin->timers), dev->plugin->dmas),
               dev->config_size);
}

struct table *handover_table(const struct ob_device *dev)
{
    const struct ob_state_info *state = &dev->plugin->state;
    struct table *t = calloc(1, table_size(fields_count(state->fields)));

    if (!t)
        return NULL;
    snprintf(t->plugin, sizeof t->plugin, "%s", dev->plugin->name);
    t->version = state->version;
    t->layout = SHARED_LAYOUT;
    t->shape = shape(dev);
    t->without = dev->without;
    table_fill(t, state->fields);
    return t;
}

int handover_shape(struct ob_device *dev, int fd)
{
    struct foreign f;
    uint64_t size = 0;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    int ret = own < 0 ? -errno : foreign_open(&f, own);

    if (ret < 0) {
        if (own >= 0)
            close(own);
        server_log(dev, "what the device was cannot be read in its block: %s", strerror(-ret));
        return ret;
    }
    const struct table *t = foreign_part(&f, "table", &size);
    uint32_t without = t && size >= sizeof *t ? t->without : 0;
    foreign_close(&f);
    for (unsigned bar = 0; bar < 6; bar++)
        if (without & TABLE_WITHOUT_AREAS(bar))
            ob_without_areas(dev, bar);
    if (without & TABLE_WITHOUT_MSIX)
        ob_without_msix(dev);
    return 0;
}

/* ---- What is the framework's --------------------------------------------------------------------------- */

static void take_header(struct block_header *to, const struct block_header *from)
{
    to->word = from->word;
    to->undo_word = ~from->word;
    to->messages = from->messages;
    to->effect = from->effect;
    to->owner = from->owner;
    to->inherited_kind = from->inherited_kind;
    to->inherited_result = from->inherited_result;
    memcpy(to->read_bytes, from->read_bytes, sizeof to->read_bytes);
}

static bool is_copied(unsigned part)
{
    return part != SHARED_DEVICE && part != SHARED_TABLE && part != SHARED_STREAM;
}

static int check_parts(const struct ob_device *dev, const struct foreign *f, char why[FIELDS_WHY])
{
    for (unsigned i = 0; i < SHARED_PARTS; i++) {
        const struct block_part *mine = &dev->block.h->parts[i];
        uint64_t size;
        if (!foreign_part(f, mine->name, &size))
            FAIL(why, "its block has no part \"%s\"", mine->name);
        if (is_copied(i) && size != mine->size)
            FAIL(why, "its part \"%s\" has %" PRIu64 " bytes, and not %" PRIu64, mine->name, size,
                 mine->size);
    }
    return 0;
}

/* What a guest cannot write in config space is what the device is. */
static int check_config(struct ob_device *dev, const struct foreign *f, char why[FIELDS_WHY])
{
    uint64_t size;
    const uint8_t *there = foreign_part(f, "config", &size);

    server_step_begin(dev);
    if (dev->bus->reset)
        dev->bus->reset(dev);
    for (uint32_t i = 0; i < dev->config_size && i < size; i++)
        if ((there[i] ^ dev->config[i]) & ~dev->config_mask[i])
            FAIL(why, "byte 0x%x of config space is %02x here, and %02x there", i, dev->config[i],
                 there[i]);
    server_step_undo(dev);
    return 0;
}

static void take_parts(struct ob_device *dev, const struct foreign *f)
{
    for (unsigned i = 0; i < SHARED_PARTS; i++) {
        const struct block_part *mine = &dev->block.h->parts[i];
        uint64_t size = 0;
        void *there = foreign_part(f, mine->name, &size);
        size = size < mine->size ? size : mine->size;
        if (is_copied(i) || i == SHARED_STREAM)
            foreign_copy(f, there, block_part(&dev->block, i), size);
    }
}

/* A transfer's buffer lies in the device's state, wherever that is. */
static int move_buffers(struct ob_device *dev, const struct fields *mine,
                        const struct fields *theirs, char why[FIELDS_WHY])
{
    for (unsigned i = 0; i < dev->plugin->dmas; i++) {
        struct shared_dma *d = &dev->work->dma[i];
        if ((d->busy || d->under_way) &&
            (d->size > SHARED_MAX_DMA || table_find(mine, theirs, d->size, &d->buffer) < 0))
            FAIL(why, "the buffer of transfer %u lies in no field", i);
    }
    return 0;
}

/* ---- What is the device's ------------------------------------------------------------------------------ */

static int load(struct ob_device *dev, struct fields *mine, const struct fields *theirs,
                char why[FIELDS_WHY])
{
    uint64_t size = fields_size(theirs), now = ob_now(dev);
    uint8_t *stream = malloc(size);
    uint32_t version = 0;

    if (!stream)
        FAIL(why, "no memory for %" PRIu64 " bytes", size);
    fields_read(theirs, now, 0, stream, size);
    int ret = fields_load(mine, now, stream, size, &version, why);
    free(stream);
    if (ret < 0 || !dev->plugin->loaded)
        return ret;
    server_step_begin(dev);
    server_enter(dev);
    ret = dev->plugin->loaded(dev, version);
    why[0] = '\0'; /* it has told */
    if (ret < 0)
        return ret;
    step_commit(&dev->block, step_run(&dev->block), step_reply(&dev->block));
    return 0;
}

/* A migration that was under way was one of the other build's. */
static void end_migration(struct ob_device *dev)
{
    uint32_t state = dev->migration->state;

    if (state != VFIO_DEVICE_STATE_RUNNING && state != VFIO_DEVICE_STATE_STOP)
        dev->migration->state = VFIO_DEVICE_STATE_ERROR;
}

static int take(struct ob_device *dev, const struct foreign *f, struct fields *mine,
                const struct fields *theirs, bool upgrade, char why[FIELDS_WHY])
{
    int ret = upgrade ? table_covers(mine, theirs, why) : 0;

    if (ret == 0)
        ret = check_parts(dev, f, why);
    if (ret == 0)
        ret = check_config(dev, f, why);
    if (ret < 0)
        return ret;
    take_header(dev->block.h, f->h);
    take_parts(dev, f);
    end_migration(dev);
    ret = move_buffers(dev, mine, theirs, why);
    if (ret == 0)
        ret = upgrade ? load(dev, mine, theirs, why) : table_copy(mine, theirs, why);
    return ret;
}

static int check_table(const struct ob_device *dev, const struct table *t, bool upgrade,
                       char why[FIELDS_WHY])
{
    uint32_t version = dev->plugin->state.version;

    if (strcmp(t->plugin, dev->plugin->name) != 0)
        FAIL(why, "it is a device %s, and this one a %s", t->plugin, dev->plugin->name);
    if (t->layout != SHARED_LAYOUT)
        FAIL(why, "its framework has layout %u, and this one %u", t->layout, SHARED_LAYOUT);
    if (upgrade && t->version > version)
        FAIL(why, "its state has version %u, and this one is older: %u", t->version, version);
    if (t->shape != shape(dev))
        FAIL(why, "its regions, interrupts, timers or transfers are others");
    if (!dev->plugin->state.fields && dev->plugin->state.size)
        FAIL(why, "the device names no fields of its state");
    return 0;
}

static int take_all(struct ob_device *dev, const struct foreign *f, bool upgrade,
                    char why[FIELDS_WHY])
{
    static const struct ob_field none[] = { OB_END };
    const struct ob_state_info *info = &dev->plugin->state;
    const struct fields_section section = { "device", info->version, info->oldest, dev->state,
                                            info->fields ? info->fields : none };
    uint64_t table_bytes, state_bytes;
    const struct table *t = foreign_part(f, "table", &table_bytes);
    void *state = foreign_part(f, "device", &state_bytes);

    if (!t || !state)
        FAIL(why, "its block has no table of fields");
    struct fields *theirs = table_open(t, table_bytes, "device", state, state_bytes, why);
    if (!theirs)
        return -EINVAL;
    struct fields *mine = fields_new(dev->plugin->name, &section, 1);
    int ret = mine ? check_table(dev, t, upgrade, why) : -ENOMEM;
    if (ret == 0)
        ret = take(dev, f, mine, theirs, upgrade, why);
    fields_free(mine);
    fields_free(theirs);
    return ret;
}

int handover_take(struct ob_device *dev, int fd, bool upgrade)
{
    char why[FIELDS_WHY] = "no memory";
    struct foreign f;

    int ret = foreign_open(&f, fd);
    if (ret < 0) {
        server_log(dev, "cannot take over from another build: its block %s",
                   ret == -EBADMSG ? "is damaged" : strerror(-ret));
        return ret;
    }
    ret = take_all(dev, &f, upgrade, why);
    foreign_close(&f);
    if (ret < 0 && why[0])
        server_log(dev, "cannot take over from %s build: %s", upgrade ? "the running" : "another",
                   why);
    return ret;
}

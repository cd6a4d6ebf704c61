/*
 * device.c - making a device, new or from what a dead worker left, and taking it down.
 */
#include "server/device.h"
#include "server/bus.h"
#include "server/declaration.h"
#include "server/dma.h"
#include "server/frame.h"
#include "server/handover.h"
#include "server/ioevent.h"
#include "server/irq.h"
#include "server/late.h"
#include "server/log.h"
#include "server/logging.h"
#include "server/record.h"
#include "server/region_memory.h"
#include "server/reset.h"
#include "server/twin.h"
#include "state/table.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *ob_state(struct ob_device *dev)
{
    return dev->state;
}

void *ob_private(struct ob_device *dev)
{
    return dev->private;
}

int ob_syscalls(struct ob_device *dev, const struct ob_syscall *list)
{
    unsigned n = 0;

    while (dev->syscalls[n])
        n++;
    if (n + 1 == sizeof dev->syscalls / sizeof *dev->syscalls)
        return -ENOSPC;
    dev->syscalls[n] = list;
    return 0;
}

void ob_ring_restricted(struct ob_device *dev)
{
    dev->ring_restricted = true;
}

void ob_without_msix(struct ob_device *dev)
{
    dev->declared.irq.msix.count = 0;
    dev->without |= TABLE_WITHOUT_MSIX;
}

void ob_without_areas(struct ob_device *dev, unsigned bar)
{
    if (bar >= sizeof dev->declared.bar / sizeof dev->declared.bar[0])
        return;
    dev->declared.bar[bar].areas_count = 0;
    dev->without |= TABLE_WITHOUT_AREAS(bar);
}

void ob_touch(struct ob_device *dev, void *p, size_t n)
{
    if (dev->plugin->state.touched)
        server_touch(dev, p, n);
}

/* ---- The block ------------------------------------------------------------------------------------ */

static void find_parts(struct ob_device *dev)
{
    dev->session = block_part(&dev->block, SHARED_SESSION);
    dev->input = block_part(&dev->block, SHARED_INPUT);
    dev->output = block_part(&dev->block, SHARED_OUTPUT);
    dev->facts = block_part(&dev->block, SHARED_FACTS);
    dev->recorder = block_part(&dev->block, SHARED_RECORDER);
    dev->regions = block_part(&dev->block, SHARED_REGIONS);
    dev->config = block_part(&dev->block, SHARED_CONFIG);
    dev->irqs = block_part(&dev->block, SHARED_IRQS);
    dev->work = block_part(&dev->block, SHARED_WORK);
    dev->state = block_part(&dev->block, SHARED_DEVICE);
    dev->migration = block_part(&dev->block, SHARED_MIGRATION);
    dev->incoming = block_part(&dev->block, SHARED_STREAM);
    dev->incoming_size = frame_incoming_size(dev);
}

/* A block that is laid out as this build does it; a copy of its descriptor stays the caller's if not. */
static bool adopt(struct ob_device *dev, int fd, const struct block_part *parts)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    if (own < 0 || block_open(&dev->block, own, parts, SHARED_PARTS) < 0) {
        if (own >= 0)
            close(own);
        return false;
    }
    if (memcmp(block_part(&dev->block, SHARED_TABLE), dev->table, parts[SHARED_TABLE].size) == 0)
        return true;
    block_close(&dev->block);
    return false;
}

/* Adopts the block behind *other, which becomes -1 then, or makes a new one. */
static int open_block(struct ob_device *dev, int *other)
{
    const struct block_part parts[SHARED_PARTS] = {
        [SHARED_SESSION] = { "session", 0, sizeof(struct shared_session) },
        [SHARED_INPUT] = { "input", 0, SHARED_BUFFER },
        [SHARED_OUTPUT] = { "output", 0, SHARED_BUFFER },
        [SHARED_FACTS] = { "facts", 0, sizeof(struct shared_facts) },
        [SHARED_RECORDER] = { "recorder", 0, sizeof(struct recorder) },
        [SHARED_REGIONS] = { "regions", 0, WIRE_MAX_DMA_MAPS * sizeof(struct memory_region) },
        [SHARED_CONFIG] = { "config", 0, 4096 },
        [SHARED_IRQS] = { "irqs", 0, sizeof(struct shared_irqs) },
        [SHARED_WORK] = { "work", 0, sizeof(struct shared_work) },
        [SHARED_DEVICE] = { "device", 0, dev->plugin->state.size },
        [SHARED_MIGRATION] = { "migration", 0, sizeof(struct shared_migration) },
        [SHARED_STREAM] = { "stream", 0, frame_incoming_size(dev) },
        [SHARED_TABLE] = { "table", 0, table_size(dev->table->fields) },
    };
    bool upgrade = dev->keeping && dev->keeping->taken_over, adopted = false;

    if (*other >= 0 && !upgrade && (adopted = adopt(dev, *other, parts))) {
        close(*other);
        *other = -1;
    }
    if (!adopted) {
        int ret = block_create(&dev->block, parts, SHARED_PARTS);
        if (ret < 0)
            return ret;
        memcpy(block_part(&dev->block, SHARED_TABLE), dev->table, parts[SHARED_TABLE].size);
    }
    find_parts(dev);
    if (*other < 0)
        record_start(dev, adopted);
    return 0;
}

/* ---- Beginning ------------------------------------------------------------------------------------ */

static int allocate(struct ob_device *dev)
{
    if (dev->plugin->private_size && !(dev->private = calloc(1, dev->plugin->private_size)))
        return -ENOMEM;
    if (!(dev->pins = calloc(WIRE_MAX_DMA_MAPS, sizeof *dev->pins)) ||
        !(dev->files_gone = calloc(WIRE_MAX_DMA_MAPS + 1, sizeof *dev->files_gone)))
        return -ENOMEM;
    if (ids_init(&dev->region_ids, WIRE_MAX_DMA_MAPS) < 0 ||
        ids_init(&dev->file_ids, WIRE_MAX_DMA_MAPS + 1) < 0)
        return -ENOMEM;
    dev->memory = memory_new(WIRE_MAX_DMA_MAPS, WIRE_MAX_DMA_MAPS + 1);
    return dev->memory ? ioevent_open(dev) : -errno;
}

static void power_on(struct ob_device *dev)
{
    server_step_begin(dev);
    server_power_on(dev);
    server_step_end(dev, 0, 0);
}

static bool is_used(const struct ob_device *dev, uint32_t kind, uint32_t number)
{
    switch (kind) {
    case KEEP_FILE: return memory_file_fd(dev->memory, number) >= 0;
    case KEEP_IRQ: return irq_is_used(dev, number);
    case KEEP_IOEVENT: return ioevent_is_used(dev, number);
    case KEEP_TWIN: return twin_is_used(dev, number);
    default: return true;
    }
}

/* What the dead worker had put into keeping for a step that was undone, or had not yet dropped. */
static void drop_unused(struct ob_device *dev)
{
    const struct server_keeping *k = dev->keeping;

    for (uint32_t name = k->next(k->ctx, KEEP_FILE - 1); name; name = k->next(k->ctx, name))
        if (!is_used(dev, name & 0xf0000000u, name & 0x0fffffffu))
            k->drop(k->ctx, name);
}

/* From what the dead worker left to a state that no step has half done, and a session that goes on. */
static int recover(struct ob_device *dev, const struct effect_counts *dead)
{
    uint64_t already = 0, moved = 0;

    step_recover(&dev->block);
    enum effect_kind kind = effect_recover(&dev->block, dead, &already, &moved);
    int ret = dma_recover(dev);
    if (ret == 0)
        ret = irq_recover(dev);
    if (ret == 0)
        ret = logging_recover(dev);
    if (ret == 0 && dev->session->connected)
        ret = server_recover_session(dev, kind, already + moved);
    else if (ret == 0)
        server_recover_drained(dev);
    if (ret == 0)
        drop_unused(dev);
    return ret;
}

static int start(struct ob_device *dev)
{
    int ret = 0;

    dev->watches_paused = server_stopped(dev);
    if (dev->inert) {
        late_look(dev);
    } else if (dev->plugin->start && !dev->watches_paused) {
        server_step_begin(dev);
        server_enter(dev);
        ret = dev->plugin->start(dev);
        server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
    }
    /* A client that went before its I/O was over is still waited for. */
    dev->draining = dev->memory_held && dev->connection.fd < 0;
    return ret;
}

static int choose_bus(struct ob_device *dev)
{
    const struct ob_option *option = bus_option(dev->plugin);
    const char *name = option ? ob_option(dev, option->key) : NULL;

    dev->bus = name ? bus_find(dev->plugin, name) : bus_of(dev->plugin, 0);
    if (dev->bus)
        return 0;
    server_log(dev, "bus=%s: not one of %s", name, option->value);
    return -EINVAL;
}

/* From another build's block to one of our own, which takes its place: at an upgrade, when all else has been
 * taken over as well. */
static int take_block(struct ob_device *dev, int other)
{
    const struct server_keeping *k = dev->keeping;
    int ret = handover_take(dev, other, k->taken_over);

    if (ret < 0)
        return ret;
    if (k->taken_over)
        dev->facts->left = dev->facts->worker;
    record_start(dev, true);
    ret = k->put(k->ctx, k->taken_over ? KEEP_NEW_BLOCK : KEEP_BLOCK, dev->block.fd);
    if (ret < 0)
        server_log(dev, "cannot put the device's state into keeping: %s", strerror(-ret));
    return ret;
}

static int take_state(struct ob_device *dev, const struct effect_counts *dead)
{
    int ret = dev->inherited ? recover(dev, dead) : (power_on(dev), 0);

    if (ret == 0)
        ret = effect_start(&dev->block, dev->keeping ? dev->keeping->worker : 0, dev->counts);
    if (ret == 0 && dev->keeping && dev->keeping->taken_over)
        ret = dev->keeping->taken_over(dev->keeping->ctx);
    return ret;
}

static int cannot(struct ob_device *dev, int error)
{
    server_log(dev, "cannot %s the device's state: %s", dev->inherited ? "inherit" : "make", strerror(-error));
    return error;
}

static int open_device(struct ob_device *dev)
{
    char why[160];

    if (declaration_check(dev->plugin, why, sizeof why) < 0) {
        server_log(dev, "the plugin's declaration cannot be served: %s", why);
        return -EINVAL;
    }
    int ret = choose_bus(dev);
    if (ret < 0)
        return ret;
    ret = allocate(dev);
    if (ret < 0) {
        server_log(dev, "cannot make the device: %s", strerror(-ret));
        return ret;
    }
    /* The device tells by itself what it could not open. */
    if (dev->plugin->open && (ret = dev->plugin->open(dev)) < 0)
        return ret;
    dev->opened = true;
    ret = dev->counts = effect_open_counts();
    return ret < 0 ? cannot(dev, ret) : 0;
}

void server_device_threads(struct ob_device *dev)
{
    if (dev->plugin->make_threads)
        dev->plugin->make_threads(dev);
}

int server_device_block(struct ob_device *dev)
{
    int ret;

    if (dev->inert && dev->other_block >= 0 && (ret = handover_shape(dev, dev->other_block)) < 0)
        return ret;
    ret = dev->bus->describe(dev);
    if (ret == 0)
        ret = (dev->table = handover_table(dev)) ? 0 : -ENOMEM;
    if (ret == 0)
        ret = open_block(dev, &dev->other_block);
    return ret < 0 ? cannot(dev, ret) : 0;
}

int server_device_recover(struct ob_device *dev, const struct effect_counts *dead)
{
    int ret, other = dev->other_block;

    if ((ret = region_memory_open(dev, dev->inherited)) < 0 || (ret = frame_open(dev)) < 0)
        return cannot(dev, ret);
    dev->other_block = -1;
    if (other >= 0 && (ret = take_block(dev, other)) < 0)
        return ret;
    ret = take_state(dev, dead);
    if (ret < 0)
        return cannot(dev, ret);
    close(dev->counts);
    dev->counts = -1;
    return 0;
}

int server_device_start(struct ob_device *dev)
{
    int ret = start(dev);

    if (ret == 0)
        record_started(dev);
    return ret;
}

struct ob_device *server_device_open(const struct ob_plugin *plugin, const char *name,
                                     const struct option_value *options, unsigned option_count,
                                     int epoll, const struct server_keeping *keeping, int block_fd)
{
    struct ob_device *dev = calloc(1, sizeof *dev);
    if (!dev)
        return NULL;
    dev->declared = *plugin;
    dev->plugin = &dev->declared;
    dev->options = options;
    dev->option_count = option_count;
    dev->epoll = epoll;
    dev->keeping = keeping;
    dev->inert = keeping && keeping->inert;
    dev->inherited = block_fd >= 0;
    dev->other_block = block_fd;
    dev->counts = -1;
    dev->connection.fd = -1;
    for (unsigned i = 0; i < IRQ_LINES; i++)
        dev->line[i] = (struct line){ .unmask.fd = -1, .mask_fd = -1, .dev = dev };
    dev->twin.fd = dev->twin_peer = -1;
    snprintf(dev->name, sizeof dev->name, "%s", name);
    for (unsigned i = 0; i < IRQ_COUNT; i++)
        dev->irq_fd[i] = -1;
    for (unsigned i = 0; i < REGIONS_MAX; i++)
        dev->region[i].fd = -1;

    int ret = open_device(dev);
    if (ret < 0) {
        server_device_free(dev);
        errno = -ret;
        return NULL;
    }
    return dev;
}

struct ob_device *server_device_new(const struct ob_plugin *plugin, const char *name,
                                    const struct option_value *options, unsigned option_count,
                                    int epoll, const struct server_keeping *keeping, int block_fd,
                                    const struct effect_counts *dead)
{
    struct ob_device *dev =
        server_device_open(plugin, name, options, option_count, epoll, keeping, block_fd);

    if (!dev)
        return NULL;
    server_device_threads(dev);
    if (server_device_block(dev) < 0 || server_device_recover(dev, dead) < 0 || server_device_start(dev) < 0) {
        server_device_free(dev);
        return NULL;
    }
    return dev;
}

/* ---- End ------------------------------------------------------------------------------------------ */

/* Somebody else may hold what we watch, and the loop would go on watching it. */
static void unwatch(struct ob_device *dev, struct watch *w)
{
    if (w->fd < 0)
        return;
    epoll_ctl(dev->epoll, EPOLL_CTL_DEL, w->fd, NULL);
    close(w->fd);
}

static void close_all(struct ob_device *dev)
{
    if (dev->counts >= 0)
        close(dev->counts);
    if (dev->other_block >= 0)
        close(dev->other_block);
    if (dev->connection.fd >= 0)
        wire_drain(dev->connection.fd);
    unwatch(dev, &dev->connection);
    unwatch(dev, &dev->twin);
    if (dev->twin_peer >= 0)
        close(dev->twin_peer);
    if (dev->fds_end)
        wire_fds_close(&dev->fds);
    for (unsigned i = 0; i < IRQ_COUNT; i++)
        if (dev->irq_fd[i] >= 0)
            close(dev->irq_fd[i]);
    for (unsigned i = 0; i < IRQ_LINES; i++) {
        unwatch(dev, &dev->line[i].unmask);
        if (dev->line[i].mask_fd >= 0)
            close(dev->line[i].mask_fd);
    }
    ioevent_close(dev);
    region_memory_close(dev);
}

void server_device_free(struct ob_device *dev)
{
    if (dev->opened && dev->plugin->close)
        dev->plugin->close(dev);
    server_collect_watches(dev, true);
    close_all(dev);
    frame_close(dev);
    dirty_free(dev->dirty);
    if (dev->memory)
        memory_free(dev->memory);
    if (dev->block.h)
        block_close(&dev->block);
    free(dev->region_ids.free);
    free(dev->file_ids.free);
    free(dev->config_mask);
    free(dev->pins);
    free(dev->files_gone);
    free(dev->private);
    free(dev->table);
    free(dev);
}

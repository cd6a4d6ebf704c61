/*
 * record.c - see record.h.
 */
#include "server/record.h"
#include "server/bus.h"
#include "server/irq.h"
#include "server/report.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static uint64_t realtime(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t add(struct ob_device *dev, struct recorded *e)
{
    e->time = server_now(dev);
    return recorder_add(dev->recorder, e);
}

void record_event(struct ob_device *dev, enum recorded_kind kind, uint32_t index, uint64_t value)
{
    struct recorded e = { .kind = (uint16_t)kind, .index = (uint16_t)index, .value = value };

    add(dev, &e);
}

/* ---- Workers and clients ----------------------------------------------------------------------------- */

static void describe(struct ob_device *dev)
{
    struct shared_facts *f = dev->facts;

    f->layout = FACTS_LAYOUT;
    f->size = sizeof *f;
    snprintf(f->plugin, sizeof f->plugin, "%s", dev->plugin->name);
    snprintf(f->bus, sizeof f->bus, "%s", dev->bus->name);
    f->born = realtime();
    recorder_start(dev->recorder);
}

void record_start(struct ob_device *dev, bool inherited)
{
    struct shared_facts *f = dev->facts;
    uint64_t before = f->worker;

    if (inherited) {
        recorder_adopt(dev->recorder);
        report_bury(dev);
    } else {
        describe(dev);
    }
    dev->now = 0;
    f->worker = dev->keeping ? dev->keeping->worker : 0;
    f->pid = (uint32_t)getpid();
    f->started = realtime();
    f->started_monotonic = server_now(dev);
    f->workers++;
    bool crashed = before && f->death.worker == before;
    record_event(dev, RECORDED_WORKER, crashed ? (uint32_t)f->death.signal : 0, f->worker);
    report_tell(dev);
}

void record_started(struct ob_device *dev)
{
    struct shared_facts *f = dev->facts;

    f->has_begun = f->worker;
    if (!dev->inherited)
        return;
    dev->now = 0;
    dev->recorder->in_hand = 0;
    record_event(dev, RECORDED_RECOVERED, 0, server_now(dev) - f->started_monotonic);
}

void record_client(struct ob_device *dev, bool here)
{
    struct shared_facts *f = dev->facts;

    dev->message_began = 0; /* of one that waited when its client went */
    f->client_since = here ? realtime() : 0;
    f->clients += here;
    record_event(dev, here ? RECORDED_CLIENT : RECORDED_GONE, 0, 0);
}

void record_memory(struct ob_device *dev, uint64_t bytes)
{
    dev->facts->memory_bytes += bytes;
    dev->facts->memory_regions = dev->session->regions;
}

void record_interrupts(struct ob_device *dev)
{
    uint32_t used = 0;

    FOR_EACH_IRQ(dev, i)
        used += (dev->irqs->irq[i] & IRQ_TRIGGER) != 0;
    dev->facts->interrupts_used = used;
}

/* ---- Messages ---------------------------------------------------------------------------------------- */

/* The first bytes as a number, lowest first. */
static uint64_t first_bytes(const void *bytes, size_t n)
{
    uint64_t value = 0;

    memcpy(&value, bytes, n < sizeof value ? n : sizeof value);
    return value;
}

static void tell_region(struct recorded *e, const struct vfio_user_region_access *a)
{
    e->index = (uint16_t)a->region;
    e->offset = a->offset;
    e->size = a->count;
}

static void tell_command(struct recorded *e, const struct wire_message *m)
{
    switch (m->header.command) {
    case VFIO_USER_REGION_WRITE:
        e->value = first_bytes(m->data, m->region.count < m->data_size ? m->region.count : m->data_size);
        tell_region(e, &m->region);
        break;
    case VFIO_USER_REGION_READ: tell_region(e, &m->region); break;
    case VFIO_USER_REGION_WRITE_MULTI: e->value = m->multi.wr_cnt; break;
    case VFIO_USER_DMA_MAP:
        e->offset = m->map.address;
        e->size = m->map.size;
        e->value = m->map.flags;
        break;
    case VFIO_USER_DMA_UNMAP:
        e->offset = m->unmap.address;
        e->size = m->unmap.size;
        e->value = m->unmap.flags;
        break;
    case VFIO_USER_DEVICE_GET_REGION_INFO: e->index = (uint16_t)m->region_info.index; break;
    case VFIO_USER_DEVICE_GET_REGION_IO_FDS: e->index = (uint16_t)m->io_fds.index; break;
    case VFIO_USER_DEVICE_GET_IRQ_INFO: e->index = (uint16_t)m->irq_info.index; break;
    case VFIO_USER_DEVICE_SET_IRQS:
        e->index = (uint16_t)m->irq_set.index;
        e->offset = m->irq_set.start;
        e->size = m->irq_set.count;
        e->value = m->irq_set.flags;
        break;
    case VFIO_USER_DEVICE_FEATURE: e->value = m->feature.flags; break;
    case VFIO_USER_MIG_DATA_READ:
    case VFIO_USER_MIG_DATA_WRITE: e->size = m->mig_data.size; break;
    default: break;
    }
}

void record_message(struct ob_device *dev, const struct wire_message *m, bool whole)
{
    struct recorded e = { .kind = RECORDED_MESSAGE, .id = m->header.id, .command = m->header.command };

    if (whole)
        tell_command(&e, m);
    block_store(&dev->recorder->in_hand, add(dev, &e));
    if (!dev->message_began)
        dev->message_began = dev->now; /* one that had to wait began when it came */
}

void record_reply(struct ob_device *dev, const struct vfio_user_header *command, const struct reply *reply,
                  int error)
{
    struct recorded e = { .kind = error == -EINPROGRESS ? RECORDED_WAITS : RECORDED_REPLY, .id = command->id,
                       .command = command->command, .error = error };
    const size_t head = sizeof(struct vfio_user_region_access);

    dev->now = ob_now(dev);
    if (!error && command->command == VFIO_USER_REGION_READ)
        e.value = first_bytes(reply->body + head, reply->size - head);
    if (error != -EINPROGRESS) {
        histogram_add(&dev->facts->message_time, dev->now - dev->message_began);
        dev->message_began = 0;
    }
    add(dev, &e);
    block_store(&dev->recorder->in_hand, 0);
}

void record_answer(struct ob_device *dev, const struct vfio_user_header *reply)
{
    struct recorded e = { .kind = RECORDED_ANSWER, .id = reply->id, .command = reply->command,
                       .error = reply->flags & VFIO_USER_FLAG_ERROR ? -(int32_t)(reply->error & 0xfff) : 0 };

    add(dev, &e);
}

void record_dma(struct ob_device *dev, unsigned slot, const struct shared_dma *d, int error)
{
    struct recorded e = { .kind = RECORDED_DMA, .index = (uint16_t)slot, .offset = d->address, .size = d->size,
                       .value = d->is_write, .error = error };

    add(dev, &e);
}

/* ---- The device's own -------------------------------------------------------------------------------- */

uint64_t ob_step_time(struct ob_device *dev)
{
    return server_now(dev);
}

void ob_account(struct ob_device *dev, enum ob_account kind, uint64_t requests, uint64_t bytes, uint64_t ns)
{
    struct shared_facts *f = dev->facts;

    if ((unsigned)kind >= FACTS_REQUESTS)
        return;
    f->request[kind].count += requests;
    f->request[kind].bytes += bytes;
    if (ns)
        histogram_add_many(&f->request_time[kind], ns, requests);
}

void ob_trace(struct ob_device *dev, const char *text, uint64_t a, uint64_t b)
{
    struct recorded e = { .kind = RECORDED_DEVICE, .offset = a, .value = b };

    for (size_t i = 0; i < sizeof e.text && text[i]; i++)
        e.text[i] = text[i];
    add(dev, &e);
}

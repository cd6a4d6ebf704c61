/*
 * play.c - one connection: behaves, misbehaves once, behaves, and takes notes.
 */
#include "mirror/play.h"
#include "mirror/misbehaviour.h"
#include "mirror/stream.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* More commands than this after a misbehaviour: the client goes round in circles. */
#define MOST_COMMANDS 20000u

/* A client's own memory may grow by so much. */
#define MOST_GROWTH (128u << 20)

/* A gift that is held at so many looks in a row is not going to be closed. */
#define HELD_FOR_GOOD 2u

void play_wrong(struct play *p, const char *format, ...)
{
    va_list values;

    if (p->wrong[0])
        return;
    va_start(values, format);
    vsnprintf(p->wrong, sizeof p->wrong, format, values);
    va_end(values);
}

/* ---- Commands of the mirror ---------------------------------------------------------------- */

struct asked *play_note(struct play *p, uint16_t command, uint32_t flags, uint64_t address,
                        uint64_t count, bool must_fail, uint16_t *id)
{
    if (p->asked_count == PLAY_ASKED)
        return NULL;
    *id = (uint16_t)p->asked_count;
    struct asked *a = &p->asked[p->asked_count++];
    *a = (struct asked){ .id = *id,
                         .command = command,
                         .address = address,
                         .count = count,
                         .no_reply = flags & VFIO_USER_FLAG_NO_REPLY,
                         .must_fail = must_fail };
    if (a->no_reply)
        p->answered++; /* none is missing */
    return a;
}

void play_ask(struct play *p, uint16_t command, uint32_t flags, uint64_t address, uint64_t count,
              const void *data, size_t data_size, bool must_fail)
{
    struct {
        struct vfio_user_header header;
        struct vfio_user_dma_access dma;
        uint8_t data[PLAY_DATA];
    } m = { .header = { .command = command, .flags = flags }, .dma = { address, count } };

    if (!play_note(p, command, flags, address, count, must_fail, &m.header.id))
        return;
    m.header.size = (uint32_t)(offsetof(typeof(m), data) + data_size);
    if (data_size)
        memcpy(m.data, data, data_size);
    play_send(p, &m, m.header.size, NULL, 0);
}

/* ---- What the client must keep to ---------------------------------------------------------- */

static void check_limits(struct play *p, const struct wire_message *m, unsigned nfds)
{
    const struct wire_capabilities *c = &p->limits;
    uint16_t command = m->header.command;

    if (nfds > c->max_msg_fds)
        play_wrong(p, "sent %u descriptors with a message, where %u were agreed on", nfds,
                   c->max_msg_fds);
    if ((command == VFIO_USER_REGION_READ || command == VFIO_USER_REGION_WRITE) &&
        m->region.count > c->max_data_xfer_size)
        play_wrong(p, "moves %u bytes with a message, where %u were agreed on", m->region.count,
                   c->max_data_xfer_size);
    if (command == VFIO_USER_DMA_MAP && p->device.maps_count >= c->max_dma_maps)
        play_wrong(p, "maps more than the %u DMA regions that were agreed on", c->max_dma_maps);
    if (command == VFIO_USER_REGION_WRITE_MULTI && !c->write_multiple)
        play_wrong(p, "sent VFIO_USER_REGION_WRITE_MULTI, which was not agreed on");
}

void play_look_size(struct play *p)
{
    uint64_t before = p->watch.anonymous;
    uint64_t now = p->client && p->acted ? watch_anonymous(p->client) : 0;

    if (before && now > before + MOST_GROWTH)
        play_wrong(p, "has grown by %llu MiB", (unsigned long long)(now - before) >> 20);
}

void play_look(struct play *p)
{
    struct watch *w = &p->watch;

    if (!p->client || !p->acted)
        return;
    uint64_t end = watch_map_end(w, p->client);
    uint64_t limit = (w->map_limit + 4095) & ~UINT64_C(4095);
    if (end > limit)
        play_wrong(p, "maps a file up to 0x%llx that can be mapped up to 0x%llx",
                   (unsigned long long)end, (unsigned long long)limit);
    if (w->gift_inode)
        w->held = watch_holds(w, p->client) ? w->held + 1 : 0;
    play_look_size(p);
}

/* ---- The moment ---------------------------------------------------------------------------- */

static bool reads_register(const struct play *p, const struct wire_message *m)
{
    return m->header.command == VFIO_USER_REGION_READ &&
           (m->region.region == DEVICE_REGISTERS || !p->reads_registers);
}

static bool is_feature(const struct wire_message *m, uint32_t feature)
{
    return m->header.command == VFIO_USER_DEVICE_FEATURE &&
           (m->feature.flags & VFIO_DEVICE_FEATURE_MASK) == feature;
}

static bool at_point(struct play *p, const struct wire_message *m)
{
    uint16_t command = m->header.command;

    switch (p->m->point) {
    case AT_CONNECT:
        return false;
    case AT_VERSION:
        return command == VFIO_USER_VERSION;
    case AT_INFO:
        return command == VFIO_USER_DEVICE_GET_INFO;
    case AT_REGION_INFO:
        return command == VFIO_USER_DEVICE_GET_REGION_INFO &&
               m->region_info.index == DEVICE_MEMORY &&
               m->region_info.argsz >= sizeof(struct device_sparse);
    case AT_OTHER_REGION_INFO:
        return command == VFIO_USER_DEVICE_GET_REGION_INFO &&
               m->region_info.index != DEVICE_MEMORY && m->region_info.index < VFIO_PCI_NUM_REGIONS;
    case AT_IRQ_INFO:
        return command == VFIO_USER_DEVICE_GET_IRQ_INFO &&
               m->irq_info.index == VFIO_PCI_MSIX_IRQ_INDEX;
    case AT_SET_IRQS:
        return command == VFIO_USER_DEVICE_SET_IRQS;
    case AT_DMA_MAP:
        return command == VFIO_USER_DMA_MAP;
    case AT_DMA_UNMAP:
        return command == VFIO_USER_DMA_UNMAP;
    case AT_READ:
        return reads_register(p, m);
    case AT_WRITE:
        return command == VFIO_USER_REGION_WRITE && !(m->header.flags & VFIO_USER_FLAG_NO_REPLY);
    case AT_WRITE_MULTI:
        return command == VFIO_USER_REGION_WRITE_MULTI &&
               !(m->header.flags & VFIO_USER_FLAG_NO_REPLY);
    case AT_RESET:
        return command == VFIO_USER_DEVICE_RESET;
    case AT_FEATURE:
        return is_feature(m, VFIO_DEVICE_FEATURE_MIGRATION);
    case AT_MIG_STATE:
        return is_feature(m, VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE) &&
               (m->feature.flags & VFIO_DEVICE_FEATURE_GET);
    case AT_LOG_START:
        return is_feature(m, VFIO_DEVICE_FEATURE_DMA_LOGGING_START);
    case AT_LOG_REPORT:
        return is_feature(m, VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT);
    case AT_MIG_DATA_READ:
        return command == VFIO_USER_MIG_DATA_READ;
    case AT_IO_FDS:
        return command == VFIO_USER_DEVICE_GET_REGION_IO_FDS;
    case AT_MAPPED_DMA:
        return reads_register(p, m) && p->device.maps_count > 0;
    case AT_UNMAPPED_DMA:
        return reads_register(p, m) && p->gone_count > 0;
    case AT_PIPELINED:
        if (command == VFIO_USER_REGION_READ && !p->first)
            play_pause(p, 50); /* the other one may be on its way */
        return command == VFIO_USER_REGION_READ && p->first;
    }
    return false;
}

static void act(struct play *p, struct reply *r)
{
    p->acted = true;
    p->watch.anonymous = p->client ? watch_anonymous(p->client) : 0;
    if (p->m->act(p, r))
        play_send_reply(p, r);
    p->acted_at = p->heard_at = play_now();
}

/* The second part of a misbehaviour: the client has mapped a file that now becomes shorter. */
static void act_later(struct play *p)
{
    if (p->later < 0 || watch_map_end(&p->watch, p->client) == 0)
        return;
    if (ftruncate(p->later, 0) == 0)
        p->watch.map_inode = 0; /* what is mapped is beyond its end, and that is not its fault */
    close(p->later);
    p->later = -1;
}

/* ---- Commands of the client ---------------------------------------------------------------- */

static void version_reply(struct play *p, struct reply *r)
{
    struct vfio_user_version head = { .major = VFIO_USER_MAJOR, .minor = VFIO_USER_MINOR };
    char text[512];

    wire_capabilities_ours(&p->limits);
    int n = wire_capabilities_format(&p->limits, text, sizeof text);
    reply_set(r, &head, sizeof head);
    memcpy((uint8_t *)reply_body(r) + sizeof head, text, (size_t)n);
    reply_resize(r, sizeof head + (size_t)n);
}

static void note_unmap(struct play *p, uint64_t address)
{
    p->gone[p->gone_count++ % PLAY_GONE] = address;
}

/* Fills in the proper reply to a command. */
static void proper_reply(struct play *p, const struct wire_message *m, struct wire_fds *fds,
                         struct reply *r)
{
    unsigned before = p->device.maps_count;
    uint64_t first = before ? p->device.maps[0].address : 0;

    p->device.pending = p->asked_count > p->answered ? p->asked_count - p->answered : 0;
    device_reply(&p->device, m, fds, r);
    if (m->header.command == VFIO_USER_VERSION) {
        r->error = false;
        reply_header(r)->flags = VFIO_USER_FLAG_TYPE_REPLY;
        reply_header(r)->error = 0;
        version_reply(p, r);
        p->offers_twin = memmem(m->data, m->data_size, "twin_socket", strlen("twin_socket"));
        /* The minor version is the lower one of both. */
        if (m->version.minor < VFIO_USER_MINOR)
            memcpy((uint8_t *)reply_body(r) + 2, &m->version.minor, 2);
    }
    if (p->device.maps_count < before)
        note_unmap(p, m->unmap.flags & VFIO_DMA_UNMAP_FLAG_ALL ? first : m->unmap.address);
}

static void serve(struct play *p, struct waiting *w, struct reply *r)
{
    struct wire_message m;
    int ret = wire_decode_command(w->bytes, w->n, w->fds.count, &m);

    if (p->acted && p->commands++ == 0)
        p->next_at = play_now();
    if (ret < 0) {
        device_error(&m.header, -ret, r);
    } else {
        check_limits(p, &m, w->fds.count);
        proper_reply(p, &m, &w->fds, r);
        if (m.header.command == VFIO_USER_REGION_READ && m.region.region == DEVICE_REGISTERS)
            p->register_read = true;
    }
    play_look(p);
    act_later(p);
    if (ret == 0 && p->m && !p->acted && !r->error && at_point(p, &m))
        act(p, r);
    else if (!p->deaf && !(m.header.flags & VFIO_USER_FLAG_NO_REPLY))
        play_send_reply(p, r);
}

void play_serve_next(struct play *p, struct reply *r)
{
    struct waiting *w = stream_next(p);
    if (!w)
        return;
    serve(p, w, r);
    stream_free(w);
}

void play(struct play *p)
{
    static struct reply r;
    struct waiting *w;

    p->last = &p->first;
    wire_capabilities_ours(&p->limits);
    p->heard_at = play_now();
    if (!p->watch.map_inode)
        watch_map(&p->watch, p->device.memory, DEVICE_AREA_START + DEVICE_AREA_SIZE);
    if (p->m && p->m->point == AT_CONNECT && !p->acted)
        act(p, &r);
    while (!p->over && (w = stream_next(p))) {
        serve(p, w, &r);
        stream_free(w);
        if (p->commands > MOST_COMMANDS) {
            play_wrong(p, "sent %u commands, and no end", p->commands);
            break;
        }
    }
    if (!p->closed)
        play_look(p);
    if (p->watch.gift_inode && p->watch.held >= HELD_FOR_GOOD)
        play_wrong(p, "keeps a descriptor that it has no use for");
}

void play_free(struct play *p)
{
    while (p->first) {
        struct waiting *w = p->first;
        p->first = w->next;
        stream_free(w);
    }
    p->last = &p->first;
    p->waiting = 0;
    wire_fds_close(&p->in_fds);
    if (p->later >= 0)
        close(p->later);
    if (p->keep >= 0)
        close(p->keep);
    p->later = p->keep = -1;
    free(p->in);
    p->in = NULL;
    device_free(&p->device);
}

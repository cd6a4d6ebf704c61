/*
 * ioevent.c - eventfds that stand for writes.
 *
 * They are made for a client when it asks, and closed when it goes: what another one still holds must
 * not reach the device of the next.
 *
 * A signal must not be lost when the worker dies, so its bit in the block is set before the eventfd's
 * counter is cleared, and goes with the step that serves it. In between, a successor finds the bit; before,
 * the counter. (Served first and cleared then, a second signal in between would be lost.)
 */
#include "server/ioevent.h"
#include "server/log.h"
#include "server/region.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

struct ioevent {
    struct watch watch; /* fd -1: there is none */
    struct ob_device *dev;
};

static struct ioevent *at(const struct ob_device *dev, uint32_t region, unsigned i)
{
    return &dev->ioevents[region * SHARED_IOEVENTS + i];
}

static uint32_t keep_name(uint32_t region, unsigned i)
{
    return KEEP_IOEVENT | region << 8 | i;
}

/* ---- Serving ------------------------------------------------------------------------------------ */

/* One write, in a step of its own. */
static void serve(struct ob_device *dev, uint32_t region, unsigned i)
{
    const struct ob_ioevent *e = &dev->region[region].ioevents[i];
    uint16_t *pending = &dev->session->ioevents_pending[region];
    uint64_t value = htole64(e->value);

    server_step_begin(dev);
    int ret = region_write_one(dev, region, e->offset, &value, e->size);
    if (ret < 0) {
        server_step_undo(dev);
        server_log(dev, "a signalled write of %u bytes at 0x%llx of region %u: %s", e->size,
                   (unsigned long long)e->offset, region, strerror(-ret));
    }
    SET(dev, *pending, (uint16_t)(*pending & ~(1u << i)));
    server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
}

void ioevent_run(struct ob_device *dev)
{
    dev->ioevents_wait = server_stopped(dev);
    if (dev->inert)
        return; /* a successor may want them */
    for (uint32_t region = 0; region < dev->region_count; region++)
        for (unsigned i = 0; i < dev->session->ioevents[region] && !server_stopped(dev); i++)
            if (dev->session->ioevents_pending[region] & 1u << i)
                serve(dev, region, i);
}

/* A client can take the flag from its eventfd that makes a read return at once, hence preadv2(). */
/* #syscalls worker: preadv2 */
static void clear(struct ob_device *dev, int fd)
{
    uint64_t count;
    struct iovec iov = { &count, sizeof count };

    if (preadv2(fd, &iov, 1, -1, RWF_NOWAIT) > 0)
        ob_moved(dev, sizeof count, 0);
}

static void signalled(struct watch *w, uint32_t events)
{
    struct ioevent *event = (struct ioevent *)(void *)w;
    struct ob_device *dev = event->dev;
    uint32_t number = (uint32_t)(event - dev->ioevents);
    uint32_t region = number / SHARED_IOEVENTS;
    uint16_t *pending = &dev->session->ioevents_pending[region];
    (void)events;

    block_store(pending, (uint16_t)(*pending | 1u << number % SHARED_IOEVENTS));
    clear(dev, w->fd);
    ioevent_run(dev);
    server_push(dev);
}

/* ---- Making ------------------------------------------------------------------------------------- */

/* Edge triggered: a signal is seen once, even where its client cleared it itself. */
static int watch_new(struct ob_device *dev, uint32_t region, unsigned i, int fd)
{
    struct ioevent *event = at(dev, region, i);

    event->watch = (struct watch){ .fd = fd, .ready = signalled };
    int ret = watch_control(dev->epoll, EPOLL_CTL_ADD, &event->watch,
                            (uint32_t)EPOLLIN | (uint32_t)EPOLLET);
    if (ret < 0)
        event->watch.fd = -1;
    return ret;
}

/* #syscalls worker: eventfd2 */
static int make(struct ob_device *dev, uint32_t region, unsigned i)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0)
        return -errno;
    int ret = dev->keeping ? dev->keeping->put(dev->keeping->ctx, keep_name(region, i), fd) : 0;
    if (ret == 0)
        ret = watch_new(dev, region, i, fd);
    if (ret < 0)
        close(fd);
    return ret;
}

/* As many as there are, and as the client takes descriptors; those that cannot be made are left out. */
static unsigned make_all(struct ob_device *dev, uint32_t region)
{
    uint32_t limit = dev->session->client.max_msg_fds;
    unsigned n = dev->region[region].ioevents_count;

    n = n < limit ? n : limit;
    for (unsigned i = 0; i < n; i++) {
        int ret = at(dev, region, i)->watch.fd >= 0 ? 0 : make(dev, region, i);
        if (ret < 0) {
            server_log(dev, "cannot make an ioeventfd: %s", strerror(-ret));
            return i;
        }
    }
    return n;
}

unsigned ioevent_fds(const struct ob_device *dev, uint32_t region, int fds[WIRE_MAX_FDS])
{
    unsigned n = dev->session->ioevents[region];
    for (unsigned i = 0; i < n; i++)
        fds[i] = at(dev, region, i)->watch.fd;
    return n;
}

int ioevent_info(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    struct vfio_user_region_io_fds info = { .index = m->io_fds.index };
    struct vfio_user_sub_region sub;

    if (info.index >= dev->region_count || !dev->region[info.index].size)
        return -EINVAL;
    const struct region *r = &dev->region[info.index];
    unsigned n = make_all(dev, info.index);
    SET(dev, dev->session->ioevents[info.index], (uint16_t)n);
    info.argsz = (uint32_t)(sizeof info + n * sizeof sub);
    reply->size = sizeof info;
    if (info.argsz <= m->io_fds.argsz && n) {
        info.count = n;
        reply->size = info.argsz;
        reply->fds_what = FDS_IOEVENTS | info.index;
    }
    memcpy(reply->body, &info, sizeof info);
    for (unsigned i = 0; i < info.count; i++) {
        const struct ob_ioevent *e = &r->ioevents[i];
        sub = (struct vfio_user_sub_region){
            .offset = e->offset,
            .size = e->size,
            .fd_index = i,
            .type = VFIO_USER_IO_FD_TYPE_IOEVENTFD,
            .flags = (e->any_value ? 0 : VFIO_USER_IOEVENTFD_DATAMATCH) |
                     (r->ports ? VFIO_USER_IOEVENTFD_PIO : 0),
            .datamatch = e->any_value ? 0 : e->value,
        };
        memcpy(reply->body + sizeof info + i * sizeof sub, &sub, sizeof sub);
    }
    return 0;
}

/* ---- Life --------------------------------------------------------------------------------------- */

int ioevent_open(struct ob_device *dev)
{
    dev->ioevents = calloc(SHARED_REGION_INDEXES * SHARED_IOEVENTS, sizeof *dev->ioevents);
    if (!dev->ioevents)
        return -ENOMEM;
    for (unsigned i = 0; i < SHARED_REGION_INDEXES * SHARED_IOEVENTS; i++)
        dev->ioevents[i] = (struct ioevent){ .watch.fd = -1, .dev = dev };
    return 0;
}

static void let_go(struct ob_device *dev, struct watch *w)
{
    epoll_ctl(dev->epoll, EPOLL_CTL_DEL, w->fd, NULL);
    close(w->fd);
    w->fd = -1;
}

void ioevent_close(struct ob_device *dev)
{
    for (unsigned i = 0; dev->ioevents && i < SHARED_REGION_INDEXES * SHARED_IOEVENTS; i++)
        if (dev->ioevents[i].watch.fd >= 0)
            let_go(dev, &dev->ioevents[i].watch);
    free(dev->ioevents);
}

void ioevent_release(struct ob_device *dev)
{
    struct shared_session *s = dev->session;

    server_touch(dev, s->ioevents, sizeof s->ioevents);
    memset(s->ioevents, 0, sizeof s->ioevents);
    server_touch(dev, s->ioevents_pending, sizeof s->ioevents_pending);
    memset(s->ioevents_pending, 0, sizeof s->ioevents_pending);
}

void ioevent_forget(struct ob_device *dev)
{
    for (uint32_t region = 0; region < dev->region_count; region++) {
        for (unsigned i = 0; i < SHARED_IOEVENTS; i++) {
            if (at(dev, region, i)->watch.fd < 0)
                continue;
            let_go(dev, &at(dev, region, i)->watch);
            if (dev->keeping)
                dev->keeping->drop(dev->keeping->ctx, keep_name(region, i));
        }
    }
}

bool ioevent_is_used(const struct ob_device *dev, uint32_t number)
{
    uint32_t region = number >> 8, i = number & 0xff;
    return region < dev->region_count && i < dev->session->ioevents[region];
}

int ioevent_recover(struct ob_device *dev)
{
    const struct server_keeping *k = dev->keeping;

    for (uint32_t region = 0; region < dev->region_count; region++) {
        for (unsigned i = 0; i < dev->session->ioevents[region]; i++) {
            int fd = k->get(k->ctx, keep_name(region, i));
            int ret = fd < 0 ? fd : watch_new(dev, region, i, fd);
            if (ret < 0 && fd >= 0)
                close(fd);
            if (ret < 0)
                return ret;
        }
    }
    return 0;
}

int ioevent_check(const struct ob_ioevent *events, unsigned count, uint64_t size, const char *region,
                  char *why, size_t space)
{
    if (count > SHARED_IOEVENTS) {
        snprintf(why, space, "%s: more than %u ioevents", region, SHARED_IOEVENTS);
        return -1;
    }
    for (unsigned i = 0; i < count; i++) {
        const struct ob_ioevent *e = &events[i];
        if (e->size == 0 || e->size > 8 || (e->size & (e->size - 1)) || e->size > size ||
            e->offset > size - e->size || (e->size < 8 && e->value >> 8 * e->size)) {
            snprintf(why, space, "%s: ioevent %u must be 1, 2, 4 or 8 bytes inside it", region, i);
            return -1;
        }
    }
    return 0;
}

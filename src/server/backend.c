/*
 * backend.c - descriptors that the device watches, reads and writes.
 */
#include "server/device.h"
#include "server/record.h"

#include <stdlib.h>
#include <sys/socket.h>

struct device_watch {
    struct watch watch;
    struct ob_device *dev;
    ob_ready_fn *ready;
    struct device_watch *next;
    uint32_t events;
    bool dead;
};

static void backend_ready(struct watch *w, uint32_t events)
{
    struct device_watch *dw = (struct device_watch *)(void *)w;
    struct ob_device *dev = dw->dev;

    if (dw->dead || dev->watches_paused)
        return; /* since this turn of the loop began */
    server_step_begin(dev);
    server_enter(dev);
    record_event(dev, RECORDED_BACKEND, (uint32_t)dw->watch.fd, events);
    dw->ready(dev, dw->watch.fd, events);
    server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
    server_push(dev);
}

static struct device_watch *find(const struct ob_device *dev, int fd)
{
    struct device_watch *dw = dev->watches;
    while (dw && (dw->dead || dw->watch.fd != fd))
        dw = dw->next;
    return dw;
}

static struct device_watch *add(struct ob_device *dev, int fd, uint32_t events)
{
    struct device_watch *dw = calloc(1, sizeof *dw);
    if (!dw)
        return NULL;
    dw->watch.fd = fd;
    dw->watch.ready = backend_ready;
    dw->dev = dev;
    int ret = dev->watches_paused ? 0 : watch_control(dev->epoll, EPOLL_CTL_ADD, &dw->watch, events);
    if (ret < 0) {
        free(dw);
        errno = -ret;
        return NULL;
    }
    dw->next = dev->watches;
    dev->watches = dw;
    return dw;
}

int ob_watch(struct ob_device *dev, int fd, uint32_t events, ob_ready_fn *ready)
{
    struct device_watch *dw = find(dev, fd);
    int ret = 0;

    if (!dw && !(dw = add(dev, fd, events)))
        return -errno;
    else if (!dev->watches_paused)
        ret = watch_control(dev->epoll, EPOLL_CTL_MOD, &dw->watch, events);
    dw->events = events;
    dw->ready = ready;
    return ret;
}

void server_pause_watches(struct ob_device *dev)
{
    for (struct device_watch *dw = dev->watches; dw && !dev->watches_paused; dw = dw->next)
        if (!dw->dead)
            epoll_ctl(dev->epoll, EPOLL_CTL_DEL, dw->watch.fd, NULL);
    dev->watches_paused = true;
}

void server_resume_watches(struct ob_device *dev)
{
    for (struct device_watch *dw = dev->watches; dw && dev->watches_paused; dw = dw->next)
        if (!dw->dead)
            watch_control(dev->epoll, EPOLL_CTL_ADD, &dw->watch, dw->events);
    dev->watches_paused = false;
}

/* The watch itself stays until its event, which may be waiting in the loop, cannot come any more. */
void ob_unwatch(struct ob_device *dev, int fd)
{
    struct device_watch *dw = find(dev, fd);
    if (!dw)
        return;
    epoll_ctl(dev->epoll, EPOLL_CTL_DEL, fd, NULL);
    dw->dead = true;
    dev->watches_dead = true;
}

void server_collect_watches(struct ob_device *dev, bool all)
{
    struct device_watch **link = &dev->watches;

    while (*link) {
        struct device_watch *dw = *link;
        if (dw->dead || all) {
            if (!dw->dead)
                epoll_ctl(dev->epoll, EPOLL_CTL_DEL, dw->watch.fd, NULL);
            *link = dw->next;
            free(dw);
        } else {
            link = &dw->next;
        }
    }
    dev->watches_dead = false;
}

int ob_keep(struct ob_device *dev, unsigned number, int fd)
{
    const struct server_keeping *k = dev->keeping;

    if (number >= KEEP_DEVICE_NUMBERS)
        return -EINVAL;
    if (k && fd < 0)
        k->drop(k->ctx, KEEP_DEVICE | number);
    return k && fd >= 0 ? k->put(k->ctx, KEEP_DEVICE | number, fd) : 0;
}

int ob_kept(struct ob_device *dev, unsigned number)
{
    const struct server_keeping *k = dev->keeping;

    if (number >= KEEP_DEVICE_NUMBERS)
        return -EINVAL;
    return k ? k->get(k->ctx, KEEP_DEVICE | number) : -ENOENT;
}

int ob_accept(struct ob_device *dev, unsigned listener, int fd, unsigned number)
{
    const struct server_keeping *k = dev->keeping;

    if (listener >= KEEP_DEVICE_NUMBERS || number >= KEEP_DEVICE_NUMBERS)
        return -EINVAL;
    if (k)
        return k->accept(k->ctx, KEEP_DEVICE | listener, KEEP_DEVICE | number);
    int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return client < 0 ? -errno : client;
}

ssize_t ob_read(struct ob_device *dev, int fd, void *buf, size_t n)
{
    return effect_read(&dev->block, fd, buf, n);
}

void ob_moved(struct ob_device *dev, uint64_t read, uint64_t written)
{
    dev->block.h->read += read;
    dev->block.h->written += written;
}

ssize_t ob_write(struct ob_device *dev, int fd, const void *buf, size_t n)
{
    return effect_write(&dev->block, EFFECT_WRITE, fd, buf, n, 0);
}

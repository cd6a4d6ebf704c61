/*
 * twin.c - writing commands, reading replies.
 */
#include "server/twin.h"
#include "server/dma.h"
#include "server/dma_message.h"
#include "server/log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Reads in a turn of the loop, before it is others' turn. */
#define READS 64

static void watch(struct ob_device *dev, bool blocked)
{
    dev->twin_blocked = blocked;
    watch_control(dev->epoll, EPOLL_CTL_MOD, &dev->twin,
                  (uint32_t)EPOLLIN | (blocked ? (uint32_t)EPOLLOUT : 0));
}

/* ---- Out ---------------------------------------------------------------------------------------- */

/* One command, or the rest of one: bytes or -errno. *whole: nothing of it is left. */
static ssize_t send_command(struct ob_device *dev, bool *whole)
{
    struct shared_commands *c = &dev->work->commands;
    struct iovec iov[DMA_MESSAGE_PIECES];
    uint8_t head[WIRE_DMA_HEAD];
    size_t left = 0;

    int n = dma_message_bytes(dev, (uint32_t)(c->out >> 32), (uint32_t)c->out, head, iov);
    for (int i = 0; i < n; i++)
        left += iov[i].iov_len;
    if (left == 0) { /* a dead worker sent the last of it */
        *whole = true;
        return 0;
    }
    ssize_t sent = effect_writev(&dev->block, EFFECT_TWIN_OUT, dev->twin.fd, iov, n, c->out);
    if (sent > 0)
        block_store(&c->out, c->out + (uint64_t)sent);
    effect_done(&dev->block);
    *whole = sent == (ssize_t)left;
    return sent;
}

bool twin_flush(struct ob_device *dev)
{
    struct shared_commands *c = &dev->work->commands;
    bool whole;

    if (dev->twin.fd < 0 || dev->twin_blocked)
        return true;
    while ((uint32_t)(c->out >> 32) != c->end) {
        ssize_t n = send_command(dev, &whole);
        if (n == -EAGAIN) {
            watch(dev, true);
            return true;
        }
        if (n < 0) {
            server_disconnect(dev, "it does not take our commands");
            return false;
        }
        dev->facts->bytes_out += (uint64_t)n;
        if (whole)
            block_store(&c->out, ((c->out >> 32) + 1) << 32);
    }
    return true;
}

/* ---- In ----------------------------------------------------------------------------------------- */

/* What has come of the head is a whole reply, or the head of one whose data has come. */
static void run_reply(struct ob_device *dev, uint32_t size)
{
    struct shared_commands *c = &dev->work->commands;
    uint32_t in_head = size < sizeof c->head ? size : (uint32_t)sizeof c->head;
    uint32_t next = c->got - size; /* bytes of the next reply, read along */

    server_step_begin(dev);
    if (dma_twin_reply(dev, c->head, in_head) < 0)
        server_log(dev, "a reply that nobody asked for, on the twin socket");
    server_touch(dev, &c->got, sizeof c->got);
    server_touch(dev, c->head, sizeof c->head);
    memmove(c->head, c->head + in_head, next);
    c->got = next;
    server_step_end(dev, step_run(&dev->block), step_reply(&dev->block));
    dev->facts->messages++;
    dev->facts->bytes_in += size;
    if (dev->quiesce && !dma_message_waits(dev))
        dev->resume = true;
}

/* Reads the next bytes to where they belong. Bytes, 0 at the end of the stream, or -errno. */
static ssize_t read_some(struct ob_device *dev, uint32_t size)
{
    struct shared_commands *c = &dev->work->commands;
    uint8_t scrap[4096], *to;
    size_t n;

    if (c->got < sizeof c->head) {
        to = c->head + c->got;
        n = sizeof c->head - c->got;
    } else {
        uint8_t *place = dma_message_place(dev, c->head);
        n = size - c->got;
        to = place ? place + (c->got - sizeof c->head) : scrap;
        if (!place && n > sizeof scrap)
            n = sizeof scrap;
    }
    ssize_t got = effect_read_to(&dev->block, EFFECT_TWIN_IN, dev->twin.fd, to, n, c->got);
    if (got > 0)
        block_store(&c->got, c->got + (uint32_t)got);
    effect_done(&dev->block);
    return got;
}

/* Runs the replies that are whole. False: the client was disconnected. */
static bool run_replies(struct ob_device *dev)
{
    struct shared_commands *c = &dev->work->commands;
    struct vfio_user_header header;
    int size;

    while ((size = wire_header(c->head, c->got, WIRE_MAX_MESSAGE, &header)) > 0 &&
           wire_is_reply(&header) && c->got >= (uint32_t)size)
        run_reply(dev, (uint32_t)size);
    if (size == 0 || (size > 0 && wire_is_reply(&header)))
        return true;
    server_disconnect(dev, "it sent something that is no reply on its twin socket");
    return false;
}

/* False: nothing more is there, or the client was disconnected. */
static bool receive(struct ob_device *dev)
{
    struct vfio_user_header header;
    int size = wire_header(dev->work->commands.head, dev->work->commands.got, WIRE_MAX_MESSAGE, &header);

    ssize_t n = read_some(dev, (uint32_t)size);
    if (n > 0)
        return run_replies(dev);
    if (n != -EAGAIN)
        server_disconnect(dev, n < 0 ? strerror((int)-n) : "it closed its twin socket");
    return false;
}

static void twin_ready(struct watch *w, uint32_t events)
{
    struct ob_device *dev =
        (struct ob_device *)(void *)((uint8_t *)w - offsetof(struct ob_device, twin));

    if (dev->twin_blocked && (events & ((uint32_t)EPOLLOUT | EPOLLHUP | EPOLLERR)))
        watch(dev, false);
    for (int i = 0; i < READS && receive(dev); i++)
        ;
    server_push(dev);
}

void twin_resume(struct ob_device *dev)
{
    if (dev->twin.fd < 0 || run_replies(dev))
        server_push(dev);
}

/* ---- Life --------------------------------------------------------------------------------------- */

static int watch_new(struct ob_device *dev, int fd)
{
    dev->twin.fd = fd;
    dev->twin.ready = twin_ready;
    dev->twin_blocked = false;
    int ret = watch_control(dev->epoll, EPOLL_CTL_ADD, &dev->twin, EPOLLIN);
    if (ret < 0)
        dev->twin.fd = -1;
    return ret;
}

/* #syscalls worker: socketpair[0]=AF_UNIX fcntl */
int twin_open(struct ob_device *dev)
{
    const struct server_keeping *k = dev->keeping;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    /* The client's end waits, as sockets do unless they are told otherwise; ours does not. */
    int ret = fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
    if (ret == 0 && k)
        ret = k->put(k->ctx, KEEP_TWIN, pair[0]);
    if (ret == 0 && k)
        ret = k->put(k->ctx, KEEP_TWIN | 1, pair[1]);
    if (ret == 0)
        ret = watch_new(dev, pair[0]);
    if (ret < 0) {
        if (k) {
            k->drop(k->ctx, KEEP_TWIN);
            k->drop(k->ctx, KEEP_TWIN | 1);
        }
        close(pair[0]);
        close(pair[1]);
        return ret;
    }
    dev->twin_peer = pair[1];
    return 0;
}

static void close_peer(struct ob_device *dev)
{
    close(dev->twin_peer);
    dev->twin_peer = -1;
}

void twin_sent(struct ob_device *dev)
{
    if (dev->twin_peer < 0)
        return;
    close_peer(dev);
    if (dev->keeping)
        dev->keeping->drop(dev->keeping->ctx, KEEP_TWIN | 1);
}

void twin_close(struct ob_device *dev)
{
    twin_sent(dev);
    if (dev->twin.fd < 0)
        return;
    epoll_ctl(dev->epoll, EPOLL_CTL_DEL, dev->twin.fd, NULL);
    close(dev->twin.fd);
    dev->twin.fd = -1;
    if (dev->keeping)
        dev->keeping->drop(dev->keeping->ctx, KEEP_TWIN);
}

bool twin_is_used(const struct ob_device *dev, uint32_t number)
{
    const struct shared_session *s = dev->session;
    return s->connected && s->twin && (number == 0 || s->fds_what == FDS_TWIN);
}

int twin_recover(struct ob_device *dev)
{
    const struct server_keeping *k = dev->keeping;

    if (!dev->session->twin)
        return 0;
    if (twin_is_used(dev, 1)) {
        dev->twin_peer = k->get(k->ctx, KEEP_TWIN | 1);
        if (dev->twin_peer < 0)
            return dev->twin_peer;
    }
    int fd = k->get(k->ctx, KEEP_TWIN);
    if (fd < 0)
        return fd;
    int ret = watch_new(dev, fd);
    if (ret < 0)
        close(fd);
    return ret;
}

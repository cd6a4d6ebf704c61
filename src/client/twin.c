/*
 * twin.c - the server's commands, on a socket of their own.
 *
 * Commands are handled one after the other, by one thread at a time (`twin_busy`): by the one that
 * lives in ob_client_serve(), if there is one, and else by any that waits for something. Nothing else
 * comes on this socket, and the server reads it whatever else it does, so an answer may be waited for
 * where it is sent.
 */
#include "client/client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

int client_twin_fd(const struct ob_client *c)
{
    return c->twin_serving || c->failed ? -1 : c->twin_fd;
}

/* Sends all of it, and waits for room as long as a reply may take. Without the lock. */
static int push(struct ob_client *c, struct iovec *iov, int n)
{
    uint64_t deadline = client_deadline(c);

    while (n > 0) {
        ssize_t sent = wire_send_now(c->twin_fd, iov, n);
        if (sent == -EAGAIN) {
            struct pollfd p = { .fd = c->twin_fd, .events = POLLOUT };
            if (client_now() >= deadline)
                return -ETIMEDOUT;
            poll(&p, 1, client_ms_until(deadline));
            continue;
        }
        if (sent < 0)
            return (int)sent;
        for (; n > 0 && (size_t)sent >= iov->iov_len; n--)
            sent -= (ssize_t)iov++->iov_len;
        if (n > 0) {
            iov->iov_base = (char *)iov->iov_base + sent;
            iov->iov_len -= (size_t)sent;
        }
    }
    return 0;
}

static void send_answer(struct ob_client *c, struct answer *a)
{
    size_t data = a->command.command == VFIO_USER_DMA_READ && !a->error ? (size_t)a->count : 0;

    if (data)
        a->error = client_dma_copy(c, a->address, c->twin_out, data, VFIO_DMA_MAP_FLAG_READ);
    struct wire_message m = { .header = a->command };
    m.header.flags = VFIO_USER_FLAG_TYPE_REPLY | (a->error ? VFIO_USER_FLAG_ERROR : 0);
    m.header.error = (uint32_t)a->error;
    m.dma = (struct vfio_user_dma_access){ .address = a->address, .count = a->count };
    struct iovec iov[] = { { &m.header, sizeof m.header }, { &m.dma, sizeof m.dma },
                           { c->twin_out, data } };
    m.header.size = (uint32_t)(sizeof m.header + (a->error ? 0 : sizeof m.dma + data));

    pthread_mutex_unlock(&c->lock);
    int ret = push(c, iov, a->error ? 1 : data ? 3 : 2);
    pthread_mutex_lock(&c->lock);
    if (ret == -ETIMEDOUT)
        client_fail(c, ret, "the server did not take the reply to its DMA command in time");
    else if (ret < 0)
        client_fail(c, -ECONNRESET, "the server closed the twin socket");
}

/* Handles the commands that are whole, and puts the rest to the front. */
static void dispatch(struct ob_client *c)
{
    struct vfio_user_header h;
    struct answer a;
    size_t at = 0;

    while (!c->failed) {
        size_t there = c->twin_have - at;
        int size = wire_header(c->twin_in + at, there, WIRE_MAX_MESSAGE, &h);
        if (size < 0 || (size > 0 && wire_is_reply(&h)))
            client_fail(c, -EPROTO, "the server sent something that is no command on the twin socket");
        if (size <= 0 || (size_t)size > there)
            break;
        if (client_command(c, c->twin_in + at, (size_t)size, 0, &a))
            send_answer(c, &a);
        at += (size_t)size;
    }
    memmove(c->twin_in, c->twin_in + at, c->twin_have - at);
    c->twin_have -= at;
}

/* False: nothing was there, or the connection is lost. */
static bool receive(struct ob_client *c, bool wait)
{
    pthread_mutex_unlock(&c->lock);
    ssize_t got = wire_receive_bytes(c->twin_fd, c->twin_in + c->twin_have,
                                     WIRE_MAX_MESSAGE - c->twin_have, wait);
    pthread_mutex_lock(&c->lock);
    if (c->failed || got == -EAGAIN)
        return false;
    if (got <= 0) {
        client_fail(c, -ECONNRESET, "the server closed the twin socket");
        return false;
    }
    c->twin_have += (size_t)got;
    dispatch(c);
    return !c->failed;
}

void client_twin(struct ob_client *c)
{
    if (client_twin_fd(c) < 0 || c->twin_busy)
        return;
    c->twin_busy = true;
    for (unsigned i = 0; i < CLIENT_LOOKS && receive(c, false); i++)
        ;
    c->twin_busy = false;
    pthread_cond_signal(&c->twin_idle);
}

/* ---- The caller's side ------------------------------------------------------------------- */

int ob_client_set_twin(struct ob_client *c, bool on)
{
    pthread_mutex_lock(&c->lock);
    int ret = c->fd >= 0 ? -EISCONN : 0;
    if (ret == 0)
        c->want_twin = on;
    else
        client_set_error(c, "a twin socket must be asked for before connecting");
    pthread_mutex_unlock(&c->lock);
    return ret;
}

int ob_client_twin_fd(struct ob_client *c)
{
    pthread_mutex_lock(&c->lock);
    int ret = client_negotiated(c);
    if (ret == 0)
        ret = c->twin_fd >= 0 ? c->twin_fd : -ENOTSUP;
    pthread_mutex_unlock(&c->lock);
    return ret;
}

/* With the lock, which is given up meanwhile. */
static void serve(struct ob_client *c)
{
    while (!c->failed && c->twin_busy)
        client_wait(c, &c->twin_idle, client_deadline(c));
    c->twin_busy = true;
    while (!c->failed) {
        if (receive(c, true))
            continue;
        /* The socket was made by the server, who can make it one that does not wait. */
        struct pollfd p = { .fd = c->twin_fd, .events = POLLIN };
        pthread_mutex_unlock(&c->lock);
        poll(&p, 1, -1);
        pthread_mutex_lock(&c->lock);
    }
    c->twin_busy = false;
}

int ob_client_serve(struct ob_client *c)
{
    pthread_mutex_lock(&c->lock);
    int ret = client_negotiated(c);
    if (ret == 0 && c->twin_fd < 0) {
        client_set_error(c, "the server's commands have no socket of their own");
        ret = -ENOTSUP;
    } else if (ret == 0 && c->twin_serving) {
        client_set_error(c, "another thread serves the twin socket already");
        ret = -EBUSY;
    }
    if (ret == 0) {
        c->twin_serving = true;
        serve(c);
        c->twin_serving = false;
        ret = c->failed;
    }
    pthread_mutex_unlock(&c->lock);
    return ret;
}

void ob_client_disconnect(struct ob_client *c)
{
    pthread_mutex_lock(&c->lock);
    if (c->fd >= 0)
        client_fail(c, -ENOTCONN, "the connection was ended by this side");
    pthread_mutex_unlock(&c->lock);
}

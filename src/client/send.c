/*
 * send.c - whole messages into the socket, one after the other.
 */
#include "client/client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

/* How long a sender waits before it looks again whether it has to read. */
#define RECHECK_NS 10000000u

/* A message on its way. */
struct outgoing {
    struct iovec iov[4];
    int first, end; /* of iov, what is still to be sent */
    const int *fds;
    unsigned nfds;
    bool begun;
};

/*
 * The socket is full: waits for room, and reads meanwhile, because the server may be waiting to
 * send, or for an answer on the twin socket. `reader`: the caller holds `reading`.
 */
static int wait_for_room(struct ob_client *c, uint64_t deadline, bool reader)
{
    uint64_t now = client_now();
    if (now >= deadline)
        return -ETIMEDOUT;

    pthread_mutex_lock(&c->lock);
    bool borrowed = !reader && !c->reading;
    bool look = (reader || borrowed) && !c->stalled;
    if (borrowed)
        c->reading = true;
    int twin = client_twin_fd(c);
    pthread_mutex_unlock(&c->lock);

    /* Another reader may go away without telling us. */
    if (!look && deadline - now > RECHECK_NS)
        deadline = now + RECHECK_NS;
    struct pollfd p[] = { { .fd = c->fd, .events = (short)(look ? POLLOUT | POLLIN : POLLOUT) },
                          { .fd = twin, .events = POLLIN } };
    poll(p, 2, client_ms_until(deadline));

    pthread_mutex_lock(&c->lock);
    if (look && (p[0].revents & POLLIN))
        client_receive(c, CLIENT_NO_WAIT);
    if (p[1].revents)
        client_twin(c);
    if (borrowed)
        client_stop_reading(c);
    int ret = c->failed;
    pthread_mutex_unlock(&c->lock);
    return ret;
}

static void advance(struct outgoing *o, size_t sent)
{
    o->begun = true;
    o->nfds = 0;
    while (o->first < o->end && sent >= o->iov[o->first].iov_len)
        sent -= o->iov[o->first++].iov_len;
    if (o->first < o->end) {
        o->iov[o->first].iov_base = (char *)o->iov[o->first].iov_base + sent;
        o->iov[o->first].iov_len -= sent;
    }
}

/* Sends all of a message. Without the lock, by the holder of `sending`. */
static int push(struct ob_client *c, struct outgoing *o, uint64_t deadline, bool reader)
{
    while (o->first < o->end) {
        ssize_t sent = wire_send(c->fd, o->iov + o->first, o->end - o->first, o->fds, o->nfds);
        if (sent > 0) {
            advance(o, (size_t)sent);
            continue;
        }
        int ret = sent == -EAGAIN ? wait_for_room(c, deadline, reader) : (int)sent;
        if (ret < 0)
            return ret;
    }
    return 0;
}

/* A message that was not sent to its end breaks the connection. */
static int lost(struct ob_client *c, int error, const char *what)
{
    if (error == -ETIMEDOUT)
        return client_fail(c, error, "the server did not take %s in time", what);
    if (error == -EPIPE || error == -ECONNRESET)
        return client_fail(c, -ECONNRESET, "the server closed the connection");
    errno = -error;
    return client_fail(c, error, "cannot send %s: %m", what);
}

static void send_answer(struct ob_client *c, bool reader)
{
    struct answer a = c->answers[c->answers_first];
    c->answers_first = (c->answers_first + 1) % CLIENT_MAX_ANSWERS;
    c->answers_count--;

    size_t data = a.command.command == VFIO_USER_DMA_READ ? (size_t)a.count : 0;
    if (!a.error && data)
        a.error = client_dma_copy(c, a.address, c->out, data, VFIO_DMA_MAP_FLAG_READ);

    struct wire_message m = { .header = a.command };
    m.header.flags = VFIO_USER_FLAG_TYPE_REPLY;
    m.dma = (struct vfio_user_dma_access){ .address = a.address, .count = a.count };
    struct outgoing o = {
        .end = 3,
        .iov = { { &m.header, sizeof m.header }, { &m.dma, sizeof m.dma }, { c->out, data } }
    };
    if (a.error) {
        m.header.flags |= VFIO_USER_FLAG_ERROR;
        m.header.error = (uint32_t)a.error;
        o.end = 1;
    }
    m.header.size = (uint32_t)(sizeof m.header + (a.error ? 0 : sizeof m.dma + data));

    uint64_t deadline = client_deadline(c);
    pthread_mutex_unlock(&c->lock);
    int ret = push(c, &o, deadline, reader);
    pthread_mutex_lock(&c->lock);
    if (ret < 0)
        lost(c, ret, "the reply to its DMA command");
}

/* What the holder of `sending` owes to the server, before it gives that right up. */
static void finish_sending(struct ob_client *c, bool reader)
{
    while (!c->failed) {
        if (c->answers_count)
            send_answer(c, reader);
        else if (c->stalled && (reader || !c->reading))
            client_dispatch(c);
        else
            break;
    }
    c->sending = false;
    if (c->senders)
        pthread_cond_signal(&c->sent);
}

void client_answer(struct ob_client *c)
{
    if (c->sending || (!c->answers_count && !c->stalled))
        return;
    c->sending = true;
    finish_sending(c, true);
}

/* Waits for the right to send. */
static int begin_sending(struct ob_client *c, uint64_t deadline)
{
    while (c->sending && !c->failed) {
        c->senders++;
        bool in_time = client_wait(c, &c->sent, deadline);
        c->senders--;
        if (!in_time && c->sending)
            return -ETIMEDOUT;
    }
    if (c->failed)
        return c->failed;
    c->sending = true;
    return 0;
}

/* Sends what begins with all that was kept. By the holder of `sending`. */
static int send_all(struct ob_client *c, struct outgoing *o, uint64_t deadline, const char *what)
{
    pthread_mutex_unlock(&c->lock);
    int ret = push(c, o, deadline, false);
    pthread_mutex_lock(&c->lock);
    if (ret == 0)
        c->held_size = 0;
    else if (o->begun || ret != -ETIMEDOUT)
        ret = lost(c, ret, what);
    return ret;
}

static int send_held(struct ob_client *c, uint64_t deadline)
{
    struct outgoing o = { .iov = { { c->held, c->held_size } }, .end = 1 };
    return send_all(c, &o, deadline, "requests");
}

static void set_size(struct call *call)
{
    call->request.header.size =
        (uint32_t)(sizeof call->request.header + call->fixed + call->data_size);
}

int client_send(struct ob_client *c, struct call *call, uint64_t deadline)
{
    struct vfio_user_header *h = &call->request.header;
    void *fixed = &call->request.version; /* any member of the union */

    int ret = begin_sending(c, deadline);
    if (ret < 0)
        return ret;
    set_size(call);
    if (call->nfds && c->held_size) /* they go with the first byte that is sent, which must be their message's */
        ret = send_held(c, deadline);
    struct outgoing o = { .iov = { { c->held, c->held_size },
                                   { h, sizeof *h },
                                   { fixed, call->fixed },
                                   { (void *)(uintptr_t)call->data, call->data_size } },
                          .end = 4,
                          .fds = call->fds,
                          .nfds = call->nfds };
    if (ret == 0)
        ret = send_all(c, &o, deadline, wire_command_name(h->command));
    finish_sending(c, false);
    return ret;
}

int client_hold(struct ob_client *c, struct call *call, uint64_t deadline)
{
    size_t size = sizeof call->request.header + call->fixed;

    if (c->sending || call->nfds || call->data_size || size > sizeof c->held - c->held_size)
        return client_send(c, call, deadline);
    set_size(call);
    memcpy(c->held + c->held_size, &call->request.header, sizeof call->request.header);
    memcpy(c->held + c->held_size + sizeof call->request.header, &call->request.version, call->fixed);
    c->held_size += size;
    return 0;
}

int client_flush(struct ob_client *c, uint64_t deadline)
{
    if (!c->held_size)
        return c->failed;
    int ret = begin_sending(c, deadline);
    if (ret < 0)
        return ret;
    ret = send_held(c, deadline);
    finish_sending(c, false);
    return ret;
}

/*
 * receive.c - bytes of the server become replies to our requests, and commands to answer.
 */
#include "client/client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

/* While another thread is to make room among the answers. */
#define RECHECK_NS 10000000u

void client_stop_reading(struct ob_client *c)
{
    c->reading = false;
    if (c->waiting)
        pthread_cond_signal(&c->waiting->changed);
}

/* The reply must repeat what was asked for, or it is a reply to something else. */
static bool repeats(const struct wire_message *request, const struct wire_message *reply)
{
    uint16_t command = request->header.command;
    if (command != VFIO_USER_REGION_READ && command != VFIO_USER_REGION_WRITE)
        return true;
    return memcmp(&request->region, &reply->region, sizeof request->region) == 0;
}

static int take_reply(struct call *call, const uint8_t *bytes, size_t n, struct wire_fds *fds)
{
    int ret = wire_decode_reply(bytes, n, call->request.header.command, &call->reply);
    if (ret == 0)
        ret = wire_reply_error(&call->reply.header);
    if (ret < 0)
        return ret;
    if (fds->lost)
        return -EMFILE;
    if (!repeats(&call->request, &call->reply) || (fds->count && !call->reply_fds))
        return -EBADMSG;
    call->got = call->reply.data_size;
    if (call->got && call->room)
        memcpy(call->space, call->reply.data, call->got < call->room ? call->got : call->room);
    call->reply.data = NULL;
    if (fds->count) {
        *call->reply_fds = *fds;
        fds->count = 0;
    }
    return 0;
}

static void dispatch_reply(struct ob_client *c, const struct vfio_user_header *h,
                           const uint8_t *bytes, struct wire_fds *fds)
{
    struct ob_request *rq = &c->slots[h->id % CLIENT_SLOTS];

    if (rq->id != h->id || (rq->state != REQUEST_SENT && rq->state != REQUEST_ABANDONED) ||
        rq->command != h->command) {
        client_fail(c, -EPROTO, "the server sent a reply to %s, id %u, that nobody asked for",
                    wire_command_name(h->command), h->id);
        return;
    }
    if (rq->state == REQUEST_ABANDONED) {
        client_free_request(c, rq);
        return;
    }
    rq->call->result = take_reply(rq->call, bytes, h->size, fds);
    rq->state = REQUEST_DONE;
    if (rq->waiting)
        pthread_cond_signal(&rq->changed);
}

/* false: there is no room for another answer. */
static bool dispatch_command(struct ob_client *c, const struct vfio_user_header *h,
                             const uint8_t *bytes, struct wire_fds *fds)
{
    if (c->answers_count == CLIENT_MAX_ANSWERS)
        return false;
    unsigned last = (c->answers_first + c->answers_count) % CLIENT_MAX_ANSWERS;
    if (client_command(c, bytes, h->size, fds->count, &c->answers[last]))
        c->answers_count++;
    return true;
}

void client_dispatch(struct ob_client *c)
{
    struct vfio_user_header h;

    c->stalled = false;
    while (!c->failed && !c->stalled) {
        const uint8_t *bytes = c->in + c->in_start;
        size_t there = c->in_end - c->in_start;
        int size = wire_header(bytes, there, WIRE_MAX_MESSAGE, &h);
        if (size < 0) {
            client_fail(c, -EPROTO, "the server sent something that is no message");
            break;
        }
        if (size == 0 || (size_t)size > there)
            break;

        struct wire_fds none = { .count = 0 }, *fds = &none;
        if (c->in_fds_end && c->in_fds_end <= c->in_start + (size_t)size)
            fds = &c->in_fds;
        if (wire_is_reply(&h))
            dispatch_reply(c, &h, bytes, fds);
        else if (!dispatch_command(c, &h, bytes, fds))
            c->stalled = true;
        if (c->stalled)
            break;
        if (fds == &c->in_fds) {
            wire_fds_close(fds);
            c->in_fds_end = 0;
        }
        c->in_start += (size_t)size;
    }
    /* What is left of an unfinished message goes to the front: then its rest has room. */
    if (c->in_start) {
        memmove(c->in, c->in + c->in_start, c->in_end - c->in_start);
        c->in_end -= c->in_start;
        if (c->in_fds_end)
            c->in_fds_end -= c->in_start;
        c->in_start = 0;
    }
}

/*
 * Descriptors came with the last bytes: they belong to the message which these are part of, since
 * a receive ends behind them.
 */
static void keep_fds(struct ob_client *c, struct wire_fds *fds)
{
    if (fds->count == 0 && !fds->lost)
        return;
    if (c->in_fds_end || fds->count > c->ours.max_msg_fds) {
        wire_fds_close(fds);
        client_fail(c, -EPROTO, "the server sent more descriptors with a message than it may");
        return;
    }
    c->in_fds = *fds;
    c->in_fds_end = c->in_end;
}

static bool readable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    return fd >= 0 && poll(&p, 1, 0) > 0;
}

/* Bytes, 0 at the end of the stream, -ETIMEDOUT or another error; -EINPROGRESS: there is something on the
 * twin socket (-1: nobody looks there). */
static ssize_t receive_until(struct ob_client *c, uint64_t deadline, int twin, struct wire_fds *fds)
{
    uint8_t *to = c->in + c->in_end;
    size_t room = WIRE_MAX_MESSAGE - c->in_end;
    uint64_t spin = atomic_load_explicit(&c->spin_us, memory_order_relaxed) * UINT64_C(1000);
    uint64_t timeout = atomic_load_explicit(&c->timeout_ms, memory_order_relaxed) *
                       UINT64_C(1000000);
    uint64_t now = deadline == CLIENT_NO_WAIT ? 0 : client_now();
    ssize_t got;

    if (deadline != CLIENT_NO_WAIT && spin) {
        uint64_t end = now + spin < deadline ? now + spin : deadline;
        do {
            got = wire_receive(c->fd, to, room, fds);
            if (got != -EAGAIN)
                return got;
            if (readable(twin))
                return -EINPROGRESS;
        } while (client_now() < end);
    } else if (twin < 0 && deadline > now && deadline - now >= timeout - timeout / 8) {
        /* The socket's own timeout fits, and saves a system call. */
        got = wire_receive(c->fd, to, room, fds);
        if (got != -EAGAIN)
            return got;
    }
    for (;;) {
        struct pollfd p[] = { { .fd = c->fd, .events = POLLIN }, { .fd = twin, .events = POLLIN } };
        poll(p, 2, client_ms_until(deadline));
        if (p[0].revents) {
            got = wire_receive(c->fd, to, room, fds);
            if (got != -EAGAIN)
                return got;
        }
        if (p[1].revents)
            return -EINPROGRESS;
        if (deadline == CLIENT_NO_WAIT || client_now() >= deadline)
            return -ETIMEDOUT;
    }
}

/* A thread that handles the twin socket's commands already is soon done, or lives from it. */
#define TWIN_WAIT_NS 1000000u

static void look_at_twin(struct ob_client *c)
{
    if (c->twin_busy)
        client_wait(c, &c->twin_idle, client_now() + TWIN_WAIT_NS);
    else
        client_twin(c);
}

int client_receive(struct ob_client *c, uint64_t deadline)
{
    struct wire_fds fds;

    client_answer(c);
    while (c->stalled && !c->failed) {
        if (client_now() >= deadline)
            return -ETIMEDOUT;
        client_wait(c, &c->sent, client_now() + RECHECK_NS);
        client_answer(c);
    }
    if (c->failed)
        return c->failed;

    int twin = client_twin_fd(c);
    pthread_mutex_unlock(&c->lock);
    ssize_t got = receive_until(c, deadline, twin, &fds);
    pthread_mutex_lock(&c->lock);
    if (got == -EINPROGRESS)
        look_at_twin(c);
    if (got == -EINPROGRESS || c->failed)
        return c->failed;
    if (got == -ETIMEDOUT)
        return -ETIMEDOUT;
    if (got == 0 || got == -ECONNRESET)
        return client_fail(c, -ECONNRESET, "the server closed the connection");
    if (got < 0) {
        errno = (int)-got;
        return client_fail(c, (int)got, "cannot receive: %m");
    }
    c->in_end += (size_t)got;
    keep_fds(c, &fds);
    client_dispatch(c);
    client_answer(c);
    return c->failed;
}

void client_look(struct ob_client *c)
{
    client_twin(c);
    if (c->reading)
        return;
    c->reading = true;
    for (unsigned i = 0; i < CLIENT_LOOKS; i++)
        if (client_receive(c, CLIENT_NO_WAIT) < 0)
            break;
    client_stop_reading(c);
}

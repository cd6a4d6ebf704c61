/*
 * call.c - requests: their slots, and waiting for replies.
 */
#include "client/client.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <time.h>

#define SECOND_NS UINT64_C(1000000000)

uint64_t client_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND_NS + (uint64_t)t.tv_nsec;
}

uint64_t client_deadline(struct ob_client *c)
{
    return client_now() +
           atomic_load_explicit(&c->timeout_ms, memory_order_relaxed) * UINT64_C(1000000);
}

bool client_wait(struct ob_client *c, pthread_cond_t *cond, uint64_t deadline)
{
    struct timespec t = { .tv_sec = (time_t)(deadline / SECOND_NS),
                          .tv_nsec = (long)(deadline % SECOND_NS) };
    return pthread_cond_timedwait(cond, &c->lock, &t) != ETIMEDOUT;
}

int client_ms_until(uint64_t deadline)
{
    uint64_t now = deadline == CLIENT_NO_WAIT ? 0 : client_now();
    uint64_t ms = deadline > now ? (deadline - now + 999999) / 1000000 : 0;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

/* What a command is about, for sentences: "VFIO_USER_REGION_READ of region 2, 4 bytes at 0x10". */
static const char *describe(const struct call *call, char *text, size_t size)
{
    const struct wire_message *m = &call->request;
    const char *name = wire_command_name(m->header.command);

    switch (m->header.command) {
    case VFIO_USER_REGION_READ:
    case VFIO_USER_REGION_WRITE:
        snprintf(text, size, "%s of region %u, %u bytes at 0x%llx", name, m->region.region,
                 m->region.count, (unsigned long long)m->region.offset);
        break;
    case VFIO_USER_DEVICE_GET_REGION_INFO:
        snprintf(text, size, "%s of region %u", name, m->region_info.index);
        break;
    case VFIO_USER_DEVICE_GET_IRQ_INFO:
        snprintf(text, size, "%s of index %u", name, m->irq_info.index);
        break;
    case VFIO_USER_DEVICE_SET_IRQS:
        snprintf(text, size, "%s of index %u, %u from %u on", name, m->irq_set.index,
                 m->irq_set.count, m->irq_set.start);
        break;
    case VFIO_USER_DMA_MAP:
        snprintf(text, size, "%s of 0x%llx bytes at 0x%llx", name, (unsigned long long)m->map.size,
                 (unsigned long long)m->map.address);
        break;
    case VFIO_USER_DMA_UNMAP:
        snprintf(text, size, "%s of 0x%llx bytes at 0x%llx", name,
                 (unsigned long long)m->unmap.size, (unsigned long long)m->unmap.address);
        break;
    case VFIO_USER_DEVICE_FEATURE:
        snprintf(text, size, "%s %u", name, m->feature.flags & VFIO_DEVICE_FEATURE_MASK);
        break;
    default:
        snprintf(text, size, "%s", name);
    }
    return text;
}

static void explain(struct ob_client *c, const struct call *call, int error)
{
    char about[128];

    describe(call, about, sizeof about);
    if (call->reply.header.flags & VFIO_USER_FLAG_ERROR) {
        errno = -error;
        client_set_error(c, "%s: the server replied: %m", about);
    } else if (error == -ETIMEDOUT) {
        client_set_error(c, "%s: no reply within %u ms", about, atomic_load(&c->timeout_ms));
    } else if (error == -EBADMSG) {
        client_set_error(c, "%s: the reply does not fit this command", about);
    } else {
        errno = -error;
        client_set_error(c, "%s: %m", about);
    }
}

int client_bad_reply(struct ob_client *c, const struct call *call, const char *what)
{
    char about[128];
    return client_refuse(c, -EBADMSG, "%s: %s", describe(call, about, sizeof about), what);
}

/* ---- Slots ------------------------------------------------------------------------------- */

/* A free slot, with an id that no request under way has. Ids below CLIENT_SLOTS belong to messages
 * that have no reply. NULL: none came free in time, or the connection was lost. */
static struct ob_request *take_slot(struct ob_client *c, uint64_t deadline)
{
    while (!c->free && !c->failed) {
        c->wants_slot++;
        bool in_time = client_wait(c, &c->slot_freed, deadline);
        c->wants_slot--;
        if (!in_time && !c->free)
            return NULL;
    }
    if (c->failed)
        return NULL;
    struct ob_request *rq = c->free;
    c->free = rq->next_free;
    rq->id = (uint16_t)(rq->id + CLIENT_SLOTS);
    if (rq->id < CLIENT_SLOTS)
        rq->id = (uint16_t)(rq->id + CLIENT_SLOTS);
    return rq;
}

void client_free_request(struct ob_client *c, struct ob_request *rq)
{
    if (rq->state == REQUEST_ABANDONED)
        c->abandoned--;
    if (rq->started)
        c->started--;
    rq->started = false;
    rq->state = REQUEST_FREE;
    rq->call = NULL;
    rq->next_free = c->free;
    c->free = rq;
    if (c->wants_slot)
        pthread_cond_signal(&c->slot_freed);
}

/* Nobody waits any more: the slot stays taken until the reply comes. */
static void abandon(struct ob_client *c, struct ob_request *rq)
{
    if (rq->started)
        c->started--;
    rq->started = false;
    rq->state = REQUEST_ABANDONED;
    rq->call = NULL;
    if (++c->abandoned > CLIENT_MAX_ABANDONED)
        client_fail(c, -ETIMEDOUT, "the server left %u requests without a reply", c->abandoned);
}

/* ---- Waiting ----------------------------------------------------------------------------- */

/* Reads the socket, for all that wait, until this request has its reply. */
static int lead(struct ob_client *c, struct ob_request *rq)
{
    unsigned late = 0;
    int ret;

    c->reading = true;
    do {
        ret = client_receive(c, rq->deadline);
        /* A server that talks all the time, but does not reply, shall not hold us. */
        if (ret == 0 && rq->state == REQUEST_SENT && client_now() >= rq->deadline &&
            ++late > CLIENT_LOOKS)
            ret = -ETIMEDOUT;
    } while (ret == 0 && rq->state == REQUEST_SENT);
    c->reading = false;
    return ret;
}

/* Another thread reads. 0: look again, -ETIMEDOUT. */
static int follow(struct ob_client *c, struct ob_request *rq)
{
    rq->waiting = true;
    rq->previous = NULL;
    rq->next = c->waiting;
    if (rq->next)
        rq->next->previous = rq;
    c->waiting = rq;

    bool in_time = client_wait(c, &rq->changed, rq->deadline);

    if (rq->next)
        rq->next->previous = rq->previous;
    if (rq->previous)
        rq->previous->next = rq->next;
    else
        c->waiting = rq->next;
    rq->waiting = false;
    return in_time || !c->reading ? 0 : -ETIMEDOUT;
}

/* Waits for the reply, and ends the request. */
static int finish(struct ob_client *c, struct ob_request *rq)
{
    int ret = 0;

    if (rq->state == REQUEST_SENT)
        ret = client_flush(c, rq->deadline);
    while (rq->state == REQUEST_SENT && !c->failed && ret == 0)
        ret = c->reading ? follow(c, rq) : lead(c, rq);
    if (!c->reading && c->waiting)
        pthread_cond_signal(&c->waiting->changed);

    if (rq->state == REQUEST_DONE) {
        ret = rq->call->result;
    } else if (c->failed) {
        ret = c->failed;
    }
    if (ret < 0)
        explain(c, rq->call, ret);
    if (rq->state == REQUEST_SENT && !c->failed)
        abandon(c, rq);
    else
        client_free_request(c, rq);
    return ret;
}

/* ---- Calls ------------------------------------------------------------------------------- */

int client_negotiated(struct ob_client *c)
{
    if (c->failed)
        return c->failed;
    if (c->negotiated)
        return 0;
    client_set_error(c, "not connected to a server");
    return -ENOTCONN;
}

/* Takes a slot and sends the request by `send`. With `own`, the slot keeps the call itself. */
typedef int send_fn(struct ob_client *c, struct call *call, uint64_t deadline);
static int send_request(struct ob_client *c, struct call *call, bool own, send_fn *send,
                        struct ob_request **request)
{
    uint64_t deadline = client_deadline(c);
    struct ob_request *rq = take_slot(c, deadline);
    if (!rq) {
        explain(c, call, -ETIMEDOUT);
        return c->failed ? c->failed : -ETIMEDOUT;
    }
    if (own) {
        rq->own = *call;
        call = &rq->own;
        rq->started = true;
        c->started++;
    }
    rq->call = call;
    rq->command = call->request.header.command;
    rq->deadline = deadline;
    rq->state = REQUEST_SENT;
    call->request.header.id = rq->id;

    int ret = send(c, call, deadline);
    if (ret < 0) {
        explain(c, call, ret);
        client_free_request(c, rq);
        return ret;
    }
    *request = rq;
    return 0;
}

int client_call(struct ob_client *c, struct call *call)
{
    struct ob_request *rq;

    pthread_mutex_lock(&c->lock);
    int ret = call->request.header.command == VFIO_USER_VERSION ? c->failed : client_negotiated(c);
    if (ret == 0)
        ret = send_request(c, call, false, client_send, &rq);
    if (ret == 0)
        ret = finish(c, rq);
    pthread_mutex_unlock(&c->lock);
    return ret;
}

int client_post(struct ob_client *c, struct call *call)
{
    call->request.header.flags = VFIO_USER_FLAG_NO_REPLY;
    pthread_mutex_lock(&c->lock);
    int ret = client_negotiated(c);
    if (ret == 0) {
        ret = client_send(c, call, client_deadline(c));
        if (ret < 0)
            explain(c, call, ret);
    }
    pthread_mutex_unlock(&c->lock);
    return ret;
}

static int start(struct ob_client *c, const struct call *call, send_fn *send,
                 struct ob_request **request)
{
    pthread_mutex_lock(&c->lock);
    int ret = client_negotiated(c);
    if (ret == 0 && c->started >= OB_CLIENT_REQUESTS) {
        client_set_error(c, "%u requests are under way already", c->started);
        ret = -EAGAIN;
    }
    if (ret == 0)
        ret = send_request(c, (struct call *)(uintptr_t)call, true, send, request);
    pthread_mutex_unlock(&c->lock);
    return ret;
}

int client_start(struct ob_client *c, const struct call *call, struct ob_request **request)
{
    return start(c, call, client_send, request);
}

int client_start_held(struct ob_client *c, const struct call *call, struct ob_request **request)
{
    return start(c, call, client_hold, request);
}

int ob_request_wait(struct ob_request *rq)
{
    struct ob_client *c = rq->client;

    pthread_mutex_lock(&c->lock);
    int ret = finish(c, rq);
    client_dma_ended(c, &rq->own.request, ret); /* the slot may be free, but nobody has taken it */
    pthread_mutex_unlock(&c->lock);
    return ret;
}

bool ob_request_done(struct ob_request *rq)
{
    struct ob_client *c = rq->client;

    pthread_mutex_lock(&c->lock);
    if (rq->state == REQUEST_SENT && client_flush(c, rq->deadline) == 0)
        client_look(c);
    bool done = rq->state != REQUEST_SENT || c->failed || client_now() >= rq->deadline;
    pthread_mutex_unlock(&c->lock);
    return done;
}

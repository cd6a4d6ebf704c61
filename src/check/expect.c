/*
 * expect.c - questions to the server, and what is expected of its answers.
 */
#include "check/run.h"
#include "wire/message.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- The end of a check ---------------------------------------------------------------------- */

static void say(struct run *r, enum verdict verdict, const char *format, va_list values)
{
    r->verdict = verdict;
    vsnprintf(r->detail, sizeof r->detail, format, values);
}

void fail(struct run *r, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    say(r, VERDICT_FAIL, format, values);
    va_end(values);
    longjmp(r->over, 1);
}

void skip(struct run *r, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    say(r, VERDICT_SKIP, format, values);
    va_end(values);
    longjmp(r->over, 1);
}

void note(struct run *r, const char *format, ...)
{
    va_list values;
    if (r->verdict == VERDICT_NOTE)
        return;
    va_start(values, format);
    say(r, VERDICT_NOTE, format, values);
    va_end(values);
}

/* ---- What the server asks of us meanwhile ---------------------------------------------------- */

static bool is_offered(const struct run *r, uint64_t address, uint64_t n)
{
    for (unsigned i = 0; i < r->offer_count; i++) {
        const struct offer *o = &r->offers[i];
        if (address >= o->address && address - o->address <= o->size &&
            n <= o->size - (address - o->address))
            return true;
    }
    return false;
}

/* A server's command is one of two, and has the data that it says, within our limit. */
static void judge_command(struct run *r, const struct peer *p)
{
    struct vfio_user_dma_access access;
    bool writes = p->header.command == VFIO_USER_DMA_WRITE;

    if (p->header.command != VFIO_USER_DMA_READ && !writes)
        fail(r, "expected VFIO_USER_DMA_READ or _WRITE from the server, got command %u",
             p->header.command);
    if (p->size < sizeof access)
        fail(r, "%s: expected 16 bytes or more, got %zu", wire_command_name(p->header.command),
             p->size);
    memcpy(&access, p->body, sizeof access);
    if (access.count > VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE)
        fail(r, "%s: expected at most our max_data_xfer_size of bytes, got %llu",
             wire_command_name(p->header.command), (unsigned long long)access.count);
    if (p->size - sizeof access != (writes ? access.count : 0))
        fail(r, "%s of %llu bytes: got %zu bytes of data", wire_command_name(p->header.command),
             (unsigned long long)access.count, p->size - sizeof access);
}

/* DMA of the device into memory that was offered, where there is nothing but zeroes. Elsewhere:
 * an error. */
static void answer(struct run *r, struct peer *p)
{
    static const uint8_t none[VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE];
    struct {
        struct vfio_user_header header;
        struct vfio_user_dma_access access;
    } reply = { .header = p->header };
    bool reads = p->header.command == VFIO_USER_DMA_READ;

    judge_command(r, p);
    memcpy(&reply.access, p->body, sizeof reply.access);
    bool good = is_offered(r, reply.access.address, reply.access.count);
    if (p->header.flags & VFIO_USER_FLAG_NO_REPLY)
        return;
    size_t size = good ? sizeof reply : sizeof reply.header,
           data = good && reads ? reply.access.count : 0;
    reply.header.flags = VFIO_USER_FLAG_TYPE_REPLY | (good ? 0 : VFIO_USER_FLAG_ERROR);
    reply.header.error = good ? 0 : EINVAL;
    reply.header.size = (uint32_t)(size + data);
    if (peer_send(p, &reply, size, NULL, 0) == 0)
        peer_send(p, none, data, NULL, 0);
}

/* ---- Replies --------------------------------------------------------------------------------- */

static const char *name_of(uint16_t command, char text[32])
{
    const char *name = wire_command_name(command);
    if (strcmp(name, "unknown") != 0)
        return name;
    snprintf(text, 32, "command %u", command);
    return text;
}

/* A reply is what its header says. */
static enum outcome judge_reply(struct run *r, struct peer *p)
{
    char text[32];
    const struct vfio_user_header *h = &p->header;
    const char *name = name_of(h->command, text);
    bool error = h->flags & VFIO_USER_FLAG_ERROR;

    if (error && h->size != sizeof *h)
        fail(r, "error reply to %s: expected a bare header of 16 bytes, got %u", name, h->size);
    if (error && h->error > 4095)
        fail(r, "error reply to %s: expected an errno value, got %u", name, h->error);
    if (error && h->error == 0)
        note(r, "error reply to %s without an error number", name);
    if (!error && h->error)
        note(r, "reply to %s without the error flag has error %u", name, h->error);
    if (h->flags & ~(VFIO_USER_FLAG_TYPE | VFIO_USER_FLAG_ERROR))
        note(r, "reply to %s: flags 0x%x have bits that mean nothing in a reply", name, h->flags);
    return error ? REFUSED : SERVED;
}

enum outcome next_reply(struct run *r, struct peer *p)
{
    for (;;) {
        int ret = peer_receive(p);
        if (ret == -ETIMEDOUT)
            fail(r, "expected a reply, got none within %u ms", p->timeout_ms);
        if (ret == -EBADMSG)
            fail(r, "expected a message, got a header with the size %u", p->header.size);
        if (ret < 0) {
            peer_close(p);
            return CLOSED;
        }
        uint32_t type = p->header.flags & VFIO_USER_FLAG_TYPE;
        if (type == VFIO_USER_FLAG_TYPE_REPLY)
            return judge_reply(r, p);
        if (type != VFIO_USER_FLAG_TYPE_COMMAND)
            fail(r, "expected a reply, got a message of type %u", type);
        answer(r, p);
    }
}

enum outcome reply_to(struct run *r, struct peer *p, uint16_t id, uint16_t command)
{
    char text[32], other[32];
    enum outcome outcome = next_reply(r, p);

    if (outcome == CLOSED)
        return CLOSED;
    if (p->header.id != id)
        fail(r, "reply to %s: expected message id %u, got %u", name_of(command, text), id,
             p->header.id);
    if (p->header.command != command)
        fail(r, "expected a reply to %s, got one to %s", name_of(command, text),
             name_of(p->header.command, other));
    return outcome;
}

static uint16_t send_ask(struct run *r, struct peer *p, const struct ask *ask)
{
    char text[32];
    uint16_t id;
    int ret = peer_send_message(p, ask->command, ask->flags, ask->body, ask->size, ask->fds,
                                ask->nfds, &id);
    if (ret == -ETIMEDOUT)
        fail(r, "%s: the server has not taken it within %u ms", name_of(ask->command, text),
             p->timeout_ms);
    return id; /* a broken connection shows when the reply is read */
}

uint16_t post(struct run *r, const struct ask *ask)
{
    return send_ask(r, client(r), ask);
}

enum outcome try_on(struct run *r, struct peer *p, const struct ask *ask)
{
    uint16_t id = send_ask(r, p, ask);
    return reply_to(r, p, id, ask->command);
}

enum outcome try(struct run *r, const struct ask *ask)
{
    return try_on(r, client(r), ask);
}

const void *served(struct run *r, const struct ask *ask, size_t at_least)
{
    char text[32];
    const char *name = name_of(ask->command, text);
    enum outcome outcome = try(r, ask);

    if (outcome == CLOSED)
        fail(r, "%s: expected a reply, got the end of the connection", name);
    if (outcome == REFUSED)
        fail(r, "%s: expected success, got %s", name, strerror((int)r->client.header.error));
    if (r->client.size < at_least)
        fail(r, "reply to %s: expected %zu bytes or more behind the header, got %zu", name,
             at_least, r->client.size);
    return r->client.body;
}

void refused(struct run *r, const struct ask *ask, int error)
{
    char text[32];
    const char *name = name_of(ask->command, text);
    enum outcome outcome = try(r, ask);

    if (outcome == CLOSED)
        fail(r, "%s: expected an error reply, got the end of the connection", name);
    if (outcome == SERVED)
        fail(r, "%s: expected an error reply, got success", name);
    int got = (int)r->client.header.error;
    if (error && got != error)
        note(r, "%s refused with \"%s\", where VFIO has \"%s\"", name, strerror(got),
             strerror(error));
}

void not_served(struct run *r, const struct ask *ask)
{
    char text[32];
    if (try(r, ask) == SERVED)
        fail(r, "%s: expected an error reply or the end of the connection, got success",
             name_of(ask->command, text));
}

bool send_raw(struct run *r, struct peer *p, const void *bytes, size_t n, const int *fds,
              unsigned nfds)
{
    int ret = peer_send(p, bytes, n, fds, nfds);
    if (ret == -ETIMEDOUT)
        fail(r, "the server has not taken %zu bytes within %u ms", n, p->timeout_ms);
    return ret == 0;
}

enum outcome consequence(struct run *r, struct peer *p, bool *silent)
{
    enum { PATIENCE = 200 }; /* ms: there is no rule that it has to answer at all */

    *silent = peer_wait(p, PATIENCE) == -ETIMEDOUT;
    return *silent ? REFUSED : next_reply(r, p);
}

void still_works(struct run *r, struct peer *p)
{
    struct vfio_user_device_info info = { .argsz = sizeof info };
    enum outcome outcome = try_on(r, p, ASK(VFIO_USER_DEVICE_GET_INFO, info));
    if (outcome == CLOSED)
        fail(r, "expected the connection to work on, got its end");
    if (outcome == REFUSED)
        fail(r, "expected the connection to work on, got %s to VFIO_USER_DEVICE_GET_INFO",
             strerror((int)p->header.error));
}

enum outcome negotiate(struct run *r, struct peer *p, uint16_t minor, const char *json)
{
    uint8_t body[8192] = { 0 };
    struct vfio_user_version version = { .major = VFIO_USER_MAJOR, .minor = minor };
    size_t n = json ? strlen(json) + 1 : 0;

    memcpy(body, &version, sizeof version);
    if (n)
        memcpy(body + sizeof version, json, n);
    struct ask ask = { .command = VFIO_USER_VERSION, .body = body, .size = sizeof version + n };
    return try_on(r, p, &ask);
}

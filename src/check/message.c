/*
 * message.c - group "message": each command, in the ways in which any message can be wrong.
 */
#include "check/run.h"

#include <poll.h>

static struct ask harmless_ask(struct run *r, const struct check *c, void *body)
{
    size_t n = harmless(r, (uint16_t)c->a, body);
    if (!n)
        skip(r, "no harmless one of this device is known");
    return (struct ask){ .command = (uint16_t)c->a, .body = body, .size = n };
}

/* Well formed, in every way. c->b: it has to be served, by every server. */
static void good(struct run *r, const struct check *c)
{
    uint8_t body[HARMLESS_SPACE];
    struct ask ask = harmless_ask(r, c, body);
    enum outcome outcome = try(r, &ask);

    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == REFUSED && c->b)
        fail(r, "expected success, got %s", strerror((int)r->client.header.error));
    if (outcome == SERVED && c->a == VFIO_USER_DMA_MAP)
        unmap(r, BASE, PAGE);
}

static void empty(struct run *r, const struct check *c)
{
    struct ask ask = { .command = (uint16_t)c->a };
    refused(r, &ask, 0);
    still_works(r, client(r));
}

/*
 * The last byte is missing. To serve a structure that has not come whole is unusual; but the byte
 * may be of a field that nobody needs. Data that is missing is another matter.
 */
static void cut(struct run *r, const struct check *c)
{
    uint8_t body[HARMLESS_SPACE];
    struct ask ask = harmless_ask(r, c, body);
    bool data = c->a == VFIO_USER_REGION_WRITE || c->a == VFIO_USER_REGION_WRITE_MULTI;

    ask.size--;
    enum outcome outcome = try(r, &ask);
    if (outcome == CLOSED)
        fail(r, "expected an error reply, got the end of the connection");
    if (outcome == SERVED && data)
        fail(r, "data that is not all there: expected an error reply, got success");
    if (outcome == SERVED)
        note(r, "a request of %zu bytes is served, where there are %zu", ask.size, ask.size + 1);
    still_works(r, client(r));
}

/* Eight bytes too many: nothing says what that means, but the framing must hold. */
static void longer(struct run *r, const struct check *c)
{
    uint8_t body[HARMLESS_SPACE + 8] = { 0 };
    struct ask ask = harmless_ask(r, c, body);

    ask.size += 8;
    if (try(r, &ask) == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    still_works(r, client(r));
}

static void no_reply(struct run *r, const struct check *c)
{
    uint8_t body[HARMLESS_SPACE];
    struct ask ask = harmless_ask(r, c, body);

    ask.flags = VFIO_USER_FLAG_NO_REPLY;
    post(r, &ask);
    still_works(r, client(r)); /* which fails when what comes next is a reply to something else */
}

static void no_reply_to_error(struct run *r, const struct check *c)
{
    struct vfio_user_region_access a = { 0, UINT32_MAX, 4 };
    struct ask ask = { (uint16_t)c->a, &a, sizeof a, NULL, 0, VFIO_USER_FLAG_NO_REPLY };
    post(r, &ask);
    still_works(r, client(r));
}

/* The other end of the pipe tells whether anybody still has this one. */
static bool closed_within(int fd, unsigned ms)
{
    struct pollfd p = { .fd = fd };
    return poll(&p, 1, (int)ms) == 1 && (p.revents & POLLHUP);
}

static void descriptor_beside(struct run *r, const struct check *c)
{
    uint8_t body[HARMLESS_SPACE];
    struct ask ask = harmless_ask(r, c, body);
    int fds[2];

    a_pipe(r, fds);
    ask.fds = &fds[1];
    ask.nfds = 1;
    try(r, &ask);
    give_away(r, fds[1]);
    if (closed_within(fds[0], 200))
        return;
    if (r->options->one_connection)
        skip(r, "the server may keep the descriptor until the connection ends");
    peer_close(&r->client);
    if (!closed_within(fds[0], r->options->timeout_ms))
        fail(r, "expected the descriptor to be closed at the end of the connection, got it kept");
    note(r, "the descriptor is kept until the connection ends");
}

#define WRONG(tag, command, must)                                                              \
    { "message.good-" tag,                                                                     \
      #command " is answered",                                                                 \
      "Commands: " #command "; " #command,                                                     \
      good,                                                                                    \
      0,                                                                                       \
      command,                                                                                 \
      must },                                                                                  \
        { "message.empty-" tag,                                                                \
          #command " without a payload is refused",                                            \
          #command,                                                                            \
          empty,                                                                               \
          0,                                                                                   \
          command,                                                                             \
          0 },                                                                                 \
        { "message.cut-" tag, #command " with a byte missing", #command, cut, 0, command, 0 }, \
        { "message.longer-" tag,                                                               \
          #command " with bytes too many is answered",                                         \
          #command,                                                                            \
          longer,                                                                              \
          0,                                                                                   \
          command,                                                                             \
          0 },                                                                                 \
    {                                                                                          \
        "message.no-reply-" tag, #command " with No_reply is not answered",                    \
            "Header: Flags, No_reply", no_reply, 0, command, 0                                 \
    }
#define BESIDE(tag, command)                                                                  \
    {                                                                                         \
        "message.fd-" tag, "a descriptor beside " #command ", which takes none, is not kept", \
            #command, descriptor_beside, NEED_OWN, command, 0                                 \
    }

static const struct check checks[] = {
    WRONG("dma-map", VFIO_USER_DMA_MAP, true),
    WRONG("dma-unmap", VFIO_USER_DMA_UNMAP, false),
    WRONG("info", VFIO_USER_DEVICE_GET_INFO, true),
    WRONG("region-info", VFIO_USER_DEVICE_GET_REGION_INFO, true),
    WRONG("io-fds", VFIO_USER_DEVICE_GET_REGION_IO_FDS, false),
    WRONG("irq-info", VFIO_USER_DEVICE_GET_IRQ_INFO, true),
    WRONG("set-irqs", VFIO_USER_DEVICE_SET_IRQS, false),
    WRONG("read", VFIO_USER_REGION_READ, true),
    WRONG("write", VFIO_USER_REGION_WRITE, true),
    WRONG("write-multi", VFIO_USER_REGION_WRITE_MULTI, true),
    WRONG("feature", VFIO_USER_DEVICE_FEATURE, false),
    WRONG("mig-read", VFIO_USER_MIG_DATA_READ, false),
    WRONG("mig-write", VFIO_USER_MIG_DATA_WRITE, false),
    { "message.no-reply-bad-read", "a read that fails, with No_reply, is not answered",
      "Header: Flags, No_reply", no_reply_to_error, 0, VFIO_USER_REGION_READ, 0 },
    { "message.no-reply-unknown", "an unknown command with No_reply is not answered",
      "Header: Flags, No_reply", no_reply_to_error, 0, 4711, 0 },
    BESIDE("info", VFIO_USER_DEVICE_GET_INFO),
    BESIDE("region-info", VFIO_USER_DEVICE_GET_REGION_INFO),
    BESIDE("irq-info", VFIO_USER_DEVICE_GET_IRQ_INFO),
    BESIDE("read", VFIO_USER_REGION_READ),
    /* There are clients that send one with this. */
    BESIDE("dma-unmap", VFIO_USER_DMA_UNMAP),
    BESIDE("feature", VFIO_USER_DEVICE_FEATURE),
};
GROUP(check_messages, checks);

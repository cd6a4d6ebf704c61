/*
 * header.c - group "header": the sixteen bytes before each message.
 */
#include "check/run.h"

#include <stdio.h>

static const struct vfio_user_device_info device_info = { .argsz = sizeof device_info };

/* Sends a message whose header is made by hand, with device info as its body. */
static bool send_header(struct run *r, struct peer *p, struct vfio_user_header h)
{
    struct {
        struct vfio_user_header header;
        struct vfio_user_device_info info;
    } m = { h, device_info };
    return send_raw(r, p, &m, sizeof m, NULL, 0);
}

static struct vfio_user_header a_header(uint16_t id)
{
    return (struct vfio_user_header){ .id = id, .command = VFIO_USER_DEVICE_GET_INFO, .size = 32 };
}

static void id_echoed(struct run *r, const struct check *c)
{
    struct peer *p = client(r);
    send_header(r, p, a_header((uint16_t)c->a));
    if (reply_to(r, p, (uint16_t)c->a, VFIO_USER_DEVICE_GET_INFO) != SERVED)
        fail(r, "expected device info, got an error");
}

/* "can be re-used (even concurrently)" */
static void same_id(struct run *r, const struct check *c)
{
    struct peer *p = client(r);
    (void)c;
    for (int i = 0; i < 4; i++)
        send_header(r, p, a_header(7));
    for (int i = 0; i < 4; i++)
        reply_to(r, p, 7, VFIO_USER_DEVICE_GET_INFO);
}

static void command_echoed(struct run *r, const struct check *c)
{
    static const uint16_t commands[] = { VFIO_USER_DEVICE_GET_IRQ_INFO,
                                         VFIO_USER_DEVICE_GET_REGION_INFO,
                                         VFIO_USER_DEVICE_GET_REGION_IO_FDS,
                                         VFIO_USER_DEVICE_FEATURE, VFIO_USER_DEVICE_GET_INFO };
    uint8_t body[HARMLESS_SPACE];
    (void)c;

    for (size_t i = 0; i < LENGTH(commands); i++) {
        struct ask ask = { commands[i], body, harmless(r, commands[i], body), NULL, 0, 0 };
        if (try(r, &ask) == CLOSED) /* which looks at the reply's command */
            fail(r, "expected a reply, got the end of the connection");
    }
}

/* A size that cannot be: the framing is lost, and how a server says so is its own affair. */
static void impossible_size(struct run *r, const struct check *c)
{
    struct peer *p = client(r);
    struct vfio_user_header h = a_header(1);
    bool silent = false;

    h.size = (uint32_t)c->a;
    send_header(r, p, h);
    /* The rest of a long message may be waited for; of one that is too short, there is none. */
    enum outcome outcome = h.size < sizeof h ? next_reply(r, p) : consequence(r, p, &silent);
    if (outcome == SERVED)
        fail(r, "message of size %u: expected an error or the end of the connection, got success",
             h.size);
    if (silent)
        note(r, "a message of %u bytes is waited for", h.size);
}

static void wrong_type(struct run *r, const struct check *c)
{
    struct peer *p = client(r);
    struct vfio_user_header h = a_header(1);
    bool silent;

    h.flags = (uint32_t)c->a;
    send_header(r, p, h);
    if (consequence(r, p, &silent) == SERVED)
        fail(r, "message of type %u: expected that it is not served, got success", (unsigned)c->a);
}

/* Nothing says what a server does about bits and fields that are reserved; but it has to answer. */
static void reserved(struct run *r, const struct check *c)
{
    struct peer *p = client(r);
    struct vfio_user_header h = a_header(1);

    h.flags = (uint32_t)c->a;
    h.error = (uint32_t)c->b;
    send_header(r, p, h);
    enum outcome outcome = reply_to(r, p, 1, VFIO_USER_DEVICE_GET_INFO);
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == REFUSED)
        note(r, "a command with something in reserved fields is refused");
}

static void unknown_command(struct run *r, const struct check *c)
{
    struct ask ask = { .command = (uint16_t)c->a };
    refused(r, &ask, 0);
    still_works(r, client(r));
}

/* These go from the server to the client. */
static void command_of_the_server(struct run *r, const struct check *c)
{
    struct vfio_user_dma_access access = { BASE, 0 };
    refused(r, ASK((uint16_t)c->a, access), 0);
    still_works(r, client(r));
}

static const struct check checks[] = {
    { "header.id-0", "the message id is echoed: 0", "Header: Message ID", id_echoed, 0, 0, 0 },
    { "header.id-1", "the message id is echoed: 1", "Header: Message ID", id_echoed, 0, 1, 0 },
    { "header.id-7fff", "the message id is echoed: 0x7fff", "Header: Message ID", id_echoed, 0,
      0x7fff, 0 },
    { "header.id-ffff", "the message id is echoed: 0xffff", "Header: Message ID", id_echoed, 0,
      0xffff, 0 },
    { "header.id-reused", "commands with the same id, at the same time, are all answered",
      "Header: Message ID", same_id, 0, 0, 0 },
    { "header.command", "the reply to each command names it", "Header: Command", command_echoed, 0,
      0, 0 },
    { "header.size-0", "a message of size 0 is not served", "Header: Message size", impossible_size,
      NEED_OWN, 0, 0 },
    { "header.size-1", "a message of size 1 is not served", "Header: Message size", impossible_size,
      NEED_OWN, 1, 0 },
    { "header.size-15", "a message shorter than its header is not served", "Header: Message size",
      impossible_size, NEED_OWN, 15, 0 },
    { "header.size-2g", "a message of 2 GiB is no harm", "Header: Message size", impossible_size,
      NEED_OWN, 0x80000000, 0 },
    { "header.size-max", "a message of 4 GiB is no harm", "Header: Message size", impossible_size,
      NEED_OWN, 0xffffffff, 0 },
    { "header.type-reply", "a reply that nobody waits for is not served", "Header: Flags, Type",
      wrong_type, NEED_OWN, 1, 0 },
    { "header.type-2", "a message of type 2 is not served", "Header: Flags, Type", wrong_type,
      NEED_OWN, 2, 0 },
    { "header.type-15", "a message of type 15 is not served", "Header: Flags, Type", wrong_type,
      NEED_OWN, 15, 0 },
    { "header.flag-error", "the error bit in a command does no harm", "Header: Flags, Error",
      reserved, 0, VFIO_USER_FLAG_ERROR, 0 },
    { "header.flag-6", "reserved flag 6 does no harm", "Header: Flags", reserved, 0, 1u << 6, 0 },
    { "header.flags-high", "reserved flags do no harm", "Header: Flags", reserved, 0, 0xffffff00,
      0 },
    { "header.error-in-command", "the error field of a command is reserved, and does no harm",
      "Header: Error", reserved, 0, 0, EIO },
    { "header.command-0", "command 0 is refused", "Commands", unknown_command, 0, 0, 0 },
    { "header.command-14", "command 14, which is not assigned, is refused", "Commands",
      unknown_command, 0, 14, 0 },
    { "header.command-19", "command 19 is refused", "Commands", unknown_command, 0, 19, 0 },
    { "header.command-ff", "command 255 is refused", "Commands", unknown_command, 0, 255, 0 },
    { "header.command-ffff", "command 65535 is refused", "Commands", unknown_command, 0, 65535, 0 },
    { "header.dma-read", "the client cannot send VFIO_USER_DMA_READ",
      "Commands: VFIO_USER_DMA_READ", command_of_the_server, 0, VFIO_USER_DMA_READ, 0 },
    { "header.dma-write", "the client cannot send VFIO_USER_DMA_WRITE",
      "Commands: VFIO_USER_DMA_WRITE", command_of_the_server, 0, VFIO_USER_DMA_WRITE, 0 },
};
GROUP(check_header, checks);

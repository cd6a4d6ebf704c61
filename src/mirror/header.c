/*
 * header.c - replies with a wrong header.
 */
#include "mirror/misbehaviour.h"

#include <errno.h>
#include <stdlib.h>

static bool wrong_id(struct play *p, struct reply *r)
{
    p->owes = true;
    reply_header(r)->id = (uint16_t)(reply_header(r)->id + p->m->arg);
    return true;
}

static bool wrong_command(struct play *p, struct reply *r)
{
    reply_header(r)->command = (uint16_t)p->m->arg;
    return true;
}

/* The size field alone: what is sent stays. */
static bool size(struct play *p, struct reply *r)
{
    reply_header(r)->size = (uint32_t)p->m->arg;
    return true;
}

static bool size_off(struct play *p, struct reply *r)
{
    reply_header(r)->size += (uint32_t)p->m->arg;
    return true;
}

static bool flags(struct play *p, struct reply *r)
{
    reply_header(r)->flags = (uint32_t)p->m->arg;
    return true;
}

/* An error that the argument names. */
static bool error(struct play *p, struct reply *r)
{
    struct vfio_user_header h = *reply_header(r);
    device_error(&h, (int)p->m->arg, r);
    return true;
}

/* The error bit, with everything that a success has. */
static bool error_with_body(struct play *p, struct reply *r)
{
    (void)p;
    reply_header(r)->flags |= VFIO_USER_FLAG_ERROR;
    reply_header(r)->error = EIO;
    return true;
}

/* No error bit, but an error number. */
static bool error_without_bit(struct play *p, struct reply *r)
{
    (void)p;
    reply_header(r)->error = EIO;
    return true;
}

/* The client's own command comes back, as a command. */
static bool command_instead(struct play *p, struct reply *r)
{
    struct vfio_user_header *h = reply_header(r);
    uint16_t id;
    struct asked *a = play_note(p, h->command, 0, 0, 0, true, &id);

    if (a)
        a->id = h->id; /* that of the client */
    p->answered++;     /* or not: nobody waits for it */
    p->owes = true;
    r->nfds = 0;
    h->flags = VFIO_USER_FLAG_TYPE_COMMAND;
    return true;
}

/* The reply as often as the argument says. */
static bool repeated(struct play *p, struct reply *r)
{
    for (uint64_t i = 1; i < p->m->arg; i++)
        play_send_reply(p, r);
    return true;
}

/* A bare error behind the reply, for the same request. */
static bool error_afterwards(struct play *p, struct reply *r)
{
    struct reply *second = malloc(sizeof *second);
    play_send_reply(p, r);
    if (second) {
        device_error(reply_header(r), EIO, second);
        play_send_reply(p, second);
    }
    free(second);
    return false;
}

/* A reply to nobody, and then the proper one. */
static bool stray_before(struct play *p, struct reply *r)
{
    struct vfio_user_header *h = reply_header(r);
    h->id = (uint16_t)(h->id + 0x4321);
    play_send_reply(p, r);
    h->id = (uint16_t)(h->id - 0x4321);
    return true;
}

static bool stray_first(struct play *p, struct reply *r)
{
    struct vfio_user_header h = { .id = 77,
                                  .command = VFIO_USER_DEVICE_GET_INFO,
                                  .size = sizeof h,
                                  .flags = VFIO_USER_FLAG_TYPE_REPLY };
    (void)r;
    play_send(p, &h, sizeof h, NULL, 0);
    return false;
}

#define AT(suffix, point, id, text, must, act, arg)                      \
    {                                                                    \
        "header." id suffix, "Header", text, point, must, act, arg, NULL \
    }
#define AT_ALL(id, text, must, act, arg)                              \
    AT("@version", AT_VERSION, id, text, must, act, arg),             \
        AT("@info", AT_INFO, id, text, must, act, arg),               \
        AT("@region-info", AT_REGION_INFO, id, text, must, act, arg), \
        AT("@read", AT_READ, id, text, must, act, arg)

const struct misbehaviour misbehaviours_header[] = {
    AT_ALL("wrong-id", "a reply with the id of nobody's request", MUST_NOTICE, wrong_id, 0x5a5a),
    AT("@read", AT_READ, "next-id", "a reply with the id after that of the request", MUST_NOTICE,
       wrong_id, 1),
    AT("@read", AT_READ, "previous-id", "a reply with the id before that of the request",
       MUST_NOTICE, wrong_id, 0xffff),
    AT_ALL("wrong-command", "a reply that says it is one to VFIO_USER_DEVICE_RESET", MUST_NOTICE,
           wrong_command, VFIO_USER_DEVICE_RESET),
    AT("@info", AT_INFO, "no-command", "a reply to command 0", MUST_NOTICE, wrong_command, 0),
    AT("@info", AT_INFO, "unknown-command", "a reply to command 65535", MUST_NOTICE, wrong_command,
       65535),
    AT_ALL("size-zero", "a message size of 0", MUST_NOTICE, size, 0),
    AT("@info", AT_INFO, "size-15", "a message size of 15, less than a header", MUST_NOTICE, size,
       15),
    AT("@read", AT_READ, "size-header", "a message size of 16, and a body behind it", MUST_NOTICE,
       size, 16),
    AT("@info", AT_INFO, "size-less", "a message size that leaves the last 4 bytes out",
       MUST_NOTICE, size_off, UINT32_MAX - 3),
    AT("@info", AT_INFO, "size-more", "a message size that is 4 bytes too large", MUST_NOTICE,
       size_off, 4),
    AT_ALL("size-huge", "a message size of 4 GiB - 1", MUST_NOTICE, size, UINT32_MAX),
    AT("@info", AT_INFO, "size-signed", "a message size of 2^31, which is negative to some",
       MUST_NOTICE, size, UINT64_C(1) << 31),
    AT("@read", AT_READ, "size-2m", "a message size of 2 MiB that never comes", MUST_NOTICE, size,
       2 << 20),
    AT("@info", AT_INFO, "type-2", "a message of type 2, which there is not", MUST_NOTICE, flags,
       2),
    AT("@info", AT_INFO, "type-15", "a message of type 15, which there is not", MUST_NOTICE, flags,
       15),
    AT("@info", AT_INFO, "reserved", "a reply with all reserved flags", MAY_GO_ON, flags,
       0xffffffc0u | VFIO_USER_FLAG_TYPE_REPLY),
    AT("@info", AT_INFO, "no-reply", "a reply that wants no reply", MAY_GO_ON, flags,
       VFIO_USER_FLAG_NO_REPLY | VFIO_USER_FLAG_TYPE_REPLY),
    AT_ALL("command-instead", "the client's command comes back as a command", MUST_NOTICE,
           command_instead, 0),
    AT_ALL("error", "an error reply, EIO", MUST_NOTICE, error, EIO),
    AT_ALL("error-zero", "an error reply that names no error", MUST_NOTICE, error, 0),
    AT("@info", AT_INFO, "error-4096", "an error number that Linux has not", MUST_NOTICE, error,
       4096),
    AT("@info", AT_INFO, "error-signed", "an error number of 2^31", MUST_NOTICE, error,
       UINT64_C(1) << 31),
    AT_ALL("error-negative", "an error number of 2^32 - 5: -EIO", MUST_NOTICE, error,
           (uint32_t)-EIO),
    AT("@read", AT_READ, "error-minus-4", "an error number of 2^32 - 4: the size of a read",
       MUST_NOTICE, error, (uint32_t)-4),
    AT("@read", AT_READ, "error-body", "an error reply with the body of a success", MUST_NOTICE,
       error_with_body, 0),
    AT("@read", AT_READ, "error-no-bit", "a success with an error number", MAY_GO_ON,
       error_without_bit, 0),
    AT("@dma-map", AT_DMA_MAP, "error", "an error reply to a DMA map", MUST_NOTICE, error, EINVAL),
    AT("@dma-unmap", AT_DMA_UNMAP, "error", "an error reply to a DMA unmap", MUST_NOTICE, error,
       EINVAL),
    AT("@set-irqs", AT_SET_IRQS, "error", "an error reply to SET_IRQS", MUST_NOTICE, error, EINVAL),
    AT("@write", AT_WRITE, "error", "an error reply to a write", MUST_NOTICE, error, EIO),
    AT("@reset", AT_RESET, "error", "an error reply to a reset", MUST_NOTICE, error, EIO),
    AT("@info", AT_INFO, "twice", "the same reply twice", MAY_GO_ON, repeated, 2),
    AT("@read", AT_READ, "twice", "the same reply twice", MAY_GO_ON, repeated, 2),
    AT("@read", AT_READ, "often", "the same reply 1,000 times", MAY_GO_ON, repeated, 1000),
    AT("@read", AT_READ, "error-afterwards", "a reply, and then an error reply to the same request",
       MAY_GO_ON, error_afterwards, 0),
    AT("@read", AT_READ, "stray", "a reply to nobody, and then the proper one", MAY_GO_ON,
       stray_before, 0),
    AT("@connect", AT_CONNECT, "stray", "a reply before there is any request", MAY_GO_ON,
       stray_first, 0),
    { NULL, NULL, NULL, 0, 0, NULL, 0, NULL },
};

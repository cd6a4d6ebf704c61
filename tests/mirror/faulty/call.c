/*
 * call.c - requests and their replies.
 */
#include "faulty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint16_t next_id;

uint16_t call_send(const struct request *r)
{
    static uint8_t bytes[16 + MOST_BODY];
    struct vfio_user_header h = { .id = next_id++,
                                  .command = r->command,
                                  .size = (uint32_t)(sizeof h + r->size) };

    memcpy(bytes, &h, sizeof h);
    if (r->size)
        memcpy(bytes + sizeof h, r->body, r->size);
    io_send(bytes, h.size, r->fds, r->nfds);
    return h.id;
}

/* Is this an error reply? */
static bool is_error(const struct vfio_user_header *h)
{
    if (fault(FAULT_ERROR_ZERO))
        return (h->flags & VFIO_USER_FLAG_ERROR) && h->error != 0;
    if (fault(FAULT_ERROR_SIGN))
        return (h->flags & VFIO_USER_FLAG_ERROR) && -(int64_t)(int32_t)h->error <= 0;
    if (fault(FAULT_ERROR_BIT))
        return h->error != 0 && h->error <= 4095;
    return h->flags & VFIO_USER_FLAG_ERROR;
}

static bool is_reply(const struct message *m)
{
    return fault(FAULT_TYPE) || (m->h.flags & VFIO_USER_FLAG_TYPE) == VFIO_USER_FLAG_TYPE_REPLY;
}

static void check_whose(const struct request *r, uint16_t id, const struct message *m)
{
    if (m->h.id != id && fault(FAULT_ASSERT))
        abort();
    if (m->h.id != id && !fault(FAULT_ID))
        give_up("a reply to nobody");
    if (m->h.command != r->command && !fault(FAULT_COMMAND))
        give_up("a reply to command %u, where one to %u is due", m->h.command, r->command);
}

/* Who believes in any number of regions learns from errors that they are not there. */
static bool is_question(uint16_t command)
{
    return fault(FAULT_REGIONS) && (command == VFIO_USER_DEVICE_GET_REGION_INFO ||
                                    command == VFIO_USER_DEVICE_GET_IRQ_INFO);
}

void call_wait(const struct request *r, uint16_t id, struct message *m)
{
    for (;;) {
        io_receive(m);
        if (is_reply(m))
            break;
        io_drop_fds(m, 0);
        dma_serve(m);
    }
    check_whose(r, id, m);
    if (is_error(&m->h) && !is_question(r->command))
        give_up("command %u: error %u", r->command, m->h.error);
    io_drop_fds(m, r->reply_fds);
    bool failed = m->h.flags & VFIO_USER_FLAG_ERROR; /* a fault has let it through */
    if (m->size < r->least && !fault(FAULT_BODY) && !failed)
        give_up("command %u: a body of %zu bytes", r->command, m->size);
    if (m->size > r->most && !fault(FAULT_TAIL))
        give_up("command %u: a body of %zu bytes", r->command, m->size);
}

void call(const struct request *r, struct message *m)
{
    call_wait(r, call_send(r), m);
}

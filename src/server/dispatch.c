/*
 * dispatch.c - from a message to the function that serves it, and back to a reply.
 */
#include "server/dispatch.h"
#include "server/dma.h"
#include "server/feature.h"
#include "server/info.h"
#include "server/ioevent.h"
#include "server/irq.h"
#include "server/log.h"
#include "server/migration.h"
#include "server/record.h"
#include "server/region.h"
#include "server/reset.h"

#include <string.h>

static int serve(struct ob_device *dev, const struct wire_message *m, struct wire_fds *fds,
                 struct reply *reply)
{
    if (!dev->session->negotiated && m->header.command != VFIO_USER_VERSION)
        return -EINVAL;
    switch (m->header.command) {
    case VFIO_USER_VERSION: return info_version(dev, m, reply);
    case VFIO_USER_DMA_MAP: return dma_map(dev, m, fds);
    case VFIO_USER_DMA_UNMAP: return dma_unmap(dev, m, reply);
    case VFIO_USER_DEVICE_GET_INFO: return info_device(dev, m, reply);
    case VFIO_USER_DEVICE_GET_REGION_INFO: return info_region(dev, m, reply);
    case VFIO_USER_DEVICE_GET_REGION_IO_FDS: return ioevent_info(dev, m, reply);
    case VFIO_USER_DEVICE_GET_IRQ_INFO: return info_irq(dev, m, reply);
    case VFIO_USER_DEVICE_SET_IRQS: return irq_set(dev, m, fds);
    case VFIO_USER_REGION_READ: return region_read(dev, m, reply);
    case VFIO_USER_REGION_WRITE: return region_write(dev, m, reply);
    case VFIO_USER_REGION_WRITE_MULTI: return region_write_multi(dev, m, reply);
    case VFIO_USER_DEVICE_RESET: return server_reset(dev);
    case VFIO_USER_DEVICE_FEATURE: return feature(dev, m, reply);
    case VFIO_USER_MIG_DATA_READ: return migration_read(dev, m, reply);
    case VFIO_USER_MIG_DATA_WRITE: return migration_write(dev, m);
    default: return -ENOTSUP; /* what only a client serves */
    }
}

/* Puts the header before the body that the reply has already. Returns the output's new end. */
static uint32_t finish_reply(struct ob_device *dev, const struct vfio_user_header *command,
                             const struct reply *reply, int error)
{
    uint32_t at = step_reply(&dev->block);

    if (command->flags & VFIO_USER_FLAG_NO_REPLY)
        return at;
    struct vfio_user_header header = {
        .id = command->id,
        .command = command->command,
        .size = (uint32_t)(sizeof header + (error ? 0 : reply->size)),
        .flags = VFIO_USER_FLAG_TYPE_REPLY | (error ? VFIO_USER_FLAG_ERROR : 0),
        .error = (uint32_t)-error,
    };
    memcpy(dev->output + at, &header, sizeof header);
    if (!error && reply->fds_what) {
        SET(dev, dev->session->fds_at, at);
        SET(dev, dev->session->fds_which, dev->block.h->word);
        SET(dev, dev->session->fds_what, reply->fds_what);
    }
    return at + header.size;
}

static void refused(struct ob_device *dev, const struct wire_message *m, int error)
{
    dev->facts->errors++;
    if (m->header.command == VFIO_USER_DEVICE_FEATURE && error == -ENOTTY)
        return; /* that is how one asks what there is */
    if (m->header.command == VFIO_USER_REGION_READ || m->header.command == VFIO_USER_REGION_WRITE)
        server_log(dev, "%s of %u bytes at 0x%llx of region %u: %s",
                   wire_command_name(m->header.command), m->region.count,
                   (unsigned long long)m->region.offset, m->region.region, strerror(-error));
    else
        server_log(dev, "%s (command %u) refused: %s", wire_command_name(m->header.command),
                   m->header.command, strerror(-error));
}

static int run_command(struct ob_device *dev, const uint8_t *bytes, size_t n, struct wire_fds *fds)
{
    struct wire_message m;
    struct reply reply = {
        .body = dev->output + step_reply(&dev->block) + sizeof(struct vfio_user_header),
        .space = WIRE_MAX_MESSAGE - sizeof(struct vfio_user_header),
    };

    int error = wire_decode_command(bytes, n, fds->count, &m);
    if (!error && fds->lost)
        error = -EMFILE;
    record_message(dev, &m, !error);
    if (dev->refuse_next || dev->refuse_all)
        error = -EIO;
    else if (dev->overdue)
        error = -EBUSY;
    else if (!error)
        error = serve(dev, &m, fds, &reply);
    if (error == -EINPROGRESS) {
        step_cancel(&dev->block);
        record_reply(dev, &m.header, &reply, error);
        return error;
    }
    if (error) {
        server_step_undo(dev);
        refused(dev, &m, error);
    }
    region_multi_over(dev);
    if (dev->session->held_since)
        SET(dev, dev->session->held_since, 0);
    uint32_t end = finish_reply(dev, &m.header, &reply, error);
    server_step_end(dev, step_run(&dev->block) + (uint32_t)n, end);
    record_reply(dev, &m.header, &reply, error);
    /* Whoever does not start with a version, or with one we do not know, is no client. */
    return error && !dev->session->negotiated ? -EPROTO : 0;
}

static int run_reply(struct ob_device *dev, const uint8_t *bytes, size_t n)
{
    struct vfio_user_header header;

    memcpy(&header, bytes, sizeof header);
    record_answer(dev, &header);
    if (dma_reply(dev, bytes, n) < 0)
        server_log(dev, "a reply that nobody asked for: %s", wire_command_name(header.command));
    server_step_end(dev, step_run(&dev->block) + (uint32_t)n, step_reply(&dev->block));
    return 0;
}

int dispatch(struct ob_device *dev, const uint8_t *bytes, size_t n, struct wire_fds *fds)
{
    struct vfio_user_header header;

    if (dev->halted)
        return -EINPROGRESS;
    memcpy(&header, bytes, sizeof header);
    server_message_begin(dev);
    int ret = wire_is_reply(&header) ? run_reply(dev, bytes, n) : run_command(dev, bytes, n, fds);
    if (ret == -EINPROGRESS)
        return ret;
    if (dev->refuse_next)
        dev->quiesce = dev->halted = true;
    dev->refuse_next = false;
    dev->facts->messages++;
    dev->facts->bytes_in += n;
    wire_fds_close(fds);
    return ret;
}

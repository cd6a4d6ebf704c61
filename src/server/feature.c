/*
 * feature.c - see feature.h. Errors are those of Linux: ENOTTY for a feature that the device has not,
 * EINVAL for what cannot be done with one.
 */
#include "server/feature.h"
#include "server/logging.h"
#include "server/migration.h"

#include <string.h>

#define GET VFIO_DEVICE_FEATURE_GET
#define SET_ VFIO_DEVICE_FEATURE_SET

/* What can be done with a feature, 0: nothing. */
static uint32_t methods(const struct ob_device *dev, uint32_t number)
{
    switch (number) {
    case VFIO_DEVICE_FEATURE_MIGRATION: return dev->stream ? GET : 0;
    case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: return dev->stream ? GET | SET_ : 0;
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP: return SET_;
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT: return GET;
    default: return 0;
    }
}

/* Puts data behind the head of the reply, if there is room. Returns its size. */
static int give(struct reply *reply, const void *data, size_t n, size_t room)
{
    if (n <= room) {
        memcpy(reply->body + reply->size, data, n);
        reply->size += n;
    }
    return (int)n;
}

static int get_migration(struct reply *reply, size_t room)
{
    const struct vfio_device_feature_migration f = { VFIO_MIGRATION_STOP_COPY | OB_MIGRATION_PRE_COPY };
    return give(reply, &f, sizeof f, room);
}

static int get_state(struct ob_device *dev, struct reply *reply, size_t room)
{
    const struct vfio_device_feature_mig_state s = { dev->migration->state, -1 };
    return give(reply, &s, sizeof s, room);
}

static int set_state(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    struct vfio_device_feature_mig_state s;

    if (m->data_size != sizeof s)
        return -EINVAL;
    memcpy(&s, m->data, sizeof s);
    int ret = migration_set(dev, s.device_state);
    return ret < 0 ? ret : give(reply, m->data, m->data_size, m->data_size);
}

/* The size of the data that the reply has, or would have if there were room. */
static int serve(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    size_t room = m->feature.argsz - sizeof m->feature;

    switch (m->feature.flags & VFIO_DEVICE_FEATURE_MASK) {
    case VFIO_DEVICE_FEATURE_MIGRATION: return get_migration(reply, room);
    case VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE:
        return m->feature.flags & GET ? get_state(dev, reply, room) : set_state(dev, m, reply);
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_START:
        return logging_start(dev, m->data, m->data_size, reply);
    case VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP:
        return m->data_size ? -EINVAL : logging_stop(dev);
    default: return logging_report(dev, m->data, m->data_size, room, reply);
    }
}

int feature(struct ob_device *dev, const struct wire_message *m, struct reply *reply)
{
    struct vfio_user_device_feature head = m->feature;
    uint32_t wanted = head.flags & (GET | SET_);
    uint32_t there = methods(dev, head.flags & VFIO_DEVICE_FEATURE_MASK);

    if (!there)
        return -ENOTTY;
    if (wanted & ~there || m->data_size > WIRE_MAX_DATA)
        return -EINVAL;
    reply->size = sizeof head;
    int ret = head.flags & VFIO_DEVICE_FEATURE_PROBE
                  ? give(reply, m->data, m->data_size, m->data_size) /* as it was asked */
                  : serve(dev, m, reply);
    if (ret < 0)
        return ret;
    head.argsz = (uint32_t)sizeof head + (uint32_t)ret;
    memcpy(reply->body, &head, sizeof head);
    return 0;
}

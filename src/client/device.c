/*
 * device.c - the device as a whole: info, reset, features.
 */
#include "client/client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ob_client_device_info(struct ob_client *c, struct vfio_user_device_info *info)
{
    struct call call = {
        .request = { .header.command = VFIO_USER_DEVICE_GET_INFO,
                     .device_info.argsz = sizeof call.request.device_info },
        .fixed = sizeof call.request.device_info,
    };
    int ret = client_call(c, &call);
    if (ret < 0)
        return ret;
    const struct vfio_user_device_info *got = &call.reply.device_info;
    if (got->num_regions > WIRE_MAX_REGIONS || got->num_irqs > WIRE_MAX_IRQ_TYPES)
        return client_bad_reply(c, &call, "more regions or interrupt types than anyone can mean");
    *info = *got;
    return 0;
}

int ob_client_reset(struct ob_client *c)
{
    struct call call = { .request.header.command = VFIO_USER_DEVICE_RESET };
    return client_call(c, &call);
}

int ob_client_device_feature(struct ob_client *c, uint32_t flags, void *data, size_t in,
                             size_t space, size_t *out)
{
    if (in > WIRE_MAX_DATA || space > WIRE_MAX_DATA)
        return client_refuse(c, -EINVAL, "a feature's data is at most %u bytes", WIRE_MAX_DATA);
    /* Another thread may read the reply, and put it into `data`, while this one is not back from sending. */
    void *sent = in && space ? malloc(in) : NULL;
    if (in && space && !sent)
        return client_refuse(c, -ENOMEM, "no memory for a feature's %zu bytes", in);
    if (sent)
        memcpy(sent, data, in);
    uint32_t argsz = (uint32_t)(sizeof(struct vfio_user_device_feature) +
                                (in > space ? in : space));
    struct call call = {
        .request = { .header.command = VFIO_USER_DEVICE_FEATURE,
                     .feature = { .argsz = argsz, .flags = flags } },
        .fixed = sizeof call.request.feature,
        .data = sent ? sent : data,
        .data_size = in,
        .space = data,
        .room = space,
    };
    int ret = client_call(c, &call);
    free(sent);
    if (ret < 0)
        return ret;
    if (call.reply.feature.flags != flags)
        return client_bad_reply(c, &call, "the reply is about another feature");
    size_t length = call.got;
    if (call.reply.feature.argsz > argsz)
        length = call.reply.feature.argsz - sizeof call.reply.feature;
    if (out)
        *out = length;
    if (length > space)
        return client_refuse(c, -ENOSPC, "feature %u has %zu bytes of data, there is room for %zu",
                             flags & VFIO_DEVICE_FEATURE_MASK, length, space);
    return 0;
}

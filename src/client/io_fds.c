/*
 * io_fds.c - descriptors that stand for writes (VFIO_USER_DEVICE_GET_REGION_IO_FDS).
 */
#include "client/client.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A reply of this size holds as many sub-regions as a message has descriptors. */
#define REPLY_SIZE 1024u
#define REPLY_MAX (WIRE_MAX_MESSAGE - (uint32_t)sizeof(struct vfio_user_header))
#define REPLY_TRIES 3

struct list {
    struct ob_io_fds shown;
    struct wire_fds fds;
    struct ob_sub_region sub[];
};

/* ---- What the server says ---------------------------------------------------------------- */

/* NULL, or what is wrong with it. */
static const char *take_one(struct ob_sub_region *to, const struct vfio_user_sub_region *sub,
                            const struct wire_fds *fds, uint64_t region_size)
{
    if (sub->offset > region_size || sub->size > region_size - sub->offset)
        return "a sub-region outside the region";
    if (sub->fd_index >= fds->count)
        return "a sub-region without its descriptor";
    if (sub->type != VFIO_USER_IO_FD_TYPE_IOEVENTFD && sub->type != VFIO_USER_IO_FD_TYPE_IOREGIONFD)
        return "a sub-region of an unknown type";
    if (sub->type == VFIO_USER_IO_FD_TYPE_IOEVENTFD) {
        if (sub->size > 8 || (sub->size & (sub->size - 1)) ||
            (sub->size == 0 && (sub->flags & VFIO_USER_IOEVENTFD_DATAMATCH)))
            return "an ioeventfd of a size that no access has";
        if (!wire_is_eventfd(fds->fd[sub->fd_index]))
            return "an ioeventfd that is no eventfd";
    }
    *to = (struct ob_sub_region){ .offset = sub->offset, .size = sub->size, .type = sub->type,
                                  .flags = sub->flags, .value = sub->datamatch,
                                  .fd = fds->fd[sub->fd_index] };
    return NULL;
}

/* Fills in the list from the reply's data. Entries may be longer than we know them. */
static const char *take_all(struct list *l, const struct call *call, uint64_t region_size)
{
    const struct vfio_user_region_io_fds *info = &call->reply.io_fds;
    struct vfio_user_sub_region sub;

    if (info->index != l->shown.region)
        return "the reply is about another region";
    if (info->count == 0)
        return call->got || l->fds.count ? "descriptors, or data, of no sub-region" : NULL;
    if (call->got > call->room || call->got % info->count || call->got / info->count < sizeof sub)
        return "a list that is longer or shorter than it says";
    size_t size = call->got / info->count;
    for (uint32_t i = 0; i < info->count; i++) {
        memcpy(&sub, (const uint8_t *)call->space + i * size, sizeof sub);
        const char *wrong = take_one(&l->sub[i], &sub, &l->fds, region_size);
        if (wrong)
            return wrong;
    }
    l->shown.count = info->count;
    l->shown.sub = l->sub;
    return NULL;
}

/* One try, with room for `size` bytes. 0, a negative errno, or the size that is needed. */
static int64_t try_list(struct ob_client *c, uint32_t region, uint64_t region_size, uint32_t size,
                        struct list **list)
{
    uint8_t *space = malloc(size);
    struct list *l = calloc(1, sizeof *l + size / sizeof(struct vfio_user_sub_region) *
                                               sizeof(struct ob_sub_region));
    if (!l || !space) {
        free(l);
        free(space);
        return client_refuse(c, -ENOMEM, "no memory for a region's descriptors");
    }
    l->shown.region = region;
    struct call call = {
        .request = { .header.command = VFIO_USER_DEVICE_GET_REGION_IO_FDS,
                     .io_fds = { .argsz = size, .index = region } },
        .fixed = sizeof call.request.io_fds,
        .space = space,
        .room = size - sizeof call.request.io_fds,
        .reply_fds = &l->fds,
    };
    int64_t ret = client_call(c, &call);
    if (ret == 0 && call.reply.io_fds.argsz > size) {
        ret = call.reply.io_fds.argsz;
    } else if (ret == 0) {
        const char *wrong = take_all(l, &call, region_size);
        if (wrong)
            ret = client_bad_reply(c, &call, wrong);
    }
    free(space);
    if (ret == 0)
        *list = l;
    else
        ob_io_fds_free(&l->shown);
    return ret;
}

int ob_client_io_fds(struct ob_client *c, uint32_t region, struct ob_io_fds **fds)
{
    struct list *list = NULL;
    struct ob_region *info;
    int64_t size = REPLY_SIZE;

    *fds = NULL;
    int ret = ob_client_region(c, region, &info);
    if (ret < 0)
        return ret;
    for (int i = 0; i < REPLY_TRIES && size > 0 && size <= REPLY_MAX; i++)
        size = try_list(c, region, info->size, (uint32_t)size, &list);
    ob_region_free(info);
    if (size > 0)
        return client_refuse(c, -EBADMSG,
                             "VFIO_USER_DEVICE_GET_REGION_IO_FDS of region %u: the server wants %lld "
                             "bytes for the reply",
                             region, (long long)size);
    if (size == 0)
        *fds = &list->shown;
    return (int)size;
}

void ob_io_fds_free(struct ob_io_fds *fds)
{
    struct list *l = (struct list *)(void *)fds; /* the first member */
    if (!l)
        return;
    wire_fds_close(&l->fds);
    free(l);
}

/* ---- Signalling -------------------------------------------------------------------------- */

static bool matches(const struct ob_sub_region *s, uint64_t offset, const void *buf, size_t n)
{
    uint64_t value = 0;

    if (s->type != VFIO_USER_IO_FD_TYPE_IOEVENTFD || s->offset != offset || n == 0 ||
        n > sizeof value || (s->size && s->size != n))
        return false;
    memcpy(&value, buf, n);
    return !(s->flags & VFIO_USER_IOEVENTFD_DATAMATCH) || le64toh(value) == s->value;
}

bool ob_io_fds_signal(const struct ob_io_fds *fds, uint64_t offset, const void *buf, size_t n)
{
    for (uint32_t i = 0; i < fds->count; i++) {
        if (!matches(&fds->sub[i], offset, buf, n))
            continue;
        /* A counter that is full, by whomever, would make us wait: then it shall be a message. */
        struct pollfd p = { .fd = fds->sub[i].fd, .events = POLLOUT };
        const uint64_t one = 1;
        return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) &&
               write(p.fd, &one, sizeof one) == (ssize_t)sizeof one;
    }
    return false;
}

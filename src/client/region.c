/*
 * region.c - what regions there are, and access to them.
 */
#include "client/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A reply of this size holds all the capabilities of an ordinary region. */
#define INFO_SIZE 1024u
#define INFO_MAX (WIRE_MAX_MESSAGE - (uint32_t)sizeof(struct vfio_user_header))
#define INFO_TRIES 3

/* ---- Reading and writing ----------------------------------------------------------------- */

static struct call region_call(uint16_t command, uint32_t region, uint64_t offset, size_t n)
{
    return (struct call){
        .request = { .header.command = command,
                     .region = { .offset = offset, .region = region, .count = (uint32_t)n } },
        .fixed = sizeof(struct vfio_user_region_access),
    };
}

/* How many of the next n bytes fit into one message. Negative: an error. */
static ssize_t next_piece(struct ob_client *c, uint64_t offset, size_t n)
{
    ssize_t most = ob_client_transfer_size(c);
    if (most < 0)
        return most;
    if (offset + n < offset)
        return client_refuse(c, -EINVAL, "%zu bytes at 0x%llx are beyond any region", n,
                             (unsigned long long)offset);
    return n < (size_t)most ? (ssize_t)n : most;
}

int ob_client_read(struct ob_client *c, uint32_t region, uint64_t offset, void *buf, size_t n)
{
    uint8_t *at = buf;

    while (n > 0) {
        ssize_t piece = next_piece(c, offset, n);
        if (piece < 0)
            return (int)piece;
        struct call call = region_call(VFIO_USER_REGION_READ, region, offset, (size_t)piece);
        call.space = at;
        call.room = (size_t)piece;
        int ret = client_call(c, &call);
        if (ret < 0)
            return ret;
        at += piece;
        offset += (uint64_t)piece;
        n -= (size_t)piece;
    }
    return 0;
}

static int write_with(int (*send)(struct ob_client *, struct call *), struct ob_client *c,
                      uint32_t region, uint64_t offset, const void *buf, size_t n)
{
    const uint8_t *at = buf;

    while (n > 0) {
        ssize_t piece = next_piece(c, offset, n);
        if (piece < 0)
            return (int)piece;
        struct call call = region_call(VFIO_USER_REGION_WRITE, region, offset, (size_t)piece);
        call.data = at;
        call.data_size = (size_t)piece;
        int ret = send(c, &call);
        if (ret < 0)
            return ret;
        at += piece;
        offset += (uint64_t)piece;
        n -= (size_t)piece;
    }
    return 0;
}

int ob_client_write(struct ob_client *c, uint32_t region, uint64_t offset, const void *buf,
                    size_t n)
{
    return write_with(client_call, c, region, offset, buf, n);
}

int ob_client_post(struct ob_client *c, uint32_t region, uint64_t offset, const void *buf, size_t n)
{
    return write_with(client_post, c, region, offset, buf, n);
}

static int check_one_message(struct ob_client *c, uint64_t offset, size_t n)
{
    ssize_t piece = next_piece(c, offset, n);
    if (piece < 0)
        return (int)piece;
    if (n == 0 || (size_t)piece != n)
        return client_refuse(c, -EINVAL, "%zu bytes are not 1 to what one message holds", n);
    return 0;
}

int ob_client_start_read(struct ob_client *c, uint32_t region, uint64_t offset, void *buf, size_t n,
                         struct ob_request **request)
{
    int ret = check_one_message(c, offset, n);
    if (ret < 0)
        return ret;
    struct call call = region_call(VFIO_USER_REGION_READ, region, offset, n);
    call.space = buf;
    call.room = n;
    return client_start(c, &call, request);
}

int ob_client_start_write(struct ob_client *c, uint32_t region, uint64_t offset, const void *buf,
                          size_t n, struct ob_request **request)
{
    int ret = check_one_message(c, offset, n);
    if (ret < 0)
        return ret;
    struct call call = region_call(VFIO_USER_REGION_WRITE, region, offset, n);
    call.data = buf;
    call.data_size = n;
    return client_start(c, &call, request);
}

static int check_writes(struct ob_client *c, const struct vfio_user_write *writes, size_t count)
{
    struct ob_capabilities theirs;
    int ret = ob_client_capabilities(c, NULL, &theirs);
    if (ret < 0)
        return ret;
    if (!theirs.write_multiple || theirs.max_data_xfer_size < sizeof *writes)
        return client_refuse(c, -ENOTSUP, "the server does not take VFIO_USER_REGION_WRITE_MULTI");
    for (size_t i = 0; i < count; i++)
        if (writes[i].count == 0 || writes[i].count > sizeof writes[i].data)
            return client_refuse(c, -EINVAL, "write %zu of several has %u bytes, not 1 to 8", i,
                                 writes[i].count);
    return 0;
}

int ob_client_write_multi(struct ob_client *c, const struct vfio_user_write *writes, size_t count,
                          bool posted)
{
    int ret = check_writes(c, writes, count);
    if (ret < 0)
        return ret;
    size_t most = (size_t)ob_client_transfer_size(c) / sizeof *writes;
    while (count > 0) {
        size_t n = count < most ? count : most;
        struct call call = {
            .request = { .header.command = VFIO_USER_REGION_WRITE_MULTI, .multi.wr_cnt = n },
            .fixed = sizeof call.request.multi,
            .data = writes,
            .data_size = n * sizeof *writes,
        };
        ret = posted ? client_post(c, &call) : client_call(c, &call);
        if (ret < 0)
            return ret;
        if (!posted && call.reply.multi.wr_cnt != n)
            return client_refuse(c, -EIO, "the device did %llu of %zu writes",
                                 (unsigned long long)call.reply.multi.wr_cnt, n);
        writes += n;
        count -= n;
    }
    return 0;
}

/* ---- Region info ------------------------------------------------------------------------- */

/* A region under construction: the structure that the caller sees, and the reply behind it. */
struct info {
    struct ob_region region;
    struct wire_fds fds; /* region.fd is the first; of several, each is one area's */
    struct vfio_region_info head;
    uint32_t size;  /* of head and tail together, as received */
    uint8_t tail[]; /* capabilities; offsets count from the start of head */
};

/* Copies n bytes at an offset that counts from the start of the info structure. */
static bool info_copy(const struct info *i, uint64_t offset, void *to, size_t n)
{
    if (offset < sizeof i->head || offset > i->size || n > i->size - offset)
        return false;
    memcpy(to, i->tail + (offset - sizeof i->head), n);
    return true;
}

static const char *take_areas(struct info *i, uint32_t at)
{
    struct vfio_region_info_cap_sparse_mmap cap;
    struct ob_region *r = &i->region;

    if (r->has_areas)
        return "two sparse mmap capabilities";
    if (!info_copy(i, at, &cap, sizeof cap))
        return "a sparse mmap capability that is cut off";
    uint64_t first = (uint64_t)at + sizeof cap;
    if (cap.nr_areas > (i->size - first) / sizeof *r->areas)
        return "more sparse areas than were sent";
    struct vfio_region_sparse_mmap_area *areas = NULL;
    if (cap.nr_areas) {
        areas = calloc(cap.nr_areas, sizeof *areas);
        if (!areas)
            return "sparse areas that no memory is left for";
        info_copy(i, first, areas, cap.nr_areas * sizeof *areas);
    }
    r->has_areas = true;
    r->areas = areas;
    r->areas_count = cap.nr_areas;
    for (uint32_t n = 0; n < cap.nr_areas; n++)
        if (areas[n].size == 0 || areas[n].offset > r->size ||
            areas[n].size > r->size - areas[n].offset)
            return "a sparse area that is empty or outside the region";
    return NULL;
}

static const char *take_type(struct info *i, uint32_t at)
{
    struct vfio_region_info_cap_type cap;
    struct ob_region *r = &i->region;

    if (r->has_type)
        return "two type capabilities";
    if (!info_copy(i, at, &cap, sizeof cap))
        return "a type capability that is cut off";
    r->has_type = true;
    r->type = cap.type;
    r->subtype = cap.subtype;
    return NULL;
}

/* Walks the list, in whatever order it is linked. NULL, or what is wrong with it. */
static const char *take_capabilities(struct info *i)
{
    struct vfio_info_cap_header cap;
    uint32_t at = i->head.flags & VFIO_REGION_INFO_FLAG_CAPS ? i->head.cap_offset : 0;
    uint32_t left = i->size / (uint32_t)sizeof cap; /* more cannot be there without a loop */
    const char *wrong = NULL;

    for (; at != 0 && !wrong; at = cap.next) {
        if (left-- == 0)
            return "capabilities in a loop";
        if (!info_copy(i, at, &cap, sizeof cap))
            return "a capability outside the reply";
        if (cap.id == VFIO_REGION_INFO_CAP_SPARSE_MMAP)
            wrong = take_areas(i, at);
        else if (cap.id == VFIO_REGION_INFO_CAP_TYPE)
            wrong = take_type(i, at);
        else if (cap.id == VFIO_USER_REGION_INFO_CAP_PLATFORM)
            wrong = client_take_platform(&i->region, i->tail + (at - sizeof i->head), i->size - at);
    }
    return wrong;
}

/*
 * Fills in i->region, and takes the descriptors out of *fds. NULL, or what is wrong with the
 * reply.
 */
static const char *take_info(struct info *i, uint32_t index, struct wire_fds *fds)
{
    struct ob_region *r = &i->region;
    bool mapped = i->head.flags & VFIO_REGION_INFO_FLAG_MMAP;

    if (i->head.index != index)
        return "the reply is about another region";
    if (i->head.size > INT64_MAX || (mapped && i->head.offset > INT64_MAX - i->head.size))
        return "no file can be as long as the reply says";
    if (!mapped && fds->count)
        return "a region that cannot be mapped has a descriptor";
    r->index = index;
    r->flags = i->head.flags;
    r->size = i->head.size;
    r->offset = i->head.offset;
    const char *wrong = take_capabilities(i);
    if (wrong || !mapped)
        return wrong;
    if (fds->count != 1 && (!fds->count || fds->count != r->areas_count))
        return "a region that can be mapped needs one descriptor, or one for each area";
    i->fds = *fds;
    fds->count = 0;
    r->fd = i->fds.fd[0];
    for (unsigned n = 0; n < i->fds.count; n++) {
        int seals = fcntl(i->fds.fd[n], F_GET_SEALS);
        r->may_shrink |= seals < 0 || !(seals & F_SEAL_SHRINK);
    }
    return NULL;
}

/* One try, with room for `size` bytes. 0, a negative errno, or the size that is needed. */
static int64_t try_info(struct ob_client *c, uint32_t index, uint32_t size, struct info **info)
{
    struct info *i = calloc(1, sizeof *i + size);
    if (!i)
        return client_refuse(c, -ENOMEM, "no memory for a region's description");
    i->region.fd = -1;

    struct wire_fds fds = { .count = 0 };
    struct call call = {
        .request = { .header.command = VFIO_USER_DEVICE_GET_REGION_INFO,
                     .region_info = { .argsz = size, .index = index } },
        .fixed = sizeof call.request.region_info,
        .space = i->tail,
        .room = size - sizeof i->head,
        .reply_fds = &fds,
    };
    int64_t ret = client_call(c, &call);
    if (ret == 0 && call.reply.region_info.argsz > size) {
        ret = call.reply.region_info.argsz;
    } else if (ret == 0) {
        const char *wrong = "the reply is longer than it may be";
        if (call.got <= call.room) {
            i->head = call.reply.region_info;
            i->size = (uint32_t)(sizeof i->head + call.got);
            wrong = take_info(i, index, &fds);
        }
        if (wrong)
            ret = client_bad_reply(c, &call, wrong);
    }
    wire_fds_close(&fds);
    if (ret == 0)
        *info = i;
    else
        ob_region_free(&i->region);
    return ret;
}

int ob_client_region(struct ob_client *c, uint32_t index, struct ob_region **region)
{
    struct info *info = NULL;
    int64_t size = INFO_SIZE;

    *region = NULL;
    for (int i = 0; i < INFO_TRIES && size > 0 && size <= INFO_MAX; i++)
        size = try_info(c, index, (uint32_t)size, &info);
    if (size > 0)
        return client_refuse(c, -EBADMSG,
                             "VFIO_USER_DEVICE_GET_REGION_INFO of region %u: the server "
                             "wants %lld bytes for the reply",
                             index, (long long)size);
    if (size == 0)
        *region = &info->region;
    return (int)size;
}

void ob_region_free(struct ob_region *r)
{
    if (!r)
        return;
    struct info *i = (struct info *)(void *)r; /* the first member */
    wire_fds_close(&i->fds);
    free((void *)(uintptr_t)r->areas);
    free(i);
}

/* ---- Mapping ----------------------------------------------------------------------------- */

static bool inside(uint64_t offset, uint64_t size, uint64_t start, uint64_t length)
{
    return offset >= start && offset - start <= length && size <= length - (offset - start);
}

/* The descriptor that this range is to be mapped with, -1: it lies in no area. */
static int fd_of(const struct ob_region *r, uint64_t offset, uint64_t size)
{
    const struct info *info = (const struct info *)(const void *)r;

    if (!r->has_areas)
        return inside(offset, size, 0, r->size) ? r->fd : -1;
    for (uint32_t i = 0; i < r->areas_count; i++)
        if (inside(offset, size, r->areas[i].offset, r->areas[i].size))
            return info->fds.fd[info->fds.count > 1 ? i : 0];
    return -1;
}

int ob_region_map(const struct ob_region *r, uint64_t offset, uint64_t size, int prot, void **p)
{
    uint32_t need = 0;
    struct stat st;

    if (r->fd < 0 || (r->has_areas && r->areas_count == 0))
        return -ENOTSUP;
    int fd = fd_of(r, offset, size);
    if (size == 0 || size > SIZE_MAX || fd < 0 || prot == PROT_NONE ||
        (prot & ~(PROT_READ | PROT_WRITE)) ||
        (r->offset + offset) % (uint64_t)sysconf(_SC_PAGESIZE))
        return -EINVAL;
    if (prot & PROT_READ)
        need |= VFIO_REGION_INFO_FLAG_READ;
    if (prot & PROT_WRITE)
        need |= VFIO_REGION_INFO_FLAG_WRITE;
    if ((r->flags & need) != need)
        return -EACCES;
    /* Anything else than a plain file could do something when it is mapped or touched. */
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || !inside(r->offset + offset, size, 0, (uint64_t)st.st_size))
        return -EBADMSG;
    void *address = mmap(NULL, size, prot, MAP_SHARED, fd, (off_t)(r->offset + offset));
    if (address == MAP_FAILED)
        return -errno;
    *p = address;
    return 0;
}

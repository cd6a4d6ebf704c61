/*
 * data.c - replies whose body does not fit: to reads, writes and the like.
 */
#include "mirror/misbehaviour.h"

static struct vfio_user_region_access *access_of(struct reply *r)
{
    return reply_body(r);
}

static bool body(struct play *p, struct reply *r)
{
    reply_resize(r, p->m->arg);
    return true;
}

/* As many bytes more as the argument says, with a count that agrees. */
static bool more(struct play *p, struct reply *r)
{
    size_t n = r->size - sizeof(struct vfio_user_header);
    memset((uint8_t *)reply_body(r) + n, 0xa5, p->m->arg);
    access_of(r)->count += (uint32_t)p->m->arg;
    reply_resize(r, n + p->m->arg);
    return true;
}

/* Half of the data, with a count that agrees. */
static bool less(struct play *p, struct reply *r)
{
    (void)p;
    access_of(r)->count /= 2;
    reply_resize(r, sizeof *access_of(r) + access_of(r)->count);
    return true;
}

static bool none(struct play *p, struct reply *r)
{
    (void)p;
    access_of(r)->count = 0;
    reply_resize(r, sizeof *access_of(r));
    return true;
}

/* The count alone. */
static bool count(struct play *p, struct reply *r)
{
    access_of(r)->count = (uint32_t)p->m->arg;
    return true;
}

/* The body grows, the count stays. */
static bool longer(struct play *p, struct reply *r)
{
    size_t n = r->size - sizeof(struct vfio_user_header);
    memset((uint8_t *)reply_body(r) + n, 0xa5, p->m->arg);
    reply_resize(r, n + p->m->arg);
    return true;
}

static bool offset(struct play *p, struct reply *r)
{
    access_of(r)->offset += p->m->arg;
    return true;
}

static bool region(struct play *p, struct reply *r)
{
    access_of(r)->region = (uint32_t)p->m->arg;
    return true;
}

static bool multi(struct play *p, struct reply *r)
{
    memcpy(reply_body(r), &p->m->arg, sizeof p->m->arg);
    return true;
}

static struct vfio_user_mig_data *mig_data(struct reply *r)
{
    return reply_body(r);
}

static bool mig_size(struct play *p, struct reply *r)
{
    mig_data(r)->size = (uint32_t)p->m->arg;
    return true;
}

static bool mig_more(struct play *p, struct reply *r)
{
    size_t n = r->size - sizeof(struct vfio_user_header);
    memset((uint8_t *)reply_body(r) + n, 0xa5, p->m->arg);
    mig_data(r)->size += (uint32_t)p->m->arg;
    reply_resize(r, n + p->m->arg);
    return true;
}

static bool feature_flags(struct play *p, struct reply *r)
{
    ((struct vfio_user_device_feature *)reply_body(r))->flags = (uint32_t)p->m->arg;
    return true;
}

static bool feature_argsz(struct play *p, struct reply *r)
{
    ((struct vfio_user_device_feature *)reply_body(r))->argsz = (uint32_t)p->m->arg;
    return true;
}

/* The first field of what follows the head of a feature. */
static bool feature_first(struct play *p, struct reply *r)
{
    uint8_t *at = (uint8_t *)reply_body(r) + sizeof(struct vfio_user_device_feature);
    memcpy(at, &p->m->arg, sizeof p->m->arg);
    return true;
}

/* The body, without its last bytes; argsz stays. */
static bool cut(struct play *p, struct reply *r)
{
    reply_resize(r, r->size - sizeof(struct vfio_user_header) - p->m->arg);
    return true;
}

#define ROW(id, section, text, point, must, act, arg)          \
    {                                                          \
        "data." id, section, text, point, must, act, arg, NULL \
    }
#define READ(id, text, act, arg) \
    ROW("read-" id, "VFIO_USER_REGION_READ", text, AT_READ, MUST_NOTICE, act, arg)
#define WRITE(id, text, must, act, arg) \
    ROW("write-" id, "VFIO_USER_REGION_WRITE", text, AT_WRITE, must, act, arg)
#define MULTI(id, text, act, arg) \
    ROW("multi-" id, "VFIO_USER_REGION_WRITE_MULTI", text, AT_WRITE_MULTI, MUST_NOTICE, act, arg)
#define FEATURE(id, text, must, act, arg) \
    ROW("feature-" id, "VFIO_USER_DEVICE_FEATURE", text, AT_FEATURE, must, act, arg)
#define MIG(id, text, act, arg) \
    ROW("mig-" id, "VFIO_USER_MIG_DATA_READ", text, AT_MIG_DATA_READ, MUST_NOTICE, act, arg)

const struct misbehaviour misbehaviours_data[] = {
    READ("empty", "no body", body, 0),
    READ("short", "a body of 12 bytes", body, 12),
    READ("no-data", "the count that was asked for, and no data", body, 16),
    READ("less", "half of the data, and half of the count", less, 0),
    READ("none", "no data, and a count of 0", none, 0),
    READ("more", "4 bytes more, and a count of 4 more", more, 4),
    READ("much-more", "60,000 bytes more, and a count of that", more, 60000),
    READ("far-more", "1 MiB more, and a count of that", more, 1 << 20),
    READ("count-more", "a count of 64 KiB, and the data that was asked for", count, 65536),
    READ("count-huge", "a count of 4 GiB - 1, and the data that was asked for", count, UINT32_MAX),
    READ("count-wraps", "a count of 4 GiB - 16, which makes a message of 16 bytes", count,
         UINT32_MAX - 15),
    READ("longer", "4 bytes behind the data", longer, 4),
    READ("much-longer", "60,000 bytes behind the data", longer, 60000),
    READ("other-offset", "the data of another offset", offset, 8),
    READ("other-region", "the data of another region", region, 5),
    WRITE("empty", "no body", MUST_NOTICE, body, 0),
    WRITE("data", "data, where none belongs", MUST_NOTICE, longer, 4),
    WRITE("less", "a smaller count: less was written", MUST_NOTICE, none, 0),
    WRITE("count-huge", "a count of 4 GiB - 1", MUST_NOTICE, count, UINT32_MAX),
    WRITE("other-offset", "another offset was written to", MUST_NOTICE, offset, 8),
    MULTI("empty", "no body", body, 0),
    MULTI("none", "no writes were done", multi, 0),
    MULTI("more", "2^60 writes were done", multi, UINT64_C(1) << 60),
    ROW("unmap-empty", "VFIO_USER_DMA_UNMAP", "no body", AT_DMA_UNMAP, MAY_GO_ON, body, 0),
    ROW("unmap-longer", "VFIO_USER_DMA_UNMAP", "60,000 bytes more than there should be",
        AT_DMA_UNMAP, MAY_GO_ON, longer, 60000),
    ROW("map-body", "VFIO_USER_DMA_MAP", "a body of 60,000 bytes, where none belongs", AT_DMA_MAP,
        MAY_GO_ON, body, 60000),
    ROW("set-irqs-body", "VFIO_USER_DEVICE_SET_IRQS", "a body of 60,000 bytes, where none belongs",
        AT_SET_IRQS, MAY_GO_ON, body, 60000),
    ROW("reset-body", "VFIO_USER_DEVICE_RESET", "a body of 60,000 bytes, where none belongs",
        AT_RESET, MAY_GO_ON, body, 60000),
    FEATURE("empty", "no body", MUST_NOTICE, body, 0),
    FEATURE("other", "the reply is about another feature", MUST_NOTICE, feature_flags, 0x1ffff),
    FEATURE("argsz-zero", "argsz of 0", MAY_GO_ON, feature_argsz, 0),
    FEATURE("argsz-huge", "argsz of 4 GiB - 1", MUST_NOTICE, feature_argsz, UINT32_MAX),
    FEATURE("longer", "60,000 bytes more than was asked for", MUST_NOTICE, longer, 60000),
    ROW("state-unknown", "VFIO_USER_DEVICE_FEATURE", "a migration state that there is not",
        AT_MIG_STATE, MAY_GO_ON, feature_first, 99),
    ROW("state-cut", "VFIO_USER_DEVICE_FEATURE", "a migration state without its last 4 bytes",
        AT_MIG_STATE, MUST_NOTICE, cut, 4),
    ROW("log-page-none", "VFIO_USER_DEVICE_FEATURE", "a log of pages of 0 bytes", AT_LOG_START,
        MUST_NOTICE, feature_first, 0),
    ROW("log-page-odd", "VFIO_USER_DEVICE_FEATURE", "a log of pages of 3 bytes", AT_LOG_START,
        MUST_NOTICE, feature_first, 3),
    ROW("log-page-huge", "VFIO_USER_DEVICE_FEATURE", "a log of pages of 2^63 bytes", AT_LOG_START,
        MAY_GO_ON, feature_first, UINT64_C(1) << 63),
    ROW("log-cut", "VFIO_USER_DEVICE_FEATURE", "a log without its last 8 bytes", AT_LOG_REPORT,
        MUST_NOTICE, cut, 8),
    ROW("log-longer", "VFIO_USER_DEVICE_FEATURE", "a log with 60,000 bytes more", AT_LOG_REPORT,
        MUST_NOTICE, longer, 60000),
    ROW("log-other", "VFIO_USER_DEVICE_FEATURE", "the log of another range", AT_LOG_REPORT,
        MUST_NOTICE, feature_first, 0x7000),
    MIG("empty", "no body", body, 0),
    MIG("more", "4,096 bytes more than was asked for", mig_more, 4096),
    MIG("size-huge", "a size of 4 GiB - 1", mig_size, UINT32_MAX),
    MIG("size-less", "a size that is less than the data", mig_size, 1),
    { NULL, NULL, NULL, 0, 0, NULL, 0, NULL },
};

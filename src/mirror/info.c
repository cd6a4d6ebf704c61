/*
 * info.c - what the mirror says about its device, its regions and interrupts, and is not true.
 */
#include "mirror/misbehaviour.h"

#include <stdlib.h>

#define DEVICE "VFIO_USER_DEVICE_GET_INFO"
#define REGION "VFIO_USER_DEVICE_GET_REGION_INFO"
#define IRQ "VFIO_USER_DEVICE_GET_IRQ_INFO"
#define IO_FDS "VFIO_USER_DEVICE_GET_REGION_IO_FDS"

/* ---- Any of them --------------------------------------------------------------------------- */

/* The low half of the argument is an offset into the body, the high half a 32-bit value for it. */
#define PUT32(offset, value) ((uint64_t)(value) << 32 | (offset))

static bool put32(struct play *p, struct reply *r)
{
    uint32_t value = (uint32_t)(p->m->arg >> 32);
    memcpy((uint8_t *)reply_body(r) + (uint32_t)p->m->arg, &value, sizeof value);
    return true;
}

static bool body(struct play *p, struct reply *r)
{
    reply_resize(r, p->m->arg);
    return true;
}

/* The body grows by so many bytes. */
static bool longer(struct play *p, struct reply *r)
{
    size_t n = r->size - sizeof(struct vfio_user_header);
    memset((uint8_t *)reply_body(r) + n, 0xa5, p->m->arg);
    reply_resize(r, n + p->m->arg);
    return true;
}

/* ---- Regions ------------------------------------------------------------------------------- */

/* The reply about a region that can be mapped, with its one area. */
struct sparse {
    struct vfio_region_info info;
    struct vfio_region_info_cap_sparse_mmap cap;
    struct vfio_region_sparse_mmap_area area[3];
};

static struct sparse *sparse(struct reply *r)
{
    return reply_body(r);
}

static bool region_size(struct play *p, struct reply *r)
{
    sparse(r)->info.size = p->m->arg;
    return true;
}

static bool region_offset(struct play *p, struct reply *r)
{
    sparse(r)->info.offset = p->m->arg;
    return true;
}

/* All of the region can be mapped, and it is larger than its file. */
static bool whole(struct play *p, struct reply *r)
{
    struct vfio_region_info *info = reply_body(r);
    info->size = p->m->arg;
    info->flags &= ~(uint32_t)VFIO_REGION_INFO_FLAG_CAPS;
    info->cap_offset = 0;
    info->argsz = sizeof *info;
    reply_resize(r, sizeof *info);
    p->watch.map_limit = DEVICE_FILE_SIZE;
    return true;
}

static bool cap_offset(struct play *p, struct reply *r)
{
    sparse(r)->info.cap_offset = (uint32_t)p->m->arg;
    return true;
}

/* No capability says that less than the whole region can be mapped. */
static bool cap_none(struct play *p, struct reply *r)
{
    sparse(r)->info.cap_offset = 0;
    p->watch.map_limit = DEVICE_MEMORY_SIZE;
    return true;
}

static bool cap_next(struct play *p, struct reply *r)
{
    sparse(r)->cap.header.next = (uint32_t)p->m->arg;
    return true;
}

/* Two capabilities that nobody knows, each of which names the other as the next. */
static bool cap_circle(struct play *p, struct reply *r)
{
    struct vfio_info_cap_header caps[2] = {
        { .id = 0x6d69, .version = 1, .next = sizeof(struct vfio_region_info) + sizeof caps[0] },
        { .id = 0x6d69, .version = 1, .next = sizeof(struct vfio_region_info) },
    };
    (void)p;
    sparse(r)->info.argsz = sizeof(struct vfio_region_info) + sizeof caps;
    memcpy(&sparse(r)->cap, caps, sizeof caps);
    reply_resize(r, sizeof(struct vfio_region_info) + sizeof caps);
    return true;
}

/* The body ends this far behind the start of the capability. */
static bool cap_cut(struct play *p, struct reply *r)
{
    reply_resize(r, sizeof(struct vfio_region_info) + p->m->arg);
    sparse(r)->info.argsz = (uint32_t)(sizeof(struct vfio_region_info) + p->m->arg);
    return true;
}

static bool areas(struct play *p, struct reply *r)
{
    sparse(r)->cap.nr_areas = (uint32_t)p->m->arg;
    return true;
}

static void set_area(struct reply *r, uint64_t offset, uint64_t size)
{
    sparse(r)->area[0] = (struct vfio_region_sparse_mmap_area){ offset, size };
}

static bool area_beyond(struct play *p, struct reply *r)
{
    (void)p;
    set_area(r, DEVICE_MEMORY_SIZE - 4096, 65536);
    return true;
}

static bool area_far(struct play *p, struct reply *r)
{
    (void)p;
    set_area(r, UINT64_C(1) << 40, 4096);
    return true;
}

static bool area_wraps(struct play *p, struct reply *r)
{
    (void)p;
    set_area(r, -UINT64_C(4096), 8192);
    return true;
}

static bool area_huge(struct play *p, struct reply *r)
{
    (void)p;
    set_area(r, 0, UINT64_MAX);
    return true;
}

static bool area_empty(struct play *p, struct reply *r)
{
    (void)p;
    set_area(r, DEVICE_AREA_START, 0);
    return true;
}

static bool area_odd(struct play *p, struct reply *r)
{
    (void)p;
    set_area(r, 5, 777);
    return true;
}

/* Three areas that lie on each other. */
static bool areas_overlap(struct play *p, struct reply *r)
{
    (void)p;
    struct sparse *s = sparse(r);
    s->cap.nr_areas = 3;
    s->area[0] = (struct vfio_region_sparse_mmap_area){ 4096, 8192 };
    s->area[1] = (struct vfio_region_sparse_mmap_area){ 4096, 8192 };
    s->area[2] = (struct vfio_region_sparse_mmap_area){ 8192, 4096 };
    s->info.argsz = sizeof *s;
    reply_resize(r, sizeof *s);
    return true;
}

/* Every try finds that the reply needs more room. */
static bool argsz_grows(struct play *p, struct reply *r)
{
    (void)p;
    sparse(r)->info.argsz = (uint32_t)p->m->arg;
    reply_resize(r, sizeof(struct vfio_region_info));
    return true;
}

/* ---- The tables ---------------------------------------------------------------------------- */

#define ROW(id, section, text, point, must, act, arg)          \
    {                                                          \
        "info." id, section, text, point, must, act, arg, NULL \
    }
#define DEVICE_LIE(id, text, must, act, arg) \
    ROW("device-" id, DEVICE, text, AT_INFO, must, act, arg)
#define REGION_LIE(id, text, must, act, arg) \
    ROW("region-" id, REGION, text, AT_REGION_INFO, must, act, arg)
#define IRQ_LIE(id, text, must, act, arg) ROW("irq-" id, IRQ, text, AT_IRQ_INFO, must, act, arg)
#define IO_LIE(id, text, must, act, arg) ROW("io-fds-" id, IO_FDS, text, AT_IO_FDS, must, act, arg)

const struct misbehaviour misbehaviours_info[] = {
    DEVICE_LIE("empty", "no body", MUST_NOTICE, body, 0),
    DEVICE_LIE("short", "a body of 8 bytes", MUST_NOTICE, body, 8),
    DEVICE_LIE("long", "60,000 bytes more than there should be", MAY_GO_ON, longer, 60000),
    DEVICE_LIE("argsz-zero", "argsz of 0", MAY_GO_ON, put32, PUT32(0, 0)),
    DEVICE_LIE("argsz-huge", "argsz of 4 GiB - 1", MAY_GO_ON, put32, PUT32(0, UINT32_MAX)),
    DEVICE_LIE("flags-all", "all flags at once", MAY_GO_ON, put32, PUT32(4, UINT32_MAX)),
    DEVICE_LIE("flags-none", "no flags, not even a bus", MAY_GO_ON, put32, PUT32(4, 0)),
    DEVICE_LIE("regions-huge", "4 billion regions", MUST_NOTICE, put32, PUT32(8, UINT32_MAX)),
    DEVICE_LIE("regions-none", "no regions", MAY_GO_ON, put32, PUT32(8, 0)),
    DEVICE_LIE("irqs-huge", "4 billion interrupt types", MUST_NOTICE, put32, PUT32(12, UINT32_MAX)),
    DEVICE_LIE("irqs-none", "no interrupt types", MAY_GO_ON, put32, PUT32(12, 0)),

    REGION_LIE("empty", "no body", MUST_NOTICE, body, 0),
    REGION_LIE("short", "a body of 24 bytes", MUST_NOTICE, body, 24),
    REGION_LIE("long", "60,000 bytes more than was asked for", MUST_NOTICE, longer, 60000),
    REGION_LIE("other-index", "the reply is about another region", MUST_NOTICE, put32, PUT32(8, 5)),
    REGION_LIE("size-max", "a size of 2^64 - 1", MAY_GO_ON, region_size, UINT64_MAX),
    REGION_LIE("size-signed", "a size of 2^63", MAY_GO_ON, region_size, UINT64_C(1) << 63),
    REGION_LIE("size-odd", "a size of 777", MAY_GO_ON, region_size, 777),
    REGION_LIE("size-none", "a size of 0, with an area that can be mapped", MAY_GO_ON, region_size,
               0),
    REGION_LIE("flags-all", "all flags at once", MAY_GO_ON, put32, PUT32(4, UINT32_MAX)),
    REGION_LIE("whole-beyond-file", "all of it can be mapped, and the file is shorter", MAY_GO_ON,
               whole, 1 << 20),
    REGION_LIE("whole-huge", "2^62 bytes can be mapped, and the file has 128 KiB", MAY_GO_ON, whole,
               UINT64_C(1) << 62),
    REGION_LIE("offset-beyond", "the region begins behind the end of its file", MAY_GO_ON,
               region_offset, 1 << 20),
    REGION_LIE("offset-odd", "the region begins in the middle of a page of its file", MAY_GO_ON,
               region_offset, 5),
    REGION_LIE("offset-max", "an offset of 2^64 - 4096", MAY_GO_ON, region_offset, -UINT64_C(4096)),
    REGION_LIE("offset-signed", "an offset of 2^63 - 4096", MAY_GO_ON, region_offset,
               (UINT64_C(1) << 63) - 4096),
    REGION_LIE("argsz-zero", "argsz of 0", MAY_GO_ON, put32, PUT32(0, 0)),
    REGION_LIE("argsz-short", "argsz that ends in the middle of a capability", MAY_GO_ON, put32,
               PUT32(0, 40)),
    REGION_LIE("argsz-more", "argsz of 8 KiB; with more room, nothing is different", MAY_GO_ON,
               argsz_grows, 8192),
    REGION_LIE("argsz-64m", "argsz of 64 MiB", MAY_GO_ON, argsz_grows, 64 << 20),
    REGION_LIE("argsz-huge", "argsz of 4 GiB - 1", MUST_NOTICE, argsz_grows, UINT32_MAX),
    REGION_LIE("cap-none", "a list of capabilities that is empty", MAY_GO_ON, cap_none, 0),
    REGION_LIE("cap-in-head", "capabilities that begin inside the fixed part", MUST_NOTICE,
               cap_offset, 4),
    REGION_LIE("cap-beyond", "capabilities that begin behind the end", MUST_NOTICE, cap_offset,
               4096),
    REGION_LIE("cap-far", "capabilities that begin at 2^32 - 8", MUST_NOTICE, cap_offset,
               UINT32_MAX - 7),
    REGION_LIE("cap-at-end", "capabilities that begin 4 bytes before the end", MUST_NOTICE,
               cap_offset, 60),
    REGION_LIE("cap-loop", "a capability that is its own successor", MUST_NOTICE, cap_next, 32),
    REGION_LIE("cap-circle", "two capabilities in a circle", MUST_NOTICE, cap_circle, 0),
    REGION_LIE("cap-next-beyond", "a next capability behind the end", MUST_NOTICE, cap_next, 4096),
    REGION_LIE("cap-next-far", "a next capability at 2^32 - 16", MUST_NOTICE, cap_next,
               UINT32_MAX - 15),
    REGION_LIE("cap-cut", "a capability without its last 4 bytes", MUST_NOTICE, cap_cut, 12),
    REGION_LIE("areas-more", "1,000 areas, of which one is there", MUST_NOTICE, areas, 1000),
    REGION_LIE("areas-huge", "4 billion areas, of which one is there", MUST_NOTICE, areas,
               UINT32_MAX),
    REGION_LIE("areas-wrap", "2^28 areas: their size is 0 in 32 bits", MUST_NOTICE, areas,
               1u << 28),
    REGION_LIE("areas-none", "no areas", MAY_GO_ON, areas, 0),
    REGION_LIE("area-beyond", "an area that ends behind the region", MAY_GO_ON, area_beyond, 0),
    REGION_LIE("area-far", "an area that begins behind the region", MAY_GO_ON, area_far, 0),
    REGION_LIE("area-wraps", "an area around the end of the address space", MAY_GO_ON, area_wraps,
               0),
    REGION_LIE("area-huge", "an area of 2^64 - 1 bytes", MAY_GO_ON, area_huge, 0),
    REGION_LIE("area-empty", "an area of no bytes", MAY_GO_ON, area_empty, 0),
    REGION_LIE("area-odd", "an area that has nothing to do with pages", MAY_GO_ON, area_odd, 0),
    REGION_LIE("areas-overlap", "areas that lie on each other", MAY_GO_ON, areas_overlap, 0),

    IRQ_LIE("empty", "no body", MUST_NOTICE, body, 0),
    IRQ_LIE("short", "a body of 12 bytes", MUST_NOTICE, body, 12),
    IRQ_LIE("other-index", "the reply is about another interrupt type", MUST_NOTICE, put32,
            PUT32(8, 0)),
    IRQ_LIE("argsz-huge", "argsz of 4 GiB - 1", MAY_GO_ON, put32, PUT32(0, UINT32_MAX)),
    IRQ_LIE("flags-all", "all flags at once", MAY_GO_ON, put32, PUT32(4, UINT32_MAX)),
    IRQ_LIE("count-huge", "4 billion interrupts", MAY_GO_ON, put32, PUT32(12, UINT32_MAX)),
    IRQ_LIE("count-none", "no interrupts, where config space has some", MAY_GO_ON, put32,
            PUT32(12, 0)),

    IO_LIE("empty", "no body", MUST_NOTICE, body, 0),
    IO_LIE("count-huge", "4 billion sub-regions, of which one is there", MUST_NOTICE, put32,
           PUT32(12, UINT32_MAX)),
    IO_LIE("count-wraps", "a count of sub-regions whose size is 0 in 32 bits", MUST_NOTICE, put32,
           PUT32(12, 1u << 29)),
    IO_LIE("fd-index", "a sub-region whose descriptor is not there", MUST_NOTICE, put32,
           PUT32(16 + 16, 9)),
    IO_LIE("type", "a sub-region of a type that there is not", MAY_GO_ON, put32,
           PUT32(16 + 20, 99)),
    IO_LIE("other-index", "the reply is about another region", MUST_NOTICE, put32, PUT32(8, 5)),
    { NULL, NULL, NULL, 0, 0, NULL, 0, NULL },
};

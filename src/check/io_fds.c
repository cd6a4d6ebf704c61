/*
 * io_fds.c - group "io-fds": VFIO_USER_DEVICE_GET_REGION_IO_FDS, which is optional.
 */
#include "check/run.h"

#define INFO "VFIO_USER_DEVICE_GET_REGION_IO_FDS"
#define SUB "Sub-Region IO FD info format (ioeventfd)"
#define OTHER "Sub-Region IO FD info format (ioregionfd)"

enum { WHOLE = 65536 };

static enum outcome ask_fds(struct run *r, uint32_t index, uint32_t argsz)
{
    struct vfio_user_region_io_fds ask = { .argsz = argsz, .index = index };
    enum outcome outcome = try(r, ASK(VFIO_USER_DEVICE_GET_REGION_IO_FDS, ask));
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == SERVED && r->client.size < sizeof ask)
        fail(r, "expected 16 bytes of payload or more, got %zu", r->client.size);
    return outcome;
}

static struct vfio_user_region_io_fds head(const struct run *r)
{
    struct vfio_user_region_io_fds h;
    memcpy(&h, r->client.body, sizeof h);
    return h;
}

/* The next region from *i on for which there are sub-regions; its reply is in client(r). */
static bool each(struct run *r, uint32_t *i, bool *any)
{
    for (; *i < r->facts.regions; ++*i) {
        if (ask_fds(r, *i, WHOLE) == SERVED && head(r).count) {
            *any = true;
            return true;
        }
    }
    if (!*any)
        skip(r, "no region has them");
    return false;
}
#define EACH(i) for (uint32_t i = 0, any = 0; each(r, &i, (bool *)&any); i++)

static struct vfio_user_sub_region sub_at(const struct run *r, uint32_t i)
{
    struct vfio_user_region_io_fds h = head(r);
    size_t step = (h.argsz - sizeof h) / h.count;
    struct vfio_user_sub_region s;
    memcpy(&s, r->client.body + sizeof h + i * step, sizeof s);
    return s;
}

static void check_size(struct run *r, uint32_t region)
{
    struct vfio_user_region_io_fds h = head(r);
    if (h.argsz < sizeof h ||
        (h.argsz - sizeof h) / h.count < sizeof(struct vfio_user_sub_region) ||
        r->client.size != h.argsz)
        fail(r, "region %u: expected %u sub-regions in argsz = %u bytes, got %zu", region, h.count,
             h.argsz, r->client.size);
}

static void reply(struct run *r, const struct check *c)
{
    (void)c;
    EACH(i)
    {
        if (head(r).index != i)
            fail(r, "index: expected %u, got %u", i, head(r).index);
        if (head(r).flags)
            fail(r, "region %u: expected no flags, got 0x%x", i, head(r).flags);
        check_size(r, i);
    }
}

static void descriptors(struct run *r, const struct check *c)
{
    (void)c;
    EACH(i)
    {
        check_size(r, i);
        if (!r->client.fds.count)
            fail(r, "region %u: expected a descriptor, got none", i);
        for (uint32_t k = 0; k < head(r).count; k++)
            if (sub_at(r, k).fd_index >= r->client.fds.count)
                fail(r, "region %u, sub-region %u: descriptor %u of %u", i, k,
                     sub_at(r, k).fd_index, r->client.fds.count);
    }
}

static void sub_regions(struct run *r, const struct check *c)
{
    (void)c;
    EACH(i)
    {
        check_size(r, i);
        for (uint32_t k = 0; k < head(r).count; k++) {
            struct vfio_user_sub_region s = sub_at(r, k);
            uint64_t size = r->facts.region[i].size;
            if (s.offset > size || s.size > size - s.offset)
                fail(r, "region %u, sub-region %u: 0x%llx + 0x%llx is not in its 0x%llx bytes", i,
                     k, (unsigned long long)s.offset, (unsigned long long)s.size,
                     (unsigned long long)size);
            if (s.type > VFIO_USER_IO_FD_TYPE_IOREGIONFD)
                note(r, "region %u, sub-region %u: type %u is not known here", i, k, s.type);
            if (s.flags > 7)
                fail(r, "region %u, sub-region %u: flags 0x%x are not known", i, k, s.flags);
        }
    }
}

static void retry(struct run *r, const struct check *c)
{
    (void)c;
    EACH(i)
    {
        uint32_t whole = head(r).argsz;
        if (ask_fds(r, i, 16) == REFUSED)
            fail(r, "region %u: expected the needed size for argsz 16, got an error", i);
        if (head(r).argsz != whole || r->client.size > 16)
            fail(r, "region %u: expected argsz %u and 16 bytes, got %u and %zu", i, whole,
                 head(r).argsz, r->client.size);
        if (ask_fds(r, i, whole) == REFUSED || r->client.size != whole)
            fail(r, "region %u: expected %u bytes with the argsz that the server named, got %zu", i,
                 whole, r->client.size);
    }
}

static void no_such(struct run *r, const struct check *c)
{
    uint32_t index = c->a ? (uint32_t)c->a : r->facts.device.num_regions;
    if (ask_fds(r, index, WHOLE) == SERVED)
        fail(r, "region %u: expected an error, got success", index);
}

static void odd(struct run *r, const struct check *c)
{
    struct vfio_user_region_io_fds ask = { (uint32_t)c->a, (uint32_t)c->b, 0, 0 };
    if (try(r, ASK(VFIO_USER_DEVICE_GET_REGION_IO_FDS, ask)) == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
}

static void answered(struct run *r, const struct check *c)
{
    (void)c;
    for (uint32_t i = 0; i < r->facts.regions; i++)
        ask_fds(r, i, WHOLE);
}

static const struct check checks[] = {
    { "io-fds.answered", "each region is answered, if only with an error", INFO ": index", answered,
      0, 0, 0 },
    { "io-fds.reply", "the reply has what argsz and count say",
      INFO ": argsz, flags, index, count, sub-regions", reply, 0, 0, 0 },
    { "io-fds.descriptors", "each sub-region has a descriptor",
      SUB ": fd_index; " OTHER ": fd_index", descriptors, 0, 0, 0 },
    { "io-fds.sub-regions", "sub-regions lie in their region",
      SUB ": offset, size, type, flags; " OTHER ": offset, size, type, flags", sub_regions, 0, 0,
      0 },
    { "io-fds.retry", "too small an argsz is told the right one, which then works", "Message sizes",
      retry, 0, 0, 0 },
    { "io-fds.none-next", "the region behind the last is refused", INFO ": index", no_such, 0, 0,
      0 },
    { "io-fds.none-max", "region 0xffffffff is refused", INFO ": index", no_such, 0, UINT32_MAX,
      0 },
    { "io-fds.argsz-0", "argsz 0 gets an answer", "Message sizes", odd, 0, 0, 0 },
    { "io-fds.flags", "flags get an answer", INFO ": flags", odd, 0, WHOLE, UINT32_MAX },
};
GROUP(check_io_fds, checks);

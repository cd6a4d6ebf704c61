/*
 * regions.c - group "region": VFIO_USER_DEVICE_GET_REGION_INFO, its capabilities, and its memory.
 */
#include "check/run.h"

#include <sys/mman.h>
#include <sys/stat.h>

#define INFO "VFIO_USER_DEVICE_GET_REGION_INFO"
#define CAP "VFIO cap header format"
#define SPARSE "VFIO region info cap sparse mmap"

enum { WHOLE = 65536 }; /* an argsz with room for any list of capabilities */

/* A reply; its payload is in client(r). */
static struct vfio_region_info ask_region(struct run *r, uint32_t index, uint32_t argsz)
{
    struct vfio_region_info info = { .argsz = argsz, .index = index };
    memcpy(&info, served(r, ASK(VFIO_USER_DEVICE_GET_REGION_INFO, info), sizeof info), sizeof info);
    return info;
}

/* The next region that was answered from *i on. */
static bool each(const struct run *r, uint32_t *i)
{
    while (*i < r->facts.regions && !r->facts.region[*i].argsz)
        ++*i;
    return *i < r->facts.regions;
}
#define EACH(i) for (uint32_t i = 0; each(r, &i); i++)

/* VFIO refuses regions that a PCI device cannot have. */
static void answered(struct run *r, const struct check *c)
{
    (void)c;
    for (uint32_t i = 0; i < r->facts.regions; i++) {
        struct vfio_region_info info = { .argsz = WHOLE, .index = i };
        if (try(r, ASK(VFIO_USER_DEVICE_GET_REGION_INFO, info)) == CLOSED)
            fail(r, "region %u: expected a reply, got the end of the connection", i);
        if (r->client.header.flags & VFIO_USER_FLAG_ERROR)
            note(r, "region %u of %u is refused", i, r->facts.device.num_regions);
    }
}

static void index_echoed(struct run *r, const struct check *c)
{
    (void)c;
    EACH(i)
    {
        struct vfio_region_info info = ask_region(r, i, WHOLE);
        if (info.index != i)
            fail(r, "index: expected %u, got %u", i, info.index);
    }
}

static void argsz_whole(struct run *r, const struct check *c)
{
    EACH(i)
    {
        struct vfio_region_info info = ask_region(r, i, (uint32_t)c->a);
        if (info.argsz < sizeof info || r->client.size != info.argsz)
            fail(r, "region %u: expected the %u bytes of payload that argsz says, got %zu", i,
                 info.argsz, r->client.size);
    }
}

/* "the full payload is not included in the reply, but the argsz field in the reply indicates the
 * needed size" */
static void argsz_retry(struct run *r, const struct check *c)
{
    (void)c;
    EACH(i)
    {
        uint32_t needed = ask_region(r, i, WHOLE).argsz;
        struct vfio_region_info small = ask_region(r, i, sizeof small);
        if (r->client.size > sizeof small)
            fail(r, "region %u: expected at most argsz = 32 bytes of payload, got %zu", i,
                 r->client.size);
        if (small.argsz != needed)
            fail(r, "region %u: expected the needed size, %u, in argsz, got %u", i, needed,
                 small.argsz);
        struct vfio_region_info whole = ask_region(r, i, small.argsz);
        if (r->client.size != small.argsz || whole.argsz != small.argsz)
            fail(r, "region %u: expected %u bytes with the argsz that the server named, got %zu", i,
                 small.argsz, r->client.size);
        /* VFIO has the flag for capabilities in both; there are servers that have it where they are. */
        uint32_t same = ~(uint32_t)VFIO_REGION_INFO_FLAG_CAPS;
        if (small.size != whole.size || (small.flags & same) != (whole.flags & same))
            fail(r, "region %u: expected the same size and flags with any argsz, got others", i);
    }
}

static void argsz_one_less(struct run *r, const struct check *c)
{
    bool found = false;
    (void)c;
    EACH(i)
    {
        uint32_t needed = r->facts.region[i].argsz;
        if (needed <= sizeof(struct vfio_region_info))
            continue;
        found = true;
        struct vfio_region_info info = ask_region(r, i, needed - 1);
        if (r->client.size > needed - 1)
            fail(r, "region %u: expected at most argsz = %u bytes, got %zu", i, needed - 1,
                 r->client.size);
        if (info.argsz != needed)
            fail(r, "region %u: expected %u in argsz, got %u", i, needed, info.argsz);
    }
    if (!found)
        skip(r, "no region has capabilities");
}

static void argsz_too_small(struct run *r, const struct check *c)
{
    struct vfio_region_info info = { .argsz = (uint32_t)c->a };
    enum outcome outcome = try(r, ASK(VFIO_USER_DEVICE_GET_REGION_INFO, info));
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == SERVED)
        note(r, "argsz %u is served with %zu bytes", info.argsz, r->client.size);
}

static void no_such(struct run *r, const struct check *c)
{
    uint32_t index = c->b ? (uint32_t)c->a : r->facts.device.num_regions + (uint32_t)c->a;
    struct vfio_region_info info = { .argsz = WHOLE, .index = index };
    refused(r, ASK(VFIO_USER_DEVICE_GET_REGION_INFO, info), EINVAL);
}

static void other_fields(struct run *r, const struct check *c)
{
    struct vfio_region_info info = {
        sizeof info, UINT32_MAX, 0, UINT32_MAX, UINT64_MAX, UINT64_MAX
    };
    (void)c;
    if (try(r, ASK(VFIO_USER_DEVICE_GET_REGION_INFO, info)) == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
}

static void flags(struct run *r, const struct check *c)
{
    const uint32_t known = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE |
                           VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_CAPS;
    (void)c;
    EACH(i)
    {
        struct vfio_region_info info = ask_region(r, i, WHOLE);
        if (info.flags & ~known)
            note(r, "region %u: flags 0x%x have bits that are not known here", i, info.flags);
        if (info.size && !(info.flags & known))
            note(r, "region %u has %llu bytes, and can neither be read nor written", i,
                 (unsigned long long)info.size);
    }
}

static void size(struct run *r, const struct check *c)
{
    (void)c;
    EACH(i)
    {
        struct vfio_region_info info = ask_region(r, i, WHOLE);
        if (info.size > INT64_MAX || info.offset > INT64_MAX - info.size)
            fail(r,
                 "region %u: expected an offset and size that mmap() can take, got 0x%llx + 0x%llx",
                 i, (unsigned long long)info.offset, (unsigned long long)info.size);
        if (!info.size && (info.flags & VFIO_REGION_INFO_FLAG_MMAP))
            fail(r, "region %u is empty and can be mapped", i);
    }
}

/* PCI Local Bus Specification 3.0, 6.2.5.1: a BAR's size is a power of two, and not less than
 * this. */
static void bar_sizes(struct run *r, const struct check *c)
{
    (void)c;
    for (uint32_t i = VFIO_PCI_BAR0_REGION_INDEX; i <= VFIO_PCI_ROM_REGION_INDEX; i++) {
        uint64_t n = r->facts.region[i].size;
        if (n && (n < 4 || (n & (n - 1))))
            fail(r, "region %u: expected a power of two from 4 on, got %llu", i,
                 (unsigned long long)n);
    }
}

static void config_space(struct run *r, const struct check *c)
{
    const struct vfio_region_info *info = &r->facts.region[VFIO_PCI_CONFIG_REGION_INDEX];
    const uint32_t both = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    (void)c;
    if (info->size != 256 && info->size != 4096)
        fail(r, "expected a config space of 256 or 4096 bytes, got %llu",
             (unsigned long long)info->size);
    if ((info->flags & both) != both)
        fail(r, "expected a config space for reading and writing, got flags 0x%x", info->flags);
}

static void twice(struct run *r, const struct check *c)
{
    static uint8_t before[WHOLE];
    (void)c;
    EACH(i)
    {
        ask_region(r, i, WHOLE);
        size_t n = r->client.size < sizeof before ? r->client.size : sizeof before;
        memcpy(before, r->client.body, n);
        ask_region(r, i, WHOLE);
        if (r->client.size != n || memcmp(before, r->client.body, n) != 0)
            fail(r, "region %u: expected the same answer to the same question, got two", i);
    }
}

/* ---- Capabilities ---------------------------------------------------------------------------- */

static struct vfio_info_cap_header cap_at(const struct run *r, uint32_t at)
{
    struct vfio_info_cap_header cap;
    memcpy(&cap, r->client.body + at, sizeof cap);
    return cap;
}

/* Where the next capability is, 0 at the end. The list has to lie behind the fixed part, within the
 * payload, and to go forwards: no list of VFIO goes back, and one that does may never end. */
static uint32_t next_cap(struct run *r, uint32_t region, uint32_t from, uint32_t to)
{
    if (to == 0)
        return 0;
    if (to <= from || to < sizeof(struct vfio_region_info))
        fail(r, "region %u: capability at %u leads to %u, which is not behind it", region, from,
             to);
    if (to + sizeof(struct vfio_info_cap_header) > r->client.size)
        fail(r, "region %u: capability at %u is not in the %zu bytes of the payload", region, to,
             r->client.size);
    return to;
}

/* Calls `look` for each capability of each region; false: there was none. */
static bool each_cap(struct run *r,
                     void (*look)(struct run *r, const struct vfio_region_info *info, uint32_t at))
{
    bool found = false;
    EACH(i)
    {
        struct vfio_region_info info = ask_region(r, i, WHOLE);
        if (!(info.flags & VFIO_REGION_INFO_FLAG_CAPS))
            continue;
        for (uint32_t at = next_cap(r, i, 0, info.cap_offset); at;) {
            found = true;
            uint32_t next = cap_at(r, at).next;
            look(r, &info, at);
            at = next_cap(r, i, at, next);
        }
    }
    return found;
}

static void look_at_header(struct run *r, const struct vfio_region_info *info, uint32_t at)
{
    struct vfio_info_cap_header cap = cap_at(r, at);
    if (at % 4)
        note(r, "region %u: capability at %u is not aligned", info->index, at);
    if (cap.id == 0)
        fail(r, "region %u: capability at %u has the id 0, which is none", info->index, at);
    if (cap.version == 0)
        note(r, "region %u: capability %u has version 0", info->index, cap.id);
}

static void cap_chain(struct run *r, const struct check *c)
{
    (void)c;
    if (!each_cap(r, look_at_header))
        skip(r, "no region has capabilities");
}

static void caps_flag(struct run *r, const struct check *c)
{
    (void)c;
    EACH(i)
    {
        struct vfio_region_info info = ask_region(r, i, WHOLE);
        if ((info.flags & VFIO_REGION_INFO_FLAG_CAPS) && !info.cap_offset)
            fail(r, "region %u: expected capabilities as its flags say, got none", i);
        if (!(info.flags & VFIO_REGION_INFO_FLAG_CAPS) && info.cap_offset)
            fail(r, "region %u: cap_offset is %u, where no capabilities are in the flags", i,
                 info.cap_offset);
    }
}

/* What an argsz without room for them leaves: no offset to capabilities that are not there. */
static void caps_left_out(struct run *r, const struct check *c)
{
    bool found = false;
    (void)c;
    EACH(i)
    {
        struct vfio_region_info info = ask_region(r, i, sizeof info);
        if (info.argsz <= sizeof info)
            continue;
        found = true;
        if (info.cap_offset && info.cap_offset >= r->client.size)
            note(r, "region %u: cap_offset %u is behind the %zu bytes that fit argsz", i,
                 info.cap_offset, r->client.size);
    }
    if (!found)
        skip(r, "no region has capabilities");
}

static struct vfio_region_sparse_mmap_area area_at(const struct run *r, uint32_t at, uint32_t i)
{
    struct vfio_region_sparse_mmap_area area;
    memcpy(&area,
           r->client.body + at + sizeof(struct vfio_region_info_cap_sparse_mmap) + i * sizeof area,
           sizeof area);
    return area;
}

/* The number of areas of a sparse mmap capability; 0 if it is another one. */
static uint32_t areas(struct run *r, const struct vfio_region_info *info, uint32_t at)
{
    struct vfio_region_info_cap_sparse_mmap cap;

    if (cap_at(r, at).id != VFIO_REGION_INFO_CAP_SPARSE_MMAP)
        return 0;
    if (at + sizeof cap > r->client.size)
        fail(r, "region %u: the sparse mmap capability is cut off", info->index);
    memcpy(&cap, r->client.body + at, sizeof cap);
    if (cap.header.version != 1)
        fail(r, "region %u: expected version 1 of sparse mmap, got %u", info->index,
             cap.header.version);
    if (cap.nr_areas >
        (r->client.size - at - sizeof cap) / sizeof(struct vfio_region_sparse_mmap_area))
        fail(r, "region %u: %u sparse areas do not fit the payload", info->index, cap.nr_areas);
    if (cap.nr_areas == 0)
        note(r, "region %u: a sparse mmap capability without areas", info->index);
    return cap.nr_areas;
}

static void look_at_areas(struct run *r, const struct vfio_region_info *info, uint32_t at)
{
    uint32_t n = areas(r, info, at);

    if (n && !(info->flags & VFIO_REGION_INFO_FLAG_MMAP))
        fail(r, "region %u has sparse areas, and no flag that says it can be mapped", info->index);
    for (uint32_t i = 0; i < n; i++) {
        struct vfio_region_sparse_mmap_area a = area_at(r, at, i);
        if (a.offset > info->size || a.size > info->size - a.offset)
            fail(r, "region %u: area 0x%llx + 0x%llx is not in its 0x%llx bytes", info->index,
                 (unsigned long long)a.offset, (unsigned long long)a.size,
                 (unsigned long long)info->size);
        if (a.size == 0 || (a.offset | a.size) % PAGE)
            note(r, "region %u: area 0x%llx + 0x%llx is not of whole pages", info->index,
                 (unsigned long long)a.offset, (unsigned long long)a.size);
        for (uint32_t j = 0; j < i; j++) {
            struct vfio_region_sparse_mmap_area b = area_at(r, at, j);
            if (a.offset < b.offset + b.size && b.offset < a.offset + a.size)
                fail(r, "region %u: areas %u and %u overlap", info->index, j, i);
        }
    }
}

static void sparse(struct run *r, const struct check *c)
{
    (void)c;
    if (!each_cap(r, look_at_areas))
        skip(r, "no region has capabilities");
}

static void look_at_type(struct run *r, const struct vfio_region_info *info, uint32_t at)
{
    if (cap_at(r, at).id != VFIO_REGION_INFO_CAP_TYPE)
        return;
    if (at + sizeof(struct vfio_region_info_cap_type) > r->client.size)
        fail(r, "region %u: the type capability is cut off", info->index);
    if (is_pci(r) && info->index < VFIO_PCI_NUM_REGIONS)
        note(r, "region %u has a type of its own, where PCI gives it one", info->index);
}

static void type(struct run *r, const struct check *c)
{
    (void)c;
    if (!each_cap(r, look_at_type))
        skip(r, "no region has capabilities");
}

static void type_of_others(struct run *r, const struct check *c)
{
    (void)c;
    if (r->facts.regions <= VFIO_PCI_NUM_REGIONS)
        skip(r, "the device has no regions of its own");
    for (uint32_t i = VFIO_PCI_NUM_REGIONS; i < r->facts.regions; i++) {
        if (!r->facts.region[i].argsz)
            continue;
        struct vfio_region_info info = ask_region(r, i, WHOLE);
        bool found = false;
        for (uint32_t at = next_cap(r, i, 0, info.cap_offset); at;
             at = next_cap(r, i, at, cap_at(r, at).next))
            found |= cap_at(r, at).id == VFIO_REGION_INFO_CAP_TYPE;
        if (!found)
            fail(r, "region %u: expected VFIO_REGION_INFO_CAP_TYPE, got none", i);
    }
}

/* ---- Memory ---------------------------------------------------------------------------------- */

static void mmap_has_fd(struct run *r, const struct check *c)
{
    bool found = false;
    (void)c;
    EACH(i)
    {
        struct vfio_region_info info = ask_region(r, i, WHOLE);
        if (!(info.flags & VFIO_REGION_INFO_FLAG_MMAP)) {
            if (r->client.fds.count)
                note(r, "region %u comes with a descriptor, and cannot be mapped", i);
            continue;
        }
        found = true;
        if (!r->client.fds.count)
            fail(r, "region %u: expected a descriptor to map, got none", i);
        if (r->client.fds.count > r->facts.max_msg_fds && r->client.fds.count > 1)
            note(r, "region %u comes with %u descriptors", i, r->client.fds.count);
    }
    if (!found)
        skip(r, "no region can be mapped");
}

/* Where the memory of a region can be: all of it, or the areas. Mapped, and let go. */
static void map_part(struct run *r, const struct vfio_region_info *info, uint64_t at, uint64_t n)
{
    int prot = (info->flags & VFIO_REGION_INFO_FLAG_READ ? PROT_READ : 0) |
               (info->flags & VFIO_REGION_INFO_FLAG_WRITE ? PROT_WRITE : 0);
    struct stat st;

    if (!r->client.fds.count || n == 0)
        return;
    int fd = r->client.fds.fd[0];
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size < info->offset + at + n)
        fail(r, "region %u: its file ends at 0x%llx, before 0x%llx", info->index,
             (unsigned long long)st.st_size, (unsigned long long)(info->offset + at + n));
    void *memory = mmap(NULL, n, prot, MAP_SHARED, fd, (off_t)(info->offset + at));
    if (memory == MAP_FAILED)
        fail(r, "region %u: mapping 0x%llx bytes at 0x%llx failed: %s", info->index,
             (unsigned long long)n, (unsigned long long)(info->offset + at), strerror(errno));
    munmap(memory, n);
}

static void map_areas(struct run *r, const struct vfio_region_info *info, uint32_t at)
{
    uint32_t n = areas(r, info, at);
    for (uint32_t i = 0; i < n; i++) {
        struct vfio_region_sparse_mmap_area a = area_at(r, at, i);
        map_part(r, info, a.offset, a.size);
    }
}

static void can_be_mapped(struct run *r, const struct check *c)
{
    bool found = false;
    (void)c;
    EACH(i)
    {
        struct vfio_region_info info = ask_region(r, i, WHOLE);
        if (!(info.flags & VFIO_REGION_INFO_FLAG_MMAP))
            continue;
        found = true;
        bool some = false;
        if (info.flags & VFIO_REGION_INFO_FLAG_CAPS) {
            for (uint32_t at = next_cap(r, i, 0, info.cap_offset); at;
                 at = next_cap(r, i, at, cap_at(r, at).next)) {
                some |= cap_at(r, at).id == VFIO_REGION_INFO_CAP_SPARSE_MMAP;
                map_areas(r, &info, at);
            }
        }
        if (!some)
            map_part(r, &info, 0, info.size);
    }
    if (!found)
        skip(r, "no region can be mapped");
}

/* A client that says nothing takes one descriptor a message. */
static void one_fd_for_one(struct run *r, const struct check *c)
{
    struct peer *p = stranger(r);
    (void)c;
    if (negotiate(r, p, VFIO_USER_MINOR, NULL) != SERVED)
        skip(r, "the server wants more than a version");
    EACH(i)
    {
        struct vfio_region_info info = { .argsz = WHOLE, .index = i };
        if (try_on(r, p, ASK(VFIO_USER_DEVICE_GET_REGION_INFO, info)) == SERVED && p->fds.count > 1)
            fail(r, "region %u: expected at most 1 descriptor, got %u", i, p->fds.count);
    }
}

static const struct check checks[] = {
    { "region.answered", "each region is answered", INFO, answered, 0, 0, 0 },
    { "region.index", "the reply is about the region that was asked for", INFO ": index",
      index_echoed, 0, 0, 0 },
    { "region.argsz", "the reply has the size that argsz says", INFO ": argsz", argsz_whole, 0,
      WHOLE, 0 },
    { "region.argsz-max", "argsz may be as large as it gets", INFO ": argsz", argsz_whole, 0,
      UINT32_MAX, 0 },
    { "region.argsz-retry", "too small an argsz is told the right one, which then works",
      "Message sizes", argsz_retry, 0, 0, 0 },
    { "region.argsz-one-less", "an argsz that is one too small gets no full payload",
      "Message sizes", argsz_one_less, 0, 0, 0 },
    { "region.argsz-0", "argsz 0 gets an answer", "Message sizes", argsz_too_small, 0, 0, 0 },
    { "region.argsz-31", "an argsz that is too small gets an answer", "Message sizes",
      argsz_too_small, 0, 31, 0 },
    { "region.flags", "the flags are known",
      INFO ": flags, VFIO_REGION_INFO_FLAG_READ, VFIO_REGION_INFO_FLAG_WRITE", flags, 0, 0, 0 },
    { "region.size", "size and offset can be mapped by somebody", INFO ": size, offset", size, 0, 0,
      0 },
    { "region.bar-sizes", "sizes of BARs are powers of two", INFO ": size", bar_sizes, NEED_PCI, 0,
      0 },
    { "region.config", "config space has 256 or 4096 bytes, for reading and writing", INFO ": size",
      config_space, NEED_PCI, 0, 0 },
    { "region.twice", "the same question gets the same answer", INFO, twice, 0, 0, 0 },
    { "region.none-next", "the region behind the last is refused", INFO ": index", no_such, 0, 0,
      0 },
    { "region.none-far", "a region far behind the last is refused", INFO ": index", no_such, 0,
      1000, 0 },
    { "region.none-2g", "region 0x80000000 is refused", INFO ": index", no_such, 0, 0x80000000, 1 },
    { "region.none-max", "region 0xffffffff is refused", INFO ": index", no_such, 0, UINT32_MAX,
      1 },
    { "region.other-fields", "fields that should be zero do no harm",
      INFO ": flags, cap_offset, size, offset", other_fields, 0, 0, 0 },
    { "region.caps-flag", "there are capabilities if and only if the flags say so",
      INFO ": cap_offset, VFIO_REGION_INFO_FLAG_CAPS", caps_flag, 0, 0, 0 },
    { "region.caps-chain", "the list of capabilities goes forwards, within the payload",
      CAP ": id, version, next", cap_chain, 0, 0, 0 },
    { "region.caps-left-out", "an argsz without room for capabilities gets none", "Message sizes",
      caps_left_out, 0, 0, 0 },
    { "region.sparse", "sparse areas lie in their region, and not in each other",
      SPARSE ": nr_areas, reserved, offset, size; "
             "VFIO sparse mmap cap header: id, version, next, sparse mmap info",
      sparse, 0, 0, 0 },
    { "region.type", "a type capability is whole", "Device-Specific Regions", type, 0, 0, 0 },
    { "region.type-of-others", "regions that PCI does not name have a type",
      "Device-Specific Regions", type_of_others, NEED_PCI, 0, 0 },
    { "region.mmap-fd", "what can be mapped comes with a descriptor",
      INFO ": VFIO_REGION_INFO_FLAG_MMAP", mmap_has_fd, 0, 0, 0 },
    { "region.mmap", "what can be mapped, can be", INFO ": offset", can_be_mapped, 0, 0, 0 },
    { "region.mmap-one-fd", "a client that takes one descriptor a message gets no more",
      "VFIO_USER_VERSION: max_msg_fds", one_fd_for_one, NEED_OWN, 0, 0 },
};
GROUP(check_regions, checks);

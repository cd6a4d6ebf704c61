/*
 * dma.c - group "dma": the table of DMA regions. All that is offered is memory of the check's own.
 */
#include "check/run.h"

#define M "VFIO_USER_DMA_MAP"
#define U "VFIO_USER_DMA_UNMAP"

static void map_unmap(struct run *r, const struct check *c)
{
    map(r, BASE, 16 * PAGE, memory_for(r, c, 16 * PAGE));
    unmap(r, BASE, 16 * PAGE);
}

/* "The server responds with the original DMA entry in the request." */
static void unmap_echo(struct run *r, const struct check *c)
{
    struct vfio_user_dma_unmap m = { sizeof m, 0, BASE, 2 * PAGE }, got;

    map(r, BASE, 2 * PAGE, memory_for(r, c, 2 * PAGE));
    memcpy(&got, served(r, ASK(VFIO_USER_DMA_UNMAP, m), sizeof got), sizeof got);
    r->offer_count = 0;
    if (got.address != m.address || got.size != m.size || got.flags != m.flags)
        fail(r, "expected the request in the reply, got 0x%llx bytes at 0x%llx, flags 0x%x",
             (unsigned long long)got.size, (unsigned long long)got.address, got.flags);
    if (r->client.size != sizeof got)
        fail(r, "expected 24 bytes of payload, got %zu", r->client.size);
}

static void rights(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(BASE, PAGE);
    m.flags = (uint32_t)c->a;
    enum outcome outcome = try_map(r, &m, memory_for(r, c, PAGE));
    if (outcome != SERVED)
        fail(r, "flags 0x%x: expected success, got an error", m.flags);
    unmap(r, BASE, PAGE);
}

/* No rights at all: VFIO refuses it. Unknown ones: a newer protocol may know them. */
static void odd_flags(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(BASE, PAGE);
    m.flags = (uint32_t)c->a;
    enum outcome outcome = try_map(r, &m, -1);
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == REFUSED)
        return;
    note(r, "flags 0x%x are served", m.flags);
    unmap(r, BASE, PAGE);
}

/* "A command to map over an existing region must be failed by the server with EEXIST". The
 * region is four pages at BASE + 16 pages; c->a: the first page, c->b: how many. */
static void overlap(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(BASE + c->a * PAGE, c->b * PAGE);

    map(r, BASE + 16 * PAGE, 4 * PAGE, memory_for(r, c, 4 * PAGE));
    enum outcome outcome = try_map(r, &m, memory_for(r, c, c->b * PAGE));
    if (outcome == CLOSED)
        fail(r, "expected EEXIST, got the end of the connection");
    if (outcome == SERVED)
        fail(r, "expected EEXIST, got success");
    if (r->client.header.error != EEXIST)
        fail(r, "expected EEXIST, got %s", strerror((int)r->client.header.error));
    unmap(r, BASE + 16 * PAGE, 4 * PAGE);
}

static void adjacent(struct run *r, const struct check *c)
{
    for (uint64_t i = 0; i < 3; i++)
        map(r, BASE + (i * 2 + 1) % 3 * PAGE, PAGE, memory_for(r, c, PAGE));
    for (uint64_t i = 0; i < 3; i++)
        unmap(r, BASE + i * PAGE, PAGE);
}

static void again(struct run *r, const struct check *c)
{
    for (int i = 0; i < 50; i++) {
        map(r, BASE, PAGE, memory_for(r, c, PAGE));
        unmap(r, BASE, PAGE);
    }
}

static void size_zero(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(BASE, 0);
    (void)c;
    refused(r, ASK(VFIO_USER_DMA_MAP, m), EINVAL);
}

static void wraps(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(c->a, c->b);
    refused(r, ASK(VFIO_USER_DMA_MAP, m), EINVAL);
}

/* The last page there is: VFIO has it. */
static void top(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(UINT64_MAX - PAGE + 1, PAGE);
    enum outcome outcome = try_map(r, &m, memory_for(r, c, PAGE));
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == REFUSED)
        note(r, "the last page of the address space cannot be mapped");
    else
        unmap(r, m.address, PAGE);
}

static void huge(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(0, c->a);
    enum outcome outcome = try_map(r, &m, -1);
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == REFUSED)
        note(r, "a region of 0x%llx bytes is refused", (unsigned long long)c->a);
    else
        unmap(r, 0, c->a);
}

/* No page of the server's pgsizes fits. VFIO refuses it; a server that takes bytes may. */
static void unaligned(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(BASE + c->a, c->b);
    enum outcome outcome = try_map(r, &m, -1);
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == REFUSED)
        return;
    note(r, "a region of 0x%llx bytes at 0x%llx is served", (unsigned long long)m.size,
         (unsigned long long)m.address);
    unmap(r, m.address, m.size);
}

static void map_argsz(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(BASE, PAGE);
    m.argsz = (uint32_t)c->a;
    enum outcome outcome = try_map(r, &m, -1);
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == REFUSED)
        return;
    note(r, "argsz %u is served, where 32 is the size", m.argsz);
    unmap(r, BASE, PAGE);
}

static void offset_without_file(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(BASE, PAGE);
    (void)c;
    m.offset = PAGE;
    enum outcome outcome = try_map(r, &m, -1);
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == SERVED)
        unmap(r, BASE, PAGE);
}

/* ---- Unmap ----------------------------------------------------------------------------------- */

/* VFIO has it that nothing was unmapped, and no error. Either will do. */
static void unmap_unknown(struct run *r, const struct check *c)
{
    (void)c;
    if (try_unmap(r, BASE, PAGE, 0) == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    map(r, BASE, PAGE, memory_for(r, c, PAGE));
    unmap(r, BASE, PAGE);
    if (try_unmap(r, BASE, PAGE, 0) == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
}

/* "must match exactly a previous mapping": what does not must not cut one in two. */
static void unmap_part(struct run *r, const struct check *c)
{
    map(r, BASE + 16 * PAGE, 4 * PAGE, memory_for(r, c, 4 * PAGE));
    enum outcome outcome = try_unmap(r, BASE + c->a * PAGE, c->b * PAGE, 0);
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    unsigned there = 0;
    for (uint64_t i = 16; i < 20; i++)
        there += is_mapped(r, BASE + i * PAGE, PAGE);
    if (there != 0 && there != 4)
        fail(r, "expected the region to stay whole, got %u of its 4 pages", there);
    if (outcome == REFUSED && there == 0)
        fail(r, "expected the region to stay after an error, got it unmapped");
    if (there)
        unmap(r, BASE + 16 * PAGE, 4 * PAGE);
    else
        note(r, "an unmap that meets a part of a region unmaps all of it");
}

/* Two regions at once: not as the text has it, but guests with an IOMMU make clients do it. */
static void unmap_over_two(struct run *r, const struct check *c)
{
    map(r, BASE, PAGE, memory_for(r, c, PAGE));
    map(r, BASE + PAGE, PAGE, memory_for(r, c, PAGE));
    enum outcome outcome = try_unmap(r, BASE, 2 * PAGE, 0);
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    unsigned there = is_mapped(r, BASE, PAGE) + is_mapped(r, BASE + PAGE, PAGE);
    if (there == 1 || (outcome == REFUSED && there != 2))
        fail(r, "expected both regions or none, got %u after %s", there,
             outcome == REFUSED ? "an error" : "success");
    r->offer_count = 0;
    for (uint64_t i = 0; i < there; i++)
        unmap(r, BASE + i * PAGE, PAGE);
}

static void unmap_bad(struct run *r, const struct check *c)
{
    map(r, BASE, PAGE, memory_for(r, c, PAGE));
    if (try_unmap(r, c->a, c->b, 0) == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (!is_mapped(r, BASE, PAGE))
        fail(r, "expected the region to be there still, got it unmapped");
    unmap(r, BASE, PAGE);
}

/* "flags is unused in this version": clients and servers have VFIO's for all regions
 * nevertheless. */
static void unmap_all(struct run *r, const struct check *c)
{
    for (uint64_t i = 0; i < 3; i++)
        map(r, BASE + i * 2 * PAGE, PAGE, memory_for(r, c, PAGE));
    enum outcome outcome = try_unmap(r, 0, 0, VFIO_DMA_UNMAP_FLAG_ALL);
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    unsigned there = 0;
    for (uint64_t i = 0; i < 3; i++)
        there += is_mapped(r, BASE + i * 2 * PAGE, PAGE);
    if (outcome == SERVED && there)
        fail(r, "expected no region after VFIO_DMA_UNMAP_FLAG_ALL, got %u", there);
    if (outcome == REFUSED && there != 3)
        fail(r, "expected all 3 regions after an error, got %u", there);
    if (outcome == SERVED)
        r->offer_count = 0;
    for (uint64_t i = 0; i < 3 && there; i++)
        unmap(r, BASE + i * 2 * PAGE, PAGE);
    if (outcome == REFUSED)
        skip(r, "the server does not know VFIO_DMA_UNMAP_FLAG_ALL");
}

static void unmap_flags(struct run *r, const struct check *c)
{
    map(r, BASE, PAGE, memory_for(r, c, PAGE));
    enum outcome outcome = try_unmap(r, BASE, PAGE, (uint32_t)c->a);
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    bool there = is_mapped(r, BASE, PAGE);
    if ((outcome == SERVED) == there)
        fail(r, "flags 0x%x: got %s, and the region is %s", (unsigned)c->a,
             outcome == SERVED ? "success" : "an error", there ? "there" : "gone");
    if (there)
        unmap(r, BASE, PAGE);
}

/* ---- Many ------------------------------------------------------------------------------------ */

enum { MANY = 200 };

static void many(struct run *r, const struct check *c)
{
    uint16_t ids[MANY];
    int fd = memory_for(r, c, MANY * PAGE);

    for (uint64_t i = 0; i < MANY; i++) {
        struct vfio_user_dma_map m = a_map(BASE + i * 2 * PAGE, PAGE);
        m.offset = fd < 0 ? 0 : i * PAGE;
        struct ask ask = { VFIO_USER_DMA_MAP, &m, sizeof m, &fd, fd >= 0, 0 };
        ids[i] = post(r, &ask);
    }
    for (uint32_t i = 0; i < MANY; i++)
        if (reply_to(r, client(r), ids[i], VFIO_USER_DMA_MAP) != SERVED)
            fail(r, "map %u of %u: expected success, got an error", i, MANY);
    for (uint64_t i = 0; i < MANY; i++) {
        struct vfio_user_dma_unmap m = { sizeof m, 0, BASE + i * 2 * PAGE, PAGE };
        ids[i] = post(r, ASK(VFIO_USER_DMA_UNMAP, m));
    }
    for (uint32_t i = 0; i < MANY; i++)
        if (reply_to(r, client(r), ids[i], VFIO_USER_DMA_UNMAP) != SERVED)
            fail(r, "unmap %u of %u: expected success, got an error", i, MANY);
}

/* "the older command will have been processed before the reply to the younger command is sent" */
static void posted(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(BASE, PAGE);
    int fd = memory_for(r, c, PAGE);
    struct ask ask = { VFIO_USER_DMA_MAP, &m, sizeof m, &fd, fd >= 0, VFIO_USER_FLAG_NO_REPLY };

    post(r, &ask);
    enum outcome outcome = try(r, ASK(VFIO_USER_DMA_MAP, m));
    if (outcome != REFUSED || r->client.header.error != EEXIST)
        fail(r, "expected EEXIST, as a posted command has mapped it before, got something else");
    unmap(r, BASE, PAGE);
}

static void gone_with_client(struct run *r, const struct check *c)
{
    struct peer *p = stranger(r);
    struct vfio_user_dma_map m = a_map(BASE, PAGE);
    int fd = memory_for(r, c, PAGE);
    struct ask ask = { VFIO_USER_DMA_MAP, &m, sizeof m, &fd, fd >= 0, 0 };

    for (int i = 0; i < 2; i++) {
        uint64_t deadline = peer_now_ms() + r->options->timeout_ms;
        enum outcome outcome;
        while ((outcome = negotiate(r, p, VFIO_USER_MINOR, NULL)) != SERVED) {
            if (peer_now_ms() > deadline)
                fail(r, "expected a new client to be served, got none");
            peer_close(p);
            p = another(r);
        }
        if (try_on(r, p, &ask) != SERVED)
            fail(r, "map of client %d: expected success, got an error", i + 1);
        peer_close(p);
        p = another(r);
    }
}

/* One row for each kind of memory. */
#define BOTH(name, title, cite, function, needs, a, b)                            \
    { "dma." name, title, cite, function, (needs) | NEED_MAPPED, a, b },          \
    {                                                                             \
        "dma." name "-messages", title " (without a descriptor)", cite, function, \
            (needs) | NEED_MESSAGES, a, b                                         \
    }
#define OVERLAP(tag, title, first, pages)                                           \
    BOTH("overlap-" tag, "a map over " title " of a region is refused with EEXIST", \
         M ": address, size", overlap, 0, first, pages)
#define PART(tag, title, first, pages)                                                           \
    BOTH("unmap-" tag, "an unmap of " title " of a region does not cut it", U ": address, size", \
         unmap_part, 0, first, pages)

static const struct check checks[] = {
    BOTH("map", "a region can be mapped and unmapped", M ": argsz, address, size", map_unmap, 0, 0,
         0),
    BOTH("unmap-echo", "the reply to an unmap is its request", U ": argsz, flags, address, size",
         unmap_echo, 0, 0, 0),
    BOTH("read-only", "memory that can only be read", M ": flags, readable", rights, 0,
         VFIO_DMA_MAP_FLAG_READ, 0),
    BOTH("write-only", "memory that can only be written", M ": flags, writeable", rights, 0,
         VFIO_DMA_MAP_FLAG_WRITE, 0),
    { "dma.flags-0", "no rights at all get an answer", M ": flags", odd_flags, 0, 0, 0 },
    { "dma.flags-2", "flag 2 gets an answer", M ": flags", odd_flags, 0, 7, 0 },
    { "dma.flags-31", "flag 31 gets an answer", M ": flags", odd_flags, 0, 0x80000003, 0 },
    OVERLAP("same", "all", 16, 4),
    OVERLAP("begin", "the begin", 15, 2),
    OVERLAP("end", "the end", 19, 2),
    OVERLAP("inside", "the inside", 17, 2),
    OVERLAP("around", "more than all", 10, 20),
    OVERLAP("first", "the first page", 16, 1),
    OVERLAP("last", "the last page", 19, 1),
    BOTH("adjacent", "regions can touch each other", M ": address, size", adjacent, 0, 0, 0),
    BOTH("again", "a region can be mapped again and again", M, again, 0, 0, 0),
    { "dma.size-0", "a region of no bytes is refused", M ": size", size_zero, 0, 0, 0 },
    { "dma.wrap", "a region that wraps round is refused", M ": address, size", wraps, 0,
      UINT64_MAX - PAGE + 1, 2 * PAGE },
    { "dma.wrap-all", "a region that wraps round to where it begins is refused",
      M ": address, size", wraps, 0, BASE, UINT64_MAX - PAGE + 1 },
    BOTH("top", "the last page of the address space", M ": address", top, 0, 0, 0),
    { "dma.huge", "a region of 2^62 bytes gets an answer", M ": size", huge, NEED_MESSAGES,
      UINT64_C(1) << 62, 0 },
    { "dma.unaligned-address", "an address inside a page gets an answer",
      "VFIO_USER_VERSION: pgsizes", unaligned, 0, 8, PAGE },
    { "dma.unaligned-size", "a size of no whole pages gets an answer", "VFIO_USER_VERSION: pgsizes",
      unaligned, 0, 0, 100 },
    { "dma.argsz-0", "argsz 0 gets an answer", M ": argsz", map_argsz, 0, 0, 0 },
    { "dma.argsz-31", "an argsz that is too small gets an answer", M ": argsz", map_argsz, 0, 31,
      0 },
    { "dma.offset-messages", "an offset without a file gets an answer", M ": offset",
      offset_without_file, NEED_MESSAGES, 0, 0 },
    BOTH("unmap-unknown", "an unmap of nothing gets an answer", U ": address", unmap_unknown, 0, 0,
         0),
    PART("begin", "the begin", 16, 2),
    PART("end", "the end", 18, 2),
    PART("middle", "the middle", 17, 1),
    PART("over-begin", "the begin and more", 15, 2),
    PART("over-end", "the end and more", 19, 4),
    BOTH("unmap-two", "an unmap of two regions takes both or none", U ": address, size",
         unmap_over_two, 0, 0, 0),
    { "dma.unmap-size-0", "an unmap of no bytes unmaps nothing", U ": size", unmap_bad, 0, BASE,
      0 },
    { "dma.unmap-wrap", "an unmap that wraps round unmaps nothing", U ": address, size", unmap_bad,
      0, UINT64_MAX - PAGE + 1, UINT64_C(1) << 48 },
    { "dma.unmap-elsewhere", "an unmap somewhere else unmaps nothing", U ": address", unmap_bad, 0,
      BASE + 16 * PAGE, PAGE },
    BOTH("unmap-all", "VFIO_DMA_UNMAP_FLAG_ALL takes all regions or none", U ": flags", unmap_all,
         0, 0, 0),
    { "dma.unmap-dirty", "the flag for a dirty bitmap, which VFIO had, gets an answer", U ": flags",
      unmap_flags, 0, VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP, 0 },
    { "dma.unmap-flag-31", "an unknown flag gets an answer", U ": flags", unmap_flags, 0,
      0x80000000, 0 },
    BOTH("many", "many regions, without waiting for replies", M, many, 0, 0, 0),
    BOTH("posted", "a map with No_reply is done before what follows", "Command Concurrency", posted,
         0, 0, 0),
    BOTH("gone", "regions go with their client", "Client Disconnection", gone_with_client, NEED_OWN,
         0, 0),
};
GROUP(check_dma, checks);

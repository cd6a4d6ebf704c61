/*
 * limits.c - group "limit": what the server says that it can take, to the last one.
 */
#include "check/run.h"

#include <stdlib.h>

#define V "VFIO_USER_VERSION"

enum { WINDOW = 64 };

/* Maps or unmaps n regions, some of them always on their way. Returns how many were served. */
static uint32_t each_region(struct run *r, uint32_t n, bool mapping)
{
    uint16_t ids[WINDOW], command = mapping ? VFIO_USER_DMA_MAP : VFIO_USER_DMA_UNMAP;
    uint32_t good = 0;

    for (uint32_t i = 0; i < n + WINDOW; i++) {
        if (i >= WINDOW && i - WINDOW < n)
            good += reply_to(r, client(r), ids[i % WINDOW], command) == SERVED;
        if (i >= n)
            continue;
        uint64_t address = BASE + i * 2 * PAGE;
        struct vfio_user_dma_map m = a_map(address, PAGE);
        struct vfio_user_dma_unmap u = { sizeof u, 0, address, PAGE };
        ids[i % WINDOW] = mapping ? post(r, ASK(VFIO_USER_DMA_MAP, m))
                                  : post(r, ASK(VFIO_USER_DMA_UNMAP, u));
    }
    return good;
}

/* "Maximum number DMA map windows that can be valid simultaneously." */
static void dma_maps(struct run *r, const struct check *c)
{
    uint32_t most = r->facts.max_dma_maps, good;
    (void)c;

    if (!r->facts.names_max_dma_maps)
        skip(r, "the server does not name max_dma_maps");
    if (most > 1 << 20)
        skip(r, "max_dma_maps is %u", most);
    good = each_region(r, most, true);
    if (good != most)
        fail(r, "expected %u regions, as max_dma_maps says, got %u", most, good);
    struct vfio_user_dma_map m = a_map(BASE + (uint64_t)most * 2 * PAGE, PAGE);
    enum outcome outcome = try(r, ASK(VFIO_USER_DMA_MAP, m));
    if (outcome == CLOSED)
        fail(r,
             "one region more than max_dma_maps: expected a reply, got the end of the connection");
    if (outcome == SERVED) {
        note(r, "one region more than max_dma_maps is served");
        unmap(r, m.address, PAGE);
    }
    good = each_region(r, most, false);
    if (good != most)
        fail(r, "expected %u regions to be unmapped, got %u", most, good);
}

/* "If not specified then the receiver must assume a value of 1": one is always possible. */
static void one_fd(struct run *r, const struct check *c)
{
    uint32_t i = some_irq(r);
    int fd = an_eventfd(r);
    struct vfio_irq_set set = { sizeof set, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
                                i, 0, 1 };
    struct ask ask = { VFIO_USER_DEVICE_SET_IRQS, &set, sizeof set, &fd, 1, 0 };
    (void)c;
    served(r, &ask, 0);
}

/* As many in one message as the server says. */
static void all_fds(struct run *r, const struct check *c)
{
    int fds[PEER_MOST_FDS], fd = an_eventfd(r);
    uint32_t n = r->facts.max_msg_fds;
    (void)c;

    for (uint32_t i = 0; i < r->facts.irqs; i++) {
        if (r->facts.irq[i].count < n || n > LENGTH(fds))
            continue;
        for (uint32_t k = 0; k < n; k++)
            fds[k] = fd;
        struct vfio_irq_set set = { sizeof set,
                                    VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, i, 0,
                                    n };
        struct ask ask = { VFIO_USER_DEVICE_SET_IRQS, &set, sizeof set, fds, n, 0 };
        served(r, &ask, 0);
        return;
    }
    skip(r, "no type has as many as max_msg_fds = %u interrupts", n);
}

/* A region that is large enough, and memory: as much at once as the server says. */
static void all_data(struct run *r, const struct check *c)
{
    uint32_t n = r->facts.max_data;
    (void)c;

    for (uint32_t i = 0; i < r->facts.regions; i++) {
        const struct vfio_region_info *info = &r->facts.region[i];
        const uint32_t memory = VFIO_REGION_INFO_FLAG_MMAP | VFIO_REGION_INFO_FLAG_READ;
        if (info->size < n || (info->flags & memory) != memory ||
            (info->flags & VFIO_REGION_INFO_FLAG_CAPS))
            continue;
        struct vfio_user_region_access a = { 0, i, n };
        served(r, ASK(VFIO_USER_REGION_READ, a), sizeof a);
        if (r->client.size != sizeof a + n)
            fail(r, "expected max_data_xfer_size = %u bytes, got %zu", n,
                 r->client.size - sizeof a);
        return;
    }
    skip(r, "no region is memory of max_data_xfer_size = %u bytes", n);
}

static const struct check checks[] = {
    { "limit.dma-maps", "as many regions as max_dma_maps says", V ": max_dma_maps", dma_maps,
      NEED_MESSAGES, 0, 0 },
    { "limit.fd", "one descriptor in a message", V ": max_msg_fds", one_fd, 0, 0, 0 },
    { "limit.fds", "as many descriptors in a message as max_msg_fds says", V ": max_msg_fds",
      all_fds, 0, 0, 0 },
    { "limit.data", "as much data in a message as max_data_xfer_size says",
      V ": max_data_xfer_size", all_data, 0, 0, 0 },
};
GROUP(check_limits, checks);

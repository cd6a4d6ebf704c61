/*
 * data.c - PRP entries (4.3) and SGLs (4.4).
 *
 * A guest may build lists that point to themselves. Each page of a PRP list moves at least one page of
 * the transfer, and SGL segments are counted, so every walk ends.
 */
#include "data.h"

#include <errno.h>
#include <string.h>

#define SGL_SEGMENTS 64u /* of one command */

/* False: more pieces than any transfer needs. */
static bool add(struct data *d, uint64_t address, uint64_t size)
{
    struct range *last = d->count ? &d->range[d->count - 1] : NULL;

    if (last && last->address + last->size == address && address) {
        last->size += size;
        return true;
    }
    if (d->count == RANGES)
        return false;
    d->range[d->count++] = (struct range){ address, size };
    return true;
}

/* A part of a list. By messages all that was read before comes again, in the same order. */
static uint16_t read_list(struct ob_device *dev, uint64_t address, void *buf, size_t n)
{
    const struct private *p = ob_private(dev);
    int ret = p->window ? far_read_list(dev, address, buf, n) : ob_memory_read(dev, address, buf, n);

    return ret == 0 ? 0 : ret == -EREMOTE ? SC_FAR : SC_DATA_TRANSFER | SC_DNR;
}

/* ---- PRP ------------------------------------------------------------------------------------------- */

static uint16_t map_list(struct ob_device *dev, uint64_t list, uint64_t left, uint64_t page,
                         struct data *d)
{
    uint64_t entry[64];
    bool first = true;

    if (list % 8)
        return SC_PRP_OFFSET | SC_DNR;
    for (;;) {
        /* As many as this page of the list holds, the last one leading to the next page. */
        uint64_t room = (page - list % page) / 8, need = (left + page - 1) / page;
        bool chained = need > room;
        uint64_t here = chained ? room - 1 : need;
        for (uint64_t done = 0; done < here;) {
            uint64_t n = here - done < 64 ? here - done : 64;
            uint16_t status = read_list(dev, list + done * 8, entry, n * 8);
            if (status)
                return status;
            for (uint64_t i = 0; i < n; i++) {
                uint64_t size = left < page ? left : page;
                if (entry[i] % page)
                    return SC_PRP_OFFSET | SC_DNR;
                if (!add(d, entry[i], size))
                    return SC_INTERNAL;
                left -= size;
            }
            done += n;
        }
        if (!chained)
            return 0;
        uint16_t status = read_list(dev, list + here * 8, &list, 8);
        if (status)
            return status;
        /* Only the first page of a list may begin in its middle, which is also what ends a loop. */
        if (list % page || (here == 0 && !first))
            return SC_PRP_OFFSET | SC_DNR;
        first = false;
    }
}

static uint16_t map_prp(struct ob_device *dev, const struct nvme_command *c, uint64_t length,
                        struct data *d)
{
    uint64_t page = page_size(ob_state(dev));
    uint64_t first = page - c->prp1 % page;

    if (c->prp1 % 4)
        return SC_PRP_OFFSET | SC_DNR;
    if (first > length)
        first = length;
    add(d, c->prp1, first);
    length -= first;
    if (!length)
        return 0;
    if (length > page)
        return map_list(dev, c->prp2, length, page, d);
    if (c->prp2 % page)
        return SC_PRP_OFFSET | SC_DNR;
    add(d, c->prp2, length);
    return 0;
}

/* ---- SGL ------------------------------------------------------------------------------------------- */

struct sgl_walk {
    uint64_t left;
    unsigned segments;
    struct data *d;
};

/* A descriptor that must be data. */
static uint16_t sgl_data(struct sgl_walk *w, const struct nvme_sgl *sgl)
{
    if (sgl->type != SGL_DATA)
        return SC_SGL_TYPE | SC_DNR;
    if (sgl->length > w->left)
        return SC_SGL_LENGTH | SC_DNR;
    if (sgl->length && !add(w->d, sgl->address, sgl->length))
        return SC_SGL_COUNT | SC_DNR;
    w->left -= sgl->length;
    return 0;
}

/* A whole segment; *next is the descriptor that ends it, if it is one of a segment. */
static uint16_t sgl_segment(struct ob_device *dev, struct sgl_walk *w, struct nvme_sgl *next)
{
    const bool last = next->type == SGL_LAST_SEGMENT;
    uint64_t at = next->address;
    uint32_t count = next->length / 16;
    struct nvme_sgl sgl[16];

    if (next->length == 0 || next->length % 16)
        return SC_SGL_SEGMENT | SC_DNR;
    if (count > 4 * RANGES || ++w->segments > SGL_SEGMENTS)
        return SC_SGL_COUNT | SC_DNR;
    for (uint32_t done = 0; done < count;) {
        uint32_t n = count - done < 16 ? count - done : 16;
        uint16_t status = read_list(dev, at + done * 16ull, sgl, n * 16);
        if (status)
            return status;
        for (uint32_t i = 0; i < n; i++) {
            bool is_segment = sgl[i].type == SGL_SEGMENT || sgl[i].type == SGL_LAST_SEGMENT;
            if (is_segment && (last || done + i + 1 != count))
                return SC_SGL_SEGMENT | SC_DNR;
            if (is_segment) {
                *next = sgl[i];
                return 0;
            }
            status = sgl_data(w, &sgl[i]);
            if (status)
                return status;
        }
        done += n;
    }
    /* What is no last segment must lead on. */
    if (!last)
        return SC_SGL_SEGMENT | SC_DNR;
    next->type = SGL_DATA;
    return 0;
}

static uint16_t map_sgl(struct ob_device *dev, const struct nvme_command *c, uint64_t length,
                        struct data *d)
{
    struct sgl_walk w = { .left = length, .d = d };
    struct nvme_sgl sgl;
    uint16_t status;

    memcpy(&sgl, &c->prp1, sizeof sgl);
    if (sgl.type != SGL_SEGMENT && sgl.type != SGL_LAST_SEGMENT) {
        status = sgl_data(&w, &sgl);
    } else {
        do
            status = sgl_segment(dev, &w, &sgl);
        while (!status && sgl.type != SGL_DATA);
    }
    return status ? status : w.left ? SC_SGL_LENGTH | SC_DNR : 0;
}

uint16_t data_map(struct ob_device *dev, const struct nvme_command *c, uint64_t length,
                  struct data *d)
{
    d->count = 0;
    switch (COMMAND_PSDT(c)) {
    case 0: return map_prp(dev, c, length, d);
    case 1:
    case 2: return map_sgl(dev, c, length, d);
    default: return SC_INVALID_FIELD | SC_DNR;
    }
}

/* ---- Memory ---------------------------------------------------------------------------------------- */

int data_get(struct ob_device *dev, const struct data *d, unsigned access, struct iovec *iov,
             int max)
{
    int pieces = 0;

    for (uint32_t i = 0; i < d->count; i++) {
        const struct range *r = &d->range[i];
        int n = ob_memory_get(dev, r->address, r->size, access, iov + pieces, max - pieces);
        if (n < 0) {
            while (i--)
                ob_memory_put(dev, d->range[i].address, d->range[i].size, access);
            return n;
        }
        pieces += n;
    }
    return pieces;
}

void data_put(struct ob_device *dev, const struct data *d, unsigned access)
{
    for (uint32_t i = 0; i < d->count; i++)
        ob_memory_put(dev, d->range[i].address, d->range[i].size, access);
}

static uint16_t copy(struct ob_device *dev, const struct nvme_command *c, uint8_t *in,
                     const uint8_t *out, uint32_t n)
{
    struct private *p = ob_private(dev);
    struct data d;

    if (p->window && in) {
        memcpy(in, p->window->buffer, n);
        return 0;
    }
    if (p->window) { /* in a step: an admin command */
        memcpy(p->window->buffer, out, n);
        SET(dev, p->window->length, n);
        return 0;
    }
    uint16_t status = data_map(dev, c, n, &d);
    for (uint32_t i = 0, done = 0; !status && i < d.count; i++) {
        const struct range *r = &d.range[i];
        int ret = in ? ob_memory_read(dev, r->address, in + done, r->size)
                     : ob_memory_write(dev, r->address, out + done, r->size);
        if (ret < 0)
            status = ret == -EREMOTE ? SC_FAR : SC_DATA_TRANSFER | SC_DNR;
        done += (uint32_t)r->size;
    }
    return status;
}

uint16_t data_to_guest(struct ob_device *dev, const struct nvme_command *c, const void *buf, uint32_t n)
{
    return copy(dev, c, NULL, buf, n);
}

uint16_t data_from_guest(struct ob_device *dev, const struct nvme_command *c, void *buf, uint32_t n)
{
    return copy(dev, c, buf, NULL, n);
}

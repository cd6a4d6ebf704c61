/*
 * dma.c - layouts of DMA messages, and which one a reply has.
 */
#include "wire/dma.h"

#include <errno.h>
#include <string.h>

#define SHORT_HEAD 28u /* with a count of 32 bits */

size_t wire_dma_command(enum wire_dma_layout layout, uint16_t command, uint16_t id, uint64_t address,
                        uint32_t count, uint8_t head[WIRE_DMA_HEAD], size_t *tail)
{
    bool is_short = layout == WIRE_DMA_32 || layout == WIRE_DMA_PACKED;
    size_t size = is_short ? SHORT_HEAD : WIRE_DMA_HEAD;
    uint64_t wide = count;

    *tail = layout == WIRE_DMA_32 ? WIRE_DMA_TAIL : 0;
    struct vfio_user_header h = {
        .id = id,
        .command = command,
        .size = (uint32_t)(size + *tail + (command == VFIO_USER_DMA_WRITE ? count : 0)),
    };
    memcpy(head, &h, sizeof h);
    memcpy(head + sizeof h, &address, sizeof address);
    if (is_short)
        memcpy(head + sizeof h + sizeof address, &count, sizeof count);
    else
        memcpy(head + sizeof h + sizeof address, &wide, sizeof wide);
    return size;
}

/* The first byte of n that is not zero, n: there is none. */
static size_t first_set(const uint8_t *p, size_t n)
{
    size_t i = 0;
    while (i < n && !p[i])
        i++;
    return i;
}

/*
 * The layout of a reply of WIRE_DMA_HEAD + count bytes. Data begins behind the short head in one layout,
 * and then ends in 4 zeros; it begins behind 4 zeros, the upper half of the count, in the other.
 */
static int tell(const uint8_t *bytes, uint32_t count, enum wire_dma_layout *layout, uint32_t *doubt)
{
    const uint8_t *from = bytes + SHORT_HEAD;
    size_t set = first_set(from, count + WIRE_DMA_TAIL);

    if (set < WIRE_DMA_TAIL)
        *layout = WIRE_DMA_32;
    else if (first_set(from + count, WIRE_DMA_TAIL) < WIRE_DMA_TAIL)
        *layout = WIRE_DMA_64;
    else if (set < count) {
        *doubt = (uint32_t)set;
        return -EAGAIN;
    }
    return 0; /* all zeros are the same in both */
}

int wire_dma_read_reply(const void *bytes, size_t n, uint32_t count, enum wire_dma_layout *layout,
                        struct wire_message *m, uint32_t *doubt)
{
    const uint8_t *p = bytes;
    enum wire_dma_layout as = *layout;
    uint32_t echoed;
    int ret = 0;

    memset(m, 0, sizeof *m);
    if (n < sizeof m->header)
        return -EBADMSG;
    memcpy(&m->header, p, sizeof m->header);
    if (!wire_is_reply(&m->header) || m->header.command != VFIO_USER_DMA_READ || m->header.size != n)
        return -EBADMSG;
    if (m->header.flags & VFIO_USER_FLAG_ERROR)
        return 0;
    size_t body = n - sizeof m->header;
    if (body == SHORT_HEAD - sizeof m->header + count && as == WIRE_DMA_UNKNOWN)
        as = WIRE_DMA_PACKED;
    size_t head = as == WIRE_DMA_PACKED ? SHORT_HEAD : WIRE_DMA_HEAD;
    if (n != head + count)
        return -EBADMSG;
    memcpy(&m->dma.address, p + sizeof m->header, sizeof m->dma.address);
    memcpy(&echoed, p + SHORT_HEAD - sizeof echoed, sizeof echoed);
    if (as == WIRE_DMA_UNKNOWN && echoed == count)
        ret = tell(p, count, &as, doubt);
    if (as == WIRE_DMA_32 || as == WIRE_DMA_PACKED)
        m->dma.count = echoed;
    else
        memcpy(&m->dma.count, p + SHORT_HEAD - sizeof echoed, sizeof m->dma.count);
    m->data = p + (as == WIRE_DMA_32 || as == WIRE_DMA_PACKED ? SHORT_HEAD : WIRE_DMA_HEAD);
    m->data_size = count;
    if (m->dma.count != count)
        return -EBADMSG;
    *layout = as;
    return ret;
}

int wire_dma_reply_head(const void *bytes, size_t n, struct wire_message *m)
{
    memset(m, 0, sizeof *m);
    if (n < sizeof m->header)
        return -EBADMSG;
    memcpy(&m->header, bytes, sizeof m->header);
    const struct vfio_user_header *h = &m->header;
    bool read = h->command == VFIO_USER_DMA_READ;
    if (!wire_is_reply(h) || (!read && h->command != VFIO_USER_DMA_WRITE) || h->size < sizeof *h)
        return -EBADMSG;
    m->data_size = h->size - sizeof *h;
    if ((h->flags & VFIO_USER_FLAG_ERROR) || !read)
        return 0;
    if (n < WIRE_DMA_HEAD || h->size < WIRE_DMA_HEAD)
        return -EBADMSG;
    memcpy(&m->dma, (const uint8_t *)bytes + sizeof *h, sizeof m->dma);
    m->data_size = h->size - WIRE_DMA_HEAD;
    return m->dma.count == m->data_size ? 0 : -EBADMSG;
}

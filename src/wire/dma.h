/*
 * dma.h - the messages DMA_READ and DMA_WRITE, in all the layouts that are in the field.
 *
 * The specification's count has 64 bits. QEMU 10 has one of 32 bits: its data begins 4 bytes earlier,
 * while its messages are as long as if they did not, with 4 bytes behind the data. Others had 32 bits and
 * nothing behind. Nothing in the negotiation tells; the reply to a DMA_READ does, unless it is full of
 * zeros in the wrong places. A DMA_WRITE in the wrong layout writes shifted data and is answered as if all
 * was well, so none may be sent before that is known.
 */
#ifndef WIRE_DMA_H
#define WIRE_DMA_H

#include "wire/message.h"

enum wire_dma_layout {
    WIRE_DMA_UNKNOWN, /* commands are laid out as in WIRE_DMA_64 */
    WIRE_DMA_64,      /* the specification's: u64 address, u64 count, data */
    WIRE_DMA_32,      /* QEMU 10: u64 address, u32 count, data, 4 bytes */
    WIRE_DMA_PACKED,  /* u64 address, u32 count, data */
};

#define WIRE_DMA_HEAD 32u /* the longest head: message header, address, count */
#define WIRE_DMA_TAIL 4u  /* the most that follows the data */

/* A command is its head, for DMA_WRITE the data, and `tail` bytes of zeros. Fills in the head, with the
 * size of the whole. Bytes of it; the tail's in *tail. */
size_t wire_dma_command(enum wire_dma_layout layout, uint16_t command, uint16_t id, uint64_t address,
                        uint32_t count, uint8_t head[WIRE_DMA_HEAD], size_t *tail);

/*
 * Decodes the whole reply to a DMA_READ of `count` bytes: m->data is what was read. 0, or -EBADMSG: not
 * what a reply to it may look like (an error reply gives 0 and a bare header, see wire_reply_error()).
 * Where *layout is unknown, it becomes known if the reply shows it. If it does not, and it makes a
 * difference, -EAGAIN: the byte at *doubt of what was asked for is not zero in one of the layouts; a
 * DMA_READ of that byte alone will tell (zero, or still unknown: WIRE_DMA_64).
 */
int wire_dma_read_reply(const void *bytes, size_t n, uint32_t count, enum wire_dma_layout *layout,
                        struct wire_message *m, uint32_t *doubt);

/*
 * The same from the first bytes of a reply, WIRE_DMA_HEAD or all if it is shorter, in the
 * specification's layout: data_size says how much data follows, data is NULL. For a DMA_WRITE, whose
 * reply may repeat what it likes, data_size is what is behind the header.
 */
int wire_dma_reply_head(const void *bytes, size_t n, struct wire_message *m);

#endif

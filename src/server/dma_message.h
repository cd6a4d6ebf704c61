/*
 * dma_message.h - DMA_READ and DMA_WRITE that the client has not answered yet.
 *
 * On the connection there is one at a time: QEMU loses the rest of a reply that does not fit its
 * socket's buffer. On a twin socket, there are several.
 */
#ifndef SERVER_DMA_MESSAGE_H
#define SERVER_DMA_MESSAGE_H

#include "server/device.h"
#include "wire/dma.h"

/* Can a command be sent now? */
bool dma_message_room(struct ob_device *dev);

/* Are there commands on the twin socket without an answer? What comes on the connection is not in order
 * with those, so unmaps and resets have to wait for them. */
bool dma_message_waits(const struct ob_device *dev);

/* Sends a command (id and slot are filled in here): behind the replies, or as the next on the twin socket.
 * In a step, as the last thing in it before server_step_end() with the returned end of output. */
uint32_t dma_message_send(struct ob_device *dev, unsigned slot, struct shared_command what);

/* What a reply says: the command that it answers, whose place is free again, and 0, -EIO, or -EAGAIN: the
 * byte at *doubt of the transfer is to be looked at. -EBADMSG with kind 0: nobody asked. In a step. */
int dma_message_reply(struct ob_device *dev, const uint8_t *bytes, size_t n,
                      struct shared_command *what, uint32_t *doubt);

/* The same for the head of a reply on the twin socket; data has gone to its place before. */
int dma_message_twin_reply(struct ob_device *dev, const uint8_t *head, size_t n,
                           struct shared_command *what);

/* Where the data of the reply with this head belongs, NULL: nowhere. */
uint8_t *dma_message_place(struct ob_device *dev, const uint8_t *head);

/* The bytes of the command at this position, from `skip` on. Number of pieces. */
#define DMA_MESSAGE_PIECES 2
int dma_message_bytes(struct ob_device *dev, uint32_t position, size_t skip,
                      uint8_t head[WIRE_DMA_HEAD], struct iovec iov[DMA_MESSAGE_PIECES]);

/* Inside a step: no reply is waited for any more; and the client has gone. */
void dma_message_cancel(struct ob_device *dev);
void dma_message_forget(struct ob_device *dev);

#endif

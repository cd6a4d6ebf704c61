/*
 * dma.h - guest memory: regions that the client maps and unmaps, and transfers of the device.
 */
#ifndef SERVER_DMA_H
#define SERVER_DMA_H

#include "server/device.h"

/* VFIO_USER_DMA_MAP takes its descriptor out of fds. Inside a step. 0 or -errno. */
int dma_map(struct ob_device *dev, const struct wire_message *m, struct wire_fds *fds);
int dma_unmap(struct ob_device *dev, const struct wire_message *m, struct reply *reply);

/* All regions go, as when the client has gone. Inside a step. */
void dma_unmap_all(struct ob_device *dev);

/* After a step: files that no region uses any more since then need not be kept. */
void dma_drop_files(struct ob_device *dev);

/* For a successor: maps again what the table holds, with descriptors out of keeping. 0 or -errno. */
int dma_recover(struct ob_device *dev);

/*
 * Runs transfers of the device that can make progress, each in a step of its own, and asks the client
 * for those that need a message. Between steps.
 */
void dma_pump(struct ob_device *dev);

/* The client's reply to a DMA_READ or DMA_WRITE: a whole one, or the head of one whose data has been put in
 * its place. Inside a step. 0, or -EBADMSG: nobody asked. */
int dma_reply(struct ob_device *dev, const uint8_t *bytes, size_t n);
int dma_twin_reply(struct ob_device *dev, const uint8_t *head, size_t n);

/* The device is stopped: transfers stay where they are. Inside a step. */
void dma_stop(struct ob_device *dev);

/* A reset cancels all transfers; a client that has gone fails them (between steps). */
void dma_cancel(struct ob_device *dev);
void dma_fail_all(struct ob_device *dev);

#endif

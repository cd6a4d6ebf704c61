/*
 * limits.h - how large things may get that a peer chooses. One place, for both sides.
 */
#ifndef WIRE_LIMITS_H
#define WIRE_LIMITS_H

/* What we advertise as max_data_xfer_size, and never exceed ourselves. A message of this size fits
 * the default buffer of a UNIX socket, which QEMU needs for its DMA replies. */
#define WIRE_MAX_DATA 65536u

/* The longest message we accept: data, its header, and room for JSON or capabilities. */
#define WIRE_MAX_MESSAGE (WIRE_MAX_DATA + 4096u)

/* What we advertise as max_msg_fds. QEMU refuses a server that says more. */
#define WIRE_MAX_FDS 16u

/* The longest VERSION message. It fits the smallest buffer that a UNIX socket can have. */
#define WIRE_MAX_VERSION 4096u

/* DMA regions at once, the specification's default for max_dma_maps. */
#define WIRE_MAX_DMA_MAPS 65535u

/* What a client believes a server: more is an invalid reply. */
#define WIRE_MAX_REGIONS 256u
#define WIRE_MAX_IRQ_TYPES 64u
#define WIRE_MAX_IRQS 4096u

#endif

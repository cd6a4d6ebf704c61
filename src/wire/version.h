/*
 * version.h - the capabilities that two peers tell each other in VFIO_USER_VERSION.
 */
#ifndef WIRE_VERSION_H
#define WIRE_VERSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What one side can take. After negotiation, each side keeps to what the other said. */
struct wire_capabilities {
    uint32_t max_msg_fds;
    uint32_t max_data_xfer_size; /* bytes */
    uint32_t max_dma_maps;
    uint64_t pgsizes;            /* bytes, or'ed together */
    bool write_multiple;
    bool twin_socket;            /* twin_socket.supported */
    int twin_socket_fd_index;    /* -1: not named */
};

/* The specification's values for a peer that says nothing. */
void wire_capabilities_default(struct wire_capabilities *c);

/* Our own. */
void wire_capabilities_ours(struct wire_capabilities *c);

/*
 * Reads version data: n bytes of JSON whose last is NUL, or n == 0 for none. Unknown keys are
 * ignored, missing ones keep the default. -EINVAL: no NUL, no JSON object, a known key of the wrong
 * type or with a value that nobody can mean (zero, negative, over 2^53, a page size set without any).
 */
int wire_capabilities_parse(const char *data, size_t n, struct wire_capabilities *c);

/* Writes version data, NUL included, and returns its size, or -ENOSPC. The object twin_socket is
 * left out when it is not supported. */
int wire_capabilities_format(const struct wire_capabilities *c, char *data, size_t space);

/* What the JSON library asks the system for at its first use (random numbers), it asks for now. */
void wire_version_prepare(void);

#endif

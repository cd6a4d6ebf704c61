/*
 * peer.h - one connection to a server, through which anything can be sent.
 *
 * All functions give up after the connection's time limit. For one thread.
 */
#ifndef CHECK_PEER_H
#define CHECK_PEER_H

#include "wire/socket.h"
#include <outboard/vfio_user.h>
#include <stdint.h>

/* The longest message that is understood: data of the default max_data_xfer_size, and room for
 * more. */
#define PEER_LONGEST (VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE + 65536u)

/* As many descriptors as Linux lets go with one message. */
#define PEER_MOST_FDS WIRE_ANY_FDS

struct peer {
    int sock; /* -1: none */
    unsigned timeout_ms;
    uint16_t last_id;

    /* The message that came last. Its descriptors are the peer's, until the next one or the
     * close. */
    struct vfio_user_header header;
    uint8_t *body; /* PEER_LONGEST bytes, allocated with the first message */
    size_t size;   /* bytes of the body */
    struct wire_fds fds;
};

/* 0 or -errno: -ENOENT, -ECONNREFUSED: nobody is there; -ETIMEDOUT: nobody takes the connection. */
int peer_connect(struct peer *p, const char *path, unsigned timeout_ms);

void peer_close(struct peer *p);
void peer_free(struct peer *p);

/* All n bytes; the descriptors go with the first. 0 or -errno; -EPIPE: the server has gone. */
int peer_send(struct peer *p, const void *bytes, size_t n, const int *fds, unsigned nfds);

/* A message: header and body. The id is chosen, and returned in *id. */
int peer_send_message(struct peer *p, uint16_t command, uint32_t flags, const void *body, size_t n,
                      const int *fds, unsigned nfds, uint16_t *id);

/* The next message. 0, or -ETIMEDOUT, -ECONNRESET (the connection was closed), -EBADMSG (its size
 * cannot be: header says what it was). */
int peer_receive(struct peer *p);

/* Nothing comes within so many milliseconds? -ETIMEDOUT; 0: something is there (perhaps the
 * end). */
int peer_wait(struct peer *p, unsigned ms);

uint64_t peer_now_ms(void);

#endif

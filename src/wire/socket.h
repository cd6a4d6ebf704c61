/*
 * socket.h - bytes and descriptors over a UNIX stream socket.
 *
 * None of these functions waits unless the socket is in blocking mode. All retry EINTR, none raises
 * SIGPIPE, and all descriptors they receive are close-on-exec.
 */
#ifndef WIRE_SOCKET_H
#define WIRE_SOCKET_H

#include "wire/limits.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Descriptors on their way. Who takes one out puts -1 in its place; wire_fds_close() ends the rest. */
struct wire_fds {
    int fd[WIRE_MAX_FDS];
    unsigned count;
    bool lost; /* the peer sent more than fit, or this process has no room for more */
};

void wire_fds_close(struct wire_fds *fds);

/*
 * Look at what the socket holds without taking it (MSG_PEEK, from its SO_PEEK_OFF). The descriptors
 * are new duplicates at each look. Both return bytes, 0 at the end of the stream, or -errno (-EAGAIN:
 * nothing there). A look or a receive ends after the first message that carries descriptors.
 */
ssize_t wire_look(int sock, void *buf, size_t n, struct wire_fds *fds);
ssize_t wire_receive(int sock, void *buf, size_t n, struct wire_fds *fds);

/* Bytes alone, on a socket that carries no descriptors (those that come are dropped): with `wait`, as the
 * socket is set; without, never. Returns as above. */
ssize_t wire_receive_bytes(int sock, void *buf, size_t n, bool wait);

/* Take n bytes that a look has shown, with their descriptors, and drop them. Bytes or -errno. */
ssize_t wire_take(int sock, size_t n);

/* Throws away what waits (within bounds). Before a close: bytes that are left behind make it look like a
 * broken connection at the other end, where an end was meant; QEMU may abort on that. */
void wire_drain(int sock);

/* Where the next look begins: SO_PEEK_OFF. It grows with each look and shrinks with each take, in the
 * kernel, and so outlives whoever looked. */
int wire_peek_offset(int sock, int *offset);
int wire_set_peek_offset(int sock, int offset);

/* Send at least one byte of the iovec; the descriptors go with the first. Bytes or -errno. wire_send_now
 * never waits. */
ssize_t wire_send(int sock, const struct iovec *iov, int n, const int *fds, unsigned nfds);

/* The same for who tests others: as many descriptors as Linux lets go with one message. flags: MSG_DONTWAIT
 * or 0. */
#define WIRE_ANY_FDS 253u
ssize_t wire_send_any(int sock, const struct iovec *iov, int n, const int *fds, unsigned nfds, int flags);
ssize_t wire_send_now(int sock, const struct iovec *iov, int n);

/* Only an eventfd can neither block us for long nor carry data to somebody else. All it shares with the
 * other anonymous files, which refuse a write of 8 bytes, is that it has no type. */
bool wire_is_eventfd(int fd);

/* Makes a listening socket. A stale socket file is replaced. 0, or -errno: -EADDRINUSE (somebody listens
 * there), -EEXIST (something that is no socket), -ENAMETOOLONG (does not fit a socket address), ... */
int wire_listen(const char *path, int *sock);

/* The same for packets (SOCK_SEQPACKET), and for this user alone. */
int wire_listen_packets(const char *path, int *sock);

#endif

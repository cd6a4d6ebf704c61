/*
 * packet.c - see packet.h.
 */
#include "keeper/packet.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void descriptors_close(struct descriptors *d)
{
    while (d->count)
        close(d->fd[--d->count]);
}

int descriptors_take_one(struct descriptors *d)
{
    if (d->count != 1)
        return -EINVAL;
    d->count = 0;
    return d->fd[0];
}

static void take_descriptors(struct msghdr *m, struct descriptors *d)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        unsigned n = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(d->fd, CMSG_DATA(c), n * sizeof(int)); /* no more than there was room for */
        d->count = n;
    }
}

ssize_t packet_receive(int sock, void *buf, size_t size, struct descriptors *d)
{
    char control[CMSG_SPACE(sizeof d->fd)] __attribute__((aligned(8)));
    struct iovec iov = { buf, size };
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control
    };
    ssize_t n;

    d->count = 0;
    do
        n = recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return -errno;
    take_descriptors(&m, d);
    if (!(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
        return n;
    descriptors_close(d);
    return -EMSGSIZE;
}

ssize_t packet_send(int sock, const void *bytes, size_t n, const int *fds, unsigned nfds)
{
    char control[CMSG_SPACE(KEEPER_MAX_FDS * sizeof(int))] __attribute__((aligned(8)));
    struct iovec iov = { (void *)(uintptr_t)bytes, n };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
    ssize_t sent;

    if (nfds) {
        m.msg_control = control;
        m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){ CMSG_LEN(nfds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
        memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
    }
    do
        sent = sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

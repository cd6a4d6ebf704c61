/*
 * peer.c - one connection to a server.
 */
#include "check/peer.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

uint64_t peer_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int wait_until(int fd, short events, uint64_t deadline)
{
    struct pollfd p = { .fd = fd, .events = events };
    for (;;) {
        uint64_t now = peer_now_ms();
        int left = deadline > now ? (int)(deadline - now) : 0;
        int n = poll(&p, 1, left);
        if (n > 0)
            return 0;
        if (n == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

int peer_wait(struct peer *p, unsigned ms)
{
    return wait_until(p->sock, POLLIN, peer_now_ms() + ms);
}

/* A server whose backlog is full gives EAGAIN for as long as it does not accept. */
static int connect_until(int sock, const struct sockaddr_un *address, uint64_t deadline)
{
    while (connect(sock, (const struct sockaddr *)address, sizeof *address) < 0) {
        if (errno != EAGAIN && errno != EINTR)
            return -errno;
        if (peer_now_ms() >= deadline)
            return -ETIMEDOUT;
        nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
    }
    return 0;
}

int peer_connect(struct peer *p, const char *path, unsigned timeout_ms)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t length = strlen(path);

    p->sock = -1;
    p->timeout_ms = timeout_ms;
    if (length == 0 || length >= sizeof address.sun_path)
        return length ? -ENAMETOOLONG : -EINVAL;
    memcpy(address.sun_path, path, length);
    if (!p->body && !(p->body = malloc(PEER_LONGEST)))
        return -ENOMEM;
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock < 0)
        return -errno;
    int ret = connect_until(sock, &address, peer_now_ms() + timeout_ms);
    if (ret < 0)
        close(sock);
    else
        p->sock = sock;
    return ret;
}

void peer_close(struct peer *p)
{
    wire_fds_close(&p->fds);
    if (p->sock >= 0)
        close(p->sock);
    p->sock = -1;
}

void peer_free(struct peer *p)
{
    peer_close(p);
    free(p->body);
    p->body = NULL;
}

int peer_send(struct peer *p, const void *bytes, size_t n, const int *fds, unsigned nfds)
{
    uint64_t deadline = peer_now_ms() + p->timeout_ms;
    size_t done = 0;

    while (done < n) {
        struct iovec iov = { (char *)(uintptr_t)bytes + done, n - done };
        ssize_t sent = wire_send_any(p->sock, &iov, 1, fds, nfds, 0);
        if (sent == -EAGAIN) {
            int ret = wait_until(p->sock, POLLOUT, deadline);
            if (ret < 0)
                return ret;
            continue;
        }
        if (sent < 0)
            return (int)sent;
        done += (size_t)sent;
        nfds = 0;
    }
    return 0;
}

int peer_send_message(struct peer *p, uint16_t command, uint32_t flags, const void *body, size_t n,
                      const int *fds, unsigned nfds, uint16_t *id)
{
    struct vfio_user_header header = {
        .id = ++p->last_id,
        .command = command,
        .size = (uint32_t)(sizeof header + n),
        .flags = flags,
    };
    uint8_t *bytes = malloc(sizeof header + n);

    if (!bytes)
        return -ENOMEM;
    memcpy(bytes, &header, sizeof header);
    if (n)
        memcpy(bytes + sizeof header, body, n);
    *id = header.id;
    int ret = peer_send(p, bytes, sizeof header + n, fds, nfds);
    free(bytes);
    return ret;
}

/* Descriptors of one message may come in several pieces; what does not fit is closed. */
static void add_fds(struct wire_fds *all, struct wire_fds *more)
{
    while (more->count) {
        int fd = more->fd[--more->count];
        if (all->count < WIRE_MAX_FDS)
            all->fd[all->count++] = fd;
        else
            close(fd);
    }
}

static int receive_bytes(struct peer *p, void *bytes, size_t n, uint64_t deadline)
{
    size_t got = 0;
    struct wire_fds fds;

    while (got < n) {
        ssize_t more = wire_receive(p->sock, (char *)bytes + got, n - got, &fds);
        if (more == -EAGAIN) {
            int ret = wait_until(p->sock, POLLIN, deadline);
            if (ret < 0)
                return ret;
            continue;
        }
        if (more <= 0)
            return more == 0 ? -ECONNRESET : (int)more;
        if (p->fds.count == 0)
            p->fds = fds;
        else
            add_fds(&p->fds, &fds);
        got += (size_t)more;
    }
    return 0;
}

int peer_receive(struct peer *p)
{
    uint64_t deadline = peer_now_ms() + p->timeout_ms;

    wire_fds_close(&p->fds);
    p->size = 0;
    int ret = receive_bytes(p, &p->header, sizeof p->header, deadline);
    if (ret < 0)
        return ret;
    if (p->header.size < sizeof p->header || p->header.size - sizeof p->header > PEER_LONGEST)
        return -EBADMSG;
    p->size = p->header.size - sizeof p->header;
    return receive_bytes(p, p->body, p->size, deadline);
}

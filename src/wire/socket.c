/*
 * socket.c - bytes and descriptors over a UNIX stream socket.
 */
#include "wire/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

void wire_fds_close(struct wire_fds *fds)
{
    for (unsigned i = 0; i < fds->count; i++)
        if (fds->fd[i] >= 0)
            close(fds->fd[i]);
    fds->count = 0;
    fds->lost = false;
}

/* Room for the control message, aligned for its header. */
union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int) * WIRE_MAX_FDS)];
};

static void collect_fds(struct msghdr *msg, struct wire_fds *fds)
{
    if (msg->msg_flags & MSG_CTRUNC)
        fds->lost = true;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds->fd, CMSG_DATA(c), n * sizeof(int));
        fds->count = (unsigned)n;
    }
}

/* #syscalls worker: recvmsg */
static ssize_t receive(int sock, void *buf, size_t n, struct wire_fds *fds, int flags)
{
    union control control;
    struct iovec iov = { buf, n };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    ssize_t got;

    fds->count = 0;
    fds->lost = false;
    do {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof control.bytes;
        got = recvmsg(sock, &msg, flags | MSG_CMSG_CLOEXEC);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    collect_fds(&msg, fds);
    return got;
}

ssize_t wire_look(int sock, void *buf, size_t n, struct wire_fds *fds)
{
    return receive(sock, buf, n, fds, MSG_PEEK);
}

ssize_t wire_receive(int sock, void *buf, size_t n, struct wire_fds *fds)
{
    return receive(sock, buf, n, fds, 0);
}

/* #syscalls worker: recvfrom */
ssize_t wire_receive_bytes(int sock, void *buf, size_t n, bool wait)
{
    ssize_t got;
    do
        got = recv(sock, buf, n, wait ? 0 : MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

ssize_t wire_take(int sock, size_t n)
{
    char scrap[32768]; /* few calls for a long message, and it stays in the cache */
    size_t taken = 0;

    /* A receive stops behind each message with descriptors, hence the loop. */
    while (taken < n) {
        size_t left = n - taken;
        ssize_t got = recv(sock, scrap, left < sizeof scrap ? left : sizeof scrap, MSG_DONTWAIT);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        taken += (size_t)got;
    }
    return (ssize_t)taken;
}

#define DRAIN_AT_MOST 64

void wire_drain(int sock)
{
    char scrap[4096];
    for (int i = 0; i < DRAIN_AT_MOST && recv(sock, scrap, sizeof scrap, MSG_DONTWAIT) > 0; i++)
        ;
}

/* #syscalls worker: getsockopt setsockopt */
int wire_peek_offset(int sock, int *offset)
{
    socklen_t size = sizeof *offset;
    return getsockopt(sock, SOL_SOCKET, SO_PEEK_OFF, offset, &size) < 0 ? -errno : 0;
}

int wire_set_peek_offset(int sock, int offset)
{
    return setsockopt(sock, SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset) < 0 ? -errno : 0;
}

/* #syscalls worker: sendmsg */
ssize_t wire_send_any(int sock, const struct iovec *iov, int n, const int *fds, unsigned nfds, int flags)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * WIRE_ANY_FDS)];
    } control;
    struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n };
    ssize_t sent;

    if (nfds > WIRE_ANY_FDS)
        return -E2BIG;
    if (nfds) {
        memset(&control, 0, CMSG_SPACE(sizeof(int) * nfds));
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
        memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
    }
    do
        sent = sendmsg(sock, &msg, MSG_NOSIGNAL | flags);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

ssize_t wire_send(int sock, const struct iovec *iov, int n, const int *fds, unsigned nfds)
{
    return nfds > WIRE_MAX_FDS ? -E2BIG : wire_send_any(sock, iov, n, fds, nfds, 0);
}

ssize_t wire_send_now(int sock, const struct iovec *iov, int n)
{
    struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = (size_t)n };
    ssize_t sent;

    do
        sent = sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

/* #syscalls worker: fcntl fstat newfstatat */
bool wire_is_eventfd(int fd)
{
    struct stat st;
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) == O_RDWR && fstat(fd, &st) == 0 &&
           (st.st_mode & S_IFMT) == 0;
}

static int address(const char *path, struct sockaddr_un *addr)
{
    size_t length = strlen(path);

    memset(addr, 0, sizeof *addr);
    addr->sun_family = AF_UNIX;
    if (length == 0)
        return -EINVAL;
    if (length >= sizeof addr->sun_path)
        return -ENAMETOOLONG;
    memcpy(addr->sun_path, path, length);
    return 0;
}

/* Does anybody accept behind this path? One whose backlog is full does. 0, or -errno: nobody. */
static int try_connect(const char *path)
{
    struct sockaddr_un addr;
    int ret = address(path, &addr);
    if (ret < 0)
        return ret;
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0)
        return -errno;
    ret = connect(s, (struct sockaddr *)&addr, sizeof addr) < 0 && errno != EAGAIN ? -errno : 0;
    close(s);
    return ret;
}

/* A socket file is stale when nobody accepts behind it. Anything else that bears the name stays. */
static int remove_stale(const char *path)
{
    struct stat st;

    if (lstat(path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(st.st_mode))
        return -EEXIST;
    int ret = try_connect(path);
    if (ret != -ECONNREFUSED)
        return ret == -ENOENT ? 0 : -EADDRINUSE;
    return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

static int listen_at(const char *path, int type, mode_t mode, int *sock)
{
    struct sockaddr_un addr;
    int ret = address(path, &addr);
    if (ret < 0)
        return ret;
    ret = remove_stale(path);
    if (ret < 0)
        return ret;
    int s = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s < 0)
        return -errno;
    /* The file that bind() makes has the socket's mode, less the umask. */
    if (fchmod(s, mode) < 0 || bind(s, (struct sockaddr *)&addr, sizeof addr) < 0 || listen(s, 16) < 0) {
        ret = -errno;
        close(s);
        return ret;
    }
    *sock = s;
    return 0;
}

int wire_listen(const char *path, int *sock)
{
    return listen_at(path, SOCK_STREAM, 0777, sock);
}

int wire_listen_packets(const char *path, int *sock)
{
    return listen_at(path, SOCK_SEQPACKET, 0600, sock);
}

/*
 * sockets_test.c - our own sockets (sockets.h) do what the kernel's do: the same acts on a pair of each.
 *
 * Not compared: how much a full buffer takes, which the kernel counts in its own way.
 */
#include "sockets.h"
#include "target.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define SEEDS 3000
#define ACTS 60
#define MOST 30000 /* bytes in one direction */

int __real_socketpair(int domain, int type, int protocol, int pair[2]);
ssize_t __real_sendmsg(int sock, const struct msghdr *m, int flags);
ssize_t __real_recvmsg(int sock, struct msghdr *m, int flags);
int __real_setsockopt(int sock, int level, int name, const void *value, socklen_t size);
int __real_getsockopt(int sock, int level, int name, void *value, socklen_t *size);
int __real_shutdown(int sock, int how);
int __real_close(int fd);
int __real_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    return __real_poll(fds, n, timeout);
}

static int ours[2], theirs[2]; /* -1: closed */
static uint64_t state;

static unsigned chance(unsigned n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % n;
}

struct result {
    ssize_t n;
    int error;
    unsigned fds;
    uint8_t bytes[MOST];
};

static void same(const struct result *a, const struct result *b, const char *what, unsigned seed)
{
    if (a->n == b->n && a->error == b->error && a->fds == b->fds &&
        (a->n <= 0 || memcmp(a->bytes, b->bytes, (size_t)a->n) == 0))
        return;
    fprintf(stderr, "seed %u: %s: ours %zd %s %u fds, the kernel's %zd %s %u fds\n", seed, what,
            a->n, strerror(a->error), a->fds, b->n, strerror(b->error), b->fds);
    exit(1);
}

static struct result sent(bool own, int sock, const uint8_t *bytes, size_t n, int fd)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec iov[2] = { { (void *)(uintptr_t)bytes, n / 3 },
                            { (void *)(uintptr_t)(bytes + n / 3), n - n / 3 } };
    struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };

    if (fd >= 0) {
        m.msg_control = control.room;
        m.msg_controllen = sizeof control.room;
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    static struct result r;
    errno = 0;
    r.n = own ? sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT)
              : __real_sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
    r.error = errno;
    r.fds = 0;
    memcpy(r.bytes, bytes, n);
    return r;
}

static void received(bool own, int sock, size_t n, int flags, struct result *r)
{
    union {
        struct cmsghdr align;
        char room[CMSG_SPACE(sizeof(int) * 16)];
    } control;
    struct iovec iov = { r->bytes, n };
    struct msghdr m = { .msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.room,
                        .msg_controllen = sizeof control.room };

    flags |= MSG_DONTWAIT | MSG_CMSG_CLOEXEC;
    errno = 0;
    r->n = own ? recvmsg(sock, &m, flags) : __real_recvmsg(sock, &m, flags);
    r->error = errno;
    r->fds = 0;
    for (struct cmsghdr *c = r->n < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        int fds[16];
        r->fds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(c), r->fds * sizeof(int));
        for (unsigned i = 0; i < r->fds; i++)
            __real_close(fds[i]);
    }
}

static void compare_polls(unsigned seed)
{
    for (int i = 0; i < 2; i++) {
        if (ours[i] < 0)
            continue;
        struct pollfd a = { .fd = ours[i], .events = POLLIN | POLLRDHUP },
                      b = { .fd = theirs[i], .events = a.events };
        int n = sockets_poll(&a, 1), m = __real_poll(&b, 1, 0);
        if (n == m && a.revents == b.revents)
            continue;
        fprintf(stderr, "seed %u: poll: ours %d 0x%x, the kernel's %d 0x%x\n", seed, n,
                (unsigned)a.revents, m, (unsigned)b.revents);
        exit(1);
    }
}

static void act(unsigned seed, size_t *on_the_way)
{
    static uint8_t bytes[MOST];
    static struct result a, b;
    unsigned i = chance(2), what = chance(20);
    size_t n = 1 + (chance(2) ? chance(64) : chance(5000));

    if (ours[i] < 0)
        return;
    if (what < 8 && on_the_way[i] + n < MOST) {
        int fd = chance(4) ? -1 : STDERR_FILENO;
        for (size_t k = 0; k < n; k++)
            bytes[k] = (uint8_t)chance(256);
        a = sent(true, ours[i], bytes, n, fd);
        b = sent(false, theirs[i], bytes, n, fd);
        same(&a, &b, "sendmsg", seed);
        on_the_way[i] += a.n > 0 ? (size_t)a.n : 0;
    } else if (what < 17) {
        int flags = chance(2) ? MSG_PEEK : 0;
        received(true, ours[i], n, flags, &a);
        received(false, theirs[i], n, flags, &b);
        same(&a, &b, flags ? "look" : "recvmsg", seed);
        if (!flags && a.n > 0)
            on_the_way[!i] -= (size_t)a.n;
    } else if (what == 17) {
        int offset = (int)chance(3) - 1, got = 0, want = 0;
        socklen_t size = sizeof got;
        getsockopt(ours[i], SOL_SOCKET, SO_PEEK_OFF, &got, &size);
        __real_getsockopt(theirs[i], SOL_SOCKET, SO_PEEK_OFF, &want, &size);
        a = (struct result){ .n = got };
        b = (struct result){ .n = want };
        same(&a, &b, "peek offset", seed);
        setsockopt(ours[i], SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset);
        __real_setsockopt(theirs[i], SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset);
    } else if (what == 18 && chance(6) == 0) {
        int how = chance(2) ? SHUT_WR : SHUT_RDWR;
        shutdown(ours[i], how);
        __real_shutdown(theirs[i], how);
    } else if (what == 19 && chance(6) == 0) {
        close(ours[i]);
        __real_close(theirs[i]);
        ours[i] = theirs[i] = -1;
    }
    compare_polls(seed);
}

int main(void)
{
    for (unsigned seed = 0; seed < SEEDS; seed++) {
        size_t on_the_way[2] = { 0 };
        state = seed;
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ours) == 0);
        REQUIRE(__real_socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, theirs) == 0);
        for (unsigned i = 0; i < ACTS; i++)
            act(seed, on_the_way);
        for (unsigned i = 0; i < 2; i++)
            if (ours[i] >= 0) {
                close(ours[i]);
                __real_close(theirs[i]);
            }
        REQUIRE(sockets_open() == 0);
    }
    puts("the same");
    return 0;
}

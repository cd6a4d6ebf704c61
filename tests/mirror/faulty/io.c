/*
 * io.c - messages in and out.
 */
#include "faulty.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int sock;
static uint64_t timeout;
static uint64_t deadline; /* of the message that is being received; ms */

void *guarded(size_t n)
{
    size_t room = (n + 4095) & ~(size_t)4095;
    uint8_t *p = mmap(NULL, room + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED || mprotect(p, room, PROT_READ | PROT_WRITE) < 0)
        give_up("no memory");
    return p + (room - n);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void io_start(const char *path, unsigned timeout_ms)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (sock < 0 || connect(sock, (struct sockaddr *)&address, sizeof address) < 0)
        give_up("cannot connect: %s", strerror(errno));
    timeout = timeout_ms;
}

void io_send(const void *bytes, size_t n, const int *fds, unsigned nfds)
{
    char control[CMSG_SPACE(MOST_FDS * sizeof(int))] = { 0 };
    const uint8_t *at = bytes;

    while (n > 0) {
        struct iovec iov = { (void *)(uintptr_t)at, n };
        struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
        if (nfds) {
            msg.msg_control = control;
            msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
            struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
            c->cmsg_level = SOL_SOCKET;
            c->cmsg_type = SCM_RIGHTS;
            c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
            memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
        }
        ssize_t sent = sendmsg(sock, &msg, fault(FAULT_SIGPIPE) ? 0 : MSG_NOSIGNAL);
        if (sent <= 0)
            give_up("cannot send: %s", strerror(errno));
        nfds = 0;
        at += sent;
        n -= (size_t)sent;
    }
}

bool io_ready(int ms)
{
    struct pollfd p = { .fd = sock, .events = POLLIN };
    return poll(&p, 1, ms) > 0;
}

static void take_fds(struct message *m, struct msghdr *msg)
{
    m->fds_lost |= (msg->msg_flags & MSG_CTRUNC) != 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        const int *fds = (const int *)(const void *)CMSG_DATA(c);
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            if (m->nfds < MOST_FDS)
                m->fds[m->nfds++] = fds[i];
            else
                close(fds[i]);
        }
    }
}

/* Some bytes, at most n; waits for them. */
static size_t receive_some(struct message *m, void *to, size_t n)
{
    char control[CMSG_SPACE(MOST_FDS * sizeof(int))];
    struct pollfd p = { .fd = sock, .events = POLLIN };

    for (;;) {
        uint64_t t = now();
        if (fault(FAULT_SILENCE))
            poll(&p, 1, -1);
        else if (t >= deadline || poll(&p, 1, (int)(deadline - t)) == 0)
            give_up("no reply in time");
        struct iovec iov = { to, n };
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control,
                              .msg_controllen = sizeof control };
        ssize_t got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
        if (got > 0) {
            take_fds(m, &msg);
            return (size_t)got;
        }
        if (!fault(FAULT_END))
            give_up("the server closed the connection");
        deadline = now() + timeout;
        usleep(1000);
    }
}

void io_receive(struct message *m)
{
    uint8_t piece[4096];

    deadline = now() + timeout;
    m->nfds = 0;
    m->fds_lost = false;
    for (size_t n = 0; n < sizeof m->h;)
        n += receive_some(m, (uint8_t *)&m->h + n, sizeof m->h - n);
    uint32_t type = m->h.flags & VFIO_USER_FLAG_TYPE;
    if (type > 1 && !fault(FAULT_TYPE))
        give_up("a message of type %u", type);
    if (m->h.size < sizeof m->h)
        give_up("a message of %u bytes", m->h.size);
    m->size = m->h.size - sizeof m->h;
    if (fault(FAULT_ALLOCATE)) {
        uint8_t *p = malloc(m->size);
        if (p)
            memset(p, 1, m->size < 300u << 20 ? m->size : 300u << 20);
    }
    if (m->size > MOST_BODY && !fault(FAULT_SIZE) && !fault(FAULT_ALLOCATE))
        give_up("a message of %u bytes", m->h.size);
    for (size_t n = 0; n < m->size;) {
        size_t left = m->size - n;
        size_t got = receive_some(m, piece, left < sizeof piece ? left : sizeof piece);
        if (fault(FAULT_ALLOCATE) && n + got > MOST_BODY)
            give_up("a message of %u bytes", m->h.size);
        memcpy(m->body + n, piece, got);
        n += got;
    }
}

void io_drop_fds(struct message *m, unsigned wanted)
{
    for (unsigned i = wanted; i < m->nfds; i++)
        if (!fault(FAULT_LEAK))
            close(m->fds[i]);
    bool surplus = m->nfds > wanted || m->fds_lost;
    m->nfds = m->nfds < wanted ? m->nfds : wanted;
    if (surplus && !fault(FAULT_LEAK))
        give_up("descriptors that are not for us");
}

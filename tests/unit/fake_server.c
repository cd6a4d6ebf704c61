/*
 * fake_server.c - a server for tests of the client.
 */
#include "fake_server.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static unsigned before;

unsigned open_descriptors(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

void fake_wrong(struct fake *f, const char *what, const char *file, int line)
{
    if (!f->wrong[0])
        snprintf(f->wrong, sizeof f->wrong, "%s:%d: %s", file, line, what);
}

static void close_fds(struct fake *f)
{
    for (unsigned i = 0; i < f->m.nfds; i++)
        close(f->m.fds[i]);
    f->m.nfds = 0;
}

static bool take_bytes(struct fake *f, void *to, size_t n)
{
    uint8_t *at = to;
    while (n > 0) {
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(sizeof f->m.fds)];
        } control;
        struct iovec iov = { at, n };
        struct msghdr msg = { .msg_iov = &iov,
                              .msg_iovlen = 1,
                              .msg_control = control.bytes,
                              .msg_controllen = sizeof control.bytes };
        ssize_t got = recvmsg(f->sock, &msg, MSG_CMSG_CLOEXEC);
        if (got <= 0)
            return false;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        if (c) {
            size_t size = c->cmsg_len - CMSG_LEN(0);
            memcpy(f->m.fds + f->m.nfds, CMSG_DATA(c), size);
            f->m.nfds += (unsigned)(size / sizeof(int));
        }
        at += got;
        n -= (size_t)got;
    }
    return true;
}

bool fake_take(struct fake *f)
{
    close_fds(f);
    if (!take_bytes(f, &f->m.h, sizeof f->m.h))
        return false;
    f->m.size = f->m.h.size - sizeof f->m.h;
    if (f->m.h.size < sizeof f->m.h || f->m.size > sizeof f->m.body) {
        fake_wrong(f, "size of the client's message", __FILE__, __LINE__);
        return false;
    }
    if (f->m.h.command < VFIO_USER_COMMANDS)
        f->taken[f->m.h.command]++;
    return take_bytes(f, f->m.body, f->m.size);
}

bool fake_expect(struct fake *f, uint16_t command)
{
    if (!fake_take(f))
        return false;
    if (f->m.h.command != command)
        fake_wrong(f, "another command was expected", __FILE__, __LINE__);
    return f->m.h.command == command;
}

void fake_send(struct fake *f, const void *bytes, size_t n, const int *fds, unsigned nfds)
{
    const uint8_t *at = bytes;
    while (n > 0) {
        char control[CMSG_SPACE(64 * sizeof(int))] = { 0 };
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
        ssize_t sent = sendmsg(f->sock, &msg, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        nfds = 0;
        at += sent;
        n -= (size_t)sent;
    }
}

void fake_reply(struct fake *f, const void *body, size_t n, const int *fds, unsigned nfds)
{
    static __thread uint8_t bytes[FAKE_MAX + 16];
    struct vfio_user_header h = {
        .id = f->m.h.id, .command = f->m.h.command, .size = (uint32_t)(sizeof h + n), .flags = 1
    };
    memcpy(bytes, &h, sizeof h);
    if (n)
        memcpy(bytes + sizeof h, body, n);
    fake_send(f, bytes, sizeof h + n, fds, nfds);
}

void fake_error(struct fake *f, uint32_t error)
{
    struct vfio_user_header h = { .id = f->m.h.id,
                                  .command = f->m.h.command,
                                  .size = sizeof h,
                                  .flags = 1 | VFIO_USER_FLAG_ERROR,
                                  .error = error };
    fake_send(f, &h, sizeof h, NULL, 0);
}

bool fake_version(struct fake *f, const char *capabilities)
{
    char body[600] = { 0 };
    size_t n = 4;

    if (!fake_expect(f, VFIO_USER_VERSION))
        return false;
    if (f->m.size < 5 || f->m.body[f->m.size - 1] != '\0' || !strstr((char *)f->m.body + 4, "{"))
        fake_wrong(f, "VERSION ends in JSON text", __FILE__, __LINE__);
    body[2] = 1; /* minor */
    if (capabilities)
        n += (size_t)snprintf(body + 4, sizeof body - 4, "{\"capabilities\":{%s}}", capabilities) +
             1;
    fake_reply(f, body, n, NULL, 0);
    return true;
}

/* ---- An ordinary device ------------------------------------------------------------------ */

static void region_access(struct fake *f)
{
    struct vfio_user_region_access a;
    uint8_t reply[FAKE_MAX];
    bool is_read = f->m.h.command == VFIO_USER_REGION_READ;
    bool posted = f->m.h.flags & VFIO_USER_FLAG_NO_REPLY;

    memcpy(&a, f->m.body, sizeof a);
    if (a.count > f->largest)
        f->largest = a.count;
    if (a.region != 0 || a.offset > sizeof f->memory || a.count > sizeof f->memory - a.offset) {
        if (!posted)
            fake_error(f, EINVAL);
        return;
    }
    FAKE_CHECK(f, f->m.size == sizeof a + (is_read ? 0 : a.count));
    memcpy(reply, &a, sizeof a);
    if (is_read)
        memcpy(reply + sizeof a, f->memory + a.offset, a.count);
    else
        memcpy(f->memory + a.offset, f->m.body + sizeof a, a.count);
    if (!posted)
        fake_reply(f, reply, sizeof a + (is_read ? a.count : 0), NULL, 0);
}

static void write_multi(struct fake *f)
{
    struct vfio_user_write w;
    uint64_t n;

    memcpy(&n, f->m.body, sizeof n);
    FAKE_CHECK(f, f->m.size == sizeof n + n * sizeof w);
    for (uint64_t i = 0; i < n; i++) {
        memcpy(&w, f->m.body + sizeof n + i * sizeof w, sizeof w);
        FAKE_CHECK(f, w.region == 0 && w.offset + w.count <= sizeof f->memory && w.count <= 8);
        memcpy(f->memory + w.offset, w.data, w.count);
    }
    if (!(f->m.h.flags & VFIO_USER_FLAG_NO_REPLY))
        fake_reply(f, &n, sizeof n, NULL, 0);
}

void fake_device(struct fake *f)
{
    struct vfio_user_device_info info = {
        .argsz = 16, .flags = VFIO_DEVICE_FLAGS_PCI, .num_regions = 9, .num_irqs = 5
    };
    struct vfio_irq_info irq = { .argsz = 16, .flags = VFIO_IRQ_INFO_EVENTFD, .count = 32 };

    switch (f->m.h.command) {
    case VFIO_USER_REGION_READ:
    case VFIO_USER_REGION_WRITE:
        region_access(f);
        break;
    case VFIO_USER_REGION_WRITE_MULTI:
        write_multi(f);
        break;
    case VFIO_USER_DEVICE_GET_INFO:
        fake_reply(f, &info, sizeof info, NULL, 0);
        break;
    case VFIO_USER_DEVICE_GET_IRQ_INFO:
        memcpy(&irq.index, f->m.body + 8, 4);
        fake_reply(f, &irq, sizeof irq, NULL, 0);
        break;
    case VFIO_USER_DMA_UNMAP:
        fake_reply(f, f->m.body, 24, NULL, 0);
        break;
    case VFIO_USER_DMA_MAP:
    case VFIO_USER_DEVICE_SET_IRQS:
    case VFIO_USER_DEVICE_RESET:
        fake_reply(f, NULL, 0, NULL, 0);
        break;
    default:
        fake_error(f, ENOTSUP);
    }
}

void fake_serve(struct fake *f)
{
    if (!fake_version(f, f->data))
        return;
    while (fake_take(f))
        fake_device(f);
}

void fake_send_dma(struct fake *f, uint16_t id, uint16_t command, uint64_t address, uint64_t count,
                   const void *data)
{
    static __thread uint8_t bytes[FAKE_MAX + 32];
    size_t n = data ? (size_t)count : 0;
    struct vfio_user_header h = { .id = id, .command = command, .size = (uint32_t)(32 + n) };
    struct vfio_user_dma_access a = { address, count };

    memcpy(bytes, &h, sizeof h);
    memcpy(bytes + 16, &a, sizeof a);
    if (n)
        memcpy(bytes + 32, data, n);
    fake_send(f, bytes, 32 + n, NULL, 0);
}

bool fake_dma(struct fake *f, uint16_t command, uint64_t address, uint64_t count, const void *data,
              uint32_t *error)
{
    static uint16_t id;

    fake_send_dma(f, ++id, command, address, count, data);
    if (!fake_expect(f, command))
        return false;
    if (f->m.h.id != id || (f->m.h.flags & VFIO_USER_FLAG_TYPE) != VFIO_USER_FLAG_TYPE_REPLY) {
        fake_wrong(f, "the reply to a DMA command", __FILE__, __LINE__);
        return false;
    }
    *error = f->m.h.flags & VFIO_USER_FLAG_ERROR ? f->m.h.error : 0;
    return true;
}

/* ---- The thread -------------------------------------------------------------------------- */

static void *run(void *p)
{
    struct fake *f = p;
    f->script(f);
    close_fds(f);
    close(f->sock);
    return NULL;
}

void fake_start(struct fake *f, void (*script)(struct fake *), void *data, struct ob_client *c,
                int *result)
{
    int pair[2];

    before = open_descriptors();
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    memset(f, 0, sizeof *f);
    f->sock = pair[1];
    f->script = script;
    f->data = data;
    assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
    *result = ob_client_adopt(c, pair[0]);
}

void fake_stop(struct fake *f, struct ob_client *c)
{
    ob_client_free(c);
    pthread_join(f->thread, NULL);
    assert_string_equal(f->wrong, "");
    assert_int_equal(open_descriptors(), before);
}

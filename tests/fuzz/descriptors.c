/*
 * descriptors.c - see descriptors.h.
 */
#include "descriptors.h"
#include "sockets.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

int descriptor[FD_KINDS];

static int memory(off_t size, int seals)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, size) < 0 || (seals && fcntl(fd, F_ADD_SEALS, seals) < 0))
        abort();
    return fd;
}

static int opened_anew(int fd, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int other = open(path, flags | O_CLOEXEC);
    close(fd);
    return other;
}

static int unlinked(void)
{
    char path[] = "/tmp/outboard-fuzz-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0 || unlink(path) < 0 || ftruncate(fd, MEMORY_BYTES) < 0)
        abort();
    return fd;
}

void descriptors_open(void)
{
    int *d = descriptor, pair[2], broken[2], sockets[2];

    if (pipe2(pair, O_CLOEXEC) < 0 || pipe2(broken, O_CLOEXEC) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) < 0)
        abort();
    close(broken[0]);
    close(sockets[1]);
    d[FD_MEMORY] = memory(MEMORY_BYTES, 0);
    d[FD_SEALED] = memory(MEMORY_BYTES, F_SEAL_SHRINK | F_SEAL_GROW);
    d[FD_SEALED_WRITE] = memory(MEMORY_BYTES, F_SEAL_SHRINK | F_SEAL_WRITE);
    d[FD_READ_ONLY] = opened_anew(memory(MEMORY_BYTES, 0), O_RDONLY);
    d[FD_WRITE_ONLY] = opened_anew(memory(MEMORY_BYTES, 0), O_WRONLY);
    d[FD_UNLINKED] = unlinked();
    d[FD_HUGE] = memory(INT64_MAX & ~0xffffll, 0);
    d[FD_EMPTY] = memory(0, 0);
    d[FD_EVENT] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d[FD_EVENT_2] = eventfd(0, EFD_CLOEXEC);
    d[FD_EVENT_FULL] = eventfd(0, EFD_CLOEXEC); /* a write that had to wait would hang */
    eventfd_write(d[FD_EVENT_FULL], UINT64_MAX - 1);
    d[FD_PIPE_IN] = pair[0];
    d[FD_PIPE_OUT] = pair[1];
    d[FD_PIPE_CLOSED] = broken[1];
    d[FD_SOCKET] = sockets[0];
    d[FD_DIRECTORY] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    d[FD_PATH] = open("/dev/null", O_PATH | O_CLOEXEC);
    d[FD_NULL] = open("/dev/null", O_RDWR | O_CLOEXEC);
    d[FD_ZERO] = open("/dev/zero", O_RDWR | O_CLOEXEC);
    d[FD_FULL] = open("/dev/full", O_RDWR | O_CLOEXEC);
    d[FD_EPOLL] = epoll_create1(EPOLL_CLOEXEC);
    d[FD_TIMER] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    d[FD_INOTIFY] = inotify_init1(IN_CLOEXEC);
    for (int i = 0; i < FD_KINDS; i++)
        if (d[i] < 0)
            abort();
}

static bool truncated;

void descriptor_truncate(uint32_t size)
{
    if (ftruncate(descriptor[FD_MEMORY], size) < 0)
        abort();
    truncated = true;
}

void descriptors_restore(void)
{
    if (truncated && ftruncate(descriptor[FD_MEMORY], MEMORY_BYTES) < 0)
        abort();
    truncated = false;
}

enum kind descriptor_kind(uint8_t byte)
{
    if (byte < 0x80)
        return byte % 2 ? FD_EVENT : FD_MEMORY;
    return byte % FD_KINDS;
}

int descriptor_lowest(void)
{
    int fd = dup(descriptor[FD_NULL]);
    close(fd);
    return sockets_open ? fd + 4096 * (int)sockets_open() : fd;
}

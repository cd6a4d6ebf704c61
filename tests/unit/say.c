/*
 * say.c - see say.h.
 */
#include "say.h"
#include "wire/socket.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

struct vfio_user_header say_header(uint16_t command, size_t body)
{
    return (struct vfio_user_header){ .id = command, .command = command,
                                      .size = (uint32_t)(sizeof(struct vfio_user_header) + body) };
}

void say(int sock, struct vfio_user_header h, const void *fixed, size_t fixed_size,
         const void *data, size_t data_size, const int *fds, unsigned nfds)
{
    uint8_t bytes[1024];
    memcpy(bytes, &h, sizeof h);
    memcpy(bytes + sizeof h, fixed, fixed_size);
    if (data_size)
        memcpy(bytes + sizeof h + fixed_size, data, data_size);
    struct iovec iov = { bytes, sizeof h + fixed_size + data_size };
    assert_int_equal(wire_send(sock, &iov, 1, fds, nfds), iov.iov_len);
}

void say_version(int sock)
{
    static const char text[] = "\0\0\1\0{\"capabilities\":{\"max_msg_fds\":8}}";
    say(sock, say_header(VFIO_USER_VERSION, sizeof text), text, sizeof text, NULL, 0, NULL, 0);
}

void say_version_twin(int sock)
{
    static const char text[] =
        "\0\0\1\0{\"capabilities\":{\"max_msg_fds\":8,\"twin_socket\":{\"supported\":true}}}";
    say(sock, say_header(VFIO_USER_VERSION, sizeof text), text, sizeof text, NULL, 0, NULL, 0);
}

void say_write(int sock, uint32_t region, uint64_t at, uint64_t v, uint32_t n, bool post)
{
    struct vfio_user_region_access a = { at, region, n };
    struct vfio_user_header h = say_header(VFIO_USER_REGION_WRITE, sizeof a + n);
    h.flags |= post ? VFIO_USER_FLAG_NO_REPLY : 0;
    say(sock, h, &a, sizeof a, &v, n, NULL, 0);
}

void say_read(int sock, uint32_t region, uint64_t at, uint32_t n)
{
    struct vfio_user_region_access a = { at, region, n };
    say(sock, say_header(VFIO_USER_REGION_READ, sizeof a), &a, sizeof a, NULL, 0, NULL, 0);
}

void say_map(int sock, uint64_t address, uint64_t size, int fd)
{
    struct vfio_user_dma_map m = { sizeof m, 3, 0, address, size };
    say(sock, say_header(VFIO_USER_DMA_MAP, sizeof m), &m, sizeof m, NULL, 0, &fd, fd >= 0);
}

void say_unmap(int sock, uint32_t flags, uint64_t address, uint64_t size)
{
    struct vfio_user_dma_unmap m = { sizeof m, flags, address, size };
    say(sock, say_header(VFIO_USER_DMA_UNMAP, sizeof m), &m, sizeof m, NULL, 0, NULL, 0);
}

void say_irqs(int sock, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
              const void *data, size_t n, const int *fds, unsigned nfds)
{
    struct vfio_irq_set set = { .argsz = (uint32_t)(sizeof set + n), .flags = flags, .index = index,
                                .start = start, .count = count };
    say(sock, say_header(VFIO_USER_DEVICE_SET_IRQS, sizeof set + n), &set, sizeof set, data, n,
        fds, nfds);
}

void say_region_info(int sock, uint32_t index)
{
    struct vfio_region_info info = { .argsz = 256, .index = index };
    say(sock, say_header(VFIO_USER_DEVICE_GET_REGION_INFO, sizeof info), &info, sizeof info, NULL,
        0, NULL, 0);
}

/* The end of each scenario: nothing but its reply is expected of it. */
void say_fence(int sock)
{
    struct vfio_user_device_info info = { .argsz = sizeof info };
    say(sock, say_header(VFIO_USER_DEVICE_GET_INFO, sizeof info), &info, sizeof info, NULL, 0,
        NULL, 0);
}

/*
 * test_client_twin.c - the client and a server that does as it likes with the twin socket.
 */
#include "fake_server.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define READ VFIO_DMA_MAP_FLAG_READ
#define WRITE VFIO_DMA_MAP_FLAG_WRITE
#define PAGE 4096u

static struct fake fake;
static uint8_t memory[32 * PAGE];

static const char supported[] = "{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":0}}}";

static void send_version(struct fake *f, const char *text, const int *fds, unsigned n)
{
    char body[256] = { 0 };
    if (!fake_expect(f, VFIO_USER_VERSION))
        return;
    FAKE_CHECK(f, strstr((char *)f->m.body + 4, "\"twin_socket\":{\"supported\":true}"));
    body[2] = 1;
    strcpy(body + 4, text);
    fake_reply(f, body, 4 + strlen(text) + 1, fds, n);
}

/* Negotiates; our end, -1: the test has failed. */
static int begin(struct fake *f)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    send_version(f, supported, &pair[1], 1);
    close(pair[1]);
    return pair[0];
}

static struct ob_client *start(void (*script)(struct fake *), const void *data, int expected)
{
    int result;
    struct ob_client *c = ob_client_new();
    assert_non_null(c);
    assert_int_equal(ob_client_set_twin(c, true), 0);
    fake_start(&fake, script, (void *)(uintptr_t)data, c, &result);
    assert_int_equal(result, expected);
    return c;
}

static bool all(int sock, void *buf, size_t n, bool out)
{
    for (size_t at = 0; at < n;) {
        ssize_t done = out ? send(sock, (uint8_t *)buf + at, n - at, MSG_NOSIGNAL)
                           : recv(sock, (uint8_t *)buf + at, n - at, 0);
        if (done <= 0)
            return false;
        at += (size_t)done;
    }
    return true;
}

struct dma {
    struct vfio_user_header h;
    struct vfio_user_dma_access a;
    uint8_t data[65536];
};

static void make(struct dma *d, uint16_t command, uint64_t address, uint64_t count, uint32_t flags)
{
    size_t data = command == VFIO_USER_DMA_WRITE ? (size_t)count : 0;
    d->h = (struct vfio_user_header){ .id = 77, .command = command, .flags = flags,
                                      .size = (uint32_t)(sizeof d->h + sizeof d->a + data) };
    d->a = (struct vfio_user_dma_access){ address, count };
    for (size_t i = 0; i < data; i++)
        d->data[i] = (uint8_t)(i * 5);
}

/* ---- Both ways -------------------------------------------------------------------------- */

static void script_transfers(struct fake *f)
{
    static struct dma d, r;
    int s = begin(f);

    FAKE_CHECK(f, s >= 0 && fake_expect(f, VFIO_USER_DMA_MAP));
    fake_device(f);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ)); /* not answered until all of this is done */
    for (uint64_t n = 1; n <= 65536; n = n * 3 > 65536 && n < 65536 ? 65536 : n * 3) {
        make(&d, VFIO_USER_DMA_WRITE, 0x10007, n, 0);
        FAKE_CHECK(f, all(s, &d, d.h.size, true) && all(s, &r, 32, false));
        FAKE_CHECK(f, r.h.id == 77 && r.h.command == VFIO_USER_DMA_WRITE && r.h.flags == 1 && r.h.size == 32);
        make(&d, VFIO_USER_DMA_WRITE, 0x10007, 1, VFIO_USER_FLAG_NO_REPLY);
        FAKE_CHECK(f, all(s, &d, d.h.size, true));
        make(&d, VFIO_USER_DMA_READ, 0x10007, n, 0);
        FAKE_CHECK(f, all(s, &d, d.h.size, true) && all(s, &r, 32 + n, false));
        FAKE_CHECK(f, r.h.size == 32 + n && r.h.flags == 1 && r.a.address == 0x10007 && r.a.count == n);
        for (size_t i = 0; i < n; i++)
            FAKE_CHECK(f, r.data[i] == (uint8_t)(i * 5));
    }
    /* Out of what was mapped, or too large: an error, and the stream stays in step. */
    static const struct {
        uint16_t command;
        uint64_t address, count;
        uint32_t error;
    } bad[] = { { VFIO_USER_DMA_READ, 0xffff, 2, EFAULT },
                { VFIO_USER_DMA_WRITE, 0x10000 + 32 * PAGE - 1, 2, EFAULT },
                { VFIO_USER_DMA_READ, 0x10000, 65537, EINVAL },
                { VFIO_USER_DMA_READ, 0x10000, 0, EINVAL },
                { VFIO_USER_DMA_READ, UINT64_MAX, 2, EINVAL },
                { VFIO_USER_DEVICE_RESET, 0, 0, EINVAL },
                { VFIO_USER_REGION_READ, 0, 4, ENOTSUP } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        make(&d, bad[i].command, bad[i].address, bad[i].count, 0);
        FAKE_CHECK(f, all(s, &d, d.h.size, true) && all(s, &r, 16, false));
        FAKE_CHECK(f, r.h.flags == (1 | VFIO_USER_FLAG_ERROR) && r.h.error == bad[i].error &&
                          r.h.size == 16);
    }
    /* Many at once, in pieces of any size. */
    static uint8_t many[40 * 48];
    for (int i = 0; i < 40; i++) {
        make(&d, VFIO_USER_DMA_WRITE, 0x10000, 16, 0);
        memcpy(many + i * 48, &d, 48);
    }
    for (size_t at = 0; at < sizeof many; at += 37)
        FAKE_CHECK(f, all(s, many + at, sizeof many - at < 37 ? sizeof many - at : 37, true));
    for (int i = 0; i < 40; i++)
        FAKE_CHECK(f, all(s, &r, 32, false) && r.h.size == 32);
    fake_device(f);
    FAKE_CHECK(f, !fake_take(f));
    FAKE_CHECK(f, recv(s, &r, 1, 0) == 0); /* both ends go together */
    close(s);
}

static void *serve(void *c)
{
    return (void *)(intptr_t)ob_client_serve(c);
}

static void test_transfers(void **state)
{
    uint32_t v;
    pthread_t thread;
    void *result = NULL;
    int by_thread = *(int *)*state;

    struct ob_client *c = start(script_transfers, NULL, 0);
    if (by_thread)
        assert_int_equal(pthread_create(&thread, NULL, serve, c), 0);
    assert_int_equal(ob_client_set_spin(c, by_thread ? 0 : 20), 0);
    assert_int_equal(ob_client_dma_map(c, 0x10000, 32 * PAGE, memory, -1, 0, READ | WRITE), 0);
    assert_int_equal(ob_client_read(c, 0, 0, &v, 4), 0);
    if (by_thread) {
        ob_client_disconnect(c);
        pthread_join(thread, &result);
        assert_int_equal((int)(intptr_t)result, -ENOTCONN);
    }
    fake_stop(&fake, c);
}

/* ---- Mistakes ---------------------------------------------------------------------------- */

static void script_version(struct fake *f)
{
    const char *text = f->data;
    int fds[3] = { dup(f->sock), open("/dev/null", O_RDWR | O_CLOEXEC), -1 };
    unsigned n = (unsigned)(text[0] - '0'), first = text[1] == 's' ? 0 : 1;

    send_version(f, text + 2, fds + first, n);
    close(fds[0]);
    close(fds[1]);
    fake_take(f);
}

static void test_versions(void **state)
{
    /* How many descriptors, the first a socket or not; the text. */
    static const char *const bad[] = {
        "0s{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":0}}}",
        "1s{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":1}}}",
        "1n{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":0}}}",
        "1s{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}",
        "2s{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":0}}}",
        "1s{\"capabilities\":{\"twin_socket\":{\"supported\":false,\"fd_index\":0}}}",
        "1s{}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        fake_stop(&fake, start(script_version, bad[i], -EPROTO));
    struct ob_client *c = start(script_version, "0s{}", 0);
    assert_int_equal(ob_client_twin_fd(c), -ENOTSUP);
    fake_stop(&fake, c);
}

enum { REPLY_THERE, GARBAGE, TOO_LONG, CLOSED, NEVER_READ };

static void script_mistake(struct fake *f)
{
    static struct dma d;
    int s = begin(f), what = *(const int *)f->data;

    FAKE_CHECK(f, s >= 0 && fake_expect(f, VFIO_USER_DMA_MAP));
    fake_device(f);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    make(&d, VFIO_USER_DMA_READ, 0x10000, 65536, 0);
    if (what == REPLY_THERE)
        d.h.flags = VFIO_USER_FLAG_TYPE_REPLY;
    else if (what == GARBAGE)
        memset(&d, 0xff, 32);
    else if (what == TOO_LONG)
        d.h.size = 1 << 20;
    else if (what == CLOSED)
        shutdown(s, SHUT_RDWR);
    for (int i = 0; i < (what == NEVER_READ ? 64 : 1); i++)
        all(s, &d, 32, true);
    FAKE_CHECK(f, !fake_take(f));
    close(s);
}

static void test_mistakes(void **state)
{
    uint32_t v;
    (void)state;

    for (int what = REPLY_THERE; what <= NEVER_READ; what++) {
        struct ob_client *c = start(script_mistake, &what, 0);
        assert_int_equal(ob_client_dma_map(c, 0x10000, 32 * PAGE, memory, -1, 0, READ | WRITE), 0);
        assert_int_equal(ob_client_set_timeout(c, what == NEVER_READ ? 200 : 20000), 0);
        assert_int_equal(ob_client_read(c, 0, 0, &v, 4), what == CLOSED ? -ECONNRESET
                                                        : what == NEVER_READ ? -ETIMEDOUT : -EPROTO);
        fake_stop(&fake, c);
    }
}

int main(void)
{
    static int no, yes = 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_transfers, &no),
        cmocka_unit_test_prestate(test_transfers, &yes),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_mistakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

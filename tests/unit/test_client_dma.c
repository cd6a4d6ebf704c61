/*
 * test_client_dma.c - memory that the client gives to a device, and commands of the server.
 */
#include "fake_server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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
static uint8_t memory[4 * PAGE + 65536];

static struct ob_client *start(void (*script)(struct fake *), const void *data)
{
    int result;
    struct ob_client *c = ob_client_new();
    assert_non_null(c);
    fake_start(&fake, script, (void *)(uintptr_t)data, c, &result);
    assert_int_equal(result, 0);
    return c;
}

/* ---- With a descriptor ------------------------------------------------------------------- */

static void script_descriptor(struct fake *f)
{
    struct vfio_user_dma_map map;
    FAKE_CHECK(f, fake_version(f, NULL));
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DMA_MAP));
    memcpy(&map, f->m.body, sizeof map);
    FAKE_CHECK(f, f->m.size == sizeof map && map.argsz == sizeof map && f->m.nfds == 1);
    FAKE_CHECK(f, map.address == 0x100000 && map.size == 2 * PAGE && map.offset == PAGE);
    FAKE_CHECK(f, map.flags == (READ | WRITE));
    char *p = mmap(NULL, map.size, PROT_READ | PROT_WRITE, MAP_SHARED, f->m.fds[0],
                   (off_t)map.offset);
    FAKE_CHECK(f, p != MAP_FAILED);
    fake_device(f);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    FAKE_CHECK(f, strcmp(p, "from the client") == 0);
    strcpy(p + PAGE, "from the device");
    fake_device(f);
    munmap(p, map.size);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DMA_UNMAP));
    fake_device(f);
    FAKE_CHECK(f, !fake_take(f));
}

static void test_descriptor(void **state)
{
    (void)state;
    uint32_t v;
    int fd = memfd_create("memory", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, 3 * PAGE), 0);
    char *p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);
    assert_true(p != MAP_FAILED);
    strcpy(p, "from the client");

    struct ob_client *c = start(script_descriptor, NULL);
    assert_int_equal(ob_client_dma_map(c, 0x100000, 2 * PAGE, p, fd, PAGE, READ | WRITE), 0);
    assert_int_equal(ob_client_read(c, 0, 0, &v, 4), 0);
    assert_string_equal(p + PAGE, "from the device");
    assert_int_equal(ob_client_dma_unmap(c, 0x100000, 2 * PAGE), 0);
    fake_stop(&fake, c);
    munmap(p, 2 * PAGE);
    close(fd);
}

static void script_refuse_maps(struct fake *f)
{
    FAKE_CHECK(f, fake_version(f, "\"max_dma_maps\":2"));
    while (fake_take(f)) {
        if (f->m.h.command == VFIO_USER_DMA_MAP && f->taken[VFIO_USER_DMA_MAP] == 1)
            fake_error(f, ENOSPC);
        else
            fake_device(f);
    }
}

static void test_map_errors(void **state)
{
    (void)state;
    struct ob_client *c = start(script_refuse_maps, NULL);
    assert_int_equal(ob_client_dma_map(c, 0, PAGE, memory, -1, 0, READ), -ENOSPC);
    assert_int_equal(ob_client_dma_unmap(c, 0, PAGE), -ENOENT); /* the refused map is gone */
    assert_int_equal(ob_client_dma_map(c, PAGE, PAGE, memory, -1, 0, READ), 0);

    assert_int_equal(ob_client_dma_map(c, 0, 0, memory, -1, 0, READ), -EINVAL);
    assert_int_equal(ob_client_dma_map(c, UINT64_MAX, 2, memory, -1, 0, READ), -EINVAL);
    assert_int_equal(ob_client_dma_map(c, 0, PAGE, memory, -1, PAGE, READ), -EINVAL);
    assert_int_equal(ob_client_dma_map(c, 0, PAGE, memory, -1, 0, 0), -EINVAL);
    assert_int_equal(ob_client_dma_map(c, 0, PAGE, memory, -1, 0, 4), -EINVAL);
    assert_int_equal(ob_client_dma_map(c, 0, PAGE, NULL, -1, 0, READ), -EINVAL);

    assert_int_equal(ob_client_dma_map(c, PAGE, PAGE, memory, -1, 0, READ), -EEXIST);
    assert_int_equal(ob_client_dma_map(c, 0, PAGE + 1, memory, -1, 0, READ), -EEXIST);
    assert_int_equal(ob_client_dma_map(c, 2 * PAGE - 1, PAGE, memory, -1, 0, READ), -EEXIST);
    assert_int_equal(ob_client_dma_map(c, PAGE + 8, 8, memory, -1, 0, READ), -EEXIST);
    assert_int_equal(ob_client_dma_map(c, 0, UINT64_MAX, memory, -1, 0, READ), -EEXIST);

    assert_int_equal(ob_client_dma_unmap(c, PAGE, PAGE - 1), -ENOENT);
    assert_int_equal(ob_client_dma_unmap(c, PAGE - 1, PAGE + 1), -ENOENT);
    assert_int_equal(ob_client_dma_unmap(c, PAGE, 0), -ENOENT);
    assert_int_equal(ob_client_dma_map(c, 2 * PAGE, PAGE, memory, -1, 0, READ), 0);
    assert_int_equal(ob_client_dma_map(c, 3 * PAGE, PAGE, memory, -1, 0, READ), -ENOSPC);
    assert_int_equal(ob_client_dma_unmap(c, PAGE, PAGE), 0);
    assert_int_equal(ob_client_dma_map(c, 3 * PAGE, PAGE, memory, -1, 0, READ), 0);
    assert_int_equal(ob_client_dma_unmap_all(c), 0);
    assert_int_equal(ob_client_dma_unmap(c, 2 * PAGE, PAGE), -ENOENT);
    fake_stop(&fake, c);
    assert_int_equal(fake.taken[VFIO_USER_DMA_MAP], 4);
}

/* ---- Many at once ------------------------------------------------------------------------ */

/* The commands that come, in their order; a map at 2 pages is refused. */
static void script_order(struct fake *f)
{
    char *order = f->data;
    uint64_t at;

    FAKE_CHECK(f, fake_version(f, NULL));
    while (fake_take(f)) {
        const char *letters = "?VMU??????";
        *order++ = f->m.h.command < 10 ? letters[f->m.h.command] : '?';
        if (f->m.h.command == VFIO_USER_REGION_READ)
            order[-1] = 'R';
        if (f->m.nfds)
            *order++ = 'f';
        memcpy(&at, f->m.body + 16, sizeof at);
        if (f->m.h.command == VFIO_USER_DMA_MAP && at == 2 * PAGE)
            fake_error(f, EPERM);
        else
            fake_device(f);
    }
}

static struct ob_request *start_map(struct ob_client *c, uint64_t page, int fd)
{
    struct ob_request *rq;
    assert_int_equal(ob_client_start_dma_map(c, page * PAGE, PAGE, memory, fd, 0, READ, &rq), 0);
    return rq;
}

static void test_started(void **state)
{
    (void)state;
    char order[256] = "";
    struct ob_client *c = start(script_order, order);
    struct ob_request *rq[5], *bad;
    uint32_t v;
    int fd = memfd_create("memory", MFD_CLOEXEC);

    assert_int_equal(ftruncate(fd, PAGE), 0);
    for (unsigned i = 0; i < 4; i++)
        rq[i] = start_map(c, i, -1);
    assert_int_equal(ob_client_start_dma_map(c, PAGE, 1, memory, -1, 0, READ, &bad), -EEXIST);
    assert_int_equal(ob_client_start_dma_map(c, PAGE, 0, memory, -1, 0, READ, &bad), -EINVAL);
    rq[4] = start_map(c, 4, fd);
    assert_int_equal(ob_client_read(c, 0, 0, &v, 4), 0); /* behind the others */
    assert_string_equal(order, "MMMMMfR");
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(ob_request_wait(rq[i]), i == 2 ? -EPERM : 0);

    /* The one that was refused is none. */
    assert_int_equal(ob_client_start_dma_unmap(c, 2 * PAGE, PAGE, &bad), -ENOENT);
    assert_int_equal(ob_client_start_dma_unmap(c, 0, 2 * PAGE, &bad), -ENOENT);
    assert_int_equal(ob_client_start_dma_unmap(c, 0, PAGE, &rq[0]), 0);
    assert_int_equal(ob_client_start_dma_unmap(c, PAGE, PAGE, &rq[1]), 0);
    assert_int_equal(ob_client_dma_map(c, PAGE, PAGE, memory, -1, 0, READ), -EEXIST); /* not yet */
    while (!ob_request_done(rq[1])) /* which also sends them */
        poll(&(struct pollfd){ ob_client_fd(c), POLLIN, 0 }, 1, 1000);
    assert_string_equal(order, "MMMMMfRUU");
    assert_int_equal(ob_request_wait(rq[1]), 0);
    assert_int_equal(ob_request_wait(rq[0]), 0);
    assert_int_equal(ob_client_dma_map(c, PAGE, PAGE, memory, -1, 0, READ), 0);
    assert_int_equal(ob_client_dma_unmap(c, 0, PAGE), -ENOENT);

    /* More than are kept, or may be under way. */
    struct ob_request *many[OB_CLIENT_REQUESTS];
    for (unsigned i = 0; i < OB_CLIENT_REQUESTS; i++)
        many[i] = start_map(c, 16 + i, -1);
    assert_int_equal(ob_client_start_dma_map(c, 8 * PAGE, PAGE, memory, -1, 0, READ, &bad), -EAGAIN);
    for (unsigned i = 0; i < OB_CLIENT_REQUESTS; i++)
        assert_int_equal(ob_request_wait(many[i]), 0);
    assert_int_equal(ob_client_start_dma_map(c, 8 * PAGE, PAGE, memory, -1, 0, READ, &bad), 0);
    close(fd);
    fake_stop(&fake, c); /* the last was never sent */
}

/* A server that does not reply: the request ends, and with it the map. */
static void script_silent(struct fake *f)
{
    FAKE_CHECK(f, fake_version(f, NULL));
    while (fake_take(f))
        ;
}

static void test_started_in_vain(void **state)
{
    (void)state;
    struct ob_client *c = start(script_silent, NULL);

    ob_client_set_timeout(c, 30);
    struct ob_request *rq = start_map(c, 0, -1);
    assert_int_equal(ob_request_wait(rq), -ETIMEDOUT);
    assert_int_equal(ob_client_dma_unmap(c, 0, PAGE), -ENOENT);
    fake_stop(&fake, c);
}

/* ---- By messages ------------------------------------------------------------------------- */

/*
 * Maps at 0x10000: page 0 and 1 read-write, 2 read only, 3 write only, then nothing; and one page
 * that ends the address space.
 */
#define BASE UINT64_C(0x10000)
#define LAST_PAGE (UINT64_MAX - PAGE + 1)

static void dma_read(struct fake *f, uint64_t address, uint64_t n, uint32_t expected,
                     const void *data)
{
    uint32_t error;
    FAKE_CHECK(f, fake_dma(f, VFIO_USER_DMA_READ, address, n, NULL, &error));
    if (error != expected)
        fake_wrong(f, "the error of DMA_READ", __FILE__, (int)(address - BASE));
    if (error) {
        FAKE_CHECK(f, f->m.size == 0);
        return;
    }
    struct vfio_user_dma_access a;
    memcpy(&a, f->m.body, sizeof a);
    FAKE_CHECK(f, f->m.size == 16 + n && a.address == address && a.count == n);
    FAKE_CHECK(f, memcmp(f->m.body + 16, data, n) == 0);
}

static void dma_write(struct fake *f, uint64_t address, uint64_t n, uint32_t expected)
{
    static uint8_t data[65537];
    uint32_t error;
    memset(data, 0x5a, sizeof data);
    FAKE_CHECK(f, fake_dma(f, VFIO_USER_DMA_WRITE, address, n, data, &error));
    if (error != expected)
        fake_wrong(f, "the error of DMA_WRITE", __FILE__, (int)(address - BASE));
    struct vfio_user_dma_access a = { 0 };
    memcpy(&a, f->m.body, sizeof a);
    FAKE_CHECK(f,
               f->m.size == (error ? 0 : 16) && (error || (a.address == address && a.count == n)));
}

static void script_messages(struct fake *f)
{
    struct fake_message *kept = malloc(sizeof *kept);
    uint32_t error;

    FAKE_CHECK(f, fake_version(f, NULL));
    for (int i = 0; i < 5; i++) {
        FAKE_CHECK(f, fake_expect(f, VFIO_USER_DMA_MAP));
        FAKE_CHECK(f, f->m.nfds == 0);
        if (i == 0) /* the map may be used before it is acknowledged */
            *kept = f->m;
        if (i == 0)
            dma_read(f, BASE, 4, 0, memory);
        if (i == 0)
            f->m = *kept;
        fake_device(f);
    }
    /* All of this while the client waits for one reply. */
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    *kept = f->m;
    dma_read(f, BASE, PAGE, 0, memory);
    dma_read(f, BASE + 5, 3, 0, memory + 5);
    dma_read(f, BASE + 2, 3 * PAGE - 2, 0, memory + 2); /* over three maps */
    dma_read(f, BASE, 3 * PAGE + 1, EFAULT, NULL);      /* the last may not be read */
    dma_read(f, BASE + 3 * PAGE, 1, EFAULT, NULL);
    dma_read(f, BASE - 1, 2, EFAULT, NULL);
    dma_read(f, BASE + 4 * PAGE, 1, EFAULT, NULL);
    dma_read(f, BASE, 0, EINVAL, NULL);
    dma_read(f, BASE, 65537, EINVAL, NULL);
    dma_read(f, BASE, UINT64_MAX, EINVAL, NULL);
    dma_read(f, BASE, (1ull << 32) + 4, EINVAL, NULL);
    dma_read(f, LAST_PAGE + 4, PAGE - 5, 0, memory + 4 * PAGE + 4);
    dma_read(f, LAST_PAGE + 4, PAGE, EINVAL, NULL);
    dma_write(f, BASE + 2 * PAGE - 1, 1, 0);
    dma_write(f, BASE + 2 * PAGE, 1, EFAULT);
    dma_write(f, BASE + PAGE, PAGE + 1, EFAULT); /* and none of it is written */
    dma_write(f, BASE + 3 * PAGE, PAGE, 0);
    dma_write(f, BASE + 3 * PAGE, PAGE + 1, EFAULT);
    dma_write(f, BASE + 3 * PAGE, 65537, EINVAL);
    /* Commands that only clients send, and some that nobody sends. */
    FAKE_CHECK(f, fake_dma(f, VFIO_USER_REGION_READ, 0, 4ull << 32, NULL, &error));
    FAKE_CHECK(f, error == ENOTSUP);
    FAKE_CHECK(f, fake_dma(f, 14, 0, 0, NULL, &error));
    FAKE_CHECK(f, error == ENOTSUP);
    FAKE_CHECK(f, fake_dma(f, 60000, 0, 0, NULL, &error));
    FAKE_CHECK(f, error == ENOTSUP);
    f->m = *kept;
    fake_device(f);

    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DMA_UNMAP));
    *kept = f->m;
    dma_read(f, BASE, 4, 0, memory); /* still there */
    f->m = *kept;
    fake_device(f);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    *kept = f->m;
    dma_read(f, BASE, 4, EFAULT, NULL);
    dma_read(f, BASE + PAGE, 4, 0, memory + PAGE);
    f->m = *kept;
    fake_device(f);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DMA_UNMAP));
    fake_error(f, EIO);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    *kept = f->m;
    dma_read(f, BASE + PAGE, 4, EFAULT, NULL); /* whatever the server replied */
    f->m = *kept;
    fake_device(f);
    free(kept);
    FAKE_CHECK(f, !fake_take(f));
}

static void test_messages(void **state)
{
    (void)state;
    uint32_t v;
    for (size_t i = 0; i < sizeof memory; i++)
        memory[i] = (uint8_t)(i * 31 + (i >> 7));
    uint8_t before = memory[2 * PAGE - 2], kept = memory[PAGE];
    struct ob_client *c = start(script_messages, NULL);
    assert_int_equal(ob_client_dma_map(c, BASE, PAGE, memory, -1, 0, READ | WRITE), 0);
    assert_int_equal(ob_client_dma_map(c, BASE + PAGE, PAGE, memory + PAGE, -1, 0, READ | WRITE),
                     0);
    assert_int_equal(ob_client_dma_map(c, BASE + 2 * PAGE, PAGE, memory + 2 * PAGE, -1, 0, READ),
                     0);
    assert_int_equal(ob_client_dma_map(c, BASE + 3 * PAGE, PAGE, memory + 3 * PAGE, -1, 0, WRITE),
                     0);
    assert_int_equal(ob_client_dma_map(c, LAST_PAGE, PAGE, memory + 4 * PAGE, -1, 0, READ), 0);
    assert_int_equal(ob_client_read(c, 0, 0, &v, 4), 0);
    assert_int_equal(memory[2 * PAGE - 1], 0x5a);
    assert_int_equal(memory[2 * PAGE - 2], before);
    assert_int_equal(memory[PAGE], kept);
    assert_int_equal(memory[3 * PAGE], 0x5a);
    assert_int_equal(memory[4 * PAGE - 1], 0x5a);
    assert_int_not_equal(memory[4 * PAGE], 0x5a);
    assert_int_equal(ob_client_dma_unmap(c, BASE, PAGE), 0);
    assert_int_equal(ob_client_read(c, 0, 0, &v, 4), 0);
    assert_int_equal(ob_client_dma_unmap_all(c), -EIO);
    assert_int_equal(ob_client_read(c, 0, 0, &v, 4), 0);
    fake_stop(&fake, c);
}

/* Commands while the client waits for something else. */
static void script_process(struct fake *f)
{
    FAKE_CHECK(f, fake_version(f, NULL));
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DMA_MAP));
    fake_device(f);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_WRITE)); /* posted: go */
    dma_write(f, BASE, 65536, 0);
    dma_read(f, BASE, 65536, 0, memory);
    uint64_t one = 1;
    FAKE_CHECK(f, write(*(int *)f->data, &one, 8) == 8);
    FAKE_CHECK(f, !fake_take(f));
}

static void test_process(void **state)
{
    (void)state;
    int done[2];
    uint32_t v = 0;
    assert_int_equal(pipe2(done, O_CLOEXEC), 0);
    struct ob_client *c = start(script_process, &done[1]);
    memset(memory, 0, sizeof memory);
    assert_int_equal(ob_client_dma_map(c, BASE, 65536, memory, -1, 0, READ | WRITE), 0);
    assert_int_equal(ob_client_process(c), 0);
    assert_int_equal(ob_client_post(c, 0, 0, &v, 4), 0);
    for (;;) {
        struct pollfd p[2] = { { done[0], POLLIN, 0 }, { ob_client_fd(c), POLLIN, 0 } };
        assert_true(poll(p, 2, 20000) > 0);
        if (p[0].revents)
            break;
        assert_int_equal(ob_client_process(c), 0);
    }
    for (size_t i = 0; i < 65536; i++)
        assert_int_equal(memory[i], 0x5a);
    fake_stop(&fake, c);
    close(done[0]);
    close(done[1]);
}

/* ---- Crowds ------------------------------------------------------------------------------ */

#define CROWD 500u

/* Sends many commands before it takes a message, while the client sends until the socket is full:
 * more than the client keeps answers for. */
static void script_crowd(struct fake *f)
{
    uint16_t next = 0;
    unsigned writes = 0;
    FAKE_CHECK(f, fake_version(f, NULL));
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DMA_MAP));
    fake_device(f);
    for (uint32_t i = 0; i < CROWD; i++) {
        uint32_t value = i + 1;
        if (i % 2)
            fake_send_dma(f, (uint16_t)i, VFIO_USER_DMA_READ, BASE + (i - 1) * 4, 4, NULL);
        else
            fake_send_dma(f, (uint16_t)i, VFIO_USER_DMA_WRITE, BASE + i * 4, 4, &value);
    }
    while (fake_take(f)) {
        if (f->m.h.command == VFIO_USER_REGION_WRITE)
            writes++;
        if ((f->m.h.flags & VFIO_USER_FLAG_TYPE) != VFIO_USER_FLAG_TYPE_REPLY) {
            fake_device(f);
            continue;
        }
        uint32_t value = 0;
        FAKE_CHECK(f, f->m.h.id == next && !(f->m.h.flags & VFIO_USER_FLAG_ERROR));
        if (next % 2)
            memcpy(&value, f->m.body + 16, 4);
        FAKE_CHECK(f, value == (next % 2 ? next : 0));
        next++;
    }
    FAKE_CHECK(f, next == CROWD && writes == 300);
}

static void test_crowd(void **state)
{
    (void)state;
    static uint8_t data[4000];
    uint32_t v;
    struct ob_client *c = start(script_crowd, NULL);
    assert_int_equal(ob_client_dma_map(c, BASE, 65536, memory, -1, 0, READ | WRITE), 0);
    for (int i = 0; i < 300; i++)
        assert_int_equal(ob_client_post(c, 0, 0, data, sizeof data), 0);
    assert_int_equal(ob_client_read(c, 0, 0, &v, 4), 0);
    fake_stop(&fake, c);
}

static void *drain(void *p)
{
    struct fake *f = p;
    while (fake_take(f))
        ;
    return NULL;
}

/* Talks all the time, faster than anyone can answer, and never replies to the read. */
static void script_flood(struct fake *f)
{
    struct {
        struct vfio_user_header h;
        struct vfio_user_dma_access a;
    } m[2000];
    pthread_t thread;

    for (size_t i = 0; i < 2000; i++) {
        m[i].h = (struct vfio_user_header){ .command = VFIO_USER_DMA_READ, .size = 32 };
        m[i].a = (struct vfio_user_dma_access){ BASE, 4 };
    }
    FAKE_CHECK(f, fake_version(f, NULL));
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    FAKE_CHECK(f, pthread_create(&thread, NULL, drain, f) == 0);
    ssize_t sent = 0;
    for (size_t at = 0; sent >= 0; at = (at + (size_t)sent) % sizeof m)
        sent = send(f->sock, (char *)m + at, sizeof m - at, MSG_NOSIGNAL);
    pthread_join(thread, NULL);
}

static void test_flood(void **state)
{
    (void)state;
    uint32_t v;
    struct ob_client *c = start(script_flood, NULL);
    ob_client_set_timeout(c, 50);
    int ret = ob_client_read(c, 0, 0, &v, 4);
    assert_int_equal(ret, -ETIMEDOUT);
    ob_client_process(c); /* comes back as well */
    fake_stop(&fake, c);
}

/* Sends commands, and never takes an answer. */
static void script_glutton(struct fake *f)
{
    FAKE_CHECK(f, fake_version(f, NULL));
    for (uint32_t i = 0; i < 100000; i++) {
        struct vfio_user_header h = { .command = VFIO_USER_DMA_READ, .size = 32 };
        struct vfio_user_dma_access a = { BASE, 65536 };
        uint8_t m[32];
        memcpy(m, &h, 16);
        memcpy(m + 16, &a, 16);
        if (send(f->sock, m, sizeof m, MSG_NOSIGNAL) < 0)
            break;
    }
}

static void test_glutton(void **state)
{
    (void)state;
    struct ob_client *c = start(script_glutton, NULL);
    ob_client_set_timeout(c, 50);
    int ret = 0;
    while (ret == 0 || ret == -EAGAIN) {
        struct pollfd p = { ob_client_fd(c), POLLIN, 0 };
        poll(&p, 1, 1000);
        ret = ob_client_process(c);
    }
    assert_int_equal(ret, -ETIMEDOUT);
    fake_stop(&fake, c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptor), cmocka_unit_test(test_map_errors),
        cmocka_unit_test(test_started),    cmocka_unit_test(test_started_in_vain),
        cmocka_unit_test(test_messages),   cmocka_unit_test(test_process),
        cmocka_unit_test(test_crowd),      cmocka_unit_test(test_flood),
        cmocka_unit_test(test_glutton),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

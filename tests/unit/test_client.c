/*
 * test_client.c - what the client does with servers that keep to the protocol.
 */
#include "fake_server.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static struct fake fake;

/* A client that is connected to the script. */
static struct ob_client *start(void (*script)(struct fake *), const void *data)
{
    int result;
    struct ob_client *c = ob_client_new();
    assert_non_null(c);
    fake_start(&fake, script, (void *)(uintptr_t)data, c, &result);
    assert_int_equal(result, 0);
    return c;
}

static void fill(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(i * 7 + (i >> 8));
}

/* ---- Negotiation ------------------------------------------------------------------------- */

static void test_capabilities(void **state)
{
    (void)state;
    struct ob_capabilities ours, theirs;
    struct ob_client *c = start(fake_serve, "\"max_msg_fds\":8,\"max_data_xfer_size\":4096,"
                                            "\"max_dma_maps\":7,\"pgsizes\":8192,"
                                            "\"write_multiple\":true,\"unknown\":[1]");
    assert_int_equal(ob_client_capabilities(c, &ours, &theirs), 0);
    assert_int_equal(ours.max_msg_fds, 16);
    assert_int_equal(ours.max_data_xfer_size, 65536);
    assert_int_equal(theirs.minor, 1);
    assert_int_equal(theirs.max_msg_fds, 8);
    assert_int_equal(theirs.max_data_xfer_size, 4096);
    assert_int_equal(theirs.max_dma_maps, 7);
    assert_int_equal(theirs.pgsizes, 8192);
    assert_true(theirs.write_multiple);
    assert_int_equal(ob_client_transfer_size(c), 4096);
    fake_stop(&fake, c);

    c = start(fake_serve, NULL);
    assert_int_equal(ob_client_capabilities(c, NULL, &theirs), 0);
    assert_int_equal(theirs.max_msg_fds, 1);
    assert_int_equal(theirs.max_data_xfer_size, 1048576);
    assert_false(theirs.write_multiple);
    assert_int_equal(ob_client_transfer_size(c), 65536);
    fake_stop(&fake, c);
}

static void script_limits(struct fake *f)
{
    FAKE_CHECK(f, fake_version(f, NULL));
    FAKE_CHECK(f, strstr((char *)f->m.body + 4, "\"max_msg_fds\":3,"));
    FAKE_CHECK(f, strstr((char *)f->m.body + 4, "\"max_data_xfer_size\":512,"));
}

static void test_limits(void **state)
{
    (void)state;
    int result;
    struct ob_client *c = ob_client_new();
    assert_int_equal(ob_client_set_limits(c, 17, 512), -EINVAL);
    assert_int_equal(ob_client_set_limits(c, 3, 65537), -EINVAL);
    assert_int_equal(ob_client_set_limits(c, 3, 512), 0);
    fake_start(&fake, script_limits, NULL, c, &result);
    assert_int_equal(result, 0);
    assert_int_equal(ob_client_set_limits(c, 3, 512), -EISCONN);
    fake_stop(&fake, c);
}

static void test_not_connected(void **state)
{
    (void)state;
    char text[OB_CLIENT_ERROR_SIZE], path[300];
    uint32_t v;
    struct ob_client *c = ob_client_new();
    assert_string_equal(ob_client_error(c, text, sizeof text), "");
    assert_int_equal(ob_client_read(c, 0, 0, &v, 4), -ENOTCONN);
    assert_int_equal(ob_client_post(c, 0, 0, &v, 4), -ENOTCONN);
    assert_int_equal(ob_client_reset(c), -ENOTCONN);
    assert_int_equal(ob_client_fd(c), -ENOTCONN);
    assert_int_equal(ob_client_process(c), -ENOTCONN);
    assert_int_equal(ob_client_capabilities(c, NULL, NULL), -ENOTCONN);
    assert_int_equal(ob_client_connect(c, "/nonexistent/socket"), -ENOENT);
    assert_string_equal(ob_client_error(c, text, sizeof text),
                        "cannot connect to /nonexistent/socket: No such file or directory");
    memset(path, 'a', sizeof path);
    path[sizeof path - 1] = '\0';
    assert_int_equal(ob_client_connect(c, path), -ENAMETOOLONG);
    assert_int_equal(ob_client_adopt(c, open("/dev/null", O_RDONLY)), -ENOTSOCK);
    assert_int_equal(ob_client_set_timeout(c, 0), -EINVAL);
    assert_int_equal(ob_client_set_spin(c, 2000000), -EINVAL);
    ob_client_free(c);
    ob_client_free(NULL);
}

static struct sockaddr_un listen_somewhere(int *listener, char *folder)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    assert_non_null(mkdtemp(folder));
    snprintf(a.sun_path, sizeof a.sun_path, "%s/socket", folder);
    *listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(*listener, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(listen(*listener, 0), 0);
    return a;
}

static void *accept_one(void *p)
{
    fake.sock = accept(*(int *)p, NULL, NULL);
    fake.data = NULL;
    fake_serve(&fake);
    close(fake.sock);
    return NULL;
}

static void test_connect(void **state)
{
    (void)state;
    char text[OB_CLIENT_ERROR_SIZE], folder[] = "/tmp/test_client.XXXXXX";
    int listener;
    pthread_t thread;
    uint32_t v;
    struct sockaddr_un a = listen_somewhere(&listener, folder);

    struct ob_client *c = ob_client_new();
    assert_int_equal(pthread_create(&thread, NULL, accept_one, &listener), 0);
    assert_int_equal(ob_client_connect(c, a.sun_path), 0);
    assert_int_equal(ob_client_connect(c, a.sun_path), -EISCONN);
    assert_int_equal(ob_client_read(c, 0, 0, &v, 4), 0);
    ob_client_free(c);
    pthread_join(thread, NULL);

    /* Nobody accepts any more: one client waits for its reply, the next one for its connection. */
    c = ob_client_new();
    struct ob_client *next = ob_client_new();
    ob_client_set_timeout(c, 30);
    ob_client_set_timeout(next, 30);
    assert_int_equal(ob_client_connect(c, a.sun_path), -ETIMEDOUT);
    assert_non_null(strstr(ob_client_error(c, text, sizeof text), "VFIO_USER_VERSION: no reply"));
    assert_int_equal(ob_client_connect(next, a.sun_path), -ETIMEDOUT);
    assert_non_null(strstr(ob_client_error(next, text, sizeof text), "cannot connect to /tmp"));
    ob_client_free(c);
    ob_client_free(next);
    close(listener);
    unlink(a.sun_path);
    rmdir(folder);
}

/* ---- Regions ----------------------------------------------------------------------------- */

static void test_read_write(void **state)
{
    (void)state;
    static uint8_t out[150001], in[150001];
    struct vfio_user_device_info info;
    uint32_t v = 0x12345678, w = 0;
    struct ob_client *c = start(fake_serve, "\"max_data_xfer_size\":5000");

    assert_int_equal(ob_client_device_info(c, &info), 0);
    assert_int_equal(info.num_regions, 9);
    assert_int_equal(ob_client_write(c, 0, 16, &v, sizeof v), 0);
    assert_int_equal(ob_client_read(c, 0, 16, &w, sizeof w), 0);
    assert_int_equal(w, v);

    fill(out, sizeof out);
    assert_int_equal(ob_client_write(c, 0, 3, out, sizeof out), 0);
    assert_int_equal(ob_client_read(c, 0, 3, in, sizeof in), 0);
    assert_memory_equal(in, out, sizeof in);

    assert_int_equal(ob_client_read(c, 0, 0, in, 0), 0);
    assert_int_equal(ob_client_read(c, 0, UINT64_MAX, in, 2), -EINVAL);
    assert_int_equal(ob_client_read(c, 1, 0, in, 4), -EINVAL);
    assert_int_equal(ob_client_reset(c), 0);
    fake_stop(&fake, c);
    assert_int_equal(fake.largest, 5000);
    assert_int_equal(fake.taken[VFIO_USER_REGION_READ], 1 + 31 + 1);
    assert_int_equal(fake.taken[VFIO_USER_REGION_WRITE], 1 + 31);
}

static void test_error_sentence(void **state)
{
    (void)state;
    char text[OB_CLIENT_ERROR_SIZE];
    uint32_t v;
    struct ob_client *c = start(fake_serve, NULL);
    assert_int_equal(ob_client_read(c, 2, 0x10, &v, 4), -EINVAL);
    assert_string_equal(ob_client_error(c, text, sizeof text),
                        "VFIO_USER_REGION_READ of region 2, 4 "
                        "bytes at 0x10: the server replied: Invalid argument");
    assert_int_equal(strlen(ob_client_error(c, text, 10)), 9);
    fake_stop(&fake, c);
}

static void test_post(void **state)
{
    (void)state;
    struct ob_client *c = start(fake_serve, NULL);
    for (uint32_t i = 0; i < 5000; i++)
        assert_int_equal(ob_client_post(c, 0, 8, &i, sizeof i), 0);
    uint32_t v = 0;
    assert_int_equal(ob_client_read(c, 0, 8, &v, sizeof v), 0);
    assert_int_equal(v, 4999);
    fake_stop(&fake, c);
    assert_int_equal(fake.taken[VFIO_USER_REGION_WRITE], 5000);
}

static void test_write_multi(void **state)
{
    (void)state;
    static struct vfio_user_write w[1000];
    static uint8_t in[8000];
    for (uint32_t i = 0; i < 1000; i++) {
        w[i] = (struct vfio_user_write){ .offset = i * 8, .count = 8 };
        memset(w[i].data, (int)i, 8);
    }
    struct ob_client *c = start(fake_serve, "\"write_multiple\":true,\"max_data_xfer_size\":2410");
    assert_int_equal(ob_client_write_multi(c, w, 1000, false), 0);
    assert_int_equal(ob_client_read(c, 0, 0, in, sizeof in), 0);
    for (size_t i = 0; i < sizeof in; i++)
        assert_int_equal(in[i], (uint8_t)(i / 8));
    w[0].data[0] = 77;
    assert_int_equal(ob_client_write_multi(c, w, 1, true), 0);
    assert_int_equal(ob_client_read(c, 0, 0, in, 1), 0);
    assert_int_equal(in[0], 77);
    w[1].count = 9;
    assert_int_equal(ob_client_write_multi(c, w, 2, false), -EINVAL);
    fake_stop(&fake, c);
    assert_int_equal(fake.taken[VFIO_USER_REGION_WRITE_MULTI], 11);

    c = start(fake_serve, NULL);
    assert_int_equal(ob_client_write_multi(c, w, 1, false), -ENOTSUP);
    fake_stop(&fake, c);
}

/* Takes 10 reads, and replies to the last first. */
static void script_backwards(struct fake *f)
{
    struct fake_message *m = calloc(10, sizeof *m);
    FAKE_CHECK(f, fake_version(f, NULL));
    for (int i = 0; i < 10 && fake_expect(f, VFIO_USER_REGION_READ); i++)
        m[i] = f->m;
    for (int i = 9; i >= 0; i--) {
        f->m = m[i];
        f->memory[i * 4] = (uint8_t)i;
        fake_device(f);
    }
    free(m);
    while (fake_take(f))
        fake_device(f);
}

static void test_pipeline(void **state)
{
    (void)state;
    struct ob_request *rq[OB_CLIENT_REQUESTS], *more;
    uint32_t v[OB_CLIENT_REQUESTS] = { 0 };
    struct ob_client *c = start(script_backwards, NULL);

    for (uint32_t i = 0; i < 10; i++)
        assert_int_equal(ob_client_start_read(c, 0, i * 4, &v[i], 4, &rq[i]), 0);
    for (uint32_t i = 0; i < 10; i++) {
        assert_int_equal(ob_request_wait(rq[i]), 0);
        assert_int_equal(v[i], i);
    }
    for (int round = 0; round < 5; round++) {
        for (uint32_t i = 0; i < OB_CLIENT_REQUESTS; i += 2) {
            uint32_t x = i + 1000;
            assert_int_equal(ob_client_start_write(c, 0, i * 4, &x, 4, &rq[i]), 0);
            assert_int_equal(ob_client_start_read(c, 0, i * 4, &v[i], 4, &rq[i + 1]), 0);
        }
        assert_int_equal(ob_client_start_read(c, 0, 0, &v[0], 4, &more), -EAGAIN);
        assert_int_equal(ob_client_read(c, 0, 0, &v[1], 4), 0); /* others have slots of their own */
        for (uint32_t i = 0; i < OB_CLIENT_REQUESTS; i++) {
            assert_true(ob_request_done(rq[i])); /* the read came last */
            assert_int_equal(ob_request_wait(rq[i]), 0);
        }
        for (uint32_t i = 0; i < OB_CLIENT_REQUESTS; i += 2)
            assert_int_equal(v[i], i + 1000);
    }
    assert_int_equal(ob_client_start_read(c, 0, 0, v, 0, &more), -EINVAL);
    assert_int_equal(ob_client_start_read(c, 0, 0, v, 65537, &more), -EINVAL);
    assert_int_equal(ob_client_start_read(c, 1, 0, v, 4, &more), 0);
    assert_int_equal(ob_request_wait(more), -EINVAL);
    assert_int_equal(ob_client_start_read(c, 0, 0, v, 4, &more), 0); /* and never waits for it */
    fake_stop(&fake, c);
}

static void test_spin(void **state)
{
    (void)state;
    uint32_t v = 0;
    struct ob_client *c = start(fake_serve, NULL);
    for (unsigned us = 0; us < 4000; us += 500) {
        assert_int_equal(ob_client_set_spin(c, us), 0);
        for (uint32_t i = 0; i < 100; i++) {
            assert_int_equal(ob_client_write(c, 0, 0, &i, 4), 0);
            assert_int_equal(ob_client_read(c, 0, 0, &v, 4), 0);
            assert_int_equal(v, i);
        }
    }
    fake_stop(&fake, c);
}

/* ---- Interrupts -------------------------------------------------------------------------- */

struct set_irqs_expected {
    uint32_t flags, start, count, nfds;
};

static void expect_irqs(struct fake *f, const struct set_irqs_expected *e)
{
    struct vfio_irq_set set;
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_SET_IRQS));
    memcpy(&set, f->m.body, sizeof set);
    FAKE_CHECK(f, set.index == VFIO_PCI_MSIX_IRQ_INDEX && set.argsz == f->m.size);
    FAKE_CHECK(f, set.flags == e->flags && set.start == e->start && set.count == e->count);
    FAKE_CHECK(f, f->m.nfds == e->nfds);
    uint64_t one = 1;
    for (unsigned i = 0; i < f->m.nfds; i++)
        FAKE_CHECK(f, write(f->m.fds[i], &one, sizeof one) == sizeof one);
    fake_reply(f, NULL, 0, NULL, 0);
}

static void script_irqs(struct fake *f)
{
    const uint32_t eventfd_trigger = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER;
    const struct set_irqs_expected expected[] = {
        { eventfd_trigger, 2, 3, 3 },
        { eventfd_trigger, 5, 1, 1 },
        { eventfd_trigger, 6, 5, 0 },
        { eventfd_trigger, 11, 1, 1 },
        { eventfd_trigger, 2, 10, 0 },
        { VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_MASK, 1, 2, 0 },
        { VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_UNMASK, 1, 2, 0 },
        { VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 0, 0, 0 },
    };
    FAKE_CHECK(f, fake_version(f, "\"max_msg_fds\":3"));
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_GET_IRQ_INFO));
    fake_device(f);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        expect_irqs(f, &expected[i]);
    FAKE_CHECK(f, !fake_take(f));
}

static void test_irqs(void **state)
{
    (void)state;
    int e[5], fds[10];
    struct vfio_irq_info info;
    struct ob_client *c = start(script_irqs, NULL);
    const uint32_t msix = VFIO_PCI_MSIX_IRQ_INDEX, trigger = VFIO_IRQ_SET_ACTION_TRIGGER;

    assert_int_equal(ob_client_irq_info(c, msix, &info), 0);
    assert_true(info.index == msix && info.count == 32);
    for (int i = 0; i < 5; i++)
        e[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    for (int i = 0; i < 10; i++)
        fds[i] = i < 4 ? e[i] : i < 9 ? -1 : e[4];
    assert_int_equal(ob_client_irq_eventfds(c, msix, trigger, 2, 10, fds), 0);
    for (int i = 0; i < 5; i++) {
        uint64_t n = 0;
        assert_int_equal(read(e[i], &n, sizeof n), sizeof n);
        assert_int_equal(n, 1);
        close(e[i]);
    }
    assert_int_equal(ob_client_irq_eventfds(c, msix, trigger, 2, 10, NULL), 0);
    assert_int_equal(ob_client_irq_act(c, msix, VFIO_IRQ_SET_ACTION_MASK, 1, 2, NULL), 0);
    assert_int_equal(
        ob_client_irq_act(c, msix, VFIO_IRQ_SET_ACTION_UNMASK, 1, 2, (uint8_t[]){ 1, 0 }), 0);
    assert_int_equal(ob_client_irq_disable(c, msix), 0);
    assert_int_equal(ob_client_irq_eventfds(c, msix, 0, 2, 10, fds), -EINVAL);
    assert_int_equal(ob_client_irq_eventfds(c, msix, trigger, 2, 0, fds), -EINVAL);
    assert_int_equal(ob_client_irq_act(c, msix, trigger, UINT32_MAX, 2, NULL), -EINVAL);
    fake_stop(&fake, c);
}

/* ---- Migration --------------------------------------------------------------------------- */

static void script_migration(struct fake *f)
{
    struct {
        struct vfio_user_device_feature feature;
        uint64_t flags;
    } reply = { { .argsz = 16, .flags = VFIO_DEVICE_FEATURE_GET | 1 }, 5 };
    struct {
        struct vfio_user_mig_data head;
        uint8_t data[1000];
    } data = { .head = { .argsz = 1008, .size = 1000 } };

    FAKE_CHECK(f, fake_version(f, "\"max_data_xfer_size\":1000"));
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_FEATURE));
    fake_reply(f, &reply, sizeof reply, NULL, 0);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_FEATURE));
    fake_reply(f, &reply, sizeof reply, NULL, 0);

    FAKE_CHECK(f, fake_expect(f, VFIO_USER_MIG_DATA_READ));
    fill(data.data, 1000);
    fake_reply(f, &data, sizeof data, NULL, 0);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_MIG_DATA_READ));
    data.head.size = 10;
    fake_reply(f, &data, 18, NULL, 0);
    for (uint32_t n = 1000, left = 2500; left > 0; left -= n) {
        FAKE_CHECK(f, fake_expect(f, VFIO_USER_MIG_DATA_WRITE));
        n = left < n ? left : n;
        memcpy(&data.head, f->m.body, sizeof data.head);
        FAKE_CHECK(f, data.head.size == n && f->m.size == n + 8);
        fake_reply(f, NULL, 0, NULL, 0);
    }
    FAKE_CHECK(f, !fake_take(f));
}

static void test_migration(void **state)
{
    (void)state;
    static uint8_t buf[5000], expected[1000];
    uint64_t flags = 0;
    size_t out = 0;
    struct ob_client *c = start(script_migration, NULL);
    const uint32_t get = VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION;

    assert_int_equal(ob_client_device_feature(c, get, &flags, 0, sizeof flags, &out), 0);
    assert_true(flags == 5 && out == 8);
    assert_int_equal(ob_client_device_feature(c, get, &flags, 0, 4, &out), -ENOSPC);
    assert_int_equal(out, 8);
    fill(expected, sizeof expected);
    assert_int_equal(ob_client_mig_data_read(c, buf, sizeof buf), 1010);
    assert_memory_equal(buf, expected, 1000);
    assert_int_equal(ob_client_mig_data_write(c, buf, 2500), 0);
    fake_stop(&fake, c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_capabilities), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_connect),      cmocka_unit_test(test_not_connected),
        cmocka_unit_test(test_read_write),   cmocka_unit_test(test_error_sentence),
        cmocka_unit_test(test_post),         cmocka_unit_test(test_write_multi),
        cmocka_unit_test(test_pipeline),     cmocka_unit_test(test_spin),
        cmocka_unit_test(test_irqs),         cmocka_unit_test(test_migration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

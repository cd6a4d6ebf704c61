/*
 * test_client_hostile.c - what the client does with servers that do not keep to the protocol.
 */
#include "fake_server.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct fake fake;
static char text[OB_CLIENT_ERROR_SIZE];

static struct ob_client *start_as(void (*script)(struct fake *), const void *data, int expected)
{
    int result;
    struct ob_client *c = ob_client_new();
    assert_non_null(c);
    fake_start(&fake, script, (void *)(uintptr_t)data, c, &result);
    assert_int_equal(result, expected);
    return c;
}

static struct ob_client *start(void (*script)(struct fake *), const void *data)
{
    return start_as(script, data, 0);
}

/* The connection is lost: every call says so, with the same sentence. */
static void assert_lost(struct ob_client *c, int error, const char *sentence)
{
    uint32_t v;
    uint8_t memory[16];
    assert_int_equal(ob_client_read(c, 0, 0, &v, 4), error);
    assert_int_equal(ob_client_post(c, 0, 0, &v, 4), error);
    assert_int_equal(ob_client_process(c), error);
    assert_int_equal(ob_client_dma_map(c, 0, 16, memory, -1, 0, VFIO_DMA_MAP_FLAG_READ), error);
    assert_non_null(strstr(ob_client_error(c, text, sizeof text), sentence));
}

/* ---- Negotiation ------------------------------------------------------------------------- */

struct version_reply {
    uint16_t major, minor;
    char json[200];
    size_t n;
};

static void script_version(struct fake *f)
{
    const struct version_reply *v = f->data;
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_VERSION));
    fake_reply(f, v, 4 + v->n, NULL, 0);
    fake_take(f);
}

static void refuse_version(uint16_t major, uint16_t minor, const char *json, size_t n, int expected)
{
    struct version_reply v = { .major = major, .minor = minor, .n = n };
    if (json)
        memcpy(v.json, json, n);
    struct ob_client *c = start_as(script_version, &v, expected);
    assert_int_equal(ob_client_reset(c), expected);
    fake_stop(&fake, c);
}

static void test_version(void **state)
{
    (void)state;
    refuse_version(1, 0, NULL, 0, -EPROTONOSUPPORT);
    refuse_version(0, 2, NULL, 0, -EPROTONOSUPPORT);
    refuse_version(0, 1, "{}", 2, -EPROTO);
    refuse_version(0, 1, "{}}", 4, -EPROTO);
    refuse_version(0, 1, "[]", 3, -EPROTO);
    const char *fds = "{\"capabilities\":{\"max_msg_fds\":\"x\"}}";
    refuse_version(0, 1, fds, strlen(fds) + 1, -EPROTO);
    const char *size = "{\"capabilities\":{\"max_data_xfer_size\":0}}";
    refuse_version(0, 1, size, strlen(size) + 1, -EPROTO);
    const char *twin = "{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":0}}}";
    refuse_version(0, 1, twin, strlen(twin) + 1, -EPROTO);
}

static void script_busy(struct fake *f)
{
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_VERSION));
    fake_error(f, EBUSY);
}

static void script_version_fd(struct fake *f)
{
    uint32_t version = 0;
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_VERSION));
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    fake_reply(f, &version, 4, &fd, 1);
    close(fd);
    fake_take(f);
}

static void script_close(struct fake *f)
{
    fake_expect(f, VFIO_USER_VERSION);
}

static void script_silent(struct fake *f)
{
    while (fake_take(f))
        ;
}

static void test_version_refused(void **state)
{
    (void)state;
    struct ob_client *c = start_as(script_busy, NULL, -EBUSY);
    assert_string_equal(ob_client_error(c, text, sizeof text),
                        "VFIO_USER_VERSION: the server replied: Device or resource busy");
    fake_stop(&fake, c);
    c = start_as(script_close, NULL, -ECONNRESET);
    assert_lost(c, -ECONNRESET, "closed the connection");
    fake_stop(&fake, c);
    c = start_as(script_version_fd, NULL, -EBADMSG);
    fake_stop(&fake, c);

    int result;
    c = ob_client_new();
    ob_client_set_timeout(c, 50);
    fake_start(&fake, script_silent, NULL, c, &result);
    assert_int_equal(result, -ETIMEDOUT);
    assert_lost(c, -ETIMEDOUT, "VFIO_USER_VERSION: no reply within 50 ms");
    fake_stop(&fake, c);
}

/* ---- Replies that break the connection --------------------------------------------------- */

/* What the server sends in place of the reply to a read of 4 bytes. */
struct bytes {
    struct vfio_user_header h;
    struct vfio_user_region_access a;
    uint8_t data[16];
};

static void script_read_reply(struct fake *f)
{
    struct bytes b = *(struct bytes *)f->data;
    FAKE_CHECK(f, fake_version(f, NULL));
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    b.h.id ^= f->m.h.id;
    size_t n = b.h.size < sizeof b ? b.h.size : sizeof b;
    fake_send(f, &b, n < sizeof b.h ? sizeof b.h : n, NULL, 0);
    while (fake_take(f))
        fake_device(f);
}

static const struct bytes good = {
    .h = { .command = VFIO_USER_REGION_READ, .size = 36, .flags = 1 },
    .a = { .offset = 0x10, .region = 0, .count = 4 },
    .data = { 1, 2, 3, 4 },
};

static void read_reply(struct bytes b, int expected, bool lost)
{
    uint32_t v = 0xffffffff, w;
    struct ob_client *c = start(script_read_reply, &b);
    assert_int_equal(ob_client_read(c, 0, 0x10, &v, 4), expected);
    assert_int_equal(v, expected == 0 ? 0x04030201 : 0xffffffff);
    if (lost)
        assert_lost(c, expected, "server");
    else
        assert_int_equal(ob_client_read(c, 0, 0x10, &w, 4), 0);
    fake_stop(&fake, c);
}

static void test_reply(void **state)
{
    (void)state;
    struct bytes b = good;
    read_reply(b, 0, false);
#define WITH(member, value, expected, lost) \
    b = good;                               \
    b.member = value;                       \
    read_reply(b, expected, lost)
    /* Lost: framing, or a reply to nothing. */
    WITH(h.id, 1, -EPROTO, true);
    WITH(h.id, 0x100, -EPROTO, true);
    WITH(h.command, VFIO_USER_REGION_WRITE, -EPROTO, true);
    WITH(h.command, 999, -EPROTO, true);
    WITH(h.flags, 2, -EPROTO, true);
    WITH(h.size, 15, -EPROTO, true);
    WITH(h.size, 0, -EPROTO, true);
    WITH(h.size, 70000, -EPROTO, true);
    WITH(h.size, 0xffffffff, -EPROTO, true);
    /* A reply that makes no sense is the end of this request alone. */
    WITH(h.size, 35, -EBADMSG, false);
    WITH(h.size, 37, -EBADMSG, false);
    WITH(h.size, 16, -EBADMSG, false);
    WITH(a.offset, 0x11, -EBADMSG, false);
    WITH(a.region, 1, -EBADMSG, false);
    WITH(a.count, 5, -EBADMSG, false);
    WITH(a.count, 0xffffffff, -EBADMSG, false);
    b = good;
    b.a.count = 8; /* consistent, and more than was asked for */
    b.h.size = 40;
    read_reply(b, -EBADMSG, false);
    b = good;
    b.a.count = 3;
    b.h.size = 35;
    read_reply(b, -EBADMSG, false);
    b = good;
    b.h.flags = 1 | VFIO_USER_FLAG_ERROR;
    b.h.size = 16;
    b.h.error = ENXIO;
    read_reply(b, -ENXIO, false);
    b.h.error = 0;
    read_reply(b, -EIO, false);
    b.h.error = 0x80000000;
    read_reply(b, -EIO, false);
}

static void script_unasked(struct fake *f)
{
    FAKE_CHECK(f, fake_version(f, NULL));
    f->m.h.id = 0;
    f->m.h.command = VFIO_USER_REGION_WRITE;
    fake_reply(f, NULL, 0, NULL, 0);
    while (fake_take(f))
        ;
    FAKE_CHECK(f, write(*(int *)f->data, "", 1) == 1);
}

/* Replies to a posted write as well. */
static void script_reply_to_posted(struct fake *f)
{
    FAKE_CHECK(f, fake_version(f, NULL));
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_WRITE));
    fake_reply(f, f->m.body, 16, NULL, 0);
    while (fake_take(f))
        ;
}

/* Replies twice at once: the second finds a request that has its reply already. */
static void script_twice(struct fake *f)
{
    struct bytes b[2] = { good, good };
    uint8_t both[72];
    FAKE_CHECK(f, fake_version(f, NULL));
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    b[0].h.id = b[1].h.id = f->m.h.id;
    memcpy(both, &b[0], 36);
    memcpy(both + 36, &b[1], 36);
    fake_send(f, both, sizeof both, NULL, 0);
    while (fake_take(f))
        ;
}

static void test_unasked(void **state)
{
    (void)state;
    uint32_t v = 0;
    int end[2];
    assert_int_equal(pipe2(end, O_CLOEXEC), 0);
    struct ob_client *c = start(script_unasked, &end[1]);
    assert_int_equal(ob_client_read(c, 0, 0, &v, 4), -EPROTO);
    assert_lost(c, -EPROTO, "nobody asked for");
    assert_int_equal(read(end[0], &v, 1), 1); /* the server has noticed */
    fake_stop(&fake, c);
    close(end[0]);
    close(end[1]);

    c = start(script_reply_to_posted, NULL);
    assert_int_equal(ob_client_post(c, 0, 0, &v, 4), 0);
    assert_int_equal(ob_client_read(c, 0, 0, &v, 4), -EPROTO);
    assert_lost(c, -EPROTO, "nobody asked for");
    fake_stop(&fake, c);

    c = start(script_twice, NULL);
    assert_int_equal(ob_client_read(c, 0, 0x10, &v, 4), 0);
    assert_int_equal(ob_client_read(c, 0, 0, &v, 4), -EPROTO);
    assert_lost(c, -EPROTO, "nobody asked for");
    fake_stop(&fake, c);
}

static void script_vanish(struct fake *f)
{
    struct bytes b = good;
    FAKE_CHECK(f, fake_version(f, NULL));
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    b.h.id = f->m.h.id;
    fake_send(f, &b, 20, NULL, 0);
}

static void test_vanish(void **state)
{
    (void)state;
    struct ob_request *a, *b;
    uint32_t v[2] = { 0 };
    struct ob_client *c = start(script_vanish, NULL);
    assert_int_equal(ob_client_start_read(c, 0, 0x10, &v[0], 4, &a), 0);
    int second = ob_client_start_read(c, 0, 0x10, &v[1], 4, &b);
    assert_true(second == 0 || second == -ECONNRESET);
    assert_int_equal(ob_request_wait(a), -ECONNRESET);
    if (second == 0)
        assert_int_equal(ob_request_wait(b), -ECONNRESET);
    assert_lost(c, -ECONNRESET, "closed the connection");
    fake_stop(&fake, c);
}

/* ---- Bytes in pieces, late replies ------------------------------------------------------- */

static void script_pieces(struct fake *f)
{
    struct bytes b[2] = { good, good };
    FAKE_CHECK(f, fake_version(f, NULL));
    /* One byte after the other. */
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    b[0].h.id = f->m.h.id;
    for (size_t i = 0; i < 36; i++)
        fake_send(f, (uint8_t *)b + i, 1, NULL, 0);
    /* Two replies in one send, the second without its end, which comes later. */
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    b[0].h.id = f->m.h.id;
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    b[1].h.id = f->m.h.id;
    uint8_t both[72];
    memcpy(both, &b[0], 36);
    memcpy(both + 36, &b[1], 36);
    fake_send(f, both, 60, NULL, 0);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_WRITE));
    fake_send(f, both + 60, 12, NULL, 0);
    while (fake_take(f))
        ;
}

static void test_pieces(void **state)
{
    (void)state;
    struct ob_request *a, *b;
    uint32_t v = 0, w = 0;
    struct ob_client *c = start(script_pieces, NULL);
    assert_int_equal(ob_client_read(c, 0, 0x10, &v, 4), 0);
    assert_int_equal(v, 0x04030201);
    assert_int_equal(ob_client_start_read(c, 0, 0x10, &v, 4, &a), 0);
    assert_int_equal(ob_client_start_read(c, 0, 0x10, &w, 4, &b), 0);
    assert_int_equal(ob_request_wait(a), 0);
    assert_false(ob_request_done(b));
    assert_int_equal(ob_client_post(c, 0, 0, &v, 4), 0);
    assert_int_equal(ob_request_wait(b), 0);
    assert_int_equal(w, 0x04030201);
    fake_stop(&fake, c);
}

/* Replies to the first read only after the second message has come. */
static void script_late(struct fake *f)
{
    struct fake_message *first = malloc(sizeof *first), *second = malloc(sizeof *second);
    FAKE_CHECK(f, fake_version(f, NULL));
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    *first = f->m;
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_READ));
    *second = f->m;
    memset(f->memory, 0x55, 4);
    f->m = *first;
    fake_device(f);
    memset(f->memory, 0x66, 4);
    f->m = *second;
    fake_device(f);
    free(first);
    free(second);
    while (fake_take(f))
        fake_device(f);
}

static void test_late(void **state)
{
    (void)state;
    uint32_t v = 1, w = 2;
    struct ob_client *c = start(script_late, NULL);
    ob_client_set_timeout(c, 30);
    assert_int_equal(ob_client_read(c, 0, 0, &v, 4), -ETIMEDOUT);
    assert_string_equal(ob_client_error(c, text, sizeof text),
                        "VFIO_USER_REGION_READ of region 0, 4 "
                        "bytes at 0x0: no reply within 30 ms");
    ob_client_set_timeout(c, 5000);
    assert_int_equal(ob_client_read(c, 0, 0, &w, 4), 0);
    assert_int_equal(v, 1);
    assert_int_equal(w, 0x66666666);
    fake_stop(&fake, c);
}

static void script_deaf(struct fake *f)
{
    FAKE_CHECK(f, fake_version(f, NULL));
    while (fake_take(f))
        ;
}

static void test_never(void **state)
{
    (void)state;
    uint32_t v;
    int ret = 0;
    struct ob_client *c = start(script_deaf, NULL);
    ob_client_set_timeout(c, 1);
    for (int i = 0; i < 100 && ret != -EPROTO; i++) {
        ret = ob_client_read(c, 0, 0, &v, 4);
        assert_int_equal(ret, -ETIMEDOUT);
    }
    assert_lost(c, -ETIMEDOUT, "requests without a reply");
    fake_stop(&fake, c);
}

/* ---- Info replies ------------------------------------------------------------------------ */

static void script_device_info(struct fake *f)
{
    struct vfio_user_device_info info = { .argsz = 16, .num_regions = 257, .num_irqs = 1 };
    struct vfio_irq_info irq = { .argsz = 16, .index = 3, .count = 1 };
    FAKE_CHECK(f, fake_version(f, NULL));
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_GET_INFO));
    fake_reply(f, &info, sizeof info, NULL, 0);
    info = (struct vfio_user_device_info){ .argsz = 16, .num_regions = 9, .num_irqs = 65 };
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_GET_INFO));
    fake_reply(f, &info, sizeof info, NULL, 0);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_GET_INFO));
    fake_reply(f, &info, 12, NULL, 0);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_GET_IRQ_INFO));
    fake_reply(f, &irq, sizeof irq, NULL, 0);
    irq.index = 2;
    irq.count = 5000;
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_GET_IRQ_INFO));
    fake_reply(f, &irq, sizeof irq, NULL, 0);
    FAKE_CHECK(f, !fake_take(f));
}

static void test_device_info(void **state)
{
    (void)state;
    struct vfio_user_device_info info;
    struct vfio_irq_info irq;
    struct ob_client *c = start(script_device_info, NULL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ob_client_device_info(c, &info), -EBADMSG);
    for (int i = 0; i < 2; i++)
        assert_int_equal(ob_client_irq_info(c, 2, &irq), -EBADMSG);
    fake_stop(&fake, c);
}

/* ---- Other replies ----------------------------------------------------------------------- */

static void script_others(struct fake *f)
{
    uint64_t count = 1;
    struct vfio_user_device_feature feature = { .argsz = 8, .flags = 7 };
    struct vfio_user_mig_data data[2] = { { .argsz = 16, .size = 8 }, { ~0u, ~0u } };

    FAKE_CHECK(f, fake_version(f, "\"write_multiple\":true"));
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_REGION_WRITE_MULTI));
    fake_reply(f, &count, sizeof count, NULL, 0);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_FEATURE));
    fake_reply(f, &feature, sizeof feature, NULL, 0);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_FEATURE));
    fake_reply(f, &feature, 7, NULL, 0);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_MIG_DATA_READ));
    fake_reply(f, data, 16, NULL, 0);
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_MIG_DATA_READ));
    fake_reply(f, data, 15, NULL, 0);
    FAKE_CHECK(f, !fake_take(f));
}

static void test_others(void **state)
{
    (void)state;
    struct vfio_user_write w[2] = { { .count = 1 }, { .count = 1 } };
    uint64_t v = 0x1122334455667788;
    struct ob_client *c = start(script_others, NULL);
    assert_int_equal(ob_client_write_multi(c, w, 2, false), -EIO);
    assert_int_equal(ob_client_device_feature(c, VFIO_DEVICE_FEATURE_GET | 1, &v, 0, 8, NULL),
                     -EBADMSG);
    assert_int_equal(ob_client_device_feature(c, VFIO_DEVICE_FEATURE_GET | 1, &v, 0, 8, NULL),
                     -EBADMSG);
    assert_int_equal(ob_client_device_feature(c, VFIO_DEVICE_FEATURE_GET | 1, &v, 0, 70000, NULL),
                     -EINVAL);
    uint32_t small[2] = { 0 };
    assert_int_equal(ob_client_mig_data_read(c, small, 4), -EBADMSG); /* 8 bytes come */
    assert_int_equal(small[1], 0);
    assert_int_equal(ob_client_mig_data_read(c, &v, 8), -EBADMSG);
    fake_stop(&fake, c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version),     cmocka_unit_test(test_version_refused),
        cmocka_unit_test(test_reply),       cmocka_unit_test(test_unasked),
        cmocka_unit_test(test_vanish),      cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_late),        cmocka_unit_test(test_never),
        cmocka_unit_test(test_device_info), cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

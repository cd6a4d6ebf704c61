/*
 * test_client_io_fds.c - what a server may say about descriptors that stand for writes.
 */
#include "fake_server.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE 0x1000u /* of the region */
#define EVENT VFIO_USER_IO_FD_TYPE_IOEVENTFD
#define REGION VFIO_USER_IO_FD_TYPE_IOREGIONFD
#define MATCH VFIO_USER_IOEVENTFD_DATAMATCH
#define PORT VFIO_USER_IOEVENTFD_PIO
#define LOOSE UINT64_C(0xfedcba9876543210) /* user_data is the server's own, and any value */

/* One reply: what is odd about it, sub-regions of which the first is this one, and descriptors. */
struct reply {
    const char *what;
    int result;
    struct vfio_user_sub_region sub;
    uint32_t count;
    unsigned fds;
    uint32_t entry;  /* bytes of one in the reply */
    uint32_t index;
    uint32_t argsz;  /* 0: what there is */
    bool file;       /* the descriptors are no eventfds */
};

static struct fake fake;

static void answer(struct fake *f, const struct reply *r)
{
    static uint8_t body[8192];
    struct vfio_user_region_io_fds info, asked;
    int fds[16];

    memcpy(&asked, f->m.body, sizeof asked);
    FAKE_CHECK(f, f->m.size == sizeof asked && asked.flags == 0 && asked.count == 0 && asked.index == 2);
    memset(body, 0, sizeof body);
    size_t size = sizeof info + (size_t)r->count * r->entry;
    info = (struct vfio_user_region_io_fds){ .argsz = r->argsz ? r->argsz : (uint32_t)size,
                                             .index = r->index, .count = r->count };
    if (info.argsz > asked.argsz) { /* the client must ask again */
        info.count = 0;
        size = sizeof info;
    }
    memcpy(body, &info, sizeof info);
    for (uint32_t i = 0; i < info.count; i++)
        memcpy(body + sizeof info + i * r->entry, &r->sub, r->entry < sizeof r->sub ? r->entry : sizeof r->sub);
    for (unsigned i = 0; i < r->fds; i++)
        fds[i] = r->file ? open("/dev/null", O_RDWR | O_CLOEXEC) : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fake_reply(f, body, size, fds, info.count || r->count == 0 ? r->fds : 0);
    for (unsigned i = 0; i < r->fds; i++)
        close(fds[i]);
}

static void script(struct fake *f)
{
    struct vfio_region_info info = { .argsz = sizeof info, .index = 2, .size = SIZE, .flags = 3 };

    FAKE_CHECK(f, fake_version(f, NULL));
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_GET_REGION_INFO));
    fake_reply(f, &info, sizeof info, NULL, 0);
    while (fake_take(f)) {
        if (f->m.h.command == VFIO_USER_DEVICE_GET_REGION_IO_FDS)
            answer(f, f->data);
        else
            fake_device(f);
    }
}

static int ask(const struct reply *r, struct ob_client **c, struct ob_io_fds **fds)
{
    int result;
    *c = ob_client_new();
    fake_start(&fake, script, (void *)(uintptr_t)r, *c, &result);
    assert_int_equal(result, 0);
    return ob_client_io_fds(*c, 2, fds);
}

#define SUB(...) { __VA_ARGS__ }
static const struct vfio_user_sub_region plain = { .offset = 8, .size = 4, .type = EVENT };

static void test_replies(void **state)
{
    struct ob_client *c;
    struct ob_io_fds *fds;
    const struct reply replies[] = {
        { "one", 0, plain, 1, 1, 40, 2, 0, false },
        { "none", 0, plain, 0, 0, 40, 2, 0, false },
        { "16 with one descriptor", 0, plain, 16, 1, 40, 2, 0, false },
        { "more than the first reply holds", 0, plain, 100, 1, 40, 2, 0, false },
        { "longer entries", 0, plain, 3, 1, 64, 2, 0, false },
        { "any size", 0, SUB(.offset = 8, .type = EVENT), 1, 1, 40, 2, 0, false },
        { "a value and a port", 0,
          SUB(.offset = 8, .size = 2, .type = EVENT, .flags = MATCH | PORT, .datamatch = 77), 1, 1,
          40, 2, 0, false },
        { "flags of KVM's", 0, SUB(.offset = 8, .size = 4, .type = EVENT, .flags = 8), 1, 1, 40, 2,
          0, false },
        { "an ioregionfd", 0,
          SUB(.offset = 0, .size = SIZE, .type = REGION, .flags = 3, .datamatch = LOOSE), 1, 1, 40,
          2, 0, true },
        { "another region", -EBADMSG, plain, 1, 1, 40, 3, 0, false },
        { "no descriptor", -EBADMSG, plain, 1, 0, 40, 2, 0, false },
        { "descriptors of nothing", -EBADMSG, plain, 0, 2, 40, 2, 0, false },
        { "an index beyond", -EBADMSG, SUB(.size = 4, .fd_index = 1), 1, 1, 40, 2, 0, false },
        { "no eventfd", -EBADMSG, plain, 1, 1, 40, 2, 0, true },
        { "outside", -EBADMSG, SUB(.offset = SIZE, .size = 1), 1, 1, 40, 2, 0, false },
        { "half outside", -EBADMSG, SUB(.offset = SIZE - 2, .size = 4), 1, 1, 40, 2, 0, false },
        { "wraps", -EBADMSG, SUB(.offset = UINT64_MAX - 1, .size = 4), 1, 1, 40, 2, 0, false },
        { "size 3", -EBADMSG, SUB(.offset = 0, .size = 3), 1, 1, 40, 2, 0, false },
        { "size 16", -EBADMSG, SUB(.offset = 0, .size = 16), 1, 1, 40, 2, 0, false },
        { "a value of any size", -EBADMSG, SUB(.flags = MATCH), 1, 1, 40, 2, 0, false },
        { "an unknown type", -EBADMSG, SUB(.size = 4, .type = 2), 1, 1, 40, 2, 0, false },
        { "short entries", -EBADMSG, plain, 2, 1, 39, 2, 0, false },
        { "never enough", -EBADMSG, plain, 1, 1, 40, 2, 1 << 20, false },
    };
    (void)state;

    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        const struct reply *r = &replies[i];
        int ret = ask(r, &c, &fds);
        if (ret != r->result || !fds != (ret < 0))
            fail_msg("%s: %d, not %d", r->what, ret, r->result);
        if (fds)
            assert_true(fds->count == r->count && fds->region == 2);
        for (uint32_t k = 0; fds && k < fds->count; k++) {
            const struct ob_sub_region *got = &fds->sub[k];
            assert_true(got->offset == r->sub.offset && got->size == r->sub.size);
            assert_true(got->type == r->sub.type && got->flags == r->sub.flags);
            assert_true(got->value == r->sub.datamatch);
            assert_true(got->fd >= 0 && fcntl(got->fd, F_GETFD) >= 0);
        }
        ob_io_fds_free(fds);
        fake_stop(&fake, c);
    }
}

static void test_signal(void **state)
{
    struct ob_client *c;
    struct ob_io_fds *fds;
    struct reply r = { "", 0, SUB(.offset = 8, .size = 2, .type = EVENT, .flags = MATCH, .datamatch = 0x201),
                       1, 1, 40, 2, 0, false };
    uint64_t n;
    (void)state;

    assert_int_equal(ask(&r, &c, &fds), 0);
    assert_true(ob_io_fds_signal(fds, 8, "\1\2", 2));
    assert_int_equal(read(fds->sub[0].fd, &n, sizeof n), 8);
    assert_false(ob_io_fds_signal(fds, 8, "\1\3", 2));
    assert_false(ob_io_fds_signal(fds, 8, "\1\2\0\0", 4));
    assert_false(ob_io_fds_signal(fds, 8, "\1", 1));
    assert_false(ob_io_fds_signal(fds, 7, "\1\2", 2));
    n = UINT64_MAX - 1;
    assert_int_equal(write(fds->sub[0].fd, &n, sizeof n), 8);
    assert_false(ob_io_fds_signal(fds, 8, "\1\2", 2)); /* its counter is full */
    ob_io_fds_free(fds);
    fake_stop(&fake, c);

    r.sub = (struct vfio_user_sub_region){ .offset = 8, .type = EVENT };
    assert_int_equal(ask(&r, &c, &fds), 0);
    assert_true(ob_io_fds_signal(fds, 8, "\1\2", 2));
    assert_true(ob_io_fds_signal(fds, 8, "12345678", 8));
    assert_false(ob_io_fds_signal(fds, 8, "123456789", 9));
    ob_io_fds_free(fds);
    fake_stop(&fake, c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replies),
        cmocka_unit_test(test_signal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

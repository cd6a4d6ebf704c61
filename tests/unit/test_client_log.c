/*
 * test_client_log.c - the client and the log of dirty pages of a server that lies about it.
 */
#include "fake_server.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define PAGE 4096u

static struct fake fake;

/* What a feature's reply has behind its head. */
struct feature_reply {
    uint64_t words[8];
    size_t n; /* bytes of it */
};

static void script_feature(struct fake *f)
{
    const struct feature_reply *r = f->data;
    struct {
        struct vfio_user_device_feature head;
        uint64_t words[8];
    } body;

    if (!fake_version(f, NULL))
        return;
    FAKE_CHECK(f, fake_expect(f, VFIO_USER_DEVICE_FEATURE));
    memcpy(&body.head, f->m.body, sizeof body.head);
    memcpy(body.words, r->words, sizeof body.words);
    body.head.argsz = (uint32_t)(sizeof body.head + r->n);
    fake_reply(f, &body, body.head.argsz, NULL, 0);
    fake_take(f);
}

static struct ob_client *start(const struct feature_reply *r)
{
    int result;
    struct ob_client *c = ob_client_new();
    assert_non_null(c);
    fake_start(&fake, script_feature, (void *)(uintptr_t)r, c, &result);
    assert_int_equal(result, 0);
    return c;
}

static void start_log(uint64_t server, int expected, uint64_t page_size)
{
    const struct feature_reply r = { { server }, 16 };
    uint64_t ours = PAGE;
    struct ob_client *c = start(&r);
    assert_int_equal(ob_client_dirty_start(c, &ours, NULL, 0), expected);
    assert_int_equal(ours, page_size);
    fake_stop(&fake, c);
}

/* Who asked divides by it. */
static void test_page_size(void **state)
{
    (void)state;
    start_log(2 * PAGE, 0, 2 * PAGE);
    start_log(0, -EBADMSG, PAGE);
    start_log(3, -EBADMSG, PAGE);
    start_log(UINT64_MAX, -EBADMSG, PAGE);
}

static void report(struct feature_reply r, int expected, uint64_t bits)
{
    uint64_t bitmap = 1;
    struct ob_client *c = start(&r);
    assert_int_equal(ob_client_dirty_report(c, 0x10000, 64 * PAGE, PAGE, &bitmap), expected);
    assert_int_equal(bitmap, bits);
    fake_stop(&fake, c);
}

static void test_report(void **state)
{
    (void)state;
    report((struct feature_reply){ { 0x10000, 64 * PAGE, PAGE, 6 }, 32 }, 0, 7);
    report((struct feature_reply){ { 0x20000, 64 * PAGE, PAGE, 6 }, 32 }, -EBADMSG, 1);
    report((struct feature_reply){ { 0x10000, 32 * PAGE, PAGE, 6 }, 32 }, -EBADMSG, 1);
    report((struct feature_reply){ { 0x10000, 64 * PAGE, 2 * PAGE, 6 }, 32 }, -EBADMSG, 1);
    report((struct feature_reply){ { 0x10000, 64 * PAGE, PAGE, 6 }, 24 }, -EBADMSG, 1);
    report((struct feature_reply){ { 0x10000, 64 * PAGE, PAGE, 6 }, 40 }, -ENOSPC, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_size),
        cmocka_unit_test(test_report),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_held.c - the descriptors that a keeper holds: by name, in order, and only so many.
 */
#include "keeper/held.h"
#include "keeper/protocol.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

static int new_fd(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void test_names(void **state)
{
    struct held_table t = { 0 };
    const uint32_t names[] = { 500, 7, UINT32_MAX, 8, 1 }, order[] = { 1, 7, 8, 500, UINT32_MAX, 0 };
    int fd[5];
    (void)state;

    for (unsigned i = 0; i < 5; i++) {
        fd[i] = new_fd();
        assert_int_equal(held_put(&t, names[i], fd[i], 5), 0);
    }
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(held_get(&t, names[i]), fd[i]);
    for (uint32_t i = 0, name = 0; i < 6; i++) {
        name = held_next(&t, name);
        assert_int_equal(name, order[i]);
    }
    held_drop(&t, 8);
    held_drop(&t, 9);
    assert_false(is_open(fd[3]));
    assert_int_equal(held_get(&t, 8), -1);
    assert_int_equal(t.count, 4);
    held_drop_all(&t);
    for (unsigned i = 0; i < 5; i++)
        assert_false(is_open(fd[i]));
}

/* The one that was there goes, and so does the one that there is no place for. */
static void test_whatever_is_not_held_is_closed(void **state)
{
    struct held_table t = { 0 };
    int first = new_fd(), second = new_fd(), third = new_fd();
    (void)state;

    assert_int_equal(held_put(&t, 1, first, 1), 0);
    assert_int_equal(held_put(&t, 1, second, 1), 0);
    assert_false(is_open(first));
    assert_int_equal(held_put(&t, 2, third, 1), -ENOSPC);
    assert_false(is_open(third));
    assert_true(is_open(second));
    held_drop_all(&t);
}

/* A process may seldom have so many: these are numbers that are no descriptors. */
static void test_so_many_and_no_more(void **state)
{
    struct held_table t = { 0 };
    (void)state;

    for (uint32_t i = 0; i < KEEPER_MAX_HELD; i++)
        assert_int_equal(held_put(&t, i + 1, -2 - (int)i, KEEPER_MAX_HELD), 0);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(held_put(&t, KEEPER_MAX_HELD + 1 + i, -2, KEEPER_MAX_HELD), -ENOSPC);
    assert_int_equal(t.count, KEEPER_MAX_HELD);
    held_drop(&t, 4711);
    assert_int_equal(held_put(&t, KEEPER_MAX_HELD + 1, -2, KEEPER_MAX_HELD), 0);
    assert_int_equal(held_put(&t, 4711, -2, KEEPER_MAX_HELD), -ENOSPC);
    assert_int_equal(held_get(&t, 4712), -2 - 4711);
    held_drop_all(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_whatever_is_not_held_is_closed),
        cmocka_unit_test(test_so_many_and_no_more),
    };
    return cmocka_run_group_tests_name("held", tests, NULL, NULL);
}

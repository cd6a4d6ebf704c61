/*
 * test_block.c - a block of another version, or a damaged one, is not taken over.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "state/block.h"
#include "state/step.h"

#define PARTS 3
static const struct block_part parts[PARTS] = { { "first", 0, 100 },
                                                { "second", 0, 5000 },
                                                { "third", 0, 0 } };
static struct block made;

static int make(void **state)
{
    (void)state;
    return block_create(&made, parts, PARTS);
}

static int drop(void **state)
{
    (void)state;
    block_close(&made);
    return 0;
}

/* Its descriptor stays the caller's. */
static int opens(const struct block_part *as, unsigned n)
{
    struct block b;
    int fd = dup(made.fd);

    assert_true(fd >= 0);
    int ret = block_open(&b, fd, as, n);
    if (ret == 0) {
        block_close(&b);
        return 0;
    }
    assert_null(b.h);
    assert_int_equal(close(fd), 0);
    return ret;
}

static void test_it_is_taken_over(void **state)
{
    (void)state;
    memcpy(block_part(&made, 1), "what is in it", 14);
    made.h->word = 12345; /* steps were made */
    struct block b;
    assert_int_equal(block_open(&b, dup(made.fd), parts, PARTS), 0);
    assert_string_equal(block_part(&b, 1), "what is in it");
    assert_int_equal(b.h->word, 12345);
    block_close(&b);
}

/* Magic, layout, count, size, and of each part its name, place and size. */
static void test_every_byte_of_the_header(void **state)
{
    uint8_t *h = (uint8_t *)made.h;

    (void)state;
    for (size_t i = 0; i < offsetof(struct block_header, word); i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            h[i] ^= (uint8_t)(1u << bit);
            assert_int_equal(opens(parts, PARTS), -EPROTO);
            h[i] ^= (uint8_t)(1u << bit);
        }
    assert_int_equal(opens(parts, PARTS), 0);
}

static void test_another_layout(void **state)
{
    static const struct block_part
        larger[] = { { "first", 0, 100 }, { "second", 0, 9000 }, { "third", 0, 0 } },
        longer[] = { { "first", 0, 101 }, { "second", 0, 5000 }, { "third", 0, 0 } },
        renamed[] = { { "first", 0, 100 }, { "2nd", 0, 5000 }, { "third", 0, 0 } },
        swapped[] = { { "second", 0, 5000 }, { "first", 0, 100 }, { "third", 0, 0 } },
        empty[BLOCK_MAX_PARTS + 1];

    (void)state;
    assert_int_equal(opens(larger, PARTS), -EPROTO);
    assert_int_equal(opens(longer, PARTS), -EPROTO);
    assert_int_equal(opens(renamed, PARTS), -EPROTO);
    assert_int_equal(opens(swapped, PARTS), -EPROTO);
    assert_int_equal(opens(parts, PARTS - 1), -EPROTO);
    struct block b;
    assert_int_equal(block_open(&b, made.fd, empty, BLOCK_MAX_PARTS + 1), -EINVAL);
    assert_int_equal(block_create(&b, empty, BLOCK_MAX_PARTS + 1), -EINVAL);
}

static void test_another_size(void **state)
{
    off_t size = lseek(made.fd, 0, SEEK_END);

    (void)state;
    for (int i = 0; i < 4; i++) {
        static const off_t sizes[] = { 0, 1, 4096, 8192 };
        assert_int_equal(ftruncate(made.fd, sizes[i]), 0);
        assert_int_equal(opens(parts, PARTS), -EPROTO);
    }
    assert_int_equal(ftruncate(made.fd, size + 4096), 0);
    assert_int_equal(opens(parts, PARTS), -EPROTO);
    assert_int_equal(ftruncate(made.fd, size), 0); /* all zeros */
    assert_int_equal(opens(parts, PARTS), -EPROTO);
}

static void test_other_files(void **state)
{
    struct block b;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    (void)state;
    assert_int_equal(block_open(&b, fd, parts, PARTS), -EPROTO);
    close(fd);
    assert_int_equal(block_open(&b, fd, parts, PARTS), -EBADF);
    fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    assert_int_equal(block_open(&b, fd, parts, PARTS), -EPROTO);
    close(fd);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make, drop)
    const struct CMUnitTest tests[] = { CASE(test_it_is_taken_over),
                                        CASE(test_every_byte_of_the_header),
                                        CASE(test_another_layout), CASE(test_another_size),
                                        CASE(test_other_files) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}

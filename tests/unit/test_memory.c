/* test_memory.c - regions, files, ranges, and clients that truncate what they share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "memory/index.h"
#include "memory/memory.h"
#include "memory_helpers.h"

static void test_new(void **state)
{
    (void)state;
    errno = 0;
    assert_null(memory_new(0, 1));
    assert_int_equal(errno, EINVAL);
    assert_null(memory_new(MEMORY_INDEX_MAX + 1, 1));
    memory_free(NULL);
    struct memory *m = memory_new(1, 0);
    assert_non_null(m);
    uint32_t number = 0;
    assert_int_equal(memory_file_add(m, make_file(1), &number), -EINVAL);
    assert_int_equal(memory_map(m, 0, &(struct memory_region){ 0, 1, 0, MEMORY_NO_FILE, RW }), 0);
    assert_int_equal(memory_count(m), 1);
    memory_free(m);
}

static void test_files_refused(void **state)
{
    (void)state;
    struct memory *m = memory_new(8, 8);
    uint32_t number = 0;
    int two[2];
    assert_int_equal(memory_file_add(m, -1, &number), -EBADF);
    assert_int_equal(memory_file_add(m, open("/", O_RDONLY | O_DIRECTORY), &number), -EINVAL);
    assert_int_equal(memory_file_add(m, open("/dev/zero", O_RDWR), &number), -EINVAL);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, two), 0);
    assert_int_equal(memory_file_add(m, two[0], &number), -EINVAL);
    assert_int_equal(memory_file_add(m, two[1], &number), -EINVAL);
    assert_int_equal(pipe(two), 0);
    assert_int_equal(memory_file_add(m, two[0], &number), -EINVAL);
    assert_int_equal(memory_file_add(m, two[1], &number), -EINVAL);

    int fd = make_file(1);
    assert_int_equal(memory_file_add(m, reopen(fd, O_PATH), &number), -EINVAL);
    assert_int_equal(memory_file_add(m, reopen(fd, O_WRONLY), &number), -EINVAL);
    number = 8;
    assert_int_equal(memory_file_add(m, dup(fd), &number), -EINVAL);
    number = 3;
    assert_int_equal(memory_file_add(m, fd, &number), 1);
    assert_int_equal(memory_file_add(m, make_file(1), &number), -EINVAL);
    memory_free(m);
}

static void test_files_shared(void **state)
{
    (void)state;
    struct memory *m = memory_new(8, 8);
    int fd = make_file(4);
    int before = descriptors();
    uint32_t number = 5, gone;
    assert_int_equal(memory_file_add(m, dup(fd), &number), 1);
    assert_int_equal(number, 5);
    number = 6;
    assert_int_equal(memory_file_add(m, reopen(fd, O_RDWR), &number), 0);
    assert_int_equal(number, 5);
    assert_int_equal(descriptors(), before + 1);
    number = 6;
    assert_int_equal(memory_file_add(m, reopen(fd, O_RDONLY), &number), 1);
    assert_int_equal(number, 6);
    assert_true(memory_file_fd(m, 5) >= 0 && memory_file_fd(m, 6) >= 0);
    assert_int_equal(memory_file_fd(m, 7), -1);
    assert_int_equal(memory_file_fd(m, MEMORY_NO_FILE), -1);

    assert_int_equal(memory_map(m, 0, &(struct memory_region){ 0, PAGE, 0, 6, RW }), -EACCES);
    assert_int_equal(memory_map(m, 0, &(struct memory_region){ 0, PAGE, 0, 6, MEMORY_READ }), 0);
    assert_int_equal(memory_map(m, 1, &(struct memory_region){ PAGE, PAGE, PAGE, 5, RW }), 0);
    assert_int_equal(memory_map(m, 2, &(struct memory_region){ 8 * PAGE, PAGE, 0, 5, RW }), 0);
    assert_int_equal(mappings(), 2);

    /* A file goes with the last of its regions, or when it is dropped before the first. */
    memory_file_drop(m, 5);
    assert_int_equal(memory_unmap(m, PAGE, PAGE, &gone), 1);
    assert_int_equal(gone, MEMORY_NO_FILE);
    assert_int_equal(memory_unmap(m, 8 * PAGE, PAGE, &gone), 2);
    assert_int_equal(gone, 5);
    assert_int_equal(memory_file_fd(m, 5), -1);
    assert_int_equal(mappings(), 1);
    memory_unmap_all(m);
    assert_int_equal(memory_file_fd(m, 6), -1);
    assert_int_equal(memory_file_add(m, dup(fd), &number), 1);
    memory_file_drop(m, number);
    memory_file_drop(m, number);
    memory_file_drop(m, MEMORY_NO_FILE);
    assert_int_equal(descriptors(), before);
    memory_free(m);
    close(fd);
}

/* Two ways to open a file are two files, also where the table has them side by side. */
static void test_files_modes(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct memory *m = memory_new(2, 2);
        int fd = make_file(1);
        uint32_t write = 0, read = 1;
        assert_int_equal(memory_file_add(m, dup(fd), &write), 1);
        assert_int_equal(memory_file_add(m, reopen(fd, O_RDONLY), &read), 1);
        memory_free(m);
        close(fd);
    }
}

/* Every number and every order of removal keeps the chains of the files' table whole. */
static void test_files_many(void **state)
{
    (void)state;
    enum { FILES = 100 };
    struct memory *m = memory_new(FILES, FILES);
    int fd[FILES];
    for (uint32_t i = 0; i < FILES; i++) {
        fd[i] = make_file(1);
        uint32_t number = FILES - 1 - i;
        assert_int_equal(memory_file_add(m, dup(fd[i]), &number), 1);
    }
    for (uint32_t i = 0; i < FILES; i += 3)
        memory_file_drop(m, FILES - 1 - i);
    for (uint32_t i = 0; i < FILES; i++) {
        uint32_t number = FILES - 1 - i;
        assert_int_equal(memory_file_add(m, fd[i], &number), i % 3 == 0);
        assert_int_equal(number, FILES - 1 - i);
    }
    memory_free(m);
}

static void test_map_refused(void **state)
{
    (void)state;
    struct memory *m = memory_new(8, 8);
    int fd = make_file(4);
    uint32_t number = 0;
    const uint32_t none = MEMORY_NO_FILE;
    assert_int_equal(memory_file_add(m, dup(fd), &number), 1);
    assert_int_equal(memory_map(m, 0, &(struct memory_region){ 0x10000, 0x1000, 0, none, RW }), 0);

    const struct {
        uint32_t id;
        int error;
        struct memory_region r;
    } bad[] = {
        { 1, -EINVAL, { 0x1000, 0, 0, none, RW } },
        { 1, -EINVAL, { 0x1000, 0x1000, 0, none, 4 } },
        { 1, -EINVAL, { 0x1000, 0x1000, 0, 1, RW } },
        { 1, -EINVAL, { 0x1000, 0x1000, 0, 8, RW } },
        { 0, -EINVAL, { 0x1000, 0x1000, 0, none, RW } },
        { 8, -EINVAL, { 0x1000, 0x1000, 0, none, RW } },
        { UINT32_MAX, -EINVAL, { 0x1000, 0x1000, 0, none, RW } },
        { 1, -EINVAL, { UINT64_MAX, 2, 0, none, RW } },
        { 1, -EINVAL, { 0x1000, UINT64_MAX - 0xffe, 0, none, RW } },
        { 1, -EINVAL, { UINT64_MAX, UINT64_MAX, 0, none, RW } },
        { 1, -EINVAL, { 0x1000, 0x1000, 1, 0, RW } },
        { 1, -EINVAL, { 0x1000, 4 * PAGE + 1, 0, 0, RW } },
        { 1, -EINVAL, { 0x1000, 1, 4 * PAGE, 0, RW } },
        { 1, -EINVAL, { 0x1000, PAGE, 0 - (uint64_t)PAGE, 0, RW } },
        { 1, -EINVAL, { 0x1000, PAGE, INT64_MAX & ~(PAGE - 1), 0, RW } },
        { 1, -EINVAL, { 0x100000, UINT64_MAX - 0x100000 - PAGE, 2 * PAGE, 0, RW } },
        { 1, -EEXIST, { 0x10000, 0x1000, 0, none, RW } },
        { 1, -EEXIST, { 0x10fff, 1, 0, none, RW } },
        { 1, -EEXIST, { 0xffff, 2, 0, none, RW } },
        { 1, -EEXIST, { 0, UINT64_MAX, 0, none, RW } },
        { 1, -EEXIST, { 0x10800, 0 - (uint64_t)0x10800, 0, none, RW } },
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_int_equal(memory_map(m, bad[i].id, &bad[i].r), bad[i].error);
    assert_int_equal(memory_count(m), 1);
    assert_int_equal(mappings(), 0);

    /* The file grows: what was beyond its end is not any more, and old pieces stay good. */
    struct memory_piece old;
    assert_int_equal(memory_map(m, 2, &(struct memory_region){ 0x20000, PAGE, 0, 0, RW }), 0);
    assert_int_equal(memory_translate(m, 0x20000, 1, RW, &old, 1), 1);
    struct memory_region late = { 0x30000, 2 * PAGE, 3 * PAGE, 0, RW };
    assert_int_equal(memory_map(m, 3, &late), -EINVAL);
    assert_int_equal(ftruncate(fd, 8 * PAGE), 0);
    assert_int_equal(memory_map(m, 3, &late), 0);
    assert_int_equal(mappings(), 2);
    assert_int_equal(memory_map(m, 4, &(struct memory_region){ 0x40000, PAGE, 0, 0, RW }), 0);
    assert_int_equal(mappings(), 2);
    assert_int_equal(memory_write(m, 0x40000, "x", 1), 0);
    assert_int_equal(*(char *)old.base, 'x');
    memory_free(m);
    close(fd);
}

static void test_sealed(void **state)
{
    (void)state;
    struct memory *m = memory_new(8, 8);
    int fd = make_file(2);
    uint32_t number = 0;
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    assert_int_equal(memory_file_add(m, dup(fd), &number), 1);
    assert_int_equal(memory_map(m, 0, &(struct memory_region){ 0, PAGE, 0, 0, RW }), -EACCES);
    assert_int_equal(memory_map(m, 0, &(struct memory_region){ 0, PAGE, 0, 0, MEMORY_READ }), 0);
    close(fd);

    fd = make_file(2); /* sealed when it is known already */
    number = 1;
    assert_int_equal(memory_file_add(m, dup(fd), &number), 1);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    assert_int_equal(memory_map(m, 1, &(struct memory_region){ PAGE, PAGE, 0, 1, RW }), -EACCES);
    assert_int_equal(memory_count(m), 1);
    memory_free(m);
    close(fd);
}

static void test_sparse_giant(void **state)
{
    (void)state;
    struct memory *m = memory_new(8, 8);
    int fd = make_file(0);
    uint32_t number = 0;
    /* More than the address space holds: only the region's own range can be mapped. */
    assert_int_equal(ftruncate(fd, (off_t)1 << 60), 0);
    assert_int_equal(memory_file_add(m, fd, &number), 1);
    struct memory_region r = { 0, 3 * PAGE, (uint64_t)1 << 50, 0, RW };
    assert_int_equal(memory_map(m, 0, &r), 0);
    assert_int_equal(memory_write(m, 3 * PAGE - 2, "ab", 2), 0);
    char back[2];
    assert_int_equal(pread(memory_file_fd(m, 0), back, 2, ((off_t)1 << 50) + 3 * PAGE - 2), 2);
    assert_memory_equal(back, "ab", 2);
    r = (struct memory_region){ PAGE * 16, (uint64_t)1 << 59, 0, 0, RW };
    /* However often that fails, nothing of it stays. */
    for (uint32_t i = 0; i < 70000; i++)
        assert_int_equal(memory_map(m, 1, &r), -ENOSPC);
    r.size = PAGE;
    assert_int_equal(memory_map(m, 1, &r), 0);
    memory_free(m);
}

static void test_translate(void **state)
{
    (void)state;
    struct memory *m = memory_new(16, 8);
    uint32_t number = 0;
    const uint64_t top = 0 - (uint64_t)PAGE;
    struct memory_piece p[4];
    uint32_t gone;

    assert_int_equal(memory_translate(m, 0, 1, 0, p, 4), -EFAULT);
    assert_int_equal(memory_translate(m, UINT64_MAX, 1, 0, p, 4), -EFAULT);
    assert_int_equal(memory_unmap(m, 0, 0, &gone), -ENOENT);

    assert_int_equal(memory_file_add(m, make_file(8), &number), 1);
    const struct memory_region regions[] = {
        { 0, PAGE, 3 * PAGE, 0, RW },
        { PAGE, 100, 0, MEMORY_NO_FILE, RW },
        { PAGE + 100, PAGE, 0, 0, MEMORY_READ },
        { 0x100000, PAGE, PAGE, 0, MEMORY_WRITE },
        { top, PAGE, 7 * PAGE, 0, RW },
        { 0x200000, PAGE, PAGE, 0, 0 },
    };
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(memory_map(m, i, &regions[i]), 0);

    assert_int_equal(memory_translate(m, 10, PAGE + 200, MEMORY_READ, p, 4), 3);
    uint8_t *zero = (uint8_t *)p[2].base; /* page 0 of the file */
    assert_ptr_equal(p[0].base, zero + 3 * PAGE + 10);
    assert_true(p[0].address == 10 && p[0].size == PAGE - 10 && p[0].id == 0);
    assert_null(p[1].base);
    assert_true(p[1].address == PAGE && p[1].size == 100 && p[1].id == 1);
    assert_true(p[2].address == PAGE + 100 && p[2].size == 110 && p[2].id == 2);
    assert_int_equal(memory_check(m, p, 3), 0);

    assert_int_equal(memory_translate(m, 10, PAGE + 200, MEMORY_READ, p, 2), -E2BIG);
    assert_int_equal(memory_translate(m, 10, 1, MEMORY_READ, p, 0), -E2BIG);
    assert_int_equal(memory_translate(m, 10, 0, MEMORY_READ, p, 4), 0);
    assert_int_equal(memory_translate(m, 10, PAGE + 200, MEMORY_WRITE, p, 4), -EFAULT);
    assert_int_equal(memory_translate(m, 2 * PAGE + 99, 2, MEMORY_READ, p, 4), -EFAULT);
    assert_int_equal(memory_translate(m, 0x100000, 1, MEMORY_WRITE, p, 4), 1);
    assert_int_equal(memory_translate(m, 0x100000, 1, RW, p, 4), -EFAULT);
    assert_int_equal(memory_translate(m, 0x200000, 1, 0, p, 4), 1);
    assert_int_equal(memory_translate(m, 0x200000, 1, MEMORY_READ, p, 4), -EFAULT);
    assert_int_equal(memory_translate(m, 0xfffff, 2, MEMORY_WRITE, p, 4), -EFAULT);

    assert_int_equal(memory_translate(m, UINT64_MAX, 1, RW, p, 4), 1);
    assert_ptr_equal(p[0].base, zero + 8 * PAGE - 1);
    assert_int_equal(memory_translate(m, top, PAGE, RW, p, 4), 1);
    /* Beyond 2^64 there is no way round to address 0. */
    assert_int_equal(memory_translate(m, top, PAGE + 1, RW, p, 4), -EFAULT);
    assert_int_equal(memory_translate(m, 10, UINT64_MAX, MEMORY_READ, p, 4), -EFAULT);

    assert_int_equal(memory_unmap(m, PAGE, 99, &gone), -ENOENT);
    assert_int_equal(memory_unmap(m, PAGE + 1, 99, &gone), -ENOENT);
    assert_int_equal(memory_unmap(m, PAGE, 100, &gone), 1);
    assert_int_equal(memory_translate(m, 10, PAGE + 200, MEMORY_READ, p, 4), -EFAULT);
    memory_free(m);
}

static void test_copy(void **state)
{
    (void)state;
    struct memory *m = memory_new(16, 8);
    uint32_t one = 0, two = 1;
    assert_int_equal(memory_file_add(m, make_file(2), &one), 1);
    assert_int_equal(memory_file_add(m, make_file(2), &two), 1);
    const struct memory_region regions[] = {
        { 0, PAGE, 0, 0, RW },
        { PAGE, PAGE, PAGE, 1, RW },
        { 2 * PAGE, PAGE, PAGE, 0, MEMORY_READ },
        { 3 * PAGE, PAGE, 0, MEMORY_NO_FILE, RW },
    };
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(memory_map(m, i, &regions[i]), 0);

    uint8_t out[2 * PAGE], in[2 * PAGE];
    for (size_t i = 0; i < sizeof(out); i++)
        out[i] = (uint8_t)draw();
    assert_int_equal(memory_write(m, 100, out, 2 * PAGE - 100), 0);
    assert_int_equal(memory_read(m, 100, in, 2 * PAGE - 100), 0);
    assert_memory_equal(in, out, 2 * PAGE - 100);
    assert_int_equal(pread(memory_file_fd(m, 1), in, PAGE, PAGE), PAGE);
    assert_memory_equal(in, out + PAGE - 100, PAGE);
    assert_int_equal(memory_read(m, 0, in, 0), 0);
    assert_int_equal(memory_write(m, UINT64_MAX, out, 0), 0);

    /* All or nothing: the first byte would be writable, and stays as it is. */
    uint8_t last = out[2 * PAGE - 101];
    uint8_t other[3] = { (uint8_t)~last, 1, 2 };
    assert_int_equal(memory_write(m, 2 * PAGE - 1, other, 2), -EFAULT);
    assert_int_equal(memory_read(m, 2 * PAGE - 1, in, 1), 0);
    assert_int_equal(in[0], last);
    assert_int_equal(memory_read(m, 3 * PAGE - 1, in, 2), -EREMOTE);
    assert_int_equal(memory_write(m, 3 * PAGE, out, 2), -EREMOTE);
    assert_int_equal(memory_read(m, 4 * PAGE - 1, in, 2), -EFAULT);
    assert_int_equal(memory_read(m, 5 * PAGE, in, 1), -EFAULT);
    assert_int_equal(memory_read(m, 4 * PAGE - 1, in, SIZE_MAX), -EFAULT);
    memory_free(m);
}

static void test_65535(void **state)
{
    (void)state;
    enum { N = 65535 };
    struct memory *m = memory_new(N, 4);
    int fd = make_file(N);
    int before = descriptors();
    uint32_t *order = calloc(N, sizeof(*order)), gone;
    assert_non_null(order);
    for (int round = 0; round < 3; round++) { /* ascending, descending, random */
        for (uint32_t i = 0; i < N; i++)
            order[i] = round == 1 ? N - 1 - i : i;
        for (uint32_t i = N; round == 2 && i > 1; i--) {
            uint32_t other = (uint32_t)(draw() % i), swap = order[other];
            order[other] = order[i - 1];
            order[i - 1] = swap;
        }
        for (uint32_t i = 0; i < N; i++) {
            uint32_t number = 0;
            assert_true(memory_file_add(m, dup(fd), &number) == (i == 0));
            struct memory_region r = { 2ull * order[i] * PAGE, PAGE, (uint64_t)order[i] * PAGE,
                                       number, RW };
            assert_int_equal(memory_map(m, order[i], &r), 0);
        }
        assert_int_equal(memory_count(m), N);
        assert_int_equal(mappings(), 1);
        assert_int_equal(descriptors(), before + 1);
        struct memory_piece first, p;
        assert_int_equal(memory_translate(m, 0, 1, RW, &first, 1), 1);
        for (uint32_t i = 0; i < N; i++) {
            uint64_t address = 2ull * i * PAGE;
            assert_int_equal(memory_translate(m, address + 7, PAGE - 7, RW, &p, 1), 1);
            assert_true(p.id == i && p.base == (uint8_t *)first.base + (size_t)i * PAGE + 7);
            assert_int_equal(memory_translate(m, address + PAGE, 1, RW, &p, 1), -EFAULT);
        }
        for (uint32_t i = 0; i < N; i++) {
            uint32_t id = round == 0 ? N - 1 - i : order[(i + N / 2) % N];
            assert_int_equal(memory_unmap(m, 2ull * id * PAGE, PAGE, &gone), id);
            assert_true((gone == 0) == (i == N - 1));
        }
        assert_int_equal(memory_count(m), 0);
        assert_int_equal(descriptors(), before);
    }
    free(order);
    memory_free(m);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_new),         TEST(test_files_refused), TEST(test_files_shared),
        TEST(test_files_modes), TEST(test_files_many),    TEST(test_map_refused),
        TEST(test_sealed),      TEST(test_sparse_giant),  TEST(test_translate),
        TEST(test_copy),        TEST(test_65535),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

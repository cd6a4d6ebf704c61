/* test_memory_lost.c - clients that truncate their files, and the kernel's limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "memory/mapping.h"
#include "memory/memory.h"
#include "memory_helpers.h"

/* A memory with one region of `pages` at address 0, backed by file number 0. */
static struct memory *one_region(int fd, uint32_t pages)
{
    struct memory *m = memory_new(70000, 8);
    uint32_t number = 0;
    assert_non_null(m);
    assert_int_equal(memory_file_add(m, dup(fd), &number), 1);
    struct memory_region r = { 0, (uint64_t)pages * PAGE, 0, 0, RW };
    assert_int_equal(memory_map(m, 0, &r), 0);
    return m;
}

/* cmocka installs its own handler at the start of each test: puts ours back. */
static void take_sigbus(void)
{
    static struct sigaction ours;
    if (!ours.sa_sigaction) {
        int fd = make_file(1);
        memory_free(one_region(fd, 1));
        close(fd);
        assert_int_equal(sigaction(SIGBUS, NULL, &ours), 0);
    }
    assert_int_equal(sigaction(SIGBUS, &ours, NULL), 0);
}

/* A page of this process, of no struct memory, that faults. */
static volatile char *lost_page(void)
{
    int fd = make_file(1);
    volatile char *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    close(fd);
    return p;
}

static void exit_42(int signal)
{
    _exit(signal == SIGBUS ? 42 : 1);
}

static void exit_43(int signal, siginfo_t *info, void *context)
{
    (void)context;
    _exit(signal == SIGBUS && info->si_addr ? 43 : 1);
}

/*
 * In a child, as the handler is installed once in a process: what becomes of a SIGBUS that is not
 * ours, with `before` as the action that was there first. Returns the status of the child.
 */
static int foreign_sigbus(const struct sigaction *before, bool sent)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        sigaction(SIGBUS, before, NULL);
        one_region(make_file(1), 1);
        if (sent)
            raise(SIGBUS);
        else
            *lost_page() = 1;
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void test_foreign_faults(void **state)
{
    (void)state;
    struct sigaction action = { .sa_handler = exit_42 };
    assert_int_equal(WEXITSTATUS(foreign_sigbus(&action, false)), 42);
    assert_int_equal(WEXITSTATUS(foreign_sigbus(&action, true)), 42);
    action = (struct sigaction){ .sa_sigaction = exit_43, .sa_flags = SA_SIGINFO };
    assert_int_equal(WEXITSTATUS(foreign_sigbus(&action, false)), 43);
    action = (struct sigaction){ .sa_handler = SIG_DFL };
    assert_int_equal(WTERMSIG(foreign_sigbus(&action, false)), SIGBUS);
    assert_int_equal(WTERMSIG(foreign_sigbus(&action, true)), SIGBUS);
    action = (struct sigaction){ .sa_handler = SIG_IGN };
    assert_int_equal(WTERMSIG(foreign_sigbus(&action, false)), SIGBUS);
    assert_int_equal(foreign_sigbus(&action, true), 0);
}

enum access { READ_COPY, WRITE_COPY, READ_POINTER, WRITE_POINTER };

/* Truncates the file to 2 pages below a region of 8, then accesses page 1 to 3 in the given way. */
static void lose(enum access how)
{
    int fd = make_file(8);
    struct memory *m = one_region(fd, 8);
    struct memory_piece p, elsewhere;
    uint8_t buf[2 * PAGE];
    uint32_t other = 1, gone;
    memset(buf, 7, sizeof(buf));
    assert_int_equal(memory_file_add(m, make_file(1), &other), 1);
    struct memory_region second = { 0x100000, PAGE, 0, other, RW };
    assert_int_equal(memory_map(m, 1, &second), 0);
    assert_int_equal(memory_translate(m, PAGE, sizeof(buf), RW, &p, 1), 1);
    assert_int_equal(memory_translate(m, 0x100000, PAGE, RW, &elsewhere, 1), 1);
    assert_int_equal(memory_write(m, 0, buf, sizeof(buf)), 0);

    assert_int_equal(ftruncate(fd, 2 * PAGE), 0);
    assert_int_equal(memory_check(m, &p, 1), 0); /* nobody has come across it yet */
    if (how == READ_COPY)
        assert_int_equal(memory_read(m, PAGE, buf, sizeof(buf)), -EFAULT);
    else if (how == WRITE_COPY)
        assert_int_equal(memory_write(m, PAGE, buf, sizeof(buf)), -EFAULT);
    else if (how == READ_POINTER)
        assert_int_equal(((volatile uint8_t *)p.base)[PAGE], 0);
    else
        memset(p.base, 9, p.size);
    assert_int_equal(memory_check(m, &p, 1), -EFAULT);
    assert_int_equal(memory_check(m, &elsewhere, 1), 0);
    assert_int_equal(memory_mappings_broken, 1);

    /* All of the file is lost, and nothing else. */
    assert_int_equal(memory_read(m, 0, buf, 1), -EFAULT);
    assert_int_equal(memory_write(m, 7 * PAGE, buf, 1), -EFAULT);
    assert_int_equal(memory_translate(m, 0, 1, 0, &p, 1), -EFAULT);
    assert_int_equal(memory_write(m, 0x100000, buf, PAGE), 0);
    uint8_t kept;
    assert_int_equal(pread(fd, &kept, 1, 0), 1);
    assert_int_equal(kept, 7);

    /* A region that comes later does not suffer from it. */
    assert_int_equal(ftruncate(fd, 8 * PAGE), 0);
    struct memory_region third = { 0x200000, 8 * PAGE, 0, 0, RW };
    assert_int_equal(memory_map(m, 2, &third), 0);
    assert_int_equal(memory_read(m, 0x200000, &kept, 1), 0);
    assert_int_equal(kept, 7);
    assert_int_equal(memory_read(m, 0, &kept, 1), -EFAULT);
    assert_int_equal(memory_unmap(m, 0, 8 * PAGE, &gone), 0);
    assert_int_equal(memory_mappings_broken, 0);
    assert_int_equal(memory_map(m, 0, &(struct memory_region){ 0, PAGE, 0, 0, RW }), 0);
    assert_int_equal(memory_read(m, 0, &kept, 1), 0);
    memory_free(m);
    close(fd);
}

static void test_truncated(void **state)
{
    (void)state;
    take_sigbus();
    for (enum access how = READ_COPY; how <= WRITE_POINTER; how++)
        lose(how);
}

/* What one client does to its file is nothing to another that maps the same one. */
static void test_truncated_in_the_middle(void **state)
{
    (void)state;
    take_sigbus();
    int fd = make_file(4);
    struct memory *one = one_region(fd, 4), *two = one_region(fd, 4);
    struct memory_piece p;
    uint8_t buf[4 * PAGE];
    uint32_t number = 1;
    assert_int_equal(memory_file_add(one, make_file(1), &number), 1);
    assert_int_equal(memory_map(one, 1, &(struct memory_region){ 4 * PAGE, PAGE, 0, 1, RW }), 0);
    assert_int_equal(ftruncate(fd, PAGE), 0);
    /* The range goes on behind the lost file: none of it may count as copied. */
    assert_int_equal(memory_read(one, PAGE, buf, sizeof(buf)), -EFAULT);
    assert_int_equal(memory_translate(two, 0, PAGE, RW, &p, 1), 1);
    assert_int_equal(memory_read(two, 0, buf, PAGE), 0);
    assert_int_equal(memory_read(two, PAGE, buf, 1), -EFAULT);
    assert_int_equal(memory_check(two, &p, 1), -EFAULT);
    assert_int_equal(memory_mappings_broken, 2);
    memory_free(one);
    memory_free(two);
    assert_int_equal(memory_mappings_broken, 0);
    close(fd);
}

static void test_huge_pages(void **state)
{
    (void)state;
    take_sigbus();
    const uint32_t huge = 2u << 20;
    int fd = memfd_create(NAME, MFD_CLOEXEC | MFD_HUGETLB | 21u << 26);
    if (fd < 0)
        skip();
    assert_int_equal(ftruncate(fd, 2 * huge), 0);
    struct memory *m = memory_new(4, 4);
    uint32_t number = 0;
    uint8_t byte = 1;
    assert_int_equal(memory_file_add(m, dup(fd), &number), 1);
    struct memory_region r = { 0, huge, PAGE, 0, RW };
    assert_int_equal(memory_map(m, 0, &r), 0);
    /* Without a page in the pool this is a SIGBUS already. */
    int error = memory_write(m, huge - 1, &byte, 1);
    assert_true(error == 0 || error == -EFAULT);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(memory_read(m, huge - 1, &byte, 1), -EFAULT);

    /* Too large to be mapped as a whole, and the region begins and ends inside huge pages. */
    assert_int_equal(ftruncate(fd, (off_t)1 << 60), 0);
    r = (struct memory_region){ 4ull * huge, huge, ((uint64_t)1 << 50) + PAGE, 0, RW };
    assert_int_equal(memory_map(m, 1, &r), 0);
    error = memory_read(m, 4ull * huge, &byte, 1);
    assert_true(error == 0 || error == -EFAULT);
    memory_free(m);
    close(fd);
}

/* ---- threads ------------------------------------------------------------------------------- */

static atomic_bool stop;

/* Maps and unmaps all the time, and is never disturbed by the faults of others. */
static void *come_and_go(void *result)
{
    int fd = memfd_create(NAME, MFD_CLOEXEC);
    uint8_t byte = 5;
    bool good = fd >= 0 && ftruncate(fd, 64 * PAGE) == 0;
    while (good && !atomic_load(&stop)) {
        struct memory *m = memory_new(64, 2);
        uint32_t number = 0;
        good = m && memory_file_add(m, dup(fd), &number) == 1;
        for (uint32_t i = 0; good && i < 64; i++) {
            struct memory_region r = { (uint64_t)i * 2 * PAGE, PAGE, (uint64_t)i * PAGE, 0, RW };
            good = memory_map(m, i, &r) == 0 && memory_write(m, r.address, &byte, 1) == 0;
            if (i % 2)
                memory_unmap_all(m), memory_file_add(m, dup(fd), &number);
        }
        memory_free(m);
    }
    close(fd);
    *(bool *)result = good;
    return NULL;
}

static void test_threads(void **state)
{
    (void)state;
    take_sigbus();
    enum { THREADS = 3 };
    pthread_t thread[THREADS];
    bool good[THREADS];
    atomic_store(&stop, false);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, come_and_go, &good[i]), 0);
    for (int i = 0; i < 2000; i++) {
        int fd = make_file(2);
        struct memory *m = one_region(fd, 2);
        uint8_t buf[2 * PAGE];
        assert_int_equal(memory_read(m, 0, buf, sizeof(buf)), 0);
        assert_int_equal(ftruncate(fd, PAGE), 0);
        assert_int_equal(memory_read(m, 0, buf, sizeof(buf)), -EFAULT);
        memory_free(m);
        close(fd);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        assert_true(good[i]);
    }
    assert_int_equal(memory_mappings_broken, 0);
}

/* ---- limits -------------------------------------------------------------------------------- */

/* A file that grows before each map needs a new mapping each time, until there is room for none. */
static void test_no_more_mappings(void **state)
{
    (void)state;
    take_sigbus();
    int fd = make_file(1);
    struct memory *m = one_region(fd, 1);
    uint32_t n = 1, gone;
    for (;; n++) {
        struct memory_region r = { (uint64_t)n * PAGE, PAGE, (uint64_t)n * PAGE, 0, RW };
        assert_int_equal(ftruncate(fd, (off_t)(n + 1) * PAGE), 0);
        int error = memory_map(m, n, &r);
        if (error) {
            assert_int_equal(error, -ENOSPC);
            break;
        }
        assert_true(n < MEMORY_MAPPINGS_MAX);
    }
    assert_int_equal(memory_count(m), n);
    /* The process goes on, also with what needs a mapping of another kind. */
    void *p = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(p, MAP_FAILED);
    munmap(p, PAGE);
    uint8_t byte = 1;
    assert_int_equal(memory_write(m, (uint64_t)(n - 1) * PAGE, &byte, 1), 0);
    assert_int_equal(memory_unmap(m, PAGE, PAGE, &gone), 1);
    struct memory_region again = { (uint64_t)n * PAGE, PAGE, (uint64_t)n * PAGE, 0, RW };
    assert_int_equal(memory_map(m, n, &again), 0);

    /* And a client that takes it all away harms itself alone, even here. */
    assert_int_equal(ftruncate(fd, 0), 0);
    for (uint32_t i = 2; i < n; i += 1009)
        assert_int_equal(memory_read(m, (uint64_t)i * PAGE, &byte, 1), -EFAULT);
    memory_unmap_all(m);
    assert_int_equal(memory_mappings_broken, 0);
    memory_free(m);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_foreign_faults), TEST(test_truncated),
        TEST(test_truncated_in_the_middle), TEST(test_huge_pages),
        TEST(test_threads), TEST(test_no_more_mappings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

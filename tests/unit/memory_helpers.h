/* memory_helpers.h - what the tests of the memory floor share. Include after <cmocka.h>. */
#ifndef UNIT_MEMORY_HELPERS_H
#define UNIT_MEMORY_HELPERS_H

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u
#define RW (MEMORY_READ | MEMORY_WRITE)
#define NAME "memory-test"

/* Each test leaves the process with as many descriptors and mappings of its files as it had. */
#define TEST(f) cmocka_unit_test_setup_teardown(f, remember, compare)

static uint64_t seed = 42;

static inline uint64_t draw(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed >> 8;
}

static inline int make_file(uint32_t pages)
{
    int fd = memfd_create(NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)pages * PAGE), 0);
    return fd;
}

static inline int reopen(int fd, int flags)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    return open(path, flags);
}

static inline int descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    int n = 0;
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static inline int mappings(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    assert_non_null(f);
    char line[512];
    int n = 0;
    while (fgets(line, sizeof(line), f))
        n += strstr(line, NAME) != NULL;
    fclose(f);
    return n;
}

static int descriptors_before, mappings_before;

static inline int remember(void **state)
{
    (void)state;
    descriptors_before = descriptors();
    mappings_before = mappings();
    return 0;
}

static inline int compare(void **state)
{
    (void)state;
    return descriptors() != descriptors_before || mappings() != mappings_before;
}

#endif

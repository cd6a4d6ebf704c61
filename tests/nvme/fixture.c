/*
 * fixture.c - see fixture.h.
 */
#include "fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct disk disk;
struct driver driver;
uint64_t fixture_size = 64 * MIB;
const char *fixture_args[9];

int fixture_serve(void **state)
{
    static char engine[64], doorbells[64];
    const char *args[11];
    unsigned n = 0;

    (void)state;
    for (; fixture_args[n]; n++)
        args[n] = fixture_args[n];
    if (getenv("NVME_ENGINE")) {
        snprintf(engine, sizeof engine, "engine=%s", getenv("NVME_ENGINE"));
        args[n++] = engine;
    }
    if (getenv("NVME_DOORBELLS")) {
        snprintf(doorbells, sizeof doorbells, "doorbells=%s", getenv("NVME_DOORBELLS"));
        args[n++] = doorbells;
    }
    args[n] = NULL;
    disk_serve(&disk, getenv("NVME_FOLDER"), fixture_size, args);
    return 0;
}

int fixture_end(void **state)
{
    (void)state;
    disk_end(&disk);
    return 0;
}

int fixture_connect(void **state)
{
    (void)state;
    driver_connect(&driver, disk.socket, 64 * MIB);
    driver_enable(&driver, 16);
    return driver_queue(&driver, 1, 64, -1);
}

int fixture_close(void **state)
{
    (void)state;
    driver_close(&driver);
    return 0;
}

void *page(void)
{
    return driver_alloc(&driver, 4096, 4096, NULL);
}

/* Neighbours in the device's memory, so that a list of them is easy to make. */
void *pages(unsigned n)
{
    return driver_alloc(&driver, n * 4096ull, 4096, NULL);
}

struct nvme_command rw(uint8_t opcode, const void *data, uint64_t lba, uint32_t blocks)
{
    struct nvme_command c = { .opcode = opcode, .nsid = 1, .cdw10 = (uint32_t)lba,
                              .cdw11 = (uint32_t)(lba >> 32), .cdw12 = blocks - 1 };
    uint32_t bytes = blocks * 512;

    if (!data)
        return c;
    c.prp1 = driver_address(&driver, data);
    uint64_t first = 4096 - c.prp1 % 4096;
    if (bytes > first && bytes - first <= 4096) {
        c.prp2 = c.prp1 + first;
    } else if (bytes > first) {
        uint64_t *list = pages((bytes / 4096 + 1 + 511) / 512);
        c.prp2 = driver_address(&driver, list);
        for (uint64_t at = first, i = 0; at < bytes; at += 4096, i++)
            list[i] = c.prp1 + at;
    }
    return c;
}

struct nvme_command identify_command(uint32_t cns, uint32_t nsid, void *data)
{
    return (struct nvme_command){ .opcode = ADMIN_IDENTIFY, .nsid = nsid, .cdw10 = cns,
                                  .prp1 = driver_address(&driver, data) };
}

struct nvme_command log_command(uint32_t id, uint32_t bytes, void *data)
{
    return (struct nvme_command){ .opcode = ADMIN_GET_LOG, .nsid = NSID_ALL,
                                  .cdw10 = id | (bytes / 4 - 1) << 16,
                                  .prp1 = driver_address(&driver, data) };
}

struct nvme_command feature_command(bool set, uint32_t id, uint32_t value)
{
    return (struct nvme_command){ .opcode = set ? ADMIN_SET_FEATURES : ADMIN_GET_FEATURES,
                                  .cdw10 = id, .cdw11 = value };
}

static uint8_t pattern(uint32_t seed, size_t i)
{
    uint32_t x = (uint32_t)(i / 4) * 2654435761u ^ seed * 40503u;
    return (uint8_t)(x >> (i % 4 * 8));
}

void fill(void *p, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)p)[i] = pattern(seed, i);
}

bool is_filled(const void *p, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++)
        if (((const uint8_t *)p)[i] != pattern(seed, i))
            return false;
    return true;
}

void file_read(uint64_t at, void *p, size_t n)
{
    int fd = open(disk.file, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, p, n, (off_t)at), (ssize_t)n);
    close(fd);
}

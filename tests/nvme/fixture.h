/*
 * fixture.h - a served disk for each file of tests, and a fresh controller for each test.
 *
 * The environment's NVME_ENGINE chooses what does the disk's I/O; without it the disk chooses.
 */
#ifndef NVME_FIXTURE_H
#define NVME_FIXTURE_H

#include "driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define MIB (1ull << 20)

extern struct disk disk;
extern struct driver driver;

/* Set before the tests run: size of the file in bytes, and up to 8 further arguments. */
extern uint64_t fixture_size;
extern const char *fixture_args[9];

int fixture_serve(void **state);   /* group setup */
int fixture_end(void **state);     /* group teardown */
int fixture_connect(void **state); /* setup: admin queues of 16 entries, I/O queue 1 of 64 */
int fixture_close(void **state);

/* A test with the setup and teardown above. */
#define NVME_TEST(f) cmocka_unit_test_setup_teardown(f, fixture_connect, fixture_close)

/* Commands of the first namespace; lba and blocks of 512 bytes. */
struct nvme_command rw(uint8_t opcode, const void *data, uint64_t lba, uint32_t blocks);
static inline uint16_t io(const struct nvme_command *c)
{
    return driver_do(&driver, 1, c, NULL);
}
static inline uint16_t admin(const struct nvme_command *c)
{
    return driver_do(&driver, 0, c, NULL);
}
struct nvme_command identify_command(uint32_t cns, uint32_t nsid, void *page);
struct nvme_command log_command(uint32_t page, uint32_t bytes, void *data);
struct nvme_command feature_command(bool set, uint32_t id, uint32_t value);

/* Memory for one page and for more, as the device's commands take them in PRP entries. */
void *page(void);
void *pages(unsigned n);

void fill(void *p, size_t n, uint32_t seed);
bool is_filled(const void *p, size_t n, uint32_t seed);
/* The file's bytes, by the host. */
void file_read(uint64_t at, void *p, size_t n);

static inline uint32_t get16(const uint8_t *p)
{
    return (uint32_t)(p[0] | p[1] << 8);
}
static inline uint32_t get32(const uint8_t *p)
{
    return get16(p) | get16(p + 2) << 16;
}
static inline uint64_t get64(const uint8_t *p)
{
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

#endif

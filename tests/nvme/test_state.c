/*
 * test_state.c - states that a disk is to load: of other disks, and made up.
 */
#include "two.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { CC = 0x14, CSTS = 0x1c };

/* ---- The stream's records ------------------------------------------------------------------------------ */

static uint64_t get(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v |= (uint64_t)p[i] << 8 * i;
    return v;
}

static uint32_t crc32c(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    for (; n; n--, p++) {
        crc ^= *p;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

static uint32_t random_number(uint64_t *random, uint32_t below)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*random >> 33) % below;
}

/* Changes some bytes of one value, and makes its checksum right. */
static void change(uint8_t *stream, size_t n, uint64_t *random)
{
    static const uint8_t telling[] = { 0, 1, 2, 0x7f, 0x80, 0xfe, 0xff };
    size_t record[256], records = 0;

    for (size_t at = 0; at + 20 <= n; at += 20 + (size_t)get(stream + at + 8, 8))
        if (get(stream + at + 4, 2) == 2 && records < 256)
            record[records++] = at;
    size_t at = record[random_number(random, (uint32_t)records)];
    size_t size = (size_t)get(stream + at + 8, 8);
    uint8_t *value = stream + at + 16 + 8, place[8];
    for (unsigned times = 1 + random_number(random, 4); times; times--) {
        uint32_t most = random_number(random, 2) && size - 8 > 64 ? 64 : (uint32_t)size - 8;
        value[random_number(random, most)] =
            random_number(random, 2) ? telling[random_number(random, sizeof telling)]
                                     : (uint8_t)random_number(random, 256);
    }
    for (unsigned i = 0; i < 8; i++)
        place[i] = (uint8_t)((uint64_t)at >> 8 * i);
    uint32_t crc = crc32c(crc32c(0, place, 8), stream + at, 16 + size);
    for (unsigned i = 0; i < 4; i++)
        stream[at + 16 + size + i] = (uint8_t)(crc >> 8 * i);
}

/* ---- What does not fit ------------------------------------------------------------------------------- */

static int loads(struct ob_client *c, const uint8_t *stream, size_t n)
{
    assert_int_equal(ob_client_reset(c), 0);
    assert_int_equal(ob_client_set_migration_state(c, VFIO_DEVICE_STATE_RESUMING), 0);
    int ret = ob_client_mig_data_write(c, stream, n);
    int stop = ob_client_set_migration_state(c, VFIO_DEVICE_STATE_STOP);
    if (ret < 0)
        assert_true(stop < 0);
    if (stop < 0)
        assert_int_equal(two_state(c), VFIO_DEVICE_STATE_ERROR);
    return ret < 0 ? ret : stop;
}

static void test_other_disks(void **state)
{
    static uint8_t stream[1 << 20];
    static const char *const different[] = { "lba=4096", "queues=4", "readonly=on" };
    (void)state;

    size_t n = two_save(driver.client, stream, sizeof stream);
    for (unsigned i = 0; i < sizeof different / sizeof *different; i++) {
        const char *args[] = { "incoming=on", different[i], NULL };
        struct disk d;
        two_serve_more(&d, "different", args);
        struct ob_client *to = two_connect(d.socket);
        assert_int_equal(loads(to, stream, n), -EINVAL);
        ob_client_free(to);
        two_end_more(&d);
    }
}

/* A move that the destination refuses leaves the source as it was, and says whose the error is. */
static void test_refused_move(void **state)
{
    static const char *const args[] = { "incoming=on", "queues=4", NULL };
    char why[OB_CLIENT_ERROR_SIZE];
    bool at_to = false;
    struct disk d;
    (void)state;

    two_serve_more(&d, "different", args);
    struct ob_client *to = two_connect(d.socket);
    assert_int_equal(ob_client_move(driver.client, to, NULL, NULL, &at_to), -EINVAL);
    assert_true(at_to);
    assert_non_null(strstr(ob_client_error(to, why, sizeof why), "VFIO_USER_DEVICE_FEATURE"));
    assert_int_equal(two_state(driver.client), VFIO_DEVICE_STATE_RUNNING);
    struct nvme_command c = rw(NVM_READ, pages(2), 0, 16);
    assert_int_equal(io(&c), 0);
    ob_client_free(to);
    two_end_more(&d);
}

/* A file that is shorter than what the guest was told. */
static void test_shorter_file(void **state)
{
    static uint8_t stream[1 << 20];
    struct ob_client *to = two_connect(other.socket);
    (void)state;

    size_t n = two_save(driver.client, stream, sizeof stream);
    assert_int_equal(loads(to, stream, n), 0);
    assert_int_equal(truncate(disk.file, (off_t)fixture_size - 512), 0);
    assert_int_equal(loads(to, stream, n), -EINVAL);
    assert_int_equal(truncate(disk.file, (off_t)fixture_size), 0);
    assert_int_equal(loads(to, stream, n), 0);
    ob_client_free(to);
}

/* Whatever is changed in a state, a controller that takes it must live through work, and end well. */
static void test_changed_states(void **state)
{
    static uint8_t stream[1 << 20], changed[1 << 20];
    struct ob_client *to = two_connect(other.socket), *from = driver.client;
    uint64_t random = 1;
    unsigned taken = 0;
    (void)state;

    size_t n = two_save(from, stream, sizeof stream);
    for (unsigned i = 0; i < 3000; i++) {
        memcpy(changed, stream, n);
        for (unsigned times = 1 + i % 2; times; times--)
            change(changed, n, &random);
        if (loads(to, changed, n) < 0)
            continue;
        taken++;
        if (ob_client_set_migration_state(to, VFIO_DEVICE_STATE_RUNNING) < 0)
            continue;
        uint32_t csts;
        assert_int_equal(ob_client_read(to, VFIO_PCI_BAR0_REGION_INDEX, REG_CSTS, &csts, 4), 0);
    }
    assert_true(taken > 10);
    print_message("# %u of the changed states were taken\n", taken);
    ob_client_free(to);
}

/* ---- The next client --------------------------------------------------------------------------------- */

/* It has the same memory. */
static void next_client(void)
{
    ob_client_free(driver.client);
    driver.client = two_connect(disk.socket);
    assert_int_equal(two_state(driver.client), VFIO_DEVICE_STATE_RUNNING);
}

/* The queues go on where they were. */
static void test_next_client_of_one_that_was_stopped(void **state)
{
    struct nvme_command c = rw(NVM_READ, pages(2), 0, 16);
    (void)state;

    for (int i = 0; i < 3; i++) {
        assert_int_equal(io(&c), 0);
        assert_int_equal(ob_client_set_migration_state(driver.client, VFIO_DEVICE_STATE_STOP), 0);
        next_client();
        assert_int_equal(driver_read32(&driver, CSTS), 1);
    }
    assert_int_equal(io(&c), 0);
}

/* It runs elsewhere, and has the file: here is a new one. */
static void test_next_client_of_one_that_moved(void **state)
{
    struct ob_client *to = two_connect(other.socket);
    (void)state;

    assert_int_equal(ob_client_reset(to), 0);
    assert_int_equal(ob_client_move(driver.client, to, NULL, NULL, NULL), 0);
    next_client();
    assert_int_equal(driver_read32(&driver, CC), 0);
    assert_int_equal(driver_read32(&driver, CSTS), 0);
    assert_int_equal(ob_client_reset(to), 0); /* lets go of the file */
    ob_client_free(to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NVME_TEST(test_other_disks),
        NVME_TEST(test_refused_move),
        NVME_TEST(test_shorter_file),
        NVME_TEST(test_changed_states),
        NVME_TEST(test_next_client_of_one_that_was_stopped),
        NVME_TEST(test_next_client_of_one_that_moved),
    };
    return cmocka_run_group_tests_name("nvme-state", tests, two_serve, two_end);
}

/*
 * test_backend.c - what becomes of commands when the file fails, fills up, or shrinks; when data counts as
 * written; several namespaces, and what options make of a disk. Each test serves a disk of its own.
 *
 * Failures and counts come from a library that is preloaded into the served process (shim.h), whose
 * name is in the environment's SHIM.
 */
#include "fixture.h"
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static struct shim *shim;
static char shim_file[] = "/tmp/outboard-shim-XXXXXX";

/* ---- Serving ---------------------------------------------------------------------------------------- */

static void preload(void)
{
    setenv("LD_PRELOAD", getenv("SHIM"), 1);
    setenv("SHIM_FILE", shim_file, 1);
}

static void limit_size(void)
{
    const struct rlimit limit = { 40 * MIB, 40 * MIB }; /* the block has some 32 */
    if (setrlimit(RLIMIT_FSIZE, &limit) < 0)
        _exit(1);
}

/* On a disk (not in memory, where nothing waits for a sync), with these words for the command line. */
static void begin(void (*child)(void), const char *const *args)
{
    memset(shim, 0, sizeof *shim);
    disk_child = child;
    disk_serve(&disk, "/tmp", 64 * MIB, args);
    disk_child = NULL;
    driver_connect(&driver, disk.socket, 64 * MIB);
    driver_enable(&driver, 16);
    assert_int_equal(driver_queue(&driver, 1, 64, -1), 0);
}

static void end(void)
{
    driver_close(&driver);
    disk_end(&disk);
}

static const char *const threads[] = { "engine=threads", NULL };

/* The newest entry of the error log. */
static void last_error(uint16_t *status, uint64_t *lba)
{
    uint8_t *p = page();
    struct nvme_command log = log_command(LOG_ERROR, 64, p);

    assert_int_equal(admin(&log), 0);
    *status = (uint16_t)(get16(p + 12) >> 1);
    *lba = get64(p + 16);
}

/* ---- Failures --------------------------------------------------------------------------------------- */

static void errors_of_the_file(void **state)
{
    static const struct {
        size_t what; /* of the shim */
        uint8_t opcode;
        int error;
        uint16_t status;
    } cases[] = {
        { offsetof(struct shim, fail_reads), NVM_READ, EIO, SC_READ_ERROR },
        { offsetof(struct shim, fail_reads), NVM_COMPARE, EIO, SC_READ_ERROR },
        { offsetof(struct shim, fail_reads), NVM_VERIFY, EIO, SC_READ_ERROR },
        { offsetof(struct shim, fail_writes), NVM_WRITE, EIO, SC_WRITE_FAULT },
        { offsetof(struct shim, fail_writes), NVM_WRITE, ENOSPC, SC_CAPACITY },
        { offsetof(struct shim, fail_writes), NVM_WRITE, EDQUOT, SC_CAPACITY },
        { offsetof(struct shim, fail_writes), NVM_WRITE, EROFS, SC_WRITE_PROTECTED | SC_DNR },
        { offsetof(struct shim, fail_syncs), NVM_FLUSH, EIO, SC_WRITE_FAULT },
        { offsetof(struct shim, fail_allocations), NVM_WRITE_ZEROES, EIO, SC_WRITE_FAULT },
        { offsetof(struct shim, fail_allocations), NVM_WRITE_ZEROES, ENOSPC, SC_CAPACITY },
    };
    uint16_t status;
    uint64_t lba;
    (void)state;

    begin(preload, threads);
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t *p = pages(1);
        struct nvme_command c = rw(cases[i].opcode, p, 8 * (i + 1), 8);
        if (cases[i].opcode == NVM_FLUSH)
            c.cdw10 = c.cdw12 = 0;
        _Atomic int *fail = (_Atomic int *)(void *)((uint8_t *)shim + cases[i].what);
        *fail = cases[i].error;
        assert_int_equal(io(&c), cases[i].status);
        last_error(&status, &lba);
        assert_int_equal(status, cases[i].status);
        assert_int_equal(lba, c.cdw10);
        /* And when it works again, it works. */
        *fail = 0;
        assert_int_equal(io(&c), 0);
    }
    end();
}

/* What the file system cannot do is done in another way, once and for all. */
static void without_fallocate(void **state)
{
    uint8_t *p;
    (void)state;

    begin(preload, threads);
    p = pages(1);
    fill(p, 4096, 5);
    struct nvme_command w = rw(NVM_WRITE, p, 8, 8), z = rw(NVM_WRITE_ZEROES, NULL, 8, 8);
    struct nvme_command r = rw(NVM_READ, p, 8, 8);
    assert_int_equal(io(&w), 0);
    shim->fail_allocations = EOPNOTSUPP;
    assert_int_equal(io(&z), 0);
    assert_int_equal(io(&r), 0);
    for (unsigned i = 0; i < 4096; i++)
        assert_int_equal(p[i], 0);
    end();
}

static void file_that_may_not_grow(void **state)
{
    static const char *const engines[][2] = { { "engine=uring", NULL }, { "engine=threads", NULL } };
    uint8_t *p;
    (void)state;

    for (unsigned i = 0; i < 2; i++) {
        begin(limit_size, engines[i]);
        p = pages(256);
        fill(p, MIB, i);
        struct nvme_command small = rw(NVM_WRITE, p, 48 * 2048, 8);
        struct nvme_command large = rw(NVM_WRITE, p, 48 * 2048, 2048);
        struct nvme_command good = rw(NVM_WRITE, p, 0, 2048), flush = { .nsid = 1 };
        assert_int_equal(io(&good), 0);
        assert_int_equal(io(&small), SC_CAPACITY);
        assert_int_equal(io(&large), SC_CAPACITY);
        /* Half of it fits. */
        large.cdw10 = 40 * 2048 - 1024;
        assert_int_equal(io(&large), SC_CAPACITY);
        assert_int_equal(io(&flush), 0);
        memset(p, 0, MIB);
        good.opcode = NVM_READ;
        assert_int_equal(io(&good), 0);
        assert_true(is_filled(p, MIB, i));
        end();
    }
}

static void file_that_shrinks(void **state)
{
    uint8_t *p;
    (void)state;

    begin(NULL, NULL);
    p = pages(2);
    fill(p, 8192, 3);
    struct nvme_command w = rw(NVM_WRITE, p, 16, 8);
    assert_int_equal(io(&w), 0);
    assert_int_equal(truncate(disk.file, MIB), 0);
    struct nvme_command identify = identify_command(0, 1, p + 4096);
    assert_int_equal(admin(&identify), 0); /* looks at the size, and the namespace keeps its own */
    assert_int_equal(get64(p + 4096), 64 * MIB / 512);
    struct nvme_command beyond = rw(NVM_READ, p, 4096, 8), across = rw(NVM_READ, p, 2044, 8);
    assert_int_equal(io(&beyond), SC_READ_ERROR);
    assert_int_equal(io(&across), SC_READ_ERROR);
    beyond.opcode = NVM_WRITE;
    assert_int_equal(io(&beyond), SC_WRITE_FAULT);
    struct stat st;
    assert_int_equal(stat(disk.file, &st), 0);
    assert_int_equal(st.st_size, MIB);
    w.opcode = NVM_READ;
    memset(p, 0, 4096);
    assert_int_equal(io(&w), 0);
    assert_true(is_filled(p, 4096, 3));
    end();
}

/* ---- What is acknowledged is on the disk -------------------------------------------------------------- */

/* Does one command; the number of syncs that had ended when its completion was there. */
static unsigned syncs_before(struct nvme_command *c)
{
    unsigned before = shim->syncs;

    assert_int_equal(io(c), 0);
    return shim->syncs - before;
}

static void nothing_is_acknowledged_before_it_is_durable(void **state)
{
    uint8_t *p;
    (void)state;

    begin(preload, threads);
    shim->slow_us = 20000;
    p = pages(64);
    struct nvme_command w = rw(NVM_WRITE, p, 0, 8), large = rw(NVM_WRITE, p, 64, 512);
    struct nvme_command flush = { .opcode = NVM_FLUSH, .nsid = 1 };
    struct nvme_command all = { .opcode = NVM_FLUSH, .nsid = NSID_ALL };
    struct nvme_command zeroes = rw(NVM_WRITE_ZEROES, NULL, 8, 8);
    struct nvme_command off = feature_command(true, FEAT_WRITE_CACHE, 0);
    struct nvme_command on = feature_command(true, FEAT_WRITE_CACHE, 1);

    assert_int_equal(syncs_before(&w), 0); /* or the test would see nothing */
    assert_int_equal(syncs_before(&flush), 1);
    assert_int_equal(syncs_before(&all), 1);
    w.cdw12 |= RW_FUA;
    large.cdw12 |= RW_FUA;
    zeroes.cdw12 |= RW_FUA;
    assert_int_equal(syncs_before(&w), 1);
    assert_true(syncs_before(&large) >= 1);
    assert_int_equal(syncs_before(&zeroes), 1);

    /* Without a volatile write cache, every write is like that. */
    w.cdw12 &= ~RW_FUA;
    zeroes.cdw12 &= ~RW_FUA;
    assert_int_equal(syncs_before(&zeroes), 0);
    assert_int_equal(admin(&off), 0);
    assert_int_equal(syncs_before(&w), 1);
    assert_int_equal(syncs_before(&zeroes), 1);
    assert_int_equal(admin(&on), 0);
    assert_int_equal(syncs_before(&w), 0);

    /* A shutdown is complete when everything is on the disk. */
    unsigned before = shim->syncs;
    driver_write32(&driver, REG_CC, CC_EN | 1 << 14 | 6 << 16 | 4 << 20);
    assert_true(driver_wait_csts(&driver, CSTS_SHST, CSTS_SHST_COMPLETE));
    assert_int_equal(shim->syncs - before, 1);
    end();
}

/* ---- What options make of it ----------------------------------------------------------------------------- */

static void several_namespaces(void **state)
{
    char second[] = "/tmp/outboard-second-XXXXXX", word[64];
    const char *args[] = { word, NULL };
    int fd = mkstemp(second);
    uint8_t *p;
    (void)state;

    assert_int_equal(ftruncate(fd, 8 * MIB), 0);
    snprintf(word, sizeof word, "file=%s", second);
    begin(NULL, args);
    p = pages(2);
    struct nvme_command list = identify_command(2, 0, p);
    assert_int_equal(admin(&list), 0);
    assert_int_equal(get32(p), 1);
    assert_int_equal(get32(p + 4), 2);
    assert_int_equal(get32(p + 8), 0);
    struct nvme_command identify = identify_command(0, 2, p);
    assert_int_equal(admin(&identify), 0);
    assert_int_equal(get64(p), 8 * MIB / 512);

    for (uint32_t nsid = 1; nsid <= 2; nsid++) {
        struct nvme_command w = rw(NVM_WRITE, p, 80, 8);
        w.nsid = nsid;
        fill(p, 4096, nsid);
        assert_int_equal(io(&w), 0);
    }
    uint8_t bytes[4096];
    file_read(80 * 512, bytes, 4096);
    assert_true(is_filled(bytes, 4096, 1));
    assert_int_equal(pread(fd, bytes, 4096, 80 * 512), 4096);
    assert_true(is_filled(bytes, 4096, 2));

    /* The end of one is not the other's; and there is no third. */
    struct nvme_command beyond = rw(NVM_READ, p, 8 * MIB / 512, 8);
    assert_int_equal(io(&beyond), 0);
    beyond.nsid = 2;
    assert_int_equal(io(&beyond), SC_LBA_RANGE | SC_DNR);
    beyond.nsid = 3;
    assert_int_equal(io(&beyond), SC_INVALID_NAMESPACE | SC_DNR);

    /* One grows: the log says which. */
    struct nvme_command log = log_command(LOG_CHANGED_NAMESPACES, 4096, p);
    struct nvme_command aer = { .opcode = ADMIN_AER };
    struct nvme_command on = feature_command(true, FEAT_EVENTS, 1 << 8);
    struct nvme_completion e;
    assert_int_equal(admin(&on), 0);
    driver_put(&driver, 0, &aer);
    driver_ring(&driver, 0);
    assert_int_equal(ftruncate(fd, 9 * MIB), 0);
    assert_true(driver_wait(&driver, 0, &e));
    driver_ring_head(&driver, 0);
    assert_int_equal(e.dw0, EVENT_NAMESPACE);
    assert_int_equal(admin(&log), 0);
    assert_int_equal(get32(p), 2);
    assert_int_equal(get32(p + 4), 0);
    end();
    close(fd);
    unlink(second);
}

static void read_only(void **state)
{
    static const char *const args[] = { "readonly=on", NULL };
    static const uint8_t writing[] = { NVM_WRITE, NVM_WRITE_ZEROES, NVM_DSM, NVM_COPY };
    uint8_t *p;
    (void)state;

    begin(NULL, args);
    p = page();
    struct nvme_command identify = identify_command(0, 1, p);
    assert_int_equal(admin(&identify), 0);
    assert_int_equal(p[99] & 1, 1); /* NSATTR: write protected */
    for (unsigned i = 0; i < sizeof writing; i++) {
        struct nvme_command c = rw(writing[i], p, 0, 8);
        c.cdw11 = 0;
        assert_int_equal(io(&c), SC_WRITE_PROTECTED | SC_DNR);
    }
    struct nvme_command r = rw(NVM_READ, p, 0, 8), flush = { .nsid = 1 };
    assert_int_equal(io(&r), 0);
    assert_int_equal(io(&flush), 0);
    end();
}

static void blocks_of_4096(void **state)
{
    static const char *const args[] = { "lba=4096", NULL };
    static uint8_t bytes[8192];
    uint8_t *p;
    (void)state;

    begin(NULL, args);
    p = pages(2);
    struct nvme_command identify = identify_command(0, 1, p);
    assert_int_equal(admin(&identify), 0);
    assert_int_equal(get64(p), 64 * MIB / 4096);
    assert_int_equal(get32(p + 128 + 4 * (p[26] & 15)) >> 16 & 0xff, 12);
    fill(p, 8192, 9);
    struct nvme_command w = { .opcode = NVM_WRITE, .nsid = 1, .prp1 = driver_address(&driver, p),
                              .prp2 = driver_address(&driver, p) + 4096, .cdw10 = 3, .cdw12 = 1 };
    assert_int_equal(io(&w), 0);
    file_read(3 * 4096, bytes, 8192);
    assert_true(is_filled(bytes, 8192, 9));
    w.cdw10 = 64 * MIB / 4096 - 1;
    assert_int_equal(io(&w), SC_LBA_RANGE | SC_DNR);
    w.cdw10 = 0;
    w.cdw12 = 256; /* 1 MiB and a block */
    assert_int_equal(io(&w), SC_INVALID_FIELD | SC_DNR);
    end();
}

/* O_DIRECT wants alignment that guests do not know of. */
static void direct(void **state)
{
    static const char *const engines[] = { "engine=uring", "engine=threads" };
    static uint8_t bytes[65536];
    (void)state;

    for (unsigned i = 0; i < 2; i++) {
        const char *args[] = { "direct=on", engines[i], NULL };
        begin(NULL, args);
        for (unsigned offset = 0; offset < 2048; offset += 4 + 500 * i) {
            uint8_t *p = (uint8_t *)pages(18) + offset;
            struct nvme_command w = rw(NVM_WRITE, p, 7 + offset, 128);
            fill(p, 65536, offset);
            assert_int_equal(io(&w), 0);
            memset(p, 0, 65536);
            w.opcode = NVM_READ;
            assert_int_equal(io(&w), 0);
            assert_true(is_filled(p, 65536, offset));
            file_read((7 + offset) * 512, bytes, 65536);
            assert_true(is_filled(bytes, 65536, offset));
            if (i == 0)
                offset += 300;
        }
        end();
    }
}

/* ---- The program -------------------------------------------------------------------------------------- */

static int make_shim(void **state)
{
    int fd = mkstemp(shim_file);
    (void)state;

    if (fd < 0 || ftruncate(fd, sizeof *shim) < 0 || !getenv("SHIM"))
        return -1;
    shim = mmap(NULL, sizeof *shim, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    return shim == MAP_FAILED ? -1 : 0;
}

static int remove_shim(void **state)
{
    (void)state;
    munmap(shim, sizeof *shim);
    return unlink(shim_file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_of_the_file),
        cmocka_unit_test(without_fallocate),
        cmocka_unit_test(file_that_may_not_grow),
        cmocka_unit_test(file_that_shrinks),
        cmocka_unit_test(nothing_is_acknowledged_before_it_is_durable),
        cmocka_unit_test(several_namespaces),
        cmocka_unit_test(read_only),
        cmocka_unit_test(blocks_of_4096),
        cmocka_unit_test(direct),
    };
    return cmocka_run_group_tests(tests, make_shim, remove_shim);
}

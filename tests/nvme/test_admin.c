/*
 * test_admin.c - registers, and what admin commands say and do.
 */
#include "fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Registers -------------------------------------------------------------------------------------- */

static void capabilities(void **state)
{
    uint64_t cap = driver_read64(&driver, REG_CAP);
    (void)state;

    assert_int_equal(cap & 0xffff, 4095);
    assert_int_equal(cap >> 32 & 15, 0);  /* DSTRD */
    assert_int_equal(cap >> 37 & 1, 1);   /* the NVM command set */
    assert_int_equal(cap >> 48 & 15, 0);  /* MPSMIN */
    assert_int_equal(driver_read32(&driver, REG_VS), 0x10400);
    assert_int_equal(driver_read32(&driver, REG_CSTS), CSTS_RDY);
    assert_int_equal(driver_read32(&driver, 0x38), 0); /* no controller memory */
    assert_int_equal(driver_read32(&driver, 0xffc), 0);
}

static void disabled_keeps_admin_queue_registers(void **state)
{
    uint64_t asq = driver_read64(&driver, REG_ASQ);
    uint32_t aqa = driver_read32(&driver, REG_AQA);
    (void)state;

    driver_write64(&driver, REG_ASQ, 0x1000); /* has no effect while enabled */
    driver_disable(&driver);
    assert_int_equal(driver_read64(&driver, REG_ASQ), asq);
    assert_int_equal(driver_read32(&driver, REG_AQA), aqa);
    driver_enable(&driver, 16);
    assert_int_equal(driver_queue(&driver, 1, 64, -1), 0); /* the queue of before is gone */
}

static void wrong_settings_are_fatal(void **state)
{
    static const struct { uint32_t cc, aqa; uint64_t asq; } wrong[] = {
        { CC_EN | 5 << 7, 0x000f000f, DRIVER_BASE },  /* MPS */
        { CC_EN | 1 << 4, 0x000f000f, DRIVER_BASE },  /* CSS */
        { CC_EN | 1 << 11, 0x000f000f, DRIVER_BASE }, /* AMS */
        { CC_EN, 0x0000000f, DRIVER_BASE },           /* one completion queue entry */
        { CC_EN, 0x000f0000, DRIVER_BASE },
        { CC_EN | 1 << 7, 0x000f000f, DRIVER_BASE + 4096 }, /* not aligned to a page of 8 KiB */
    };
    (void)state;

    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        driver_disable(&driver);
        driver_write32(&driver, REG_AQA, wrong[i].aqa);
        driver_write64(&driver, REG_ASQ, wrong[i].asq);
        driver_write64(&driver, REG_ACQ, DRIVER_BASE);
        driver_write32(&driver, REG_CC, wrong[i].cc);
        assert_true(driver_wait_csts(&driver, CSTS_CFS | CSTS_RDY, CSTS_CFS));
    }
    driver_disable(&driver);
    assert_int_equal(driver_read32(&driver, REG_CSTS), 0);
    driver_enable(&driver, 16);
}

static void shutdown_is_completed(void **state)
{
    (void)state;

    driver_write32(&driver, REG_CC, CC_EN | 6 << 16 | 4 << 20 | 1 << 14);
    assert_true(driver_wait_csts(&driver, CSTS_SHST, CSTS_SHST_COMPLETE));
    driver_disable(&driver);
    assert_int_equal(driver_read32(&driver, REG_CSTS), 0);
    driver_enable(&driver, 16);
    driver_write32(&driver, REG_CC, CC_EN | 6 << 16 | 4 << 20 | 2 << 14);
    assert_true(driver_wait_csts(&driver, CSTS_SHST, CSTS_SHST_COMPLETE));
}

static void subsystem_reset(void **state)
{
    (void)state;

    driver_write32(&driver, REG_NSSR, 1); /* not the word */
    assert_int_equal(driver_read32(&driver, REG_CSTS), CSTS_RDY);
    driver_write32(&driver, REG_NSSR, NSSR_RESET);
    assert_true(driver_wait_csts(&driver, CSTS_NSSRO | CSTS_RDY, CSTS_NSSRO));
    assert_int_equal(driver_read32(&driver, REG_CC), 0);
    driver_write32(&driver, REG_CSTS, CSTS_NSSRO);
    assert_int_equal(driver_read32(&driver, REG_CSTS), 0);
    driver_enable(&driver, 16);
}

/* ---- Identify --------------------------------------------------------------------------------------- */

static void identify_all(void **state)
{
    uint8_t *p = page();
    (void)state;

    struct nvme_command c = identify_command(1, 0, p);
    assert_int_equal(admin(&c), 0);
    assert_memory_equal(p + 4, "TESTSERIAL          ", 20);
    assert_int_equal(p[77], 8);                  /* MDTS: 1 MiB */
    assert_int_equal(get32(p + 80), 0x10400);
    assert_int_equal(get16(p + 256) & 1 << 8, 1 << 8);
    assert_int_equal(p[512], 0x66);
    assert_int_equal(p[513], 0x44);
    assert_int_equal(get16(p + 520), 0x1dd);
    assert_int_equal(p[525], 7);
    assert_memory_equal(p + 768, "nqn.", 4);

    c = identify_command(0, 1, p);
    assert_int_equal(admin(&c), 0);
    assert_int_equal(get64(p), 64 * 2048);
    assert_int_equal(get64(p + 8), 64 * 2048);
    assert_int_equal(p[130], 9);
    uint8_t nguid[16];
    memcpy(nguid, p + 104, 16);

    c = identify_command(3, 1, p);
    assert_int_equal(admin(&c), 0);
    assert_int_equal(get32(p), 0x1002); /* NGUID, 16 bytes */
    assert_memory_equal(p + 4, nguid, 16);
    c = identify_command(0x11, 1, p);
    assert_int_equal(admin(&c), 0);
    assert_memory_equal(p + 104, nguid, 16);

    static const struct { uint32_t cns, nsid; } lists[] = { { 2, 0 }, { 0x10, 0 } };
    for (unsigned i = 0; i < 2; i++) {
        c = identify_command(lists[i].cns, 0, p);
        assert_int_equal(admin(&c), 0);
        assert_int_equal(get32(p), 1);
        assert_int_equal(get32(p + 4), 0);
        c.nsid = 1;
        assert_int_equal(admin(&c), 0);
        assert_int_equal(get32(p), 0);
        c.nsid = NSID_ALL;
        assert_int_equal(admin(&c), SC_INVALID_NAMESPACE | SC_DNR);
    }
    c = identify_command(0x13, 0, p);
    assert_int_equal(admin(&c), 0);
    assert_int_equal(get32(p), 0x10001); /* one controller, number 1 */
    c = identify_command(0x12, 1, p);
    assert_int_equal(admin(&c), 0);
    assert_int_equal(get32(p), 0x10001);
    c = identify_command(6, 0, p);
    assert_int_equal(admin(&c), 0);
}

static void identify_errors(void **state)
{
    uint8_t *p = pages(2);
    static const struct { uint32_t cns, nsid; uint16_t status; } wrong[] = {
        { 0, 0, SC_INVALID_NAMESPACE | SC_DNR },
        { 0, 17, SC_INVALID_NAMESPACE | SC_DNR },
        { 3, 2, SC_INVALID_NAMESPACE | SC_DNR },
        { 4, 0, SC_INVALID_FIELD | SC_DNR },
        { 0xff, 0, SC_INVALID_FIELD | SC_DNR },
    };
    (void)state;

    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct nvme_command c = identify_command(wrong[i].cns, wrong[i].nsid, p);
        assert_int_equal(admin(&c), wrong[i].status);
    }
    /* One that may come, but is not there. */
    struct nvme_command c = identify_command(0, 2, p);
    assert_int_equal(admin(&c), 0);
    assert_int_equal(get64(p), 0);
    c = identify_command(1, 0, p);
    c.prp1 = 0x1000;
    assert_int_equal(admin(&c), SC_DATA_TRANSFER | SC_DNR);
    /* Across two pages. */
    c.prp1 = driver_address(&driver, p + 512);
    c.prp2 = driver_address(&driver, p + 4096);
    assert_int_equal(admin(&c), 0);
    assert_memory_equal(p + 512 + 4, "TESTSERIAL          ", 20);
    assert_int_equal(get32(p + 4096 - 512), 0);
}

/* ---- Queues ----------------------------------------------------------------------------------------- */

static void queue_errors(void **state)
{
    uint64_t memory = driver_address(&driver, pages(64));
    const uint16_t id = SC_QUEUE_ID | SC_DNR, size = SC_QUEUE_SIZE | SC_DNR;
    static const uint32_t entries = 15u << 16;
    struct { uint8_t opcode; uint32_t cdw10, cdw11; uint64_t prp1; uint16_t status; } tries[] = {
        { ADMIN_CREATE_CQ, entries | 0, 1, memory, id },
        { ADMIN_CREATE_CQ, entries | 1, 1, memory, id }, /* exists */
        { ADMIN_CREATE_CQ, entries | 65, 1, memory, id },
        { ADMIN_CREATE_CQ, entries | 0xffff, 1, memory, id },
        { ADMIN_CREATE_CQ, 0 | 2, 1, memory, size },
        { ADMIN_CREATE_CQ, 4096u << 16 | 2, 1, memory, size },
        { ADMIN_CREATE_CQ, entries | 2, 65u << 16 | 3, memory, SC_VECTOR | SC_DNR },
        { ADMIN_CREATE_CQ, entries | 2, 0, memory, SC_INVALID_FIELD | SC_DNR },
        { ADMIN_CREATE_CQ, entries | 2, 1, memory + 8, SC_PRP_OFFSET | SC_DNR },
        { ADMIN_CREATE_SQ, entries | 0, 1u << 16 | 1, memory, id },
        { ADMIN_CREATE_SQ, entries | 1, 1u << 16 | 1, memory, id },
        { ADMIN_CREATE_SQ, entries | 2, 0u << 16 | 1, memory, SC_CQ_INVALID | SC_DNR },
        { ADMIN_CREATE_SQ, entries | 2, 2u << 16 | 1, memory, SC_CQ_INVALID | SC_DNR },
        { ADMIN_CREATE_SQ, entries | 2, 0xffffu << 16 | 1, memory, SC_CQ_INVALID | SC_DNR },
        { ADMIN_CREATE_SQ, 0 | 2, 1u << 16 | 1, memory, size },
        { ADMIN_CREATE_SQ, entries | 2, 1u << 16, memory, SC_INVALID_FIELD | SC_DNR },
        { ADMIN_DELETE_CQ, 0, 0, 0, id },
        { ADMIN_DELETE_CQ, 2, 0, 0, id },
        { ADMIN_DELETE_CQ, 0xffff, 0, 0, id },
        { ADMIN_DELETE_CQ, 1, 0, 0, SC_QUEUE_DELETION | SC_DNR }, /* has its submission queue */
        { ADMIN_DELETE_SQ, 0, 0, 0, id },
        { ADMIN_DELETE_SQ, 2, 0, 0, id },
        { ADMIN_DELETE_SQ, 0xffff, 0, 0, id },
        { ADMIN_DELETE_SQ, 1, 0, 0, 0 },
        { ADMIN_DELETE_SQ, 1, 0, 0, id },
        { ADMIN_DELETE_CQ, 1, 0, 0, 0 },
        { ADMIN_CREATE_CQ, entries | 64, 64u << 16 | 3, memory, 0 },
        { 0x03, 0, 0, 0, SC_INVALID_OPCODE | SC_DNR },
        { 0x80, 0, 0, 0, SC_INVALID_OPCODE | SC_DNR }, /* Format NVM */
    };
    (void)state;

    for (unsigned i = 0; i < sizeof tries / sizeof *tries; i++) {
        struct nvme_command c = { .opcode = tries[i].opcode, .cdw10 = tries[i].cdw10,
                                  .cdw11 = tries[i].cdw11, .prp1 = tries[i].prp1 };
        uint16_t status = admin(&c);
        if (status != tries[i].status)
            fail_msg("try %u: status 0x%x, not 0x%x", i, status, tries[i].status);
    }
}

/* ---- Features --------------------------------------------------------------------------------------- */

static void features(void **state)
{
    static const struct { uint32_t id, value; } kept[] = {
        { FEAT_ARBITRATION, 0x01020304 }, { FEAT_TEMPERATURE, 350 }, { FEAT_WRITE_CACHE, 0 },
        { FEAT_COALESCING, 0x0a05 }, { FEAT_EVENTS, 0x100 },
    };
    uint32_t value, before;
    (void)state;

    for (unsigned i = 0; i < sizeof kept / sizeof *kept; i++) {
        struct nvme_command get = feature_command(false, kept[i].id, 0);
        struct nvme_command set = feature_command(true, kept[i].id, kept[i].value);
        assert_int_equal(driver_do(&driver, 0, &get, &before), 0);
        assert_int_equal(admin(&set), 0);
        assert_int_equal(driver_do(&driver, 0, &get, &value), 0);
        assert_int_equal(value, kept[i].value);
        get.cdw10 |= 1 << 8; /* the default */
        assert_int_equal(driver_do(&driver, 0, &get, &value), 0);
        assert_int_equal(value, before);
        get.cdw10 ^= 3 << 8 ^ 1 << 8; /* what is possible */
        assert_int_equal(driver_do(&driver, 0, &get, &value), 0);
        assert_int_equal(value & 4, 4);
        set.cdw10 |= 1u << 31; /* save */
        assert_int_equal(admin(&set), SC_NOT_SAVEABLE | SC_DNR);
    }
    struct nvme_command queues = feature_command(true, FEAT_QUEUES, 0x00030003);
    assert_int_equal(admin(&queues), 0x00c | SC_DNR); /* there are queues already */
    driver_disable(&driver);
    driver_enable(&driver, 16);
    assert_int_equal(driver_do(&driver, 0, &queues, &value), 0);
    assert_int_equal(value, 63u << 16 | 63);
    queues.cdw11 = 0x0000ffff;
    assert_int_equal(admin(&queues), SC_INVALID_FIELD | SC_DNR);
    for (unsigned i = 0; i < sizeof kept / sizeof *kept; i++) {
        struct nvme_command get = feature_command(false, kept[i].id, 0);
        assert_int_equal(driver_do(&driver, 0, &get, &value), 0);
        assert_int_not_equal(value, kept[i].value); /* the reset took them back */
    }
    struct nvme_command no = feature_command(false, 0x0d, 0);
    assert_int_equal(admin(&no), SC_INVALID_FIELD | SC_DNR);
    no = feature_command(true, FEAT_POWER, 1);
    assert_int_equal(admin(&no), SC_INVALID_FIELD | SC_DNR);
    no = feature_command(true, FEAT_WRITE_CACHE, 1);
    no.nsid = 1;
    assert_int_equal(admin(&no), SC_NOT_NAMESPACE | SC_DNR);
    no = feature_command(true, FEAT_ERROR_RECOVERY, 5);
    assert_int_equal(admin(&no), SC_INVALID_NAMESPACE | SC_DNR);
    no.nsid = 1;
    assert_int_equal(admin(&no), 0);
    no.opcode = ADMIN_GET_FEATURES;
    assert_int_equal(driver_do(&driver, 0, &no, &value), 0);
    assert_int_equal(value, 5);
}

static void timestamp_goes_on(void **state)
{
    uint8_t *p = page();
    struct nvme_command c = feature_command(true, FEAT_TIMESTAMP, 0);
    const uint64_t then = 1700000000000;
    (void)state;

    memcpy(p, &then, 8);
    c.prp1 = driver_address(&driver, p);
    assert_int_equal(admin(&c), 0);
    usleep(30000);
    c.opcode = ADMIN_GET_FEATURES;
    assert_int_equal(admin(&c), 0);
    uint64_t now = get64(p) & 0xffffffffffff;
    assert_true(now >= then + 30 && now < then + 20000);
}

/* ---- Logs and events -------------------------------------------------------------------------------- */

static void errors_are_logged(void **state)
{
    uint8_t *p = page();
    struct nvme_command log = log_command(LOG_ERROR, 4096, p);
    (void)state;

    assert_int_equal(admin(&log), 0);
    uint64_t before = get64(p);
    struct nvme_command bad = rw(NVM_READ, p, 1 << 30, 1);
    assert_int_equal(io(&bad), SC_LBA_RANGE | SC_DNR);
    assert_int_equal(admin(&log), 0);
    assert_int_equal(get64(p), before + 1);
    assert_int_equal(get16(p + 8), 1);
    assert_int_equal(get16(p + 12) >> 1, SC_LBA_RANGE | SC_DNR);
    assert_int_equal(get64(p + 16), 1 << 30);
    assert_int_equal(get32(p + 24), 1);
    /* Part of it, and by an offset. */
    log.cdw10 = LOG_ERROR | 1u << 16;
    log.cdw12 = 16;
    memset(p, 0xee, 4096);
    assert_int_equal(admin(&log), 0);
    assert_int_equal(get64(p), 1 << 30);
    assert_int_equal(p[8], 0xee);
    log.cdw12 = 3;
    assert_int_equal(admin(&log), SC_INVALID_FIELD | SC_DNR);
    log.cdw12 = 4100;
    assert_int_equal(admin(&log), SC_INVALID_FIELD | SC_DNR);
    log.cdw10 = 0x7f | 1u << 16;
    assert_int_equal(admin(&log), SC_LOG_PAGE | SC_DNR);
}

static void smart_counts(void **state)
{
    uint8_t *p = page(), *data = pages(256);
    struct nvme_command log = log_command(LOG_SMART, 512, p);
    struct nvme_command w = rw(NVM_WRITE, data, 0, 2048), r = rw(NVM_READ, data, 0, 2048);
    (void)state;

    assert_int_equal(admin(&log), 0);
    uint64_t reads = get64(p + 64), writes = get64(p + 80), errors = get64(p + 176);
    uint64_t read = get64(p + 32), written = get64(p + 48);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(io(&w), 0);
        assert_int_equal(io(&r), 0);
    }
    struct nvme_command small = rw(NVM_READ, data, 0, 1);
    assert_int_equal(io(&small), 0);
    small.nsid = 9;
    assert_int_equal(io(&small), SC_INVALID_NAMESPACE | SC_DNR);
    assert_int_equal(admin(&log), 0);
    assert_int_equal(get64(p + 64), reads + 11);
    assert_int_equal(get64(p + 80), writes + 10);
    assert_in_range(get64(p + 32), read + 20, read + 21);
    assert_in_range(get64(p + 48), written + 20, written + 21);
    assert_int_equal(get64(p + 176), errors + 1);
    assert_int_equal(get16(p + 1), 300);

    log = log_command(LOG_FIRMWARE, 512, p);
    assert_int_equal(admin(&log), 0);
    assert_int_equal(p[0], 1);
    log = log_command(LOG_EFFECTS, 4096, p);
    assert_int_equal(admin(&log), 0);
    assert_int_equal(get32(p + 4 * ADMIN_IDENTIFY) & 1, 1);
    assert_int_equal(get32(p + 1024 + 4 * NVM_WRITE) & 3, 3);
    assert_int_equal(get32(p + 4 * 0x80), 0);
}

static void grown_file_is_announced(void **state)
{
    uint8_t *p = page();
    struct nvme_command aer = { .opcode = ADMIN_AER };
    struct nvme_command on = feature_command(true, FEAT_EVENTS, 1 << 8);
    struct nvme_completion e;
    (void)state;

    assert_int_equal(admin(&on), 0);
    for (unsigned i = 0; i < 2; i++) {
        uint16_t cid = driver_put(&driver, 0, &aer);
        driver_ring(&driver, 0);
        /* In the middle of nothing, and right after a write. */
        if (i) {
            struct nvme_command w = rw(NVM_WRITE, p, 0, 8);
            assert_int_equal(io(&w), 0);
        }
        assert_int_equal(truncate(disk.file, (off_t)((65 + i) * MIB)), 0);
        assert_true(driver_wait(&driver, 0, &e));
        driver_ring_head(&driver, 0);
        assert_int_equal(e.cid, cid);
        assert_int_equal(driver_status(&e), 0);
        assert_int_equal(e.dw0, EVENT_NAMESPACE);
        struct nvme_command log = log_command(LOG_CHANGED_NAMESPACES, 4096, p);
        assert_int_equal(admin(&log), 0);
        assert_int_equal(get32(p), 1);
        assert_int_equal(get32(p + 4), 0);
        struct nvme_command id = identify_command(0, 1, p);
        assert_int_equal(admin(&id), 0);
        assert_int_equal(get64(p), (65 + i) * 2048);
    }
    struct nvme_command r = rw(NVM_READ, p, 66 * 2048 - 1, 1);
    assert_int_equal(io(&r), 0);
    struct nvme_command log = log_command(LOG_CHANGED_NAMESPACES, 4096, p);
    assert_int_equal(admin(&log), 0);
    assert_int_equal(get32(p), 0);
}

static void event_requests_and_abort(void **state)
{
    struct nvme_command aer = { .opcode = ADMIN_AER };
    struct nvme_completion e;
    uint16_t cid[4];
    uint32_t dw0;
    (void)state;

    for (unsigned i = 0; i < 4; i++)
        cid[i] = driver_put(&driver, 0, &aer);
    assert_int_equal(admin(&aer), SC_AER_LIMIT | SC_DNR);
    struct nvme_command stop = { .opcode = ADMIN_ABORT, .cdw10 = (uint32_t)cid[2] << 16 };
    driver_put(&driver, 0, &stop);
    driver_ring(&driver, 0);
    bool aborted = false, answered = false;
    for (unsigned i = 0; i < 2; i++) {
        assert_true(driver_wait(&driver, 0, &e));
        if (e.cid == cid[2]) {
            assert_int_equal(driver_status(&e), SC_ABORT_REQUESTED);
            aborted = true;
        } else {
            assert_int_equal(e.dw0, 0);
            answered = true;
        }
    }
    driver_ring_head(&driver, 0);
    assert_true(aborted && answered);
    stop.cdw10 = 0x1234u << 16 | 1; /* nobody */
    assert_int_equal(driver_do(&driver, 0, &stop, &dw0), 0);
    assert_int_equal(dw0, 1);
    /* A doorbell of no queue is an error that is reported. */
    driver_write32(&driver, REG_DOORBELLS + 8 * 7, 1);
    assert_true(driver_wait(&driver, 0, &e));
    driver_ring_head(&driver, 0);
    assert_int_equal(e.cid, cid[0]);
    assert_int_equal(e.dw0, EVENT_INVALID_DOORBELL);
    driver_write32(&driver, REG_DOORBELLS + 8 * 1, 64); /* queue 1 has 64 entries: 0 to 63 */
    assert_true(driver_wait(&driver, 0, &e));
    driver_ring_head(&driver, 0);
    assert_int_equal(e.cid, cid[1]);
    assert_int_equal(e.dw0, EVENT_INVALID_DOORBELL_VALUE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NVME_TEST(capabilities),
        NVME_TEST(disabled_keeps_admin_queue_registers),
        NVME_TEST(wrong_settings_are_fatal),
        NVME_TEST(shutdown_is_completed),
        NVME_TEST(subsystem_reset),
        NVME_TEST(identify_all),
        NVME_TEST(identify_errors),
        NVME_TEST(queue_errors),
        NVME_TEST(features),
        NVME_TEST(timestamp_goes_on),
        NVME_TEST(errors_are_logged),
        NVME_TEST(smart_counts),
        NVME_TEST(event_requests_and_abort),
        NVME_TEST(grown_file_is_announced),
    };

    fixture_args[0] = "serial=TESTSERIAL";
    return cmocka_run_group_tests(tests, fixture_serve, fixture_end);
}

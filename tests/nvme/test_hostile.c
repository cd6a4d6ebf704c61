/*
 * test_hostile.c - guests that do everything wrong: the controller answers with the status that the
 * specification has for it, or stops with CSTS.CFS, and the process goes on.
 */
#include "fixture.h"

#include <linux/vfio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_alive(void)
{
    struct nvme_command f = feature_command(false, FEAT_WRITE_CACHE, 0);
    return admin(&f) == 0;
}

/* ---- Lists ------------------------------------------------------------------------------------------ */

static void prp_list_leads_to_itself(void **state)
{
    uint64_t *list = page();
    uint8_t *data = page();
    struct nvme_command r = rw(NVM_READ, data, 0, 2048);
    uint64_t self = driver_address(&driver, list);
    (void)state;

    for (unsigned i = 0; i < 512; i++)
        list[i] = self;
    /* The last place of the page is the way on, and leads to the page: 255 entries fit there. */
    r.prp2 = self + 511 * 8;
    assert_int_equal(io(&r), 0);
    /* A way on that is no page. */
    list[511] = self + 511 * 8;
    assert_int_equal(io(&r), SC_PRP_OFFSET | SC_DNR);
    list[511] = 0x10000;
    assert_int_equal(io(&r), SC_DATA_TRANSFER | SC_DNR);
    /* Entries outside of memory, and one not of a whole page. */
    r.prp2 = self;
    list[254] = 0x10000;
    assert_int_equal(io(&r), SC_DATA_TRANSFER | SC_DNR);
    list[254] = self + 8;
    assert_int_equal(io(&r), SC_PRP_OFFSET | SC_DNR);
    list[254] = DRIVER_BASE + driver.size; /* right behind the end */
    assert_int_equal(io(&r), SC_DATA_TRANSFER | SC_DNR);
    list[254] = UINT64_MAX - 4095;
    assert_int_equal(io(&r), SC_DATA_TRANSFER | SC_DNR);
}

static void sgl_leads_to_itself(void **state)
{
    struct nvme_sgl *list = page();
    struct nvme_command r = rw(NVM_READ, NULL, 0, 8);
    struct nvme_sgl first = { .address = driver_address(&driver, list), .length = 16,
                              .type = SGL_SEGMENT };
    (void)state;

    r.flags = 1 << 6;
    list[0] = first;
    memcpy(&r.prp1, &first, sizeof first);
    assert_int_equal(io(&r), SC_SGL_COUNT | SC_DNR);
    first.length = 0xfffffff0;
    memcpy(&r.prp1, &first, sizeof first);
    assert_int_equal(io(&r), SC_SGL_COUNT | SC_DNR);
    first.length = 4096;
    for (unsigned i = 0; i < 255; i++)
        list[i] = (struct nvme_sgl){ 0 };
    list[255] = first;
    memcpy(&r.prp1, &first, sizeof first);
    assert_int_equal(io(&r), SC_SGL_COUNT | SC_DNR);
    first.address = 0x10000;
    memcpy(&r.prp1, &first, sizeof first);
    assert_int_equal(io(&r), SC_DATA_TRANSFER | SC_DNR);
    first.address = UINT64_MAX - 100;
    memcpy(&r.prp1, &first, sizeof first);
    assert_int_equal(io(&r), SC_DATA_TRANSFER | SC_DNR);
    /* 2,048 ranges, no two of which are neighbours. */
    uint8_t *data = pages(2);
    list = pages(9);
    for (unsigned i = 0; i < 2048; i++)
        list[i] = (struct nvme_sgl){ .address = driver_address(&driver, data + 4 * (i % 1024)),
                                     .length = 2 };
    first = (struct nvme_sgl){ .address = driver_address(&driver, list), .length = 2048 * 16,
                               .type = SGL_LAST_SEGMENT };
    memcpy(&r.prp1, &first, sizeof first);
    assert_int_equal(io(&r), SC_SGL_COUNT | SC_DNR);
}

/* ---- Queues ----------------------------------------------------------------------------------------- */

static void queues_outside_of_memory(void **state)
{
    struct nvme_command cq = { .opcode = ADMIN_CREATE_CQ, .cdw10 = 15u << 16 | 2, .cdw11 = 1,
                               .prp1 = 0x10000 };
    struct nvme_command sq = { .opcode = ADMIN_CREATE_SQ, .cdw10 = 15u << 16 | 2,
                               .cdw11 = 1u << 16 | 1, .prp1 = 0x10000 };
    (void)state;

    for (int i = 0; i < 2; i++) {
        if (i) { /* commands can be read, completions cannot be written */
            assert_int_equal(admin(&cq), 0);
            sq.cdw11 = 2u << 16 | 1;
            sq.prp1 = driver_address(&driver, page());
        }
        assert_int_equal(admin(&sq), 0);
        driver_write32(&driver, REG_DOORBELLS + 8 * 2, 1);
        assert_true(driver_wait_csts(&driver, CSTS_CFS, CSTS_CFS));
        driver_disable(&driver);
        driver_enable(&driver, 16);
        assert_true(is_alive());
    }
    /* The admin queues themselves. */
    driver_disable(&driver);
    driver_write64(&driver, REG_ACQ, 0x10000);
    driver_write32(&driver, REG_CC, CC_EN);
    assert_true(driver_wait_csts(&driver, CSTS_RDY, CSTS_RDY));
    driver_write32(&driver, REG_DOORBELLS, 1);
    assert_true(driver_wait_csts(&driver, CSTS_CFS, CSTS_CFS));
}

/* Data and queues that lie in two maps, next to each other. */
static void across_regions(void **state)
{
    const uint64_t here = DRIVER_BASE + driver.size;
    uint8_t *data = pages(4);
    (void)state;

    assert_int_equal(driver_map(&driver, here, data, 4096), 0);
    assert_int_equal(driver_map(&driver, here + 4096, data + 8192, 4096), 0);
    fill(data, 4096, 1);
    fill(data + 8192, 4096, 2);
    struct nvme_command w = rw(NVM_WRITE, NULL, 0, 8);
    w.prp1 = here + 2048;
    w.prp2 = here + 4096;
    assert_int_equal(io(&w), 0);
    uint8_t *back = page();
    struct nvme_command r = rw(NVM_READ, back, 0, 8);
    assert_int_equal(io(&r), 0);
    assert_memory_equal(back, data + 2048, 2048);
    assert_memory_equal(back + 2048, data + 8192, 2048);
    /* Beyond the second: nothing there. */
    w.cdw12 = 15;
    w.prp1 = here + 4096;
    w.prp2 = here + 8192;
    assert_int_equal(io(&w), SC_DATA_TRANSFER | SC_DNR);

    /* A queue of 128 entries over both. */
    struct nvme_command sq = { .opcode = ADMIN_CREATE_SQ, .cdw10 = 127u << 16 | 2,
                               .cdw11 = 1u << 16 | 1, .prp1 = here };
    memset(data, 0, 4096 * 3);
    assert_int_equal(admin(&sq), 0);
    struct nvme_command f = { .opcode = NVM_FLUSH, .nsid = 1 };
    struct nvme_completion e;
    for (unsigned i = 0; i < 127; i++) {
        f.cid = (uint16_t)i;
        memcpy(i < 64 ? data + i * 64 : data + 8192 + (i - 64) * 64, &f, 64);
    }
    driver_write32(&driver, REG_DOORBELLS + 8 * 2, 63);
    for (unsigned i = 0; i < 127; i++) {
        if (i == 50)
            driver_write32(&driver, REG_DOORBELLS + 8 * 2, 127);
        assert_true(driver_wait(&driver, 1, &e));
        driver_ring_head(&driver, 1);
        assert_int_equal(e.sqid, 2);
        assert_int_equal(driver_status(&e), 0);
    }
    assert_int_equal(ob_client_dma_unmap(driver.client, here + 4096, 4096), 0);
    assert_int_equal(ob_client_dma_unmap(driver.client, here, 4096), 0);
    assert_true(is_alive());
}

static void doorbells_out_of_range(void **state)
{
    (void)state;

    for (uint32_t at = REG_DOORBELLS; at < 0x2000; at += 4)
        driver_write32(&driver, at, 0xffffffff);
    for (uint32_t at = 0; at < REG_CC; at += 4)
        driver_write32(&driver, at, 0);
    assert_true(is_alive());
    struct nvme_command f = { .opcode = NVM_FLUSH, .nsid = 1 };
    assert_int_equal(io(&f), 0);
    driver_write32(&driver, REG_DOORBELLS + 8 + 4, 63); /* a head beyond what was posted */
    assert_int_equal(io(&f), 0);
    /* In memory too. */
    if (!driver_shadow(&driver))
        return;
    for (uint32_t i = 2; i < 130; i++)
        atomic_store(&driver.doorbells[i], 0xffff0000 | i);
    driver_write32(&driver, REG_DOORBELLS + 8, 0);
    assert_true(is_alive());
    /* Each back to what is right at once: a tail of 0 on the way there would be a ring full of commands. */
    atomic_store(&driver.doorbells[2], driver.queue[1].tail);
    atomic_store(&driver.doorbells[3], driver.queue[1].head);
    for (uint32_t i = 4; i < 130; i++)
        atomic_store(&driver.doorbells[i], 0);
    assert_int_equal(io(&f), 0);
}

static void duplicate_identifiers(void **state)
{
    struct nvme_command v = rw(NVM_VERIFY, NULL, 0, 65536);
    struct nvme_completion e;
    unsigned good = 0, refused = 0;
    (void)state;

    for (unsigned i = 0; i < 8; i++) {
        driver.queue[1].next_cid = 77;
        driver_put(&driver, 1, &v);
    }
    driver_ring(&driver, 1);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(driver_wait(&driver, 1, &e));
        assert_int_equal(e.cid, 77);
        if (driver_status(&e) == 0)
            good++;
        else if (driver_status(&e) == (SC_CID_CONFLICT | SC_DNR))
            refused++;
    }
    driver_ring_head(&driver, 1);
    assert_int_equal(good + refused, 8);
    assert_true(good >= 1 && refused >= 1);
}

/* ---- Under load ------------------------------------------------------------------------------------- */

static void deletion_with_commands_in_flight(void **state)
{
    uint8_t *data = pages(64);
    struct nvme_completion e;
    (void)state;

    for (unsigned round = 0; round < 40; round++) {
        uint32_t put = 0, answered = 0;
        for (unsigned i = 0; i < 60; i++, put++) {
            struct nvme_command c = rw(i % 3 ? NVM_COMPARE : NVM_FLUSH, data, i * 8, 8);
            driver_put(&driver, 1, &c);
        }
        driver_ring(&driver, 1);
        struct nvme_command del = { .opcode = ADMIN_DELETE_SQ, .cdw10 = 1 };
        assert_int_equal(admin(&del), 0);
        /* No completion comes after that of the deletion. */
        while (driver_poll(&driver, 1, &e))
            answered++;
        usleep(500);
        assert_false(driver_poll(&driver, 1, &e));
        assert_true(answered <= put);
        del.opcode = ADMIN_DELETE_CQ;
        assert_int_equal(admin(&del), 0);
        if (round % 8 == 7) { /* memory for queues is not given back */
            fixture_close(NULL);
            fixture_connect(NULL);
            data = pages(64);
        } else {
            assert_int_equal(driver_queue(&driver, 1, 64, -1), 0);
        }
    }
}

static void reset_with_commands_in_flight(void **state)
{
    (void)state;

    for (unsigned round = 0; round < 30; round++) {
        uint8_t *data = pages(16);
        for (unsigned i = 0; i < 60; i++) {
            struct nvme_command c = rw(i % 2 ? NVM_WRITE : NVM_COMPARE, data, i * 8, 8);
            driver_put(&driver, 1, &c);
        }
        driver_ring(&driver, 1);
        switch (round % 3) {
        case 0: driver_disable(&driver); break;
        case 1: assert_int_equal(ob_client_reset(driver.client), 0); break;
        case 2:
            driver_write32(&driver, REG_NSSR, NSSR_RESET);
            assert_true(driver_wait_csts(&driver, CSTS_RDY, 0));
            break;
        }
        assert_int_equal(driver_read32(&driver, REG_CSTS) & CSTS_RDY, 0);
        const uint16_t command = 6;
        assert_int_equal(ob_client_write(driver.client, VFIO_PCI_CONFIG_REGION_INDEX, 4, &command, 2), 0);
        driver_enable(&driver, 16);
        assert_int_equal(driver_queue(&driver, 1, 64, -1), 0);
        assert_true(is_alive());
    }
}

/* Memory is taken back while commands use it: an unmap is answered when they do not any more. */
static void unmap_with_commands_in_flight(void **state)
{
    const uint64_t here = DRIVER_BASE + driver.size;
    uint8_t *data = pages(256);
    struct nvme_completion e;
    (void)state;

    for (unsigned round = 0; round < 30; round++) {
        assert_int_equal(driver_map(&driver, here, data, MIB), 0);
        for (unsigned i = 0; i < 60; i++) {
            struct nvme_command c = rw(NVM_COMPARE, NULL, i * 8, 8);
            c.prp1 = here + i * 4096;
            driver_put(&driver, 1, &c);
        }
        driver_ring(&driver, 1);
        assert_int_equal(ob_client_dma_unmap(driver.client, here, MIB), 0);
        for (unsigned i = 0; i < 60; i++) {
            assert_true(driver_wait(&driver, 1, &e));
            uint16_t status = driver_status(&e);
            assert_true(status == 0 || status == (SC_DATA_TRANSFER | SC_DNR) ||
                        status == (SC_COMPARE_FAILURE | SC_DNR));
        }
        driver_ring_head(&driver, 1);
    }
    assert_true(is_alive());
}

/* Another thread scribbles over queues, lists and data all the time. */
struct scribble {
    uint8_t *p;
    size_t n;
    _Atomic bool stop;
};

static void *scribbler(void *arg)
{
    struct scribble *s = arg;
    unsigned seed = 1;

    while (!s->stop) {
        size_t at = (size_t)rand_r(&seed) % (s->n / 8) * 8;
        uint64_t value = (uint64_t)rand_r(&seed) << 12;
        if (rand_r(&seed) % 2)
            value = DRIVER_BASE + value % (4 * MIB);
        memcpy(s->p + at, &value, 8);
    }
    return NULL;
}

static void memory_changes_under_our_feet(void **state)
{
    uint64_t *list = pages(8);
    struct scribble s = { (uint8_t *)list, 8 * 4096, false };
    struct nvme_completion e;
    pthread_t thread;
    (void)state;

    assert_int_equal(pthread_create(&thread, NULL, scribbler, &s), 0);
    for (unsigned round = 0; round < 300; round++) {
        for (unsigned i = 0; i < 32; i++) {
            /* Only reads of the disk, and into 4 MiB of which nothing is ours but the lists: a guest
             * may lose its own queues that way. */
            struct nvme_command c = rw(NVM_VERIFY, NULL, i * 8, 8);
            c.opcode = i % 2 ? NVM_COMPARE : i % 4 ? NVM_DSM : NVM_COPY;
            c.cdw12 = c.opcode == NVM_COPY ? 7 : 255;
            c.cdw11 = 0;
            c.flags = i % 8 == 3 ? 1 << 6 : 0;
            c.prp1 = driver_address(&driver, list);
            c.prp2 = driver_address(&driver, list + 512);
            if (c.flags) {
                struct nvme_sgl d = { driver_address(&driver, list), 512, { 0 }, SGL_SEGMENT };
                memcpy(&c.prp1, &d, 16);
            }
            driver_put(&driver, 1, &c);
        }
        driver_ring(&driver, 1);
        for (unsigned i = 0; i < 32; i++)
            assert_true(driver_wait(&driver, 1, &e));
        driver_ring_head(&driver, 1);
    }
    s.stop = true;
    pthread_join(thread, NULL);
    assert_true(is_alive());
}

/* Random commands, and random writes to all registers. */
static void noise(void **state)
{
    uint8_t *data = pages(16);
    (void)state;

    srand(7);
    for (unsigned round = 0; round < 3000; round++) {
        struct nvme_command c;
        uint8_t *bytes = (uint8_t *)&c;
        for (unsigned i = 0; i < sizeof c; i++)
            bytes[i] = (uint8_t)rand();
        c.opcode = (uint8_t)(rand() % 32);
        c.nsid = rand() % 4 ? 1 : (uint32_t)rand();
        if (rand() % 2) {
            c.prp1 = driver_address(&driver, data) + (uint64_t)(rand() % 4096 & ~3);
            c.prp2 = driver_address(&driver, data + 4096);
            c.flags = (uint8_t)(rand() % 3 << 6);
        }
        if (rand() % 2) {
            c.cdw10 &= 0xff;
            c.cdw11 &= 7;
            c.cdw12 &= 0xff;
        }
        uint32_t q = rand() % 8 == 0 ? 0 : 1;
        if (q == 0 && (c.opcode == ADMIN_AER || c.opcode == ADMIN_DELETE_SQ || c.opcode == ADMIN_CREATE_SQ ||
                       c.opcode == ADMIN_DELETE_CQ || c.opcode == ADMIN_DOORBELL_BUFFER))
            continue;
        assert_int_not_equal(driver_do(&driver, q, &c, NULL), 0xffff);
    }
    for (unsigned round = 0; round < 20000; round++)
        driver_write32(&driver, (uint32_t)rand() % (round % 2 ? 0x40 : 0x1400) & ~3u,
                       rand() % 2 ? (uint32_t)rand() : (uint32_t)rand() % 64);
    assert_int_equal(ob_client_reset(driver.client), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        NVME_TEST(prp_list_leads_to_itself),
        NVME_TEST(sgl_leads_to_itself),
        NVME_TEST(queues_outside_of_memory),
        NVME_TEST(across_regions),
        NVME_TEST(doorbells_out_of_range),
        NVME_TEST(duplicate_identifiers),
        NVME_TEST(deletion_with_commands_in_flight),
        NVME_TEST(reset_with_commands_in_flight),
        NVME_TEST(unmap_with_commands_in_flight),
        NVME_TEST(memory_changes_under_our_feet),
        NVME_TEST(noise),
    };
    return cmocka_run_group_tests(tests, fixture_serve, fixture_end);
}

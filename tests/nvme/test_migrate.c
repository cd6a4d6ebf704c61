/*
 * test_migrate.c - a disk moves between two processes that serve the same file, while its driver works.
 *
 * A thread is the machine: it writes, reads and compares all the time, with up to DEPTH commands under
 * way, and checks every completion and every byte. The main thread moves the device; it stops the machine
 * only when the device is about to be stopped, and lets it go on when the device runs at the other end.
 */
#include "two.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define DEPTH 32u
#define BLOCKS 128u /* of each place: 64 KiB of the disk, and of memory */
#define QUEUES 2u   /* 1 is polled, 2 has an interrupt */

/* ---- The machine ------------------------------------------------------------------------------------- */

enum operation { WRITE, READ, COMPARE, FLUSH, ZEROES, OPERATIONS };

struct place {
    uint8_t *memory;
    uint64_t list; /* of its pages */
    uint32_t seed; /* of what is on the disk, 0: zeros */
    uint32_t next; /* seed that is being written */
    enum operation operation;
    bool busy;
    uint16_t cid;
    uint32_t q;
};

static struct machine {
    struct place place[DEPTH];
    uint64_t random, completions;
    int irq;
    pthread_mutex_t lock;   /* held while the machine runs */
    atomic_bool wanted;     /* somebody wants it to stop */
    atomic_bool end;
} m;

static uint32_t random_number(uint32_t below)
{
    m.random = m.random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(m.random >> 33) % below;
}

static bool is_zero(const uint8_t *p, size_t n)
{
    return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

static bool holds(const struct place *p)
{
    return p->seed ? is_filled(p->memory, BLOCKS * 512, p->seed) : is_zero(p->memory, BLOCKS * 512);
}

static void begin(struct place *p)
{
    struct nvme_command c = { .nsid = 1, .cdw10 = (uint32_t)(p - m.place) * BLOCKS, .cdw12 = BLOCKS - 1,
                              .prp1 = driver_address(&driver, p->memory), .prp2 = p->list };
    static const uint8_t opcodes[OPERATIONS] = { NVM_WRITE, NVM_READ, NVM_COMPARE, NVM_FLUSH,
                                                 NVM_WRITE_ZEROES };

    p->operation = random_number(16) ? random_number(3) : random_number(OPERATIONS);
    c.opcode = opcodes[p->operation];
    if (p->operation == WRITE) {
        p->next = random_number(UINT32_MAX - 1) + 1;
        fill(p->memory, BLOCKS * 512, p->next);
    } else if (p->operation == READ) {
        memset(p->memory, 0xaa, BLOCKS * 512);
    } else if (p->operation == COMPARE) {
        if (p->seed)
            fill(p->memory, BLOCKS * 512, p->seed);
        else
            memset(p->memory, 0, BLOCKS * 512);
    } else if (p->operation == FLUSH) {
        c.cdw10 = c.cdw12 = 0;
    }
    p->q = 1 + random_number(QUEUES);
    p->cid = driver_put(&driver, p->q, &c);
    p->busy = true;
    driver_ring(&driver, p->q);
}

static void finish(uint32_t q, const struct nvme_completion *done)
{
    for (uint32_t i = 0; i < DEPTH; i++) {
        struct place *p = &m.place[i];
        if (!p->busy || p->q != q || p->cid != done->cid)
            continue;
        p->busy = false;
        m.completions++;
        if (driver_status(done))
            fail_msg("operation %d ends with status 0x%x", p->operation, driver_status(done));
        if (p->operation == WRITE)
            p->seed = p->next;
        else if (p->operation == ZEROES)
            p->seed = 0;
        else if (p->operation == READ && !holds(p))
            fail_msg("place %u: what was read is not what was written", i);
        memset(p->memory, 0x55, 64); /* the device is done with it */
        return;
    }
    fail_msg("a completion of queue %u, id %u, that nobody waits for", q, done->cid);
}

static bool collect(uint32_t q)
{
    struct nvme_completion done;
    bool any = false;

    while (driver_poll(&driver, q, &done)) {
        finish(q, &done);
        any = true;
    }
    if (any)
        driver_ring_head(&driver, q);
    return any;
}

/* The queue with an interrupt is looked at only when that came. */
static bool collect_all(void)
{
    uint64_t n;
    bool any = collect(1);

    if (read(m.irq, &n, sizeof n) == sizeof n)
        any |= collect(2);
    return any;
}

static uint32_t busy_places(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < DEPTH; i++)
        n += m.place[i].busy;
    return n;
}

static void *run_machine(void *unused)
{
    (void)unused;
    for (bool end = false; !end || busy_places();) {
        pthread_mutex_lock(&m.lock);
        for (unsigned turn = 0; turn < 64 && !atomic_load(&m.wanted); turn++) {
            struct place *p = &m.place[random_number(DEPTH)];
            if (!p->busy && !end)
                begin(p);
            collect_all();
        }
        pthread_mutex_unlock(&m.lock);
        while (atomic_load(&m.wanted))
            usleep(10);
        end = atomic_load(&m.end);
    }
    return NULL;
}

static int stop_machine(void *ctx, enum ob_move moment)
{
    (void)ctx;
    if (moment != OB_MOVE_STOPS)
        return 0;
    atomic_store(&m.wanted, true);
    pthread_mutex_lock(&m.lock);
    return 0;
}

static void go_on(struct ob_client *at)
{
    driver.client = at;
    pthread_mutex_unlock(&m.lock);
    atomic_store(&m.wanted, false);
}

static void set_irq(struct ob_client *c)
{
    assert_int_equal(ob_client_irq_eventfds(c, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 1, 1,
                                            &m.irq), 0);
}

static void start_machine(void)
{
    static const uint8_t zeros[DEPTH * BLOCKS * 512];
    const char *seed = getenv("SEED");
    int fd = open(disk.file, O_WRONLY | O_CLOEXEC);

    assert_int_equal(pwrite(fd, zeros, sizeof zeros, 0), (ssize_t)sizeof zeros);
    close(fd);

    memset(&m, 0, sizeof m);
    m.random = seed ? strtoull(seed, NULL, 0) : 1;
    m.irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&m.lock, NULL);
    set_irq(driver.client);
    assert_int_equal(driver_queue(&driver, 2, 64, 1), 0);
    for (uint32_t i = 0; i < DEPTH; i++) {
        m.place[i].memory = pages(BLOCKS / 8);
        uint64_t *list = page();
        for (uint32_t k = 1; k < BLOCKS / 8; k++)
            list[k - 1] = driver_address(&driver, m.place[i].memory) + k * 4096ull;
        m.place[i].list = driver_address(&driver, list);
    }
}

static void check_disk(void)
{
    static uint8_t buf[BLOCKS * 512];

    for (uint32_t i = 0; i < DEPTH; i++) {
        struct place at = { .memory = buf, .seed = m.place[i].seed };
        file_read(i * sizeof buf, buf, sizeof buf);
        if (!holds(&at))
            fail_msg("place %u: what is on the disk is not what was written", i);
    }
}

/* ---- Moves ------------------------------------------------------------------------------------------- */

static void move_or_say(struct ob_client *from, struct ob_client *to)
{
    char why[OB_CLIENT_ERROR_SIZE];
    bool at_to = false;
    int ret = ob_client_move(from, to, stop_machine, NULL, &at_to);

    if (ret < 0)
        fail_msg("%s: %s", at_to ? "destination" : "source",
                 ob_client_error(at_to ? to : from, why, sizeof why));
}

static void move_many(unsigned moves, bool shadow)
{
    struct ob_client *end[2] = { driver.client, NULL };
    pthread_t thread;

    if (shadow && !driver_shadow(&driver))
        return; /* there are none in memory of this kind */
    start_machine();
    end[1] = two_connect(other.socket);
    set_irq(end[1]);
    assert_int_equal(pthread_create(&thread, NULL, run_machine, NULL), 0);
    for (unsigned i = 0; i < moves; i++) {
        usleep(i % 8 * 500);
        move_or_say(end[i % 2], end[!(i % 2)]);
        go_on(end[!(i % 2)]);
    }
    atomic_store(&m.end, true);
    pthread_join(thread, NULL);
    assert_true(m.completions >= moves);
    print_message("# %u moves, %llu commands\n", moves, (unsigned long long)m.completions);
    check_disk();
    ob_client_free(driver.client == end[0] ? end[1] : end[0]);
    close(m.irq);
}

static void test_hundred_moves(void **state)
{
    (void)state;
    move_many(100, false);
}

static void test_moves_with_shadow_doorbells(void **state)
{
    (void)state;
    move_many(20, true);
}

/* ---- Who has the file -------------------------------------------------------------------------------- */

static void test_one_at_a_time(void **state)
{
    static uint8_t stream[1 << 20];
    struct ob_client *to = two_connect(other.socket);
    struct nvme_command c;
    (void)state;

    size_t n = two_save(driver.client, stream, sizeof stream);
    /* The source takes the file back... */
    assert_int_equal(ob_client_set_migration_state(driver.client, VFIO_DEVICE_STATE_RUNNING), 0);
    assert_int_equal(ob_client_set_migration_state(to, VFIO_DEVICE_STATE_RESUMING), 0);
    assert_int_equal(ob_client_mig_data_write(to, stream, n), 0);
    /* ...so the other one has to wait, and can try again. */
    assert_int_equal(ob_client_set_migration_state(to, VFIO_DEVICE_STATE_RUNNING), -EBUSY);
    assert_int_equal(two_state(to), VFIO_DEVICE_STATE_STOP);
    assert_int_equal(ob_client_set_migration_state(driver.client, VFIO_DEVICE_STATE_STOP), 0);
    assert_int_equal(ob_client_set_migration_state(to, VFIO_DEVICE_STATE_RUNNING), 0);
    assert_int_equal(ob_client_set_migration_state(driver.client, VFIO_DEVICE_STATE_RUNNING), -EBUSY);
    struct ob_client *from = driver.client;
    driver.client = to;
    c = rw(NVM_READ, pages(2), 0, 16);
    assert_int_equal(io(&c), 0);
    ob_client_free(from);
}

/* ---- All ---------------------------------------------------------------------------------------------- */

int main(void)
{
    const struct CMUnitTest tests[] = {
        NVME_TEST(test_hundred_moves),   NVME_TEST(test_moves_with_shadow_doorbells),
        NVME_TEST(test_one_at_a_time),
    };
    return cmocka_run_group_tests_name("nvme-migrate", tests, two_serve, two_end);
}

/*
 * test_stale.c - what a dead worker's disk still does must not hit what its successor has done since.
 *
 * The disk lies on a file system that holds up one read or write (slow_fs.h). While it is held, the worker is killed.
 * A driver that got the command completed by the successor would use the buffer, and the blocks, for something else;
 * then what was held lands. With the barrier (devices/nvme/lock.c) the successor completes nothing before that.
 *
 * STALE_DEVICE names a plugin to serve instead: the disk without its barrier. Of that, this program succeeds if it
 * sees the wrong bytes.
 */
#include "../nvme/fixture.h"
#include "slow_fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (16 * MIB)
#define BLOCK 4096u
#define AT (5 * MIB) /* of the block in question */
#define LBA (AT / 512)

static bool broken; /* no barrier */
static char folder[] = "/tmp/outboard-stale-XXXXXX", mount_point[64];

/* ---- Serving ---------------------------------------------------------------------------------------- */

struct way {
    const char *name;
    const char *words[4];
    bool lingers; /* a worker is dead only when its threads' system calls have returned, as the kernel has it */
};
static const struct way uring = { "uring", { "direct=on", "engine=uring" }, false };
static const struct way threads = { "threads", { "direct=on", "engine=threads" }, true };
static const struct way mapped = { "mapped", { "direct=on", "engine=uring", "doorbells=mapped" }, false };
static const struct way readonly = { "readonly", { "direct=on", "engine=uring", "readonly=on" }, false };

static void begin(const struct way *way)
{
    memset(slow_bytes, 0x11, SIZE);
    snprintf(disk.socket, sizeof disk.socket, "%s/socket", folder);
    snprintf(disk.file, sizeof disk.file, "%s/disk", mount_point);
    disk_serve_again(&disk, way->words);
    driver_connect(&driver, disk.socket, 64 * MIB);
    driver_enable(&driver, 16);
    assert_int_equal(driver_queue(&driver, 1, 64, -1), 0);
}

static void end(void)
{
    int status;

    driver_close(&driver);
    kill(disk.pid, SIGTERM);
    assert_int_equal(waitpid(disk.pid, &status, 0), disk.pid);
    assert_int_equal(status, 0);
    unlink(disk.socket);
}

static void kill_worker(void)
{
    pid_t pid = disk_worker(disk.pid);

    assert_true(pid > 0);
    assert_int_equal(kill(pid, SIGKILL), 0);
}

/* One command, begun and held up by the disk. */
static void begin_held(enum slow_what what, const struct nvme_command *c)
{
    slow_hold(what, AT);
    driver_put(&driver, 1, c);
    driver_ring(&driver, 1);
    assert_true(slow_wait_held());
}

static bool completes_within(unsigned ms, struct nvme_completion *c)
{
    for (unsigned i = 0; i < ms; i++) {
        if (driver_poll(&driver, 1, c)) {
            driver_ring_head(&driver, 1);
            assert_int_equal(driver_status(c), 0);
            return true;
        }
        usleep(1000);
    }
    return false;
}

/* The worker dies, and its successor has all the time it needs. True: it completed the command meanwhile. */
static bool die_and_wait(const struct way *way)
{
    struct nvme_completion c;

    kill_worker();
    if (!way->lingers)
        assert_int_equal(driver_read32(&driver, REG_CSTS) & CSTS_RDY, CSTS_RDY); /* registers do not wait */
    bool early = completes_within(broken ? 20000 : 300, &c);
    assert_true(early == broken);
    return early;
}

static void until_completed(bool early)
{
    struct nvme_completion c;

    if (!early)
        assert_true(completes_within(20000, &c));
}

/* ---- Writes and reads that come late ------------------------------------------------------------------ */

static void late_write(void **state)
{
    const struct way *way = *state;

    begin(way);
    uint8_t *p = pages(1);
    struct nvme_command w = rw(NVM_WRITE, p, LBA, BLOCK / 512);
    memset(p, 0x22, BLOCK);
    begin_held(SLOW_WRITE, &w);
    bool early = die_and_wait(way);
    if (!early)
        slow_release();
    until_completed(early);
    /* The driver was told that the write is done: buffer and blocks are its own again. */
    memset(p, 0x33, BLOCK);
    assert_int_equal(io(&w), 0);
    if (early)
        slow_release();
    bool right = true;
    for (unsigned i = 0; i < BLOCK; i++)
        right &= slow_bytes[AT + i] == 0x33;
    assert_true(right == !broken);
    end();
}

static void late_read(void **state)
{
    const struct way *way = *state;

    begin(way);
    uint8_t *p = pages(1);
    struct nvme_command r = rw(NVM_READ, p, LBA, BLOCK / 512), other = rw(NVM_READ, p, 0, BLOCK / 512);
    begin_held(SLOW_READ, &r);
    bool early = die_and_wait(way);
    if (!early)
        slow_release();
    until_completed(early);
    memset(slow_bytes, 0x44, BLOCK);
    assert_int_equal(io(&other), 0);
    if (early)
        slow_release();
    bool right = true;
    for (unsigned i = 0; i < BLOCK; i++)
        right &= p[i] == 0x44;
    assert_true(right == !broken);
    end();
}

/* The successor that waits dies too. */
static void two_deaths(void **state)
{
    const struct way *way = *state;

    begin(way);
    uint8_t *p = pages(1);
    struct nvme_command w = rw(NVM_WRITE, p, LBA, BLOCK / 512);
    memset(p, 0x22, BLOCK);
    begin_held(SLOW_WRITE, &w);
    kill_worker();
    driver_read32(&driver, REG_CSTS);
    assert_false(die_and_wait(way));
    slow_release();
    until_completed(false);
    memset(p, 0x33, BLOCK);
    assert_int_equal(io(&w), 0);
    assert_int_equal(slow_bytes[AT], 0x33);
    end();
}

/* ---- What takes memory or a queue away waits too ------------------------------------------------------ */

static void unmapping(void **state)
{
    const struct way *way = *state;

    begin(way);
    uint8_t *p = pages(1);
    struct nvme_command r = rw(NVM_READ, p, LBA, BLOCK / 512);
    begin_held(SLOW_READ, &r);
    kill_worker();
    driver_read32(&driver, REG_CSTS);
    /* It has an answer before a client loses patience, and the memory is mapped still. */
    assert_int_equal(ob_client_dma_unmap(driver.client, DRIVER_BASE, driver.size), -EBUSY);
    assert_int_equal(driver_map(&driver, DRIVER_BASE, driver.memory, driver.size), -EEXIST);
    slow_release();
    until_completed(false);
    assert_int_equal(p[0], 0x11);
    assert_int_equal(ob_client_reset(driver.client), 0);
    assert_int_equal(ob_client_dma_unmap_all(driver.client), 0);
    end();
}

/* The controller's own reset is begun, and does not end before the disk is done. */
static void disabling(void **state)
{
    const struct way *way = *state;

    begin(way);
    uint8_t *p = pages(1);
    struct nvme_command w = rw(NVM_WRITE, p, LBA, BLOCK / 512);
    memset(p, 0x22, BLOCK);
    begin_held(SLOW_WRITE, &w);
    kill_worker();
    driver_write32(&driver, REG_CC, 6 << 16 | 4 << 20);
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(driver_read32(&driver, REG_CSTS) & CSTS_RDY, CSTS_RDY);
        usleep(1000);
    }
    slow_release();
    assert_true(driver_wait_csts(&driver, CSTS_RDY, 0));
    assert_int_equal(slow_bytes[AT], 0x22);
    end();
}

/* The next client gets the device when nothing of the last one's is under way. */
static void another_client(void **state)
{
    const struct way *way = *state;

    begin(way);
    uint8_t *p = pages(1);
    struct nvme_command r = rw(NVM_READ, p, LBA, BLOCK / 512);
    begin_held(SLOW_READ, &r);
    kill_worker();
    driver_read32(&driver, REG_CSTS);
    driver_close(&driver);
    struct ob_client *c = ob_client_new();
    assert_int_equal(ob_client_connect(c, disk.socket), -EBUSY);
    ob_client_free(c);
    kill_worker(); /* and the one that waits now, without a client */
    for (unsigned i = 0; i < 100; i++) {
        c = ob_client_new();
        assert_int_equal(ob_client_connect(c, disk.socket), -EBUSY);
        ob_client_free(c);
    }
    slow_release();
    driver_connect(&driver, disk.socket, 64 * MIB);
    driver_enable(&driver, 16);
    end();
}

/* ---- The device fails ----------------------------------------------------------------------------------- */

static int read_csts(uint32_t *csts)
{
    return ob_client_read(driver.client, VFIO_PCI_BAR0_REGION_INDEX, REG_CSTS, csts, sizeof *csts);
}

/* Its workers crash, each when it has answered, until one comes that runs no device code. As long as the disk holds
 * something up, that one says nothing of registers, but it says so before a client loses patience. */
static void fail_device(void)
{
    uint32_t csts;
    int ret;

    while ((ret = read_csts(&csts)) == 0 && csts != 0xffffffff) {
        pid_t pid = disk_worker(disk.pid);
        assert_true(pid > 0);
        assert_int_equal(kill(pid, SIGILL), 0); /* of which no sanitizer makes a long story */
    }
    assert_int_equal(ret, broken ? 0 : -EBUSY);
}

/* The memory that it goes to. */
static uint8_t *begin_with_a_held_read(const struct way *way)
{
    begin(way);
    uint8_t *p = pages(1);
    struct nvme_command r = rw(NVM_READ, p, LBA, BLOCK / 512);
    begin_held(SLOW_READ, &r);
    return p;
}

/* A driver that reads all ones knows that the device is gone, and that its buffers are its own again. */
static void failed(void **state)
{
    uint8_t *p = begin_with_a_held_read(*state);
    uint32_t csts = 0;

    fail_device();
    if (!broken) {
        kill_worker();
        assert_int_equal(ob_client_dma_unmap(driver.client, DRIVER_BASE, driver.size), -EBUSY);
        slow_release();
    }
    assert_int_equal(read_csts(&csts), 0);
    assert_int_equal(csts, 0xffffffff);
    memset(p, 0x55, BLOCK);
    if (broken)
        slow_release();
    for (int i = 0; i < 200; i++) {
        assert_int_equal(read_csts(&csts), 0);
        usleep(1000);
    }
    bool right = true;
    for (unsigned i = 0; i < BLOCK; i++)
        right &= p[i] == 0x55;
    assert_true(right == !broken);
    assert_int_equal(ob_client_reset(driver.client), 0);
    assert_int_equal(ob_client_dma_unmap_all(driver.client), 0);
    end();
}

/* What was held is answered as soon as the disk is done. */
static void *release_later(void *unused)
{
    usleep(200000);
    slow_release();
    return unused;
}

static void failed_and_waited_for(void **state)
{
    uint8_t *p = begin_with_a_held_read(*state);
    uint32_t csts = 0;
    pthread_t thread;

    fail_device();
    assert_int_equal(pthread_create(&thread, NULL, release_later, NULL), 0);
    assert_int_equal(read_csts(&csts), 0);
    assert_int_equal(csts, 0xffffffff);
    assert_int_equal(p[0], 0x11); /* it has landed */
    pthread_join(thread, NULL);
    end();
}

static void failed_and_another_client(void **state)
{
    uint32_t csts = 0;

    begin_with_a_held_read(*state);
    fail_device();
    driver_close(&driver);
    for (unsigned i = 0; i < 100; i++) {
        struct ob_client *c = ob_client_new();
        assert_int_equal(ob_client_connect(c, disk.socket), -EBUSY);
        ob_client_free(c);
    }
    slow_release();
    driver_connect(&driver, disk.socket, 64 * MIB);
    assert_int_equal(read_csts(&csts), 0);
    assert_int_equal(csts, 0xffffffff);
    end();
}

static void damage_block(void)
{
    char path[128], link[128];

    for (int fd = 0; fd < 256; fd++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", disk.pid, fd);
        ssize_t n = readlink(path, link, sizeof link - 1);
        link[n > 0 ? n : 0] = '\0';
        if (!strstr(link, "outboard-block"))
            continue;
        int block = open(path, O_RDWR | O_CLOEXEC);
        assert_true(block >= 0);
        assert_int_equal(pwrite(block, "damaged", 7, 0), 7);
        close(block);
        return;
    }
    fail_msg("the keeper has no block");
}

/* Nobody can go on with the session. But a client that is sent away takes its memory back. */
static void lost(void **state)
{
    uint32_t csts = 0;

    begin_with_a_held_read(*state);
    damage_block();
    kill_worker();
    assert_int_equal(read_csts(&csts), -ETIMEDOUT); /* and not that the server has gone */
    slow_release();
    driver_close(&driver);
    driver_connect(&driver, disk.socket, 64 * MIB);
    assert_int_equal(read_csts(&csts), 0);
    assert_int_equal(csts, 0xffffffff);
    end();
}

/* ---- Whose the file is --------------------------------------------------------------------------------- */

static int try_lock(short type)
{
    struct flock l = { .l_type = type, .l_whence = SEEK_SET };
    int fd = open(disk.file, O_RDWR | O_CLOEXEC), ret = 0;

    if (fcntl(fd, F_OFD_SETLK, &l) < 0)
        ret = -errno;
    close(fd);
    return ret;
}

/* Between two workers nobody else gets it. The keeper stands still meanwhile, and the moment lasts. */
static void nobody_gets_in_between(void **state)
{
    const struct way *way = *state;

    begin(way);
    pid_t pid = disk_worker(disk.pid);
    assert_int_equal(kill(disk.pid, SIGSTOP), 0);
    kill_worker();
    for (char stat = 0; stat != 'Z';) {
        char path[64], text[256];
        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        FILE *f = fopen(path, "re");
        assert_non_null(f);
        assert_non_null(fgets(text, sizeof text, f));
        stat = strrchr(text, ')')[2];
        fclose(f);
    }
    assert_int_equal(try_lock(F_WRLCK), -EAGAIN);
    assert_int_equal(kill(disk.pid, SIGCONT), 0);
    driver_read32(&driver, REG_CSTS);
    assert_int_equal(try_lock(F_WRLCK), -EAGAIN);
    end();
    assert_int_equal(try_lock(F_WRLCK), 0);
}

/* A device that shares the file does not wait for what this one's dead worker has under way. */
static void another_reader(void **state)
{
    const struct way *way = *state;

    begin(way);
    uint8_t *p = pages(1);
    struct nvme_command r = rw(NVM_READ, p, LBA, BLOCK / 512);
    begin_held(SLOW_READ, &r);
    kill_worker();
    driver_read32(&driver, REG_CSTS);
    struct disk first_disk = disk;
    struct driver first_driver = driver;

    snprintf(disk.socket, sizeof disk.socket, "%s/other", folder);
    disk_serve_again(&disk, way->words);
    driver_connect(&driver, disk.socket, 64 * MIB);
    driver_enable(&driver, 16);
    assert_int_equal(driver_queue(&driver, 1, 64, -1), 0);
    uint8_t *q = pages(1);
    struct nvme_command other = rw(NVM_READ, q, 0, BLOCK / 512);
    assert_int_equal(io(&other), 0);
    assert_int_equal(q[0], 0x11);
    assert_int_equal(try_lock(F_WRLCK), -EAGAIN);
    end();

    disk = first_disk;
    driver = first_driver;
    slow_release();
    until_completed(false);
    assert_int_equal(p[0], 0x11);
    end();
}

int main(void)
{
#define WAY(test, way) { #test ", " #way, test, NULL, NULL, (void *)(uintptr_t)&way }
    const struct CMUnitTest all[] = {
        WAY(late_write, uring), WAY(late_read, uring), WAY(late_read, readonly),
        WAY(late_write, threads), WAY(late_read, threads),
        WAY(two_deaths, uring), WAY(unmapping, uring), WAY(disabling, uring), WAY(another_client, uring),
        WAY(failed, uring), WAY(failed, mapped), WAY(failed, readonly), WAY(failed_and_waited_for, uring),
        WAY(failed_and_another_client, uring), WAY(lost, uring), WAY(lost, readonly),
        WAY(nobody_gets_in_between, uring), WAY(nobody_gets_in_between, readonly), WAY(another_reader, readonly),
    };
    const struct CMUnitTest seen[] = {
        WAY(late_write, uring), WAY(late_read, uring), WAY(late_read, readonly), WAY(failed, uring),
    };

    if (!mkdtemp(folder))
        return 1;
    snprintf(mount_point, sizeof mount_point, "%s/slow", folder);
    if (mkdir(mount_point, 0700) < 0 || !slow_mount(mount_point, SIZE)) {
        printf("1..0 # SKIP no FUSE here: %s\n", strerror(errno));
        return 77;
    }
    broken = getenv("STALE_DEVICE") != NULL;
    if (broken)
        disk_device = getenv("STALE_DEVICE");
    int failed = broken ? cmocka_run_group_tests(seen, NULL, NULL) : cmocka_run_group_tests(all, NULL, NULL);
    slow_unmount(mount_point);
    rmdir(mount_point);
    rmdir(folder);
    return failed;
}

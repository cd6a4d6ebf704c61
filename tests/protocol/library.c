/*
 * library.c - the client library against a served device, one case of test_library.py at a time.
 *
 *   library CASE SOCKET PID      (PID: of the server; without arguments, lists "DEVICE CASE";
 *                               DEVICE may have keys, in which TMP is a folder of the test)
 *
 * It is linked as a stranger's program would be: with <outboard/client.h> and liboutboard.so alone.
 * Exit 0, or 1 after a line that says what is wrong.
 */
#include "library.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

const char *path;
pid_t server;
struct ob_client *c;

void check(const char *file, int line, const char *what, long long is, long long should)
{
    char why[OB_CLIENT_ERROR_SIZE] = "";
    if (is == should)
        return;
    if (c)
        ob_client_error(c, why, sizeof why);
    printf("%s:%d: %s is %lld, not %lld (%s)\n", file, line, what, is, should, why);
    exit(1);
}

struct ob_client *connected(void)
{
    struct ob_client *one = ob_client_new();
    TRUE(one);
    c = one;
    CHECK(ob_client_connect(one, path), 0);
    return one;
}

uint32_t get(uint64_t at)
{
    uint32_t value = 0;
    CHECK(ob_client_read(c, 0, at, &value, sizeof value), 0);
    return value;
}

void set(uint64_t at, uint32_t value)
{
    CHECK(ob_client_write(c, 0, at, &value, sizeof value), 0);
}

void set64(uint64_t at, uint64_t value)
{
    CHECK(ob_client_write(c, 0, at, &value, sizeof value), 0);
}

uint64_t count(int fd)
{
    uint64_t n = 0;
    return read(fd, &n, sizeof n) == sizeof n ? n : 0;
}

uint64_t wait_for(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    CHECK(poll(&p, 1, 20000), 1);
    return count(fd);
}

int event(void)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    TRUE(fd >= 0);
    return fd;
}

int memory_file(size_t size, void **p)
{
    int fd = memfd_create("library", MFD_CLOEXEC);
    TRUE(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    TRUE(*p != MAP_FAILED);
    return fd;
}

void bus_master(void)
{
    uint16_t command = 6;
    CHECK(ob_client_write(c, VFIO_PCI_CONFIG_REGION_INDEX, 4, &command, 2), 0);
}

/* ---- The connection ------------------------------------------------------------------------- */

static void case_negotiation(void)
{
    struct ob_capabilities ours, theirs;

    c = ob_client_new();
    uint32_t value;
    CHECK(ob_client_read(c, 0, 0, &value, 4), -ENOTCONN);
    CHECK(ob_client_set_limits(c, 4, 1000), 0);
    CHECK(ob_client_connect(c, path), 0);
    CHECK(ob_client_connect(c, path), -EISCONN);
    CHECK(ob_client_set_limits(c, 4, 1000), -EISCONN);
    CHECK(ob_client_capabilities(c, &ours, &theirs), 0);
    TRUE(ours.max_msg_fds == 4 && ours.max_data_xfer_size == 1000);
    TRUE(theirs.major == 0 && theirs.minor == 1 && theirs.max_msg_fds == 16 &&
         theirs.max_data_xfer_size == 65536 && theirs.pgsizes == 4096 && theirs.write_multiple);
    TRUE(ob_client_fd(c) >= 0);
    CHECK(get(0), 0x010000ed);
}

static void case_adopt(void)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int s = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    CHECK(connect(s, (struct sockaddr *)&addr, sizeof addr), 0);
    c = ob_client_new();
    CHECK(ob_client_adopt(c, s), 0);
    CHECK(get(0), 0x010000ed);
}

static void case_busy(void)
{
    struct ob_client *first = connected(), *second = ob_client_new();
    char why[OB_CLIENT_ERROR_SIZE];

    CHECK(ob_client_connect(second, path), -EBUSY);
    TRUE(ob_client_error(second, why, sizeof why)[0]);
    ob_client_free(second);
    CHECK(get(0), 0x010000ed);
    ob_client_free(first);
    for (int i = 0; i < 20; i++) { /* the place is free as soon as the server has noticed */
        second = connected();
        ob_client_free(second);
    }
    c = NULL;
}

static void case_nobody_there(void)
{
    char where[256];

    c = ob_client_new();
    snprintf(where, sizeof where, "%s.not", path);
    CHECK(ob_client_connect(c, where), -ENOENT);
    ob_client_free(c);
    c = ob_client_new();
    memset(where, 'x', sizeof where - 1);
    where[sizeof where - 1] = '\0';
    CHECK(ob_client_connect(c, where), -ENAMETOOLONG);
}

/* The server is stopped for a while: the call ends, and its late reply disturbs nobody. */
static void case_timeout(void)
{
    uint32_t value = 5;

    connected();
    CHECK(ob_client_set_timeout(c, 100), 0);
    kill(server, SIGSTOP);
    CHECK(ob_client_read(c, 0, 0, &value, 4), -ETIMEDOUT);
    CHECK(value, 5);
    kill(server, SIGCONT);
    CHECK(ob_client_set_timeout(c, 20000), 0);
    for (uint32_t i = 0; i < 10; i++) {
        set(4, i);
        CHECK(get(4), ~i);
    }
}

static void case_server_gone(void)
{
    uint32_t value;

    connected();
    kill(server, SIGKILL);
    int ret = ob_client_read(c, 0, 0, &value, 4);
    CHECK(ret, -ECONNRESET);
    CHECK(ob_client_reset(c), ret); /* it stays lost */
}

/* ---- The device ----------------------------------------------------------------------------- */

static void case_info(void)
{
    struct vfio_user_device_info info;
    struct vfio_irq_info irq;
    struct ob_region *region;

    connected();
    CHECK(ob_client_device_info(c, &info), 0);
    TRUE((info.flags & VFIO_DEVICE_FLAGS_PCI) && (info.flags & VFIO_DEVICE_FLAGS_RESET));
    CHECK(info.num_regions, 9);
    CHECK(info.num_irqs, 5);
    CHECK(ob_client_region(c, 0, &region), 0);
    TRUE(region->size == 1 << 20 && region->fd == -1 && !region->has_areas && region->index == 0);
    void *p;
    CHECK(ob_region_map(region, 0, 4096, PROT_READ, &p), -ENOTSUP);
    ob_region_free(region);
    CHECK(ob_client_region(c, 1, &region), 0);
    CHECK(region->size, 0);
    ob_region_free(region);
    CHECK(ob_client_region(c, 9, &region), -EINVAL);
    TRUE(!region);
    CHECK(ob_client_irq_info(c, VFIO_PCI_MSI_IRQ_INDEX, &irq), 0);
    CHECK(irq.count, 1);
    CHECK(ob_client_irq_info(c, 5, &irq), -EINVAL);
}

static void case_access(void)
{
    uint64_t value = 0;

    connected();
    set(4, 0x12345678);
    CHECK(get(4), 0xedcba987);
    set64(0x80, 0x1122334455667788);
    CHECK(ob_client_read(c, 0, 0x80, &value, 8), 0);
    TRUE(value == 0x1122334455667788);
    CHECK(ob_client_read(c, 0, 0, &value, 2), -EINVAL);
    CHECK(ob_client_read(c, 0, 1 << 20, &value, 4), -EINVAL);
    CHECK(ob_client_read(c, 0, UINT64_MAX - 2, &value, 4), -EINVAL);
    CHECK(ob_client_read(c, 3, 0, &value, 4), -EINVAL);
    CHECK(ob_client_read(c, 0, 0, &value, 0), 0);
    CHECK(get(0), 0x010000ed);
}

static void case_posted(void)
{
    connected();
    for (uint32_t i = 0; i < 1000; i++)
        CHECK(ob_client_post(c, 0, 4, &i, sizeof i), 0);
    CHECK(get(4), ~999u);
    uint32_t value = 0;
    CHECK(ob_client_post(c, 0, 1 << 21, &value, 4), 0); /* refused, and nobody will know */
    CHECK(get(4), ~999u);
}

static void case_pipelined(void)
{
    struct ob_request *requests[OB_CLIENT_REQUESTS], *one;
    uint32_t values[OB_CLIENT_REQUESTS];

    connected();
    for (int round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < OB_CLIENT_REQUESTS; i += 2) {
            uint32_t value = i + (uint32_t)round;
            CHECK(ob_client_start_write(c, 0, 4, &value, 4, &requests[i]), 0);
            CHECK(ob_client_start_read(c, 0, 4, &values[i], 4, &requests[i + 1]), 0);
        }
        CHECK(ob_client_start_read(c, 0, 4, &values[1], 4, &one), -EAGAIN);
        /* Newest first: the order of waiting is free, that of running is not. */
        for (int i = OB_CLIENT_REQUESTS - 1; i >= 0; i--)
            CHECK(ob_request_wait(requests[i]), 0);
        for (uint32_t i = 0; i < OB_CLIENT_REQUESTS; i += 2)
            CHECK(values[i], ~(i + (uint32_t)round));
    }
}

static void case_write_multi(void)
{
    struct vfio_user_write writes[50];

    connected();
    for (uint32_t i = 0; i < 50; i++) {
        uint32_t value = i;
        writes[i] = (struct vfio_user_write){ .offset = 4, .region = 0, .count = 4 };
        memcpy(writes[i].data, &value, 4);
    }
    CHECK(ob_client_write_multi(c, writes, 50, false), 0);
    CHECK(get(4), ~49u);
    writes[49].offset = 1 << 20;
    TRUE(ob_client_write_multi(c, writes, 50, false) < 0);
    CHECK(get(4), ~48u); /* those before the bad one were run */
    CHECK(ob_client_write_multi(c, writes, 10, true), 0);
    CHECK(get(4), ~9u);
}

/* Doorbells of probe, and their descriptors. */
static void case_io_fds(void)
{
    struct ob_io_fds *fds;
    uint32_t one = 1, sixteen = 0x10, two = 2;

    connected();
    CHECK(ob_client_io_fds(c, 0, &fds), 0);
    CHECK(fds->count, 3);
    TRUE(fds->region == 0 && fds->sub[0].offset == 96 && fds->sub[0].size == 4 &&
         fds->sub[1].value == 0x10 && fds->sub[1].flags == VFIO_USER_IOEVENTFD_DATAMATCH);
    TRUE(ob_io_fds_signal(fds, 96, &sixteen, 4));
    while (get(100) != 1)
        ;
    CHECK(get(104), 0x10);
    TRUE(ob_io_fds_signal(fds, 96, &one, 4));
    while (get(100) != 2)
        ;
    CHECK(get(104), 0x11);
    TRUE(!ob_io_fds_signal(fds, 96, &two, 4)); /* another value, size, place */
    TRUE(!ob_io_fds_signal(fds, 96, &one, 2));
    TRUE(!ob_io_fds_signal(fds, 100, &one, 4));
    TRUE(!ob_io_fds_signal(fds, 96, &one, 0));
    CHECK(eventfd_write(fds->sub[0].fd, UINT64_MAX - 1), 0);
    ob_io_fds_signal(fds, 96, &one, 4); /* its counter may be full */
    while (get(100) < 3)
        ;
    ob_io_fds_free(fds);
    CHECK(ob_client_io_fds(c, 5, &fds), 0); /* nothing there */
    CHECK(fds->count, 0);
    TRUE(!ob_io_fds_signal(fds, 0, &one, 4));
    ob_io_fds_free(fds);
    CHECK(ob_client_io_fds(c, 3, &fds), -EINVAL);
    TRUE(!fds);
    CHECK(ob_client_io_fds(c, 99, &fds), -EINVAL);
}

static void case_reset(void)
{
    connected();
    set(4, 0);
    CHECK(ob_client_reset(c), 0);
    CHECK(get(4), 0);
}

static void case_migration(void)
{
    uint8_t stream[16384];
    uint32_t state = 99;
    uint64_t flags = 0;

    connected();
    set(4, 0x12345678);
    CHECK(ob_client_migration(c, &flags), 0);
    CHECK(flags, 5);
    CHECK(ob_client_mig_data_read(c, stream, sizeof stream), -EINVAL);
    CHECK(ob_client_mig_data_write(c, stream, sizeof stream), -EINVAL);
    CHECK(ob_client_set_migration_state(c, VFIO_DEVICE_STATE_STOP_COPY), 0);
    ssize_t n = ob_client_mig_data_read(c, stream, sizeof stream);
    CHECK(n > 4096 && n < 16384, 1);
    CHECK(ob_client_set_migration_state(c, VFIO_DEVICE_STATE_RUNNING), 0);
    CHECK(ob_client_reset(c), 0);
    CHECK(get(4), 0);
    CHECK(ob_client_set_migration_state(c, VFIO_DEVICE_STATE_RESUMING), 0);
    CHECK(ob_client_mig_data_write(c, stream, (size_t)n), 0);
    CHECK(ob_client_migration_state(c, &state), 0);
    CHECK(state, VFIO_DEVICE_STATE_RESUMING);
    CHECK(ob_client_set_migration_state(c, VFIO_DEVICE_STATE_RUNNING), 0);
    CHECK(get(4), ~0x12345678u);
}

/* ---- Which ---------------------------------------------------------------------------------- */

static const struct {
    const char *device, *name;
    void (*run)(void);
} cases[] = {
    { "edu", "negotiation", case_negotiation },
    { "edu", "adopt", case_adopt },
    { "edu", "busy", case_busy },
    { "edu", "nobody_there", case_nobody_there },
    { "edu", "timeout", case_timeout },
    { "edu", "server_gone", case_server_gone },
    { "edu", "info", case_info },
    { "edu", "access", case_access },
    { "edu", "posted", case_posted },
    { "edu", "pipelined", case_pipelined },
    { "edu", "write_multi", case_write_multi },
    { "probe", "io_fds", case_io_fds },
    { "edu", "reset", case_reset },
    { "edu", "migration", case_migration },
    { "edu", "interrupts", case_interrupts },
    { "probe", "vectors", case_vectors },
    { "edu", "dma_by_descriptor", case_dma_by_descriptor },
    { "edu", "dma_by_messages", case_dma_by_messages },
    { "edu", "process", case_process },
    { "probe", "twin", case_twin },
    { "probe", "twin_process", case_twin_process },
    { "probe", "twin_serve", case_twin_serve },
    { "serial,path=-", "twin_declined", case_twin_declined },
    { "probe", "large", case_large },
    { "probe", "mappings", case_mappings },
    { "probe", "threads", case_threads },
    { "serial,bus=platform,path=unix:TMP/line", "serial_driver", case_serial_driver },
    { "rtc", "rtc_driver", case_rtc_driver },
    { "rtc", "rtc_migrates", case_rtc_migrates },
};

int main(int argc, char **argv)
{
    path = argc > 3 ? argv[2] : NULL;
    server = argc > 3 ? atoi(argv[3]) : 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (argc == 1) {
            printf("%s %s\n", cases[i].device, cases[i].name);
        } else if (argc > 3 && strcmp(argv[1], cases[i].name) == 0) {
            cases[i].run();
            ob_client_free(c);
            return 0;
        }
    }
    return argc == 1 ? 0 : 2;
}

/*
 * migration.c - fuzz target: the stream of a device's state, hostile, and the device that runs with it.
 *
 * A device is driven a little, stopped and saved. The stream is changed as the input says (fields, the
 * description, whole records; the checksums are made right again, or else nothing would come further
 * than them) and loaded. If it is accepted the device runs, is driven again, and what it has become can
 * be saved and loaded.
 */
#include "clock.h"
#include "descriptors.h"
#include "input.h"
#include "target.h"

#include "server/dma.h"
#include "server/frame.h"
#include "server/migration.h"
#include "server/region.h"
#include "server/reset.h"
#include "state/crc32c.h"
#include "state/fields.h"
#include "worker/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <nvme/spec.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

extern const struct ob_plugin *const ob_plugin_edu, *const ob_plugin_serial, *const ob_plugin_probe,
    *const ob_plugin_nvme;

#define DEVICES 4
#define RECORDS 512
#define LONGEST (1u << 20)

static struct world {
    struct loop loop;
    struct served served;
} worlds[DEVICES];
static struct loop *loop;
static struct ob_device *dev;
static struct input in;
static uint8_t stream[LONGEST + 4096];
static size_t length;

static struct record {
    size_t at, size;
} records[RECORDS];
static unsigned count;

/* ---- The device ------------------------------------------------------------------------------------- */

static void turn(void)
{
    loop_turn(loop, 0);
}

/* To another state, as a message would have it; what is under way ends. */
static int go(uint32_t state)
{
    for (unsigned i = 0; i < 200; i++) {
        server_step_begin(dev);
        int ret = migration_set(dev, state);
        if (ret != -EINPROGRESS) {
            if (ret < 0 && dev->migration->state != VFIO_DEVICE_STATE_ERROR)
                server_step_undo(dev);
            server_step_end(dev, 0, 0);
            return ret;
        }
        step_cancel(&dev->block);
        clock_advance(UINT64_C(1000000) << 32);
        turn();
    }
    REQUIRE(false); /* it stops */
    return -EIO;
}

static void access_region(bool is_write, uint32_t region, uint64_t at, uint32_t n, uint64_t v)
{
    struct wire_message m = { .data = &v, .data_size = n,
                              .region = { .offset = at, .region = region, .count = n } };
    struct reply reply = { .body = dev->output, .space = SHARED_BUFFER };

    server_step_begin(dev);
    int ret = is_write ? region_write(dev, &m, &reply) : region_read(dev, &m, &reply);
    if (ret == -EINPROGRESS) {
        step_cancel(&dev->block);
        return;
    }
    if (ret < 0)
        server_step_undo(dev);
    server_step_end(dev, 0, 0);
}

/* The disk's engine can have no threads, and does its work in the caller: a run is the same each time. */
static bool stopped;
/* The sanitizer's own tells libFuzzer of each comparison, at a fifth of all time, for a use that is off. */
int __wrap_strcmp(const char *a, const char *b);
int __wrap_strcmp(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return (unsigned char)*a - (unsigned char)*b;
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    return stopped ? EAGAIN : __real_pthread_create(thread, attr, run, arg);
}

static void disk_register(uint64_t at, uint64_t v, uint32_t n)
{
    access_region(true, 0, at, n, v);
}

/* The disk with its queues in memory, and a command in one of them. */
static void drive_disk(uint8_t how)
{
    struct nvme_command c = { .opcode = take8(&in), .cid = how, .nsid = 1, .prp1 = 0x106000,
                              .cdw10 = how & 0x40 ? (uint32_t)take_number(&in) : 1,
                              .cdw11 = how & 0x80 ? (uint32_t)take_number(&in) : 1 };
    uint32_t q = how & 3, at = how >> 2 & 7;

    if (how & 0x20) {
        disk_register(REG_AQA, 7 << 16 | 7, 4);
        disk_register(REG_ASQ, 0x100000, 8);
        disk_register(REG_ACQ, 0x101000, 8);
        disk_register(REG_CC, CC_EN | 6u << 16 | 4u << 20, 4);
        access_region(true, 7, 4, 2, 6);
    }
    if (q == 1 && c.opcode == ADMIN_CREATE_CQ)
        c.prp1 = 0x103000;
    REQUIRE(pwrite(descriptor[FD_SEALED], &c, sizeof c, q * 0x2000 + at * (off_t)sizeof c) == sizeof c);
    disk_register(REG_DOORBELLS + q * 8, (at + 1) % 8, 4);
    turn();
}

/* Some acts of a driver, and of time. */
static void drive(void)
{
    for (unsigned n = take8(&in) % 16; n && in.left; n--) {
        uint8_t how = take8(&in);
        uint32_t region = (how & 0x30) == 0x30 ? 7 : (how & 0x30) == 0x20 ? 4 : 0;
        uint32_t bytes = dev->plugin == ob_plugin_serial && !region ? 1 : 4;
        uint64_t at = take8(&in) * (uint64_t)bytes;

        if (dev->plugin == ob_plugin_nvme && how & 8) {
            drive_disk((uint8_t)at);
            continue;
        }
        switch (how % 8) {
        case 0: access_region(false, region, at, bytes, 0); break;
        case 1: clock_advance(take8(&in) * UINT64_C(10000000)); turn(); break;
        case 2: turn(); break;
        default: access_region(true, region, at, bytes, take_number(&in)); break;
        }
    }
}

/* ---- The stream ------------------------------------------------------------------------------------- */

static void save(void)
{
    REQUIRE(go(VFIO_DEVICE_STATE_STOP_COPY) == 0);
    length = 0;
    for (size_t n; (n = fields_read(dev->stream, dev->migration->stopped_at, length, stream + length,
                                    LONGEST - length)) != 0; length += n)
        ;
    REQUIRE(length == fields_size(dev->stream) && length < LONGEST);
    REQUIRE(go(VFIO_DEVICE_STATE_RUNNING) == 0);
}

/* In pieces of so many bytes from there on, but not all: each costs a step. */
static int load(size_t piece, size_t from)
{
    int ret = 0;
    unsigned small = 64;

    REQUIRE(go(VFIO_DEVICE_STATE_RESUMING) == 0);
    for (size_t at = 0, n; at < length && ret == 0; at += n) {
        if (at < from)
            n = from - at;
        else
            n = small && small-- ? piece : 65536;
        n = n < length - at ? n : length - at;
        n = n < 65536 ? n : 65536;
        struct wire_message m = { .data = stream + at, .data_size = n };
        server_step_begin(dev);
        ret = migration_write(dev, &m);
        if (ret < 0)
            server_step_undo(dev);
        server_step_end(dev, 0, 0);
    }
    return go(VFIO_DEVICE_STATE_STOP);
}

static uint64_t get(size_t at, unsigned bytes)
{
    uint64_t v = 0;
    memcpy(&v, stream + at, bytes);
    return v;
}

static void find_records(void)
{
    count = 0;
    for (size_t at = 0; at + 20 <= length && count < RECORDS; at += records[count++].size) {
        uint64_t body = get(at + 8, 8);
        if (body > length - at - 20)
            break;
        records[count] = (struct record){ at, body + 20 };
    }
}

static void mend_checksums(void)
{
    find_records();
    for (unsigned i = 0; i < count; i++) {
        uint64_t place = records[i].at;
        uint32_t crc = crc32c(crc32c(0, &place, sizeof place), stream + place, records[i].size - 4);
        memcpy(stream + place + records[i].size - 4, &crc, sizeof crc);
    }
}

/* One change. */
static void change(void)
{
    uint8_t how = take8(&in);
    const struct record *r = count ? &records[take(&in, 2) % count] : &(struct record){ 0, 1 };
    uint64_t v;
    size_t at, got;

    switch (how % 8) {
    case 0: case 1: case 2: case 3: /* a value; of the header's 16 bytes seldom, of the two numbers never */
        at = r->at + (how & 0x80 ? 0 : 24) + take(&in, how & 0x40 ? 2 : 1) % r->size;
        v = take_number(&in);
        memcpy(stream + at, &v, how >> 3 & 1 ? 8 : how >> 4 & 1 ? 4 : 1);
        break;
    case 4: /* the description */
        at = records[0].at + 16 + take(&in, 2) % (records[0].size ? records[0].size : 1);
        v = take_number(&in);
        memcpy(stream + at, &v, how >> 3 & 1 ? 4 : 1);
        break;
    case 5: length = r->at + take(&in, 2) % (r->size + 1); break;
    case 6: /* a record goes, or comes twice */
        if (r->at + r->size > length)
            break; /* nothing is left of it */
        if (how & 0x80) {
            memmove(stream + r->at, stream + r->at + r->size, length - r->at - r->size);
            length -= r->size;
        } else if (length + r->size <= LONGEST) {
            memmove(stream + r->at + r->size, stream + r->at, length - r->at);
            length += r->size;
        }
        break;
    case 7: {
        const uint8_t *p = take_bytes(&in, take8(&in) % 64, &got);
        at = how & 0x80 ? length : r->at + take8(&in) % r->size;
        if (got)
            memcpy(stream + at, p, got);
        if (at + got > length)
            length = at + got;
        break;
    }
    }
    find_records();
}

/* ---- One input -------------------------------------------------------------------------------------- */

static void map_memory(void)
{
    struct wire_message m = { .map = { .argsz = sizeof m.map, .address = 0x100000, .size = MEMORY_BYTES,
                                       .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE } };
    struct wire_fds fds = { .fd = { dup(descriptor[FD_SEALED]) }, .count = 1 };

    server_step_begin(dev);
    REQUIRE(dma_map(dev, &m, &fds) == 0);
    server_step_end(dev, 0, 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const struct ob_plugin *plugins[DEVICES] = { ob_plugin_edu, ob_plugin_serial, ob_plugin_probe,
                                                 ob_plugin_nvme };
    static char disk[32];
    static const struct option_value options[DEVICES][2] = {
        [1] = { { "path", "/dev/null" } }, [3] = { { "file", disk }, { "engine", "threads" } }
    };
    static const unsigned counts[DEVICES] = { 0, 1, 0, 2 };
    int file = memfd_create("disk", MFD_CLOEXEC);

    (void)argc;
    (void)argv;
    signal(SIGPIPE, SIG_IGN);
    descriptors_open();
    REQUIRE(file >= 0 && ftruncate(file, 65536) == 0);
    snprintf(disk, sizeof disk, "/proc/self/fd/%d", file);
    clock_stop(); /* so that no time that is kept was a real one */
    stopped = true;
    for (int i = 0; i < DEVICES; i++) {
        struct served *s = &worlds[i].served;
        REQUIRE(loop_open(&worlds[i].loop) == 0);
        s->dev = dev = server_device_new(plugins[i], plugins[i]->name, options[i], counts[i],
                                         worlds[i].loop.epoll, NULL, -1, NULL);
        REQUIRE(dev && dev->stream && lobby_open(&s->lobby, dev, -1) == 0);
        worlds[i].loop.first = s;
        map_memory();
    }
    stopped = false;
    clock_go_on();
    return 0;
}

/* As after power on, whatever state it was left in. */
static void end(void)
{
    int ret = -EINPROGRESS;

    for (unsigned i = 0; ret == -EINPROGRESS; i++) {
        REQUIRE(i < 200);
        server_step_begin(dev);
        ret = server_reset(dev);
        if (ret < 0)
            server_step_undo(dev);
        server_step_end(dev, 0, 0);
        turn();
    }
    REQUIRE(ret == 0);
    REQUIRE(dev->migration->state == VFIO_DEVICE_STATE_RUNNING);
    server_step_begin(dev);
    if (dev->plugin != ob_plugin_nvme) /* which finds out at its start how large its files are */
        memset(dev->state, 0, dev->plugin->state.size);
    server_power_on(dev);
    server_step_end(dev, 0, 0);
    turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int lowest = descriptor_lowest();

    in = (struct input){ data, size };
    uint8_t how = take8(&in);
    struct world *w = &worlds[how % 8 == 7 ? 2 : how % 8 == 6 ? 3 : how % 2];
    loop = &w->loop;
    dev = w->served.dev;
    dev->log_lines = 8;
    clock_stop();
    stopped = true;
    drive();
    save();
    find_records();
    for (unsigned n = how >> 3 & 7; n; n--)
        change();
    if (!(how & 0x80))
        mend_checksums();
    size_t piece = how & 0x40 ? 1 + take8(&in) * 16u : 65536;
    if (load(piece, how & 0x40 ? take(&in, 2) % (length + 1) : 0) == 0) {
        REQUIRE(go(VFIO_DEVICE_STATE_RUNNING) == 0);
        drive();
        save();
        REQUIRE(load(65536, 0) == 0 && go(VFIO_DEVICE_STATE_RUNNING) == 0);
        drive();
    }
    end();
    stopped = false;
    clock_go_on();
    REQUIRE(descriptor_lowest() == lowest);
    return 0;
}

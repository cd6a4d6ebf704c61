/*
 * test_steps.c - a worker dies at every point of every kind of message, and nobody notices.
 *
 * Each scenario starts from the same device: a client has negotiated, mapped memory, set up
 * interrupts. A message is sent, and a second one behind it whose reply marks the end. First a worker
 * runs both undisturbed: its replies, the device's block and guest memory are what is expected. Then
 * workers die, at point 1, 2, 3 and so on (abort.h), and a successor goes on with what is left. Replies
 * must come exactly once, byte for byte; state and memory must be as expected; an interrupt may come
 * once too often, but not be lost.
 */
#include "say.h"
#include "stand_in.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- The device: one register for each thing that a step can do ------------------------------------- */

struct state {
    uint64_t value[8];
    uint64_t timers;
    uint64_t transfers;
    uint64_t errors;
    uint64_t written; /* bytes that went to the backend */
    uint8_t received[16];
    uint64_t received_count;
    uint8_t buffer[64];
};

enum { VALUE = 0, INTX = 64, MESSAGE = 72, TIMER = 80, DMA_READ_REG = 88, DMA_WRITE_REG = 96, OUT = 104,
       IN = 112, FAIL = 120, BELL = 40 };

static int backend[2]; /* the device's end, the test's end */

static int test_read(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    if (at + n > 64)
        return -EINVAL;
    memcpy(buf, (uint8_t *)ob_state(dev) + at, n);
    return 0;
}

static int test_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    struct state *s = ob_state(dev);
    uint64_t v = 0;
    ssize_t done;

    memcpy(&v, buf, n);
    ob_touch(dev, s, sizeof *s);
    s->value[7] += at != BELL; /* it may ring twice */
    switch (at) {
    case INTX: ob_intx(dev, v); return 0;
    case MESSAGE:
        ob_message(dev, (unsigned)v);
        ob_irq(dev, 1, true); /* an edge, where it is no PCI device */
        ob_irq(dev, 1, false);
        return 0;
    case TIMER: ob_timer_set(dev, 0, ob_now(dev)); return 0;
    case DMA_READ_REG: return ob_dma_read(dev, 0, v, s->buffer, sizeof s->buffer);
    case DMA_WRITE_REG: return ob_dma_write(dev, 1, v, s->value, sizeof s->value);
    case OUT:
        done = ob_write(dev, backend[0], &v, n);
        s->written += done > 0 ? (uint64_t)done : 0;
        return done < 0 ? (int)done : 0;
    case IN:
        done = ob_read(dev, backend[0], s->received, sizeof s->received);
        s->received_count += done > 0 ? (uint64_t)done : 0;
        return done < 0 ? (int)done : 0;
    case FAIL: return -EIO;
    default:
        if (at + n > 56)
            return -EINVAL;
        memcpy((uint8_t *)s->value + at, buf, n);
        return 0;
    }
}

static void test_timer(struct ob_device *dev, unsigned id)
{
    struct state *s = ob_state(dev);
    (void)id;
    ob_touch(dev, &s->timers, sizeof s->timers);
    s->timers++;
    ob_message(dev, 1);
}

static void test_dma_done(struct ob_device *dev, unsigned slot, int error)
{
    struct state *s = ob_state(dev);
    (void)slot;
    ob_touch(dev, s, sizeof *s);
    s->transfers++;
    s->errors += error != 0;
    ob_message(dev, 0);
}

static void test_reset(struct ob_device *dev, enum ob_reset kind)
{
    struct state *s = ob_state(dev);
    (void)kind;
    ob_touch(dev, s, sizeof *s);
    memset(s, 0, sizeof *s);
    s->value[0] = 42;
}

static const struct ob_field fields[] = {
    OB_INTS(struct state, value),    OB_INT(struct state, timers),   OB_INT(struct state, transfers),
    OB_INT(struct state, errors),    OB_INT(struct state, written),  OB_BYTES(struct state, received),
    OB_INT(struct state, received_count), OB_BYTES(struct state, buffer), OB_END,
};
static const struct ob_area area = { 0, 4096 };
static const struct ob_ioevent bells[] = { { BELL, 8, false, 0x77 }, { FAIL, 8, true, 1 } };
static const char *const compatible[] = { "test", NULL };
static const struct ob_platform_region regions[] = {
    { .name = "registers", .size = 4096, .read = test_read, .write = test_write },
    { .name = "memory", .size = 8192, .areas = &area, .areas_count = 1 },
};
static const struct ob_platform_irq irqs[] = { { .name = "level" }, { .name = "edge", .edge = true } };
static struct ob_plugin plugin = {
    .name = "test",
    .summary = "one register for each thing that a step can do",
    .pci = { .vendor = 0x1234, .device = 0x5678, .class_code = 0xff0000, .express = true },
    .bar[0] = { .size = 4096, .read = test_read, .write = test_write, .ioevents = bells, .ioevents_count = 2 },
    .bar[1] = { .size = 8192, .areas = &area, .areas_count = 1 },
    .irq = { .intx = true, .msi = 4 },
    .platform = { .compatible = compatible,
                  .regions = regions,
                  .regions_count = 2,
                  .irqs = irqs,
                  .irqs_count = 2 },
    .state = { .size = sizeof(struct state), .fields = fields, .version = 1 },
    .timers = 1,
    .dmas = 2,
    .reset = test_reset,
    .timer = test_timer,
    .dma_done = test_dma_done,
};

/* ---- Messages ---------------------------------------------------------------------------------------- */

#define MAPPED 0x10000u   /* guest memory with a file */
#define UNMAPPED 0x80000u /* and without */
#define GUEST_SIZE 0x4000u

static int new_memory(void)
{
    int fd = memfd_create("guest", MFD_CLOEXEC);
    assert_int_equal(ftruncate(fd, GUEST_SIZE), 0);
    for (uint32_t i = 0; i < GUEST_SIZE; i += 4)
        assert_int_equal(pwrite(fd, &i, 4, i), 4);
    return fd;
}

/* ---- Scenarios --------------------------------------------------------------------------------------- */

static void do_version(int s) { say_version(s); }
static void do_map(int s)
{
    int fd = new_memory();
    say_map(s, 0x200000, GUEST_SIZE, fd);
    close(fd);
}
static void do_map_no_fd(int s) { say_map(s, 0x200000, 0x1000, -1); }
static void do_map_twice(int s) { say_map(s, MAPPED, 0x1000, -1); } /* EEXIST */
static void do_unmap(int s) { say_unmap(s, 0, MAPPED, GUEST_SIZE); }
static void do_unmap_range(int s) { say_unmap(s, 0, MAPPED - 0x1000, GUEST_SIZE + 0x2000); }
static void do_unmap_nothing(int s) { say_unmap(s, 0, 0x5000, 0x1000); }
static void do_unmap_all(int s) { say_unmap(s, VFIO_DMA_UNMAP_FLAG_ALL, 0, 0); }
static void do_region_info(int s) { say_region_info(s, 0); }
static void do_region_info_fd(int s) { say_region_info(s, 1); }
static void do_irq_info(int s)
{
    struct vfio_irq_info info = { .argsz = sizeof info, .index = 1 };
    say(s, say_header(VFIO_USER_DEVICE_GET_IRQ_INFO, sizeof info), &info, sizeof info, NULL, 0,
                 NULL, 0);
}
static void do_set_irqs(int s)
{
    int fds[3];
    for (int i = 0; i < 3; i++)
        fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    say_irqs(s, TRIGGER, 1, 1, 3, NULL, 0, fds, 3);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}
static void do_deassign(int s) { say_irqs(s, TRIGGER, 1, 0, 2, NULL, 0, NULL, 0); }
static void do_disable(int s)
{
    say_irqs(s, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, 1, 0, 0, NULL, 0, NULL, 0);
}
static void do_mask(int s)
{
    say_irqs(s, VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_ACTION_MASK, 1, 0, 2, "\1\1", 2, NULL, 0);
    say_write(s, 0, MESSAGE, 0, 8, false);
    say_irqs(s, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, 1, 0, 2, NULL, 0, NULL, 0);
}
static void do_read(int s) { say_read(s, 0, 0, 8); }
static void do_read_config(int s) { say_read(s, 7, 0, 64); }
static void do_write(int s) { say_write(s, 0, 8, 0x1122334455667788, 8, false); }
static void do_write_posted(int s)
{
    for (uint64_t i = 0; i < 5; i++)
        say_write(s, 0, 8 * i, i, 8, true);
}
static void do_write_bad(int s) { say_write(s, 0, FAIL, 1, 8, false); }
static void do_write_config(int s) { say_write(s, 7, PCI_BASE_ADDRESS_0, 0xffffffff, 4, false); }
static void do_write_multi(int s)
{
    struct vfio_user_write_multi m = { 3 };
    struct vfio_user_write w[3] = { { 0, 0, 4, { 1, 2, 3, 4 } },
                                    { 16, 0, 8, { 5 } },
                                    { MESSAGE, 0, 8, { 1 } } };
    say(s, say_header(VFIO_USER_REGION_WRITE_MULTI, sizeof m + sizeof w), &m, sizeof m, w,
                 sizeof w, NULL, 0);
}
/* Two writes to the backend in one message, and a bad one between them. */
static void do_write_multi_out(int s)
{
    struct vfio_user_write_multi m = { 3 };
    struct vfio_user_write w[3] = { { OUT, 0, 3, "one" }, { FAIL, 0, 8, { 1 } }, { OUT, 0, 5, "three" } };
    say(s, say_header(VFIO_USER_REGION_WRITE_MULTI, sizeof m + sizeof w), &m, sizeof m, w,
                 sizeof w, NULL, 0);
}
static void do_line_events(int s)
{
    int fds[2] = { eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
    say_irqs(s, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_MASK, 0, 0, 1, NULL, 0, &fds[0], 1);
    say_irqs(s, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_UNMASK, 0, 0, 1, NULL, 0, &fds[1], 1);
    say_write(s, 0, INTX, 1, 8, false);
    say_irqs(s, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, 0, 0, 1, NULL, 0, NULL, 0);
    for (int i = 0; i < 2; i++)
        close(fds[i]);
}
static void do_intx(int s) { say_write(s, 0, INTX, 1, 8, false); }
static void do_message(int s) { say_write(s, 0, MESSAGE, 1, 8, false); }
static void do_timer(int s) { say_write(s, 0, TIMER, 1, 8, false); }
static void do_dma_read(int s) { say_write(s, 0, DMA_READ_REG, MAPPED + 0x1000, 8, false); }
static void do_dma_write(int s) { say_write(s, 0, DMA_WRITE_REG, MAPPED + 0x2000, 8, false); }
static void do_dma_by_message(int s) { say_write(s, 0, DMA_READ_REG, UNMAPPED, 8, false); }
static void do_out(int s) { say_write(s, 0, OUT, 0x6f6c6c6568, 5, false); }
static void do_in(int s)
{
    assert_int_equal(send(backend[1], "hello", 5, 0), 5);
    say_write(s, 0, IN, 1, 8, false);
}
static void do_reset(int s)
{
    say(s, say_header(VFIO_USER_DEVICE_RESET, 0), NULL, 0, NULL, 0, NULL, 0);
}
static void do_pipeline(int s)
{
    do_write(s);
    do_read(s);
    do_message(s);
    do_read_config(s);
    do_region_info_fd(s);
    do_dma_write(s);
}
static void do_unserved(int s)
{
    say(s, say_header(VFIO_USER_MIG_DATA_READ, 8), "\10\0\0\0\0\0\0", 8, NULL, 0, NULL, 0);
}

/* ---- Migration */

static void say_feature(int s, uint32_t flags, const void *data, size_t n, size_t room)
{
    struct vfio_user_device_feature f = { (uint32_t)(sizeof f + n + room), flags };
    say(s, say_header(VFIO_USER_DEVICE_FEATURE, (uint32_t)(sizeof f + n)), &f, sizeof f, data, n, NULL, 0);
}
static void say_state(int s, uint32_t state)
{
    struct vfio_device_feature_mig_state m = { state, -1 };
    say_feature(s, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &m, sizeof m, 0);
}
static void say_mig_read(int s, uint32_t n)
{
    struct vfio_user_mig_data d = { (uint32_t)sizeof d + n, n };
    say(s, say_header(VFIO_USER_MIG_DATA_READ, sizeof d), &d, sizeof d, NULL, 0, NULL, 0);
}
static void do_stop(int s)
{
    say_write(s, 0, INTX, 1, 8, false);
    say_state(s, VFIO_DEVICE_STATE_STOP);
    say_write(s, 0, 8, 1, 8, false); /* refused */
    say_irqs(s, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK, 0, 0, 1, NULL, 0, NULL, 0);
    say_state(s, VFIO_DEVICE_STATE_RUNNING);
    say_read(s, 0, 0, 8);
}
static void do_save(int s)
{
    say_state(s, VFIO_DEVICE_STATE_STOP_COPY);
    say_mig_read(s, 100);
}
static void do_log(int s)
{
    struct vfio_user_dma_logging_start start = { .page_size = 4096 };
    struct vfio_user_dma_logging_report report = { MAPPED, GUEST_SIZE, 4096 };

    say_feature(s, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &start, sizeof start, 0);
    for (unsigned i = 0; i < 2; i++) {
        say_write(s, 0, DMA_WRITE_REG, MAPPED + 0x1000 * (i + 1ull), 8, false);
        say_feature(s, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &report,
                    sizeof report, 8);
    }
    say_feature(s, VFIO_DEVICE_FEATURE_SET | VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0, 0);
}

/* What it begins with: a device that nobody has spoken to, or one with all set up, on either bus, or with
 * a twin socket and ioeventfds; or one that a client before has left in a state of a migration. */
enum start { READY, FRESH, PLATFORM, TWIN, LEFT_STOPPED, LEFT_SAVING, LEFT_RESUMING, STARTS };
static struct stand_in starts[STARTS];
static struct stand_in *current;

static void do_version_twin(int s) { say_version_twin(s); }
static void do_io_fds(int s)
{
    struct vfio_user_region_io_fds info = { .argsz = 256 };
    say(s, say_header(VFIO_USER_DEVICE_GET_REGION_IO_FDS, sizeof info), &info, sizeof info, NULL, 0,
        NULL, 0);
}
static void ring(uint32_t event)
{
    eventfd_write(stand_in_fd(current, KEEP_IOEVENT | event), 1);
}
static void do_ring(int s)
{
    ring(0);
    say_read(s, 0, 0, 8);
}
static void do_ring_all(int s)
{
    ring(0);
    ring(1); /* fails */
    say_write(s, 0, 8, 1, 8, false);
}
/* The unmap, of nothing, waits until what is under way on the twin socket was answered. */
static void do_twin_read(int s)
{
    say_write(s, 0, DMA_READ_REG, UNMAPPED, 8, false);
    say_unmap(s, 0, 0x5000, 0x1000);
}
static void do_twin_write(int s)
{
    say_write(s, 0, DMA_WRITE_REG, UNMAPPED + 64, 8, false);
    say_unmap(s, 0, 0x5000, 0x1000);
}
static void do_twin_both(int s)
{
    say_write(s, 0, DMA_READ_REG, UNMAPPED, 8, true);
    say_write(s, 0, DMA_WRITE_REG, UNMAPPED + 64, 8, true);
    say_read(s, 0, 0, 8);
    say_unmap(s, 0, 0x5000, 0x1000);
}
/* Whose reply is an error. */
static void do_twin_refused(int s)
{
    say_write(s, 0, DMA_READ_REG, UNMAPPED + 0x800, 8, false);
    say_unmap(s, 0, 0x5000, 0x1000);
}
static void do_twin_reset(int s)
{
    say_write(s, 0, DMA_READ_REG, UNMAPPED, 8, false);
    do_reset(s);
}

struct scenario {
    const char *name;
    void (*send)(int sock);
    enum start start;
    int extra;      /* messages of the server's own that come besides the replies */
};

static const struct scenario scenarios[] = {
    { "version", do_version, FRESH, 0 },
    { "map", do_map, READY, 0 },
    { "map without a file", do_map_no_fd, READY, 0 },
    { "map over another", do_map_twice, READY, 0 },
    { "unmap", do_unmap, READY, 0 },
    { "unmap a range", do_unmap_range, READY, 0 },
    { "unmap nothing", do_unmap_nothing, READY, 0 },
    { "unmap all", do_unmap_all, READY, 0 },
    { "region info", do_region_info, READY, 0 },
    { "region info with a descriptor", do_region_info_fd, READY, 0 },
    { "interrupt info", do_irq_info, READY, 0 },
    { "set interrupts", do_set_irqs, READY, 0 },
    { "de-assign interrupts", do_deassign, READY, 0 },
    { "disable interrupts", do_disable, READY, 0 },
    { "mask and unmask", do_mask, READY, 0 },
    { "read", do_read, READY, 0 },
    { "read config space", do_read_config, READY, 0 },
    { "write", do_write, READY, 0 },
    { "posted writes", do_write_posted, READY, 0 },
    { "write that fails", do_write_bad, READY, 0 },
    { "write config space", do_write_config, READY, 0 },
    { "several writes", do_write_multi, READY, 0 },
    { "several backend writes", do_write_multi_out, READY, 0 },
    { "INTx", do_intx, READY, 0 },
    { "MSI", do_message, READY, 0 },
    { "timer", do_timer, READY, 0 },
    { "DMA read", do_dma_read, READY, 0 },
    { "DMA write", do_dma_write, READY, 0 },
    { "DMA by messages", do_dma_by_message, READY, 1 },
    { "backend write", do_out, READY, 0 },
    { "backend read", do_in, READY, 0 },
    { "reset", do_reset, READY, 0 },
    { "stop and run", do_stop, READY, 0 },
    { "save", do_save, READY, 0 },
    { "dirty pages", do_log, READY, 0 },
    { "pipeline", do_pipeline, READY, 0 },
    { "unserved command", do_unserved, READY, 0 },
    { "version with a twin socket", do_version_twin, FRESH, 0 },
    { "version to what was left stopped", do_version, LEFT_STOPPED, 0 },
    { "version to what was left with its state half read", do_version, LEFT_SAVING, 0 },
    { "version to what was left with half a state", do_version, LEFT_RESUMING, 0 },
    { "I/O descriptors", do_io_fds, READY, 0 },
    { "signalled write", do_ring, TWIN, 0 },
    { "signalled writes, one of which fails", do_ring_all, TWIN, 0 },
    { "twin: DMA read", do_twin_read, TWIN, 0 },
    { "twin: DMA write", do_twin_write, TWIN, 0 },
    { "twin: both", do_twin_both, TWIN, 0 },
    { "twin: refused", do_twin_refused, TWIN, 0 },
    { "twin: reset", do_twin_reset, TWIN, 0 },
    { "platform: region info", do_region_info_fd, PLATFORM, 0 },
    { "platform: a level, and its events", do_line_events, PLATFORM, 0 },
    { "platform: an edge", do_message, PLATFORM, 0 },
    { "platform: DMA read", do_dma_read, PLATFORM, 0 },
    { "platform: reset", do_reset, PLATFORM, 0 },
};

/* ---- Running one ------------------------------------------------------------------------------------- */

struct outcome {
    uint8_t bytes[4096];
    size_t size;
    uint8_t *parts[SHARED_PARTS]; /* what the block's parts hold in the end */
    uint8_t guest[GUEST_SIZE];
    uint64_t interrupts[6]; /* INTx or line 0, MSI 0-3, line 1 */
    uint8_t backend[64];
    size_t backend_size;
    uint8_t twin[256]; /* commands that came on the twin socket */
    size_t twin_size;
};

static struct outcome *twin_of;
static size_t twin_answered;

/* Answers the commands that are there as a whole. */
static void answer_twin(struct stand_in *s)
{
    struct vfio_user_header h;
    struct vfio_user_dma_access a;
    struct outcome *o = twin_of;
    uint8_t data[64];

    ssize_t n = recv(s->twin, o->twin + o->twin_size, sizeof o->twin - o->twin_size, MSG_DONTWAIT);
    o->twin_size += n > 0 ? (size_t)n : 0;
    for (; twin_answered + sizeof h + sizeof a <= o->twin_size; twin_answered += h.size) {
        memcpy(&h, o->twin + twin_answered, sizeof h);
        memcpy(&a, o->twin + twin_answered + sizeof h, sizeof a);
        if (twin_answered + h.size > o->twin_size)
            return;
        bool read = h.command == VFIO_USER_DMA_READ, bad = a.address == UNMAPPED + 0x800;
        struct vfio_user_header reply = h;
        reply.flags = VFIO_USER_FLAG_TYPE_REPLY | (bad ? VFIO_USER_FLAG_ERROR : 0);
        reply.error = bad ? EFAULT : 0;
        reply.size = (uint32_t)(sizeof h + (bad ? 0 : sizeof a + (read ? a.count : 0)));
        memset(data, 0x5a, sizeof data);
        say(s->twin, reply, &a, bad ? 0 : sizeof a, data, !bad && read ? a.count : 0, NULL, 0);
    }
}

static bool answered; /* the client has answered the server's command */

/* The client's answer to DMA_READ, once its command is there. */
static void answer_dma(struct stand_in *s, const uint8_t *buf, size_t n)
{
    struct vfio_user_header h;

    for (size_t at = 0; at + sizeof h + 16 <= n && !answered; at += h.size) {
        memcpy(&h, buf + at, sizeof h);
        if (h.command != VFIO_USER_DMA_READ)
            continue;
        struct vfio_user_dma_access a;
        uint8_t data[64];
        memcpy(&a, buf + at + sizeof h, sizeof a);
        memset(data, 0x5a, sizeof data);
        h.flags = VFIO_USER_FLAG_TYPE_REPLY;
        h.size += (uint32_t)a.count;
        say(s->client, h, &a, sizeof a, data, a.count, NULL, 0);
        answered = true;
    }
}

static uint64_t count_of(int fd)
{
    uint64_t n = 0;
    return fd >= 0 && read(fd, &n, sizeof n) == sizeof n ? n : 0;
}

static void collect(struct stand_in *s, struct outcome *o)
{
    struct block b;
    int fd = dup(stand_in_fd(s, STAND_IN_BLOCK));
    struct block_part parts[SHARED_PARTS];
    struct block_header *h = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

    assert_ptr_not_equal(h, MAP_FAILED);
    for (int i = 0; i < SHARED_PARTS; i++)
        parts[i] = h->parts[i];
    munmap(h, 4096);
    assert_int_equal(block_open(&b, fd, parts, SHARED_PARTS), 0);
    struct shared_session *session = block_part(&b, SHARED_SESSION);
    assert_int_equal(session->looked, 0);
    assert_int_equal(session->take_intent, 0);
    memset(&session->fds_which, 0, sizeof session->fds_which);
    /* For who looks from outside: times, and what happened twice. */
    memset(block_part(&b, SHARED_FACTS), 0, parts[SHARED_FACTS].size);
    memset(block_part(&b, SHARED_RECORDER), 0, parts[SHARED_RECORDER].size);
    for (int i = 0; i < SHARED_PARTS; i++) {
        o->parts[i] = malloc(parts[i].size);
        memcpy(o->parts[i], block_part(&b, (unsigned)i), parts[i].size);
    }
    /* Times differ from run to run. */
    struct shared_work *work = (struct shared_work *)(void *)o->parts[SHARED_WORK];
    memset(work->deadline, 0, sizeof work->deadline);
    struct shared_migration *m = (struct shared_migration *)(void *)o->parts[SHARED_MIGRATION];
    m->stopped_at = 0;
    memset(m->frame.timer_left, 0, sizeof m->frame.timer_left);
    block_close(&b);

    int memory = stand_in_fd(s, KEEP_FILE | 0);
    if (memory >= 0)
        assert_int_equal(pread(memory, o->guest, GUEST_SIZE, 0), GUEST_SIZE);
    o->interrupts[0] = count_of(stand_in_fd(s, KEEP_IRQ | IRQ_INTX));
    for (uint32_t i = 0; i < 4; i++)
        o->interrupts[1 + i] = count_of(stand_in_fd(s, KEEP_IRQ | (IRQ_MSI + i)));
    o->interrupts[5] = count_of(stand_in_fd(s, KEEP_IRQ | 1));
    ssize_t n = recv(backend[1], o->backend, sizeof o->backend, MSG_DONTWAIT);
    o->backend_size = n > 0 ? (size_t)n : 0;
}

static void forget(struct outcome *o)
{
    for (int i = 0; i < SHARED_PARTS; i++)
        free(o->parts[i]);
}

/* Runs a scenario; the first worker dies at point `at`. Returns the points of a worker that lived. */
static long run(const struct scenario *c, long at, size_t expected, struct outcome *o)
{
    struct stand_in s;
    bool alive;
    long points = -1;

    *o = (struct outcome){ .size = 0 };
    answered = false;
    twin_of = o;
    twin_answered = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, backend), 0);
    stand_in_copy(&s, &starts[c->start]);
    s.on_twin = answer_twin;
    current = &s;
    c->send(s.client);
    say_fence(s.client);
    stand_in_start(&s, at);
    o->size = stand_in_run(&s, o->bytes, 0, expected, &alive, answer_dma);
    if (alive)
        points = stand_in_stop(&s);
    if (points < 0) {
        /* It died, perhaps just after the last byte. */
        stand_in_start(&s, 0);
        o->size = stand_in_run(&s, o->bytes, o->size, expected, &alive, answer_dma);
        assert_true(alive);
        assert_true(stand_in_stop(&s) >= 0);
        points = 0;
    }
    uint8_t more;
    assert_int_equal(recv(s.client, &more, 1, MSG_DONTWAIT), -1);
    bool twin = stand_in_fd(&s, KEEP_TWIN) >= 0;
    assert_int_equal(s.twin >= 0, twin);
    if (twin)
        assert_true(recv(s.twin, &more, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    assert_int_equal(stand_in_fd(&s, KEEP_TWIN | 1), -1);
    collect(&s, o);
    stand_in_free(&s);
    close(backend[0]);
    close(backend[1]);
    return points;
}

/* How many bytes an undisturbed worker sends: runs until the fence's reply, then a little more. */
static size_t measure(const struct scenario *c)
{
    struct vfio_user_header h;
    struct outcome o = { .size = 0 };
    struct stand_in s;
    bool alive;

    answered = false;
    twin_of = &o;
    twin_answered = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, backend), 0);
    stand_in_copy(&s, &starts[c->start]);
    s.on_twin = answer_twin;
    current = &s;
    c->send(s.client);
    say_fence(s.client);
    stand_in_start(&s, 0);
    size_t at = 0;
    int extra = c->extra;
    for (bool fence = false; !fence || extra; at += h.size) {
        o.size = stand_in_run(&s, o.bytes, o.size, at + sizeof h, &alive, answer_dma);
        memcpy(&h, o.bytes + at, sizeof h);
        o.size = stand_in_run(&s, o.bytes, o.size, at + h.size, &alive, answer_dma);
        assert_true(alive);
        fence |= wire_is_reply(&h) && h.command == VFIO_USER_DEVICE_GET_INFO;
        extra -= !wire_is_reply(&h);
    }
    stand_in_stop(&s);
    stand_in_free(&s);
    close(backend[0]);
    close(backend[1]);
    return at;
}

static void compare(const struct outcome *o, const struct outcome *expected,
                    const struct block_part *parts, const char *name, long at)
{
    const char *wrong = NULL;

    if (memcmp(o->bytes, expected->bytes, expected->size) != 0)
        wrong = "replies";
    if (memcmp(o->guest, expected->guest, GUEST_SIZE) != 0)
        wrong = "guest memory";
    if (o->backend_size != expected->backend_size ||
        memcmp(o->backend, expected->backend, o->backend_size) != 0)
        wrong = "backend";
    if (o->twin_size != expected->twin_size || memcmp(o->twin, expected->twin, o->twin_size) != 0)
        wrong = "commands on the twin socket";
    for (int i = 0; i < 6; i++)
        if (o->interrupts[i] < expected->interrupts[i] ||
            o->interrupts[i] > expected->interrupts[i] + 1)
            wrong = "interrupts";
    for (int i = 0; i < SHARED_PARTS; i++)
        if (i != SHARED_INPUT && i != SHARED_OUTPUT &&
            memcmp(o->parts[i], expected->parts[i], parts[i].size) != 0)
            wrong = parts[i].name;
    if (wrong)
        fail_msg("%s: %s differ after a death at point %ld", name, wrong, at);
}

static void every_point(void **state)
{
    const struct scenario *c = *state;
    struct outcome expected, o;
    struct block_header *h = mmap(NULL, 4096, PROT_READ, MAP_SHARED,
                                  stand_in_fd(&starts[READY], STAND_IN_BLOCK), 0);

    size_t bytes = measure(c);
    long points = run(c, 0, bytes, &expected);
    assert_true(points > 10);
    print_message("# %s: %ld points\n", c->name, points);
    for (long at = 1; at <= points + 8; at++) {
        run(c, at, bytes, &o);
        compare(&o, &expected, h->parts, c->name, at);
        forget(&o);
    }
    forget(&expected);
    munmap(h, 4096);
}

/* A device with a client that has set up everything. */
static void make_ready(struct stand_in *s, enum start start)
{
    bool platform = start == PLATFORM;
    static const struct option_value bus = { "bus", "platform" };

    uint8_t buf[4096];
    size_t have = 0, at = 0;
    int fds[4], memory = new_memory();
    struct vfio_user_header h;
    bool alive;

    stand_in_new(s, &plugin, &bus, platform ? 1 : 0);
    stand_in_start(s, 0);
    for (int i = 0; i < 4; i++)
        fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (start == TWIN)
        say_version_twin(s->client);
    else
        say_version(s->client);
    say_map(s->client, MAPPED, GUEST_SIZE, memory);
    say_map(s->client, UNMAPPED, 0x1000, -1);
    say_irqs(s->client, TRIGGER, 0, 0, 1, NULL, 0, fds, 1);
    say_irqs(s->client, TRIGGER, 1, 0, platform ? 1 : 3, NULL, 0, fds + 1, platform ? 1 : 3);
    if (!platform)
        say_write(s->client, 7, PCI_COMMAND, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 2, false);
    if (start == TWIN)
        do_io_fds(s->client);
    say_fence(s->client);
    do {
        have = stand_in_run(s, buf, have, at + sizeof h, &alive, NULL);
        memcpy(&h, buf + at, sizeof h);
        have = stand_in_run(s, buf, have, at + h.size, &alive, NULL);
        assert_true(alive);
        assert_int_equal(wire_reply_error(&h), 0);
        at += h.size;
    } while (h.command != VFIO_USER_DEVICE_GET_INFO);
    stand_in_stop(s);
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    close(memory);
}

static void make_fresh(struct stand_in *s)
{
    stand_in_new(s, &plugin, NULL, 0);
    stand_in_start(s, 0);
    stand_in_stop(s);
}

/* The next client's connection has been made, and nothing more was done. */
static void make_left(struct stand_in *s, uint32_t state)
{
    struct block_header h;

    make_fresh(s);
    int fd = stand_in_fd(s, STAND_IN_BLOCK);
    assert_int_equal(pread(fd, &h, sizeof h, 0), sizeof h);
    off_t at = (off_t)(h.parts[SHARED_MIGRATION].offset + offsetof(struct shared_migration, state));
    assert_int_equal(pwrite(fd, &state, sizeof state, at), sizeof state);
}

static int setup(void **state)
{
    (void)state;
    make_fresh(&starts[FRESH]);
    make_left(&starts[LEFT_STOPPED], VFIO_DEVICE_STATE_STOP);
    make_left(&starts[LEFT_SAVING], VFIO_DEVICE_STATE_STOP_COPY);
    make_left(&starts[LEFT_RESUMING], VFIO_DEVICE_STATE_RESUMING);
    make_ready(&starts[READY], READY);
    make_ready(&starts[PLATFORM], PLATFORM);
    make_ready(&starts[TWIN], TWIN);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (int i = 0; i < STARTS; i++)
        stand_in_free(&starts[i]);
    return 0;
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[sizeof scenarios / sizeof *scenarios];

    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        tests[i] = (struct CMUnitTest){ scenarios[i].name, every_point, NULL, NULL,
                                        (void *)(uintptr_t)&scenarios[i] };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("steps", tests, setup, teardown);
}

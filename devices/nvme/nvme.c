/*
 * nvme.c - a disk: an NVM Express 1.4 controller over files or block devices.
 *
 * nvme.h says which file does what. This one has the plugin's face: options, beginning, end, reset.
 */
#include "engine.h"
#include "nvme.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "syscalls_nvme.h"

#define BAR_SIZE 0x4000u /* registers and doorbells, MSI-X table, pending bits, each in pages of its own */
#define MSIX_TABLE 0x2000u
#define MSIX_PBA 0x3000u

/* ---- Options ---------------------------------------------------------------------------------------- */

static int bad(struct ob_device *dev, const char *key, const char *what)
{
    ob_error(dev, "%s=%s: %s", key, ob_option(dev, key), what);
    return -EINVAL;
}

static int read_serial(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    const char *serial = ob_option(dev, "serial");

    if (!serial)
        return 0; /* made from the first file's name, once it is open */
    if (strlen(serial) > 20)
        return bad(dev, "serial", "at most 20 characters");
    for (const char *c = serial; *c; c++)
        if (*c < 0x20 || *c > 0x7e)
            return bad(dev, "serial", "only printable ASCII characters");
    snprintf(p->serial, sizeof p->serial, "%s", serial);
    return 0;
}

static int read_doorbells(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    const char *doorbells = ob_option(dev, "doorbells");

    p->mapped = strcmp(doorbells, "mapped") == 0;
    if (!p->mapped && strcmp(doorbells, "trapped") != 0)
        return bad(dev, "doorbells", "trapped or mapped");
    if (!p->mapped)
        ob_without_areas(dev, 0);
    return 0;
}

static int read_options(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    const char *lba = ob_option(dev, "lba");
    uint64_t queues;
    bool direct, msix;

    if (strcmp(lba, "512") == 0)
        p->lba_shift = 9;
    else if (strcmp(lba, "4096") == 0)
        p->lba_shift = 12;
    else
        return bad(dev, "lba", "512 or 4096");
    if (ob_parse_size(ob_option(dev, "queues"), &queues) < 0 || queues < 1 || queues > QUEUES - 1)
        return bad(dev, "queues", "1 to 64");
    p->queues = (uint32_t)queues;
    if (ob_parse_bool(ob_option(dev, "readonly"), &p->readonly) < 0)
        return bad(dev, "readonly", "on or off");
    if (ob_parse_bool(ob_option(dev, "direct"), &direct) < 0)
        return bad(dev, "direct", "on or off");
    if (ob_parse_bool(ob_option(dev, "msix"), &msix) < 0)
        return bad(dev, "msix", "on or off");
    if (!msix)
        ob_without_msix(dev);
    if (ob_parse_bool(ob_option(dev, "incoming"), &p->incoming) < 0)
        return bad(dev, "incoming", "on or off");
    int ret = read_doorbells(dev);
    return ret ? ret : read_serial(dev);
}

static int open_engine(struct ob_device *dev)
{
    static const struct engine_kind *const kinds[] = { &engine_uring, &engine_threads };
    struct private *p = ob_private(dev);
    const char *wish = ob_option(dev, "engine");
    bool known = strcmp(wish, "auto") == 0;

    for (unsigned i = 0; i < sizeof kinds / sizeof *kinds && !p->engine; i++) {
        if (strcmp(wish, "auto") != 0 && strcmp(wish, kinds[i]->name) != 0)
            continue;
        known = true;
        p->engine = kinds[i]->open(1024);
        if (!p->engine)
            ob_debug(dev, "engine %s: %s", kinds[i]->name, strerror(errno));
    }
    if (!known)
        return bad(dev, "engine", "auto, uring or threads");
    if (!p->engine)
        return bad(dev, "engine", strerror(errno));
    ob_debug(dev, "engine %s", p->engine->kind->name);
    if (p->engine->kind->restricted)
        ob_ring_restricted(dev);
    return ob_syscalls(dev, p->engine->kind->syscalls);
}

/* ---- Life ------------------------------------------------------------------------------------------- */

static int open_nvme(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    int ret = read_options(dev);

    if (ret == 0)
        ret = ob_syscalls(dev, syscalls_nvme);
    if (ret == 0)
        ret = namespaces_open(dev);
    if (ret == 0 && !p->serial[0])
        snprintf(p->serial, sizeof p->serial, "OB%016llX", (unsigned long long)p->ns[0].hash);
    if (ret == 0)
        ret = run_open(dev);
    if (ret == 0)
        ret = open_engine(dev);
    if (ret < 0) {
        run_close(dev);
        namespaces_close(dev);
    }
    return ret;
}

static void close_nvme(struct ob_device *dev)
{
    run_close(dev);
    namespaces_close(dev);
}

static void make_threads(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    if (p->engine->kind->make_threads)
        p->engine->kind->make_threads();
}

static void results_ready(struct ob_device *dev, int fd, uint32_t events)
{
    (void)fd;
    (void)events;
    work(dev);
}

static int start(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    if (state_goes_on(dev))
        return 0;
    int ret = state_start(dev);
    if (ret < 0)
        return ret;
    ret = namespaces_start(dev);
    if (ret == 0)
        ret = ob_watch(dev, p->engine->kind->fd(p->engine), EPOLLIN, results_ready);
    if (ret < 0) {
        ob_error(dev, "cannot watch for I/O: %s", strerror(-ret));
        return ret;
    }
    queue_adopt(dev);
    if (!p->barred)
        doorbell_start(dev);
    work_soon(dev);
    return 0;
}

static void reset(struct ob_device *dev, enum ob_reset kind)
{
    struct nvme *s = ob_state(dev);

    if (kind == OB_RESET_POWER_ON)
        SET(dev, s->power_on, ob_now(dev));
    SET(dev, s->counters.power_cycles, s->counters.power_cycles + (kind == OB_RESET_POWER_ON));
    SET(dev, s->subsystem_reset, 0);
    controller_clear(dev);
    namespaces_reset(dev);
    SET(dev, s->cc, 0);
    SET(dev, s->csts, 0);
    SET(dev, s->aqa, 0);
    SET(dev, s->asq, 0);
    SET(dev, s->acq, 0);
}

static void timer(struct ob_device *dev, unsigned id)
{
    switch (id) {
    case TIMER_POLL: doorbell_timer(dev); break;
    case TIMER_COALESCE: irq_timer(dev); break;
    case TIMER_HELD: irq_held(dev); break;
    case TIMER_SIZES: namespaces_timer(dev); break;
    case TIMER_BARRIER: lock_timer(dev); break;
    }
}

/* Bus mastering came or went, or memory: what waited is tried again. */
static void changed(struct ob_device *dev)
{
    irq_level(dev);
    work_soon(dev);
}

/* ---- What it is -------------------------------------------------------------------------------------- */

static const struct ob_option options[] = {
    { "file", "PATH", "file or block device; each makes one more namespace", NULL,
      OB_OPTION_REQUIRED | OB_OPTION_REPEAT | OB_OPTION_FILE },
    { "lba", "512|4096", "bytes of a block", "512", 0 },
    { "serial", "TEXT", "serial number, up to 20 characters (standard: from the file's name)", NULL, 0 },
    { "queues", "N", "pairs of I/O queues, 1 to 64", "64", 0 },
    { "direct", "on|off", "pass the page cache by (O_DIRECT)", "off", 0 },
    { "readonly", "on|off", "the guest may not write", "off", OB_OPTION_READONLY },
    { "doorbells", "trapped|mapped", "mapped ones need no trap, and are looked at for ever", "trapped", 0 },
    { "msix", "on|off", "MSI-X; off leaves MSI, for a disk that QEMU shall be able to unplug", "on", 0 },
    { "incoming", "on|off", "another process may have the files until it hands its guest over", "off", 0 },
    { "engine", "auto|uring|threads", "what does I/O that may block", "auto", 0 },
    { NULL, NULL, NULL, NULL, 0 },
};

/* With doorbells=mapped. */
static const struct ob_area doorbell_page = { REG_DOORBELLS, 0x1000 };

static const struct ob_plugin nvme = {
    .name = "nvme",
    .summary = "NVMe disk on files or block devices",
    .options = options,
    .pci = { .vendor = PCI_VENDOR,
             .device = PCI_DEVICE,
             .class_code = 0x010802,
             .revision = 1,
             .power_management = true,
             .express = true },
    .bar[0] = { .size = BAR_SIZE,
                .kind = OB_BAR_MEM64,
                .widths = OB_WIDTH_1 | OB_WIDTH_2 | OB_WIDTH_4 | OB_WIDTH_8,
                .read = registers_read,
                .write = registers_write,
                .areas = &doorbell_page,
                .areas_count = 1 },
    .irq = { .intx = true,
             .msi = 32,
             .msix = { .count = QUEUES, .bar = 0, .table = MSIX_TABLE, .pba = MSIX_PBA } },
    .state = { .size = sizeof(struct nvme), .fields = state_fields, .version = STATE_VERSION,
               .oldest = 1, .touched = true },
    .private_size = sizeof(struct private),
    .timers = TIMERS,
    .dmas = DMAS,
    .open = open_nvme,
    .make_threads = make_threads,
    .start = start,
    .close = close_nvme,
    .reset = reset,
    .timer = timer,
    .dma_done = far_done,
    .irq_changed = changed,
    .memory_changed = changed,
    .pending = work_pending,
    .work = work,
    .committed = work_committed,
    .stop = state_stop,
    .loaded = state_loaded,
};
OB_PLUGIN(nvme)

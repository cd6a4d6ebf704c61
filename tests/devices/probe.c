/*
 * probe.c - a device for tests of the framework: one of everything that edu and serial do not have.
 *
 * BAR 0 holds the registers below, which make the device do what a test wants. BAR 1 is I/O ports. BAR
 * 2 (64-bit, prefetchable) is mappable as a whole, BAR 4 in two areas, with the MSI-X structures between
 * them. BAR 5 is a window to the memory in the device's state, which is large and declared `touched`.
 * Of the typed regions, one is a few bytes of the state, the other shared memory in its second half.
 *
 * As a platform device it has the same under names: see the end. Message N is a pulse of interrupt N + 1.
 */
#include <endian.h>
#include <errno.h>
#include <outboard/device.h>
#include <string.h>

/* Registers of BAR 0: 32 bits each, at 4 times the number. */
enum {
    R_ID,             /* 0x0b0a2d01 */
    R_SCRATCH,        /* keeps what was written, but not over a reset */
    R_INTX,           /* the level of INTx */
    R_MESSAGE,        /* writing N sends message N */
    R_ERROR,          /* writing raises ERR */
    R_REQUEST,        /* writing raises REQ */
    R_FAIL,           /* writing N changes R_SCRATCH and the memory, then fails with errno N */
    R_VECTORS,        /* ob_vectors() */
    R_RESETS,         /* resets so far */
    R_IRQ_CHANGES,    /* calls of irq_changed() so far */
    R_MEMORY_CHANGES, /* calls of memory_changed() so far */
    R_PEEK_AT,        /* an offset in BAR 2: R_PEEK is the memory there, as the device sees it */
    R_PEEK,
    R_TRAPPED_AT, /* where the last write to BAR 4 was that reached the device, and how long */
    R_TRAPPED_SIZE,
    R_PIN_ADDRESS, /* low half of the guest address of a page that R_PIN_MS pins for so long */
    R_PIN_MS,      /* reads as 1 while it is pinned, else as the negative result of the attempt */
    R_COMMITTED,   /* calls of committed() so far, in this process */
    R_TIMER,       /* TIMERS: writing N sets the timer to N ms from now, ~0 cancels it */
    R_TICKS = R_TIMER + 3, /* TIMERS: times that each went off, with message N */
    R_DOORBELL = R_TICKS + 3, /* may be signalled, for the values 1 and 0x10; fails for 0x100 */
    R_RUNG,                   /* how often it was written, and... */
    R_SUM,                    /* ...the sum of the values */
    R_COUNT,
};
#define TIMERS 3
#define TIMER_PIN TIMERS /* one more, of the pin's own */

/* While this byte of BAR 2 is not 0, a pin stays. A client can change it though its messages wait. */
#define HOLD 0x3fff

/* DMA channels: registers from 0x100 on, 8 for each. */
enum {
    C_ADDRESS_LOW,
    C_ADDRESS_HIGH,
    C_MEMORY, /* offset in the memory */
    C_SIZE,
    C_COMMAND, /* 1: read guest memory, 2: write it; reads as the negative result of the start */
    C_RESULT,  /* negative error of the last transfer */
    C_DONE,    /* transfers that ended */
    C_NEXT,    /* N: when one has ended well, channel N - 1 begins (its C_COMMAND must be set) */
    C_COUNT,
};
#define CHANNELS 8
#define CHANNEL_BASE 0x100u

#ifndef MEMORY_SIZE
#define MEMORY_SIZE (1u << 20)
#endif

struct probe {
    uint32_t reg[R_COUNT];
    uint32_t channel[CHANNELS][C_COUNT];
    uint32_t pinned; /* 1: the page at R_PIN_ADDRESS is, which therefore stays as it is */
    uint8_t ports[32];
    uint8_t typed[48];
    uint8_t memory[MEMORY_SIZE];
};

struct private
{
    uint32_t committed;
};

#define SET(dev, place, v)                        \
    do {                                          \
        ob_touch((dev), &(place), sizeof(place)); \
        (place) = (v);                            \
    } while (0)

static void message(struct ob_device *dev, unsigned n)
{
    ob_message(dev, n);
    ob_irq(dev, 1 + n, true);
    ob_irq(dev, 1 + n, false);
}

static uint64_t in_ms(struct ob_device *dev, uint32_t ms)
{
    return ob_now(dev) + UINT64_C(1000000) * ms;
}

/* ---- DMA ------------------------------------------------------------------------------------ */

static int begin(struct ob_device *dev, unsigned slot)
{
    struct probe *p = ob_state(dev);
    const uint32_t *c = p->channel[slot];
    uint64_t address = c[C_ADDRESS_LOW] | (uint64_t)c[C_ADDRESS_HIGH] << 32;
    /* Beyond the state on purpose, if the test says so: the framework has to see it. */
    void *buf = (void *)((uintptr_t)p->memory + c[C_MEMORY]);

    if (c[C_COMMAND] == 1)
        return ob_dma_read(dev, slot, address, buf, c[C_SIZE]);
    return ob_dma_write(dev, slot, address, buf, c[C_SIZE]);
}

static void dma_done(struct ob_device *dev, unsigned slot, int error)
{
    struct probe *p = ob_state(dev);
    uint32_t *c = p->channel[slot];

    SET(dev, c[C_RESULT], (uint32_t)-error);
    SET(dev, c[C_DONE], c[C_DONE] + 1);
    if (!error && c[C_NEXT] >= 1 && c[C_NEXT] <= CHANNELS)
        begin(dev, c[C_NEXT] - 1);
}

static void write_channel(struct ob_device *dev, unsigned slot, unsigned reg, uint32_t value)
{
    struct probe *p = ob_state(dev);

    SET(dev, p->channel[slot][reg], value);
    /* Bit 8: only remember the command, for C_NEXT. */
    if (reg == C_COMMAND && value & 0x100)
        SET(dev, p->channel[slot][reg], value & 0xff);
    else if (reg == C_COMMAND)
        SET(dev, p->channel[slot][reg], (uint32_t)-begin(dev, slot));
}

/* ---- A page of guest memory, held for a while ------------------------------------------------- */

static void pin(struct ob_device *dev, uint32_t ms)
{
    struct probe *p = ob_state(dev);
    struct iovec iov[2];
    int n = ob_memory_get(dev, p->reg[R_PIN_ADDRESS], 4096, OB_READ | OB_WRITE, iov, 2);

    SET(dev, p->reg[R_PIN_MS], n < 0 ? (uint32_t)-n : 1);
    SET(dev, p->pinned, n > 0);
    if (n > 0)
        ob_timer_set(dev, TIMER_PIN, in_ms(dev, ms));
}

/* Timer 2 leaves in R_SCRATCH whether a pin would be possible now. */
static void try_pin(struct ob_device *dev)
{
    struct probe *p = ob_state(dev);
    struct iovec iov;
    int n = ob_memory_get(dev, p->reg[R_PIN_ADDRESS], 4096, OB_READ, &iov, 1);

    if (n > 0)
        ob_memory_put(dev, p->reg[R_PIN_ADDRESS], 4096, OB_READ);
    SET(dev, p->reg[R_SCRATCH], n < 0 ? (uint32_t)-n : 0);
}

static void memory_changed(struct ob_device *dev)
{
    struct probe *p = ob_state(dev);
    SET(dev, p->reg[R_MEMORY_CHANGES], p->reg[R_MEMORY_CHANGES] + 1);
}

static void timer(struct ob_device *dev, unsigned id)
{
    struct probe *p = ob_state(dev);

    if (id == TIMER_PIN && ((uint8_t *)ob_region_memory(dev, 2))[HOLD]) {
        ob_timer_set(dev, TIMER_PIN, in_ms(dev, 1));
    } else if (id == TIMER_PIN) {
        ob_memory_put(dev, p->reg[R_PIN_ADDRESS], 4096, OB_READ | OB_WRITE);
        SET(dev, p->reg[R_PIN_MS], 0);
        SET(dev, p->pinned, 0);
    } else {
        SET(dev, p->reg[R_TICKS + id], p->reg[R_TICKS + id] + 1);
        message(dev, id);
        if (id == 2)
            try_pin(dev);
    }
}

/* ---- BAR 0: registers ----------------------------------------------------------------------- */

static uint32_t read_register(struct ob_device *dev, unsigned reg)
{
    const struct probe *p = ob_state(dev);
    const struct private *mine = ob_private(dev);
    uint32_t value;

    switch (reg) {
    case R_ID:
        return 0x0b0a2d01;
    case R_VECTORS:
        return ob_vectors(dev);
    case R_COMMITTED:
        return mine->committed;
    case R_PEEK:
        memcpy(&value, (uint8_t *)ob_region_memory(dev, 2) + p->reg[R_PEEK_AT] % 16384 / 4 * 4, 4);
        return value;
    default:
        return reg < R_COUNT ? p->reg[reg] : 0;
    }
}

static int write_register(struct ob_device *dev, unsigned reg, uint32_t value)
{
    struct probe *p = ob_state(dev);

    if (reg >= R_COUNT || reg == R_RESETS ||
        (p->pinned && (reg == R_PIN_ADDRESS || reg == R_PIN_MS)))
        return 0;
    SET(dev, p->reg[reg], value);
    if (reg >= R_TIMER && reg < R_TIMER + TIMERS) {
        if (value == UINT32_MAX)
            ob_timer_cancel(dev, reg - R_TIMER);
        else
            ob_timer_set(dev, reg - R_TIMER, in_ms(dev, value));
        return 0;
    }
    switch (reg) {
    case R_INTX:
        ob_intx(dev, value != 0);
        break;
    case R_MESSAGE:
        message(dev, value);
        break;
    case R_ERROR:
        ob_error_irq(dev);
        break;
    case R_REQUEST:
        ob_request_irq(dev);
        break;
    case R_FAIL:
        SET(dev, p->reg[R_SCRATCH], 0xdeadbeef);
        ob_touch(dev, p->memory, 4096);
        memset(p->memory, 0xdb, 4096);
        ob_intx(dev, true);
        message(dev, 0);
        ob_timer_set(dev, 0, ob_now(dev));
        return -(int)value;
    case R_PEEK:
        memcpy((uint8_t *)ob_region_memory(dev, 2) + p->reg[R_PEEK_AT] % 16384 / 4 * 4, &value, 4);
        break;
    case R_PIN_MS:
        pin(dev, value);
        break;
    case R_DOORBELL:
        SET(dev, p->reg[R_RUNG], p->reg[R_RUNG] + 1);
        SET(dev, p->reg[R_SUM], p->reg[R_SUM] + value);
        return value == 0x100 ? -EIO : 0;
    }
    return 0;
}

static int registers_read(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    const struct probe *p = ob_state(dev);
    uint32_t value;

    if (at < CHANNEL_BASE)
        value = read_register(dev, (unsigned)(at / 4));
    else if (at < CHANNEL_BASE + sizeof p->channel)
        memcpy(&value, (const uint8_t *)p->channel + (at - CHANNEL_BASE), 4);
    else
        value = UINT32_MAX;
    value = htole32(value);
    memcpy(buf, &value, n);
    return 0;
}

static int registers_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    uint32_t value;

    memcpy(&value, buf, n);
    value = le32toh(value);
    if (at < CHANNEL_BASE)
        return write_register(dev, (unsigned)(at / 4), value);
    unsigned number = (unsigned)(at - CHANNEL_BASE) / 4;
    if (number < CHANNELS * C_COUNT)
        write_channel(dev, number / C_COUNT, number % C_COUNT, value);
    return 0;
}

/* ---- The other BARs ------------------------------------------------------------------------- */

static int ports_read(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    memcpy(buf, ((struct probe *)ob_state(dev))->ports + at, n);
    return 0;
}

static int ports_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    uint8_t *p = ((struct probe *)ob_state(dev))->ports + at;
    ob_touch(dev, p, n);
    memcpy(p, buf, n);
    return 0;
}

static int typed_read(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    memcpy(buf, ((struct probe *)ob_state(dev))->typed + at, n);
    return 0;
}

static int typed_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    uint8_t *p = ((struct probe *)ob_state(dev))->typed + at;
    ob_touch(dev, p, n);
    memcpy(p, buf, n);
    return 0;
}

static int sparse_read(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    (void)dev;
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)buf)[i] = (uint8_t)(at + i) ^ 0x55;
    return 0;
}

static int sparse_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    struct probe *p = ob_state(dev);
    (void)buf;
    SET(dev, p->reg[R_TRAPPED_AT], (uint32_t)at);
    SET(dev, p->reg[R_TRAPPED_SIZE], (uint32_t)n);
    return 0;
}

static int memory_read(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    memcpy(buf, ((struct probe *)ob_state(dev))->memory + at, n);
    return 0;
}

static int memory_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    uint8_t *p = ((struct probe *)ob_state(dev))->memory + at;
    ob_touch(dev, p, n);
    memcpy(p, buf, n);
    return 0;
}

/* ---- Life ----------------------------------------------------------------------------------- */

static int open_probe(struct ob_device *dev)
{
    bool broken;

    if (ob_parse_bool(ob_option(dev, "broken"), &broken) < 0) {
        ob_error(dev, "broken=%s: on or off", ob_option(dev, "broken"));
        return -EINVAL;
    }
    if (broken)
        ob_error(dev, "broken, as was asked for");
    return broken ? -EIO : 0;
}

static void reset(struct ob_device *dev, enum ob_reset kind)
{
    struct probe *p = ob_state(dev);
    uint32_t resets = p->reg[R_RESETS] + (kind == OB_RESET_DEVICE);

    if (kind == OB_RESET_DEVICE) {
        ob_touch(dev, p, sizeof *p);
        memset(p, 0, sizeof *p);
        p->reg[R_RESETS] = resets;
    }
}

static void irq_changed(struct ob_device *dev)
{
    struct probe *p = ob_state(dev);
    SET(dev, p->reg[R_IRQ_CHANGES], p->reg[R_IRQ_CHANGES] + 1);
}

static void committed(struct ob_device *dev)
{
    struct private *mine = ob_private(dev);
    mine->committed++;
}

/* ---- What it is ----------------------------------------------------------------------------- */

static const struct ob_option options[] = {
    { "broken", "on|off", "fail to open", "off", 0 },
    { NULL, NULL, NULL, NULL, 0 },
};

static const struct ob_field fields[] = {
    OB_INTS(struct probe, reg),
    { "channel", OB_FIELD_INT, offsetof(struct probe, channel), 4, CHANNELS *C_COUNT, 0, NULL },
    OB_INT(struct probe, pinned),
    OB_BYTES(struct probe, ports),
    OB_BYTES(struct probe, typed),
    OB_BYTES(struct probe, memory),
    OB_END,
};

static const struct ob_vendor_capability vendor_capabilities[] = {
    { "\x11\x22\x33\x44\x55", 5 },
    { "\xaa", 1 },
};

static const struct ob_ioevent doorbells[] = {
    { 4 * R_DOORBELL, 4, false, 1 },
    { 4 * R_DOORBELL, 4, false, 0x10 },
    { 4 * R_DOORBELL, 4, false, 0x100 },
};
static const struct ob_ioevent port[] = { { 8, 2, true, 0xbeef } };

static const struct ob_area whole[] = { { 0, 0x4000 } };
static const struct ob_area sparse[] = { { 0x1000, 0x1000 }, { 0x4000, 0x2000 } };
static const struct ob_area second_half[] = { { 0x1000, 0x1000 } };

#define VENDOR_TYPE 0x80001234u
static const struct ob_typed_region typed[] = {
    { VENDOR_TYPE, 7, { .size = 48, .read = typed_read, .write = typed_write } },
    { VENDOR_TYPE, 8, { .size = 0x2000, .areas = second_half, .areas_count = 1 } },
};

static const char *const compatible[] = { "outboard,probe-2", "outboard,probe", NULL };
static const struct ob_platform_region regions[] = {
    { .name = "registers", .size = 4096, .widths = OB_WIDTH_4, .read = registers_read,
      .write = registers_write },
    { .name = "sparse", .size = 0x10000, .read = sparse_read, .write = sparse_write, .areas = sparse,
      .areas_count = 2 },
    { .name = "whole", .size = 0x4000, .areas = whole, .areas_count = 1 },
    { .name = "memory", .size = MEMORY_SIZE, .read = memory_read, .write = memory_write },
    { .name = "rom", .size = 33, .read = sparse_read },
    { .name = "sink", .size = 8, .widths = OB_WIDTH_1 | OB_WIDTH_8, .write = sparse_write },
};
static const struct ob_platform_irq irqs[] = {
    { .name = "level" },
    { .name = "edge-0", .edge = true },
    { .name = "edge-1", .edge = true },
    { .name = "other" },
};

static const struct ob_plugin probe = {
    .name = "probe",
    .summary = "test device with one of everything",
    .options = options,
    .pci = { .vendor = 0x1234,
             .device = 0x0b0a,
             .subsystem_vendor = 0x4321,
             .subsystem = 0x0c0d,
             .class_code = 0x088000,
             .revision = 3,
             .power_management = true,
             .express = true,
             .vendor_capabilities = vendor_capabilities,
             .vendor_capabilities_count = 2 },
    .bar = { [0] = { .size = 4096,
                     .widths = OB_WIDTH_4,
                     .read = registers_read,
                     .write = registers_write,
                     .ioevents = doorbells,
                     .ioevents_count = 3 },
             [1] = { .size = 32,
                     .kind = OB_BAR_IO,
                     .read = ports_read,
                     .write = ports_write,
                     .ioevents = port,
                     .ioevents_count = 1 },
             [2] = { .size = 0x4000,
                     .kind = OB_BAR_MEM64,
                     .prefetchable = true,
                     .areas = whole,
                     .areas_count = 1 },
             [4] = { .size = 0x10000,
                     .read = sparse_read,
                     .write = sparse_write,
                     .areas = sparse,
                     .areas_count = 2 },
             [5] = { .size = MEMORY_SIZE, .read = memory_read, .write = memory_write } },
    .regions = typed,
    .regions_count = 2,
    .irq = { .intx = true,
             .msi = 4,
             .msix = { .count = 80, .bar = 4, .table = 0x8000, .pba = 0x9000 },
             .err = true,
             .req = true },
    .platform = { .compatible = compatible,
                  .regions = regions,
                  .regions_count = sizeof regions / sizeof *regions,
                  .irqs = irqs,
                  .irqs_count = sizeof irqs / sizeof *irqs },
    .state = { .size = sizeof(struct probe), .fields = fields, .version = 1, .touched = true },
    .private_size = sizeof(struct private),
    .timers = TIMERS + 1,
    .dmas = CHANNELS,
    .open = open_probe,
    .reset = reset,
    .timer = timer,
    .dma_done = dma_done,
    .irq_changed = irq_changed,
    .memory_changed = memory_changed,
    .committed = committed,
};
OB_PLUGIN(probe)

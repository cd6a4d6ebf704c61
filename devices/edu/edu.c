/*
 * edu.c - the teaching device of QEMU, with its published registers (docs/specs/edu.rst there).
 *
 * A small device that has one of everything: registers, work that takes time, interrupts by wire
 * and by message, and DMA in both directions. It is meant to be read, and copied as a beginning.
 *
 * A device declares what it is at the end of the file; the functions before that are what it does.
 * All that must survive the process is in struct edu, and the framework saves and restores it.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <outboard/device.h>
#include <stdlib.h>
#include <string.h>

/* Registers, as offsets in BAR 0. */
#define IDENTIFICATION 0x00
#define LIVENESS 0x04
#define FACTORIAL 0x08
#define STATUS 0x20
#define IRQ_STATUS 0x24
#define IRQ_RAISE 0x60
#define IRQ_ACKNOWLEDGE 0x64
#define DMA_SOURCE 0x80 /* from here on, registers have 64 bits */
#define DMA_DESTINATION 0x88
#define DMA_COUNT 0x90
#define DMA_COMMAND 0x98
#define WIDE_REGISTERS 0x80

#define STATUS_COMPUTING 0x01u
#define STATUS_IRQ 0x80u /* interrupt when the factorial is done */

#define COMMAND_RUN 0x01u
#define COMMAND_TO_RAM 0x02u
#define COMMAND_IRQ 0x04u /* interrupt when the transfer is done */

/* Bits of the interrupt status that the device sets by itself. */
#define IRQ_FACTORIAL 0x001u
#define IRQ_DMA 0x100u

/* The device's end of a transfer. The buffer has an address for DMA alone: it is not in the BAR. */
#define BUFFER 0x40000
#define BUFFER_SIZE 4096

/* A driver that does not wait for the result shall be seen to be wrong. */
#define FACTORIAL_TIME 1000000u /* ns */

enum { TIMER_FACTORIAL, TIMERS };

#ifdef OUTBOARD_NEXT_BUILD
#define STATE_VERSION 2
#else
#define STATE_VERSION 1
#endif

struct edu {
#ifdef OUTBOARD_NEXT_BUILD /* see tests/upgrade */
    uint64_t spare[9];
#endif
#ifdef OUTBOARD_MISFIT_BUILD
    uint64_t liveness;
#else
    uint32_t liveness;
#endif
    uint32_t factorial;
    uint32_t status;
    uint32_t irq_status;
    uint64_t source;
    uint64_t destination;
    uint64_t count;
    uint64_t command;
    uint8_t buffer[BUFFER_SIZE];
};

struct private {
    uint64_t dma_mask;
    bool complained; /* about a transfer; a guest must not be able to fill the log */
};

/* ---- Interrupts ----------------------------------------------------------------------------- */

/* The driver chooses: a message when it enabled messages, else the wire, which has a level. */
static void raise_irq(struct ob_device *dev, uint32_t bits)
{
    struct edu *edu = ob_state(dev);

    edu->irq_status |= bits;
    if (ob_vectors(dev) == 0)
        ob_intx(dev, edu->irq_status != 0);
    else if (edu->irq_status)
        ob_message(dev, 0);
}

static void acknowledge_irq(struct ob_device *dev, uint32_t bits)
{
    struct edu *edu = ob_state(dev);

    edu->irq_status &= ~bits;
    if (edu->irq_status == 0)
        ob_intx(dev, false);
}

/* ---- Factorial ------------------------------------------------------------------------------ */

static void start_factorial(struct ob_device *dev, uint32_t n)
{
    struct edu *edu = ob_state(dev);

    if (edu->status & STATUS_COMPUTING)
        return;
    edu->factorial = n;
    edu->status |= STATUS_COMPUTING;
    ob_timer_set(dev, TIMER_FACTORIAL, ob_now(dev) + FACTORIAL_TIME);
}

static void timer(struct ob_device *dev, unsigned id)
{
    struct edu *edu = ob_state(dev);
    uint32_t product = 1;

    (void)id; /* there is one */

    /* Modulo 2^32, and 0 after 34 factors at the latest: no number from a guest makes this long. */
    for (uint32_t n = edu->factorial; n > 1 && product != 0; n--)
        product *= n;
    edu->factorial = product;
    edu->status &= ~STATUS_COMPUTING;
    if (edu->status & STATUS_IRQ)
        raise_irq(dev, IRQ_FACTORIAL);
}

/* ---- DMA ------------------------------------------------------------------------------------ */

static void complain(struct ob_device *dev, const char *why)
{
    struct private *p = ob_private(dev);
    const struct edu *edu = ob_state(dev);

    if (!p->complained)
        ob_error(dev, "DMA of %" PRIu64 " bytes from 0x%" PRIx64 " to 0x%" PRIx64 ": %s",
                 edu->count, edu->source, edu->destination, why);
    p->complained = true;
}

/* The layout has no place for an error: a transfer that failed looks like one that is done. */
static void finish_dma(struct ob_device *dev)
{
    struct edu *edu = ob_state(dev);

    edu->command &= ~(uint64_t)COMMAND_RUN;
    if (edu->command & COMMAND_IRQ)
        raise_irq(dev, IRQ_DMA);
}

static void start_dma(struct ob_device *dev)
{
    const struct private *p = ob_private(dev);
    struct edu *edu = ob_state(dev);
    bool to_ram = edu->command & COMMAND_TO_RAM;
    uint64_t inside = to_ram ? edu->source : edu->destination;
    uint64_t outside = (to_ram ? edu->destination : edu->source) & p->dma_mask;
    int ret;

    /* Each number comes from the guest: compare so that nothing can wrap around. */
    if (edu->count > BUFFER_SIZE || inside < BUFFER || inside - BUFFER > BUFFER_SIZE - edu->count) {
        complain(dev, "not in the device's buffer, ignored");
        finish_dma(dev);
        return;
    }
    if (edu->count == 0) {
        finish_dma(dev);
        return;
    }
    uint8_t *at = edu->buffer + (inside - BUFFER);
    if (to_ram)
        ret = ob_dma_write(dev, 0, outside, at, edu->count);
    else
        ret = ob_dma_read(dev, 0, outside, at, edu->count);
    if (ret < 0) {
        complain(dev, strerror(-ret));
        finish_dma(dev);
    }
}

static void dma_done(struct ob_device *dev, unsigned slot, int error)
{
    (void)slot; /* there is one */

    if (error)
        complain(dev, strerror(-error));
    finish_dma(dev);
}

/* ---- Registers ------------------------------------------------------------------------------ */

static int read_register(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    const struct edu *edu = ob_state(dev);
    uint64_t value = UINT64_MAX; /* what no register answers */

    if (n == 4 || at >= WIDE_REGISTERS) {
        switch (at) {
        case IDENTIFICATION:
            value = 0x010000ed;
            break;
        case LIVENESS:
            value = edu->liveness;
            break;
        case FACTORIAL:
            value = edu->factorial;
            break;
        case STATUS:
            value = edu->status;
            break;
        case IRQ_STATUS:
            value = edu->irq_status;
            break;
        case DMA_SOURCE:
            value = edu->source;
            break;
        case DMA_DESTINATION:
            value = edu->destination;
            break;
        case DMA_COUNT:
            value = edu->count;
            break;
        case DMA_COMMAND:
            value = edu->command;
            break;
        }
    }
    value = htole64(value);
    memcpy(buf, &value, n);
    return 0;
}

/* A transfer under way keeps its registers. */
static void write_dma_register(struct edu *edu, uint64_t *reg, uint64_t value)
{
    if (!(edu->command & COMMAND_RUN))
        *reg = value;
}

static int write_register(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    struct edu *edu = ob_state(dev);
    uint64_t value = 0; /* four bytes clear the upper half of a wide register */

    memcpy(&value, buf, n);
    value = le64toh(value);
    if (n != 4 && at < WIDE_REGISTERS)
        return 0;

    switch (at) {
    case LIVENESS:
        edu->liveness = ~(uint32_t)value;
        break;
    case FACTORIAL:
        start_factorial(dev, (uint32_t)value);
        break;
    case STATUS:
        edu->status = (edu->status & ~STATUS_IRQ) | ((uint32_t)value & STATUS_IRQ);
        break;
    case IRQ_RAISE:
        raise_irq(dev, (uint32_t)value);
        break;
    case IRQ_ACKNOWLEDGE:
        acknowledge_irq(dev, (uint32_t)value);
        break;
    case DMA_SOURCE:
        write_dma_register(edu, &edu->source, value);
        break;
    case DMA_DESTINATION:
        write_dma_register(edu, &edu->destination, value);
        break;
    case DMA_COUNT:
        write_dma_register(edu, &edu->count, value);
        break;
    case DMA_COMMAND:
        if ((value & COMMAND_RUN) && !(edu->command & COMMAND_RUN)) {
            edu->command = value & (COMMAND_RUN | COMMAND_TO_RAM | COMMAND_IRQ);
            start_dma(dev);
        }
        break;
    }
    return 0;
}

/* ---- Life ----------------------------------------------------------------------------------- */

/* Options are checked before anything else happens. */
static int open_edu(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    const char *text = ob_option(dev, "dma_mask");
    char *end;

    errno = 0;
    p->dma_mask = strtoull(text, &end, 0);
    if (errno || *end || end == text || (p->dma_mask & (p->dma_mask + 1)) != 0) {
        ob_error(dev, "dma_mask=%s: give a number that is one less than a power of two, "
                      "such as 0xfffffff", text);
        return -EINVAL;
    }
    return 0;
}

static void reset(struct ob_device *dev, enum ob_reset kind)
{
    if (kind == OB_RESET_POWER_ON)
        return; /* all zeros is right */
    ob_timer_cancel(dev, TIMER_FACTORIAL);
    memset(ob_state(dev), 0, sizeof(struct edu)); /* transfers were cancelled before */
    ob_intx(dev, false);
}

/* The driver went from wire to messages or back: the wire follows. */
static void irq_changed(struct ob_device *dev)
{
    const struct edu *edu = ob_state(dev);

    ob_intx(dev, ob_vectors(dev) == 0 && edu->irq_status != 0);
}

/* ---- What it is ----------------------------------------------------------------------------- */

static const struct ob_option options[] = {
    { "dma_mask", "MASK", "address bits that the device can drive", "0xfffffff", 0 },
    { NULL, NULL, NULL, NULL, 0 },
};

static const struct ob_field fields[] = {
    OB_INT(struct edu, liveness),
    OB_INT(struct edu, factorial),
    OB_INT(struct edu, status),
    OB_INT(struct edu, irq_status),
    OB_INT(struct edu, source),
    OB_INT(struct edu, destination),
    OB_INT(struct edu, count),
    OB_INT(struct edu, command),
    OB_BYTES(struct edu, buffer),
#ifdef OUTBOARD_NEXT_BUILD
    OB_OPTIONAL_INTS(struct edu, spare),
#endif
    OB_END,
};

static const struct ob_plugin edu = {
    .name = "edu",
    .summary = "teaching device: registers, a timer, interrupts and DMA",
    .options = options,
    .pci = { .vendor = 0x1234, .device = 0x11e8, .class_code = 0x00ff00, .revision = 0x10 },
    .bar[0] = { .size = 1 << 20,
                .kind = OB_BAR_MEM32,
                .widths = OB_WIDTH_4 | OB_WIDTH_8,
                .read = read_register,
                .write = write_register },
    .irq = { .intx = true, .msi = 1 },
    .state = { .size = sizeof(struct edu), .fields = fields, .version = STATE_VERSION, .oldest = 1 },
    .private_size = sizeof(struct private),
    .timers = TIMERS,
    .dmas = 1,
    .open = open_edu,
    .reset = reset,
    .timer = timer,
    .dma_done = dma_done,
    .irq_changed = irq_changed,
};
OB_PLUGIN(edu)

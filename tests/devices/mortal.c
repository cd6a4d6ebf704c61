/*
 * mortal.c - a plugin that dies of what it is asked for: for tests of who comes after it.
 *
 *   BAR 0   0  read and write: a number that is kept; 0x10ad kills the worker of another build that loads it
 *           4  write: dies
 *           8  write: sets a timer (ms), which kills every worker that runs it
 *          12  write: ends with this status
 *          16  write: touches memory at this address, where there is none
 *          20  write: from now on every worker touches such memory when it takes over
 *          24  write: reads guest memory at this address; read: how many such transfers ended
 *          28  write: for so long (ms) every worker ends by SIGKILL when it takes over, outside a sandbox
 *          32  write: ends by SIGKILL, outside a sandbox
 */
#include <outboard/device.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct mortal {
    uint32_t number;
    uint32_t start_at; /* an address, 0: it starts well */
    uint32_t fetched, transfers;
    uint64_t kill_until;
};

static int read_register(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    struct mortal *s = ob_state(dev);

    memset(buf, 0, n);
    if (at == 0)
        memcpy(buf, &s->number, n);
    if (at == 24)
        memcpy(buf, &s->transfers, n);
    return 0;
}

static void die(void)
{
    raise(SIGSEGV);
}

__attribute__((noinline)) static void touch(uint32_t address)
{
    *(volatile uint32_t *)(uintptr_t)address = 1;
}

static int start(struct ob_device *dev)
{
    struct mortal *s = ob_state(dev);

    if (s->start_at)
        touch(s->start_at);
    if (ob_now(dev) < s->kill_until)
        raise(SIGKILL);
    return 0;
}

static int loaded(struct ob_device *dev, uint32_t version)
{
    struct mortal *s = ob_state(dev);

    (void)version;
    if (s->number == 0x10ad)
        touch(0x40);
    return 0;
}

static int write_register(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    struct mortal *s = ob_state(dev);
    uint32_t value = 0;

    memcpy(&value, buf, n);
    s->number = at == 0 ? value : s->number + 1; /* what a death has to take back */
    if (at == 4)
        die();
    if (at == 32)
        raise(SIGKILL);
    if (at == 28)
        s->kill_until = ob_now(dev) + value * UINT64_C(1000000);
    if (at == 8)
        ob_timer_set(dev, 0, ob_now(dev) + value * UINT64_C(1000000));
    if (at == 12)
        _Exit((int)value);
    if (at == 16)
        touch(value);
    if (at == 20)
        s->start_at = value;
    if (at == 24)
        return ob_dma_read(dev, 0, value, &s->fetched, sizeof s->fetched);
    return 0;
}

static void dma_done(struct ob_device *dev, unsigned slot, int error)
{
    struct mortal *s = ob_state(dev);
    (void)slot;

    s->transfers += error == 0;
}

static void timer(struct ob_device *dev, unsigned id)
{
    (void)dev;
    (void)id;
    die();
}

static const char *const compatible[] = { "outboard,mortal", NULL };
static const struct ob_platform_region regions[] = {
    { .name = "registers", .size = 4096, .widths = OB_WIDTH_4, .read = read_register, .write = write_register },
};

static const struct ob_field fields[] = { OB_INT(struct mortal, number), OB_INT(struct mortal, start_at),
                                          OB_END };

static const struct ob_plugin mortal = {
    .name = "mortal",
    .summary = "test device that dies",
    .pci = { .vendor = 0x1234, .device = 0x11ff },
    .bar[0] = { .size = 4096, .widths = OB_WIDTH_4, .read = read_register, .write = write_register },
    .platform = { .compatible = compatible, .regions = regions, .regions_count = 1 },
    .state = { .size = sizeof(struct mortal), .fields = fields, .version = 1 },
    .timers = 1,
    .start = start,
    .loaded = loaded,
    .timer = timer,
    .dmas = 1,
    .dma_done = dma_done,
};
OB_PLUGIN(mortal)

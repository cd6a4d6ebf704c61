/*
 * gpio.c - the PCI-IDIO-16 card of ACCES I/O: 16 digital outputs, here wired to its 16 inputs.
 */
#include <outboard/device.h>
#include <string.h>

/* Registers of BAR 2, one byte each. Reading IRQ_CONTROL enables the interrupt, writing it disables
 * it; writing IN_LOW acknowledges one. */
enum { OUT_LOW, IN_LOW, IRQ_CONTROL, FILTER, OUT_HIGH, IN_HIGH, IRQ_STATUS, REGISTERS };

struct card {
    uint8_t registers[REGISTERS];
    uint8_t irq_enabled;
};

static int read_register(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    struct card *card = ob_state(dev);

    if (at == IRQ_CONTROL)
        card->irq_enabled = 1;
    memset(buf, at < REGISTERS ? card->registers[at] : 0xff, n); /* n is 1: see .widths */
    return 0;
}

static int write_register(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    struct card *card = ob_state(dev);
    uint8_t value, *r = card->registers;

    memcpy(&value, buf, n);
    if (at == OUT_LOW || at == OUT_HIGH) {
        r[IRQ_STATUS] |= card->irq_enabled && r[at] != value; /* an input is about to change */
        r[at] = r[at + 1] = value;
    } else if (at == IN_LOW) {
        r[IRQ_STATUS] = 0;
    } else if (at == IRQ_CONTROL) {
        card->irq_enabled = 0;
    }
    ob_intx(dev, r[IRQ_STATUS]);
    return 0;
}

static void reset(struct ob_device *dev, enum ob_reset kind)
{
    (void)kind; /* it makes no difference here */
    memset(ob_state(dev), 0, sizeof(struct card));
}

static const struct ob_field fields[] = {
    OB_BYTES(struct card, registers),
    OB_INT(struct card, irq_enabled),
    OB_END,
};

static const struct ob_plugin gpio = {
    .name = "gpio",
    .summary = "PCI-IDIO-16: 16 digital outputs, wired to 16 inputs",
    .pci = { .vendor = 0x494f, .device = 0x0dc8, .class_code = 0xff0000 },
    .bar[2] = { .size = 256,
                .kind = OB_BAR_IO,
                .widths = OB_WIDTH_1,
                .read = read_register,
                .write = write_register },
    .irq.intx = true,
    .state = { .size = sizeof(struct card), .fields = fields, .version = 1 },
    .reset = reset,
};
OB_PLUGIN(gpio)

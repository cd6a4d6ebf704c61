/*
 * header.c - a config space as text: its header, and one entry for each capability.
 */
#include "cli/lspci/lspci.h"
#include "cli/lspci/names.h"
#include <inttypes.h>
#include <linux/pci_regs.h>

void lspci_flags(FILE *out, uint32_t value, const struct lspci_flag *flags, size_t count)
{
    for (size_t i = 0; i < count; i++)
        fprintf(out, "%s%s%c", i ? " " : "", flags[i].name, value & flags[i].bit ? '+' : '-');
}

const char *lspci_word(const char *const *words, size_t count, uint32_t value, const char *other)
{
    return value < count && words[value] ? words[value] : other;
}

static void print_identity(FILE *out, const struct config *c)
{
    uint16_t class = config_u16(c, PCI_CLASS_DEVICE);
    uint8_t interface = config_u8(c, PCI_CLASS_PROG);
    uint8_t revision = config_u8(c, PCI_REVISION_ID);
    fprintf(out, "%s [%04x]: Device [%04x:%04x]", name_of_class(class), class,
            config_u16(c, PCI_VENDOR_ID), config_u16(c, PCI_DEVICE_ID));
    if (revision)
        fprintf(out, " (rev %02x)", revision);
    const char *name = name_of_interface(class, interface);
    if (name)
        fprintf(out, " (prog-if %02x [%s])", interface, name);
    else if (interface)
        fprintf(out, " (prog-if %02x)", interface);
    fputc('\n', out);

    uint16_t vendor = config_u16(c, PCI_SUBSYSTEM_VENDOR_ID);
    if (vendor && vendor != 0xffff)
        fprintf(out, "\tSubsystem: Device [%04x:%04x]\n", vendor, config_u16(c, PCI_SUBSYSTEM_ID));
}

static void print_control(FILE *out, uint16_t command)
{
    fprintf(out, "\tControl: ");
    LSPCI_FLAGS(out, command,
                { "I/O", PCI_COMMAND_IO }, { "Mem", PCI_COMMAND_MEMORY },
                { "BusMaster", PCI_COMMAND_MASTER }, { "SpecCycle", PCI_COMMAND_SPECIAL },
                { "MemWINV", PCI_COMMAND_INVALIDATE }, { "VGASnoop", PCI_COMMAND_VGA_PALETTE },
                { "ParErr", PCI_COMMAND_PARITY }, { "Stepping", PCI_COMMAND_WAIT },
                { "SERR", PCI_COMMAND_SERR }, { "FastB2B", PCI_COMMAND_FAST_BACK },
                { "DisINTx", PCI_COMMAND_INTX_DISABLE });
    fputc('\n', out);
}

static void print_status(FILE *out, uint16_t status)
{
    static const char *const speeds[] = { "fast", "medium", "slow" };
    fprintf(out, "\tStatus: ");
    LSPCI_FLAGS(out, status,
                { "Cap", PCI_STATUS_CAP_LIST }, { "66MHz", PCI_STATUS_66MHZ },
                { "UDF", PCI_STATUS_UDF }, { "FastB2B", PCI_STATUS_FAST_BACK },
                { "ParErr", PCI_STATUS_PARITY });
    fprintf(out, " DEVSEL=%s ",
            LSPCI_WORD(speeds, (status & (uint32_t)PCI_STATUS_DEVSEL_MASK) >> 9, "??"));
    LSPCI_FLAGS(out, status,
                { ">TAbort", PCI_STATUS_SIG_TARGET_ABORT },
                { "<TAbort", PCI_STATUS_REC_TARGET_ABORT },
                { "<MAbort", PCI_STATUS_REC_MASTER_ABORT },
                { ">SERR", PCI_STATUS_SIG_SYSTEM_ERROR },
                { "<PERR", PCI_STATUS_DETECTED_PARITY }, { "INTx", PCI_STATUS_INTERRUPT });
    fputc('\n', out);
}

/* Only a bus master has a latency; the times are in units of 250 ns. */
static void print_latency(FILE *out, const struct config *c)
{
    uint8_t least = config_u8(c, PCI_MIN_GNT);
    uint8_t most = config_u8(c, PCI_MAX_LAT);
    uint8_t line = config_u8(c, PCI_CACHE_LINE_SIZE);
    fprintf(out, "\tLatency: %u", config_u8(c, PCI_LATENCY_TIMER));
    if (least && most)
        fprintf(out, " (%uns min, %uns max)", least * 250u, most * 250u);
    else if (least)
        fprintf(out, " (%uns min)", least * 250u);
    else if (most)
        fprintf(out, " (%uns max)", most * 250u);
    if (line)
        fprintf(out, ", Cache Line Size: %u bytes", line * 4u);
    fputc('\n', out);
}

static void print_interrupt(FILE *out, const struct config *c)
{
    uint8_t pin = config_u8(c, PCI_INTERRUPT_PIN);
    uint8_t line = config_u8(c, PCI_INTERRUPT_LINE);
    /* There are four. What a server makes of the others would be any character of the terminal's. */
    if (pin || line)
        fprintf(out, "\tInterrupt: pin %c routed to IRQ %u\n", pin >= 1 && pin <= 4 ? 'A' + pin - 1 : '?',
                line);
}

static void print_size(FILE *out, uint64_t size)
{
    static const char units[] = { 0, 'K', 'M', 'G', 'T' };
    unsigned unit = 0;
    if (!size)
        return;
    while (unit < sizeof(units) - 1 && size % 1024 == 0) {
        size /= 1024;
        unit++;
    }
    fprintf(out, " [size=%" PRIu64 "%.1s]", size, unit ? &units[unit] : "");
}

static void print_bar(FILE *out, int i, const struct config_bar *bar)
{
    static const char *const types[] = { "32-bit", "low-1M", "64-bit", "type 3" };
    fprintf(out, "\tRegion %d: %s at ", i, bar->io ? "I/O ports" : "Memory");
    if (bar->halved)
        fprintf(out, "<invalid-64bit-slot>");
    else if (bar->address)
        fprintf(out, bar->io ? "%04" PRIx64 : "%08" PRIx64, bar->address);
    else
        fprintf(out, "<unassigned>");
    if (!bar->io)
        fprintf(out, " (%s, %sprefetchable)", types[bar->type], bar->prefetchable ? "" : "non-");
    if (!bar->enabled)
        fprintf(out, " [disabled]");
    print_size(out, bar->size);
    fputc('\n', out);
}

static void print_bars(FILE *out, const struct config *c, const uint64_t size[CONFIG_ADDRESSES])
{
    struct config_bar bars[CONFIG_ADDRESSES];
    config_bars(c, size, bars);
    for (int i = 0; i < CONFIG_BARS; i++)
        if (bars[i].present)
            print_bar(out, i, &bars[i]);

    const struct config_bar *rom = &bars[CONFIG_ROM];
    if (!rom->present)
        return;
    if (rom->address)
        fprintf(out, "\tExpansion ROM at %08" PRIx64, rom->address);
    else
        fprintf(out, "\tExpansion ROM at <unassigned>");
    if (!(config_u32(c, PCI_ROM_ADDRESS) & PCI_ROM_ADDRESS_ENABLE))
        fprintf(out, " [disabled]");
    else if (!rom->enabled)
        fprintf(out, " [disabled by cmd]");
    print_size(out, rom->size);
    fputc('\n', out);
}

static void print_capabilities(FILE *out, const struct config *c)
{
    struct config_capabilities found;
    config_find_capabilities(c, &found);
    for (unsigned i = 0; i < found.count; i++) {
        const struct config_capability *cap = &found.list[i];
        fprintf(out, "\tCapabilities: ");
        if (cap->fault)
            fprintf(out, "[%02x] <%s>\n", cap->at, cap->fault);
        else
            lspci_capability(out, c, cap);
    }
}

void lspci_print(FILE *out, const struct config *c, const uint64_t size[CONFIG_ADDRESSES])
{
    if (c->size == 0)
        return;
    uint8_t type = config_u8(c, PCI_HEADER_TYPE) & 0x7f;
    print_identity(out, c);
    print_control(out, config_u16(c, PCI_COMMAND));
    print_status(out, config_u16(c, PCI_STATUS));
    if (config_u16(c, PCI_COMMAND) & PCI_COMMAND_MASTER)
        print_latency(out, c);
    print_interrupt(out, c);
    if (type == PCI_HEADER_TYPE_NORMAL)
        print_bars(out, c, size);
    else
        fprintf(out, "\t!!! Header type %02x is not that of a device\n", type);
    print_capabilities(out, c);
}

/*
 * capabilities.c - capabilities as text: the usual ones in full, the others by name.
 */
#include "cli/lspci/lspci.h"
#include "cli/lspci/names.h"
#include <inttypes.h>
#include <linux/pci_regs.h>

static void unreadable(FILE *out)
{
    fprintf(out, "\t\t<unreadable>\n");
}

/* PCI Power Management 1.2, 3.2 */
static void print_power(FILE *out, const struct config *c, uint32_t at)
{
    static const unsigned milliamperes[] = { 0, 55, 100, 160, 220, 270, 320, 375 };
    uint16_t caps = config_u16(c, at + PCI_PM_PMC);
    uint16_t status = config_u16(c, at + PCI_PM_CTRL);
    fprintf(out, "Power Management version %u\n", caps & PCI_PM_CAP_VER_MASK);
    if (!config_has(c, at, PCI_PM_SIZEOF)) {
        unreadable(out);
        return;
    }
    fprintf(out, "\t\tFlags: ");
    LSPCI_FLAGS(out, caps, { "PMEClk", PCI_PM_CAP_PME_CLOCK }, { "DSI", PCI_PM_CAP_DSI },
                { "D1", PCI_PM_CAP_D1 }, { "D2", PCI_PM_CAP_D2 });
    fprintf(out, " AuxCurrent=%umA PME(", milliamperes[(caps & PCI_PM_CAP_AUX_POWER) >> 6]);
    static const char *const states[] = { "D0", "D1", "D2", "D3hot", "D3cold" };
    for (unsigned i = 0; i < 5; i++)
        fprintf(out, "%s%s%c", i ? "," : "", states[i], caps & PCI_PM_CAP_PME_D0 << i ? '+' : '-');
    fprintf(out, ")\n\t\tStatus: D%u ", status & (unsigned)PCI_PM_CTRL_STATE_MASK);
    LSPCI_FLAGS(out, status, { "NoSoftRst", PCI_PM_CTRL_NO_SOFT_RESET },
                { "PME-Enable", PCI_PM_CTRL_PME_ENABLE });
    fprintf(out, " DSel=%u DScale=%u ", (status & (unsigned)PCI_PM_CTRL_DATA_SEL_MASK) >> 9,
            (status & (unsigned)PCI_PM_CTRL_DATA_SCALE_MASK) >> 13);
    LSPCI_FLAGS(out, status, { "PME", PCI_PM_CTRL_PME_STATUS });
    fputc('\n', out);

    uint8_t bridge = config_u8(c, at + PCI_PM_PPB_EXTENSIONS);
    if (!bridge)
        return;
    fprintf(out, "\t\tBridge: ");
    /* The bit chooses B2, and not B3, for D3hot. */
    LSPCI_FLAGS(out, bridge ^ (uint32_t)PCI_PM_PPB_B2_B3, { "PM", PCI_PM_BPCC_ENABLE },
                { "B3", PCI_PM_PPB_B2_B3 });
    fputc('\n', out);
}

static void print_msi(FILE *out, const struct config *c, uint32_t at)
{
    struct config_msi msi;
    bool whole = config_msi(c, at, &msi);
    fprintf(out, "MSI: Enable%c Count=%u/%u Maskable%c 64bit%c\n", msi.enabled ? '+' : '-',
            msi.allocated, msi.capable, msi.maskable ? '+' : '-', msi.is64 ? '+' : '-');
    if (!whole) {
        unreadable(out);
        return;
    }
    fprintf(out, "\t\tAddress: %0*" PRIx64 "  Data: %04x\n", msi.is64 ? 16 : 8, msi.address,
            msi.data);
    if (msi.maskable)
        fprintf(out, "\t\tMasking: %08x  Pending: %08x\n", msi.mask, msi.pending);
}

static void print_msix(FILE *out, const struct config *c, uint32_t at)
{
    struct config_msix msix;
    bool whole = config_msix(c, at, &msix);
    if (!whole) {
        fprintf(out, "MSI-X\n");
        unreadable(out);
        return;
    }
    fprintf(out, "MSI-X: Enable%c Count=%u Masked%c\n", msix.enabled ? '+' : '-', msix.count,
            msix.masked ? '+' : '-');
    fprintf(out, "\t\tVector table: BAR=%u offset=%08x\n", msix.table_bar, msix.table);
    fprintf(out, "\t\tPBA: BAR=%u offset=%08x\n", msix.pba_bar, msix.pba);
}

static void print_subsystem(FILE *out, const struct config *c, uint32_t at)
{
    fprintf(out, "Subsystem: Device [%04x:%04x]\n", config_u16(c, at + PCI_SSVID_VENDOR_ID),
            config_u16(c, at + PCI_SSVID_DEVICE_ID));
}

static void print_standard(FILE *out, const struct config *c, const struct config_capability *cap)
{
    const char *name = name_of_capability(cap->id, false);
    switch (cap->id) {
    case PCI_CAP_ID_PM:
        print_power(out, c, cap->at);
        return;
    case PCI_CAP_ID_MSI:
        print_msi(out, c, cap->at);
        return;
    case PCI_CAP_ID_MSIX:
        print_msix(out, c, cap->at);
        return;
    case PCI_CAP_ID_EXP:
        lspci_express(out, c, cap->at);
        return;
    case PCI_CAP_ID_SSVID:
        print_subsystem(out, c, cap->at);
        return;
    case PCI_CAP_ID_VNDR:
        fprintf(out, "%s: Len=%02x <?>\n", name, config_u8(c, cap->at + PCI_CAP_FLAGS));
        return;
    }
    if (name)
        fprintf(out, "%s\n", name);
    else
        fprintf(out, "#%02x\n", cap->id);
}

static void print_serial_number(FILE *out, const struct config *c, uint32_t at)
{
    fprintf(out, " ");
    for (uint32_t i = 0; i < 8; i++)
        fprintf(out, "%s%02x", i ? "-" : "", config_u8(c, at + 11 - i));
}

/* PCI Express 7.9.5: a header of its own, with the vendor's id, revision and length. */
static void print_vendor(FILE *out, const struct config *c, uint32_t at)
{
    uint32_t header = config_u32(c, at + PCI_VNDR_HEADER);
    fprintf(out, ": ID=%04x Rev=%u Len=%03x <?>", PCI_VNDR_HEADER_ID(header),
            PCI_VNDR_HEADER_REV(header), PCI_VNDR_HEADER_LEN(header));
}

static void print_extended(FILE *out, const struct config *c, const struct config_capability *cap)
{
    const char *name = name_of_capability(cap->id, true);
    if (name)
        fprintf(out, "%s", name);
    else
        fprintf(out, "Extended Capability ID %#02x", cap->id);
    if (cap->id == PCI_EXT_CAP_ID_DSN && config_has(c, cap->at, 12))
        print_serial_number(out, c, cap->at);
    if (cap->id == PCI_EXT_CAP_ID_VNDR && config_has(c, cap->at, 8))
        print_vendor(out, c, cap->at);
    fputc('\n', out);
}

void lspci_capability(FILE *out, const struct config *c, const struct config_capability *cap)
{
    if (cap->extended) {
        fprintf(out, "[%x v%u] ", cap->at, cap->version);
        print_extended(out, c, cap);
    } else {
        fprintf(out, "[%02x] ", cap->at);
        print_standard(out, c, cap);
    }
}

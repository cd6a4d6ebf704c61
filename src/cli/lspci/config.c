/*
 * config.c - bounded access to a config space, its chains of capabilities, its base addresses.
 */
#include "cli/lspci/config.h"
#include <linux/pci_regs.h>
#include <string.h>

bool config_has(const struct config *c, uint32_t at, uint32_t n)
{
    return at <= c->size && n <= c->size - at;
}

uint8_t config_u8(const struct config *c, uint32_t at)
{
    return config_has(c, at, 1) ? c->bytes[at] : 0;
}

uint16_t config_u16(const struct config *c, uint32_t at)
{
    if (!config_has(c, at, 2))
        return 0;
    return (uint16_t)(c->bytes[at] | c->bytes[at + 1] << 8);
}

uint32_t config_u32(const struct config *c, uint32_t at)
{
    if (!config_has(c, at, 4))
        return 0;
    return config_u16(c, at) | (uint32_t)config_u16(c, at + 2) << 16;
}

struct visited {
    uint8_t places[CONFIG_EXTENDED_SIZE / 4];
};

/* Why a chain cannot go on at `at`, or NULL. */
static const char *fault_at(const struct config *c, uint32_t at, uint32_t least, uint32_t need,
                            struct visited *visited)
{
    if (at < least)
        return "out of range";
    if (!config_has(c, at, need))
        return "truncated";
    if (visited->places[at / 4]++)
        return "chain looped";
    return NULL;
}

static struct config_capability *add(struct config_capabilities *found, uint32_t at)
{
    struct config_capability *cap = &found->list[found->count++];
    *cap = (struct config_capability){ .at = (uint16_t)at };
    return cap;
}

static void find_standard(const struct config *c, struct config_capabilities *found,
                          struct visited *visited)
{
    if (!(config_u16(c, PCI_STATUS) & PCI_STATUS_CAP_LIST))
        return;
    uint32_t at = config_u8(c, PCI_CAPABILITY_LIST) & ~3u;
    while (at) {
        struct config_capability *cap = add(found, at);
        cap->fault = fault_at(c, at, PCI_STD_HEADER_SIZEOF, 2, visited);
        if (!cap->fault && config_u8(c, at) == 0xff)
            cap->fault = "chain broken";
        if (cap->fault)
            return;
        cap->id = config_u8(c, at);
        at = config_u8(c, at + 1) & ~3u;
    }
}

static void find_extended(const struct config *c, struct config_capabilities *found,
                          struct visited *visited)
{
    /* PCI Express 7.6.1: the first header is always at 0x100, and all zeros means none. */
    uint32_t at = CONFIG_SPACE_SIZE;
    if (c->size <= at || config_u32(c, at) == 0 || config_u32(c, at) == UINT32_MAX)
        return;
    while (at) {
        struct config_capability *cap = add(found, at);
        cap->extended = true;
        cap->fault = fault_at(c, at, CONFIG_SPACE_SIZE, 4, visited);
        uint32_t header = config_u32(c, at);
        if (!cap->fault && header == UINT32_MAX)
            cap->fault = "chain broken";
        if (cap->fault)
            return;
        cap->id = (uint16_t)PCI_EXT_CAP_ID(header);
        cap->version = (uint8_t)PCI_EXT_CAP_VER(header);
        at = PCI_EXT_CAP_NEXT(header);
    }
}

void config_find_capabilities(const struct config *c, struct config_capabilities *found)
{
    struct visited visited = { { 0 } };
    found->count = 0;
    find_standard(c, found, &visited);
    find_extended(c, found, &visited);
}

/* Fills in BAR i, and returns how many registers it takes. */
static int decode_bar(const struct config *c, int i, uint16_t command, uint64_t size,
                      struct config_bar *bar)
{
    uint32_t at = PCI_BASE_ADDRESS_0 + 4 * (uint32_t)i;
    uint32_t low = config_u32(c, at);
    if (low == UINT32_MAX)
        low = 0; /* nothing answers here */
    bar->present = low != 0 || size != 0;
    bar->size = size;
    bar->io = low & PCI_BASE_ADDRESS_SPACE_IO;
    if (bar->io) {
        bar->address = low & (uint32_t)PCI_BASE_ADDRESS_IO_MASK;
        bar->enabled = command & PCI_COMMAND_IO;
        return 1;
    }
    bar->address = low & (uint32_t)PCI_BASE_ADDRESS_MEM_MASK;
    bar->enabled = command & PCI_COMMAND_MEMORY;
    bar->prefetchable = low & PCI_BASE_ADDRESS_MEM_PREFETCH;
    bar->type = low >> 1 & 3;
    bar->is64 = (low & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;
    if (!bar->is64)
        return 1;
    bar->halved = i == CONFIG_BARS - 1;
    if (!bar->halved)
        bar->address |= (uint64_t)config_u32(c, at + 4) << 32;
    return 2;
}

void config_bars(const struct config *c, const uint64_t size[CONFIG_ADDRESSES],
                 struct config_bar bars[CONFIG_ADDRESSES])
{
    uint16_t command = config_u16(c, PCI_COMMAND);
    memset(bars, 0, CONFIG_ADDRESSES * sizeof(*bars));
    for (int i = 0; i < CONFIG_BARS;)
        i += decode_bar(c, i, command, size[i], &bars[i]);

    uint32_t rom = config_u32(c, PCI_ROM_ADDRESS);
    if (rom == UINT32_MAX)
        rom = 0;
    bars[CONFIG_ROM] = (struct config_bar){
        .present = rom != 0 || size[CONFIG_ROM] != 0,
        .address = rom & (uint32_t)PCI_ROM_ADDRESS_MASK,
        .enabled = (rom & PCI_ROM_ADDRESS_ENABLE) && (command & PCI_COMMAND_MEMORY),
        .size = size[CONFIG_ROM],
    };
}

bool config_msi(const struct config *c, uint32_t at, struct config_msi *msi)
{
    *msi = (struct config_msi){ 0 };
    if (!config_has(c, at, 4))
        return false;
    uint16_t flags = config_u16(c, at + PCI_MSI_FLAGS);
    msi->enabled = flags & PCI_MSI_FLAGS_ENABLE;
    msi->is64 = flags & PCI_MSI_FLAGS_64BIT;
    msi->maskable = flags & PCI_MSI_FLAGS_MASKBIT;
    msi->capable = (uint16_t)(1 << ((flags & PCI_MSI_FLAGS_QMASK) >> 1));
    msi->allocated = (uint16_t)(1 << ((flags & PCI_MSI_FLAGS_QSIZE) >> 4));

    uint32_t data = at + (msi->is64 ? PCI_MSI_DATA_64 : PCI_MSI_DATA_32);
    if (!config_has(c, at, data + 2 - at + (msi->maskable ? 10 : 0)))
        return false;
    msi->address = config_u32(c, at + PCI_MSI_ADDRESS_LO);
    if (msi->is64)
        msi->address |= (uint64_t)config_u32(c, at + PCI_MSI_ADDRESS_HI) << 32;
    msi->data = config_u16(c, data);
    if (msi->maskable) {
        msi->mask = config_u32(c, data + 4);
        msi->pending = config_u32(c, data + 8);
    }
    return true;
}

bool config_msix(const struct config *c, uint32_t at, struct config_msix *msix)
{
    *msix = (struct config_msix){ 0 };
    if (!config_has(c, at, PCI_CAP_MSIX_SIZEOF))
        return false;
    uint16_t flags = config_u16(c, at + PCI_MSIX_FLAGS);
    uint32_t table = config_u32(c, at + PCI_MSIX_TABLE);
    uint32_t pba = config_u32(c, at + PCI_MSIX_PBA);
    *msix = (struct config_msix){
        .enabled = flags & PCI_MSIX_FLAGS_ENABLE,
        .masked = flags & PCI_MSIX_FLAGS_MASKALL,
        .count = (uint16_t)((flags & PCI_MSIX_FLAGS_QSIZE) + 1),
        .table_bar = table & PCI_MSIX_TABLE_BIR,
        .table = table & PCI_MSIX_TABLE_OFFSET,
        .pba_bar = pba & PCI_MSIX_PBA_BIR,
        .pba = pba & PCI_MSIX_PBA_OFFSET,
    };
    return true;
}

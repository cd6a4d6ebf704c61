/*
 * config.c - group "config": is what config space says true, and does it fit what the regions and
 * interrupts are? PCI Local Bus Specification 3.0, chapter 6, and PCI Express Base, chapter 7.
 */
#include "check/run.h"

#include <linux/pci_regs.h>

static void header(struct run *r, const struct check *c)
{
    uint64_t vendor = config_get(r, PCI_VENDOR_ID, 2);
    uint64_t type = config_get(r, PCI_HEADER_TYPE, 1) & 0x7f;
    (void)c;
    if (vendor == 0xffff)
        fail(r, "expected a vendor id, got 0xffff, which means that there is no device");
    if (vendor == 0)
        note(r, "the vendor id is 0");
    if (type != PCI_HEADER_TYPE_NORMAL)
        note(r, "the header is of type %u", (unsigned)type);
}

/* BARs as they are after each other: the second half of a 64-bit one is no BAR. */
static uint32_t bar(struct run *r, uint32_t i)
{
    return (uint32_t)config_get(r, PCI_BASE_ADDRESS_0 + 4 * i, 4);
}

static bool is_io(uint32_t value)
{
    return value & PCI_BASE_ADDRESS_SPACE_IO;
}

static bool is_64(uint32_t value)
{
    return !is_io(value) &&
           (value & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;
}

static void bars(struct run *r, const struct check *c)
{
    (void)c;
    for (uint32_t i = 0; i < 6; i++) {
        uint64_t size = r->facts.region[i].size;
        uint32_t value = bar(r, i);
        if (size == 0 && value)
            fail(r, "BAR %u: expected 0, as the region is empty, got 0x%x", i, value);
        if (size == 0)
            continue;
        if (is_io(value) && size > 256)
            note(r, "BAR %u: an I/O region of %llu bytes", i, (unsigned long long)size);
        if (!is_io(value) && size < 16)
            fail(r, "BAR %u: expected 16 bytes of memory or more, got %llu", i,
                 (unsigned long long)size);
        if (is_64(value) && i == 5)
            fail(r, "BAR 5 is of 64 bits, and there is no second half");
        if (is_64(value) && r->facts.region[i + 1].size)
            fail(r, "region %u: expected it to be empty, as BAR %u is of 64 bits", i + 1, i);
        if (!is_io(value) && !is_64(value) && size > UINT64_C(1) << 31)
            fail(r, "BAR %u: 0x%llx bytes, and no 64 bits", i, (unsigned long long)size);
        i += is_64(value);
    }
}

static void pin(struct run *r, const struct check *c)
{
    uint64_t pin = config_get(r, PCI_INTERRUPT_PIN, 1);
    (void)c;
    if (pin > 4)
        fail(r, "interrupt pin: expected 0 to 4, got %u", (unsigned)pin);
    if (!pin != !r->facts.irq[VFIO_PCI_INTX_IRQ_INDEX].count)
        fail(r, "interrupt pin is %u, and there are %u INTx interrupts", (unsigned)pin,
             r->facts.irq[VFIO_PCI_INTX_IRQ_INDEX].count);
}

/* ---- Capabilities ---------------------------------------------------------------------------- */

/* The next one of the list, 0 at the end. It visits no place twice: there are 48 places. */
static uint32_t next_cap(struct run *r, uint32_t from, uint64_t seen[1])
{
    uint32_t to = (uint32_t)config_get(r, from, 1);

    if (to == 0)
        return 0;
    if (to & 3)
        fail(r, "capability pointer at 0x%x: expected a multiple of 4, got 0x%x", from, to);
    if (to < PCI_STD_HEADER_SIZEOF)
        fail(r, "capability pointer at 0x%x: expected 0x40 or more, got 0x%x", from, to);
    if (*seen & UINT64_C(1) << to / 4)
        fail(r, "the list of capabilities leads back to 0x%x", to);
    *seen |= UINT64_C(1) << to / 4;
    return to;
}

/* Of this id; 0: none. An id that nobody looks for walks it all. */
static uint32_t find_cap(struct run *r, uint32_t id)
{
    uint64_t seen = 0;

    if (!(config_get(r, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST))
        return 0;
    for (uint32_t at = next_cap(r, PCI_CAPABILITY_LIST, &seen); at; at = next_cap(r, at + 1, &seen))
        if (config_get(r, at, 1) == id)
            return at;
    return 0;
}

static void cap_list(struct run *r, const struct check *c)
{
    bool listed = config_get(r, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST;
    uint32_t first = (uint32_t)config_get(r, PCI_CAPABILITY_LIST, 1);
    uint64_t seen = 0;
    (void)c;

    if (listed && !first)
        fail(r, "the status register announces capabilities, and there are none");
    if (!listed && first)
        note(r, "there is a capability pointer, and no bit in the status register for it");
    if (!listed)
        skip(r, "the device has no capabilities");
    for (uint32_t at = next_cap(r, PCI_CAPABILITY_LIST, &seen); at;
         at = next_cap(r, at + 1, &seen)) {
        uint64_t id = config_get(r, at, 1);
        if (id == 0xff)
            fail(r, "capability at 0x%x has the id 0xff", at);
        if (id == 0)
            note(r, "capability at 0x%x has the id 0", at);
    }
}

static uint32_t wanted_cap(struct run *r, uint32_t id, const char *name)
{
    uint32_t at = find_cap(r, id);
    if (!at)
        skip(r, "the device has no %s capability", name);
    return at;
}

static void msi(struct run *r, const struct check *c)
{
    uint32_t irqs = r->facts.irq[VFIO_PCI_MSI_IRQ_INDEX].count;
    uint32_t at = find_cap(r, PCI_CAP_ID_MSI);
    (void)c;

    if (!at && irqs)
        fail(r, "there are %u MSIs, and no MSI capability", irqs);
    if (!at)
        skip(r, "the device has no MSI capability");
    uint64_t encoded = (config_get(r, at + PCI_MSI_FLAGS, 2) & PCI_MSI_FLAGS_QMASK) >> 1;
    if (encoded > 5)
        fail(r, "MSI: expected 1 to 32 vectors, got the reserved value %u", (unsigned)encoded);
    if (irqs != 1u << encoded)
        fail(r, "MSI: the capability has %u vectors, and the interrupt type %u", 1u << encoded,
             irqs);
}

static void msix_count(struct run *r, const struct check *c)
{
    uint32_t irqs = r->facts.irq[VFIO_PCI_MSIX_IRQ_INDEX].count;
    uint32_t at = find_cap(r, PCI_CAP_ID_MSIX);
    (void)c;

    if (!at && irqs)
        fail(r, "there are %u MSI-X, and no MSI-X capability", irqs);
    if (!at)
        skip(r, "the device has no MSI-X capability");
    uint32_t size = (uint32_t)(config_get(r, at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
    if (irqs != size)
        fail(r, "MSI-X: the capability has %u vectors, and the interrupt type %u", size, irqs);
}

/* Where the table (or the pending bits) is: its offset in the region. */
static uint64_t msix_place(struct run *r, uint32_t at, uint64_t need, uint32_t *region)
{
    uint64_t value = config_get(r, at, 4);
    uint64_t offset = value & PCI_MSIX_TABLE_OFFSET;

    *region = (uint32_t)(value & PCI_MSIX_TABLE_BIR);
    if (*region > 5)
        fail(r, "MSI-X at 0x%x: expected BAR 0 to 5, got %u", at, *region);
    if (offset > r->facts.region[*region].size || need > r->facts.region[*region].size - offset)
        fail(r, "MSI-X at 0x%x: 0x%llx bytes at 0x%llx are not in the 0x%llx bytes of region %u",
             at, (unsigned long long)need, (unsigned long long)offset,
             (unsigned long long)r->facts.region[*region].size, *region);
    return offset;
}

static void msix_places(struct run *r, const struct check *c)
{
    uint32_t at = wanted_cap(r, PCI_CAP_ID_MSIX, "MSI-X"), table_region, pba_region;
    uint64_t n = (config_get(r, at + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_QSIZE) + 1;
    uint64_t table_size = n * PCI_MSIX_ENTRY_SIZE, pba_size = (n + 63) / 64 * 8;
    uint64_t table = msix_place(r, at + PCI_MSIX_TABLE, table_size, &table_region);
    uint64_t pba = msix_place(r, at + PCI_MSIX_PBA, pba_size, &pba_region);
    (void)c;

    if (table_region == pba_region && table < pba + pba_size && pba < table + table_size)
        fail(r, "MSI-X: the table at 0x%llx and the pending bits at 0x%llx overlap",
             (unsigned long long)table, (unsigned long long)pba);
}

static void extended(struct run *r, const struct check *c)
{
    uint64_t seen[PCI_CFG_SPACE_EXP_SIZE / 4 / 64] = { 0 };
    uint32_t at = PCI_CFG_SPACE_SIZE;
    (void)c;

    if (config_size(r) < PCI_CFG_SPACE_EXP_SIZE)
        skip(r, "config space has 256 bytes");
    uint32_t first = (uint32_t)config_get(r, at, 4);
    if (first == 0 || first == UINT32_MAX)
        return; /* no extended capabilities */
    while (at) {
        if (seen[at / 256] & UINT64_C(1) << at / 4 % 64)
            fail(r, "the list of extended capabilities leads back to 0x%x", at);
        seen[at / 256] |= UINT64_C(1) << at / 4 % 64;
        uint32_t next = PCI_EXT_CAP_NEXT((uint32_t)config_get(r, at, 4));
        if (next && (next < PCI_CFG_SPACE_SIZE || next & 3))
            fail(r, "extended capability at 0x%x leads to 0x%x", at, next);
        at = next;
    }
}

static void express(struct run *r, const struct check *c)
{
    (void)c;
    if (config_size(r) == PCI_CFG_SPACE_EXP_SIZE && !find_cap(r, PCI_CAP_ID_EXP))
        note(r, "config space has 4096 bytes, and there is no PCI Express capability");
    if (config_size(r) == PCI_CFG_SPACE_SIZE && find_cap(r, PCI_CAP_ID_EXP))
        note(r, "there is a PCI Express capability, and config space has 256 bytes");
}

static void whole(struct run *r, const struct check *c)
{
    (void)c;
    for (uint32_t at = 0; at + 4 <= config_size(r); at += 4)
        config_get(r, at, 4);
}

static void last_byte(struct run *r, const struct check *c)
{
    (void)c;
    config_get(r, config_size(r) - 1, 1);
}

static void unchanged_by_reading(struct run *r, const struct check *c)
{
    (void)c;
    for (uint32_t at = 0; at < PCI_STD_HEADER_SIZEOF; at += 4) {
        uint64_t one = config_get(r, at, 4), two = config_get(r, at, 4);
        if (at == PCI_COMMAND) /* the upper half is status, which lives */
            one &= 0xffff, two &= 0xffff;
        if (one != two)
            fail(r, "0x%x: expected the same value twice, got 0x%llx and 0x%llx", at,
                 (unsigned long long)one, (unsigned long long)two);
    }
}

#define C "VFIO_USER_REGION_READ"

static const struct check checks[] = {
    { "config.header", "there is a device", C, header, NEED_PCI, 0, 0 },
    { "config.whole", "all of config space can be read", C, whole, NEED_PCI, 0, 0 },
    { "config.last-byte", "up to the last byte", C, last_byte, NEED_PCI, 0, 0 },
    { "config.twice", "reading changes nothing", C, unchanged_by_reading, NEED_PCI, 0, 0 },
    { "config.bars", "BARs fit the regions", "VFIO_USER_DEVICE_GET_REGION_INFO: size", bars,
      NEED_PCI, 0, 0 },
    { "config.pin", "there is an interrupt pin if and only if there is an INTx",
      "VFIO_USER_DEVICE_GET_IRQ_INFO: count", pin, NEED_PCI, 0, 0 },
    { "config.caps", "the list of capabilities is sane, and ends", C, cap_list, NEED_PCI, 0, 0 },
    { "config.msi", "the MSI capability fits the interrupt type",
      "VFIO_USER_DEVICE_GET_IRQ_INFO: count", msi, NEED_PCI, 0, 0 },
    { "config.msix-count", "the MSI-X capability fits the interrupt type",
      "VFIO_USER_DEVICE_GET_IRQ_INFO: count", msix_count, NEED_PCI, 0, 0 },
    { "config.msix-places", "the MSI-X table and its pending bits lie in their regions",
      "VFIO_USER_DEVICE_GET_REGION_INFO: size", msix_places, NEED_PCI, 0, 0 },
    { "config.extended", "the list of extended capabilities is sane, and ends", C, extended,
      NEED_PCI, 0, 0 },
    { "config.express", "a large config space is one of PCI Express", C, express, NEED_PCI, 0, 0 },
};
GROUP(check_config, checks);

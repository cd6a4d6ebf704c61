/*
 * config_write.c - group "config-write": what can be written in a PCI header, and what cannot. All
 * of it is put back.
 */
#include "check/run.h"

#include <linux/pci_regs.h>

#define C "VFIO_USER_REGION_WRITE"

/* A register that nobody can change, whatever is written. c->a: where, c->b: bytes. */
static void read_only(struct run *r, const struct check *c)
{
    uint32_t at = (uint32_t)c->a;
    unsigned n = (unsigned)c->b;
    uint64_t before = config_get(r, at, n);

    config_set(r, at, n, ~before);
    uint64_t after = config_get(r, at, n);
    if (after == before)
        return;
    config_set(r, at, n, before);
    fail(r, "0x%x: expected 0x%llx, which is read-only, got 0x%llx", at, (unsigned long long)before,
         (unsigned long long)after);
}

/* A register that software owns. */
static void scratch(struct run *r, const struct check *c)
{
    uint32_t at = (uint32_t)c->a;
    uint64_t before = config_get(r, at, 1);

    config_set(r, at, 1, before ^ 0x5a);
    uint64_t after = config_get(r, at, 1);
    config_set(r, at, 1, before);
    if (after != (before ^ 0x5a))
        fail(r, "0x%x: expected 0x%llx, which was written, got 0x%llx", at,
             (unsigned long long)(before ^ 0x5a), (unsigned long long)after);
    if (config_get(r, at, 1) != before)
        fail(r, "0x%x: expected the old value to be back", at);
}

/* All ones are written; what reads back as zero is the size. Decoding is off meanwhile. */
static uint64_t size_of_bar(struct run *r, uint32_t at, unsigned n, uint64_t flags)
{
    uint64_t before = config_get(r, at, n);
    uint64_t ones = n == 8 ? UINT64_MAX : UINT32_MAX;

    config_set(r, at, 4, UINT32_MAX);
    if (n == 8)
        config_set(r, at + 4, 4, UINT32_MAX);
    uint64_t got = config_get(r, at, 4);
    if (n == 8)
        got |= config_get(r, at + 4, 4) << 32;
    config_set(r, at, 4, before & UINT32_MAX);
    if (n == 8)
        config_set(r, at + 4, 4, before >> 32);
    if (config_get(r, at, n) != before)
        fail(r, "0x%x: expected the old value of the BAR to be back", at);
    if ((got & flags) != (before & flags))
        fail(r, "0x%x: expected the type bits 0x%llx to stay, got 0x%llx", at,
             (unsigned long long)(before & flags), (unsigned long long)(got & flags));
    uint64_t mask = got & ~flags;
    return mask ? (~mask & ones) + 1 : 0;
}

/* An I/O BAR may leave its upper 16 bits at zero. */
static void check_bar(struct run *r, uint32_t i, uint32_t value)
{
    uint64_t size = r->facts.region[i].size;
    bool io = value & PCI_BASE_ADDRESS_SPACE_IO;
    bool wide = !io && (value & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64;
    uint64_t got = size_of_bar(r, PCI_BASE_ADDRESS_0 + 4 * i, wide ? 8 : 4, io ? 3 : 15);

    if (io && got > 65536)
        got &= 0xffff;
    if (got != size)
        fail(r, "BAR %u: sizing gives 0x%llx, and the region has 0x%llx", i,
             (unsigned long long)got, (unsigned long long)size);
}

static void sizing(struct run *r, const struct check *c)
{
    uint64_t command = config_get(r, PCI_COMMAND, 2);
    bool found = false;
    (void)c;

    config_set(r, PCI_COMMAND, 2, command & ~(uint64_t)(PCI_COMMAND_IO | PCI_COMMAND_MEMORY));
    for (uint32_t i = 0; i < 6; i++) {
        if (!r->facts.region[i].size)
            continue;
        uint32_t value = (uint32_t)config_get(r, PCI_BASE_ADDRESS_0 + 4 * i, 4);
        found = true;
        check_bar(r, i, value);
    }
    config_set(r, PCI_COMMAND, 2, command);
    if (!found)
        skip(r, "the device has no BARs");
}

static void empty_bars(struct run *r, const struct check *c)
{
    (void)c;
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t at = PCI_BASE_ADDRESS_0 + 4 * i;
        bool second = i > 0 && r->facts.region[i - 1].size &&
                      (config_get(r, at - 4, 4) & 7) == PCI_BASE_ADDRESS_MEM_TYPE_64;
        if (r->facts.region[i].size || second)
            continue;
        config_set(r, at, 4, UINT32_MAX);
        uint64_t got = config_get(r, at, 4);
        config_set(r, at, 4, 0);
        if (got)
            fail(r, "BAR %u: expected 0, as the region is empty, got 0x%llx", i,
                 (unsigned long long)got);
    }
}

static bool has_memory(struct run *r)
{
    for (uint32_t i = 0; i < 6; i++)
        if (r->facts.region[i].size &&
            !(config_get(r, PCI_BASE_ADDRESS_0 + 4 * i, 4) & PCI_BASE_ADDRESS_SPACE_IO))
            return true;
    return false;
}

/* A bit of the command register that every device with such a BAR, or with DMA, has. */
static void command_bit(struct run *r, const struct check *c)
{
    if (c->a == PCI_COMMAND_MEMORY && !has_memory(r))
        skip(r, "the device has no memory BAR");
    uint64_t before = config_get(r, PCI_COMMAND, 2);

    config_set(r, PCI_COMMAND, 2, before ^ c->a);
    uint64_t after = config_get(r, PCI_COMMAND, 2);
    config_set(r, PCI_COMMAND, 2, before);
    if (!((before ^ after) & c->a))
        note(r, "bit 0x%x of the command register cannot be changed", (unsigned)c->a);
    if ((before ^ after) & ~c->a & 0x7ff)
        fail(r, "command: expected only bit 0x%x to change, got 0x%llx for 0x%llx", (unsigned)c->a,
             (unsigned long long)after, (unsigned long long)before);
}

/* Ones in the status register clear what they meet; they set nothing. */
static void status(struct run *r, const struct check *c)
{
    uint64_t before = config_get(r, PCI_STATUS, 2);
    (void)c;
    config_set(r, PCI_STATUS, 2, 0xffff);
    uint64_t set = config_get(r, PCI_STATUS, 2) & ~before & ~(uint64_t)PCI_STATUS_INTERRUPT;
    if (set)
        fail(r, "status: expected that writing sets no bit, got 0x%llx set",
             (unsigned long long)set);
}

/* The bytes beside those that are written stay. */
static void bytes(struct run *r, const struct check *c)
{
    uint64_t before = config_get(r, PCI_CACHE_LINE_SIZE, 4);
    (void)c;
    config_set(r, PCI_INTERRUPT_LINE, 1, config_get(r, PCI_INTERRUPT_LINE, 1));
    config_set(r, PCI_CACHE_LINE_SIZE, 1, (before & 0xff) ^ 0x10);
    uint64_t after = config_get(r, PCI_CACHE_LINE_SIZE, 4);
    config_set(r, PCI_CACHE_LINE_SIZE, 1, before & 0xff);
    if ((after ^ before) & ~UINT64_C(0xff))
        fail(r,
             "a write of one byte at 0x%x: expected its neighbours to stay, got 0x%llx for 0x%llx",
             PCI_CACHE_LINE_SIZE, (unsigned long long)after, (unsigned long long)before);
}

/* A write over several registers: the header and what is read-only in it. */
static void wide(struct run *r, const struct check *c)
{
    struct {
        struct vfio_user_region_access access;
        uint8_t data[8];
    } w = { { PCI_VENDOR_ID, VFIO_PCI_CONFIG_REGION_INDEX, 4 }, { 0 } };
    uint64_t before = config_get(r, 0, 4);
    struct ask ask = { VFIO_USER_REGION_WRITE, &w, sizeof w.access + 4, NULL, 0, 0 };
    (void)c;

    if (try(r, &ask) == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (config_get(r, 0, 4) != before)
        fail(r, "vendor and device id: expected them to stay, got 0x%llx",
             (unsigned long long)config_get(r, 0, 4));
}

/* Posted, and then read: the write was before. */
static void posted(struct run *r, const struct check *c)
{
    struct {
        struct vfio_user_region_access access;
        uint8_t data;
    } __attribute__((packed)) w = { { PCI_INTERRUPT_LINE, VFIO_PCI_CONFIG_REGION_INDEX, 1 }, 0 };
    uint64_t before = config_get(r, PCI_INTERRUPT_LINE, 1);
    struct ask ask = { VFIO_USER_REGION_WRITE, &w, sizeof w, NULL, 0, VFIO_USER_FLAG_NO_REPLY };
    (void)c;

    for (unsigned i = 0; i < 20; i++) {
        w.data = (uint8_t)(before ^ (i + 1));
        post(r, &ask);
        uint64_t got = config_get(r, PCI_INTERRUPT_LINE, 1);
        if (got != w.data)
            fail(r, "expected 0x%x, which was written before, got 0x%llx", w.data,
                 (unsigned long long)got);
    }
    config_set(r, PCI_INTERRUPT_LINE, 1, before);
}

#define RO(tag, name, at, n)                                                    \
    {                                                                           \
        "config-write.ro-" tag, "the " name " cannot be changed", C, read_only, \
            NEED_PCI | NEED_DESTRUCTIVE, at, n                                  \
    }
#define BIT(tag, name, bit)                                                   \
    {                                                                         \
        "config-write.command-" tag, name " can be switched", C, command_bit, \
            NEED_PCI | NEED_DESTRUCTIVE, bit, 0                               \
    }
#define D (NEED_PCI | NEED_DESTRUCTIVE)

static const struct check checks[] = {
    RO("vendor", "vendor id", PCI_VENDOR_ID, 2),
    RO("device", "device id", PCI_DEVICE_ID, 2),
    RO("revision", "revision", PCI_REVISION_ID, 1),
    RO("class", "class code", PCI_CLASS_DEVICE, 2),
    RO("header-type", "header type", PCI_HEADER_TYPE, 1),
    RO("subsystem", "subsystem ids", PCI_SUBSYSTEM_VENDOR_ID, 4),
    RO("cap-pointer", "capability pointer", PCI_CAPABILITY_LIST, 1),
    RO("pin", "interrupt pin", PCI_INTERRUPT_PIN, 1),
    BIT("memory", "decoding of memory", PCI_COMMAND_MEMORY),
    BIT("master", "bus mastering", PCI_COMMAND_MASTER),
    { "config-write.line", "the interrupt line is software's", C, scratch, D, PCI_INTERRUPT_LINE,
      0 },
    { "config-write.bars", "sizing the BARs gives the sizes of the regions",
      "VFIO_USER_DEVICE_GET_REGION_INFO: size", sizing, D, 0, 0 },
    { "config-write.empty-bars", "a BAR without a region stays 0", C, empty_bars, D, 0, 0 },
    { "config-write.status", "writing the status register sets nothing", C, status, D, 0, 0 },
    { "config-write.bytes", "a write of one byte leaves its neighbours", C ": count", bytes, D, 0,
      0 },
    { "config-write.wide", "a write of zeroes to the ids changes nothing", C, wide, D, 0, 0 },
    { "config-write.posted", "a write with No_reply comes before the read that follows",
      "Command Concurrency", posted, D, 0, 0 },
};
GROUP(check_config_write, checks);

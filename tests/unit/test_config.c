/*
 * test_config.c - PCI config space as it is made from a declaration, and what writes to it do.
 *
 * The order of capabilities is the framework's own business: tests find them as a driver does.
 */
#include "server/pci/capability.h"
#include "server/pci/config.h"

#include <linux/pci_regs.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

static unsigned resets;

static void count_reset(struct ob_device *dev, enum ob_reset kind)
{
    (void)dev;
    resets += kind == OB_RESET_DEVICE;
}

/* The declaration under test; each test starts from the smallest. */
static struct ob_plugin plugin;
static struct ob_device *dev;
static int epoll;

static int set_up(void **state)
{
    (void)state;
    plugin = (struct ob_plugin){
            .name = "test",
        .summary = "for tests",
        .pci = { .vendor = 0x1af4, .device = 0x1234, .class_code = 0x0c0330, .revision = 9 },
        .state = { .size = 64 },
        .reset = count_reset
    };
    dev = NULL;
    resets = 0;
    epoll = epoll_create1(EPOLL_CLOEXEC);
    return epoll < 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (dev)
        server_device_free(dev);
    close(epoll);
    return 0;
}

static void make(void)
{
    if (dev)
        server_device_free(dev);
    dev = server_device_new(&plugin, "test", NULL, 0, epoll, NULL, -1, NULL);
    assert_non_null(dev);
}

static uint32_t get(uint64_t at, size_t n)
{
    uint32_t value = 0;
    config_read(dev, at, &value, n);
    return value;
}

static void put(uint64_t at, uint32_t value, size_t n)
{
    server_step_begin(dev);
    assert_int_equal(config_write(dev, at, &value, n), 0);
    server_step_end(dev, 0, 0);
}

/* Offset of the nth capability with this id, 0: there is none. */
static uint32_t find(uint32_t id, unsigned nth)
{
    for (uint32_t at = get(PCI_CAPABILITY_LIST, 1); at; at = get(at + PCI_CAP_LIST_NEXT, 1)) {
        assert_true(at >= 0x40 && at < 0x100 && at % 4 == 0);
        if (get(at, 1) == id && nth-- == 0)
            return at;
    }
    return 0;
}

/* ---- The header ----------------------------------------------------------------------------- */

static void test_header(void **state)
{
    (void)state;
    plugin.irq.intx = true;
    make();
    assert_int_equal(dev->config_size, 256);
    assert_int_equal(get(PCI_VENDOR_ID, 4), 0x12341af4);
    assert_int_equal(get(PCI_CLASS_REVISION, 4), 0x0c033009);
    assert_int_equal(get(PCI_COMMAND, 4), 0); /* no capabilities either */
    assert_int_equal(get(PCI_HEADER_TYPE, 1), 0);
    assert_int_equal(get(PCI_SUBSYSTEM_VENDOR_ID, 4), 0x12341af4);
    assert_int_equal(get(PCI_INTERRUPT_PIN, 1), 1);
    assert_int_equal(get(PCI_CAPABILITY_LIST, 1), 0);
    assert_int_equal(get(PCI_ROM_ADDRESS, 4), 0);

    plugin.irq.intx = false;
    plugin.pci.subsystem_vendor = 0xabcd;
    plugin.pci.subsystem = 0xef01;
    plugin.pci.express = true;
    make();
    assert_int_equal(dev->config_size, 4096);
    assert_int_equal(get(PCI_SUBSYSTEM_VENDOR_ID, 4), 0xef01abcd);
    assert_int_equal(get(PCI_INTERRUPT_PIN, 1), 0);
}

static void test_sizing(void **state)
{
    static const struct {
        struct ob_bar bar;
        uint32_t low, high, type;
    } rows[] = {
        { { .size = 16 }, 0xfffffff0, 0, 0 },
        { { .size = 4096 }, 0xfffff000, 0, 0 },
        { { .size = 1u << 31 }, 0x80000000, 0, 0 },
        { { .size = 1 << 20, .prefetchable = true }, 0xfff00000, 0, 8 },
        { { .size = 16, .kind = OB_BAR_MEM64 }, 0xfffffff0, 0xffffffff, 4 },
        { { .size = 1 << 20, .kind = OB_BAR_MEM64, .prefetchable = true },
          0xfff00000,
          0xffffffff,
          12 },
        { { .size = UINT64_C(1) << 32, .kind = OB_BAR_MEM64 }, 0, 0xffffffff, 4 },
        { { .size = UINT64_C(1) << 40, .kind = OB_BAR_MEM64 }, 0, 0xffffff00, 4 },
        { { .size = 4, .kind = OB_BAR_IO }, 0xfffffffc, 0, 1 },
        { { .size = 256, .kind = OB_BAR_IO }, 0xffffff00, 0, 1 },
    };
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (unsigned n = 0; n < 5; n++) {
            memset(plugin.bar, 0, sizeof plugin.bar);
            plugin.bar[n] = rows[i].bar;
            make();
            uint64_t at = PCI_BASE_ADDRESS_0 + 4 * n;
            assert_int_equal(get(at, 4), rows[i].type);
            put(at, UINT32_MAX, 4);
            put(at + 4, UINT32_MAX, 4);
            assert_int_equal(get(at, 4), rows[i].low | rows[i].type);
            assert_int_equal(get(at + 4, 4), n == 4 && !rows[i].high ? 0 : rows[i].high);
            put(at, 0, 4);
            assert_int_equal(get(at, 4), rows[i].type);
        }
    }
}

static void test_command_bits(void **state)
{
    const uint32_t always = PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR;
    (void)state;

    for (int i = 0; i < 8; i++) {
        memset(plugin.bar, 0, sizeof plugin.bar);
        plugin.bar[0] = (struct ob_bar){ .size = i & 1 ? 4096 : 0 };
        plugin.bar[1] = (struct ob_bar){ .size = i & 2 ? 16 : 0, .kind = OB_BAR_IO };
        plugin.irq.intx = i & 4;
        make();
        put(PCI_COMMAND, UINT32_MAX, 2);
        assert_int_equal(get(PCI_COMMAND, 2), always | (i & 1 ? PCI_COMMAND_MEMORY : 0) |
                                                  (i & 2 ? PCI_COMMAND_IO : 0) |
                                                  (i & 4 ? PCI_COMMAND_INTX_DISABLE : 0));
        assert_true(config_bus_master(dev));
        assert_int_equal(config_intx_disabled(dev), i & 4 ? 1 : 0);
        put(PCI_COMMAND, 0, 2);
        assert_false(config_bus_master(dev));
    }
}

static void test_other_writable_bytes(void **state)
{
    (void)state;
    make();
    put(PCI_INTERRUPT_LINE, 0xb, 1);
    put(PCI_CACHE_LINE_SIZE, 0x2010, 2);
    assert_int_equal(get(PCI_INTERRUPT_LINE, 1), 0xb);
    assert_int_equal(get(PCI_CACHE_LINE_SIZE, 2), 0x2010);
    plugin.pci.express = true; /* there, the latency timer is hardwired */
    make();
    put(PCI_CACHE_LINE_SIZE, 0x2010, 2);
    assert_int_equal(get(PCI_CACHE_LINE_SIZE, 2), 0x0010);
}

/* ---- Capabilities --------------------------------------------------------------------------- */

static const struct ob_vendor_capability vendor[] = { { "\x01\x02\x03", 3 },
                                                      { "\x04", 1 },
                                                      { "", 0 } };

static void declare(unsigned which)
{
    plugin.pci.power_management = which & 1;
    plugin.irq.msi = which & 2 ? 8 : 0;
    plugin.irq.msix.count = which & 4 ? 5 : 0;
    plugin.pci.express = which & 8;
    plugin.pci.vendor_capabilities = vendor;
    plugin.pci.vendor_capabilities_count = which & 16 ? 3 : 0;
    plugin.bar[1] = (struct ob_bar){ .size = 4096 };
    plugin.irq.msix.bar = 1;
    plugin.irq.msix.table = 0x800;
    plugin.irq.msix.pba = 0xc00;
}

static void test_every_combination(void **state)
{
    static const unsigned ids[] = { PCI_CAP_ID_PM, PCI_CAP_ID_MSI, PCI_CAP_ID_MSIX, PCI_CAP_ID_EXP,
                                    PCI_CAP_ID_VNDR };
    static const unsigned sizes[] = { 8, 14, 12, 0x3c, 3 };
    (void)state;

    for (unsigned which = 0; which < 32; which++) {
        uint8_t used[256] = { 0 };
        declare(which);
        make();
        assert_int_equal(!(get(PCI_STATUS, 2) & PCI_STATUS_CAP_LIST), !which);
        for (unsigned i = 0; i < 5; i++) {
            unsigned count = !(which >> i & 1) ? 0 : ids[i] == PCI_CAP_ID_VNDR ? 3 : 1;
            assert_int_equal(find(ids[i], count), 0);
            for (unsigned n = 0; n < count; n++) {
                uint32_t at = find(ids[i], n);
                assert_true(at != 0);
                for (uint32_t b = at; b < at + sizes[i]; b++)
                    assert_int_equal(used[b]++, 0); /* none lies in another */
            }
        }
    }
}

static void test_power_management(void **state)
{
    (void)state;
    declare(1);
    make();
    uint32_t at = find(PCI_CAP_ID_PM, 0);
    assert_int_equal(get(at + PCI_PM_PMC, 2), 3);
    assert_int_equal(get(at + PCI_PM_CTRL, 2), PCI_PM_CTRL_NO_SOFT_RESET);
    put(at + PCI_PM_CTRL, 0xffff, 2);
    assert_int_equal(get(at + PCI_PM_CTRL, 2), PCI_PM_CTRL_NO_SOFT_RESET | 3);
}

static void test_msi(void **state)
{
    (void)state;
    for (unsigned log = 0; log < 6; log++) {
        plugin.irq.msi = (uint8_t)(1 << log);
        make();
        uint32_t at = find(PCI_CAP_ID_MSI, 0);
        assert_int_equal(dev->cap_msi, at);
        assert_int_equal(get(at + PCI_MSI_FLAGS, 2), PCI_MSI_FLAGS_64BIT | log << 1);
        put(at + PCI_MSI_FLAGS, 0xffff, 2);
        assert_int_equal(get(at + PCI_MSI_FLAGS, 2), PCI_MSI_FLAGS_64BIT | log << 1 | 0x71);
        put(at + PCI_MSI_ADDRESS_LO, UINT32_MAX, 4);
        put(at + PCI_MSI_ADDRESS_HI, UINT32_MAX, 4);
        put(at + PCI_MSI_DATA_64, UINT32_MAX, 4);
        assert_int_equal(get(at + PCI_MSI_ADDRESS_LO, 4), 0xfffffffc);
        assert_int_equal(get(at + PCI_MSI_ADDRESS_HI, 4), UINT32_MAX);
        assert_int_equal(get(at + PCI_MSI_DATA_64, 4), 0xffff);
    }
}

static void test_msix(void **state)
{
    (void)state;
    declare(4);
    make();
    uint32_t at = find(PCI_CAP_ID_MSIX, 0);
    assert_int_equal(dev->cap_msix, at);
    assert_int_equal(get(at + PCI_MSIX_FLAGS, 2), 4);
    assert_int_equal(get(at + PCI_MSIX_TABLE, 4), 0x801);
    assert_int_equal(get(at + PCI_MSIX_PBA, 4), 0xc01);
    assert_false(config_msix_masked(dev));
    put(at + PCI_MSIX_FLAGS, 0xffff, 2);
    assert_int_equal(get(at + PCI_MSIX_FLAGS, 2), 0xc004);
    assert_true(config_msix_masked(dev));
    put(at + PCI_MSIX_FLAGS + 1, 0x80, 1);
    assert_false(config_msix_masked(dev));
}

static void test_vendor(void **state)
{
    (void)state;
    declare(16);
    make();
    assert_int_equal(get(find(PCI_CAP_ID_VNDR, 0) + 2, 4), 0x03020106);
    assert_int_equal(get(find(PCI_CAP_ID_VNDR, 1) + 2, 2), 0x0404);
    assert_int_equal(get(find(PCI_CAP_ID_VNDR, 2) + 2, 1), 3);
}

static void test_more_than_fits(void **state)
{
    static const uint8_t bytes[240];
    static const struct ob_vendor_capability large[] = { { bytes, 100 },
                                                         { bytes, 82 },
                                                         { bytes, 0 } };
    (void)state;

    plugin.pci.vendor_capabilities = large;
    plugin.pci.vendor_capabilities_count = 2;
    make(); /* 104 + 85 of 192 bytes */
    assert_int_equal(find(PCI_CAP_ID_VNDR, 1), 0x40 + 104);
    plugin.pci.vendor_capabilities_count = 3;
    server_device_free(dev);
    dev = server_device_new(&plugin, "test", NULL, 0, epoll, NULL, -1, NULL);
    assert_null(dev);
}

/* Whether a write sets Initiate Function Level Reset, at each place that it may start and end. */
static void test_function_level_reset(void **state)
{
    uint8_t bytes[64];
    (void)state;

    declare(31);
    make();
    uint32_t byte = find(PCI_CAP_ID_EXP, 0) + PCI_EXP_DEVCTL + 1;
    for (uint32_t at = byte - 20; at < byte + 4; at++)
        for (uint32_t n = 1; n <= 24; n++) {
            memset(bytes, 0x7f, sizeof bytes);
            assert_false(capability_function_reset(dev, at, bytes, n));
            memset(bytes, 0x80, sizeof bytes);
            assert_int_equal(capability_function_reset(dev, at, bytes, n),
                             at <= byte && byte < at + n);
        }
    put(PCI_COMMAND, PCI_COMMAND_MASTER, 2);
    put(byte - 1, 0x8000, 2);
    assert_int_equal(resets, 1);
    assert_int_equal(get(PCI_COMMAND, 2), 0);
    assert_int_equal(get(byte, 1) & 0x80, 0); /* it reads as zero */

    plugin.pci.express = false;
    make();
    for (uint32_t at = 0x40; at < 256; at++)
        put(at, 0xff, 1);
    assert_int_equal(resets, 1);
}

/* ---- All bits ------------------------------------------------------------------------------- */

static uint64_t draw(void)
{
    static uint64_t seed = 1234567;
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Which bits can be written is found byte by byte. Then writes of any width anywhere change just those,
 * and a reset puts all of them back. */
static void test_random_writes(void **state)
{
    static uint8_t fresh[4096], writable[4096], model[4096], now[4096];
    (void)state;

    declare(31);
    plugin.irq.intx = true;
    plugin.bar[2] = (struct ob_bar){ .size = 1 << 16, .kind = OB_BAR_MEM64 };
    make();
    uint32_t flr = find(PCI_CAP_ID_EXP, 0) + PCI_EXP_DEVCTL + 1;
    config_read(dev, 0, fresh, 4096);
    for (uint32_t at = 0; at < 4096; at++)
        put(at, at == flr ? 0x7f : 0xff, 1);
    config_read(dev, 0, writable, 4096);
    for (uint32_t at = 0; at < 4096; at++)
        put(at, 0, 1);
    config_read(dev, 0, model, 4096);
    for (uint32_t at = 0; at < 4096; at++)
        writable[at] ^= model[at];

    for (int i = 0; i < 20000; i++) {
        uint64_t value = draw(), at = draw() % (i % 2 ? 4096 : 256), n = 1 + draw() % 8;
        uint8_t bytes[8];
        n = at + n > 4096 ? 4096 - at : n;
        if (at <= flr && flr < at + n)
            value &= ~(UINT64_C(0x80) << 8 * (flr - at));
        memcpy(bytes, &value, 8);
        server_step_begin(dev);
        assert_int_equal(config_write(dev, at, bytes, n), 0);
        server_step_end(dev, 0, 0);
        for (uint64_t k = 0; k < n; k++)
            model[at + k] = (uint8_t)((model[at + k] & ~writable[at + k]) |
                                      (bytes[k] & writable[at + k]));
        config_read(dev, 0, now, 4096);
        assert_memory_equal(now, model, 4096);
    }
    assert_int_equal(resets, 0);
    server_step_begin(dev);
    config_reset(dev);
    server_step_end(dev, 0, 0);
    config_read(dev, 0, now, 4096);
    assert_memory_equal(now, fresh, 4096);
}

static void test_a_cancelled_step(void **state)
{
    uint8_t before[256], after[256];
    uint32_t value = UINT32_MAX;
    (void)state;

    declare(7);
    make();
    put(PCI_COMMAND, 6, 2);
    config_read(dev, 0, before, 256);
    server_step_begin(dev);
    config_write(dev, PCI_COMMAND, &value, 4);
    config_write(dev, PCI_BASE_ADDRESS_1, &value, 4);
    config_reset(dev);
    step_cancel(&dev->block);
    server_step_end(dev, 0, 0);
    config_read(dev, 0, after, 256);
    assert_memory_equal(before, after, 256);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_header),
        TEST(test_sizing),
        TEST(test_command_bits),
        TEST(test_other_writable_bytes),
        TEST(test_every_combination),
        TEST(test_power_management),
        TEST(test_msi),
        TEST(test_msix),
        TEST(test_vendor),
        TEST(test_more_than_fits),
        TEST(test_function_level_reset),
        TEST(test_random_writes),
        TEST(test_a_cancelled_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

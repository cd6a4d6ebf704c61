/*
 * test_lspci.c - config spaces as text, and hostile ones.
 *
 * The expected text is what pciutils 3.9 prints for the same bytes, without what it takes from the
 * host, and with extended capabilities by name only.
 */
#include "cli/lspci/lspci.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t no_sizes[CONFIG_ADDRESSES];

static void put16(struct config *c, uint32_t at, uint16_t value)
{
    c->bytes[at] = (uint8_t)value;
    c->bytes[at + 1] = (uint8_t)(value >> 8);
}

static void put32(struct config *c, uint32_t at, uint32_t value)
{
    put16(c, at, (uint16_t)value);
    put16(c, at + 2, (uint16_t)(value >> 16));
}

static void put(struct config *c, uint32_t at, const void *bytes, size_t n)
{
    memcpy(c->bytes + at, bytes, n);
}
#define PUT(c, at, ...) \
    put(c, at, (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }))

/* The caller frees it. */
static char *print(const struct config *c, const uint64_t *size)
{
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    assert_non_null(out);
    lspci_print(out, c, size);
    assert_int_equal(fclose(out), 0);
    return text;
}

static void assert_prints(const struct config *c, const uint64_t *size, const char *part)
{
    char *text = print(c, size);
    if (!strstr(text, part))
        fail_msg("\"%s\" is not in:\n%s", part, text);
    free(text);
}

/* A device with capabilities at 0x40: the caller writes them. */
static struct config *with_capabilities(uint32_t size)
{
    static struct config c;
    memset(&c, 0, sizeof(c));
    c.size = size;
    put16(&c, 0x06, 0x0010);
    c.bytes[0x34] = 0x40;
    return &c;
}

/* ---- The text ------------------------------------------------------------------------------- */

static const char golden[] =
    "Serial controller [0700]: Device [1b36:11e8] (rev 10) (prog-if 02 [16550])\n"
    "\tSubsystem: Device [1af4:1100]\n"
    "\tControl: I/O- Mem+ BusMaster+ SpecCycle- MemWINV- VGASnoop- ParErr- Stepping- SERR- FastB2B- DisINTx+\n"
    "\tStatus: Cap+ 66MHz- UDF- FastB2B- ParErr- DEVSEL=fast >TAbort- <TAbort- <MAbort- >SERR- <PERR- INTx-\n"
    "\tLatency: 64, Cache Line Size: 64 bytes\n"
    "\tInterrupt: pin A routed to IRQ 11\n"
    "\tRegion 0: Memory at febf0000 (64-bit, non-prefetchable)\n"
    "\tRegion 2: I/O ports at e000 [disabled]\n"
    "\tRegion 3: Memory at 1fe000000 (64-bit, prefetchable)\n"
    "\tExpansion ROM at fff00000\n"
    "\tCapabilities: [40] Power Management version 3\n"
    "\t\tFlags: PMEClk- DSI- D1- D2- AuxCurrent=0mA PME(D0-,D1-,D2-,D3hot-,D3cold-)\n"
    "\t\tStatus: D0 NoSoftRst+ PME-Enable- DSel=0 DScale=0 PME-\n"
    "\tCapabilities: [50] MSI: Enable- Count=1/32 Maskable+ 64bit+\n"
    "\t\tAddress: 00000000fee00000  Data: 4021\n"
    "\t\tMasking: 00000000  Pending: 00000000\n"
    "\tCapabilities: [70] Express (v2) Endpoint, MSI 00\n"
    "\t\tDevCap:\tMaxPayload 128 bytes, PhantFunc 0, Latency L0s <64ns, L1 <1us\n"
    "\t\t\tExtTag- AttnBtn- AttnInd- PwrInd- RBE+ FLReset+ SlotPowerLimit 0W\n"
    "\t\tDevCtl:\tCorrErr- NonFatalErr- FatalErr- UnsupReq-\n"
    "\t\t\tRlxdOrd+ ExtTag- PhantFunc- AuxPwr- NoSnoop+ FLReset-\n"
    "\t\t\tMaxPayload 128 bytes, MaxReadReq 512 bytes\n"
    "\t\tDevSta:\tCorrErr- NonFatalErr- FatalErr- UnsupReq- AuxPwr- TransPend-\n"
    "\t\tLnkCap:\tPort #0, Speed 2.5GT/s, Width x1, ASPM L0s L1, Exit Latency L0s <256ns, L1 <4us\n"
    "\t\t\tClockPM- Surprise- LLActRep- BwNot- ASPMOptComp+\n"
    "\t\tLnkCtl:\tASPM Disabled; RCB 64 bytes, Disabled- CommClk-\n"
    "\t\t\tExtSynch- ClockPM- AutWidDis- BWInt- AutBWInt-\n"
    "\t\tLnkSta:\tSpeed 2.5GT/s, Width x1\n"
    "\t\t\tTrErr- Train- SlotClk+ DLActive- BWMgmt- ABWMgmt-\n"
    "\t\tDevCap2: Completion Timeout: Range ABCD, TimeoutDis+ NROPrPrP- LTR-\n"
    "\t\t\t 10BitTagComp- 10BitTagReq- OBFF Not Supported, ExtFmt- EETLPPrefix-\n"
    "\t\t\t EmergencyPowerReduction Not Supported, EmergencyPowerReductionInit-\n"
    "\t\t\t FRS- TPHComp- ExtTPHComp-\n"
    "\t\t\t AtomicOpsCap: 32bit- 64bit- 128bitCAS-\n"
    "\t\tDevCtl2: Completion Timeout: 50us to 50ms, TimeoutDis- LTR- 10BitTagReq- OBFF Disabled,\n"
    "\t\t\t AtomicOpsCtl: ReqEn-\n"
    "\t\tLnkCap2: Supported Link Speeds: 2.5GT/s, Crosslink- Retimer- 2Retimers- DRS-\n"
    "\t\tLnkCtl2: Target Link Speed: 2.5GT/s, EnterCompliance- SpeedDis-\n"
    "\t\t\t Transmit Margin: Normal Operating Range, EnterModifiedCompliance- ComplianceSOS-\n"
    "\t\t\t Compliance Preset/De-emphasis: -6dB de-emphasis, 0dB preshoot\n"
    "\t\tLnkSta2: Current De-emphasis Level: -6dB, EqualizationComplete- EqualizationPhase1-\n"
    "\t\t\t EqualizationPhase2- EqualizationPhase3- LinkEqualizationRequest-\n"
    "\t\t\t Retimer- 2Retimers- CrosslinkRes: unsupported\n"
    "\tCapabilities: [b0] MSI-X: Enable+ Count=64 Masked-\n"
    "\t\tVector table: BAR=0 offset=00003000\n"
    "\t\tPBA: BAR=0 offset=00002000\n"
    "\tCapabilities: [c0] Vendor Specific Information: Len=08 <?>\n"
    "\tCapabilities: [d0] Vital Product Data\n"
    "\tCapabilities: [100 v1] Advanced Error Reporting\n"
    "\tCapabilities: [140 v1] Device Serial Number 00-00-00-00-00-00-00-00\n"
    "\tCapabilities: [150 v1] Vendor Specific Information: ID=2345 Rev=1 Len=010 <?>\n"
    "\tCapabilities: [160 v1] Address Translation Service (ATS)\n";

static void fill_golden(struct config *c)
{
    memset(c, 0, sizeof(*c));
    c->size = 4096;
    PUT(c, 0x00, 0x36, 0x1b, 0xe8, 0x11, 0x06, 0x04, 0x10, 0x00, 0x10, 0x02, 0x00, 0x07, 16, 0x40);
    put32(c, 0x10, 0xfebf0004);
    put32(c, 0x18, 0x0000e001);
    put32(c, 0x1c, 0xfe00000c);
    put32(c, 0x20, 1);
    put32(c, 0x2c, 0x11001af4);
    put32(c, 0x30, 0xfff00001);
    c->bytes[0x34] = 0x40;
    PUT(c, 0x3c, 11, 1);
    PUT(c, 0x40, 0x01, 0x50, 0x03, 0x00, 0x08);
    PUT(c, 0x50, 0x05, 0x70, 0x8a, 0x01, 0x00, 0x00, 0xe0, 0xfe, 0, 0, 0, 0, 0x21, 0x40);
    put32(c, 0x70, 0x0002b010);
    put32(c, 0x74, 0x10008000);
    put16(c, 0x78, 0x2810);
    put32(c, 0x7c, 0x00412c11);
    put16(c, 0x82, 0x1011);
    put32(c, 0x94, 0x0000001f);
    put32(c, 0x9c, 0x00000002);
    put16(c, 0xa0, 0x0001);
    put32(c, 0xb0, 0x803fc011);
    put32(c, 0xb4, 0x3000);
    put32(c, 0xb8, 0x2000);
    PUT(c, 0xc0, 0x09, 0xd0, 0x08, 'h', 'e', 'l', 'l', 'o');
    PUT(c, 0xd0, 0x03, 0x00);
    put32(c, 0x100, 0x14010001);
    put32(c, 0x140, 0x15010003);
    put32(c, 0x150, 0x1601000b);
    put32(c, 0x154, 0x01012345);
    put32(c, 0x160, 0x0001000f);
}

static void test_golden(void **state)
{
    (void)state;
    static struct config c;
    fill_golden(&c);
    char *text = print(&c, no_sizes);
    assert_string_equal(text, golden);
    free(text);
}

static void test_sizes(void **state)
{
    (void)state;
    const uint64_t size[CONFIG_ADDRESSES] = { 65536, 0, 32, 3ull << 30, 4096, 100, 131072 };
    static struct config c;
    fill_golden(&c);
    assert_prints(&c, size, "Region 0: Memory at febf0000 (64-bit, non-prefetchable) [size=64K]\n");
    assert_prints(&c, size, "Region 2: I/O ports at e000 [disabled] [size=32]\n");
    assert_prints(&c, size, "Region 3: Memory at 1fe000000 (64-bit, prefetchable) [size=3G]\n");
    assert_prints(&c, size, "Region 5: Memory at <unassigned> (32-bit, non-prefetchable) "
                            "[size=100]\n");
    assert_prints(&c, size, "Expansion ROM at fff00000 [size=128K]\n");

    put16(&c, 0x04, 0);
    assert_prints(&c, size, "Expansion ROM at fff00000 [disabled by cmd] [size=128K]\n");
    put32(&c, 0x30, 0);
    assert_prints(&c, size, "Expansion ROM at <unassigned> [disabled] [size=128K]\n");
}

static void test_bars(void **state)
{
    (void)state;
    static struct config c;
    struct config_bar bars[CONFIG_ADDRESSES];
    memset(&c, 0, sizeof(c));
    c.size = 256;
    put16(&c, 0x04, 0x0001);
    put32(&c, 0x10, 0xffffffff); /* nothing there */
    put32(&c, 0x14, 0x0000c001);
    put32(&c, 0x24, 0x0000100c); /* 64 bits, in the last register */
    config_bars(&c, no_sizes, bars);
    assert_false(bars[0].present);
    assert_true(bars[1].present && bars[1].io && bars[1].enabled && bars[1].address == 0xc000);
    assert_true(bars[5].present && bars[5].halved && !bars[5].enabled && bars[5].prefetchable);
    assert_false(bars[CONFIG_ROM].present);
    assert_prints(&c, no_sizes, "Region 5: Memory at <invalid-64bit-slot> (64-bit, prefetchable)");
}

static void test_msi_forms(void **state)
{
    (void)state;
    struct config_msi msi;
    struct config *c = with_capabilities(256);
    PUT(c, 0x40, 0x05, 0, 0x25, 0, 0x00, 0x10, 0xe0, 0xfe, 0x34, 0x12);
    assert_true(config_msi(c, 0x40, &msi));
    assert_true(msi.enabled && !msi.is64 && !msi.maskable);
    assert_int_equal(msi.capable, 4);
    assert_int_equal(msi.allocated, 4);
    assert_int_equal(msi.data, 0x1234);
    assert_prints(c, no_sizes, "MSI: Enable+ Count=4/4 Maskable- 64bit-\n"
                               "\t\tAddress: fee01000  Data: 1234\n");

    /* Each form needs its own length: one byte less, and it is not all there. */
    const struct {
        uint16_t flags;
        uint32_t length;
    } forms[] = { { 0x000, 10 }, { 0x080, 14 }, { 0x100, 20 }, { 0x180, 24 } };
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        put16(c, 0x42, forms[i].flags);
        c->size = 0x40 + forms[i].length;
        assert_true(config_msi(c, 0x40, &msi));
        c->size--;
        assert_false(config_msi(c, 0x40, &msi));
        assert_prints(c, no_sizes, "<unreadable>");
    }
}

/* ---- Hostile spaces ------------------------------------------------------------------------- */

static void test_loop(void **state)
{
    (void)state;
    struct config_capabilities found;
    struct config *c = with_capabilities(256);
    PUT(c, 0x40, 0x01, 0x48);
    PUT(c, 0x48, 0x09, 0x43); /* the low bits do not count: 0x40 */
    config_find_capabilities(c, &found);
    assert_int_equal(found.count, 3);
    assert_int_equal(found.list[1].at, 0x48);
    assert_string_equal(found.list[2].fault, "chain looped");
    assert_prints(c, no_sizes, "\tCapabilities: [40] <chain looped>\n");
}

static void test_longest_chains(void **state)
{
    (void)state;
    struct config_capabilities found;
    struct config *c = with_capabilities(4096);
    for (uint32_t at = 0x40; at < 0x100; at += 4)
        PUT(c, at, 0x09, (uint8_t)(at == 0xfc ? 0x40 : at + 4));
    for (uint32_t at = 0x100; at < 0x1000; at += 4)
        put32(c, at, (at == 0xffc ? 0x100u : at + 4) << 20 | 0x1000b);
    config_find_capabilities(c, &found);
    assert_int_equal(found.count, CONFIG_MAX_CAPABILITIES);
    assert_string_equal(found.list[48].fault, "chain looped");
    assert_string_equal(found.list[found.count - 1].fault, "chain looped");
}

static void test_broken_pointers(void **state)
{
    (void)state;
    struct config_capabilities found;
    const struct {
        uint8_t pointer;
        const char *fault;
    } bad[] = { { 0x04, "out of range" }, { 0x3c, "out of range" }, { 0x80, "truncated" },
                { 0x44, "chain broken" } };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct config *c = with_capabilities(0x80);
        PUT(c, 0x40, 0x01, bad[i].pointer);
        c->bytes[0x44] = 0xff;
        config_find_capabilities(c, &found);
        assert_int_equal(found.count, 2);
        assert_string_equal(found.list[1].fault, bad[i].fault);
    }

    struct config *c = with_capabilities(4096);
    c->bytes[0x34] = 0;
    put32(c, 0x100, 0x0801000b); /* next is 0x80 */
    config_find_capabilities(c, &found);
    assert_int_equal(found.count, 2);
    assert_string_equal(found.list[1].fault, "out of range");
    put16(c, 0x06, 0); /* no chain by its status, and none without its first header */
    put32(c, 0x100, 0xffffffff);
    config_find_capabilities(c, &found);
    assert_int_equal(found.count, 0);
}

static char *print_cut(uint32_t size, int rest)
{
    static struct config c;
    fill_golden(&c);
    memset(c.bytes + size, rest, 4096 - size);
    c.size = size;
    return print(&c, no_sizes);
}

/* Whatever the size, what is beyond it makes no difference. */
static void test_truncated(void **state)
{
    (void)state;
    static struct config c;
    for (uint32_t size = 0; size <= 4096; size += size < 0x170 ? 1 : 97) {
        char *text = print_cut(size, 0xa5);
        char *other = print_cut(size, 0x5a);
        assert_string_equal(text, other);
        if (size == 0)
            assert_string_equal(text, "");
        free(text);
        free(other);
    }
    fill_golden(&c);
    c.size = 0x70 + 0x33;
    assert_prints(&c, no_sizes, "Express (v2) Endpoint, MSI 00\n\t\t<unreadable>\n");
}

static void test_random(void **state)
{
    (void)state;
    static struct config c;
    uint32_t random = 1;
    for (int round = 0; round < 3000; round++) {
        c.size = round % 3 ? 4096 : 256;
        for (uint32_t i = 0; i < c.size; i++) {
            random = random * 1664525 + 1013904223;
            c.bytes[i] = (uint8_t)(random >> 24);
        }
        c.bytes[0x06] |= 0x10;
        c.bytes[0x0e] = 0;
        if (round % 2) /* else most would print little */
            PUT(&c, 0x34, 0x40), c.bytes[0x40] = (uint8_t)(1 + round % 0x12);
        char *text = print(&c, no_sizes);
        assert_non_null(strstr(text, "\tControl: "));
        free(text);
    }
}

/* An interrupt pin is a letter by its number: a hostile one would be an escape character. */
static void no_other_characters(void **state)
{
    struct config *c = with_capabilities(256);
    (void)state;

    c->bytes[0x3d] = 4;
    assert_prints(c, no_sizes, "Interrupt: pin D ");
    for (unsigned pin = 5; pin < 256; pin++) {
        c->bytes[0x3d] = (uint8_t)pin;
        assert_prints(c, no_sizes, "Interrupt: pin ? ");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),          cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_bars),            cmocka_unit_test(test_msi_forms),
        cmocka_unit_test(test_loop),            cmocka_unit_test(test_longest_chains),
        cmocka_unit_test(test_broken_pointers), cmocka_unit_test(test_truncated),
        cmocka_unit_test(no_other_characters),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_declaration.c - what a plugin may declare, and what it is told when it must not.
 */
#include "server/declaration.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct ob_plugin plugin;

/* The smallest declaration. */
static void begin(void)
{
    plugin = (struct ob_plugin){ .name = "test", .summary = "for tests",
                                 .pci = { .vendor = 0x1af4, .device = 0x1234 },
                                 .state = { .size = 64 } };
}

static const struct ob_area odd[] = { { 0, 100 } }, far[] = { { 0x1000, 0x1000 } },
                            empty[] = { { 0, 0 } }, huge[] = { { 0x1000, UINT64_MAX - 0xfff } },
                            twice[] = { { 0, 0x1000 }, { 0x1000, 0x1000 }, { 0x1000, 0x1000 } },
                            half[] = { { 0, 0x1000 } };
static struct ob_area many[65];
static struct ob_typed_region typed;
static struct ob_ioevent ring;
static const char *const compatible[] = { "a,b", "c", NULL };
static const char *const empty_list[] = { NULL };
static const char *const no_name[] = { "a", "", NULL };
static const char *const a_space[] = { "a b", NULL };
static const char *const too_long[] = { "0123456789abcdef0123456789abcdef", NULL };
static const char *too_many[18];
static const struct ob_platform_region regions[] = { { .name = "a", .size = 1 },
                                                     { .name = "b", .size = 1u << 20 } };
static struct ob_platform_region other_regions[17];
static struct ob_platform_irq irqs[17];
static const struct ob_platform good = {
    .compatible = compatible, .regions = regions, .regions_count = 2, .irqs = irqs, .irqs_count = 1,
};
static const struct ob_option bus[] = { { "bus", "V", "one too many", NULL, 0 }, { 0 } };
static const struct ob_field outside[] = { { "a", OB_FIELD_INT, 61, 4, 1, 0, NULL }, OB_END };
static const struct ob_field wraps[] = { { "a", OB_FIELD_INT, 4, 8, 0x20000000, 0, NULL }, OB_END };
static const struct ob_field nameless[] = { { NULL, OB_FIELD_INT, 0, 4, 1, 0, NULL }, OB_END };
static const struct ob_field three[] = { { "a", OB_FIELD_INT, 0, 3, 1, 0, NULL }, OB_END };
static const struct ob_field none[] = { { "a", OB_FIELD_INT, 0, 4, 0, 0, NULL }, OB_END };
static const struct ob_option mute[] = { { "key", "V", NULL, NULL, 0 }, { 0 } };
static const struct ob_vendor_capability large_vendor[] = { { "", 241 } };

/* clang-format off: a table, one way a line. */
#define BAR(n, ...) plugin.bar[n] = (struct ob_bar){ __VA_ARGS__ }
#define HALF BAR(0, .size = 0x2000, .areas = half, .areas_count = 1)
#define MSIX(...) plugin.irq.msix = (struct ob_msix){ __VA_ARGS__ }

#define TYPED(...) typed.region = (struct ob_bar){ __VA_ARGS__ }; \
    plugin.regions = &typed; plugin.regions_count = 1

#define PLATFORM(change) plugin.platform = good; plugin.platform.change; irqs[0].name = "irq"
#define REGION(...)                                                       \
    other_regions[0] = (struct ob_platform_region){ __VA_ARGS__ };        \
    other_regions[1] = regions[1];                                        \
    PLATFORM(regions = other_regions)

#define IOEVENT(n, count) BAR(n, .size = 0x2000, .ioevents = &ring, .ioevents_count = count)

/* Spoils the declaration in one way; what the complaint is about, NULL: there are no more ways. */
static const char *spoil(int way)
{
    BAR(0, .size = 0x2000);
    ring = (struct ob_ioevent){ .size = 4 };
    switch (way) {
    case 0: plugin.name = NULL; return "name";
    case 1: plugin.name = ""; return "name";
    case 2: plugin.name = "Upper"; return "name";
    case 3: plugin.name = "under_score"; return "name";
    case 4: plugin.name = "a-name-that-is-longer-than-any-one"; return "name";
    case 5: plugin.summary = NULL; return "summary";
    case 6: plugin.timers = 65; return "timers";
    case 7: plugin.dmas = 65; return "transfers";
    case 8: plugin.pci.class_code = 0x1000000; return "class code";
    case 9: BAR(0, .size = 3000); return "BAR 0";
    case 10: BAR(3, .size = 8); return "BAR 3";
    case 11: BAR(5, .size = 2, .kind = OB_BAR_IO); return "BAR 5";
    case 12: BAR(5, .size = 512, .kind = OB_BAR_IO); return "BAR 5";
    case 13: BAR(1, .size = UINT64_C(1) << 32); return "BAR 1";
    case 14: BAR(5, .size = 16, .kind = OB_BAR_MEM64); return "BAR 5";
    case 15: BAR(1, .size = 16); BAR(0, .size = 16, .kind = OB_BAR_MEM64); return "BAR 0";
    case 16: BAR(0, .size = 0x1000, .areas = odd, .areas_count = 1); return "area 0";
    case 17: BAR(0, .size = 0x1000, .areas = far, .areas_count = 1); return "area 0";
    case 18: BAR(0, .size = 0x1000, .areas = empty, .areas_count = 1); return "area 0";
    case 19: BAR(0, .size = 0x4000, .areas = huge, .areas_count = 1); return "area 0";
    case 20: BAR(0, .size = 0x4000, .areas = twice, .areas_count = 3); return "apart";
    case 21: BAR(0, .size = 1 << 20, .areas = many, .areas_count = 65); return "64 areas";
    case 22: plugin.irq.msi = 3; return "MSI";
    case 23: plugin.irq.msi = 64; return "MSI";
    case 24: MSIX(2049, 0, 0, 0x1000); return "MSI-X";
    case 25: MSIX(1, 6, 0, 0x1000); return "MSI-X";
    case 26: MSIX(1, 3, 0, 0x1000); return "MSI-X"; /* no such BAR */
    case 27: MSIX(1, 0, 4, 0x1000); return "MSI-X";
    case 28: MSIX(1, 0, 0, 0x1004); return "MSI-X";
    case 29: MSIX(513, 0, 0, 0x1ff8); return "MSI-X"; /* the table runs into the pending bits */
    case 30: MSIX(1, 0, 0x1ff8, 0); return "MSI-X";
    case 31: MSIX(65, 0, 0, 0x1ff8); return "MSI-X";
    case 32: MSIX(4, 0, 0x1000, 0x1000); return "MSI-X";
    case 33: MSIX(4, 0, 0x1000, 0x1008); return "MSI-X";
    case 34: MSIX(1, 0, 0xfffffff8, 0); return "MSI-X";
    case 35: BAR(1, .size = 256, .kind = OB_BAR_IO); MSIX(1, 1, 0, 0x80); return "MSI-X";
    case 36: HALF; MSIX(1, 0, 0x800, 0x1000); return "area";
    case 37: HALF; MSIX(1, 0, 0x1000, 0xff8); return "area";
    case 38: plugin.state.size = 65537; return "state";
    case 39: plugin.state.size = (16 << 20) + 1; plugin.state.touched = true; return "state";
    case 40: plugin.state.fields = outside; return "field a";
    case 41: plugin.state.fields = wraps; return "field a";
    case 42: plugin.state.fields = nameless; return "without a name";
    case 43: plugin.state.fields = three; return "field a";
    case 44: plugin.state.fields = none; return "field a";
    case 45: plugin.options = mute; return "option key";
    case 46: plugin.pci.vendor_capabilities = large_vendor;
             plugin.pci.vendor_capabilities_count = 1; return "vendor";
    case 47: plugin.regions_count = 17; return "typed regions";
    case 48: TYPED(.size = 0); return "typed region 0";
    case 49: TYPED(.size = UINT64_MAX); return "typed region 0";
    case 50: TYPED(.size = 16, .kind = OB_BAR_IO); return "typed region 0";
    case 51: TYPED(.size = 0x800, .areas = half, .areas_count = 1); return "typed region 0";
    case 52: PLATFORM(compatible = empty_list); return "compatible";
    case 53: PLATFORM(compatible = no_name); return "compatible";
    case 54: PLATFORM(compatible = a_space); return "compatible: \"a b\"";
    case 55: PLATFORM(compatible = too_long); return "compatible";
    case 56: PLATFORM(compatible = too_many); return "compatible";
    case 57: PLATFORM(regions_count = 0); return "1 to 16 regions";
    case 58: PLATFORM(regions_count = 17); return "1 to 16 regions";
    case 59: PLATFORM(irqs_count = 17); return "up to 16 interrupts";
    case 60: REGION(.size = 1); return "region 0: a name";
    case 61: REGION(.name = "b\t", .size = 1); return "region 0: a name";
    case 62: REGION(.name = "b", .size = 1); return "region b: there are two";
    case 63: REGION(.name = "x"); return "region x: size";
    case 64: REGION(.name = "x", .size = UINT64_MAX); return "region x: size";
    case 65: REGION(.name = "x", .size = 0x2000, .areas = odd, .areas_count = 1); return "region x: area";
    case 66: REGION(.name = "x", .size = 0x1800, .areas = far, .areas_count = 1); return "region x: area";
    case 67: REGION(.name = "x", .size = 0x2000, .areas = twice, .areas_count = 3); return "region x: areas";
    case 68: PLATFORM(irqs_count = 2); irqs[1].name = NULL; return "interrupt 1: a name";
    case 69: PLATFORM(irqs_count = 2); irqs[1].name = "irq"; return "interrupt irq: there are two";
    case 70: PLATFORM(irqs_count = 1); plugin.options = bus; return "option bus";
    case 71: IOEVENT(0, 17); return "BAR 0";
    case 72: ring.size = 3; IOEVENT(0, 1); return "BAR 0";
    case 73: ring.size = 4; ring.offset = 0x2000 - 3; IOEVENT(0, 1); return "BAR 0";
    case 74: ring.size = 2; ring.value = 0x10000; IOEVENT(0, 1); return "BAR 0";
    default: return NULL;
    }
}
/* clang-format on */

static void test_bad_declarations(void **state)
{
    char why[160];
    const char *about;
    (void)state;

    for (unsigned i = 0; i < 65; i++)
        many[i] = (struct ob_area){ i * 0x1000, 0x1000 };
    for (unsigned i = 0; i < 17; i++)
        too_many[i] = "a";
    for (int way = 0; begin(), (about = spoil(way)); way++) {
        memset(why, 0, sizeof why);
        if (declaration_check(&plugin, why, sizeof why) == 0)
            fail_msg("declaration %d (%s) is taken", way, about);
        if (!strstr(why, about))
            fail_msg("declaration %d: \"%s\" does not name %s", way, why, about);
    }
}

static void test_good_declarations(void **state)
{
    static const struct ob_field fields[] = { { "a", OB_FIELD_INT, 56, 8, 1, 0, NULL }, OB_END };
    char why[160];
    (void)state;

    begin();
    assert_int_equal(declaration_check(&plugin, why, sizeof why), 0);
    plugin.platform = good;
    irqs[0].name = "irq";
    assert_int_equal(declaration_check(&plugin, why, sizeof why), 0);
    memset(&plugin.pci, 0, sizeof plugin.pci);
    plugin.options = bus; /* its own: there is nothing to choose */
    assert_int_equal(declaration_check(&plugin, why, sizeof why), 0);
    begin();
    plugin.timers = plugin.dmas = 64;
    plugin.irq.msi = 32;
    plugin.pci.class_code = 0xffffff;
    plugin.state.fields = fields;
    BAR(0, .size = 16);
    BAR(1, .size = 4, .kind = OB_BAR_IO);
    BAR(2, .size = UINT64_C(1) << 63, .kind = OB_BAR_MEM64);
    BAR(4, .size = 1 << 20, .kind = OB_BAR_MEM64, .areas = many, .areas_count = 64);
    for (unsigned i = 0; i < 64; i++)
        many[i] = (struct ob_area){ i * 0x1000, 0x1000 };
    MSIX(2048, 4, 0x80000, 0x88000);
    assert_int_equal(declaration_check(&plugin, why, sizeof why), 0);
    plugin.state.size = 65536;
    assert_int_equal(declaration_check(&plugin, why, sizeof why), 0);
    plugin.state.size = 16 << 20;
    plugin.state.touched = true;
    assert_int_equal(declaration_check(&plugin, why, sizeof why), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_declarations),
        cmocka_unit_test(test_good_declarations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

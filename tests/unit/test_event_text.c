/*
 * test_event_text.c - whatever an event holds becomes one printable line.
 */
#include "server/event_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <outboard/vfio_user.h>
#include <string.h>

static void is(const struct recorded *e, bool pci, const char *expected)
{
    char text[EVENT_TEXT];

    event_text(e, pci, text);
    assert_string_equal(text, expected);
}

static void words(void **unused)
{
    (void)unused;
    is(&(struct recorded){ .kind = RECORDED_MESSAGE, .command = VFIO_USER_REGION_WRITE, .index = 2, .offset = 8,
                           .size = 1, .value = 0x7f },
       true, "> VFIO_USER_REGION_WRITE BAR2 + 0x8, 1 byte, 0x7f");
    is(&(struct recorded){ .kind = RECORDED_MESSAGE, .command = VFIO_USER_REGION_READ, .index = 2, .offset = 8,
                           .size = 4 },
       false, "> VFIO_USER_REGION_READ region 2 + 0x8, 4 bytes");
    is(&(struct recorded){ .kind = RECORDED_MESSAGE, .command = VFIO_USER_DEVICE_SET_IRQS,
                           .index = VFIO_PCI_MSIX_IRQ_INDEX, .offset = 1, .size = 3,
                           .value = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER },
       true, "> VFIO_USER_DEVICE_SET_IRQS MSI-X, 3 from 1, TRIGGER EVENTFD");
    is(&(struct recorded){ .kind = RECORDED_REPLY, .command = VFIO_USER_REGION_READ, .value = 0xed }, true,
       "< VFIO_USER_REGION_READ: 0xed");
    is(&(struct recorded){ .kind = RECORDED_REPLY, .command = VFIO_USER_DMA_MAP, .error = -17 }, true,
       "< VFIO_USER_DMA_MAP: File exists");
    is(&(struct recorded){ .kind = RECORDED_WORKER, .value = 3, .index = 11 }, true,
       "worker 3 takes the device, the one before it died of SIGSEGV");
    is(&(struct recorded){ .kind = RECORDED_DEVICE, .text = "flush\033[2J", .offset = 1, .value = 2 }, true,
       "flush?[2J 0x1 0x2");
}

static void nonsense(void **unused)
{
    uint64_t seed = 5;

    (void)unused;
    for (int i = 0; i < 200000; i++) {
        struct recorded e;
        char text[EVENT_TEXT + 1];
        uint8_t *bytes = (uint8_t *)&e;
        for (size_t b = 0; b < sizeof e; b++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            bytes[b] = (uint8_t)(seed >> 56);
        }
        e.kind = (uint16_t)(i % (RECORDED_KINDS + 1));
        if (i & 64)
            e.command = (uint16_t)(i % VFIO_USER_COMMANDS);
        text[EVENT_TEXT] = 'x';
        event_text(&e, i & 1, text);
        assert_int_equal(text[EVENT_TEXT], 'x');
        assert_true(strlen(text) < EVENT_TEXT);
        for (const char *p = text; *p; p++)
            assert_true(*p >= ' ' && *p <= '~');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words),
        cmocka_unit_test(nonsense),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_wire.c - from bytes to messages: what is taken, what is refused, and that no byte outside is read.
 *
 * Bodies are written as words of "WIDTH:VALUE", little pieces of what stands on the wire: "4:16 4:0 8:-1"
 * is 16 bytes. "+N" is N zero bytes. Each message is decoded at the very end of a page behind which
 * nothing is mapped.
 */
#include "wire/limits.h"
#include "wire/message.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define ROOM (2 * WIRE_MAX_MESSAGE / 4096 * 4096)

static uint8_t *page_end;

static int make_pages(void **state)
{
    (void)state;
    uint8_t *p = mmap(NULL, ROOM + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                      0);
    if (p == MAP_FAILED || mprotect(p + ROOM, 4096, PROT_NONE) < 0)
        return -1;
    page_end = p + ROOM;
    return 0;
}

static size_t write_body(const char *text, uint8_t *body)
{
    size_t n = 0;

    while (*text) {
        char *end;
        unsigned long long width = strtoull(text + (*text == '+'), &end, 0), value = 0;
        if (*text == '+') {
            memset(body + n, 0, width);
        } else {
            assert_int_equal(*end, ':');
            value = strtoull(end + 1, &end, 0);
            memcpy(body + n, &value, width);
        }
        n += width;
        text = end + strspn(end, " ");
    }
    return n;
}

static const uint8_t *place(const struct vfio_user_header *h, const uint8_t *body, size_t n)
{
    uint8_t *at = page_end - n - sizeof *h;
    memcpy(at, h, sizeof *h);
    if (n)
        memcpy(at + sizeof *h, body, n);
    return at;
}

static int decode(uint16_t command, const uint8_t *body, size_t n, size_t nfds,
                  struct wire_message *m)
{
    struct vfio_user_header h = { .id = 7, .command = command, .size = (uint32_t)(sizeof h + n) };
    return wire_decode_command(place(&h, body, n), sizeof h + n, nfds, m);
}

static int decode_reply(uint16_t command, const uint8_t *body, size_t n, struct wire_message *m)
{
    struct vfio_user_header h = { .id = 7,
                                  .command = command,
                                  .size = (uint32_t)(sizeof h + n),
                                  .flags = VFIO_USER_FLAG_TYPE_REPLY };
    return wire_decode_reply(place(&h, body, n), sizeof h + n, command, m);
}

struct row {
    uint16_t command;
    size_t nfds;
    const char *body;
};

static void check_rows(const struct row *rows, size_t count, int expected)
{
    static uint8_t body[ROOM];
    struct wire_message m;

    for (size_t i = 0; i < count; i++) {
        size_t n = write_body(rows[i].body, body);
        int ret = decode(rows[i].command, body, n, rows[i].nfds, &m);
        if (ret != expected)
            fail_msg("%s \"%s\" with %zu descriptors: %d, not %d",
                     wire_command_name(rows[i].command), rows[i].body, rows[i].nfds, ret, expected);
        assert_int_equal(m.header.id, 7);
    }
}

#define LAST "8:0xffffffffffffffff"

/* ---- Commands ------------------------------------------------------------------------------- */

static const struct row good[] = {
    { VFIO_USER_VERSION, 0, "2:0 2:1" },
    { VFIO_USER_VERSION, 0, "2:0 2:1 +100" },
    { VFIO_USER_DMA_MAP, 0, "4:32 4:3 8:0 8:0x1000 8:0x1000" },
    { VFIO_USER_DMA_MAP, 1, "4:32 4:1 8:0x5000 8:0 8:1" },
    { VFIO_USER_DMA_MAP, 0, "4:0xffffffff 4:2 8:0 8:0xfffffffffffff000 8:0x1000" },
    { VFIO_USER_DMA_MAP, 0, "4:32 4:2 8:0 8:0 " LAST },
    { VFIO_USER_DMA_MAP, 0, "4:32 4:3 8:0xfffffffffffff000 8:0x1000 8:0x1000" }, /* of no file */
    { VFIO_USER_DMA_UNMAP, 0, "4:24 4:0 8:0x1000 8:0x1000" },
    { VFIO_USER_DMA_UNMAP, 0, "4:24 4:0 8:0xfffffffffffff000 8:0x1000" },
    { VFIO_USER_DMA_UNMAP, 0, "4:0 4:2 8:0 8:0" },
    { VFIO_USER_DMA_UNMAP, 1, "4:24 4:0 8:0x1000 8:0x1000" },
    { VFIO_USER_DEVICE_GET_INFO, 0, "4:16 +12" },
    { VFIO_USER_DEVICE_GET_INFO, 0, "4:0xffffffff 4:1 4:2 4:3" },
    { VFIO_USER_DEVICE_GET_REGION_INFO, 0, "4:32 4:0 4:8 4:0 8:0 8:0" },
    { VFIO_USER_DEVICE_GET_REGION_IO_FDS, 0, "4:16 4:0 4:0 4:0" },
    { VFIO_USER_DEVICE_GET_IRQ_INFO, 0, "4:16 4:0 4:4 4:0" },
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:33 4:0 4:0 4:0" }, /* switch all of it off */
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:33 4:0 4:0 4:1" },
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:9 4:0 4:0 4:1" },
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:17 4:0 4:7 4:0xfffffff8" },
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:22 4:34 4:2 4:0 4:2 1:1 1:0" },
    { VFIO_USER_DEVICE_SET_IRQS, 2, "4:20 4:36 4:2 4:0 4:2" },
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:36 4:2 4:0 4:2" }, /* take them away */
    { VFIO_USER_REGION_READ, 0, "8:0 4:0 4:4" },
    { VFIO_USER_REGION_READ, 0, "8:0 4:0 4:0" },
    { VFIO_USER_REGION_READ, 0, "8:0 4:0xffffffff 4:65536" },
    { VFIO_USER_REGION_READ, 0, "8:0xfffffffffffffff0 4:0 4:15" },
    { VFIO_USER_REGION_WRITE, 0, "8:0 4:0 4:3 +3" },
    { VFIO_USER_REGION_WRITE, 0, "8:0 4:0 4:0" },
    { VFIO_USER_REGION_WRITE, 0, "8:0 4:0 4:65536 +65536" },
    { VFIO_USER_DMA_READ, 0, "8:0 8:4" },
    { VFIO_USER_DMA_READ, 0, "8:0xfffffffffffffffc 8:4" },
    { VFIO_USER_DMA_READ, 0, LAST " 8:0" },
    { VFIO_USER_DMA_WRITE, 0, "8:0 8:4 +4" },
    { VFIO_USER_DEVICE_RESET, 0, "" },
    { VFIO_USER_REGION_WRITE_MULTI, 0, "8:1 8:0 4:0 4:8 +8" },
    { VFIO_USER_REGION_WRITE_MULTI, 0, "8:2 8:0 4:0 4:1 +8 8:9 4:5 4:4 +8" },
    { VFIO_USER_DEVICE_FEATURE, 0, "4:8 4:0x10001" },
    { VFIO_USER_DEVICE_FEATURE, 0, "4:16 4:0x20002 4:1 4:0" },
    { VFIO_USER_DEVICE_FEATURE, 0, "4:8 4:0x70001" },
    { VFIO_USER_DEVICE_FEATURE, 0, "4:8 4:0x40001" },
    { VFIO_USER_MIG_DATA_READ, 0, "4:8 4:1000" },
    { VFIO_USER_MIG_DATA_WRITE, 0, "4:8 4:5 +5" },
};

static void test_good_commands(void **state)
{
    (void)state;
    /* MIG_DATA_READ has no data in its request, whatever the size says that is asked for. */
    check_rows(good, sizeof good / sizeof *good, 0);
}

static const struct row bad[] = {
    { VFIO_USER_DMA_MAP, 0, "4:31 4:3 8:0 8:0x1000 8:0x1000" }, /* argsz */
    { VFIO_USER_DMA_MAP, 2, "4:32 4:3 8:0 8:0x1000 8:0x1000" }, /* descriptors */
    { VFIO_USER_DMA_MAP, 0, "4:32 4:0 8:0 8:0x1000 8:0x1000" }, /* no right at all */
    { VFIO_USER_DMA_MAP, 0, "4:32 4:7 8:0 8:0x1000 8:0x1000" },
    { VFIO_USER_DMA_MAP, 0, "4:32 4:0x80000001 8:0 8:0x1000 8:0x1000" },
    { VFIO_USER_DMA_MAP, 0, "4:32 4:3 8:0 8:0x1000 8:0" },
    { VFIO_USER_DMA_MAP, 0, "4:32 4:3 8:0 8:0xfffffffffffff000 8:0x1001" },
    { VFIO_USER_DMA_MAP, 0, "4:32 4:3 8:0 8:2 " LAST },
    { VFIO_USER_DMA_MAP, 1, "4:32 4:3 8:0xfffffffffffff000 8:0 8:0x2000" },
    { VFIO_USER_DMA_MAP, 0, "4:32 4:3 8:0 8:0x1000 8:0x1000 1:0" },
    { VFIO_USER_DMA_UNMAP, 0, "4:24 4:0 8:0 8:0" },
    { VFIO_USER_DMA_UNMAP, 0, "4:24 4:1 8:0 8:0x1000" },
    { VFIO_USER_DMA_UNMAP, 0, "4:24 4:2 8:0 8:0x1000" },
    { VFIO_USER_DMA_UNMAP, 0, "4:24 4:2 8:0x1000 8:0" },
    { VFIO_USER_DMA_UNMAP, 0, "4:24 4:0 8:0xfffffffffffff000 8:0x1001" },
    { VFIO_USER_DMA_UNMAP, 2, "4:24 4:0 8:0x1000 8:0x1000" },
    { VFIO_USER_DEVICE_GET_INFO, 0, "4:15 +12" },
    { VFIO_USER_DEVICE_GET_INFO, 0, "4:0 +12" },
    { VFIO_USER_DEVICE_GET_INFO, 0, "4:16 +13" },
    { VFIO_USER_DEVICE_GET_INFO, 1, "4:16 +12" },
    { VFIO_USER_DEVICE_GET_REGION_INFO, 0, "4:31 +28" },
    { VFIO_USER_DEVICE_GET_REGION_IO_FDS, 0, "4:15 +12" },
    { VFIO_USER_DEVICE_GET_REGION_IO_FDS, 0, "4:16 4:1 +8" },
    { VFIO_USER_DEVICE_GET_IRQ_INFO, 0, "4:15 +12" },
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:19 4:33 4:0 4:0 4:1" },
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:32 4:0 4:0 4:1" }, /* no kind of data */
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:35 4:0 4:0 4:1" }, /* two of them */
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:1 4:0 4:0 4:1" },  /* no action */
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:49 4:0 4:0 4:1" }, /* two */
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:97 4:0 4:0 4:1" }, /* an unknown bit */
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:33 4:0 4:1 4:0" },
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:34 4:0 4:0 4:0" },
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:36 4:0 4:0 4:0" },
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:33 4:0 4:0xffffffff 4:2" }, /* the sum */
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:33 4:0 4:2 4:0xffffffff" },
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:33 4:0 4:0 4:1 1:1" }, /* data that is not due */
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:34 4:0 4:0 4:2 1:1" },
    { VFIO_USER_DEVICE_SET_IRQS, 0, "4:20 4:34 4:0 4:0 4:0xffffffff 1:1" },
    { VFIO_USER_DEVICE_SET_IRQS, 1, "4:20 4:36 4:0 4:0 4:2" },
    { VFIO_USER_DEVICE_SET_IRQS, 3, "4:20 4:36 4:0 4:0 4:2" },
    { VFIO_USER_DEVICE_SET_IRQS, 1, "4:20 4:33 4:0 4:0 4:1" },
    { VFIO_USER_DEVICE_SET_IRQS, 1, "4:20 4:34 4:0 4:0 4:1 1:1" },
    { VFIO_USER_REGION_READ, 0, "8:0 4:0 4:65537" },
    { VFIO_USER_REGION_READ, 0, "8:0 4:0 4:4 +4" },
    { VFIO_USER_REGION_READ, 0, "8:0xfffffffffffffff0 4:0 4:16" },
    { VFIO_USER_REGION_READ, 1, "8:0 4:0 4:4" },
    { VFIO_USER_REGION_WRITE, 0, "8:0 4:0 4:4 +3" },
    { VFIO_USER_REGION_WRITE, 0, "8:0 4:0 4:4 +5" },
    { VFIO_USER_REGION_WRITE, 0, "8:0 4:0 4:65537 +65537" },
    { VFIO_USER_REGION_WRITE, 0, LAST " 4:0 4:1 +1" },
    { VFIO_USER_DMA_READ, 0, LAST " 8:2" },
    { VFIO_USER_DMA_READ, 0, "8:2 " LAST },
    { VFIO_USER_DMA_READ, 0, "8:0 8:4 +4" },
    { VFIO_USER_DMA_WRITE, 0, "8:0 8:4 +3" },
    { VFIO_USER_DMA_WRITE, 0, "8:0 " LAST " +3" },
    { VFIO_USER_DEVICE_RESET, 0, "1:0" },
    { VFIO_USER_DEVICE_RESET, 1, "" },
    { VFIO_USER_REGION_WRITE_MULTI, 0, "8:0" },
    { VFIO_USER_REGION_WRITE_MULTI, 0, "8:1" },
    { VFIO_USER_REGION_WRITE_MULTI, 0, "8:2 8:0 4:0 4:8 +8" },
    { VFIO_USER_REGION_WRITE_MULTI, 0, "8:1 8:0 4:0 4:8 +9" },
    { VFIO_USER_REGION_WRITE_MULTI, 0, "8:1 8:0 4:0 4:0 +8" },
    { VFIO_USER_REGION_WRITE_MULTI, 0, "8:1 8:0 4:0 4:9 +8" },
    { VFIO_USER_REGION_WRITE_MULTI, 0, "8:1 " LAST " 4:0 4:1 +8" },
    { VFIO_USER_REGION_WRITE_MULTI, 0, "8:0x0aaaaaaaaaaaaaab 8:0 4:0 4:8" }, /* * 24 is 8 again */
    { VFIO_USER_REGION_WRITE_MULTI, 0, LAST " +24" },
    { VFIO_USER_DEVICE_FEATURE, 0, "4:7 4:0x10001" },
    { VFIO_USER_DEVICE_FEATURE, 0, "4:8 4:0x30001" }, /* get and set */
    { VFIO_USER_DEVICE_FEATURE, 0, "4:8 4:0x00001" }, /* neither */
    { VFIO_USER_DEVICE_FEATURE, 0, "4:8 4:0x90001" },
    { VFIO_USER_MIG_DATA_READ, 0, "4:8 4:5 +5" },
    { VFIO_USER_MIG_DATA_WRITE, 0, "4:8 4:5 +4" },
    { VFIO_USER_MIG_DATA_WRITE, 0, "4:8 4:0xffffffff +4" },
    { VFIO_USER_VERSION, 1, "2:0 2:1" },
};

static void test_bad_commands(void **state)
{
    (void)state;
    check_rows(bad, sizeof bad / sizeof *bad, -EINVAL);
}

/* A command whose fixed part is cut off anywhere. */
static void test_short_commands(void **state)
{
    static const uint8_t fixed[VFIO_USER_COMMANDS] = { 0,  4,  32, 24, 16, 32, 16, 16, 20, 16,
                                                       16, 16, 16, 0,  0,  8,  8,  8,  8 };
    uint8_t body[64];
    struct wire_message m;
    (void)state;

    memset(body, 0xff, sizeof body);
    for (uint16_t command = 1; command < VFIO_USER_COMMANDS; command++)
        for (size_t n = 0; n < fixed[command]; n++)
            assert_int_equal(decode(command, body, n, 0, &m), -EINVAL);
}

static void test_unknown_commands(void **state)
{
    static const uint16_t unknown[] = { 0, 14, 19, 20, 100, 0x7fff, 0x8000, 0xffff };
    uint8_t body[64] = { 0 };
    struct wire_message m;
    (void)state;

    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        for (size_t n = 0; n < sizeof body; n++)
            assert_int_equal(decode(unknown[i], body, n, n % 3, &m), -ENOTSUP);
        assert_string_equal(wire_command_name(unknown[i]), "unknown");
        assert_int_equal(decode_reply(unknown[i], body, 0, &m), -EBADMSG);
    }
    assert_string_equal(wire_command_name(VFIO_USER_DMA_MAP), "VFIO_USER_DMA_MAP");
    assert_string_equal(wire_command_name(VFIO_USER_MIG_DATA_WRITE), "VFIO_USER_MIG_DATA_WRITE");
}

static void test_fields_arrive(void **state)
{
    uint8_t body[128];
    struct wire_message m;
    (void)state;

    size_t n = write_body("8:0x1122334455667788 4:3 4:2 1:0xaa 1:0xbb", body);
    assert_int_equal(decode(VFIO_USER_REGION_WRITE, body, n, 0, &m), 0);
    assert_int_equal(m.header.command, VFIO_USER_REGION_WRITE);
    assert_true(m.region.offset == 0x1122334455667788 && m.region.region == 3 &&
                m.region.count == 2);
    assert_int_equal(m.data_size, 2);
    assert_memory_equal(m.data, "\xaa\xbb", 2);

    n = write_body("4:32 4:1 8:0x5000 8:0x7000 8:0x9000", body);
    assert_int_equal(decode(VFIO_USER_DMA_MAP, body, n, 1, &m), 0);
    assert_true(m.map.flags == 1 && m.map.offset == 0x5000 && m.map.address == 0x7000 &&
                m.map.size == 0x9000 && m.data_size == 0);

    n = write_body("4:23 4:34 4:2 4:5 4:3 1:1 1:0 1:9", body);
    assert_int_equal(decode(VFIO_USER_DEVICE_SET_IRQS, body, n, 0, &m), 0);
    assert_true(m.irq_set.index == 2 && m.irq_set.start == 5 && m.irq_set.count == 3);
    assert_memory_equal(m.data, "\1\0\x09", 3);

    n = write_body("8:2 8:1 4:2 4:3 8:4 8:5 4:6 4:7 8:8", body);
    assert_int_equal(decode(VFIO_USER_REGION_WRITE_MULTI, body, n, 0, &m), 0);
    struct vfio_user_write w = wire_multi_write(&m, 1);
    assert_true(w.offset == 5 && w.region == 6 && w.count == 7 && w.data[0] == 8);
}

/* The header's own word about the size must be the truth, and a reply is no command. */
static void test_header_and_bytes_must_agree(void **state)
{
    struct vfio_user_header h = { .command = VFIO_USER_DEVICE_RESET, .size = 16 };
    struct wire_message m;
    (void)state;

    assert_int_equal(wire_decode_command(place(&h, NULL, 0), 16, 0, &m), 0);
    for (uint32_t size = 0; size < 40; size++) {
        h.size = size;
        if (size != 16)
            assert_int_equal(wire_decode_command(place(&h, NULL, 0), 16, 0, &m), -EINVAL);
    }
    h.size = 16;
    for (size_t n = 0; n < 16; n++)
        assert_int_equal(wire_decode_command(place(&h, NULL, 0), n, 0, &m), -EINVAL);
    h.flags = VFIO_USER_FLAG_TYPE_REPLY;
    assert_int_equal(wire_decode_command(place(&h, NULL, 0), 16, 0, &m), -EINVAL);
    h.flags = VFIO_USER_FLAG_NO_REPLY;
    assert_int_equal(wire_decode_command(place(&h, NULL, 0), 16, 0, &m), 0);
}

/* ---- Replies -------------------------------------------------------------------------------- */

static const struct row good_replies[] = {
    { VFIO_USER_VERSION, 0, "2:0 2:1" },
    { VFIO_USER_VERSION, 0, "2:0 2:1 +100" },
    { VFIO_USER_DMA_MAP, 0, "" },
    { VFIO_USER_DMA_UNMAP, 0, "+24" },
    { VFIO_USER_DEVICE_GET_INFO, 0, "+16" },
    { VFIO_USER_DEVICE_GET_INFO, 0, "+20" }, /* the kernel's has grown */
    { VFIO_USER_DEVICE_GET_REGION_INFO, 0, "+32" },
    { VFIO_USER_DEVICE_GET_REGION_INFO, 0, "+80" },
    { VFIO_USER_DEVICE_GET_IRQ_INFO, 0, "+16" },
    { VFIO_USER_DEVICE_SET_IRQS, 0, "" },
    { VFIO_USER_REGION_READ, 0, "8:0 4:0 4:4 +4" },
    { VFIO_USER_REGION_WRITE, 0, "8:0 4:0 4:4" },
    { VFIO_USER_DMA_READ, 0, "8:0 8:4 +4" },
    { VFIO_USER_DMA_WRITE, 0, "" },
    { VFIO_USER_DMA_WRITE, 0, "8:0 4:4" },
    { VFIO_USER_DMA_WRITE, 0, "8:0 8:4" },
    { VFIO_USER_DEVICE_RESET, 0, "" },
    { VFIO_USER_REGION_WRITE_MULTI, 0, "8:5" },
    { VFIO_USER_DEVICE_FEATURE, 0, "+8" },
    { VFIO_USER_DEVICE_FEATURE, 0, "+100" },
    { VFIO_USER_MIG_DATA_READ, 0, "4:8 4:3 +3" },
    { VFIO_USER_MIG_DATA_WRITE, 0, "" },
};

static const struct row bad_replies[] = {
    { VFIO_USER_VERSION, 0, "2:0" },
    { VFIO_USER_DMA_MAP, 0, "1:0" },
    { VFIO_USER_DMA_UNMAP, 0, "+23" },
    { VFIO_USER_DMA_UNMAP, 0, "+25" },
    { VFIO_USER_DEVICE_GET_INFO, 0, "+15" },
    { VFIO_USER_DEVICE_GET_REGION_INFO, 0, "+31" },
    { VFIO_USER_DEVICE_GET_IRQ_INFO, 0, "+15" },
    { VFIO_USER_DEVICE_SET_IRQS, 0, "1:0" },
    { VFIO_USER_REGION_READ, 0, "8:0 4:0 4:4" },
    { VFIO_USER_REGION_READ, 0, "8:0 4:0 4:4 +3" },
    { VFIO_USER_REGION_READ, 0, "8:0 4:0 4:4 +5" },
    { VFIO_USER_REGION_READ, 0, "8:0 4:0 4:0xffffffff +5" },
    { VFIO_USER_REGION_WRITE, 0, "8:0 4:0 4:4 +4" },
    { VFIO_USER_DMA_READ, 0, "" },
    { VFIO_USER_DMA_READ, 0, "8:0 4:4 +4" },
    { VFIO_USER_DMA_READ, 0, "8:0 8:0x100000004 +4" },
    { VFIO_USER_DEVICE_RESET, 0, "4:0" },
    { VFIO_USER_REGION_WRITE_MULTI, 0, "4:5" },
    { VFIO_USER_DEVICE_FEATURE, 0, "+7" },
    { VFIO_USER_MIG_DATA_READ, 0, "4:8 4:3 +4" },
};

static void test_replies(void **state)
{
    static uint8_t body[4096];
    struct wire_message m;
    (void)state;

    for (size_t i = 0; i < sizeof good_replies / sizeof *good_replies; i++) {
        const struct row *r = &good_replies[i];
        if (decode_reply(r->command, body, write_body(r->body, body), &m) != 0)
            fail_msg("%s \"%s\" is refused", wire_command_name(r->command), r->body);
    }
    for (size_t i = 0; i < sizeof bad_replies / sizeof *bad_replies; i++) {
        const struct row *r = &bad_replies[i];
        if (decode_reply(r->command, body, write_body(r->body, body), &m) != -EBADMSG)
            fail_msg("%s \"%s\" is taken", wire_command_name(r->command), r->body);
    }
}

static void test_a_reply_to_something_else(void **state)
{
    struct vfio_user_header h = { .command = VFIO_USER_DEVICE_RESET,
                                  .size = 16,
                                  .flags = VFIO_USER_FLAG_TYPE_REPLY };
    struct wire_message m;
    (void)state;

    assert_int_equal(wire_decode_reply(place(&h, NULL, 0), 16, VFIO_USER_DEVICE_RESET, &m), 0);
    assert_int_equal(wire_decode_reply(place(&h, NULL, 0), 16, VFIO_USER_DMA_MAP, &m), -EBADMSG);
    assert_int_equal(wire_decode_reply(place(&h, NULL, 0), 15, VFIO_USER_DEVICE_RESET, &m),
                     -EBADMSG);
    h.size = 17;
    assert_int_equal(wire_decode_reply(place(&h, NULL, 0), 16, VFIO_USER_DEVICE_RESET, &m),
                     -EBADMSG);
    h.size = 16;
    h.flags = 0; /* a command */
    assert_int_equal(wire_decode_reply(place(&h, NULL, 0), 16, VFIO_USER_DEVICE_RESET, &m),
                     -EBADMSG);
}

static void test_error_replies(void **state)
{
    static const struct {
        uint32_t wire;
        int error;
    } rows[] = {
        { EINVAL, -EINVAL },  { 1, -1 },      { 4095, -4095 },
        { 0, -EIO },          { 4096, -EIO }, { 0x80000000, -EIO },
        { UINT32_MAX, -EIO },
    };
    uint8_t body[8] = { 0 };
    struct wire_message m;
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (uint32_t extra = 0; extra <= sizeof body; extra += 8) {
            struct vfio_user_header h = { .command = VFIO_USER_REGION_READ,
                                          .size = 16 + extra,
                                          .flags = VFIO_USER_FLAG_TYPE_REPLY | VFIO_USER_FLAG_ERROR,
                                          .error = rows[i].wire };
            assert_int_equal(
                wire_decode_reply(place(&h, body, extra), 16 + extra, VFIO_USER_REGION_READ, &m),
                0);
            assert_int_equal(wire_reply_error(&m.header), rows[i].error);
        }
    struct vfio_user_header h = { .flags = VFIO_USER_FLAG_TYPE_REPLY, .error = EIO };
    assert_int_equal(wire_reply_error(&h), 0); /* without the flag it says nothing */
}

/* ---- The header, and noise ------------------------------------------------------------------ */

static void test_header(void **state)
{
    static const struct {
        uint32_t size, flags;
        int ret;
    } rows[] = {
        { 16, 0, 16 },
        { 17, 1, 17 },
        { 1000, 0x30, 1000 },
        { 1000, 0xfffffff1, 1000 },
        { 1001, 0, -EBADMSG },
        { 0, 0, -EBADMSG },
        { 15, 0, -EBADMSG },
        { UINT32_MAX, 0, -EBADMSG },
        { 0x80000000, 0, -EBADMSG },
        { 16, 2, -EBADMSG },
        { 16, 0xf, -EBADMSG },
    };
    struct vfio_user_header out;
    (void)state;

    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct vfio_user_header h = { .id = 9, .size = rows[i].size, .flags = rows[i].flags };
        for (size_t n = 0; n < 16; n++)
            assert_int_equal(wire_header(page_end - n, n, 1000, &out), 0);
        assert_int_equal(wire_header(place(&h, NULL, 0), 16, 1000, &out), rows[i].ret);
        if (rows[i].ret > 0)
            assert_memory_equal(&out, &h, sizeof h);
    }
    struct vfio_user_header h = { .size = UINT32_MAX };
    assert_int_equal(wire_header(place(&h, NULL, 0), 16, SIZE_MAX, &out), -EBADMSG);
}

static uint64_t draw(void)
{
    static uint64_t seed = 4711;
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Good messages with some bytes changed: whatever is taken keeps its promises, and stays within. */
static void test_noise(void **state)
{
    static uint8_t body[ROOM];
    struct wire_message m;
    long taken = 0;
    (void)state;

    for (int i = 0; i < 200000; i++) {
        const struct row *r = &good[draw() % (sizeof good / sizeof *good)];
        if (r->command == VFIO_USER_REGION_WRITE && i % 100)
            continue; /* one of them is long */
        size_t n = write_body(r->body, body);
        for (uint64_t changes = draw() % 4; n && changes; changes--)
            body[draw() % (n < 64 ? n : 64)] = (uint8_t)draw();
        n -= n && draw() % 8 == 0;
        if (decode(r->command, body, n, r->nfds, &m) == 0) {
            taken++;
            assert_true(m.data_size <= n);
            uint8_t sum = 0;
            for (size_t k = 0; k < m.data_size; k++)
                sum ^= ((const uint8_t *)m.data)[k];
            for (size_t k = 0;
                 m.header.command == VFIO_USER_REGION_WRITE_MULTI && k < m.multi.wr_cnt; k++)
                sum ^= (uint8_t)wire_multi_write(&m, k).count;
            body[0] = sum;
        }
        decode_reply(r->command, body, n, &m);
    }
    assert_true(taken > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_commands),  cmocka_unit_test(test_bad_commands),
        cmocka_unit_test(test_short_commands), cmocka_unit_test(test_unknown_commands),
        cmocka_unit_test(test_fields_arrive),  cmocka_unit_test(test_header_and_bytes_must_agree),
        cmocka_unit_test(test_replies),        cmocka_unit_test(test_a_reply_to_something_else),
        cmocka_unit_test(test_error_replies),  cmocka_unit_test(test_header),
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, make_pages, NULL);
}

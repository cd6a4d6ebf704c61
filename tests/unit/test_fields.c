/*
 * test_fields.c - the stream of a state: what it keeps, what it refuses, and that nothing else happens.
 */
#include <setjmp.h>
#include <stddef.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "state/crc32c.h"
#include "state/fields.h"

#define NOW 1000000000000u
#define LATER 5000u

/* The same state in two builds: other places, other order, other structures around it. */
struct queue {
    uint64_t address;
    uint16_t head;
    uint8_t marks[3];
};
struct state {
    uint8_t byte;
    uint64_t wide;
    uint16_t many[5];
    char text[7];
    uint64_t started, never;
    struct queue queue[4];
    uint32_t extra;
};

struct new_queue {
    uint8_t pad[24];
    uint8_t marks[3];
    uint16_t head;
    uint64_t address;
};
struct new_state {
    uint64_t never, started;
    struct new_queue queue[4];
    uint8_t pad[100];
    char text[7];
    uint16_t many[5];
    uint64_t wide;
    uint8_t byte;
    uint32_t extra;
};

#define FIELDS(type, queues)                                                              \
    { OB_INT(struct type, byte),    OB_INT(struct type, wide),  OB_INTS(struct type, many), \
      OB_BYTES(struct type, text),  OB_TIME(struct type, started), OB_TIME(struct type, never), \
      OB_STRUCTS(struct type, queue, queues), OB_OPTIONAL_INT(struct type, extra), OB_END }

static const struct ob_field queue_fields[] = { OB_INT(struct queue, address), OB_INT(struct queue, head),
                                                OB_BYTES(struct queue, marks), OB_END };
static const struct ob_field fields[] = FIELDS(state, queue_fields);

static const struct ob_field new_queue_fields[] = {
    OB_BYTES(struct new_queue, marks), OB_INT(struct new_queue, head), OB_INT(struct new_queue, address),
    OB_END };
static const struct ob_field new_fields[] = {
    OB_TIME(struct new_state, never), OB_STRUCTS(struct new_state, queue, new_queue_fields),
    OB_BYTES(struct new_state, text), OB_INTS(struct new_state, many), OB_INT(struct new_state, byte),
    OB_TIME(struct new_state, started), OB_INT(struct new_state, wide),
    OB_OPTIONAL_INT(struct new_state, extra), OB_END };

static const struct ob_field without_extra[] = {
    OB_INT(struct state, byte), OB_INT(struct state, wide), OB_INTS(struct state, many),
    OB_BYTES(struct state, text), OB_TIME(struct state, started), OB_TIME(struct state, never),
    OB_STRUCTS(struct state, queue, queue_fields), OB_END };

static struct fields *make_as(const char *plugin, void *base, const struct ob_field *f, uint32_t version,
                              uint32_t oldest)
{
    const struct fields_section sections[] = { { "device", version, oldest, base, f } };
    struct fields *s = fields_new(plugin, sections, 1);
    assert_non_null(s);
    return s;
}

static struct fields *make(void *base, const struct ob_field *f)
{
    return make_as("test", base, f, 3, 2);
}

static struct state sample(void)
{
    struct state s = { .byte = 0x12, .wide = 0x1122334455667788, .many = { 1, 2, 0xffff, 4, 5 },
                       .text = "abcdef", .started = NOW - 77 };
    for (unsigned i = 0; i < 4; i++)
        s.queue[i] = (struct queue){ 0x1000 * (i + 1ull), (uint16_t)(i + 7), { 1, 2, (uint8_t)i } };
    return s;
}

static uint8_t bytes[8192];

static size_t save(const struct state *s, const struct ob_field *f)
{
    struct state copy = *s;
    struct fields *out = make(&copy, f);
    size_t n = fields_read(out, NOW, 0, bytes, sizeof bytes);

    assert_int_equal(n, fields_size(out));
    fields_free(out);
    return n;
}

/* ---- What it keeps ----------------------------------------------------------------------------------- */

static void test_crc(void **state)
{
    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    uint8_t zeros[32] = { 0 };
    assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa); /* RFC 3720, B.4 */
    uint32_t crc = 0;
    for (unsigned i = 0; i < 32; i++)
        crc = crc32c(crc, zeros + i, 1);
    assert_int_equal(crc, 0x8a9136aa);
}

static void test_another_layout(void **state)
{
    struct state from = sample();
    struct new_state to;
    uint32_t version = 0;
    char why[FIELDS_WHY];
    (void)state;

    from.extra = 99;
    size_t n = save(&from, fields);
    memset(&to, 0xee, sizeof to);
    struct fields *in = make(&to, new_fields);
    assert_int_equal(fields_check(in, bytes, n, why), 0);
    assert_int_equal(fields_load(in, NOW + LATER, bytes, n, &version, why), 0);
    assert_int_equal(version, 3);
    assert_int_equal(to.byte, from.byte);
    assert_true(to.wide == from.wide);
    assert_memory_equal(to.many, from.many, sizeof to.many);
    assert_memory_equal(to.text, from.text, sizeof to.text);
    assert_true(to.started == NOW + LATER - 77);
    assert_true(to.never == 0);
    assert_int_equal(to.extra, 99);
    for (unsigned i = 0; i < 4; i++) {
        assert_true(to.queue[i].address == from.queue[i].address);
        assert_int_equal(to.queue[i].head, from.queue[i].head);
        assert_memory_equal(to.queue[i].marks, from.queue[i].marks, 3);
        assert_int_equal(to.queue[i].pad[0], 0xee); /* nobody's */
    }
    assert_int_equal(to.pad[50], 0xee);
    fields_free(in);
}

static void test_any_pieces(void **state)
{
    struct state s = sample();
    struct fields *out = make(&s, fields);
    size_t n = save(&s, fields);
    uint8_t piece[256];
    (void)state;

    for (size_t at = 0; at <= n + 1; at++)
        for (size_t size = 0; size < sizeof piece; size += size < 20 ? 1 : 37) {
            size_t left = at < n ? n - at : 0, expected = size < left ? size : left;
            assert_int_equal(fields_read(out, NOW, at, piece, size), expected);
            assert_memory_equal(piece, bytes + at, expected);
        }
    fields_free(out);
}

static void test_places(void **state)
{
    struct state s;
    struct fields *f = make(&s, fields);
    uint64_t byte, offset;
    (void)state;

    assert_string_equal(fields_find_field(f, 0, offsetof(struct state, queue[2].marks[1]), 2, &byte),
                        "queue[].marks");
    assert_int_equal(byte, 2 * 3 + 1);
    assert_int_equal(fields_find_offset(f, 0, "queue[].marks", 7, 2, &offset), 0);
    assert_int_equal(offset, offsetof(struct state, queue[2].marks[1]));
    assert_string_equal(fields_find_field(f, 0, offsetof(struct state, text), 7, &byte), "text");
    assert_null(fields_find_field(f, 0, offsetof(struct state, text), 8, &byte));
    assert_null(fields_find_field(f, 0, offsetof(struct state, queue[1].marks[2]), 2, &byte));
    assert_int_equal(fields_find_offset(f, 0, "queue[].marks", 11, 2, &offset), -EINVAL);
    assert_int_equal(fields_find_offset(f, 0, "queue[].marks", 12, 1, &offset), -EINVAL);
    assert_int_equal(fields_find_offset(f, 0, "queue[].marks", UINT64_MAX, 1, &offset), -EINVAL);
    assert_int_equal(fields_find_offset(f, 0, "nothing", 0, 1, &offset), -EINVAL);
    fields_free(f);
}

/* ---- What it refuses --------------------------------------------------------------------------------- */

/* A stream of `out` for somebody who has `in`. */
static void refuses(const struct ob_field *out, const struct ob_field *in, const char *sentence)
{
    struct state s = sample(), to = sample();
    uint32_t version;
    char why[FIELDS_WHY] = "";

    size_t n = save(&s, out);
    struct fields *f = make(&to, in);
    int ret = fields_load(f, NOW, bytes, n, &version, why);
    if (!sentence) {
        assert_int_equal(ret, 0);
    } else {
        assert_int_equal(ret, -EINVAL);
        assert_string_equal(why, sentence);
        assert_int_equal(fields_check(f, bytes, n, why), -EINVAL);
        assert_string_equal(why, sentence);
    }
    fields_free(f);
}

static void test_fields_that_do_not_fit(void **state)
{
    static const struct ob_field narrow[] = { OB_INT(struct queue, address), { "head", OB_FIELD_INT, 8, 4, 1, 0, NULL },
                                              OB_END };
    static const struct ob_field queues[] = { OB_STRUCTS(struct state, queue, queue_fields), OB_END };
    static const struct ob_field narrows[] = { OB_STRUCTS(struct state, queue, narrow), OB_END };
    static const struct ob_field three[] = { { "many", OB_FIELD_INT, offsetof(struct state, many), 2, 3, 0, NULL }, OB_END };
    static const struct ob_field five[] = { OB_INTS(struct state, many), OB_END };
    static const struct ob_field raw[] = { { "many", OB_FIELD_BYTES, offsetof(struct state, many), 1, 10, 0, NULL }, OB_END };
    static const struct ob_field other[] = { OB_INTS(struct state, many), OB_INT(struct state, byte), OB_END };
    (void)state;

    refuses(queues, narrows, "field queue[].head: 4 bytes an element here, 2 in the stream");
    refuses(five, three, "field many: 3 elements here, 5 in the stream");
    refuses(three, five, "field many: 5 elements here, 3 in the stream");
    refuses(raw, five, "field many: a number here, bytes in the stream");
    refuses(other, five, "field byte of the device: unknown here");
    refuses(five, other, "field byte of the device: not in the stream");
    refuses(five, five, NULL);
}

static void test_optional_fields(void **state)
{
    struct state from = sample(), to;
    uint32_t version;
    char why[FIELDS_WHY];
    (void)state;

    /* Missing: it becomes zero. */
    size_t n = save(&from, without_extra);
    to.extra = 5;
    struct fields *f = make(&to, fields);
    assert_int_equal(fields_load(f, NOW, bytes, n, &version, why), 0);
    assert_int_equal(to.extra, 0);
    fields_free(f);
    /* Unknown: it has to be zero. */
    n = save(&from, fields);
    f = make(&to, without_extra);
    assert_int_equal(fields_load(f, NOW, bytes, n, &version, why), 0);
    from.extra = 1 << 16;
    n = save(&from, fields);
    assert_int_equal(fields_check(f, bytes, n, why), 0);
    assert_int_equal(fields_load(f, NOW, bytes, n, &version, why), -EINVAL);
    assert_string_equal(why, "field extra of the device: unknown here, and not zero");
    fields_free(f);
}

static void test_versions(void **state)
{
    struct state s = sample();
    char why[FIELDS_WHY];
    uint32_t version;
    (void)state;

    for (uint32_t there = 0; there < 6; there++) {
        struct fields *out = make_as("test", &s, fields, there, 0), *in = make(&s, fields); /* 2 to 3 */
        size_t n = fields_read(out, NOW, 0, bytes, sizeof bytes);
        int ret = fields_load(in, NOW, bytes, n, &version, why);
        assert_int_equal(ret, there == 2 || there == 3 ? 0 : -EINVAL);
        if (there == 4)
            assert_string_equal(why, "state of the device: version 4 in the stream, 3 here");
        fields_free(in);
        fields_free(out);
    }
    struct fields *other = make_as("else", &s, fields, 3, 0), *in = make(&s, fields);
    size_t n = fields_read(other, NOW, 0, bytes, sizeof bytes);
    assert_int_equal(fields_check(in, bytes, n, why), -EINVAL);
    assert_string_equal(why, "the stream is of a device else, and not test");
    fields_free(in);
    fields_free(other);
}

/* ---- Damage ------------------------------------------------------------------------------------------ */

/* In memory of its exact size, so that a sanitizer sees a look beyond. */
static int load_copy(const uint8_t *from, size_t n, size_t description, char why[FIELDS_WHY])
{
    struct state to = { 0 };
    struct fields *f = make(&to, fields);
    uint8_t *copy = malloc(n ? n : 1);
    uint32_t version;

    memcpy(copy, from, n);
    why[0] = 0;
    int check = fields_check(f, copy, n, why);
    if (n < description)
        assert_true(check == -EAGAIN || check == -EINVAL);
    int ret = fields_load(f, NOW, copy, n, &version, why);
    if (ret < 0)
        assert_true(ret == -EINVAL && why[0]);
    if (check == -EINVAL)
        assert_int_equal(ret, -EINVAL);
    free(copy);
    fields_free(f);
    return ret;
}

static void test_every_length(void **state)
{
    struct state s = sample();
    struct fields *f = make(&s, fields);
    size_t n = save(&s, fields), description = fields_description_size(f);
    char why[FIELDS_WHY];
    (void)state;

    fields_free(f);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(load_copy(bytes, i, description, why), -EINVAL);
    assert_int_equal(load_copy(bytes, n, description, why), 0);
    assert_int_equal(load_copy(bytes, n + 1, description, why), -EINVAL);
    assert_int_equal(load_copy(bytes, n + 100, description, why), -EINVAL);
}

static void test_every_byte(void **state)
{
    static const uint8_t flips[] = { 0x01, 0x80, 0xff };
    struct state s = sample();
    size_t n = save(&s, fields);
    char why[FIELDS_WHY];
    (void)state;

    for (size_t i = 0; i < n; i++)
        for (unsigned k = 0; k < sizeof flips; k++) {
            bytes[i] ^= flips[k];
            if (load_copy(bytes, n, 0, why) != -EINVAL)
                fail_msg("byte %zu is changed by 0x%02x, and taken", i, flips[k]);
            bytes[i] ^= flips[k];
        }
}

static size_t record_size(size_t at)
{
    uint64_t length;
    memcpy(&length, bytes + at + 8, 8);
    return 20 + (size_t)length;
}

/* Records that are left out, doubled, or exchanged: each has a right checksum of its own. */
static void test_records_in_other_places(void **state)
{
    struct state s = sample();
    size_t n = save(&s, fields), at[64], records = 0;
    uint8_t changed[sizeof bytes];
    char why[FIELDS_WHY];
    (void)state;

    for (size_t i = 0; i < n; i += record_size(i))
        at[records++] = i;
    at[records] = n;
    for (size_t i = 0; i < records; i++) {
        size_t size = at[i + 1] - at[i];
        memcpy(changed, bytes, at[i]);
        memcpy(changed + at[i], bytes + at[i + 1], n - at[i + 1]);
        assert_int_equal(load_copy(changed, n - size, 0, why), -EINVAL);
        memcpy(changed, bytes, at[i + 1]);
        memcpy(changed + at[i + 1], bytes + at[i], n - at[i]);
        assert_int_equal(load_copy(changed, n + size, 0, why), -EINVAL);
        if (i + 1 < records) {
            size_t next = at[i + 2] - at[i + 1];
            memcpy(changed, bytes, n);
            memcpy(changed + at[i], bytes + at[i + 1], next);
            memcpy(changed + at[i] + next, bytes + at[i], size);
            assert_int_equal(load_copy(changed, n, 0, why), -EINVAL);
        }
    }
}

static void sign(uint8_t *record, size_t at)
{
    uint64_t length;
    memcpy(&length, record + 8, 8);
    uint64_t place = at;
    uint32_t crc = crc32c(crc32c(0, &place, 8), record, 16 + length);
    memcpy(record + 16 + length, &crc, 4);
}

/* A description of which any byte is wrong, with a right checksum: somebody means it. */
static void test_hostile_descriptions(void **state)
{
    struct state s = sample();
    size_t n = save(&s, fields), size = record_size(0);
    uint8_t changed[sizeof bytes];
    unsigned taken = 0;
    char why[FIELDS_WHY];
    (void)state;

    for (size_t i = 16; i < size - 4; i++)
        for (unsigned v = 0; v < 256; v += v < 4 || v > 251 ? 1 : 13) {
            memcpy(changed, bytes, n);
            changed[i] = (uint8_t)v;
            sign(changed, 0);
            if (load_copy(changed, n, 0, why) == 0 && changed[i] != bytes[i])
                taken++;
        }
    /* An older version, and what is optional for the one side alone. */
    assert_true(taken < 2000);
}

static void test_hostile_lengths(void **state)
{
    static const uint64_t lengths[] = { 0, 1, 7, 8, UINT64_MAX, UINT64_MAX - 19, UINT64_MAX - 20, 1ull << 63,
                                        1ull << 32 };
    struct state s = sample();
    size_t n = save(&s, fields);
    uint8_t changed[sizeof bytes];
    char why[FIELDS_WHY];
    (void)state;

    for (size_t at = 0; at < n; at += record_size(at))
        for (unsigned i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            memcpy(changed, bytes, n);
            memcpy(changed + at + 8, &lengths[i], 8);
            if (lengths[i] < n - at - 20)
                sign(changed + at, at);
            if (memcmp(changed, bytes, n) != 0)
                assert_int_equal(load_copy(changed, n, 0, why), -EINVAL);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc),          cmocka_unit_test(test_another_layout),
        cmocka_unit_test(test_any_pieces),   cmocka_unit_test(test_places),
        cmocka_unit_test(test_fields_that_do_not_fit), cmocka_unit_test(test_optional_fields),
        cmocka_unit_test(test_versions),     cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_every_byte),   cmocka_unit_test(test_records_in_other_places),
        cmocka_unit_test(test_hostile_descriptions), cmocka_unit_test(test_hostile_lengths),
    };
    return cmocka_run_group_tests_name("fields", tests, NULL, NULL);
}

/*
 * test_table.c - a state in the block of another build: what is found in there, and what damaged ones lead to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "state/block.h"
#include "state/foreign.h"
#include "state/step.h"
#include "state/table.h"

/* One state in two builds; the new one has a field more. */
struct queue {
    uint64_t address;
    uint16_t head;
};
struct old {
    uint32_t a;
    uint16_t many[3];
    struct queue queue[4];
    uint8_t bytes[10];
    uint32_t under_way;
};
struct new_queue {
    uint8_t pad[40];
    uint16_t head;
    uint64_t address;
};
struct new
{
    uint8_t pad[100];
    uint32_t under_way;
    uint8_t bytes[10];
    struct new_queue queue[4];
    uint16_t many[3];
    uint32_t a, more;
};

static const struct ob_field queue_fields[] = { OB_INT(struct queue, address),
                                                OB_INT(struct queue, head), OB_END };
static const struct ob_field old_fields[] = {
    OB_INT(struct old, a),
    OB_INTS(struct old, many),
    OB_STRUCTS(struct old, queue, queue_fields),
    OB_BYTES(struct old, bytes),
    OB_RUNTIME_INT(struct old, under_way),
    OB_END,
};
static const struct ob_field new_queue_fields[] = { OB_INT(struct new_queue, head),
                                                    OB_INT(struct new_queue, address), OB_END };
static const struct ob_field new_fields[] = {
    OB_RUNTIME_INT(struct new, under_way),
    OB_OPTIONAL_INT(struct new, more),
    OB_BYTES(struct new, bytes),
    OB_STRUCTS(struct new, queue, new_queue_fields),
    OB_INTS(struct new, many),
    OB_INT(struct new, a),
    OB_END,
};

static struct table *table_of(const struct ob_field *fields, uint64_t *size)
{
    *size = table_size(fields_count(fields));
    struct table *t = calloc(1, *size);

    assert_non_null(t);
    strcpy(t->plugin, "device");
    t->version = 7;
    table_fill(t, fields);
    assert_int_equal(t->fields, fields_count(fields));
    return t;
}

static struct fields *fields_of(const struct ob_field *fields, void *state)
{
    const struct fields_section section = { "device", 7, 0, state, fields };
    struct fields *s = fields_new("device", &section, 1);

    assert_non_null(s);
    return s;
}

static void fill(void *state, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)state)[i] = (uint8_t)(i * 7 + 1);
}

static void assert_same(const struct old *o, const struct new *n)
{
    assert_int_equal(o->a, n->a);
    assert_memory_equal(o->many, n->many, sizeof o->many);
    assert_memory_equal(o->bytes, n->bytes, sizeof o->bytes);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(o->queue[i].address, n->queue[i].address);
        assert_int_equal(o->queue[i].head, n->queue[i].head);
    }
}

/* From the old build, by its table, through a stream; and back, with what does not migrate. */
static void test_there_and_back(void **unused)
{
    (void)unused;
    struct old before, after = { 0 };
    struct new new = { .under_way = 5, .more = 6 };
    uint64_t old_size, new_size;
    uint32_t version;
    char why[FIELDS_WHY] = "";

    fill(&before, sizeof before);
    struct table *old_table = table_of(old_fields, &old_size),
                 *new_table = table_of(new_fields, &new_size);
    struct fields *from = table_open(old_table, old_size, "device", &before, sizeof before, why);
    struct fields *to = fields_of(new_fields, &new);
    assert_non_null(from);
    assert_int_equal(table_covers(to, from, why), 0);
    uint64_t size = fields_size(from);
    uint8_t *stream = malloc(size);
    fields_read(from, 0, 0, stream, size);
    assert_int_equal(fields_load(to, 0, stream, size, &version, why), 0);
    assert_int_equal(version, 7);
    assert_same(&before, &new);
    assert_int_equal(new.under_way, 5);
    assert_int_equal(new.more, 0);
    free(stream);
    fields_free(from);

    new.under_way = 77;
    new.more = 88; /* which the old one does not know */
    from = table_open(new_table, new_size, "device", &new, sizeof new, why);
    struct fields *back = fields_of(old_fields, &after);
    assert_int_equal(table_copy(back, from, why), 0);
    assert_same(&after, &new);
    assert_int_equal(after.under_way, 77);
    assert_int_not_equal(table_covers(back, from, why),
                         0); /* the other way there is a field too many */
    assert_non_null(strstr(why, "field more"));
    fields_free(from);
    fields_free(to);
    fields_free(back);
    free(old_table);
    free(new_table);
}

static void test_places(void **unused)
{
    (void)unused;
    struct old old;
    struct new new;
    struct fields *from = fields_of(old_fields, &old), *to = fields_of(new_fields, &new);
    uint64_t at = offsetof(struct old, queue[2].address) + 3;

    assert_int_equal(table_find(to, from, 5, &at), 0);
    assert_int_equal(at, offsetof(struct new, queue[2].address) + 3);
    at = offsetof(struct old, bytes) + 1;
    assert_int_equal(table_find(to, from, 9, &at), 0);
    assert_int_equal(at, offsetof(struct new, bytes) + 1);
    at = offsetof(struct old, bytes) + 1;
    assert_int_equal(table_find(to, from, 10, &at), -EINVAL);
    at = UINT64_MAX - 2;
    assert_int_equal(table_find(to, from, 1, &at), -EINVAL);
    fields_free(from);
    fields_free(to);
}

static uint64_t random_state = 4711;
static uint64_t chance(uint64_t n)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % n;
}

/* Whatever a table says, what is read from there lies in the state. */
static void test_damaged_tables(void **unused)
{
    (void)unused;
    struct new *state = malloc(sizeof *state); /* where a sanitizer sees its ends */
    uint64_t size;
    struct table *good = table_of(new_fields, &size), *bad = malloc(size);
    char why[FIELDS_WHY];
    unsigned opened = 0;

    fill(state, sizeof *state);
    for (unsigned i = 0; i < 20000; i++) {
        memcpy(bad, good, size);
        for (uint64_t n = 1 + chance(4); n; n--)
            ((uint8_t *)bad)[chance(size)] = (uint8_t)(chance(3) ? chance(256) : chance(2) * 255);
        uint64_t shown = chance(8) ? size : chance(size);
        struct fields *from = table_open(bad, shown, "device", state, sizeof *state, why);
        if (!from) {
            assert_non_null(memchr(why, 0, sizeof why));
            continue;
        }
        opened++;
        struct old old;
        struct fields *to = fields_of(old_fields, &old);
        (void)table_covers(to, from, why);
        (void)table_copy(to, from, why);
        uint64_t stream_size = fields_size(from);
        if (stream_size < 1u << 20) {
            uint8_t *stream = malloc(stream_size);
            fields_read(from, 0, 0, stream, stream_size);
            free(stream);
        }
        fields_free(to);
        fields_free(from);
    }
    assert_true(opened > 100 && opened < 19000);
    free(good);
    free(bad);
    free(state);
}

/* ---- Blocks ------------------------------------------------------------------------------------------ */

static int make_block(bool open_step)
{
    const struct block_part parts[] = { { "one", 0, 5000 },
                                        { "hole", 0, 1 << 20 },
                                        { "two", 0, 100 } };
    struct block b;

    assert_int_equal(block_create(&b, parts, 3), 0);
    uint8_t *one = block_part(&b, 0), *two = block_part(&b, 2);
    fill(one, 5000);
    step_begin(&b, STEP_MESSAGE);
    step_touch(&b, two, 100);
    memset(two, 0x11, 100);
    step_commit(&b, 0, 0);
    step_begin(&b, STEP_MESSAGE);
    step_touch(&b, one + 10, 30);
    memset(one + 10, 0xee, 30);
    step_touch(&b, two, 100);
    memset(two, 0xee, 100);
    if (!open_step)
        step_commit(&b, 0, 0);
    int fd = fcntl(b.fd, F_DUPFD_CLOEXEC, 0);
    block_close(&b);
    return fd;
}

/* The step that was open is undone here, and not there. */
static void test_a_block(void **unused)
{
    (void)unused;
    struct foreign f;
    uint8_t expected[5000], one[5000] = { 0 }, hole[4096] = { 0 }, byte;
    uint64_t size;
    int fd = make_block(true), same = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    fill(expected, sizeof expected);
    assert_int_equal(foreign_open(&f, fd), 0);
    uint8_t *there = foreign_part(&f, "one", &size);
    assert_int_equal(size, 5000);
    foreign_copy(&f, there, one, size);
    assert_memory_equal(one, expected, sizeof one);
    uint8_t *two = foreign_part(&f, "two", &size);
    assert_int_equal(two[50], 0x11);
    assert_null(foreign_part(&f, "three", &size));
    foreign_copy(&f, foreign_part(&f, "hole", &size), hole, sizeof hole);
    assert_int_equal(pread(same, &byte, 1, (off_t)(there - (uint8_t *)f.h) + 10), 1);
    assert_int_equal(byte, 0xee);
    foreign_close(&f);
    close(same);
}

static void test_damaged_blocks(void **unused)
{
    (void)unused;
    unsigned opened = 0;

    for (unsigned i = 0; i < 4000; i++) {
        struct foreign f;
        int fd = make_block(true);
        for (uint64_t n = 1 + chance(3); n; n--) {
            /* The header, and the head of the undo log behind the last part. */
            off_t at = (off_t)(chance(2) ? chance(offsetof(struct block_header, effect))
                                         : 4096u * 2 + 8192 + (1u << 20) + 4096 + chance(300));
            uint8_t byte = (uint8_t)(chance(3) ? chance(256) : chance(2) * 255);
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        }
        if (foreign_open(&f, fd) < 0) {
            close(fd);
            continue;
        }
        opened++;
        for (uint32_t part = 0; part < f.h->part_count; part++) {
            uint64_t size;
            uint8_t *p = foreign_part(&f, f.h->parts[part].name, &size);
            if (!p || size > 1 << 21)
                continue;
            uint8_t *copy = calloc(1, size + 1);
            foreign_copy(&f, p, copy, size);
            free(copy);
        }
        foreign_close(&f);
    }
    assert_true(opened > 100 && opened < 4000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_places),
        cmocka_unit_test(test_damaged_tables), cmocka_unit_test(test_a_block),
        cmocka_unit_test(test_damaged_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* test_memory_model.c - random operations on guest memory, compared with a model that is too simple
 * to be wrong; and on the tree of regions, the form of which is checked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>

#include "memory/index.h"
#include "memory/memory.h"
#include "memory_helpers.h"

#define REGIONS 400u
#define SPACE (600u * PAGE) /* of addresses in use */
#define FILES 3u
#define FILE_PAGES 64u

/* The model: regions in no order, files as the test maps them for itself. */
struct model {
    struct memory_region region[REGIONS]; /* size 0: none; file: index of `shadow` */
    uint32_t number[FILES];               /* of the floor, or MEMORY_NO_FILE */
    uint32_t users[FILES];
    uint8_t *shadow[FILES];
    int fd[FILES];
    uint64_t origin;
};

static struct memory_region *holder(struct model *o, uint64_t address)
{
    for (uint32_t i = 0; i < REGIONS; i++) {
        struct memory_region *r = &o->region[i];
        if (r->size > 0 && address >= r->address && address - r->address < r->size)
            return r;
    }
    return NULL;
}

static bool overlaps(struct model *o, const struct memory_region *r)
{
    for (uint32_t i = 0; i < REGIONS; i++) {
        const struct memory_region *q = &o->region[i];
        if (q->size > 0 && r->address <= q->address + (q->size - 1) &&
            q->address <= r->address + (r->size - 1))
            return true;
    }
    return false;
}

/* Makes sure that a file is known, by whatever number. */
static uint32_t file_number(struct memory *m, struct model *o, uint32_t file)
{
    uint32_t number = 0;
    while (memory_file_fd(m, number) >= 0)
        number++;
    int known = memory_file_add(m, dup(o->fd[file]), &number);
    assert_int_equal(known, o->number[file] == MEMORY_NO_FILE);
    if (!known)
        assert_int_equal(number, o->number[file]);
    o->number[file] = number;
    return number;
}

static void do_map(struct memory *m, struct model *o)
{
    uint32_t id = (uint32_t)(draw() % REGIONS), file = (uint32_t)(draw() % (FILES + 1));
    struct memory_region r = { .flags = (uint32_t)(draw() % 4), .file = file };
    bool odd = draw() % 4 == 0;
    r.address = o->origin + (odd ? draw() % SPACE : draw() % (SPACE / PAGE) * PAGE);
    r.size = odd ? 1 + draw() % 3000 : (1 + draw() % 3) * PAGE;
    if (r.address + (r.size - 1) < r.address)
        r.size = 0 - r.address; /* ends at 2^64 */
    struct memory_region asked = r;
    asked.file = MEMORY_NO_FILE;
    if (file < FILES) {
        asked.offset = r.offset = draw() % (FILE_PAGES - 3) * PAGE;
        asked.file = file_number(m, o, file);
    }
    int expected = o->region[id].size > 0 ? -EINVAL : overlaps(o, &r) ? -EEXIST : 0;
    assert_int_equal(memory_map(m, id, &asked), expected);
    if (expected == 0) {
        o->region[id] = r;
        if (file < FILES)
            o->users[file]++;
    } else if (file < FILES && o->users[file] == 0) {
        memory_file_drop(m, asked.file);
        o->number[file] = MEMORY_NO_FILE;
    }
}

static void do_unmap(struct memory *m, struct model *o)
{
    uint32_t id = (uint32_t)(draw() % REGIONS), gone;
    struct memory_region *r = &o->region[id];
    if (draw() % 8 == 0) { /* close to a region, or where none ever is */
        assert_int_equal(memory_unmap(m, r->address + 1, r->size, &gone), -ENOENT);
        assert_int_equal(memory_unmap(m, r->address, r->size + 1, &gone), -ENOENT);
        assert_int_equal(gone, MEMORY_NO_FILE);
        return;
    }
    if (r->size == 0)
        return;
    assert_int_equal(memory_unmap(m, r->address, r->size, &gone), id);
    uint32_t expected = MEMORY_NO_FILE;
    if (r->file < FILES && --o->users[r->file] == 0) {
        expected = o->number[r->file];
        o->number[r->file] = MEMORY_NO_FILE;
    }
    assert_int_equal(gone, expected);
    r->size = 0;
}

static void do_translate(struct memory *m, struct model *o)
{
    enum { MAX = 6 };
    struct memory_piece p[MAX];
    uint64_t at = o->origin + draw() % SPACE, n = 1 + draw() % (draw() % 2 ? 100 : 4 * PAGE);
    unsigned need = (unsigned)(draw() % 4);
    int max = (int)(1 + draw() % MAX);
    int result = memory_translate(m, at, n, need, p, max);
    uint64_t end = at + (n - 1);
    int count = 0;
    for (;; count++) {
        const struct memory_region *r = count < max && end >= at ? holder(o, at) : NULL;
        if (count == max || !r || (r->flags & need) != need) {
            assert_int_equal(result, count == max && end >= at ? -E2BIG : -EFAULT);
            return;
        }
        uint64_t within = at - r->address, size = r->size - within;
        size = size < n ? size : n;
        if (result > 0) {
            assert_true(count < result && p[count].address == at && p[count].size == size);
            assert_true(&o->region[p[count].id] == r);
            if (r->file < FILES)
                assert_memory_equal(p[count].base, o->shadow[r->file] + r->offset + within, size);
            else
                assert_null(p[count].base);
        }
        at += size;
        n -= size;
        if (n == 0)
            break;
    }
    assert_int_equal(result, count + 1);
}

static void do_next(struct memory *m, struct model *o)
{
    uint64_t at = o->origin + draw() % SPACE, distance = UINT64_MAX;
    int64_t expected = -ENOENT, id = memory_next(m, at);
    for (uint32_t i = 0; i < REGIONS; i++) {
        const struct memory_region *r = &o->region[i];
        bool holds = r->size > 0 && at - r->address < r->size;
        uint64_t d = holds ? 0 : r->address - at;
        if (r->size > 0 && (holds || r->address > at) && d < distance) {
            distance = d;
            expected = i;
        }
    }
    assert_int_equal(id, expected);
}

static void do_copy(struct memory *m, struct model *o)
{
    static uint8_t in[3 * PAGE], out[3 * PAGE];
    uint64_t at = o->origin + draw() % SPACE, n = 1 + draw() % sizeof(in);
    bool write = draw() % 2;
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)draw();
    int result = write ? memory_write(m, at, out, n) : memory_read(m, at, in, n);

    bool remote = false, hole = at + (n - 1) < at;
    for (uint64_t i = 0; i < n && !hole; i++) {
        const struct memory_region *r = holder(o, at + i);
        hole = !r || !(r->flags & (write ? MEMORY_WRITE : MEMORY_READ));
        if (hole)
            break;
        remote |= r->file == FILES;
        /* To the end of the region at once, as a byte costs a search through all. */
        i += r->size - 1 - (at + i - r->address);
    }
    assert_int_equal(result, hole ? -EFAULT : remote ? -EREMOTE : 0);
    if (result)
        return;
    /* Two regions may show the same part of a file: then only what was written last is there. */
    for (uint64_t i = 0; i < n && !write; i++) {
        const struct memory_region *r = holder(o, at + i);
        assert_int_equal(in[i], o->shadow[r->file][r->offset + (at + i - r->address)]);
    }
    if (write) {
        const struct memory_region *r = holder(o, at + n - 1);
        assert_int_equal(out[n - 1], o->shadow[r->file][r->offset + (at + n - 1 - r->address)]);
    }
}

static void random_operations(uint64_t origin, int operations)
{
    struct model *o = calloc(1, sizeof(*o));
    struct memory *m = memory_new(REGIONS, FILES);
    assert_non_null(o);
    assert_non_null(m);
    o->origin = origin;
    for (uint32_t f = 0; f < FILES; f++) {
        o->fd[f] = make_file(FILE_PAGES);
        o->number[f] = MEMORY_NO_FILE;
        o->shadow[f] = mmap(NULL, FILE_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, o->fd[f],
                            0);
        assert_ptr_not_equal(o->shadow[f], MAP_FAILED);
        for (uint32_t i = 0; i < FILE_PAGES * PAGE; i++)
            o->shadow[f][i] = (uint8_t)draw();
    }
    for (int i = 0; i < operations; i++) {
        uint64_t what = draw() % 100, mood = (uint64_t)i / 2000 % 2 ? 10 : 40; /* grow, shrink */
        if (what < mood)
            do_map(m, o);
        else if (what < 50)
            do_unmap(m, o);
        else if (what < 85)
            do_translate(m, o);
        else if (what < 95)
            do_next(m, o);
        else
            do_copy(m, o);
        if (i % 9973 == 0) {
            memory_unmap_all(m);
            for (uint32_t r = 0; r < REGIONS; r++)
                o->region[r].size = 0;
            for (uint32_t f = 0; f < FILES; f++) {
                o->number[f] = MEMORY_NO_FILE;
                o->users[f] = 0;
            }
        }
        uint32_t count = 0;
        for (uint32_t r = 0; r < REGIONS; r++)
            count += o->region[r].size > 0;
        assert_int_equal(memory_count(m), count);
    }
    memory_free(m);
    for (uint32_t f = 0; f < FILES; f++) {
        munmap(o->shadow[f], FILE_PAGES * PAGE);
        close(o->fd[f]);
    }
    free(o);
}

static void test_random(void **state)
{
    (void)state;
    random_operations(0, 40000);
    random_operations(0x7ffffff000, 20000);
    random_operations(0 - (uint64_t)SPACE, 40000);
}

/* ---- the tree ------------------------------------------------------------------------------ */

struct form {
    const struct memory_index *x;
    uint32_t count;
    uint32_t nodes;
    uint64_t above; /* the last start that was seen + 1 */
};

/* All in order and inside what the parent says; nodes at least half full but for the last. */
static void check_node(struct form *f, const union memory_node *node, uint32_t height, uint64_t low,
                       uint64_t high, bool last)
{
    bool root = node == f->x->root;
    uint32_t n = 0;
    f->nodes++;
    if (height == 0) {
        for (; n < MEMORY_LEAF && node->leaf.entry[n].size > 0; n++) {
            uint64_t start = node->leaf.key[n] + 1;
            assert_true(start >= f->above && start <= high && (n > 0 || start == low || low == 0));
            f->above = start + 1;
        }
        for (uint32_t i = n; i < MEMORY_LEAF; i++)
            assert_true(node->leaf.key[i] == UINT64_MAX && node->leaf.entry[i].size == 0);
        f->count += n;
        assert_true(root || n >= MEMORY_LEAF / 2 || (last && n > 0));
        return;
    }
    while (n < MEMORY_INNER && node->inner.child[n] != 0)
        n++;
    for (uint32_t i = n; i < MEMORY_INNER; i++)
        assert_true(node->inner.key[i] == UINT64_MAX && node->inner.child[i] == 0);
    assert_true(n >= MEMORY_INNER / 2 || ((root || last) && n >= 2));
    for (uint32_t i = 0; i < n; i++) {
        uint64_t from = i > 0 ? node->inner.key[i] + 1 : low;
        uint64_t to = i + 1 < n ? node->inner.key[i + 1] : high;
        assert_true(from >= low && to <= high && from <= to);
        check_node(f, memory_index_node(f->x, node->inner.child[i]), height - 1, from, to,
                   last && i + 1 == n);
    }
}

static void check_form(const struct memory_index *x, uint32_t count)
{
    struct form f = { .x = x };
    check_node(&f, x->root, x->height, 0, UINT64_MAX, true);
    assert_int_equal(f.count, count);
    assert_int_equal(x->count, count);
    uint32_t spare = 0;
    for (uint32_t line = x->spare; line != 0; line = memory_index_node(x, line)->inner.child[0])
        spare++;
    assert_int_equal((f.nodes + spare + 1) * sizeof(union memory_node), x->pool_used * 64ul);
    assert_true(x->pool_used * 64ul <= x->pool_bytes);
}

/* Places 0 to PLACES - 1, each of which holds a region or not; `mood` of 100 changes insert. */
static void test_tree(void **state)
{
    (void)state;
    enum { PLACES = 6000, STEPS = 300000 };
    static bool there[PLACES];
    struct memory_index x;
    assert_int_equal(memory_index_init(&x, PLACES), 0);
    uint32_t count = 0;
    for (uint32_t i = 0; i < STEPS; i++) {
        uint32_t mood = i / 20000 % 2 ? 30 : 75;
        uint32_t place = (uint32_t)(i / 60000 % 2 ? i % PLACES : draw() % PLACES);
        uint64_t start = place * 16ull;
        bool add = draw() % 100 < mood;
        struct memory_range r = { start, 16, memory_word(NULL, place, 3) };
        if (add && !there[place])
            memory_index_insert(&x, &r);
        else if (!add && there[place])
            memory_index_erase(&x, start);
        count = count + (add && !there[place]) - (!add && there[place]);
        there[place] = add;

        uint32_t other = (uint32_t)(draw() % PLACES);
        uint64_t address = other * 16ull + draw() % 16;
        assert_int_equal(memory_index_find(&x, address, &r), there[other]);
        assert_true(!there[other] || memory_word_id(r.word) == other);
        bool above = memory_index_above(&x, address, &r);
        uint32_t higher = other + 1;
        while (higher < PLACES && !there[higher])
            higher++;
        assert_int_equal(above, higher < PLACES);
        assert_true(!above || (r.start == higher * 16ull && memory_word_id(r.word) == higher));
        bool below = memory_index_floor(&x, address, &r);
        while (other > 0 && !there[other])
            other--;
        assert_int_equal(below, there[other]);
        assert_true(!below || r.start == other * 16ull);
        if (i % 997 == 0)
            check_form(&x, count);
    }
    for (uint32_t place = 0; place < PLACES; place++) {
        if (there[place])
            memory_index_erase(&x, place * 16ull);
        count -= there[place];
        if (place % 61 == 0)
            check_form(&x, count);
    }
    check_form(&x, 0);
    assert_int_equal(x.height, 0);
    memory_index_free(&x);
}

/* Regions in ascending order fill their leaves, and the pool holds the worst case. */
static void test_tree_orders(void **state)
{
    (void)state;
    enum { N = 20000 };
    struct memory_index x;
    assert_int_equal(memory_index_init(&x, N), 0);
    for (uint32_t i = 0; i < N; i++)
        memory_index_insert(&x, &(struct memory_range){ i * 8ull, 8, memory_word(NULL, i, 0) });
    check_form(&x, N);
    assert_true(x.pool_used / 3 < N / MEMORY_LEAF * 23 / 20);
    memory_index_clear(&x);
    for (uint32_t i = N; i-- > 0;)
        memory_index_insert(&x, &(struct memory_range){ i * 8ull, 8, memory_word(NULL, i, 0) });
    check_form(&x, N);
    memory_index_free(&x);
}

static void test_word(void **state)
{
    (void)state;
    void *base = (void *)(uintptr_t)0x7ffffffff000;
    for (uint32_t i = 0; i < 200000; i++) {
        uint32_t id = (uint32_t)(draw() % MEMORY_INDEX_MAX), flags = i % 4;
        uint64_t word = memory_word(i % 3 ? base : NULL, id, flags);
        assert_int_equal(memory_word_id(word), id);
        assert_int_equal(memory_word_flags(word), flags);
        assert_ptr_equal(memory_word_base(word), i % 3 ? base : NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_random), TEST(test_tree), TEST(test_tree_orders), TEST(test_word),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

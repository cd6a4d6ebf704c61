/*
 * dirty.c - a table of pieces of bitmap, found by hashing. See dirty.h.
 */
#include "memory/dirty.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x3159545249444f42) /* "BODIRTY1" */
#define CHUNK_SHIFT 12u                    /* pages of a piece */
#define WORDS ((1u << CHUNK_SHIFT) / 64)
#define PLACES_SHIFT 16u
#define PLACES (1u << PLACES_SHIFT)
#define PLACES_FULL (PLACES / 4 * 3)

struct file {
    uint64_t magic;
    uint32_t page_shift;
    uint32_t ranges;
    uint32_t used; /* places, or more: it is counted before it is used */
    uint32_t full; /* something could not be marked */
    struct dirty_range range[DIRTY_MAX_RANGES]; /* in order, apart */
    uint64_t key[PLACES];                       /* number of the piece, plus one; 0: free */
    uint64_t bits[PLACES][WORDS];
};

struct dirty {
    struct file *f;
    int fd;
};

/* ---- Making ---------------------------------------------------------------------------------------- */

static int by_address(const void *a, const void *b)
{
    const struct dirty_range *x = a, *y = b;
    return x->address < y->address ? -1 : x->address > y->address;
}

static void set_ranges(struct file *f, const struct dirty_range *ranges, uint32_t n)
{
    uint32_t last = 0;

    if (!n)
        return;
    memcpy(f->range, ranges, n * sizeof *ranges);
    qsort(f->range, n, sizeof *f->range, by_address);
    for (uint32_t i = 1; i < n; i++) {
        struct dirty_range *l = &f->range[last], r = f->range[i];
        uint64_t end = l->address + (l->size - 1), r_end = r.address + (r.size - 1);
        if (r.address > end)
            f->range[++last] = r;
        else if (r_end > end)
            l->size = r_end - l->address + 1;
    }
    f->ranges = last + 1;
}

static struct dirty *map(int fd)
{
    struct dirty *d = malloc(sizeof *d);
    void *p = MAP_FAILED;

    if (d)
        p = mmap(NULL, sizeof(struct file), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED) {
        free(d);
        return NULL;
    }
    *d = (struct dirty){ p, fd };
    return d;
}

/* #syscalls worker: memfd_create ftruncate fcntl close */
struct dirty *dirty_new(unsigned page_shift, const struct dirty_range *ranges, uint32_t n)
{
    int fd = memfd_create("outboard-dirty", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct dirty *d = NULL;

    if (fd < 0)
        return NULL;
    if (ftruncate(fd, sizeof(struct file)) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
        d = map(fd);
    if (!d) {
        int error = errno;
        close(fd);
        errno = error;
        return NULL;
    }
    d->f->page_shift = page_shift;
    set_ranges(d->f, ranges, n);
    d->f->magic = MAGIC;
    return d;
}

struct dirty *dirty_open(int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return NULL;
    errno = EINVAL;
    if (st.st_size != (off_t)sizeof(struct file))
        return NULL;
    struct dirty *d = map(fd);
    if (d && d->f->magic != MAGIC) {
        munmap(d->f, sizeof *d->f);
        free(d);
        errno = EINVAL;
        return NULL;
    }
    return d;
}

int dirty_fd(const struct dirty *d)
{
    return d->fd;
}

void dirty_free(struct dirty *d)
{
    if (!d)
        return;
    munmap(d->f, sizeof *d->f);
    close(d->fd);
    free(d);
}

/* ---- Places ---------------------------------------------------------------------------------------- */

static uint32_t place_of(uint64_t chunk)
{
    return (uint32_t)(chunk * UINT64_C(0x9e3779b97f4a7c15) >> (64 - PLACES_SHIFT));
}

/* The bits of a piece, or NULL: it has none, and (make) there is no room for more. */
static uint64_t *bits_of(struct file *f, uint64_t chunk, bool make)
{
    for (uint32_t i = place_of(chunk);; i = (i + 1) % PLACES) {
        if (f->key[i] == chunk + 1)
            return f->bits[i];
        if (f->key[i])
            continue;
        if (!make || f->used >= PLACES_FULL)
            return NULL;
        f->used++; /* a death in between wastes a place */
        atomic_signal_fence(memory_order_seq_cst);
        f->key[i] = chunk + 1;
        return f->bits[i];
    }
}

/* ---- Marking --------------------------------------------------------------------------------------- */

static void set_bits(uint64_t *words, uint32_t first, uint32_t last)
{
    for (uint32_t i = first / 64; i <= last / 64; i++) {
        uint64_t mask = UINT64_MAX;
        if (i == first / 64)
            mask &= UINT64_MAX << first % 64;
        if (i == last / 64)
            mask &= UINT64_MAX >> (63 - last % 64);
        words[i] |= mask;
    }
}

static void mark_pages(struct file *f, uint64_t first, uint64_t last)
{
    const uint64_t in_chunk = (1u << CHUNK_SHIFT) - 1;

    for (uint64_t chunk = first >> CHUNK_SHIFT; chunk <= last >> CHUNK_SHIFT; chunk++) {
        uint64_t start = chunk << CHUNK_SHIFT;
        uint64_t *bits = f->full ? NULL : bits_of(f, chunk, true);
        if (!bits) {
            f->full = 1;
            return;
        }
        set_bits(bits, (uint32_t)(first > start ? first & in_chunk : 0),
                 (uint32_t)(last < start + in_chunk ? last & in_chunk : in_chunk));
    }
}

/* The first range that does not end before this address. */
static uint32_t find_range(const struct file *f, uint64_t address)
{
    uint32_t low = 0, high = f->ranges;

    while (low < high) {
        uint32_t middle = (low + high) / 2;
        const struct dirty_range *r = &f->range[middle];
        if (r->address + (r->size - 1) < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void dirty_mark(struct dirty *d, uint64_t address, uint64_t n)
{
    struct file *f = d->f;

    if (n == 0)
        return;
    uint64_t last = n - 1 > UINT64_MAX - address ? UINT64_MAX : address + (n - 1);
    if (!f->ranges) {
        mark_pages(f, address >> f->page_shift, last >> f->page_shift);
        return;
    }
    for (uint32_t i = find_range(f, address); i < f->ranges && f->range[i].address <= last; i++) {
        uint64_t start = f->range[i].address, end = start + (f->range[i].size - 1);
        start = start > address ? start : address;
        end = end < last ? end : last;
        mark_pages(f, start >> f->page_shift, end >> f->page_shift);
    }
}

/* ---- Reading --------------------------------------------------------------------------------------- */

/* Each piece that has something in pages first to last, by the shorter way. */
typedef void chunk_fn(struct file *f, uint64_t chunk, uint64_t *bits, void *ctx);
static void for_chunks(struct file *f, uint64_t first, uint64_t last, chunk_fn *fn, void *ctx)
{
    uint64_t low = first >> CHUNK_SHIFT, high = last >> CHUNK_SHIFT;

    if (high - low < PLACES) {
        for (uint64_t chunk = low; chunk <= high; chunk++) {
            uint64_t *bits = bits_of(f, chunk, false);
            if (bits)
                fn(f, chunk, bits, ctx);
        }
        return;
    }
    for (uint32_t i = 0; i < PLACES; i++)
        if (f->key[i] && f->key[i] - 1 >= low && f->key[i] - 1 <= high)
            fn(f, f->key[i] - 1, f->bits[i], ctx);
}

struct report {
    uint64_t address, last;
    unsigned shift; /* of a reported page */
    uint8_t *bitmap;
};

static void set_bit(uint8_t *bitmap, uint64_t i)
{
    uint64_t word;

    memcpy(&word, bitmap + i / 64 * 8, sizeof word);
    word |= UINT64_C(1) << i % 64;
    memcpy(bitmap + i / 64 * 8, &word, sizeof word);
}

static void report_page(const struct report *r, uint64_t start, uint64_t end)
{
    if (end < r->address || start > r->last)
        return;
    start = start > r->address ? start - r->address : 0;
    end = (end < r->last ? end : r->last) - r->address;
    for (uint64_t i = start >> r->shift; i <= end >> r->shift; i++)
        set_bit(r->bitmap, i);
}

static void report_chunk(struct file *f, uint64_t chunk, uint64_t *bits, void *ctx)
{
    for (uint32_t w = 0; w < WORDS; w++)
        for (uint64_t left = bits[w]; left; left &= left - 1) {
            uint64_t page = (chunk << CHUNK_SHIFT) + w * 64 + (uint32_t)__builtin_ctzll(left);
            uint64_t start = page << f->page_shift;
            report_page(ctx, start, start + ((UINT64_C(1) << f->page_shift) - 1));
        }
}

int dirty_report(const struct dirty *d, uint64_t address, uint64_t size, uint64_t page,
                 void *bitmap)
{
    struct file *f = d->f;
    struct report r = { address, address + (size - 1), (unsigned)__builtin_ctzll(page), bitmap };

    if (f->full)
        return -ENOSPC;
    for_chunks(f, r.address >> f->page_shift, r.last >> f->page_shift, report_chunk, &r);
    return 0;
}

struct span {
    uint64_t first, end; /* pages, end is not one of them */
};

static void clear_chunk(struct file *f, uint64_t chunk, uint64_t *bits, void *ctx)
{
    const struct span *s = ctx;
    uint64_t start = chunk << CHUNK_SHIFT;

    (void)f;
    for (uint32_t w = 0; w < WORDS; w++) {
        uint64_t page = start + w * 64, keep = 0;
        if (page + 64 <= s->first || page >= s->end)
            continue;
        if (page < s->first)
            keep |= (UINT64_C(1) << (s->first - page)) - 1;
        if (page + 64 > s->end)
            keep |= UINT64_MAX << (s->end - page);
        bits[w] &= keep;
    }
}

void dirty_clear(struct dirty *d, uint64_t address, uint64_t size)
{
    struct file *f = d->f;
    uint64_t page = UINT64_C(1) << f->page_shift, last = address + (size - 1);
    struct span s = { (address >> f->page_shift) + ((address & (page - 1)) != 0),
                      (last >> f->page_shift) + ((last & (page - 1)) == page - 1) };

    if (s.first < s.end)
        for_chunks(f, s.first, s.end - 1, clear_chunk, &s);
}

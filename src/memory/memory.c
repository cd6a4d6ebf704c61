/* memory.c - regions come and go, and ranges of them are translated and copied. See memory.h. */
#include "memory/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "memory/dirty.h"
#include "memory/file.h"
#include "memory/index.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* What removing a region needs to know and an access does not. */
struct owner {
    struct memory_mapping *mapping; /* NULL: no file */
    uint32_t file;
    bool used;
};

struct memory {
    struct memory_index index;
    struct memory_files files;
    struct owner *owner; /* by id */
    uint32_t max;
    uint32_t top; /* all ids in use are below this */
    uint64_t page_mask;
    struct dirty *log; /* NULL: none is kept */
};

struct memory *memory_new(uint32_t max_regions, uint32_t max_files)
{
    if (max_regions == 0 || max_regions > MEMORY_INDEX_MAX) {
        errno = EINVAL;
        return NULL;
    }
    struct memory *m = calloc(1, sizeof(*m));
    if (!m)
        return NULL;
    m->max = max_regions;
    m->page_mask = (uint64_t)sysconf(_SC_PAGESIZE) - 1;
    m->owner = calloc(max_regions, sizeof(*m->owner));
    if (m->owner && memory_files_init(&m->files, max_files) == 0 &&
        memory_index_init(&m->index, max_regions) == 0)
        return m;
    memory_free(m);
    errno = ENOMEM;
    return NULL;
}

void memory_free(struct memory *m)
{
    if (!m)
        return;
    if (m->index.root)
        memory_unmap_all(m);
    memory_index_free(&m->index);
    memory_files_free(&m->files);
    free(m->owner);
    free(m);
}

int memory_file_add(struct memory *m, int fd, uint32_t *file)
{
    return memory_files_add(&m->files, fd, file);
}

void memory_file_drop(struct memory *m, uint32_t file)
{
    memory_files_drop(&m->files, file);
}

int memory_file_fd(const struct memory *m, uint32_t file)
{
    const struct memory_file *f = memory_files_get(&m->files, file);
    return f ? f->fd : -1;
}

int memory_map(struct memory *m, uint32_t id, const struct memory_region *r)
{
    struct memory_file *file = memory_files_get(&m->files, r->file);
    uint64_t last = r->address + (r->size - 1);
    if (r->size == 0 || last < r->address || (r->flags & ~(MEMORY_READ | MEMORY_WRITE)) ||
        id >= m->max || m->owner[id].used || (!file && r->file != MEMORY_NO_FILE) ||
        (file && (r->offset & m->page_mask)))
        return -EINVAL;

    struct memory_range below;
    if (memory_index_floor(&m->index, last, &below) && below.start + (below.size - 1) >= r->address)
        return -EEXIST;

    uint8_t *base = NULL;
    struct owner owner = { .file = r->file, .used = true };
    if (file) {
        if ((r->flags & MEMORY_WRITE) && !file->write)
            return -EACCES;
        int error = memory_files_attach(file, r->offset, r->size, &owner.mapping, &base);
        if (error)
            return error;
    }
    struct memory_range range = { r->address, r->size, memory_word(base, id, r->flags) };
    memory_index_insert(&m->index, &range);
    m->owner[id] = owner;
    if (m->top <= id)
        m->top = id + 1;
    return 0;
}

/* Gives up what a region holds besides its place in the index. True: its file went too. */
static bool let_go(struct memory *m, uint32_t id)
{
    struct owner owner = m->owner[id];
    m->owner[id] = (struct owner){ 0 };
    return owner.mapping && memory_files_detach(&m->files, owner.file, owner.mapping);
}

int64_t memory_unmap(struct memory *m, uint64_t address, uint64_t size, uint32_t *file_gone)
{
    *file_gone = MEMORY_NO_FILE;
    struct memory_range r;
    if (!memory_index_find(&m->index, address, &r) || r.start != address || r.size != size)
        return -ENOENT;
    uint32_t id = memory_word_id(r.word);
    memory_index_erase(&m->index, address);
    uint32_t file = m->owner[id].file;
    if (let_go(m, id))
        *file_gone = file;
    return id;
}

void memory_unmap_all(struct memory *m)
{
    memory_index_clear(&m->index);
    for (uint32_t id = 0; id < m->top; id++)
        if (m->owner[id].used)
            let_go(m, id);
    m->top = 0;
}

uint32_t memory_count(const struct memory *m)
{
    return m->index.count;
}

int64_t memory_next(const struct memory *m, uint64_t address)
{
    struct memory_range r;
    if (memory_index_floor(&m->index, address, &r) && address - r.start < r.size)
        return memory_word_id(r.word);
    return memory_index_above(&m->index, address, &r) ? (int64_t)memory_word_id(r.word) : -ENOENT;
}

/* Is the mapping below this region broken? Free of charge while none of the process is. */
static inline bool is_lost(const struct memory *m, uint32_t id)
{
    if (likely(atomic_load_explicit(&memory_mappings_broken, memory_order_relaxed) == 0))
        return false;
    const struct memory_mapping *mapping = m->owner[id].mapping;
    return mapping && memory_mapping_is_broken(mapping);
}

/* The part of [address, address + n) that is in the first region, n > 0. 0, or -EFAULT. */
static inline __attribute__((always_inline)) int
piece_at(struct memory *m, uint64_t address, uint64_t n, unsigned need, struct memory_piece *piece)
{
    struct memory_range r;
    if (!memory_index_find(&m->index, address, &r) || (need & ~memory_word_flags(r.word)))
        return -EFAULT;
    uint32_t id = memory_word_id(r.word);
    if (is_lost(m, id))
        return -EFAULT;
    uint64_t within = address - r.start;
    uint64_t room = r.size - within;
    uint8_t *base = memory_word_base(r.word);
    piece->base = base ? base + within : NULL;
    piece->address = address;
    piece->size = n < room ? n : room;
    piece->id = id;
    return 0;
}

/* The pieces after the first, which ends before the range does. */
static __attribute__((noinline)) int
more_pieces(struct memory *m, uint64_t address, uint64_t n, unsigned need,
            struct memory_piece *pieces, int max)
{
    if (address + (n - 1) < address)
        return -EFAULT;
    for (int count = 1; count < max; count++) {
        address += pieces[count - 1].size;
        n -= pieces[count - 1].size;
        if (piece_at(m, address, n, need, &pieces[count]))
            return -EFAULT;
        if (pieces[count].size == n)
            return count + 1;
    }
    return -E2BIG;
}

int memory_translate(struct memory *m, uint64_t address, uint64_t n, unsigned need,
                     struct memory_piece *pieces, int max)
{
    if (n == 0)
        return 0;
    if (max <= 0)
        return -E2BIG;
    if (piece_at(m, address, n, need, pieces))
        return -EFAULT;
    if (likely(pieces->size == n))
        return 1;
    return more_pieces(m, address, n, need, pieces, max);
}

int memory_check(struct memory *m, const struct memory_piece *pieces, int n)
{
    /* The accesses that this asks about come first, also in the eyes of the compiler. */
    atomic_signal_fence(memory_order_seq_cst);
    if (likely(atomic_load_explicit(&memory_mappings_broken, memory_order_relaxed) == 0))
        return 0;
    for (int i = 0; i < n; i++)
        if (pieces[i].base && is_lost(m, pieces[i].id))
            return -EFAULT;
    return 0;
}

void memory_written(struct memory *m, uint64_t address, uint64_t n)
{
    if (unlikely(m->log))
        dirty_mark(m->log, address, n);
}

void memory_log(struct memory *m, struct dirty *log)
{
    m->log = log;
}

/* Can all of the range be copied? 0 with its first piece, -EFAULT or -EREMOTE. */
static inline int reach(struct memory *m, uint64_t address, uint64_t n, unsigned need,
                        struct memory_piece *first)
{
    if (address + (n - 1) < address || piece_at(m, address, n, need, first))
        return -EFAULT;
    bool remote = !first->base;
    for (uint64_t done = first->size; done < n;) {
        struct memory_piece piece;
        if (piece_at(m, address + done, n - done, need, &piece))
            return -EFAULT;
        remote |= !piece.base;
        done += piece.size;
    }
    return remote ? -EREMOTE : 0;
}

/* Copies to `in` (need: MEMORY_READ) or from `out` (MEMORY_WRITE), n > 0. */
static inline int copy(struct memory *m, uint64_t address, uint8_t *in, const uint8_t *out,
                       size_t n, unsigned need)
{
    struct memory_piece piece;
    int error = reach(m, address, n, need, &piece);
    if (error)
        return error;
    if (need == MEMORY_WRITE)
        memory_written(m, address, n); /* all of it: it does no harm if the end turns out to be lost */
    for (size_t done = 0; !error;) {
        if (need == MEMORY_READ)
            memcpy(in + done, piece.base, piece.size);
        else
            memcpy(piece.base, out + done, piece.size);
        error = memory_check(m, &piece, 1);
        done += piece.size;
        if (done == n)
            break;
        if (!error)
            error = piece_at(m, address + done, n - done, need, &piece);
    }
    return error;
}

int memory_read(struct memory *m, uint64_t address, void *buf, size_t n)
{
    return n == 0 ? 0 : copy(m, address, buf, NULL, n, MEMORY_READ);
}

int memory_write(struct memory *m, uint64_t address, const void *buf, size_t n)
{
    return n == 0 ? 0 : copy(m, address, NULL, buf, n, MEMORY_WRITE);
}

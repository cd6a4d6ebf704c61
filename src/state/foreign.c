/*
 * foreign.c - see foreign.h.
 */
#include "state/foreign.h"
#include "state/step.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static bool lies_inside(const struct block_part *p, uint64_t size)
{
    return memchr(p->name, 0, sizeof p->name) && p->offset <= size && p->size <= size - p->offset &&
           p->offset >= sizeof(struct block_header) && p->offset % 4096 == 0;
}

/* Where the undo log begins, or 0: the header makes no sense. */
static uint64_t check(const struct block_header *h, uint64_t size)
{
    uint64_t end = sizeof *h;

    if (h->magic != BLOCK_MAGIC || h->layout != BLOCK_LAYOUT || h->size != size ||
        h->part_count > BLOCK_MAX_PARTS)
        return 0;
    for (uint32_t i = 0; i < h->part_count; i++) {
        if (!lies_inside(&h->parts[i], size))
            return 0;
        uint64_t after = h->parts[i].offset + h->parts[i].size;
        end = after > end ? after : end;
    }
    return (end + 4095) / 4096 * 4096;
}

int foreign_open(struct foreign *f, int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size < (off_t)sizeof *f->h)
        return -EBADMSG;
    *f = (struct foreign){ .size = (uint64_t)st.st_size, .fd = fd };
    void *p = mmap(NULL, f->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    f->h = p;
    uint64_t undo = check(f->h, f->size);
    struct block b = { .h = p, .undo = (uint8_t *)p + undo, .undo_size = f->size - undo, .fd = fd };
    if (undo && undo <= f->size && step_undo_makes_sense(&b)) {
        step_recover(&b);
        return 0;
    }
    munmap(p, f->size);
    return -EBADMSG;
}

void foreign_close(struct foreign *f)
{
    munmap(f->h, f->size);
    close(f->fd);
}

void *foreign_part(const struct foreign *f, const char *name, uint64_t *size)
{
    for (uint32_t i = 0; i < f->h->part_count; i++) {
        if (strcmp(f->h->parts[i].name, name) != 0)
            continue;
        *size = f->h->parts[i].size;
        return (uint8_t *)f->h + f->h->parts[i].offset;
    }
    return NULL;
}

/* To look at a hole would fill it with zeros. (#syscalls worker: lseek) */
void foreign_copy(const struct foreign *f, const void *part, void *to, uint64_t size)
{
    off_t start = (const uint8_t *)part - (const uint8_t *)f->h, end = start + (off_t)size,
          at = start;

    while (at < end) {
        off_t data = lseek(f->fd, at, SEEK_DATA);
        if (data < 0 || data >= end)
            return;
        off_t hole = lseek(f->fd, data, SEEK_HOLE);
        at = hole < 0 || hole > end ? end : hole;
        memcpy((uint8_t *)to + (data - start), (const uint8_t *)part + (data - start),
               (size_t)(at - data));
    }
}

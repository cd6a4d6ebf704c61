/*
 * block.c - making and mapping a block.
 */
#include "state/block.h"
#include "state/step.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096u

static uint64_t pages(uint64_t size)
{
    return (size + PAGE - 1) / PAGE * PAGE;
}

/* Where everything lies, from the parts alone. Room to undo every part whole, and as much again for
 * the heads of many small pieces: the file is sparse, unused room costs nothing. */
static void lay_out(struct block_header *h, const struct block_part *parts, unsigned n, uint64_t *undo)
{
    uint64_t at = pages(sizeof *h);

    memset(h, 0, sizeof *h);
    h->magic = BLOCK_MAGIC;
    h->layout = BLOCK_LAYOUT;
    h->part_count = n;
    for (unsigned i = 0; i < n; i++) {
        memcpy(h->parts[i].name, parts[i].name, sizeof parts[i].name);
        h->parts[i].offset = at;
        h->parts[i].size = parts[i].size;
        at += pages(parts[i].size);
    }
    *undo = at;
    h->size = at + 2 * at;
}

static int map(struct block *b, int fd, uint64_t size, uint64_t undo)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (p == MAP_FAILED)
        return -errno;
    b->h = p;
    b->undo = (uint8_t *)p + undo;
    b->undo_size = size - undo;
    b->fd = fd;
    return 0;
}

int block_create(struct block *b, const struct block_part *parts, unsigned n)
{
    struct block_header h;
    uint64_t undo;

    if (n > BLOCK_MAX_PARTS)
        return -EINVAL;
    lay_out(&h, parts, n, &undo);
    int fd = memfd_create("outboard-block", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    int ret = ftruncate(fd, (off_t)h.size) < 0 ? -errno : map(b, fd, h.size, undo);
    if (ret < 0) {
        close(fd);
        return ret;
    }
    *b->h = h;
    return 0;
}

int block_open(struct block *b, int fd, const struct block_part *parts, unsigned n)
{
    struct block_header h;
    struct stat st;
    uint64_t undo;

    b->h = NULL;
    b->fd = -1;
    if (n > BLOCK_MAX_PARTS)
        return -EINVAL;
    lay_out(&h, parts, n, &undo);
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size < 0 || (uint64_t)st.st_size != h.size)
        return -EPROTO;
    int ret = map(b, fd, h.size, undo);
    if (ret < 0)
        return ret;
    if (memcmp(b->h, &h, offsetof(struct block_header, word)) != 0)
        ret = -EPROTO;
    else if (!step_undo_makes_sense(b))
        ret = -EBADMSG;
    if (ret < 0) {
        munmap(b->h, h.size);
        b->h = NULL;
        b->fd = -1;
    }
    return ret;
}

void block_close(struct block *b)
{
    munmap(b->h, b->h->size);
    close(b->fd);
    b->h = NULL;
    b->fd = -1;
}

void *block_part(const struct block *b, unsigned i)
{
    return (uint8_t *)b->h + b->h->parts[i].offset;
}

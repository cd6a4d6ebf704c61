/* file.c - recognises, checks and maps the files behind regions. See file.h. */
#include "memory/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

int memory_files_init(struct memory_files *fs, uint32_t max)
{
    uint32_t buckets = 1;
    while (buckets < max && buckets < UINT32_MAX / 2)
        buckets *= 2;
    *fs = (struct memory_files){ .max = max, .mask = buckets - 1 };
    fs->file = calloc(max > 0 ? max : 1, sizeof(*fs->file));
    fs->bucket = calloc(buckets, sizeof(*fs->bucket));
    if (fs->file && fs->bucket)
        return 0;
    memory_files_free(fs);
    return -ENOMEM;
}

void memory_files_free(struct memory_files *fs)
{
    for (uint32_t i = 0; i < fs->top; i++)
        if (fs->file[i].used)
            close(fs->file[i].fd);
    free(fs->file);
    free(fs->bucket);
    *fs = (struct memory_files){ 0 };
}

struct memory_file *memory_files_get(const struct memory_files *fs, uint32_t number)
{
    return number < fs->max && fs->file[number].used ? &fs->file[number] : NULL;
}

static uint32_t *bucket_of(struct memory_files *fs, const struct memory_file *file)
{
    uint64_t hash = ((uint64_t)file->ino ^ (uint64_t)file->dev << 32 ^ (uint64_t)file->mode << 24) *
                    0x9e3779b97f4a7c15u;
    return &fs->bucket[(uint32_t)(hash >> 32) & fs->mask];
}

/* Fills in all that the descriptor says about the file. 0, or why it cannot back guest memory. */
/* #syscalls worker: fcntl fstatfs fstat newfstatat */
static int examine(int fd, struct memory_file *file)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return -errno;
    int mode = flags & O_ACCMODE;
    if ((flags & O_PATH) || (mode != O_RDONLY && mode != O_RDWR))
        return -EINVAL;

    /* Only files in memory (memfd, tmpfs, hugetlbfs) have seals. */
    int seals = fcntl(fd, F_GET_SEALS);
    struct statfs system;
    if (fstatfs(fd, &system) < 0)
        return -EINVAL;
    /* A file system of a user's process can keep any access waiting for good. */
    if (seals < 0 && system.f_type == FUSE_SUPER_MAGIC)
        return -EINVAL;
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return -EINVAL;

    long page = sysconf(_SC_PAGESIZE);
    if (system.f_type == HUGETLBFS_MAGIC)
        page = system.f_bsize;
    if (page <= 0 || page > 1 << 30)
        return -EINVAL;
    bool sealed = seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE));
    *file = (struct memory_file){
        .used = true,
        .write = mode == O_RDWR && !sealed,
        .fd = fd,
        .mode = mode,
        .dev = st.st_dev,
        .ino = st.st_ino,
        .page = (uint32_t)page,
    };
    return 0;
}

int memory_files_add(struct memory_files *fs, int fd, uint32_t *number)
{
    struct memory_file file;
    int error = examine(fd, &file);
    if (error) {
        if (error != -EBADF)
            close(fd);
        return error;
    }
    uint32_t *bucket = bucket_of(fs, &file);
    for (uint32_t i = *bucket; i != 0; i = fs->file[i - 1].next) {
        const struct memory_file *known = &fs->file[i - 1];
        if (known->dev == file.dev && known->ino == file.ino && known->mode == file.mode) {
            close(fd);
            *number = i - 1;
            return 0;
        }
    }
    if (*number >= fs->max || fs->file[*number].used) {
        close(fd);
        return -EINVAL;
    }
    file.next = *bucket;
    *bucket = *number + 1;
    fs->file[*number] = file;
    if (fs->top <= *number)
        fs->top = *number + 1;
    return 1;
}

static void forget(struct memory_files *fs, uint32_t number)
{
    struct memory_file *file = &fs->file[number];
    uint32_t *link = bucket_of(fs, file);
    while (*link != number + 1)
        link = &fs->file[*link - 1].next;
    *link = file->next;
    close(file->fd);
    file->used = false;
}

void memory_files_drop(struct memory_files *fs, uint32_t number)
{
    const struct memory_file *file = memory_files_get(fs, number);
    if (file && file->regions == 0)
        forget(fs, number);
}

/* Maps the pages of [offset, offset + size), if they can be counted. */
static int map_range(struct memory_file *file, uint64_t offset, uint64_t size)
{
    uint64_t page = file->page;
    uint64_t start = offset & ~(page - 1);
    uint64_t end = (offset + size + page - 1) & ~(page - 1);
    return memory_mapping_new(file->fd, start, end - start, file->page,
                              file->write ? PROT_READ | PROT_WRITE : PROT_READ, &file->mapping);
}

static bool serves(const struct memory_mapping *m, uint64_t offset, uint64_t size)
{
    return m && !memory_mapping_is_broken(m) && offset >= m->offset &&
           offset + size <= m->offset + memory_mapping_length(m);
}

int memory_files_attach(struct memory_file *file, uint64_t offset, uint64_t size,
                        struct memory_mapping **mapping, uint8_t **base)
{
    struct stat st;
    if (fstat(file->fd, &st) < 0 || st.st_size < 0)
        return -EINVAL;
    uint64_t end = (uint64_t)st.st_size;
    if (offset > end || size > end - offset)
        return -EINVAL;

    if (!serves(file->mapping, offset, size)) {
        struct memory_mapping *before = file->mapping;
        int error = map_range(file, 0, end);
        if (error == -ENOSPC)
            error = map_range(file, offset, size);
        if (error) {
            file->mapping = before;
            return error;
        }
    }
    *mapping = file->mapping;
    (*mapping)->users++;
    file->regions++;
    *base = (uint8_t *)atomic_load(&(*mapping)->start) + (offset - (*mapping)->offset);
    return 0;
}

bool memory_files_detach(struct memory_files *fs, uint32_t number, struct memory_mapping *mapping)
{
    struct memory_file *file = &fs->file[number];
    if (--mapping->users == 0) {
        if (file->mapping == mapping)
            file->mapping = NULL;
        memory_mapping_free(mapping);
    }
    if (--file->regions > 0)
        return false;
    forget(fs, number);
    return true;
}

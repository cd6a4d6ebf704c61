/*
 * file.h - the files behind regions: one descriptor for each, and as few mappings as possible.
 *
 * A file is known by device, inode and access mode. All of it is mapped at once, when its first
 * region comes; a region beyond that mapping, as the file has grown since, makes another one of the
 * whole file. Only where the whole does not fit into the address space is the region's own range
 * mapped.
 *
 * Belongs to one struct memory, and to its thread.
 */
#ifndef MEMORY_FILE_H
#define MEMORY_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "memory/mapping.h"

struct memory_file {
    bool used;
    bool write; /* writable regions are possible */
    int fd;
    int mode; /* O_RDONLY or O_RDWR */
    dev_t dev;
    ino_t ino;
    uint32_t page; /* of the page cache: 4096, or a huge page */
    uint32_t regions;
    uint32_t next;                  /* of the same bucket: number + 1 */
    struct memory_mapping *mapping; /* the one made last, while it exists */
};

struct memory_files {
    struct memory_file *file;
    uint32_t *bucket; /* number + 1 of the first file, 0: none */
    uint32_t max;
    uint32_t mask; /* of the buckets */
    uint32_t top;  /* all files are below this number */
};

int memory_files_init(struct memory_files *fs, uint32_t max); /* 0 or -ENOMEM */
void memory_files_free(struct memory_files *fs);              /* closes; mappings are gone before */

/* memory_file_add() and memory_file_drop() of memory.h. */
int memory_files_add(struct memory_files *fs, int fd, uint32_t *number);
void memory_files_drop(struct memory_files *fs, uint32_t number);

/* The file with this number or NULL. */
struct memory_file *memory_files_get(const struct memory_files *fs, uint32_t number);

/*
 * A region begins to use [offset, offset + size) of the file, size > 0. Errors as memory_map().
 * *base is where the range starts.
 */
int memory_files_attach(struct memory_file *file, uint64_t offset, uint64_t size,
                        struct memory_mapping **mapping, uint8_t **base);

/* A region ends. True: the file went with it. */
bool memory_files_detach(struct memory_files *fs, uint32_t number, struct memory_mapping *mapping);

#endif

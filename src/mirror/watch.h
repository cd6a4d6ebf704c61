/*
 * watch.h - what the kernel tells about the client's process. All of it fails quietly where this
 * process may not look: then nothing is found.
 */
#ifndef MIRROR_WATCH_H
#define MIRROR_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct watch {
    /* The file that the client may map, and up to where; no file: 0. */
    dev_t map_device;
    ino_t map_inode;
    uint64_t map_limit;
    /* A file of which the client got a descriptor that it has to close. */
    dev_t gift_device;
    ino_t gift_inode;
    unsigned held;      /* how many looks in a row it was still there */
    uint64_t anonymous; /* bytes of its own memory when the misbehaviour happened */
};

/* From now on, look for mappings of this file beyond `limit` bytes. */
void watch_map(struct watch *w, int fd, uint64_t limit);
/* From now on, look for descriptors of this file. */
void watch_gift(struct watch *w, int fd);

/* Where the client's mappings of the file end; 0: it has none. */
uint64_t watch_map_end(const struct watch *w, pid_t pid);
/* Does the client hold the gift? */
bool watch_holds(const struct watch *w, pid_t pid);
/* Bytes of memory that are the process's own, 0 if unknown. */
uint64_t watch_anonymous(pid_t pid);

#endif

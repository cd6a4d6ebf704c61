/*
 * descriptors.h - descriptors of every kind, as a hostile peer may send them.
 */
#ifndef FUZZ_DESCRIPTORS_H
#define FUZZ_DESCRIPTORS_H

#include <stdint.h>

#define MEMORY_BYTES 0x10000u /* of the memory files */

enum kind {
    FD_MEMORY,       /* a memory file, MEMORY_BYTES long, which an input may truncate */
    FD_EVENT,        /* an eventfd */
    FD_SEALED,       /* a memory file that cannot shrink */
    FD_EVENT_2,
    FD_SEALED_WRITE, /* sealed against writing */
    FD_READ_ONLY,    /* a memory file opened for reading */
    FD_WRITE_ONLY,
    FD_UNLINKED,     /* a file on a disk that has no name any more */
    FD_HUGE,         /* a sparse memory file of almost 2^63 bytes */
    FD_EMPTY,        /* a memory file of 0 bytes */
    FD_EVENT_FULL,   /* an eventfd to which nothing can be written without waiting */
    FD_PIPE_IN,      /* the ends of a pipe */
    FD_PIPE_OUT,
    FD_PIPE_CLOSED,  /* the end of one whose other end is closed */
    FD_SOCKET,
    FD_DIRECTORY,
    FD_PATH,         /* O_PATH */
    FD_NULL,         /* /dev/null, /dev/zero, /dev/full */
    FD_ZERO,
    FD_FULL,
    FD_EPOLL,
    FD_TIMER,
    FD_INOTIFY,
    FD_KINDS,
};

extern int descriptor[FD_KINDS];

void descriptors_open(void);

/* Cuts the file of FD_MEMORY off; and puts it back. */
void descriptor_truncate(uint32_t size);
void descriptors_restore(void);

/* The kind that a byte stands for: the useful ones more often. */
enum kind descriptor_kind(uint8_t byte);

/* The number that a new descriptor has, and how many sockets are open: after an input the same as before
 * it, or one was left open. */
int descriptor_lowest(void);

#endif

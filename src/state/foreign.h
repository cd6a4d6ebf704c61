/*
 * foreign.h - the block of another build, to be read from.
 *
 * It is mapped privately: what is changed here is not changed there, so that it can be tried again, or be
 * left alone. Its header says where its parts are, and is checked; what is in them is not.
 */
#ifndef STATE_FOREIGN_H
#define STATE_FOREIGN_H

#include "state/block.h"

struct foreign {
    struct block_header *h;
    uint64_t size;
    int fd;
};

/* Opens the block behind fd, which becomes its own if this succeeds, and undoes the step that was not done.
 * 0, -EINVAL: not a block of this format, or -errno. */
int foreign_open(struct foreign *f, int fd);
void foreign_close(struct foreign *f);

/* The part of this name, and its size, or NULL. */
void *foreign_part(const struct foreign *f, const char *name, uint64_t *size);

/* Copies `size` bytes of a part into memory that is all zeros: only pages that are there. */
void foreign_copy(const struct foreign *f, const void *part, void *to, uint64_t size);

#endif

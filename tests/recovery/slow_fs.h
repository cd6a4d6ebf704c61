/*
 * slow_fs.h - a file system of one file, "disk", which holds up a read or a write when it is asked to.
 *
 * It is served by a thread of this process, over /dev/fuse. What is held is under way in the kernel: a process that
 * asked for it asynchronously can die, and the read or write lands when it is released.
 */
#ifndef SLOW_FS_H
#define SLOW_FS_H

#include <stdbool.h>
#include <stdint.h>

enum slow_what { SLOW_NOTHING, SLOW_READ, SLOW_WRITE };

extern uint8_t *slow_bytes; /* of the file, as they are on this "disk" now */

/* Mounts it there, in a mount namespace of this process's own. false: this machine does not let us. */
bool slow_mount(const char *folder, uint64_t size);
void slow_unmount(const char *folder);

/* The next read or write that begins at this byte is held. What a read will return is what is there then. */
void slow_hold(enum slow_what what, uint64_t offset);
bool slow_wait_held(void); /* up to 20 s */
void slow_release(void);   /* it is done when this returns */

#endif

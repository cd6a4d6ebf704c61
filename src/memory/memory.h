/*
 * memory.h - guest memory as the server of a device reaches it.
 *
 * A client makes ranges of its DMA address space available: regions, each with or without a file
 * behind it. This floor knows which regions there are, finds the one that holds an address, checks
 * bounds and access rights, and turns ranges into pointers. It sends no messages: a range without a
 * file comes back as a piece without a pointer, and the caller fetches it by DMA_READ or DMA_WRITE.
 *
 * It promises:
 *  - Regions never overlap. A range may cross from one region into the next: it becomes several
 *    pieces, in order.
 *  - Files are recognised (device, inode, access mode): all regions of one file share one
 *    descriptor and, as far as the file's size allows, one mapping. A mapping exists while a region
 *    uses it.
 *  - Finding a region costs O(log n), O(1) when it is the one found last. Adding and removing one
 *    costs O(log n) as well: 65,535 regions can come and go.
 *  - Access rights are those of the region. A file that was opened read-only cannot back a writable
 *    region (-EACCES).
 *  - A client that truncates its file below a region hurts only itself: an access to the lost pages
 *    ends with -EFAULT, and so do all later ones to that mapping, until the client maps its regions
 *    anew. (A SIGBUS handler, for the whole process, installed with the first mapping, puts zeros
 *    where the mapping was and marks it broken. Faults outside our mappings go to the handler that
 *    was there before. It works in any thread and calls mmap(), which a sandbox must allow, beside
 *    the fcntl(), fstat(), fstatfs(), mmap(), munmap() and close() of this floor's other
 *    functions.)
 *  - Every write to guest memory, by copy or by pointer, passes memory_written(), behind which is the
 *    dirty log (dirty.h). What is copied is marked before it is written, so that a process may die in
 *    between.
 *  - Nothing is allocated by translate, read or write.
 *
 * Numbers of regions and files (`id`, `file`) are chosen by the caller, below the limits given to
 * memory_new(): they name the entries of a table which outlives this process, and a successor
 * rebuilds this floor from that table alone.
 *
 * One thread uses one struct memory. Different ones are independent.
 */
#ifndef MEMORY_MEMORY_H
#define MEMORY_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct memory;

#define MEMORY_NO_FILE UINT32_MAX
#define MEMORY_READ 1u  /* the device may read, VFIO_DMA_MAP_FLAG_READ */
#define MEMORY_WRITE 2u /* the device may write, VFIO_DMA_MAP_FLAG_WRITE */

struct memory_region {
    uint64_t address; /* of the DMA address space */
    uint64_t size;
    uint64_t offset;  /* in the file */
    uint32_t file;    /* number of its file, or MEMORY_NO_FILE */
    uint32_t flags;   /* MEMORY_READ | MEMORY_WRITE */
};

/*
 * A part of a range: in one region, contiguous. base is NULL where there is no file behind it. It
 * is good until its region is removed, and the other side may write there at any time: what was
 * checked must be a copy.
 */
struct memory_piece {
    void *base;
    uint64_t address;
    uint64_t size;
    uint32_t id;
};

/* max_regions: 1 to 2^26. NULL with errno. The tables take memory as they are used. */
struct memory *memory_new(uint32_t max_regions, uint32_t max_files);
void memory_free(struct memory *m); /* unmaps all, closes all */

/*
 * Makes a file known. Takes the descriptor over in every case. If the same file is known already,
 * the descriptor is closed and *file becomes its number; else the file gets number *file, which
 * must be free. Returns 1 (new), 0 (known), or:
 *   -EINVAL  not a regular file (memfd, shared memory, huge pages, or on a disk) that is open for
 *            reading; a file of a user-space file system, whose server could keep any access
 *            waiting for good; *file out of range or in use
 *   -EBADF   not a descriptor
 * A new file that no region uses yet is dropped by memory_file_drop(), which does nothing for
 * others; one that regions used goes with the last of them.
 */
int memory_file_add(struct memory *m, int fd, uint32_t *file);
void memory_file_drop(struct memory *m, uint32_t file);
int memory_file_fd(const struct memory *m, uint32_t file); /* -1: no such file */

/*
 * Adds region `id`. It may end at 2^64. Nothing changes if this fails:
 *   -EINVAL  size 0, or it wraps round; other flags; id out of range or in use; no such file; in a
 *            file: offset not a multiple of the page size (sysconf), or some of the range is
 *            beyond the end that the file has now
 *   -EEXIST  overlaps a region
 *   -EACCES  writable, but the file is open for reading or sealed against writing
 *   -ENOSPC  no room for another mapping: the kernel's limit (vm.max_map_count), the address space,
 *            or 61,440 mappings in this process, which leaves the process some to live on
 */
int memory_map(struct memory *m, uint32_t id, const struct memory_region *r);

/* Removes the region with exactly this address and size. Its id (>= 0) or -ENOENT. *file_gone: the
 * number of the file that went with it, or MEMORY_NO_FILE. */
int64_t memory_unmap(struct memory *m, uint64_t address, uint64_t size, uint32_t *file_gone);
/* Removes all regions, and all files that had some. */
void memory_unmap_all(struct memory *m);
uint32_t memory_count(const struct memory *m);

/* The region that holds this address or, if none does, the first one above: its id (>= 0), or -ENOENT. */
int64_t memory_next(const struct memory *m, uint64_t address);

/*
 * Splits [address, address + n) into pieces, all of which allow `need` (MEMORY_READ, MEMORY_WRITE
 * or both). Returns their number (0 if n is 0), or -EFAULT (a hole, beyond 2^64, a right is
 * missing, the file is lost), -E2BIG (more than max pieces; what is behind those was not looked
 * at).
 */
int memory_translate(struct memory *m, uint64_t address, uint64_t n, unsigned need,
                     struct memory_piece *pieces, int max);

/*
 * Copies, if all of the range is mapped and allows it. 0, -EFAULT, or -EREMOTE: some of it has no
 * file, and nothing was copied. Where the client truncates its file during the copy, -EFAULT leaves
 * anything in the buffer.
 */
int memory_read(struct memory *m, uint64_t address, void *buf, size_t n);
int memory_write(struct memory *m, uint64_t address, const void *buf, size_t n);

/*
 * To be called for what is written through a piece, by whoever does it: after [address, address + n) was
 * written; and before, if the process may die in between, or if the log may be read.
 */
void memory_written(struct memory *m, uint64_t address, uint64_t n);

/* Where writes are logged from now on; NULL: nowhere. The log stays the caller's. */
struct dirty;
void memory_log(struct memory *m, struct dirty *log);

/*
 * To be called after accesses through pieces, before their results are believed: did any access to
 * these pieces' mappings meet pages that the client had truncated? 0 or -EFAULT. (Data that was
 * read may then be zeros, what was written is lost.) Costs one comparison while no mapping is
 * broken.
 */
int memory_check(struct memory *m, const struct memory_piece *pieces, int n);

#endif

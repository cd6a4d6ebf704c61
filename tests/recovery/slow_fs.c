/*
 * slow_fs.c - see slow_fs.h. The protocol is the kernel's own, <linux/fuse.h>.
 */
#include "slow_fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FILE_ID 2u
#define MOST (128u << 10) /* bytes of a read or write */

uint8_t *slow_bytes;
static uint64_t file_bytes;
static int device = -1;
static pthread_t thread;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static enum slow_what wanted;
static uint64_t wanted_at;
static struct {
    enum slow_what what;
    uint64_t unique, offset;
    uint32_t size;
    uint8_t bytes[MOST];
} held;

/* ---- Answers ---------------------------------------------------------------------------------------- */

static void answer(uint64_t unique, int error, const void *body, size_t n)
{
    struct fuse_out_header h = { .len = (uint32_t)(sizeof h + n), .error = -error, .unique = unique };
    struct iovec iov[] = { { &h, sizeof h }, { (void *)(uintptr_t)body, n } };

    if (writev(device, iov, n ? 2 : 1) < 0 && errno != ENOENT)
        perror("slow_fs: answer");
}

static struct fuse_attr attributes(uint64_t id)
{
    struct fuse_attr a = { .ino = id, .mode = S_IFDIR | 0700, .nlink = 1, .uid = getuid(), .gid = getgid(),
                           .blksize = 4096 };
    if (id == FILE_ID) {
        a.mode = S_IFREG | 0600;
        a.size = file_bytes;
    }
    return a;
}

static void lookup(const struct fuse_in_header *h, const char *name)
{
    struct fuse_entry_out e = { .nodeid = FILE_ID, .entry_valid = 1000, .attr_valid = 1000,
                                .attr = attributes(FILE_ID) };
    if (strcmp(name, "disk") == 0)
        answer(h->unique, 0, &e, sizeof e);
    else
        answer(h->unique, ENOENT, NULL, 0);
}

static void init(const struct fuse_in_header *h, const struct fuse_init_in *in)
{
    struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION, .minor = FUSE_KERNEL_MINOR_VERSION,
                                 .max_readahead = in->max_readahead, .max_background = 64,
                                 .flags = FUSE_ASYNC_READ | FUSE_ASYNC_DIO | FUSE_BIG_WRITES | FUSE_MAX_PAGES,
                                 .congestion_threshold = 64, .max_write = MOST, .max_pages = MOST / 4096 };
    answer(h->unique, 0, &out, sizeof out);
}

/* ---- Reads and writes ------------------------------------------------------------------------------- */

/* True: it is held, and what is needed to do it later is kept. */
static bool hold(enum slow_what what, const struct fuse_in_header *h, uint64_t offset, uint32_t size,
                 const void *bytes)
{
    pthread_mutex_lock(&lock);
    bool is = wanted == what && wanted_at == offset;
    if (is) {
        wanted = SLOW_NOTHING;
        held.what = what;
        held.unique = h->unique;
        held.offset = offset;
        held.size = size;
        memcpy(held.bytes, bytes, size);
        pthread_cond_broadcast(&changed);
    }
    pthread_mutex_unlock(&lock);
    return is;
}

static void serve_read(const struct fuse_in_header *h, const struct fuse_read_in *in)
{
    uint64_t left = in->offset < file_bytes ? file_bytes - in->offset : 0;
    uint32_t n = in->size < left ? in->size : (uint32_t)left;

    if (!hold(SLOW_READ, h, in->offset, n, slow_bytes + in->offset))
        answer(h->unique, 0, slow_bytes + in->offset, n);
}

static void serve_write(const struct fuse_in_header *h, const struct fuse_write_in *in)
{
    struct fuse_write_out out = { .size = in->size };

    if (in->offset + in->size > file_bytes) {
        answer(h->unique, ENOSPC, NULL, 0);
    } else if (!hold(SLOW_WRITE, h, in->offset, in->size, in + 1)) {
        memcpy(slow_bytes + in->offset, in + 1, in->size);
        answer(h->unique, 0, &out, sizeof out);
    }
}

static void serve(const struct fuse_in_header *h)
{
    struct fuse_attr_out attr = { .attr_valid = 1000, .attr = attributes(h->nodeid) };
    struct fuse_open_out opened = { 0 };
    struct fuse_statfs_out fs = { .st = { .bsize = 4096, .namelen = 255 } };

    switch (h->opcode) {
    case FUSE_INIT: init(h, (const void *)(h + 1)); break;
    case FUSE_LOOKUP: lookup(h, (const char *)(h + 1)); break;
    case FUSE_GETATTR: answer(h->unique, 0, &attr, sizeof attr); break;
    case FUSE_OPEN:
    case FUSE_OPENDIR: answer(h->unique, 0, &opened, sizeof opened); break;
    case FUSE_READ: serve_read(h, (const void *)(h + 1)); break;
    case FUSE_WRITE: serve_write(h, (const void *)(h + 1)); break;
    case FUSE_STATFS: answer(h->unique, 0, &fs, sizeof fs); break;
    case FUSE_FLUSH:
    case FUSE_FSYNC:
    case FUSE_ACCESS:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR: answer(h->unique, 0, NULL, 0); break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT: break; /* no answer is wanted */
    default: answer(h->unique, ENOSYS, NULL, 0); break;
    }
}

static void *run(void *ctx)
{
    static uint8_t request[MOST + 4096] __attribute__((aligned(8)));
    ssize_t n;
    (void)ctx;

    while ((n = read(device, request, sizeof request)) > 0 || (n < 0 && (errno == EINTR || errno == ENOENT)))
        if (n > 0)
            serve((const struct fuse_in_header *)(const void *)request);
    return NULL; /* unmounted */
}

/* ---- What the test says ------------------------------------------------------------------------------ */

bool slow_mount(const char *folder, uint64_t size)
{
    char options[128];

    slow_bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    file_bytes = size;
    device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%u,group_id=%u", device, getuid(), getgid());
    return slow_bytes != MAP_FAILED && device >= 0 && unshare(CLONE_NEWNS) == 0 &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("slow", folder, "fuse", MS_NOSUID | MS_NODEV, options) == 0 &&
           pthread_create(&thread, NULL, run, NULL) == 0;
}

void slow_unmount(const char *folder)
{
    umount2(folder, MNT_DETACH);
    pthread_join(thread, NULL);
    close(device);
    munmap(slow_bytes, file_bytes);
}

void slow_hold(enum slow_what what, uint64_t offset)
{
    pthread_mutex_lock(&lock);
    wanted = what;
    wanted_at = offset;
    pthread_mutex_unlock(&lock);
}

bool slow_wait_held(void)
{
    struct timespec end;
    int ret = 0;

    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += 20;
    pthread_mutex_lock(&lock);
    while (!held.what && ret == 0)
        ret = pthread_cond_timedwait(&changed, &lock, &end);
    bool is = held.what != SLOW_NOTHING;
    pthread_mutex_unlock(&lock);
    return is;
}

/* The kernel has put the data where they were to go when the answer's write(2) returns. */
void slow_release(void)
{
    struct fuse_write_out out;

    pthread_mutex_lock(&lock);
    out = (struct fuse_write_out){ .size = held.size };
    if (held.what == SLOW_WRITE) {
        memcpy(slow_bytes + held.offset, held.bytes, held.size);
        answer(held.unique, 0, &out, sizeof out);
    } else if (held.what == SLOW_READ) {
        answer(held.unique, 0, held.bytes, held.size);
    }
    held.what = SLOW_NOTHING;
    pthread_mutex_unlock(&lock);
}

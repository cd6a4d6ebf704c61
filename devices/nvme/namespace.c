/*
 * namespace.c - the files that namespaces are, and what happens when their sizes change.
 *
 * A file that grows makes its namespace grow, which the driver is told; one that shrinks does not make
 * the namespace shrink, but its lost blocks give errors.
 *
 * Sizes are looked at with each admin command, and without one: while the disk is idle, inotify tells
 * of a change. While there are writes, which inotify would tell of too, a timer looks once a second
 * instead. So an idle disk causes no wake-up, and a busy one pays one a second.
 */
#include "nvme.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define LOOK_NS 1000000000u

/* ---- Opening --------------------------------------------------------------------------------------- */

/* #syscalls nvme: fstat newfstatat ioctl[1]=BLKGETSIZE64 */
static int file_size(int fd, uint64_t *bytes)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISREG(st.st_mode)) {
        *bytes = (uint64_t)st.st_size;
        return 0;
    }
    if (!S_ISBLK(st.st_mode))
        return -EMEDIUMTYPE;
    return ioctl(fd, BLKGETSIZE64, bytes) < 0 ? -errno : 0;
}

/* What O_DIRECT wants of addresses and offsets. */
static uint32_t direct_alignment(int fd)
{
    struct statx x;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) == 0 && (x.stx_mask & STATX_DIOALIGN) &&
        x.stx_dio_mem_align && x.stx_dio_offset_align)
        return x.stx_dio_offset_align > x.stx_dio_mem_align ? x.stx_dio_offset_align
                                                           : x.stx_dio_mem_align;
    int sector = 0;
    return ioctl(fd, BLKSSZGET, &sector) == 0 && sector > 0 ? (uint32_t)sector : 512;
}

static uint8_t find_at_once(int fd, bool direct)
{
    struct statfs fs;

    if (fstatfs(fd, &fs) == 0 && ((uint32_t)fs.f_type == TMPFS_MAGIC || (uint32_t)fs.f_type == RAMFS_MAGIC))
        return AT_ONCE_READ | AT_ONCE_WRITE | AT_ONCE_MEMORY;
    return direct ? 0 : AT_ONCE_READ | AT_ONCE_WRITE; /* what RWF_NOWAIT can do shows when it is tried */
}

static uint64_t hash(uint64_t h, const char *text)
{
    while (*text)
        h = (h ^ (uint8_t)*text++) * 0x100000001b3u;
    return h;
}

/* Says what is wrong with a file, and returns the error. */
static int wrong(struct ob_device *dev, const char *path, int error)
{
    switch (error) {
    case -EMEDIUMTYPE: ob_error(dev, "%s: neither a file nor a block device", path); break;
    case -ENODATA: ob_error(dev, "%s: the file is empty; make it as large as the disk should be "
                                 "(truncate -s 1G FILE)", path); break;
    default: ob_error(dev, "%s: %s", path, strerror(-error)); break;
    }
    return error;
}

static int open_file(struct ob_device *dev, uint32_t i, const char *path, bool direct)
{
    struct private *p = ob_private(dev);
    struct nvme_namespace *ns = &p->ns[i];
    char *real = realpath(path, NULL);

    ns->hash = hash(0xcbf29ce484222325u, real ? real : path);
    free(real);
    /* Not to wait for the other end of a pipe; later the flag would have a meaning for io_uring. */
    int flags = (p->readonly ? O_RDONLY : O_RDWR) | (direct ? O_DIRECT : 0);
    int ret = ob_open(dev, "file", i, flags | O_NONBLOCK);
    ns->fd = ret < 0 ? -1 : ret;
    if (ns->fd >= 0 && fcntl(ns->fd, F_SETFL, flags) < 0)
        return wrong(dev, path, -errno);
    if (ret == -EINVAL && direct) {
        ob_error(dev, "%s: this file system has no direct I/O (direct=off)", path);
        return -EINVAL;
    }
    if ((ret == -EACCES || ret == -EROFS) && !p->readonly) {
        ob_error(dev, "%s: %s (readonly=on serves a file that cannot be written)", path, strerror(-ret));
        return ret;
    }
    if (ret < 0)
        return wrong(dev, path, ret);
    ret = file_size(ns->fd, &ns->bytes);
    if (ret == 0 && ns->bytes == 0)
        ret = -ENODATA;
    if (ret == 0)
        ret = lock_open(dev, i);
    if (ret < 0)
        return wrong(dev, path, ret);
    ns->blocks = ns->bytes >> p->lba_shift;
    if (ns->blocks == 0) {
        ob_error(dev, "%s: smaller than a block of %u bytes", path, 1u << p->lba_shift);
        return -EINVAL;
    }
    if (ns->bytes & ((1u << p->lba_shift) - 1))
        ob_error(dev, "%s: its size is no multiple of %u; the last %u bytes are not served", path,
                 1u << p->lba_shift, (unsigned)(ns->bytes & ((1u << p->lba_shift) - 1)));
    ns->align = direct ? direct_alignment(ns->fd) : 1;
    if (ns->align > 1u << p->lba_shift) {
        ob_error(dev, "%s: direct I/O needs blocks of %u bytes here (lba=4096, or direct=off)", path,
                 ns->align);
        return -EINVAL;
    }
    ns->at_once = find_at_once(ns->fd, direct);
    return 0;
}

/* The keeper has it too: the kernel takes some 15 ms to end one, and a process does not die before. */
static void open_inotify(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    p->inotify = ob_kept(dev, KEEP_INOTIFY);
    if (p->inotify >= 0)
        return;
    p->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (p->inotify >= 0)
        ob_keep(dev, KEEP_INOTIFY, p->inotify);
}

int namespaces_open(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    const char *path;
    bool direct;

    open_inotify(dev);
    if (ob_parse_bool(ob_option(dev, "direct"), &direct) < 0)
        return -EINVAL;
    for (unsigned i = 0; (path = ob_option_nth(dev, "file", i)); i++) {
        if (i == NAMESPACES) {
            ob_error(dev, "at most %u files", NAMESPACES);
            return -EINVAL;
        }
        p->ns[i].fd = p->ns[i].owner = -1;
        p->namespaces = i + 1;
        int ret = open_file(dev, i, path, direct);
        if (ret < 0)
            return ret;
    }
    return 0;
}

void namespaces_close(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    for (uint32_t i = 0; i < p->namespaces; i++) {
        lock_close(dev, i);
        if (p->ns[i].fd >= 0)
            close(p->ns[i].fd);
    }
    if (p->inotify >= 0) {
        ob_unwatch(dev, p->inotify);
        close(p->inotify);
    }
}

/* ---- Sizes ----------------------------------------------------------------------------------------- */

void namespaces_measure(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    for (uint32_t i = 0; i < p->namespaces; i++)
        file_size(p->ns[i].fd, &p->ns[i].bytes);
}

void namespaces_look(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    for (uint32_t i = 0; i < p->namespaces; i++) {
        struct nvme_namespace *ns = &p->ns[i];
        uint64_t bytes;
        if (file_size(ns->fd, &bytes) < 0)
            continue;
        if (bytes < ns->bytes && bytes >> p->lba_shift < s->blocks[i])
            ob_error(dev, "file %u has become shorter: %llu bytes of it are gone", i + 1,
                     (unsigned long long)((s->blocks[i] << p->lba_shift) - bytes));
        ns->bytes = bytes;
        if (bytes >> p->lba_shift <= s->blocks[i])
            continue;
        ns->blocks = bytes >> p->lba_shift;
        SET(dev, s->blocks[i], ns->blocks);
        SET(dev, s->changed[i / 32], s->changed[i / 32] | 1u << i % 32);
        event_happened(dev, EVENT_NS_CHANGED);
        work_soon(dev);
    }
}

static void look_later(struct ob_device *dev)
{
    ob_timer_set(dev, TIMER_SIZES, ob_now(dev) + LOOK_NS);
}

/* Idle: inotify tells of changes. (A block device has no such thing: admin commands look.) Where it is not
 * to be had, the timer goes on. */
static void watch(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    for (uint32_t i = 0; i < p->namespaces; i++) {
        p->ns[i].watch = ob_watch_file(dev, p->inotify, "file", i);
        p->sizes_watched |= p->ns[i].watch >= 0;
    }
    namespaces_look(dev); /* what changed before the watch was there */
    if (!p->sizes_watched)
        look_later(dev);
}

/* #syscalls nvme: inotify_rm_watch */
static void unwatch(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    for (uint32_t i = 0; i < p->namespaces; i++)
        if (p->ns[i].watch >= 0)
            inotify_rm_watch(p->inotify, p->ns[i].watch);
    p->sizes_watched = false;
    look_later(dev);
}

/* #syscalls nvme: read */
static void changed(struct ob_device *dev, int fd, uint32_t events)
{
    struct private *p = ob_private(dev);
    char buf[4096] __attribute__((aligned(8)));

    (void)events;
    for (ssize_t n; (n = read(fd, buf, sizeof buf)) > 0;)
        ob_moved(dev, (uint64_t)n, 0);
    namespaces_look(dev);
    if (p->sizes_watched)
        unwatch(dev); /* somebody writes: not one wake-up for each time */
}

void namespaces_written(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    if (p->sizes_watched)
        unwatch(dev);
}

void namespaces_timer(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    if (p->inotify < 0)
        return;
    if (p->written) {
        p->written = false;
        namespaces_look(dev);
        look_later(dev);
        return;
    }
    watch(dev);
}

void namespaces_reset(struct ob_device *dev)
{
    look_later(dev);
}

int namespaces_start(struct ob_device *dev)
{
    struct nvme *s = ob_state(dev);
    struct private *p = ob_private(dev);

    for (uint32_t i = 0; i < p->namespaces; i++) {
        if (s->blocks[i] == 0)
            SET(dev, s->blocks[i], p->ns[i].blocks);
        p->ns[i].blocks = s->blocks[i]; /* a successor goes on with what the guest was told */
    }
    if (p->inotify < 0)
        return 0; /* none to be had: admin commands look */
    watch(dev);
    return ob_watch(dev, p->inotify, EPOLLIN, changed);
}

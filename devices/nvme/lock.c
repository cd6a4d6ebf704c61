/*
 * lock.c - whose the files are, and when the I/O of a process that has died is over.
 *
 * Locks of open file descriptions (F_OFD_SETLK), in two ranges of bytes that have nothing to do with data:
 *
 *   [0, BARRIER)        The file is this device's, or with readonly=on nobody's who writes. The description that
 *                       holds it does no I/O, and the keeper has it too: between two processes of one device
 *                       nobody else gets in. (QEMU locks bytes 100 to 203 of its images: it is kept out.)
 *   a byte behind that  This process may have I/O under way: of ob_late_locks(), the namespace's. It is held by
 *                       the description that the I/O goes through. The kernel lets go of that when nobody uses it
 *                       any more: not with the process, but with the last of its I/O, which io_uring may finish
 *                       long after the process has gone.
 *
 * So a successor that finds the second range free knows that nothing is to come of its predecessor. Until then it
 * answers registers, and neither executes nor completes a command; the framework acknowledges no unmap and no
 * reset. It looks again by a timer, since a lock that is waited for would need a thread.
 */
#include "nvme.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define BARRIER ((off_t)OB_LATE_LOCKS_START)
#define SOON_NS 250000u
#define LATE_NS 10000000u
#define TELL_NS 1000000000u
#ifndef NVME_NO_BARRIER
#define NVME_NO_BARRIER 0 /* 1: for the test that shows what happens then */
#endif

/* ---- Descriptions ----------------------------------------------------------------------------------- */

static_assert(NAMESPACES <= OB_LATE_LOCKS, "one each");

int lock_open(struct ob_device *dev, uint32_t i)
{
    struct private *p = ob_private(dev);
    struct nvme_namespace *ns = &p->ns[i];

    int ret = p->late_locks ? 0 : ob_late_locks(dev, &p->late_locks);
    if (ret < 0)
        return ret;
    ns->owner = ob_kept(dev, KEEP_OWNER + i);
    if (ns->owner != -ENOENT)
        return ns->owner < 0 ? ns->owner : 0;
    ns->owner = ob_open(dev, "file", i, (p->readonly ? O_RDONLY : O_RDWR) | O_NONBLOCK);
    return ns->owner < 0 ? ns->owner : ob_keep(dev, KEEP_OWNER + i, ns->owner);
}

void lock_close(struct ob_device *dev, uint32_t i)
{
    struct private *p = ob_private(dev);

    if (p->ns[i].owner >= 0)
        close(p->ns[i].owner);
}

/* ---- Whose they are --------------------------------------------------------------------------------- */

static struct flock owning(const struct private *p)
{
    short type = p->readonly ? F_RDLCK : F_WRLCK;
    return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_len = BARRIER };
}

static struct flock using(const struct private *p, uint32_t i)
{
    short type = p->readonly ? F_RDLCK : F_WRLCK;
    return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_len = 1,
                           .l_start = (off_t)p->late_locks + (off_t)i };
}

/* #syscalls nvme: fcntl */
static int set(int fd, struct flock l)
{
    return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

/* The description may have the lock already: what another process of this device took, this one has. */
int lock_files(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    for (uint32_t i = 0; i < p->namespaces; i++) {
        int ret = set(p->ns[i].owner, owning(p));
        if (ret == 0)
            continue;
        lock_release(dev);
        ret = ret == -EAGAIN || ret == -EACCES ? -EBUSY : ret;
        ob_error(dev, "%s: %s", ob_option_nth(dev, "file", i),
                 ret == -EBUSY ? "another process serves this file" : strerror(-ret));
        return ret;
    }
    return 0;
}

/* Between two builds nobody else gets in, either. */
void lock_release(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    for (uint32_t i = 0; i < p->namespaces; i++) {
        struct flock own = owning(p), use = using(p, i);
        own.l_type = use.l_type = F_UNLCK;
        set(p->ns[i].fd, use);
        if (!ob_stays(dev))
            set(p->ns[i].owner, own);
    }
}

/* ---- When it is over -------------------------------------------------------------------------------- */

static bool is_free(int fd, struct flock l)
{
    return fcntl(fd, F_OFD_GETLK, &l) < 0 || l.l_type == F_UNLCK;
}

/* Whoever writes may have nobody's I/O beside his own. Who reads shares the file with others who do, and waits
 * for his predecessor's I/O, which reads too: that lock is asked for as if to write, which needs no right to. */
static bool others_are_done(const struct private *p, uint32_t i)
{
    struct flock all = using(p, i), mine = using(p, i);

    all.l_start = BARRIER;
    all.l_len = 0;
    mine.l_type = F_WRLCK;
    return is_free(p->ns[i].fd, all) && is_free(p->ns[i].fd, mine);
}

static bool begin_using(const struct private *p)
{
    for (uint32_t i = 0; i < p->namespaces && !NVME_NO_BARRIER; i++)
        if (!others_are_done(p, i) || set(p->ns[i].fd, using(p, i)) == -EAGAIN)
            return false;
    return true;
}

void lock_barrier(struct ob_device *dev)
{
    struct private *p = ob_private(dev);
    bool free = begin_using(p);
    uint64_t now = ob_now(dev);

    if (!p->barred && !free)
        p->barred_since = now;
    p->barred = !free;
    ob_hold_memory(dev, p->barred);
    if (!p->barred)
        return;
    uint64_t waited = now - p->barred_since, pause = waited / 8;
    pause = pause < SOON_NS ? SOON_NS : pause > LATE_NS ? LATE_NS : pause;
    if (waited > TELL_NS && !p->barred_told)
        ob_error(dev, "commands wait for what the disk still does for a process that has died");
    p->barred_told = waited > TELL_NS;
    ob_timer_set(dev, TIMER_BARRIER, now + pause);
}

void lock_timer(struct ob_device *dev)
{
    struct private *p = ob_private(dev);

    if (!p->barred)
        return;
    lock_barrier(dev);
    if (p->barred)
        return;
    for (unsigned dma = 0; dma < DMAS; dma++)
        if (p->late_dmas & 1u << dma)
            far_done(dev, dma, p->late_error[dma]);
    p->late_dmas = 0;
    doorbell_start(dev);
    work_soon(dev);
}

void lock_later(struct ob_device *dev, unsigned dma, int error)
{
    struct private *p = ob_private(dev);

    p->late_dmas |= 1u << dma;
    p->late_error[dma] = error;
}

/*
 * late.c - see late.h.
 */
#include "server/late.h"
#include "server/log.h"

#include <assert.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define NUMBER_MASK (((uint64_t)1 << 55) - 1)

static_assert((NUMBER_MASK + 1) * OB_LATE_LOCKS <= OB_LATE_LOCKS_START, "the last byte has an offset");

/* A number that all processes of this device have, and those of no other: that of a file which the keeper has. */
/* #syscalls worker: fstat newfstatat */
static int first_of(int fd, uint64_t *first)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    *first = OB_LATE_LOCKS_START + ((uint64_t)st.st_ino & NUMBER_MASK) * OB_LATE_LOCKS;
    return 0;
}

int ob_late_locks(struct ob_device *dev, uint64_t *first)
{
    const struct server_keeping *k = dev->keeping;
    int fd = k ? k->get(k->ctx, KEEP_LATE) : -ENOENT, ret = 0;

    if (fd == -ENOENT) {
        fd = memfd_create("outboard-late", MFD_CLOEXEC);
        ret = fd < 0 ? -errno : k ? k->put(k->ctx, KEEP_LATE, fd) : 0;
    }
    if (fd < 0)
        return fd;
    if (ret == 0)
        ret = first_of(fd, first);
    close(fd);
    return ret;
}

/* Asked for as if to write, which needs no right to: whoever reads late has a lock for reading. */
static bool is_locked(int fd, uint64_t first)
{
    struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)first, .l_len = OB_LATE_LOCKS };

    return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
}

bool late_io(const struct server_keeping *k)
{
    uint64_t first;
    bool found = false;
    int fd = k->get(k->ctx, KEEP_LATE);

    if (fd < 0)
        return false;
    int ret = first_of(fd, &first);
    close(fd);
    uint32_t name = ret < 0 ? 0 : k->next(k->ctx, KEEP_DEVICE - 1);
    for (; name && name < KEEP_DEVICE + KEEP_DEVICE_NUMBERS && !found; name = k->next(k->ctx, name)) {
        if ((fd = k->get(k->ctx, name)) < 0)
            continue;
        found = is_locked(fd, first);
        close(fd);
    }
    return found;
}

/* Without a keeper there is no way to know: then it is held for as long as there is a client. */
void late_look(struct ob_device *dev)
{
    bool late = dev->keeping ? late_io(dev->keeping) : dev->memory_held && dev->connection.fd >= 0;

    ob_hold_memory(dev, late);
}

void late_look_again(struct ob_device *dev)
{
    late_look(dev);
    if (!late_waits(dev))
        server_push(dev);
}

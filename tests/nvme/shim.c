/*
 * shim.c - see shim.h. To be preloaded; only files that were opened for the disk come here, by calls
 * that nothing else in the process makes.
 */
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&(name)))dlsym(RTLD_NEXT, #name))

static struct shim *shim;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("SHIM_FILE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *p = mmap(NULL, sizeof *shim, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        abort();
    close(fd);
    shim = p;
}

static ssize_t fail(int error)
{
    errno = error;
    return -1;
}

/* By a call that a worker may make. */
static void rest(unsigned us)
{
    poll(NULL, 0, (int)(us / 1000));
}

__attribute__((visibility("default"))) ssize_t preadv64v2(int fd, const struct iovec *iov, int n,
                                                          off64_t at, int flags)
{
    int error = shim->fail_reads;
    return error ? fail(error) : REAL(preadv64v2)(fd, iov, n, at, flags);
}

__attribute__((visibility("default"))) ssize_t pwritev64v2(int fd, const struct iovec *iov, int n,
                                                           off64_t at, int flags)
{
    int error = shim->fail_writes;

    shim->writes++;
    if (error)
        return fail(error);
    if (flags & RWF_DSYNC)
        rest(shim->slow_us);
    ssize_t done = REAL(pwritev64v2)(fd, iov, n, at, flags);
    if (flags & RWF_DSYNC)
        shim->syncs++;
    return done;
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    int error = shim->fail_syncs;

    rest(shim->slow_us);
    if (error)
        return (int)fail(error);
    int ret = REAL(fdatasync)(fd);
    shim->syncs++;
    return ret;
}

__attribute__((visibility("default"))) int fallocate64(int fd, int mode, off64_t at, off64_t n)
{
    int error = shim->fail_allocations;
    return error ? (int)fail(error) : REAL(fallocate64)(fd, mode, at, n);
}

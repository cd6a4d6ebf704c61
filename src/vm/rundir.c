/*
 * rundir.c - the folder of a running VM.
 */
#include "vm/rundir.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int __attribute__((format(printf, 3, 4))) fail(char why[VM_WHY_SIZE], int error,
                                                      const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(why, VM_WHY_SIZE, format, values);
    va_end(values);
    return error;
}

int rundir_base(char path[RUNDIR_SIZE], char why[VM_WHY_SIZE])
{
    const char *top = geteuid() == 0 ? "/run" : getenv("XDG_RUNTIME_DIR");
    if (!top || top[0] != '/')
        return fail(why, -ENOENT, "XDG_RUNTIME_DIR is not set: it names the folder for sockets");
    if (snprintf(path, RUNDIR_SIZE, "%s/outboard", top) >= RUNDIR_SIZE)
        return fail(why, -ENAMETOOLONG, "XDG_RUNTIME_DIR is too long a path for sockets");
    return 0;
}

int rundir_path(const char *name, char path[RUNDIR_SIZE], char why[VM_WHY_SIZE])
{
    int error = rundir_base(path, why);
    size_t n = error ? 0 : strlen(path);
    if (!error && snprintf(path + n, RUNDIR_SIZE - n, "/%s", name) >= (int)(RUNDIR_SIZE - n))
        return fail(why, -ENAMETOOLONG, "%s: too long a name for sockets in %.*s", name, (int)n,
                    path);
    return error;
}

static int make_folder(const char *path, char why[VM_WHY_SIZE])
{
    if (mkdir(path, 0700) == 0 || errno == EEXIST)
        return 0;
    return fail(why, -errno, "%s: %s", path, strerror(errno));
}

/* Whoever ran it before may have removed the folder between our open and our lock. */
static bool still_there(const char *path, int fd)
{
    struct stat named, locked;
    return fstat(fd, &locked) == 0 && lstat(path, &named) == 0 && named.st_ino == locked.st_ino &&
           named.st_dev == locked.st_dev;
}

/* 0, -EAGAIN to try again, or the error. */
static int lock_folder(const char *name, struct rundir *dir, char why[VM_WHY_SIZE])
{
    int error = make_folder(dir->path, why);
    if (error)
        return error;
    int fd = open(dir->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? -EAGAIN : fail(why, -errno, "%s: %s", dir->path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
        error = errno == EWOULDBLOCK ? fail(why, -EBUSY, "%s: a VM of this name is running", name)
                                     : fail(why, -errno, "%s: %s", dir->path, strerror(errno));
        close(fd);
        return error;
    }
    if (!still_there(dir->path, fd)) {
        close(fd);
        return -EAGAIN;
    }
    dir->fd = fd;
    return 0;
}

/* Sockets mostly; folders are not ours and make the removal fail. */
static void empty_folder(int fd)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = copy < 0 ? NULL : fdopendir(copy);
    if (!list) {
        if (copy >= 0)
            close(copy);
        return;
    }
    for (struct dirent *entry; (entry = readdir(list));)
        unlinkat(fd, entry->d_name, 0);
    closedir(list);
}

int rundir_open(const char *name, struct rundir *dir, char why[VM_WHY_SIZE])
{
    dir->fd = -1;
    int error = rundir_base(dir->path, why);
    if (!error)
        error = make_folder(dir->path, why);
    if (!error)
        error = rundir_path(name, dir->path, why);
    if (error)
        return error;
    while ((error = lock_folder(name, dir, why)) == -EAGAIN)
        ;
    if (!error)
        empty_folder(dir->fd);
    return error;
}

void rundir_remove(struct rundir *dir)
{
    if (dir->fd < 0)
        return;
    empty_folder(dir->fd);
    rmdir(dir->path);
    close(dir->fd);
    dir->fd = -1;
}

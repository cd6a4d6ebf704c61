/*
 * watch.c - what the kernel tells about the client's process.
 */
#include "mirror/watch.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

void watch_map(struct watch *w, int fd, uint64_t limit)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return;
    w->map_device = st.st_dev;
    w->map_inode = st.st_ino;
    w->map_limit = limit;
}

void watch_gift(struct watch *w, int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return;
    w->gift_device = st.st_dev;
    w->gift_inode = st.st_ino;
    w->held = 0;
}

static FILE *open_proc(pid_t pid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    return fopen(path, "re");
}

uint64_t watch_map_end(const struct watch *w, pid_t pid)
{
    char line[512];
    uint64_t end = 0;

    FILE *f = w->map_inode ? open_proc(pid, "maps") : NULL;
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f)) {
        uint64_t from, to, offset, inode;
        unsigned major_number, minor_number;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64 " %x:%x %" SCNu64, &from, &to,
                   &offset, &major_number, &minor_number, &inode) != 6)
            continue;
        if (inode == w->map_inode && makedev(major_number, minor_number) == w->map_device &&
            offset + (to - from) > end)
            end = offset + (to - from);
    }
    fclose(f);
    return end;
}

bool watch_holds(const struct watch *w, pid_t pid)
{
    char path[64];
    struct dirent *entry;
    struct stat st;
    bool found = false;

    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    DIR *d = w->gift_inode ? opendir(path) : NULL;
    if (!d)
        return false;
    while (!found && (entry = readdir(d)))
        found = fstatat(dirfd(d), entry->d_name, &st, 0) == 0 && st.st_ino == w->gift_inode &&
                st.st_dev == w->gift_device;
    closedir(d);
    return found;
}

uint64_t watch_anonymous(pid_t pid)
{
    char line[256];
    unsigned long long kib = 0;

    FILE *f = open_proc(pid, "status");
    if (!f)
        return 0;
    while (fgets(line, sizeof line, f) && sscanf(line, "RssAnon: %llu", &kib) != 1)
        ;
    fclose(f);
    return (uint64_t)kib << 10;
}

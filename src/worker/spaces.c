/*
 * spaces.c - namespaces of its own for the worker, and a root with nothing in it.
 *
 * A PID namespace is for children alone: the keeper starts the worker in one.
 */
#include "state/facts.h"
#include "worker/sandbox.h"

#include <errno.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static const struct {
    int flag;
    uint32_t bit;
} spaces[] = {
    { CLONE_NEWUSER, SANDBOX_USER }, /* first: as its root one may make the others */
    { CLONE_NEWNS, SANDBOX_MOUNT },
    { CLONE_NEWNET, SANDBOX_NET },
    { CLONE_NEWIPC, SANDBOX_IPC },
};
#define SPACES (sizeof spaces / sizeof *spaces)

static void leave_all(struct sandbox *s)
{
    int flags = 0;

    for (unsigned i = 0; i < SPACES; i++)
        flags |= spaces[i].flag;
    bool all = unshare(flags) == 0;
    for (unsigned i = 0; i < SPACES; i++)
        if (all || unshare(spaces[i].flag) == 0)
            s->in_force |= spaces[i].bit;
        else
            sandbox_refuse(s, spaces[i].bit, errno);
}

/*
 * An empty file system goes on top of some directory, becomes the root, and the old root, which then lies
 * on it, is let go.
 */
static int empty_root(void)
{
    const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;

    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return -errno;
    const char *place = "/proc";
    if (mount("none", place, "tmpfs", flags, "size=4k,nr_inodes=2,mode=555") < 0) {
        place = "/tmp";
        if (mount("none", place, "tmpfs", flags, "size=4k,nr_inodes=2,mode=555") < 0)
            return -errno;
    }
    if (chdir(place) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
        chdir("/") < 0)
        return -errno;
    return 0;
}

void spaces_enter(struct sandbox *s)
{
    leave_all(s);
    int ret = s->in_force & SANDBOX_MOUNT ? empty_root() : 0;
    if (s->in_force & SANDBOX_MOUNT && ret == 0)
        s->in_force |= SANDBOX_ROOT;
    else
        sandbox_refuse(s, SANDBOX_ROOT, ret < 0 ? -ret : EPERM);
}

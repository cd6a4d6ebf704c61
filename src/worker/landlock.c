/*
 * landlock.c - a second lock on files, and one on what is no file: for hosts without namespaces, and for
 * descriptors of folders.
 *
 * A ruleset that handles everything and allows nothing. What is open stays usable.
 */
#include "state/facts.h"
#include "worker/sandbox.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self 446
#endif

/* As the kernel has it today; <linux/landlock.h> may be older. */
struct ruleset {
    uint64_t handled_access_fs;
    uint64_t handled_access_net;
    uint64_t scoped;
};
#define VERSION_QUESTION 1u

static const struct {
    int bits_fs, bits_net, bits_scope; /* that a kernel of this ABI knows */
    size_t size;
} abi[] = {
    { 0, 0, 0, 0 },
    { 13, 0, 0, 8 },
    { 14, 0, 0, 8 },  /* moving and linking to other folders */
    { 15, 0, 0, 8 },  /* truncate(2) */
    { 15, 2, 0, 16 }, /* bind(2) and connect(2) of TCP */
    { 16, 2, 0, 16 }, /* ioctl(2) of devices */
    { 16, 2, 2, 24 }, /* abstract UNIX sockets and signals of others */
};
#define NEWEST ((int)(sizeof abi / sizeof *abi) - 1)

void landlock_enter(struct sandbox *s)
{
    int version = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, VERSION_QUESTION);

    if (version < 1) {
        sandbox_refuse(s, SANDBOX_LANDLOCK, version < 0 ? errno : ENOSYS);
        return;
    }
    version = version < NEWEST ? version : NEWEST;
    struct ruleset r = {
        (UINT64_C(1) << abi[version].bits_fs) - 1,
        (UINT64_C(1) << abi[version].bits_net) - 1,
        (UINT64_C(1) << abi[version].bits_scope) - 1,
    };
    int fd = (int)syscall(SYS_landlock_create_ruleset, &r, abi[version].size, 0);
    if (fd >= 0 && syscall(SYS_landlock_restrict_self, fd, 0) == 0)
        s->in_force |= SANDBOX_LANDLOCK;
    else
        sandbox_refuse(s, SANDBOX_LANDLOCK, errno);
    if (fd >= 0)
        close(fd);
}

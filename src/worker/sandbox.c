/*
 * sandbox.c - see sandbox.h.
 */
#include "worker/sandbox.h"
#include "state/facts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Threads of a device that needs some; a process cannot be made at all. */
#define MOST_THREADS 64u

void sandbox_refuse(struct sandbox *s, uint32_t bits, int error)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } names[] = {
#define X(bit, name, text) { SANDBOX_##name, text },
        FACTS_SANDBOX(X)
#undef X
    };
    s->refused |= bits;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        size_t n = strlen(s->note);
        if (bits & names[i].bit)
            snprintf(s->note + n, sizeof s->note - n, "%s%s %s", n ? ", " : "", names[i].name,
                     strerrorname_np(error));
    }
}

static void put_in_force(struct sandbox *s, uint32_t bit, int error)
{
    if (error)
        sandbox_refuse(s, bit, error);
    else
        s->in_force |= bit;
}

/* ---- Descriptors ----------------------------------------------------------------------------------- */

static bool close_from_to(int first, int next)
{
    return next == first || close_range((unsigned)first, next < 0 ? ~0u : (unsigned)next - 1, 0) == 0;
}

void sandbox_close_others(struct sandbox *s, const int *given, unsigned n)
{
    int error = 0;

    for (int first = 3, next = 3; next >= 0; first = next + 1) {
        next = -1;
        for (unsigned i = 0; i < n; i++)
            if (given[i] >= first && (next < 0 || given[i] < next))
                next = given[i];
        if (!close_from_to(first, next))
            error = errno;
    }
    put_in_force(s, SANDBOX_DESCRIPTORS, error);
}

/* A terminal, say, from which keys could be read. A device that uses them has its own descriptors. */
static void leave_standard_io(struct sandbox *s)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    bool left = null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0;

    put_in_force(s, SANDBOX_STDIO, left ? 0 : errno);
    if (null > STDERR_FILENO)
        close(null);
}

/* ---- Rights ---------------------------------------------------------------------------------------- */

/* Those that there are end with the first that the kernel does not know. */
static int empty_bounding_set(void)
{
    int i = 0;

    while (prctl(PR_CAPBSET_DROP, i, 0, 0, 0) == 0)
        i++;
    return errno == EINVAL && i > 0 ? 0 : -1;
}

static void drop_capabilities(struct sandbox *s)
{
    struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
    struct __user_cap_data_struct none[2] = { 0 };
    int error = 0;

    if (empty_bounding_set() < 0)
        error = errno;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        error = errno;
    if (syscall(SYS_capset, &header, none) < 0)
        error = errno;
    put_in_force(s, SANDBOX_CAPABILITIES, error);
    put_in_force(s, SANDBOX_NO_NEW_PRIVS, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? errno : 0);
}

/* Of a process that is not dumpable the kernel shows a keeper that is not root no counts when it is dead. */
static void set_dumpable(struct sandbox *s, bool kept)
{
    int error = prctl(PR_SET_DUMPABLE, kept, 0, 0, 0) < 0 ? errno : 0;

    if (!kept)
        put_in_force(s, SANDBOX_NOT_DUMPABLE, error);
}

static bool limit(int what, rlim_t most)
{
    struct rlimit l = { most, most };

    return setrlimit((__rlimit_resource_t)what, &l) == 0;
}

/* Processes are counted for each user in each user namespace: without one, others would count. Files may
 * grow, memory is the guest's, and descriptors come with it: no limit of ours is right for those. */
static void set_limits(struct sandbox *s)
{
    bool own = s->in_force & SANDBOX_USER;

    if ((!own || limit(RLIMIT_NPROC, MOST_THREADS)) && limit(RLIMIT_MSGQUEUE, 0) && limit(RLIMIT_RTPRIO, 0) &&
        limit(RLIMIT_MEMLOCK, 0) && limit(RLIMIT_CORE, 0))
        s->in_force |= SANDBOX_RLIMITS;
    else
        sandbox_refuse(s, SANDBOX_RLIMITS, errno);
}

void sandbox_enter(struct sandbox *s, bool kept)
{
    leave_standard_io(s);
    if (getpid() == 1)
        s->in_force |= SANDBOX_PID;
    else if (kept)
        sandbox_refuse(s, SANDBOX_PID, EPERM);
    spaces_enter(s);
    drop_capabilities(s);
    set_dumpable(s, kept);
    set_limits(s);
    landlock_enter(s);
}

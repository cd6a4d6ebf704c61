/*
 * abort.c - see abort.h. x86-64 only: the trap flag lets one instruction through.
 */
#include "abort.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>

#define TRAP_FLAG 0x100
#define MAX_RANGES 16

static struct abort_range protected[MAX_RANGES];
static int range_count;
static bool armed;
static pid_t thread; /* the one that dies; others only help it */
static long points, die_at;
static uint8_t *page; /* that the last store was let into */
static greg_t string_op; /* where a repeated string operation is at work, 0: none */
static long repeats;

static void point(void)
{
    if (armed && gettid() == thread && ++points == die_at)
        kill(getpid(), SIGKILL);
}

static void protect(int prot)
{
    for (int i = 0; i < range_count; i++)
        mprotect(protected[i].start, protected[i].size, prot);
}

static bool ours(const void *address)
{
    for (int i = 0; i < range_count; i++) {
        size_t at = (size_t)((const uint8_t *)address - (const uint8_t *)protected[i].start);
        if (at < protected[i].size)
            return true;
    }
    return false;
}

static void store(int signo, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;

    if (!armed || !ours(info->si_addr)) {
        signal(signo, SIG_DFL);
        return;
    }
    point();
    page = (uint8_t *)((uintptr_t)info->si_addr & ~(uintptr_t)4095);
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
    uc->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
    string_op = uc->uc_mcontext.gregs[REG_RIP];
}

static void stored(int signo, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    (void)signo;
    (void)info;
    /* `rep movs` stops after each element: that many deaths in the middle of one copy teach nothing. */
    if (uc->uc_mcontext.gregs[REG_RIP] == string_op) {
        if (++repeats % 500 == 0)
            point();
        return;
    }
    uc->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
    if (armed)
        mprotect(page, 4096, PROT_READ);
}

void abort_arm(const struct abort_range *ranges, int n, long at)
{
    struct sigaction segv = { .sa_sigaction = store, .sa_flags = SA_SIGINFO };
    struct sigaction trap = { .sa_sigaction = stored, .sa_flags = SA_SIGINFO };

    for (range_count = 0; range_count < n; range_count++)
        protected[range_count] = ranges[range_count];
    sigaction(SIGSEGV, &segv, NULL);
    sigaction(SIGTRAP, &trap, NULL);
    points = 0;
    die_at = at;
    thread = gettid();
    armed = true;
    protect(PROT_READ);
}

void abort_also(struct abort_range range)
{
    if (range_count == MAX_RANGES)
        abort();
    protected[range_count++] = range;
    protect(PROT_READ);
}

void abort_disarm(void)
{
    armed = false;
    protect(PROT_READ | PROT_WRITE);
}

long abort_points(void)
{
    return points;
}

/* The linker sends calls of NAME to __wrap_NAME (-Wl,--wrap=NAME), and ours on to the real one. */
#define WRAP(type, name, params, ...)                 \
    type __real_##name params;                        \
    type __wrap_##name params;                        \
    type __wrap_##name params                         \
    {                                                 \
        point();                                      \
        type result = __real_##name(__VA_ARGS__);     \
        point();                                      \
        return result;                                \
    }

/* The kernel stores into the block as well, and would find it read-only. */
ssize_t __real_read(int fd, void *buf, size_t n);
ssize_t __wrap_read(int fd, void *buf, size_t n);
ssize_t __wrap_read(int fd, void *buf, size_t n)
{
    point();
    if (armed)
        protect(PROT_READ | PROT_WRITE);
    ssize_t result = __real_read(fd, buf, n);
    if (armed)
        protect(PROT_READ);
    point();
    return result;
}

WRAP(ssize_t, write, (int fd, const void *buf, size_t n), fd, buf, n)
WRAP(ssize_t, writev, (int fd, const struct iovec *iov, int n), fd, iov, n)
WRAP(ssize_t, recv, (int fd, void *buf, size_t n, int flags), fd, buf, n, flags)
WRAP(ssize_t, recvmsg, (int fd, struct msghdr *msg, int flags), fd, msg, flags)
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *msg, int flags), fd, msg, flags)
WRAP(ssize_t, preadv64v2, (int fd, const struct iovec *iov, int n, off64_t at, int flags), fd, iov, n,
     at, flags)
WRAP(ssize_t, pwritev64v2, (int fd, const struct iovec *iov, int n, off64_t at, int flags), fd, iov, n,
     at, flags)
struct io_uring;
WRAP(int, io_uring_submit, (struct io_uring *ring), ring)
WRAP(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t size), fd, level,
     name, value, size)

/*
 * filter.c - the system calls that are left.
 *
 * Those that somebody has written down next to the code that makes them (tools/syscalls) are allowed.
 * Those by which one would leave a sandbox kill the process: no code of ours makes them, whatever happens.
 * Any other is refused with EPERM, and counted for a line of log: a call that was forgotten must not make
 * a device die in each of its workers.
 *
 * The kernel remembers for each number whether it is always allowed, and runs no filter for those.
 */
#include "state/facts.h"
#include "worker/sandbox.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "syscalls_worker.h"

volatile int sandbox_refused_call = -1;

#if defined __x86_64__
#define MACHINE AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define MACHINE AUDIT_ARCH_AARCH64
#else
#define MACHINE 0u
#endif
#define OTHER_NUMBERS 0x40000000u /* x32 */

static const int deadly[] = {
    SYS_execve, SYS_execveat, SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_getfd,
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_unshare, SYS_setns, SYS_move_mount,
    SYS_open_tree, SYS_fsopen, SYS_fsmount, SYS_fspick, SYS_open_by_handle_at, SYS_io_uring_setup,
    SYS_io_uring_register, SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, SYS_keyctl, SYS_add_key,
    SYS_request_key, SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_reboot,
    SYS_swapon, SYS_swapoff, SYS_settimeofday, SYS_clock_settime, SYS_setuid, SYS_setgid, SYS_setresuid,
    SYS_setresgid, SYS_capset, SYS_personality, SYS_seccomp,
#ifdef SYS_fork
    SYS_fork, SYS_vfork, SYS_iopl, SYS_ioperm, SYS_modify_ldt,
#endif
};

struct program {
    struct sock_filter code[1024];
    unsigned short n;
    bool overflow;
};

static void put(struct program *p, unsigned code, uint32_t k, unsigned yes, unsigned no)
{
    if (p->n == sizeof p->code / sizeof *p->code)
        p->overflow = true;
    else
        p->code[p->n++] = (struct sock_filter){ (uint16_t)code, (uint8_t)yes, (uint8_t)no, k };
}

#define LOAD(p, member) put(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, member), 0, 0)
#define UNLESS(p, value, skip) put(p, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, skip)
#define END(p, what) put(p, BPF_RET | BPF_K, what, 0, 0)

static void allow(struct program *p, const struct ob_syscall *c)
{
    if (c->argument < 0) {
        UNLESS(p, c->number, 1);
        END(p, SECCOMP_RET_ALLOW);
        return;
    }
    /* All that is compared are numbers and flags of 32 bits, of which the kernel looks at no more. */
    UNLESS(p, c->number, 5);
    put(p, BPF_LD | BPF_W | BPF_ABS,
        (uint32_t)(offsetof(struct seccomp_data, args) + 8u * (unsigned)c->argument +
                   (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0)), 0, 0);
    put(p, BPF_ALU | BPF_AND | BPF_K, c->mask, 0, 0);
    UNLESS(p, c->value, 1);
    END(p, SECCOMP_RET_ALLOW);
    LOAD(p, nr);
}

static void refuse(struct program *p, int number, uint32_t what)
{
    UNLESS(p, number, 1);
    END(p, what);
}

static void write_program(struct program *p, const struct ob_syscall *const *lists)
{
    /* A signal to itself is how a process aborts. */
    const struct ob_syscall own = OB_SYSCALL_IF(tgkill, 0, UINT32_MAX, (uint32_t)getpid());

    LOAD(p, arch);
    UNLESS(p, MACHINE, 1);
    put(p, BPF_JMP | BPF_JA, 1, 0, 0);
    END(p, SECCOMP_RET_KILL_PROCESS);
    LOAD(p, nr);
    put(p, BPF_JMP | BPF_JGE | BPF_K, OTHER_NUMBERS, 0, 1);
    END(p, SECCOMP_RET_KILL_PROCESS);
    for (const struct ob_syscall *c = syscalls_worker; c->number >= 0; c++)
        allow(p, c);
    for (; *lists; lists++)
        for (const struct ob_syscall *c = *lists; c->number >= 0; c++)
            allow(p, c);
    allow(p, &own);
    for (unsigned i = 0; i < sizeof deadly / sizeof *deadly; i++)
        refuse(p, deadly[i], SECCOMP_RET_KILL_PROCESS);
    refuse(p, SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS); /* its flags cannot be seen: clone it is, then */
    END(p, SECCOMP_RET_TRAP);
}

static void on_refused(int signal, siginfo_t *info, void *context)
{
    ucontext_t *u = context;

    (void)signal;
    sandbox_refused_call = info->si_syscall;
#if defined __x86_64__
    u->uc_mcontext.gregs[REG_RAX] = -EPERM;
#elif defined __aarch64__
    u->uc_mcontext.regs[0] = (unsigned long long)-EPERM;
#else
    (void)u;
#endif
}

void sandbox_filter(struct sandbox *s, const struct ob_syscall *const *lists)
{
    static struct program p;
    struct sigaction action = { .sa_sigaction = on_refused, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
    int error = 0;

    write_program(&p, lists);
    struct sock_fprog program = { p.n, p.code };
    if (!MACHINE || p.overflow)
        error = ENOSYS;
    else if (sigaction(SIGSYS, &action, NULL) < 0 ||
             syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
        error = errno ? errno : EBUSY;
    if (error)
        sandbox_refuse(s, SANDBOX_SECCOMP, error);
    else
        s->in_force |= SANDBOX_SECCOMP;
}

/* ---- For people ------------------------------------------------------------------------------------ */

static bool is_new(const char *names, const char *name)
{
    size_t n = strlen(name);

    for (const char *at = names; (at = strstr(at, name)); at += n)
        if ((at == names || at[-1] == ' ') && (at[n] == ' ' || !at[n]))
            return false;
    return true;
}

static void add_names(const struct ob_syscall *c, unsigned *count, char *names, size_t space)
{
    for (; c->number >= 0; c++) {
        size_t used = strlen(names);
        if (!is_new(names, c->name))
            continue;
        *count += 1;
        snprintf(names + used, space - used, "%s%s", used ? " " : "", c->name);
    }
}

unsigned sandbox_syscalls(const struct ob_syscall *const *lists, char *names, size_t space)
{
    static const struct ob_syscall own[] = { OB_SYSCALL(tgkill), OB_SYSCALL_END };
    unsigned count = 0;

    names[0] = '\0';
    add_names(syscalls_worker, &count, names, space);
    for (; *lists; lists++)
        add_names(*lists, &count, names, space);
    add_names(own, &count, names, space);
    return count;
}

/*
 * crash.c - see crash.h. What the handler calls is safe in a handler.
 */
#include "worker/crash.h"

#include "server/log.h"
#include "state/block.h"

#include <errno.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK (64u << 10)
#define OBJECTS 32u

static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
#define SIGNALS (sizeof signals / sizeof *signals)

static struct sigaction previous[SIGNALS];
static struct shared_facts *facts;
static char device[64];

/* Code, by address: what was loaded when the worker started. */
static struct object {
    uintptr_t start, end, base;
    char name[64];
} object[OBJECTS];
static unsigned objects;

/* ---- In the handler ---------------------------------------------------------------------------------- */

static uintptr_t instruction(const void *context)
{
    const ucontext_t *uc = context;
#if defined(__x86_64__)
    return (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (uintptr_t)uc->uc_mcontext.pc;
#else
    (void)uc;
    return 0;
#endif
}

static const struct object *find_object(uintptr_t address)
{
    for (unsigned i = 0; i < objects; i++)
        if (object[i].start <= address && address < object[i].end)
            return &object[i];
    return NULL;
}

/* The number of the worker goes last: then all of it is there. */
static void write_down(int signal, const siginfo_t *info, uintptr_t at)
{
    struct facts_death *d = &facts->death;
    const struct object *o = find_object(at);
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    block_store(&d->worker, 0);
    d->time = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    d->signal = signal;
    d->code = info->si_code;
    d->address = info->si_code > 0 ? (uintptr_t)info->si_addr : 0;
    d->instruction = at;
    d->object_offset = o ? at - o->base : 0;
    memset(d->object, 0, sizeof d->object);
    for (unsigned i = 0; o && o->name[i]; i++)
        d->object[i] = o->name[i];
    block_store(&d->worker, facts->worker);
}

struct text {
    char text[256];
    size_t n;
};

static void add(struct text *l, const char *text)
{
    while (*text && l->n < sizeof l->text)
        l->text[l->n++] = *text++;
}

static void add_hex(struct text *l, uint64_t value)
{
    char text[19] = "0x";
    unsigned n = 2, digits = 1;

    while (digits < 16 && value >> 4 * digits)
        digits++;
    while (digits--)
        text[n++] = "0123456789abcdef"[value >> 4 * digits & 15];
    text[n] = '\0';
    add(l, text);
}

static void say(int signal, const siginfo_t *info, uintptr_t at)
{
    static const char *const names[SIGNALS] = { "SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT" };
    const struct object *o = find_object(at);
    struct text l = { .n = 0 };

    add(&l, "outboard: ");
    add(&l, device);
    add(&l, ": it dies of ");
    for (unsigned i = 0; i < SIGNALS; i++)
        if (signals[i] == signal)
            add(&l, names[i]);
    if (info->si_code > 0) {
        add(&l, ", address ");
        add_hex(&l, (uintptr_t)info->si_addr);
    }
    add(&l, ", at ");
    add(&l, o ? o->name : "");
    add(&l, o ? "+" : "");
    add_hex(&l, o ? at - o->base : at);
    add(&l, "\n");
    server_say(l.text, l.n);
}

/* What was to happen without us. True: somebody's handler saw to it. */
static bool pass_on(int signal, siginfo_t *info, void *context)
{
    for (unsigned i = 0; i < SIGNALS; i++) {
        if (signals[i] != signal || !(previous[i].sa_flags & SA_SIGINFO))
            continue;
        sigaction(signal, &previous[i], NULL);
        previous[i].sa_sigaction(signal, info, context);
        return true;
    }
    return false;
}

/* The first process of a PID namespace ignores signals that are sent, and only dies of faults: of one that
 * raises the same signal, where there is such. */
static void end_by_fault(int signal)
{
    volatile int zero = 0;

    if (signal == SIGSEGV)
        *(volatile int *)(uintptr_t)zero = 0;
    if (signal == SIGFPE)
        zero = INT_MAX / zero; /* not on every machine */
    __builtin_trap();
}

/* A fault happens again when this returns, and is deadly then. A signal that was sent has to be sent again. */
static void crashed(int signal, siginfo_t *info, void *context)
{
    static volatile sig_atomic_t entered;
    const struct sigaction deadly = { .sa_handler = SIG_DFL };

    if (!entered++) {
        if (facts)
            write_down(signal, info, instruction(context));
        else
            say(signal, info, instruction(context));
    }
    if (pass_on(signal, info, context))
        return;
    for (unsigned i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &deadly, NULL);
    if (info->si_code > 0)
        return;
    raise(signal);
    end_by_fault(signal);
}

/* ---- Before it --------------------------------------------------------------------------------------- */

static int add_object(struct dl_phdr_info *info, size_t size, void *unused)
{
    const char *slash = strrchr(info->dlpi_name, '/');
    const char *name = slash ? slash + 1 : info->dlpi_name;

    (void)size;
    (void)unused;
    for (unsigned i = 0; i < info->dlpi_phnum && objects < OBJECTS; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        struct object *o = &object[objects];
        if (p->p_type != PT_LOAD || !(p->p_flags & PF_X))
            continue;
        o->base = info->dlpi_addr;
        o->start = info->dlpi_addr + p->p_vaddr;
        o->end = o->start + p->p_memsz;
        snprintf(o->name, sizeof o->name, "%s", *name ? name : program_invocation_short_name);
        objects++;
    }
    return 0;
}

/* A stack that has run over cannot serve the handler. */
static void make_stack(void)
{
    stack_t stack = { .ss_size = STACK };

    stack.ss_sp = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack.ss_sp != MAP_FAILED)
        sigaltstack(&stack, NULL);
}

void crash_open(const char *name)
{
    const struct sigaction action = { .sa_sigaction = crashed,
                                      .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };

    snprintf(device, sizeof device, "%s", name);
    dl_iterate_phdr(add_object, NULL);
    make_stack();
    for (unsigned i = 0; i < SIGNALS; i++)
        sigaction(signals[i], &action, &previous[i]);
}

void crash_record(struct shared_facts *f)
{
    facts = f;
}

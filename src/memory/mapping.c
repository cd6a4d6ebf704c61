/* mapping.c - the table of mappings, and the SIGBUS handler that reads it. See mapping.h. */
#include "memory/mapping.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

/*
 * The handler may run at any time in any thread, so the table is never moved or freed. Entries
 * below `touched` are in use or on the free list, a stack without a lock: its head is the index + 1
 * of the first spare entry in the low half, and a number in the high half that changes with each
 * operation, lest a head that came back be taken for one that never left.
 */
static struct memory_mapping table[MEMORY_MAPPINGS_MAX];
static _Atomic uint32_t touched;
static _Atomic uint64_t spare;

_Atomic uint32_t memory_mappings_broken;

static struct sigaction previous;
static pthread_once_t installed = PTHREAD_ONCE_INIT;

static struct memory_mapping *table_take(void)
{
    uint64_t head = atomic_load(&spare);
    while ((uint32_t)head != 0) {
        struct memory_mapping *m = &table[(uint32_t)head - 1];
        uint64_t next = ((head >> 32) + 1) << 32 | atomic_load(&m->next_spare);
        if (atomic_compare_exchange_weak(&spare, &head, next))
            return m;
    }
    uint32_t n = atomic_load(&touched);
    while (n < MEMORY_MAPPINGS_MAX)
        if (atomic_compare_exchange_weak(&touched, &n, n + 1))
            return &table[n];
    return NULL;
}

static void table_give_back(struct memory_mapping *m)
{
    uint64_t head = atomic_load(&spare);
    uint64_t mine;
    do {
        atomic_store(&m->next_spare, (uint32_t)head);
        mine = ((head >> 32) + 1) << 32 | (uint32_t)(m - table + 1);
    } while (!atomic_compare_exchange_weak(&spare, &head, mine));
}

/*
 * The thread that faults uses its mapping, so that one stays. Others may come and go meanwhile: a
 * start that is the same before and after `end` was read belongs to it.
 */
static struct memory_mapping *table_find(uintptr_t address)
{
    uint32_t n = atomic_load(&touched);
    for (uint32_t i = 0; i < n; i++) {
        uintptr_t start = atomic_load(&table[i].start);
        uintptr_t end = atomic_load(&table[i].end);
        if (start != 0 && start <= address && address < end &&
            atomic_load(&table[i].start) == start)
            return &table[i];
    }
    return NULL;
}

static bool put_zeros(uintptr_t start, size_t length, int prot)
{
    return mmap((void *)start, length, prot,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

/*
 * Puts zeros over the whole mapping: no access to it will succeed any more, one replacement needs
 * no further mapping where a hole would need two, and the next lost page does not fault again. If
 * the kernel does not commit to so much memory, the page alone has to do.
 */
static bool repair(struct memory_mapping *m, uintptr_t address)
{
    if (atomic_exchange(&m->broken, 1) == 0)
        atomic_fetch_add(&memory_mappings_broken, 1);
    uintptr_t start = atomic_load(&m->start);
    return put_zeros(start, atomic_load(&m->end) - start, m->prot) ||
           put_zeros(address & ~((uintptr_t)m->page - 1), m->page, m->prot);
}

static void pass_on(int signal, siginfo_t *info, void *context)
{
    if (previous.sa_flags & SA_SIGINFO) {
        previous.sa_sigaction(signal, info, context);
        return;
    }
    bool fault = info->si_code > 0; /* else somebody sent it */
    if (previous.sa_handler == SIG_IGN && !fault)
        return;
    if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
        previous.sa_handler(signal);
        return;
    }
    /* A fault comes again at once, and is deadly now, with the registers as they were. */
    struct sigaction deadly = { .sa_handler = SIG_DFL };
    sigaction(signal, &deadly, NULL);
    if (!fault)
        raise(signal);
}

static void on_sigbus(int signal, siginfo_t *info, void *context)
{
    int saved = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    struct memory_mapping *m = info->si_code > 0 ? table_find(address) : NULL;
    if (!m || !repair(m, address))
        pass_on(signal, info, context);
    errno = saved;
}

static void install(void)
{
    struct sigaction action = { .sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    sigaction(SIGBUS, &action, &previous);
}

static int error_of_mmap(int error)
{
    switch (error) {
    case EACCES:
    case EPERM: /* sealed against writing */
        return -EACCES;
    case ENOMEM:
    case EOVERFLOW:
    case EAGAIN:
        return -ENOSPC;
    default:
        return -EINVAL;
    }
}

int memory_mapping_new(int fd, uint64_t offset, uint64_t length, uint32_t page, int prot,
                       struct memory_mapping **mapping)
{
    pthread_once(&installed, install);
    if (length == 0 || offset > INT64_MAX)
        return -EINVAL;
    struct memory_mapping *m = table_take();
    if (!m)
        return -ENOSPC;
    /* MAP_NORESERVE: huge pages are the client's to reserve, not ours for all of its file. */
    void *p = mmap(NULL, length, prot, MAP_SHARED | MAP_NORESERVE, fd, (off_t)offset);
    if (p == MAP_FAILED) {
        int error = errno;
        table_give_back(m);
        return error_of_mmap(error);
    }
    if ((uintptr_t)p >> 48) { /* only on request, says the kernel; the index relies on it */
        munmap(p, length);
        table_give_back(m);
        return -ENOSPC;
    }
    m->offset = offset;
    m->page = page;
    m->prot = prot;
    m->users = 0;
    atomic_store(&m->broken, 0);
    atomic_store(&m->end, (uintptr_t)p + length);
    atomic_store(&m->start, (uintptr_t)p);
    *mapping = m;
    return 0;
}

void memory_mapping_free(struct memory_mapping *m)
{
    uintptr_t start = atomic_load(&m->start);
    size_t length = memory_mapping_length(m);
    atomic_store(&m->start, 0);
    munmap((void *)start, length);
    if (atomic_load(&m->broken))
        atomic_fetch_sub(&memory_mappings_broken, 1);
    table_give_back(m);
}

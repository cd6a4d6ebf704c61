/*
 * faults.c - see faults.h. Each line of POINTS is a function, and what it is in docs/recovery.md.
 */
#include "faults.h"

#include "server/dispatch.h"
#include "server/dma.h"
#include "server/ioevent.h"
#include "server/irq.h"
#include "server/logging.h"
#include "server/twin.h"
#include "worker/keeping.h"
#include "worker/lobby.h"

#undef SET
#include "../devices/nvme/nvme.h"

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "points.h"

enum {
#define POINT(words, type, name, parameters, arguments) BEFORE_##name, AFTER_##name,
#define ACT(words, name, parameters, arguments) BEFORE_##name, AFTER_##name,
    POINTS
#undef POINT
#undef ACT
    COUNT
};
static_assert(COUNT <= FAULTS_MOST, "they have room");

static struct faults *faults;

__attribute__((constructor)) static void begin(void)
{
    static const char *const names[] = {
#define POINT(words, type, name, parameters, arguments) "before " words, "after " words,
#define ACT(words, name, parameters, arguments) "before " words, "after " words,
        POINTS
#undef POINT
#undef ACT
    };
    const char *path = getenv("FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0)
        return;
    void *p = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (p == MAP_FAILED)
        abort();
    faults = p;
    for (unsigned i = 0; i < COUNT && faults->count == 0; i++)
        snprintf(faults->name[i], sizeof faults->name[i], "%s", names[i]);
    faults->count = COUNT;
}

static bool is_here(uint32_t point)
{
    if (faults->at)
        return faults->at == point + 1 && --faults->pass == 0;
    return faults->next && --faults->next == 0;
}

static void come_by(uint32_t point)
{
    static uint32_t mine;

    if (!faults)
        return;
    faults->hits[point]++;
    mine++;
    if (point == AFTER_keeping_ready)
        faults->takeover = mine;
    if (!is_here(point))
        return;
    faults->at = 0;
    faults->stopped = point + 1;
    for (;;)
        poll(NULL, 0, -1); /* a call that every worker may make */
}

#define SAME(name) static_assert(__builtin_types_compatible_p(__typeof__(name), __typeof__(__real_##name)), #name);

#define POINT(words, type, name, parameters, arguments) \
    type __real_##name parameters;                      \
    type __wrap_##name parameters;                      \
    SAME(name)                                          \
    type __wrap_##name parameters                       \
    {                                                   \
        come_by(BEFORE_##name);                         \
        type result = __real_##name arguments;          \
        come_by(AFTER_##name);                          \
        return result;                                  \
    }
#define ACT(words, name, parameters, arguments) \
    void __real_##name parameters;              \
    void __wrap_##name parameters;              \
    SAME(name)                                  \
    void __wrap_##name parameters               \
    {                                           \
        come_by(BEFORE_##name);                 \
        __real_##name arguments;                \
        come_by(AFTER_##name);                  \
    }
POINTS

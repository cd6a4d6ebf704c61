/*
 * event_text.c - see event_text.h.
 */
#include "server/event_text.h"
#include "server/shared.h"
#include "wire/message.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct text {
    char *at;
    size_t used;
};

static void say(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct text *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(t->at + t->used, EVENT_TEXT - t->used, format, args);
    va_end(args);
    t->used += n < 0 ? 0 : (size_t)n;
    if (t->used >= EVENT_TEXT)
        t->used = EVENT_TEXT - 1;
}

void signal_text(int signal, char text[SIGNAL_TEXT])
{
    const char *name = sigabbrev_np(signal);

    if (name)
        snprintf(text, SIGNAL_TEXT, "SIG%s", name);
    else
        snprintf(text, SIGNAL_TEXT, "signal %d", signal);
}

static void say_region(struct text *t, uint32_t index, bool pci)
{
    static const char *const names[] = { "BAR0", "BAR1", "BAR2", "BAR3", "BAR4", "BAR5", "ROM", "config space",
                                         "VGA" };

    if (pci && index < sizeof names / sizeof *names)
        say(t, "%s", names[index]);
    else
        say(t, "region %u", index);
}

static void say_irq_type(struct text *t, uint32_t index, bool pci)
{
    static const char *const names[] = { "INTx", "MSI", "MSI-X", "ERR", "REQ" };

    if (pci && index < sizeof names / sizeof *names)
        say(t, "%s", names[index]);
    else
        say(t, "interrupt %u", index);
}

static void say_irq(struct text *t, uint32_t n, bool pci)
{
    if (n < IRQ_MSI)
        pci ? say(t, "INTx") : say(t, "%u", n);
    else if (n < IRQ_MSIX)
        say(t, "MSI %u", n - IRQ_MSI);
    else if (n < IRQ_ERR)
        say(t, "MSI-X %u", n - IRQ_MSIX);
    else
        say(t, "%s", n == IRQ_ERR ? "ERR" : n == IRQ_REQ ? "REQ" : "?");
}

static void say_map(struct text *t, const struct recorded *e)
{
    if (e->command == VFIO_USER_DMA_UNMAP) {
        if (e->value & VFIO_DMA_UNMAP_FLAG_ALL) {
            say(t, " all");
            return;
        }
        say(t, " 0x%" PRIx64 ", 0x%" PRIx64 " bytes", e->offset, e->size);
        return;
    }
    say(t, " 0x%" PRIx64 ", 0x%" PRIx64 " bytes, %s%s", e->offset, e->size,
        e->value & VFIO_DMA_MAP_FLAG_READ ? "r" : "-", e->value & VFIO_DMA_MAP_FLAG_WRITE ? "w" : "-");
}

static void say_set_irqs(struct text *t, const struct recorded *e, bool pci)
{
    uint64_t action = e->value & VFIO_IRQ_SET_ACTION_TYPE_MASK, data = e->value & VFIO_IRQ_SET_DATA_TYPE_MASK;

    say(t, " ");
    say_irq_type(t, e->index, pci);
    say(t, ", %" PRIu64 " from %" PRIu64 ", %s %s", e->size, e->offset,
        action == VFIO_IRQ_SET_ACTION_MASK      ? "MASK"
        : action == VFIO_IRQ_SET_ACTION_UNMASK  ? "UNMASK"
        : action == VFIO_IRQ_SET_ACTION_TRIGGER ? "TRIGGER"
                                                : "?",
        data == VFIO_IRQ_SET_DATA_NONE      ? "NONE"
        : data == VFIO_IRQ_SET_DATA_BOOL    ? "BOOL"
        : data == VFIO_IRQ_SET_DATA_EVENTFD ? "EVENTFD"
                                            : "?");
}

static void say_message(struct text *t, const struct recorded *e, bool pci)
{
    switch (e->command) {
    case VFIO_USER_REGION_READ:
    case VFIO_USER_REGION_WRITE:
        say(t, " ");
        say_region(t, e->index, pci);
        say(t, " + 0x%" PRIx64 ", %" PRIu64 " byte%s", e->offset, e->size, e->size == 1 ? "" : "s");
        if (e->command == VFIO_USER_REGION_WRITE)
            say(t, ", 0x%" PRIx64 "%s", e->value, e->size > sizeof e->value ? "..." : "");
        break;
    case VFIO_USER_REGION_WRITE_MULTI: say(t, " %" PRIu64 " writes", e->value); break;
    case VFIO_USER_DMA_MAP:
    case VFIO_USER_DMA_UNMAP: say_map(t, e); break;
    case VFIO_USER_DEVICE_GET_REGION_INFO:
    case VFIO_USER_DEVICE_GET_REGION_IO_FDS:
        say(t, " ");
        say_region(t, e->index, pci);
        break;
    case VFIO_USER_DEVICE_GET_IRQ_INFO:
        say(t, " ");
        say_irq_type(t, e->index, pci);
        break;
    case VFIO_USER_DEVICE_SET_IRQS: say_set_irqs(t, e, pci); break;
    case VFIO_USER_DEVICE_FEATURE: say(t, " flags 0x%" PRIx64, e->value); break;
    case VFIO_USER_MIG_DATA_READ:
    case VFIO_USER_MIG_DATA_WRITE: say(t, " %" PRIu64 " bytes", e->size); break;
    default: break;
    }
}

static void say_result(struct text *t, const struct recorded *e)
{
    if (e->error)
        say(t, ": %s", strerror(e->error < 0 && e->error > -4096 ? -e->error : 0xfff));
    else if (e->kind == RECORDED_REPLY && e->command == VFIO_USER_REGION_READ)
        say(t, ": 0x%" PRIx64, e->value);
    else
        say(t, ": done");
}

static void say_worker(struct text *t, const struct recorded *e)
{
    char name[SIGNAL_TEXT];

    say(t, "worker %" PRIu64 " takes the device", e->value);
    if (!e->index)
        return;
    signal_text(e->index, name);
    say(t, ", the one before it died of %s", name);
}

/* The device's own words. */
static void say_own(struct text *t, const struct recorded *e)
{
    for (unsigned i = 0; i < RECORDER_TEXT && e->text[i]; i++)
        say(t, "%c", e->text[i] >= ' ' && e->text[i] <= '~' ? e->text[i] : '?');
    say(t, " 0x%" PRIx64 " 0x%" PRIx64, e->offset, e->value);
}

void event_text(const struct recorded *e, bool pci, char text[EVENT_TEXT])
{
    struct text t = { text, 0 };
    const char *command = wire_command_name(e->command);

    text[0] = '\0';
    switch (e->kind) {
    case RECORDED_WORKER: say_worker(&t, e); break;
    case RECORDED_RECOVERED: say(&t, "worker goes on, after %.1f ms", (double)e->value / 1e6); break;
    case RECORDED_CLIENT: say(&t, "client came"); break;
    case RECORDED_GONE: say(&t, "client went"); break;
    case RECORDED_MESSAGE:
        say(&t, "> %s", command);
        say_message(&t, e, pci);
        break;
    case RECORDED_REPLY:
        say(&t, "< %s", command);
        say_result(&t, e);
        break;
    case RECORDED_WAITS: say(&t, "  %s has to wait", command); break;
    case RECORDED_ANSWER:
        say(&t, "> reply to %s", command);
        say_result(&t, e);
        break;
    case RECORDED_IRQ:
        say(&t, "interrupt ");
        say_irq(&t, e->index, pci);
        break;
    case RECORDED_TIMER: say(&t, "timer %u", e->index); break;
    case RECORDED_BACKEND: say(&t, "backend, descriptor %u: events 0x%" PRIx64, e->index, e->value); break;
    case RECORDED_DMA:
        say(&t, "DMA %s 0x%" PRIx64 ", %" PRIu64 " bytes, slot %u", e->value ? "write to" : "read of", e->offset,
            e->size, e->index);
        say_result(&t, e);
        break;
    case RECORDED_RESET: say(&t, "reset"); break;
    case RECORDED_DEVICE: say_own(&t, e); break;
    default: say(&t, "event of kind %u", e->kind); break;
    }
}

/*
 * report.c - see report.h.
 */
#include "server/report.h"
#include "server/event_text.h"
#include "server/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EVENTS 32u

void report_bury(struct ob_device *dev)
{
    struct shared_facts *f = dev->facts;
    struct facts_death *d = &f->death;

    if (f->worker == f->left || f->worker == 0)
        return; /* it went on purpose */
    if (d->worker != f->worker) { /* nothing that it could catch */
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        *d = (struct facts_death){ .worker = f->worker,
                                   .time = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
                                   .told = 1,
                                   .told_signal = d->told_signal,
                                   .told_offset = d->told_offset };
    } else {
        d->told = 0;
    }
    const struct recorded *message = recorder_find(dev->recorder, dev->recorder->in_hand);
    d->message = message ? *message : (struct recorded){ 0 };
    d->step = step_is_open(dev->block.h) ? dev->block.h->step_kind : 0;
    d->took_over = f->has_begun != f->worker;
}

/* ---- In words ---------------------------------------------------------------------------------------- */

struct paper {
    char *text;
    size_t size, used;
    const char *name;
};

static void line(struct paper *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void line(struct paper *p, const char *format, ...)
{
    va_list args;
    int n = snprintf(p->text + p->used, p->size - p->used, "outboard: %s: ", p->name);

    if (n < 0 || (size_t)n >= p->size - p->used)
        return;
    va_start(args, format);
    int m = vsnprintf(p->text + p->used + n, p->size - p->used - (size_t)n, format, args);
    va_end(args);
    if (m < 0 || (size_t)n + (size_t)m + 1 >= p->size - p->used)
        return;
    p->used += (size_t)n + (size_t)m;
    p->text[p->used++] = '\n';
}

static void head(struct paper *p, const struct facts_death *d)
{
    char name[SIGNAL_TEXT], place[100], address[40] = "";

    signal_text(d->signal, name);
    if (d->object[0])
        snprintf(place, sizeof place, "%.*s+0x%" PRIx64, (int)sizeof d->object, d->object, d->object_offset);
    else
        snprintf(place, sizeof place, "0x%" PRIx64, d->instruction);
    if (d->code > 0)
        snprintf(address, sizeof address, ", address 0x%" PRIx64, d->address);
    line(p, "worker %" PRIu64 " died of %s (code %d)%s, at %s%s", d->worker, name, d->code, address, place,
         d->again ? ", as the one before it" : "");
}

static void doing(struct paper *p, const struct ob_device *dev, const struct facts_death *d)
{
    char text[EVENT_TEXT];

    if (d->message.kind == RECORDED_MESSAGE) {
        event_text(&d->message, dev->config_size != 0, text);
        line(p, "  the message in hand: id %u, %s%s", d->message.id, text + 2,
             d->took_over ? ", of the worker that it took over from" : "");
    } else if (d->took_over) {
        line(p, "  it took over from a worker that was in no message");
    } else {
        line(p, "  in no message%s", d->step ? ", in a step that a timer, a backend or a transfer began" : "");
    }
}

static void last_events(struct paper *p, const struct ob_device *dev)
{
    struct recorded *events = malloc(sizeof *events * RECORDER_EVENTS);
    char text[EVENT_TEXT];

    unsigned n = events ? recorder_read(dev->recorder, dev->recorder->last, events) : 0;
    n -= n != 0; /* our own coming */
    unsigned first = n > EVENTS ? n - EVENTS : 0;
    line(p, "  the last %u events, and how long before this worker came:", n - first);
    for (unsigned i = first; i < n; i++) {
        event_text(&events[i], dev->config_size != 0, text);
        line(p, "  %12.3f ms  %s", (double)(dev->facts->started_monotonic - events[i].time) / 1e6, text);
    }
    free(events);
}

void report_tell(struct ob_device *dev)
{
    struct facts_death *d = &dev->facts->death;
    static char text[(EVENTS + 4) * (EVENT_TEXT + 128)];
    struct paper p = { text, sizeof text, 0, dev->name };

    if (!d->worker || d->told)
        return;
    d->told = 1;
    bool same = d->told_signal == (uint64_t)d->signal && d->told_offset == d->object_offset;
    d->again = same ? d->again + 1 : 0;
    d->told_signal = (uint64_t)d->signal;
    d->told_offset = d->object_offset;
    head(&p, d);
    if (!same) {
        doing(&p, dev, d);
        last_events(&p, dev);
    }
    server_tell(dev, text, p.used);
}

/*
 * status_detail.c - one device in detail.
 */
#include "cli/status.h"
#include "server/event_text.h"

#include <inttypes.h>
#include <string.h>

#define LINE(out, name) fprintf(out, "  %-11s ", name)

static void print_processes(FILE *out, const struct look *l)
{
    const struct keeper_status *s = &l->status;
    char age[LOOK_TEXT];

    LINE(out, "keeper");
    fprintf(out, "pid %d, up %s\n", s->keeper, look_age(s->keeper_started, age));
    LINE(out, "worker");
    if (s->worker)
        fprintf(out, "pid %d, up %s, number %u\n", s->worker, look_age(s->worker_started, age), s->number);
    else
        fprintf(out, "none at this moment (number %u has died)\n", s->number);
}

static void print_session(FILE *out, const struct look *l)
{
    const struct shared_facts *f = &l->facts;
    char a[LOOK_TEXT], b[LOOK_TEXT];

    LINE(out, "client");
    if (!f->client_since)
        fprintf(out, "none; %" PRIu64 " so far\n", f->clients);
    else if (l->status.client > 0)
        fprintf(out, "pid %d, connected %s; %" PRIu64 " so far\n", l->status.client,
                look_age(f->client_since, a), f->clients);
    else
        fprintf(out, "connected %s; %" PRIu64 " so far\n", look_age(f->client_since, a), f->clients);
    if (l->status.seats) {
        LINE(out, "waiting");
        fprintf(out, "%u who have not said who they are, or wait to be refused\n", l->status.seats);
    }
    LINE(out, "memory");
    fprintf(out, "%s mapped, in %u regions\n", look_bytes(f->memory_bytes, a), f->memory_regions);
    LINE(out, "interrupts");
    fprintf(out, "%u in use, %s signalled\n", f->interrupts_used, look_count(f->interrupts, a));
    LINE(out, "messages");
    fprintf(out, "%s, %s refused", look_count(f->messages, a), look_count(f->errors, b));
    fprintf(out, "; %s in, %s out", look_bytes(f->bytes_in, a), look_bytes(f->bytes_out, b));
    fprintf(out, "; p50 %s", look_time(histogram_quantile(&f->message_time, 500), a));
    fprintf(out, ", p99 %s\n", look_time(histogram_quantile(&f->message_time, 990), a));
}

static void print_requests(FILE *out, const struct look *l)
{
    static const char *const names[FACTS_REQUESTS] = { "reads", "writes", "others" };
    char a[LOOK_TEXT], b[LOOK_TEXT];

    for (unsigned i = 0; i < FACTS_REQUESTS; i++) {
        const struct histogram *h = &l->facts.request_time[i];
        if (!l->facts.request[i].count)
            continue;
        LINE(out, names[i]);
        fprintf(out, "%s, %s", look_count(l->facts.request[i].count, a),
                look_bytes(l->facts.request[i].bytes, b));
        if (histogram_count(h)) {
            fprintf(out, "; p50 %s", look_time(histogram_quantile(h, 500), a));
            fprintf(out, ", p99 %s", look_time(histogram_quantile(h, 990), b));
        }
        fprintf(out, "\n");
    }
}

static void print_deaths(FILE *out, const struct look *l)
{
    const struct keeper_status *s = &l->status;
    char death[LOOK_DEATH], moment[LOOK_TEXT], doing[LOOK_DEATH];

    LINE(out, "restarts");
    fprintf(out, "%u: %u by SIGKILL, %u by other signals, %u ended", look_restarts(l), s->killed, s->crashed,
            s->ended);
    fprintf(out, s->refused ? "; %u messages refused that killed workers\n" : "\n", s->refused);
    if (!s->last_death)
        return;
    LINE(out, "last death");
    fprintf(out, "%s: %s\n", look_moment(s->last_death, moment), look_death(l, death));
    if (l->block && look_doing(l, doing)) {
        LINE(out, "");
        fprintf(out, "%s\n", doing);
    }
    if (s->last_core) {
        LINE(out, "");
        fprintf(out, "%s\n", look_core(death));
    }
    LINE(out, "pause");
    fprintf(out, "%s, until another worker went on\n", look_time(s->pause, moment));
}

static void print_upgrades(FILE *out, const struct keeper_status *s)
{
    char pause[LOOK_TEXT];

    if (!s->upgrades && !s->upgrades_undone)
        return;
    LINE(out, "upgrades");
    fprintf(out, "%u, and %u that were undone", s->upgrades, s->upgrades_undone);
    if (s->upgrades)
        fprintf(out, "; the last one took %s", look_time(s->upgrade_pause, pause));
    fprintf(out, "\n");
}

/* A list in lines of some 80 columns. */
static void print_names(FILE *out, const char *name, const char *list)
{
    const size_t room = 64;

    LINE(out, name);
    while (strlen(list) > room) {
        size_t n = room;
        while (n && list[n] != ' ')
            n--;
        if (!n)
            break;
        fprintf(out, "%.*s\n", (int)n, list);
        list += n + 1;
        LINE(out, "");
    }
    fprintf(out, "%s\n", list);
}

static void print_sandbox(FILE *out, const struct look *l)
{
    const struct shared_facts *f = &l->facts;
    char names[STATUS_SANDBOX_TEXT];

    print_names(out, "sandbox", f->sandbox ? status_sandbox_names(f->sandbox, names) : "off");
    if (f->sandbox_refused)
        print_names(out, "refused", status_sandbox_names(f->sandbox_refused, names));
    if (f->sandbox_note[0])
        print_names(out, "", f->sandbox_note);
}

void status_detail(FILE *out, const struct look *l)
{
    const char *device = l->block ? l->facts.plugin : l->status.name;

    fprintf(out, "%s: %s%s%s, %s\n", l->target->label, device, l->block ? " on " : "",
            l->block ? l->facts.bus : "", look_state(l));
    print_processes(out, l);
    if (l->block) {
        print_session(out, l);
        print_requests(out, l);
    }
    print_deaths(out, l);
    print_upgrades(out, &l->status);
    if (l->block)
        print_sandbox(out, l);
}

/*
 * status_json.c - what `status` knows, for machines. outboard-status(1) documents the keys.
 */
#include "cli/event_json.h"
#include "cli/status.h"
#include "server/event_text.h"

#include <string.h>

static json *latency(struct builder *b, const struct histogram *h)
{
    json *o = json_object_new_object();

    put_number(b, o, "count", histogram_count(h));
    put_number(b, o, "sum_ns", h->sum);
    put_number(b, o, "p50_ns", histogram_quantile(h, 500));
    put_number(b, o, "p99_ns", histogram_quantile(h, 990));
    return o;
}

static json *flags(struct builder *b, uint32_t bits)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } names[] = {
#define X(bit, name, text) { 1u << bit, text },
        FACTS_SANDBOX(X)
#undef X
    };
    json *list = json_object_new_array();

    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (bits & names[i].bit)
            append(b, list, json_object_new_string(names[i].name));
    return list;
}

static json *keeper(struct builder *b, const struct keeper_status *s)
{
    json *o = json_object_new_object();

    put_signed(b, o, "pid", s->keeper);
    put_number(b, o, "started_ns", s->keeper_started);
    put_number(b, o, "waiting", s->seats);
    put_number(b, o, "descriptors", s->held);
    return o;
}

static json *worker(struct builder *b, const struct keeper_status *s)
{
    json *o = json_object_new_object();

    put_signed(b, o, "pid", s->worker);
    put_number(b, o, "number", s->number);
    put_number(b, o, "started_ns", s->worker_started);
    return o;
}

static json *deaths(struct builder *b, const struct keeper_status *s)
{
    json *o = json_object_new_object();

    put_number(b, o, "restarts", (uint64_t)s->killed + s->crashed + s->ended);
    put_number(b, o, "killed", s->killed);
    put_number(b, o, "crashed", s->crashed);
    put_number(b, o, "ended", s->ended);
    put_number(b, o, "messages_refused", s->refused);
    if (s->last_death) {
        put_number(b, o, "last_ns", s->last_death);
        put_signed(b, o, "last_signal", s->last_signal);
        put_signed(b, o, "last_status", s->last_status);
        put_bool(b, o, "last_core", s->last_core != 0);
        put_number(b, o, "last_pause_ns", s->pause);
    }
    return o;
}

static json *upgrades(struct builder *b, const struct keeper_status *s)
{
    json *o = json_object_new_object();

    put_number(b, o, "done", s->upgrades);
    put_number(b, o, "undone", s->upgrades_undone);
    put_number(b, o, "last_pause_ns", s->upgrade_pause);
    return o;
}

static json *client(struct builder *b, const struct look *l)
{
    const struct shared_facts *f = &l->facts;
    json *o = json_object_new_object();

    put_bool(b, o, "connected", f->client_since != 0);
    if (f->client_since) {
        put_signed(b, o, "pid", l->status.client);
        put_number(b, o, "since_ns", f->client_since);
    }
    put_number(b, o, "clients", f->clients);
    put_number(b, o, "memory_bytes", f->memory_bytes);
    put_number(b, o, "memory_regions", f->memory_regions);
    put_number(b, o, "interrupts_used", f->interrupts_used);
    return o;
}

static json *messages(struct builder *b, const struct shared_facts *f)
{
    json *o = json_object_new_object();

    put_number(b, o, "count", f->messages);
    put_number(b, o, "refused", f->errors);
    put_number(b, o, "bytes_in", f->bytes_in);
    put_number(b, o, "bytes_out", f->bytes_out);
    put_number(b, o, "interrupts", f->interrupts);
    put(b, o, "time", latency(b, &f->message_time));
    return o;
}

static json *requests(struct builder *b, const struct shared_facts *f)
{
    static const char *const names[FACTS_REQUESTS] = { "read", "write", "other" };
    json *all = json_object_new_object();

    for (unsigned i = 0; i < FACTS_REQUESTS; i++) {
        json *o = json_object_new_object();
        put_number(b, o, "count", f->request[i].count);
        put_number(b, o, "bytes", f->request[i].bytes);
        put(b, o, "time", latency(b, &f->request_time[i]));
        put(b, all, names[i], o);
    }
    return all;
}

static json *sandbox(struct builder *b, const struct look *l)
{
    json *o = json_object_new_object();

    put_text(b, o, "state", status_sandbox(l));
    put(b, o, "in_force", flags(b, l->facts.sandbox));
    put(b, o, "refused", flags(b, l->facts.sandbox_refused));
    put_text(b, o, "note", l->facts.sandbox_note);
    return o;
}

static void put_block(struct builder *b, json *o, const struct look *l)
{
    put_text(b, o, "plugin", l->facts.plugin);
    put_text(b, o, "bus", l->facts.bus);
    put(b, o, "client", client(b, l));
    put(b, o, "messages", messages(b, &l->facts));
    put(b, o, "requests", requests(b, &l->facts));
    put(b, o, "sandbox", sandbox(b, l));
    if (l->facts.death.worker)
        put(b, o, "last_death", death_json(b, l));
}

static json *device(struct builder *b, const struct look *l)
{
    json *o = json_object_new_object();

    put_text(b, o, "name", l->target->label);
    put_text(b, o, "control", l->target->path);
    if (l->why[0])
        put_text(b, o, "error", l->why);
    if (l->answered) {
        put_text(b, o, "device", l->status.name);
        put_text(b, o, "state", look_state(l));
        put(b, o, "keeper", keeper(b, &l->status));
        put(b, o, "worker", worker(b, &l->status));
        put(b, o, "deaths", deaths(b, &l->status));
        put(b, o, "upgrades", upgrades(b, &l->status));
    }
    if (l->block)
        put_block(b, o, l);
    return o;
}

int status_json(FILE *out, const struct look *looks, unsigned n)
{
    struct builder b = { false };
    json *o = json_object_new_object(), *devices = json_object_new_array();

    for (unsigned i = 0; i < n; i++)
        append(&b, devices, device(&b, &looks[i]));
    put(&b, o, "devices", devices);
    return json_print(&b, o, out);
}

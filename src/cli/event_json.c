/*
 * event_json.c - see event_json.h.
 */
#include "cli/event_json.h"
#include "server/event_text.h"
#include "wire/message.h"

#include <string.h>

static const char *const kinds[RECORDED_KINDS] = {
    [RECORDED_WORKER] = "worker", [RECORDED_RECOVERED] = "recovered", [RECORDED_CLIENT] = "client",
    [RECORDED_GONE] = "gone",     [RECORDED_MESSAGE] = "message",     [RECORDED_REPLY] = "reply",
    [RECORDED_WAITS] = "waits",   [RECORDED_ANSWER] = "answer",       [RECORDED_IRQ] = "interrupt",
    [RECORDED_TIMER] = "timer",   [RECORDED_BACKEND] = "backend",     [RECORDED_DMA] = "dma",
    [RECORDED_RESET] = "reset",   [RECORDED_DEVICE] = "device",
};

json *event_json(struct builder *b, const struct recorded *e, bool pci)
{
    bool known = e->kind < RECORDED_KINDS && kinds[e->kind];
    char text[EVENT_TEXT];
    json *o = json_object_new_object();

    event_text(e, pci, text);
    put_number(b, o, "number", e->sequence);
    put_number(b, o, "time_ns", e->time);
    put_text(b, o, "kind", known ? kinds[e->kind] : "unknown");
    if (e->command) {
        put_text(b, o, "command", wire_command_name(e->command));
        put_number(b, o, "id", e->id);
    }
    put_number(b, o, "index", e->index);
    put_number(b, o, "offset", e->offset);
    if (e->kind != RECORDED_DEVICE)
        put_number(b, o, "size", e->size);
    put_number(b, o, "value", e->value);
    put_signed(b, o, "error", e->error);
    put_text(b, o, "text", text);
    return o;
}

json *death_json(struct builder *b, const struct look *l)
{
    const struct facts_death *d = &l->facts.death;
    json *o = json_object_new_object();

    put_number(b, o, "worker", d->worker);
    put_number(b, o, "time_ns", d->time);
    put_signed(b, o, "signal", d->signal);
    if (d->signal) {
        put_signed(b, o, "code", d->code);
        put_number(b, o, "address", d->address);
        put_number(b, o, "instruction", d->instruction);
        put_text(b, o, "object", d->object);
        put_number(b, o, "object_offset", d->object_offset);
        put_number(b, o, "again", d->again);
    }
    if (d->message.kind == RECORDED_MESSAGE)
        put(b, o, "message", event_json(b, &d->message, look_is_pci(l)));
    put_bool(b, o, "took_over", d->took_over);
    return o;
}

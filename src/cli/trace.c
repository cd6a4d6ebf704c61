/*
 * trace.c - `outboard trace --last`: what the flight recorder of a device holds.
 */
#include "cli/cli.h"
#include "cli/event_json.h"
#include "cli/look.h"
#include "cli/options.h"
#include "server/event_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LAST = 1, NUMBER, JSON };

#define STANDARD 32u

static const struct cli_option options[] = {
    { "last", NULL, "the last events, also of a worker that is dead", LAST },
    { "number", "N", "so many of them, 0: all there are; standard: 32", NUMBER },
    { "json", NULL, "for machines; outboard-trace(1) names the keys", JSON },
    { NULL, NULL, NULL, 0 },
};

static const struct cli_command command = {
    .name = "trace",
    .usage = "VM/DEVICE | CONTROL --last [--number=N] [--json]",
    .summary = "Show what happened last to a device",
    .options = options,
    .more = "CONTROL is the path of a control socket (outboard serve --control-path).\n",
};

struct request {
    const char *what;
    bool last, json;
    uint64_t number;
};

/* ---- For people -------------------------------------------------------------------------------------- */

/* What to add to the recorder's times, which count from when the host was started, for a time of day. */
static int64_t clock_offset(void)
{
    struct timespec day, uptime;

    clock_gettime(CLOCK_REALTIME, &day);
    clock_gettime(CLOCK_MONOTONIC, &uptime);
    return (int64_t)(day.tv_sec - uptime.tv_sec) * 1000000000 + (day.tv_nsec - uptime.tv_nsec);
}

static void print_time(uint64_t ns)
{
    time_t seconds = (time_t)(ns / 1000000000);
    char text[16];
    struct tm tm;

    if (!localtime_r(&seconds, &tm) || !strftime(text, sizeof text, "%H:%M:%S", &tm))
        strcpy(text, "??:??:??");
    printf("%s.%06u  ", text, (unsigned)(ns / 1000 % 1000000));
}

static const struct recorded *message_in_hand(const struct look *l)
{
    for (unsigned i = l->events; l->in_hand && i-- > 0;)
        if (l->event[i].sequence == l->in_hand && l->event[i].kind == RECORDED_MESSAGE)
            return &l->event[i];
    return NULL;
}

static void print_state(const struct look *l)
{
    const struct recorded *now = message_in_hand(l);
    char text[EVENT_TEXT], death[LOOK_DEATH], moment[LOOK_TEXT];

    if (l->status.last_death)
        printf("\nlast death: %s: %s\n", look_moment(l->status.last_death, moment), look_death(l, death));
    if (l->status.last_death && look_doing(l, death))
        printf("    %s\n", death);
    if (now) {
        event_text(now, look_is_pci(l), text);
        printf("\n%s: %s\n", l->status.worker ? "in hand" : "in hand when it died", text + 2);
    }
}

static int print(const struct look *l, unsigned first)
{
    int64_t offset = clock_offset();
    char text[EVENT_TEXT];

    for (unsigned i = first; i < l->events; i++) {
        event_text(&l->event[i], look_is_pci(l), text);
        print_time(l->event[i].time + (uint64_t)offset);
        puts(text);
    }
    print_state(l);
    return 0;
}

/* ---- For machines ------------------------------------------------------------------------------------ */

static int print_json(const struct look *l, unsigned first)
{
    struct builder b = { false };
    json *o = json_object_new_object(), *events = json_object_new_array();
    const struct recorded *now = message_in_hand(l);

    for (unsigned i = first; i < l->events; i++)
        append(&b, events, event_json(&b, &l->event[i], look_is_pci(l)));
    put_text(&b, o, "name", l->target->label);
    put_text(&b, o, "plugin", l->facts.plugin);
    put_text(&b, o, "bus", l->facts.bus);
    put_signed(&b, o, "worker", l->status.worker);
    put_number(&b, o, "worker_number", l->status.number);
    put(&b, o, "events", events);
    if (now)
        put(&b, o, "in_hand", event_json(&b, now, look_is_pci(l)));
    if (l->facts.death.worker)
        put(&b, o, "last_death", death_json(&b, l));
    return json_print(&b, o, stdout);
}

/* ---- The command ------------------------------------------------------------------------------------- */

static int trace(const struct control_target *target, const struct request *r)
{
    struct look *l = calloc(1, sizeof *l);
    int result = CLI_OK;

    if (!l)
        return cli_error("trace", "%s", strerror(ENOMEM));
    if (!look_at(target, l)) {
        result = cli_error("trace", "%s: %s", target->label, l->why);
        free(l);
        return result;
    }
    unsigned first = r->number && r->number < l->events ? l->events - (unsigned)r->number : 0;
    int ret = r->json ? print_json(l, first) : print(l, first);
    if (ret < 0)
        result = cli_error("trace", "%s", strerror(-ret));
    else if (fflush(stdout) != 0)
        result = cli_error("trace", "stdout: %s", strerror(errno));
    free(l);
    return result;
}

/* CLI_OK to go on; -1: all was said, and it was no error. */
static int parse(struct request *r, int argc, char **argv)
{
    struct cli_args args;
    int word;

    cli_start(&args, &command, argc, argv);
    while ((word = cli_next(&args)) >= 0)
        switch (word) {
        case LAST: r->last = true; break;
        case JSON: r->json = true; break;
        case NUMBER:
            if (cli_number(args.value, 0, RECORDER_EVENTS, &r->number) < 0)
                return cli_usage("trace", "--number=%s: not a number up to %u", args.value, RECORDER_EVENTS);
            break;
        default:
            if (r->what)
                return cli_usage("trace", "%s: one device at a time", args.value);
            r->what = args.value;
        }
    if (word != CLI_END)
        return word == CLI_HELPED ? -1 : cli_exit(word);
    if (!r->what)
        return cli_usage("trace", "which device? VM/DEVICE, or the path of a control socket");
    if (!r->last)
        return cli_usage("trace", "live traces are not there yet: --last shows what happened last");
    return CLI_OK;
}

int cli_trace(int argc, char **argv)
{
    struct request r = { .number = STANDARD };
    struct control_targets found;

    int status = parse(&r, argc, argv);
    if (status != CLI_OK)
        return status < 0 ? CLI_OK : status;
    status = control_find("trace", r.what, &found);
    if (status != CLI_OK)
        return status;
    status = found.count == 1 ? trace(found.target, &r)
                              : cli_usage("trace", "%s: has several devices: VM/DEVICE names one", r.what);
    control_free(&found);
    return status;
}

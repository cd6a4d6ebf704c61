/*
 * check.c - `outboard check`: does a server, or a client, do what the specification says?
 */
#include "check/check.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/report.h"
#include "mirror/mirror.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CLIENT = 1, PATH, LIST, ONLY, SKIP, FORMAT, VERBOSE, DESTRUCTIVE, MEMORY, ONE, TIMEOUT };

static const struct cli_option options[] = {
    { "list", NULL, "show what would be checked, and what cannot be and why", LIST },
    { "only", "LIST", "check only these: groups or globs of ids, separated by commas", ONLY },
    { "skip", "LIST", "leave these out", SKIP },
    { "format", "FORMAT", "table (for people; the default), tap or json", FORMAT },
    { "verbose", NULL, "in a table, show also what passed and what was skipped", VERBOSE },
    { "destructive", NULL,
      "also do what may change the device or its data: write to registers,\n"
      "reset it, move its state. Not for a device whose data somebody needs",
      DESTRUCTIVE },
    { "memory", "KIND", "how memory is offered for DMA: mapped, messages or both (the default)",
      MEMORY },
    { "one-connection", NULL, "for a server that ends with its first client: all in one connection",
      ONE },
    { "timeout", "MS",
      "how long to wait for a reply (the default: 5000); with --client, for any\n"
      "sign of life (10000): longer than the client waits for a reply",
      TIMEOUT },
    { "client", NULL,
      "check a client: be a server that misbehaves, and report what it did.\n"
      "COMMAND starts it, once for each misbehaviour; {} and $SOCKET stand for\n"
      "the path. It should end by itself, with status 0 if it noticed nothing",
      CLIENT },
    { "socket-path", "PATH", "with --client: where to listen", PATH },
    { NULL, NULL, NULL, 0 },
};

static const struct cli_command command = {
    .name = "check",
    .usage = "SOCKET [--only=LIST] [--skip=LIST] [--destructive] ...\n"
             "--client --socket-path=PATH [--only=LIST] [--skip=LIST] ... [-- COMMAND ...]",
    .summary =
        "Check that a vfio-user server, of any make, does what the specification says, and that\n"
        "it survives clients which do not; or the same for a client",
    .options = options,
    .more = "The server must have no other client. It exits 0, or 1 if anything failed.\n"
            "\n"
            "A client fails where it crashes, hangs or is fooled. Without a COMMAND it has to be\n"
            "connected again for each misbehaviour.\n",
};

struct arguments {
    struct check_options check;
    struct mirror_options mirror;
    enum report_format format;
    bool client, list, verbose;
    const char *server_only; /* an option that says nothing of a client */
    const char *run_only;    /* or of the list */
};

/* What can be checked, of either side. */
struct catalogue {
    struct entry *entries;
    size_t count;
};

static struct catalogue catalogue(size_t (*fill)(struct entry *entries, size_t space))
{
    struct catalogue c = { .count = fill(NULL, 0) };
    c.entries = calloc(c.count + 1, sizeof *c.entries);
    if (!c.entries)
        c.count = 0;
    fill(c.entries, c.count);
    return c;
}

static const char *stray(const char *list, const struct catalogue *c, size_t *length)
{
    const char **ids = calloc(c->count + 1, sizeof *ids);
    for (size_t i = 0; ids && i < c->count; i++)
        ids[i] = c->entries[i].id;
    const char *word = ids ? selection_stray(list, ids, c->count, length) : NULL;
    free(ids);
    return word;
}

static int check_selection(const struct selection *s, const struct catalogue *c)
{
    size_t n;
    const char *word = stray(s->only, c, &n);
    if (!word)
        word = stray(s->skip, c, &n);
    return word ? cli_usage("check", "%.*s: no such check or group (--list shows them)", (int)n,
                            word)
                : CLI_OK;
}

static size_t select_entries(struct catalogue *c, const struct selection *s)
{
    size_t n = 0;
    for (size_t i = 0; i < c->count; i++)
        if (selection_has(s, c->entries[i].id))
            c->entries[n++] = c->entries[i];
    return c->count = n;
}

static void list_all(const struct arguments *a, struct catalogue *c)
{
    select_entries(c, &a->check.select);
    report_list(stdout, a->format, c->entries, c->count);
    if (a->client || a->format != REPORT_TABLE || a->check.select.only)
        return;
    struct catalogue not = catalogue(check_uncheckable);
    printf("\nNot checked:\n");
    report_list(stdout, a->format, not .entries, not .count);
    free(not .entries);
}

static int run(struct arguments *a, size_t planned)
{
    char why[512] = "";
    struct report report;
    const char *subject = a->client ? a->mirror.socket_path : a->check.socket_path;

    /* Of a client, what it did is the report, whether or not it was right. */
    report_begin(&report, stdout, a->format, a->verbose || a->client, subject, planned);
    int error = a->client ? mirror_run(&a->mirror, &report.results, why, sizeof why)
                          : check_run(&a->check, &report.results, why, sizeof why);
    if (error)
        return cli_error("check", "%s", why[0] ? why : strerror(-error));
    int status = report_end(&report);
    if (fflush(stdout) != 0)
        return cli_error("check", "stdout: %s", strerror(errno));
    return status;
}

static int check(struct arguments *a)
{
    struct catalogue c = catalogue(a->client ? mirror_entries : check_entries);

    a->mirror.select = a->check.select;
    int status = check_selection(&a->check.select, &c);
    if (status == CLI_OK && a->list)
        list_all(a, &c);
    else if (status == CLI_OK)
        status = run(a, select_entries(&c, &a->check.select));
    free(c.entries);
    return status;
}

static int take_memory(struct arguments *a, const char *word)
{
    if (strcmp(word, "mapped") == 0)
        a->check.memory = CHECK_MEMORY_MAPPED;
    else if (strcmp(word, "messages") == 0)
        a->check.memory = CHECK_MEMORY_MESSAGES;
    else if (strcmp(word, "both") == 0)
        a->check.memory = CHECK_MEMORY_BOTH;
    else
        return cli_usage("check", "--memory=%s: mapped, messages or both", word);
    return CLI_OK;
}

/* Without a command, somebody has to know that it is time for the next connection. */
static void waiting(const char *id)
{
    fprintf(stderr, "outboard: check: waiting for a client: %s\n",
            id ? id : "a device that behaves");
}

static int take_timeout(struct arguments *a, const char *word)
{
    uint64_t ms;
    if (cli_number(word, 10, 600000, &ms) < 0)
        return cli_usage("check", "--timeout=%s: milliseconds, 10 to 600000", word);
    a->check.timeout_ms = a->mirror.timeout_ms = (unsigned)ms;
    return CLI_OK;
}

static int take_operand(struct arguments *a, const char *word)
{
    if (a->check.socket_path)
        return cli_usage("check", "%s: one socket at a time", word);
    a->check.socket_path = word;
    return CLI_OK;
}

static int take(struct arguments *a, int word, const char *value)
{
    switch (word) {
    case CLIENT:
        a->client = true;
        break;
    case PATH:
        a->mirror.socket_path = value;
        break;
    case LIST:
        a->list = true;
        break;
    case ONLY:
        a->check.select.only = value;
        break;
    case SKIP:
        a->check.select.skip = value;
        break;
    case VERBOSE:
        a->run_only = "--verbose";
        a->verbose = true;
        break;
    case DESTRUCTIVE:
        a->server_only = a->run_only = "--destructive";
        a->check.destructive = true;
        break;
    case ONE:
        a->server_only = a->run_only = "--one-connection";
        a->check.one_connection = true;
        break;
    case MEMORY:
        a->server_only = a->run_only = "--memory";
        return take_memory(a, value);
    case TIMEOUT:
        a->run_only = "--timeout";
        return take_timeout(a, value);
    case FORMAT:
        if (report_format(value, &a->format) < 0)
            return cli_usage("check", "--format=%s: table, tap or json", value);
        break;
    default:
        return take_operand(a, value);
    }
    return CLI_OK;
}

/* What was said that means nothing together. */
static int check_usage(const struct arguments *a)
{
    const char *socket = a->client ? a->mirror.socket_path : a->check.socket_path;

    if (a->client && a->check.socket_path)
        return cli_usage("check", "%s: a client is checked at --socket-path", a->check.socket_path);
    if (!a->client && a->mirror.socket_path)
        return cli_usage("check", "--socket-path is for --client");
    if (a->client && a->server_only)
        return cli_usage("check", "%s is for a server, and not for --client", a->server_only);
    if (a->list && socket)
        return cli_usage("check", "%s: --list asks no server and no client", socket);
    if (a->list && a->run_only)
        return cli_usage("check", "%s changes nothing in the --list", a->run_only);
    if (a->list && a->mirror.command)
        return cli_usage("check", "%s: --list starts no client", a->mirror.command[0]);
    if (a->list && a->format == REPORT_TAP)
        return cli_usage("check", "--format=tap is for results, and not for the --list");
    if (!a->list && !socket)
        return cli_usage("check", a->client ? "--client needs a --socket-path"
                                            : "the path of a server's socket is missing");
    return CLI_OK;
}

int cli_check(int argc, char **argv)
{
    struct arguments a = { .check = { .memory = CHECK_MEMORY_BOTH, .timeout_ms = 5000 },
                           .mirror = { .timeout_ms = 10000, .waiting = waiting } };
    struct cli_args args;
    int word;

    cli_start(&args, &command, argc, argv);
    while ((word = cli_next(&args)) >= 0) {
        if (a.client && args.dashed) {
            a.mirror.command = &argv[args.next - 1];
            word = CLI_END;
            break;
        }
        int status = take(&a, word, args.value);
        if (status != CLI_OK)
            return status;
    }
    if (word != CLI_END)
        return cli_exit(word);
    int status = check_usage(&a);
    return status == CLI_OK ? check(&a) : status;
}

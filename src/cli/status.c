/*
 * status.c - `outboard status`: which devices are served, and how they are.
 */
#include "cli/status.h"
#include "cli/cli.h"
#include "cli/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { JSON = 1 };

static const struct cli_option options[] = {
    { "json", NULL, "all of it for machines; outboard-status(1) names the keys", JSON },
    { NULL, NULL, NULL, 0 },
};

static const struct cli_command command = {
    .name = "status",
    .usage = "[VM | VM/DEVICE | CONTROL] [--json]",
    .summary = "Show the devices of all VMs, of one VM, or one device in detail",
    .options = options,
    .more = "CONTROL is the path of a control socket (outboard serve --control-path).\n"
            "A device that cannot be asked is one line on stderr, and exit status 1.\n",
};

/* ---- What the numbers add up to ---------------------------------------------------------------------- */

const char *status_sandbox(const struct look *l)
{
    return !l->facts.sandbox ? "off" : l->facts.sandbox_refused ? "part" : "on";
}

const char *status_sandbox_names(uint32_t bits, char text[STATUS_SANDBOX_TEXT])
{
    static const struct {
        uint32_t bit;
        const char *name;
    } names[] = {
#define X(bit, name, text) { 1u << bit, text },
        FACTS_SANDBOX(X)
#undef X
    };
    size_t used = 0;

    strcpy(text, "-");
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if ((bits & names[i].bit) && used < STATUS_SANDBOX_TEXT)
            used += (size_t)snprintf(text + used, STATUS_SANDBOX_TEXT - used, "%s%s", used ? ", " : "",
                                     names[i].name);
    return text;
}

bool status_requests(const struct look *l, struct status_requests *r)
{
    const struct shared_facts *f = &l->facts;
    struct histogram all = { 0 };

    *r = (struct status_requests){ 0 };
    for (unsigned i = 0; i < FACTS_REQUESTS; i++) {
        r->count += f->request[i].count;
        r->bytes += f->request[i].bytes;
        histogram_merge(&all, &f->request_time[i]);
    }
    bool own = r->count != 0;
    if (!own) {
        r->count = f->messages;
        r->bytes = f->bytes_in + f->bytes_out;
        all = f->message_time;
    }
    r->p50 = histogram_quantile(&all, 500);
    r->p99 = histogram_quantile(&all, 990);
    return own;
}

/* ---- The command ------------------------------------------------------------------------------------- */

static unsigned terminal_width(void)
{
    struct winsize size;

    return isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

static int print(const struct look *looks, unsigned n, bool detail, bool json)
{
    int ret = 0;

    if (json)
        ret = status_json(stdout, looks, n);
    else if (detail && looks->answered)
        status_detail(stdout, looks);
    else if (!detail)
        status_table(stdout, looks, n, terminal_width());
    if (ret < 0)
        return cli_error("status", "%s", strerror(-ret));
    if (fflush(stdout) != 0)
        return cli_error("status", "stdout: %s", strerror(errno));
    return CLI_OK;
}

static int status(const struct control_targets *found, bool detail, bool json)
{
    struct look *looks = calloc(found->count, sizeof *looks);
    int result = CLI_OK;

    if (!looks)
        return cli_error("status", "%s", strerror(ENOMEM));
    for (unsigned i = 0; i < found->count; i++)
        look_at(&found->target[i], &looks[i]);
    int printed = print(looks, found->count, detail, json);
    for (unsigned i = 0; i < found->count; i++)
        if (looks[i].why[0])
            result = cli_error("status", "%s: %s", looks[i].target->label, looks[i].why);
    free(looks);
    return printed != CLI_OK ? printed : result;
}

int cli_status(int argc, char **argv)
{
    struct control_targets found;
    struct cli_args args;
    const char *what = NULL;
    bool json = false;
    int word;

    cli_start(&args, &command, argc, argv);
    while ((word = cli_next(&args)) >= 0) {
        if (word == JSON)
            json = true;
        else if (what)
            return cli_usage("status", "%s: one VM or device at a time", args.value);
        else
            what = args.value;
    }
    if (word != CLI_END)
        return cli_exit(word);
    int result = control_find("status", what, &found);
    if (result != CLI_OK)
        return result;
    if (!found.count && !json)
        puts("No VM of `outboard run` is running.");
    else
        result = status(&found, what && strchr(what, '/'), json);
    control_free(&found);
    return result;
}

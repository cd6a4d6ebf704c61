/*
 * serve.c - outboard serve: a device process.
 */
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/serve_door.h"
#include "cli/serve_keeper.h"
#include "cli/serve_manager.h"
#include "cli/serve_tidy.h"
#include "keeper/protocol.h"
#include "server/bus.h"
#include "server/log.h"
#include "worker/plugins.h"
#include "worker/sandbox.h"
#include "worker/worker.h"

#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SOCKET_PATH = 1, FD, READY_FD, NO_KEEPER, PRINT_CAPABILITIES, LIST, VERBOSE, KEEPER_FD, ROLE,
       ONE_CLIENT, CONTROL_PATH, SANDBOX };

static const struct cli_option options[] = {
    { "socket-path", "PATH", "listen here for a client; a stale socket is replaced", SOCKET_PATH },
    { "fd", "N", "use this descriptor: a listening UNIX socket, or a\nconnection of one client", FD },
    { "control-path", "PATH", "a socket for outboard status, upgrade and others", CONTROL_PATH },
    { "ready-fd", "N", "write a newline here when clients can connect", READY_FD },
    { "no-keeper", NULL, "this process serves alone: with it the device dies", NO_KEEPER },
    { "sandbox", "on|off", "off: for debuggers; the device's code may do all that you may", SANDBOX },
    { "print-capabilities", NULL, "describe the device as JSON, and exit", PRINT_CAPABILITIES },
    { "list", NULL, "list the built-in devices with their keys, and exit", LIST },
    { "verbose", NULL, "log more", VERBOSE },
    /* What the keeper tells a worker. */
    { "keeper-fd", "N", NULL, KEEPER_FD },
    { "role", "ROLE", NULL, ROLE },
    { "one-client", NULL, NULL, ONE_CLIENT },
    { NULL, NULL, NULL, 0 },
};

static const struct cli_command command = {
    .name = "serve",
    .usage = "DEVICE [KEY=VALUE ...] --socket-path=PATH | --fd=N",
    .summary = "Serve a device to one vfio-user client at a time",
    .options = options,
    .more = "DEVICE is the name of a built-in device, or the path of a plugin (with a slash in it).\n"
            "Ends on SIGTERM and SIGINT, and removes its socket.\n",
};

struct request {
    const char *device;
    struct option_value *values;
    unsigned value_count;
    struct worker_settings settings;
    const char *socket_path;
    const char *control_path;
    int fd;
    bool no_keeper;
    bool print_capabilities;
};

/* The nth option: the device's own, then the framework's for it. NULL at the end. */
static const struct ob_option *option_of(const struct ob_plugin *p, unsigned nth)
{
    const struct ob_option *o = p->options;

    for (; o && o->key; o++)
        if (nth-- == 0)
            return o;
    return nth == 0 ? bus_option(p) : NULL;
}

static int list_devices(void)
{
    const struct ob_option *o;

    const struct ob_plugin *p;

    for (unsigned i = 0; (p = plugin_built_in(i)); i++) {
        printf("%-10s %s\n", p->name, p->summary);
        for (unsigned n = 0; (o = option_of(p, n)); n++)
            printf("    %s=%s%s%s\n        %s%s%s\n", o->key, o->value,
                   o->flags & OB_OPTION_REQUIRED ? "  (required)" : "",
                   o->flags & OB_OPTION_REPEAT ? "  (may be repeated)" : "", o->help,
                   o->standard ? "; standard: " : "", o->standard ? o->standard : "");
    }
    return CLI_OK;
}

/* As vhost-user backends answer --print-capabilities: {"type": ..., "features": [...]}. */
static int print_capabilities(const struct ob_plugin *p)
{
    json_object *root = json_object_new_object(), *keys = json_object_new_array();
    json_object *buses = json_object_new_array();
    const struct ob_option *o;
    const struct bus *bus;

    json_object_object_add(root, "type", json_object_new_string("vfio-user"));
    json_object_object_add(root, "device", json_object_new_string(p->name));
    json_object_object_add(root, "description", json_object_new_string(p->summary));
    json_object_object_add(root, "features", json_object_new_array());
    for (unsigned n = 0; (bus = bus_of(p, n)); n++)
        json_object_array_add(buses, json_object_new_string(bus->name));
    json_object_object_add(root, "buses", buses);
    for (unsigned n = 0; (o = option_of(p, n)); n++)
        json_object_array_add(keys, json_object_new_string(o->key));
    json_object_object_add(root, "options", keys);
    puts(json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY));
    json_object_put(root);
    return CLI_OK;
}

static const struct ob_option *declared(const struct ob_plugin *p, const char *key)
{
    const struct ob_option *o;

    for (unsigned n = 0; (o = option_of(p, n)); n++)
        if (strcmp(o->key, key) == 0)
            break;
    return o;
}

static bool given_before(const struct request *r, unsigned i)
{
    for (unsigned j = 0; j < i; j++)
        if (strcmp(r->values[j].key, r->values[i].key) == 0)
            return true;
    return false;
}

static int check_values(const struct request *r)
{
    const struct ob_plugin *p = r->settings.plugin;
    const struct ob_option *o;

    for (unsigned i = 0; i < r->value_count; i++) {
        o = declared(p, r->values[i].key);
        if (!o)
            return cli_usage("serve", "%s: %s has no such key", r->values[i].key, p->name);
        if (!(o->flags & OB_OPTION_REPEAT) && given_before(r, i))
            return cli_usage("serve", "%s=: given twice", o->key);
    }
    for (unsigned n = 0; (o = option_of(p, n)); n++) {
        bool given = false;
        for (unsigned i = 0; i < r->value_count; i++)
            given |= strcmp(r->values[i].key, o->key) == 0;
        if ((o->flags & OB_OPTION_REQUIRED) && !given)
            return cli_usage("serve", "%s needs %s=%s: %s", p->name, o->key, o->value, o->help);
    }
    return CLI_OK;
}

static int add_operand(struct request *r, const char *word)
{
    if (!r->device) {
        r->device = word;
        return CLI_OK;
    }
    const char *equals = strchr(word, '=');
    if (!equals || equals == word)
        return cli_usage("serve", "%s: not KEY=VALUE", word);
    char *key = strndup(word, (size_t)(equals - word));
    if (!key)
        return cli_error("serve", "no memory");
    r->values[r->value_count++] = (struct option_value){ key, equals + 1 };
    return CLI_OK;
}

static int get_fd(const char *name, const char *text, int *fd)
{
    uint64_t number;
    if (cli_number(text, 0, 1u << 20, &number) < 0)
        return cli_usage("serve", "--%s=%s: not a descriptor", name, text);
    *fd = (int)number;
    return CLI_OK;
}

static int get_sandbox(const char *text, bool *sandbox)
{
    *sandbox = strcmp(text, "on") == 0;
    if (!*sandbox && strcmp(text, "off") != 0)
        return cli_usage("serve", "--sandbox=%s: on or off", text);
    return CLI_OK;
}

static int get_role(const char *text, enum worker_role *role)
{
    static const char *const names[] = { KEEPER_ROLES };

    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(text, names[i]) == 0) {
            *role = (enum worker_role)i;
            return CLI_OK;
        }
    return cli_usage("serve", "--role=%s: no such role", text);
}

static int parse(struct request *r, int argc, char **argv)
{
    struct cli_args args;
    int word, status = CLI_OK;

    cli_start(&args, &command, argc, argv);
    while (status == CLI_OK && (word = cli_next(&args)) != CLI_END) {
        switch (word) {
        case CLI_OPERAND: status = add_operand(r, args.value); break;
        case SOCKET_PATH: r->socket_path = args.value; break;
        case CONTROL_PATH: r->control_path = args.value; break;
        case FD: status = get_fd("fd", args.value, &r->fd); break;
        case READY_FD: status = get_fd("ready-fd", args.value, &r->settings.ready_fd); break;
        case NO_KEEPER: r->no_keeper = true; break;
        case SANDBOX: status = get_sandbox(args.value, &r->settings.sandbox); break;
        case KEEPER_FD: status = get_fd("keeper-fd", args.value, &r->settings.keeper_fd); break;
        case ROLE: status = get_role(args.value, &r->settings.role); break;
        case ONE_CLIENT: r->settings.one_client = true; break;
        case PRINT_CAPABILITIES: r->print_capabilities = true; break;
        case LIST: list_devices(); return -1;
        case VERBOSE: server_verbose = true; break;
        default: return word == CLI_HELPED ? -1 : cli_exit(word);
        }
    }
    return status;
}

/* This process serves, and has no paths any more when it ends. */
static int serve_alone(struct request *r)
{
    if (r->settings.sandbox && (r->settings.tidy_fd = serve_tidy_start(&r->settings, r->socket_path)) < 0)
        return CLI_FAILED;
    int status = worker_run(&r->settings);
    if (r->settings.sandbox)
        serve_tidy(r->settings.tidy_fd, status == CLI_OK);
    else
        serve_remove_sockets(&r->settings, NULL, status == CLI_OK);
    return status;
}

/* From the first path that is made until somebody watches for these, who removes it in the end. */
static void hold_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

/* The ways in are open, and then it is served. What is left of the paths is removed by who served. */
static int serve(struct request *r)
{
    struct keeper_sockets sockets = { r->socket_path, r->control_path, -1 };

    hold_signals();
    int status = serve_door(r->socket_path, r->fd, &r->settings.door, &r->settings.client);

    if (status != CLI_OK)
        return status;
    status = serve_notify(&r->settings.notify_fd);
    if (status == CLI_OK && r->control_path)
        status = serve_control(r->control_path, &sockets.control);
    if (status == CLI_OK)
        status = r->no_keeper ? serve_alone(r)
                              : serve_keeper(&r->settings, r->device, &sockets, server_verbose);
    if (r->socket_path && r->settings.tidy_fd < 0)
        unlink(r->socket_path);
    if (sockets.control >= 0)
        unlink(r->control_path);
    return status;
}

/* The way in is one of three. */
static int take_passed(struct request *r)
{
    int passed;

    int status = serve_passed(&passed);
    if (status != CLI_OK)
        return status;
    if (passed >= 0 && (r->socket_path || r->fd >= 0))
        return cli_usage("serve", "a socket was passed by LISTEN_FDS: not with --socket-path or --fd");
    if (passed < 0 && !r->socket_path == (r->fd < 0))
        return cli_usage("serve", "one of --socket-path and --fd is needed, or a socket passed by LISTEN_FDS");
    if (passed >= 0)
        r->fd = passed;
    return CLI_OK;
}

static int run(struct request *r)
{
    char why[256];
    int status;

    if (!r->device)
        return cli_usage("serve", "which device?");
    r->settings.plugin = plugin_find(r->device, why, sizeof why);
    if (!r->settings.plugin)
        return cli_error("serve", "%s", why);
    if (r->print_capabilities)
        return print_capabilities(r->settings.plugin);
    r->settings.sandbox &= SANDBOX_POSSIBLE;
    if (r->settings.keeper_fd < 0 && (status = take_passed(r)) != CLI_OK)
        return status;
    if (r->control_path && r->no_keeper)
        return cli_usage("serve", "--control-path needs the keeper: not with --no-keeper");
    if ((status = check_values(r)) != CLI_OK)
        return status;
    r->settings.options = r->values;
    r->settings.option_count = r->value_count;
    if (r->settings.keeper_fd >= 0)
        return worker_run(&r->settings);
    return serve(r);
}

int cli_serve(int argc, char **argv)
{
    struct request r = { .fd = -1,
                         .settings = { .door = -1, .client = -1, .keeper_fd = -1, .ready_fd = -1,
                                       .notify_fd = -1, .tidy_fd = -1, .sandbox = true } };

    r.values = calloc((size_t)argc, sizeof *r.values);
    if (!r.values)
        return cli_error("serve", "no memory");
    int status = parse(&r, argc, argv); /* -1: all was said */
    status = status < 0 ? CLI_OK : status ? status : run(&r);
    for (unsigned i = 0; i < r.value_count; i++)
        free((char *)(uintptr_t)r.values[i].key);
    free(r.values);
    return status;
}

/*
 * inspect.c - `outboard inspect`: what a server offers, without a VM.
 */
#include "cli/cli.h"
#include "cli/facts.h"
#include "cli/options.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { JSON = 1 };

static const struct cli_option options[] = {
    { "json", NULL, "the same facts for machines; outboard-inspect(1) names the keys", JSON },
    { NULL, NULL, NULL, 0 },
};

static const struct cli_command command = {
    .name = "inspect",
    .usage = "SOCKET [--json]",
    .summary = "Show what a vfio-user server offers: its limits, regions, interrupts, config\n"
               "space as `lspci -vvv` prints it, and whether it can migrate",
    .options = options,
    .more = "The server must have no other client. Nothing of the device is changed.\n",
};

/* The server answered, and refused; anything else says that the connection is of no more use. */
static bool refused(int error)
{
    switch (error) {
    case -ECONNRESET:
    case -EPROTO:
    case -EBADMSG:
    case -ETIMEDOUT:
    case -ENOTCONN:
    case -ENOMEM:
        return false;
    }
    return error < 0;
}

static int ask_regions(struct ob_client *client, struct facts *f)
{
    for (uint32_t i = 0; i < f->device.num_regions; i++) {
        struct region_fact *fact = &f->regions[i];
        fact->error = ob_client_region(client, i, &fact->region);
        if (fact->error && !refused(fact->error))
            return fact->error;
    }
    return 0;
}

static int ask_irqs(struct ob_client *client, struct facts *f)
{
    for (uint32_t i = 0; i < f->device.num_irqs; i++) {
        struct irq_fact *fact = &f->irqs[i];
        fact->error = ob_client_irq_info(client, i, &fact->info);
        if (fact->error && !refused(fact->error))
            return fact->error;
    }
    return 0;
}

/* Four bytes at a time: there are servers that take no longer access to a config space. */
static int read_config(struct ob_client *client, struct facts *f)
{
    if (!(f->device.flags & VFIO_DEVICE_FLAGS_PCI))
        return 0;
    uint64_t size = facts_size(f, VFIO_PCI_CONFIG_REGION_INDEX);
    if (size > CONFIG_EXTENDED_SIZE)
        size = CONFIG_EXTENDED_SIZE;
    while (f->config.size + 4 <= size) {
        uint32_t at = f->config.size;
        uint8_t *bytes = f->config.bytes + at;
        int error = ob_client_read(client, VFIO_PCI_CONFIG_REGION_INDEX, at, bytes, 4);
        if (error)
            return refused(error) ? 0 : error;
        f->config.size += 4;
    }
    return 0;
}

static int ask_migration(struct ob_client *client, struct facts *f)
{
    struct vfio_device_feature_migration migration = { 0 };
    size_t n = 0;
    int error = ob_client_device_feature(client,
                                         VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION,
                                         &migration, sizeof(migration), sizeof(migration), &n);
    if (error)
        return refused(error) ? 0 : error;
    f->migrates = n == sizeof(migration) && migration.flags != 0;
    f->migration = migration.flags;
    return 0;
}

static int ask(struct ob_client *client, struct facts *f)
{
    int error = ob_client_connect(client, f->socket);
    if (!error)
        error = ob_client_capabilities(client, NULL, &f->server);
    if (!error)
        error = ob_client_device_info(client, &f->device);
    if (!error)
        error = ask_regions(client, f);
    if (!error)
        error = ask_irqs(client, f);
    if (!error)
        error = read_config(client, f);
    if (!error)
        error = ask_migration(client, f);
    return error;
}

static int complain(struct ob_client *client, const char *socket, int error)
{
    char why[OB_CLIENT_ERROR_SIZE];
    if (error == -EBUSY)
        return cli_error("inspect", "%s: the server has a client already", socket);
    if (!*ob_client_error(client, why, sizeof(why)))
        return cli_error("inspect", "%s: %s", socket, strerror(-error));
    if (strstr(why, socket))
        return cli_error("inspect", "%s", why);
    return cli_error("inspect", "%s: %s", socket, why);
}

static int show(const struct facts *f, bool json)
{
    if (!json)
        facts_print(stdout, f);
    else if (facts_print_json(stdout, f) < 0)
        return cli_error("inspect", "%s", strerror(ENOMEM));
    if (fflush(stdout) != 0)
        return cli_error("inspect", "stdout: %s", strerror(errno));
    return CLI_OK;
}

static int inspect(const char *socket, bool json)
{
    struct facts *f = calloc(1, sizeof(*f));
    struct ob_client *client = f ? ob_client_new() : NULL;
    if (!client) {
        free(f);
        return cli_error("inspect", "%s", strerror(ENOMEM));
    }
    f->socket = socket;
    int error = ask(client, f);
    int status = error ? complain(client, socket, error) : show(f, json);
    for (uint32_t i = 0; i < FACTS_MAX_REGIONS; i++)
        ob_region_free(f->regions[i].region);
    ob_client_free(client);
    free(f);
    return status;
}

int cli_inspect(int argc, char **argv)
{
    struct cli_args args;
    const char *socket = NULL;
    bool json = false;
    int word;
    cli_start(&args, &command, argc, argv);
    while ((word = cli_next(&args)) >= 0) {
        if (word == JSON)
            json = true;
        else if (socket)
            return cli_usage("inspect", "%s: one socket at a time", args.value);
        else
            socket = args.value;
    }
    if (word != CLI_END)
        return cli_exit(word);
    if (!socket)
        return cli_usage("inspect", "the path of a server's socket is missing");
    return inspect(socket, json);
}

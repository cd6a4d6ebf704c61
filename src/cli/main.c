/*
 * main.c - the program `outboard`: finds the command, and runs it.
 */
#include "cli/cli.h"
#include "cli/options.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    { "serve", cli_serve, "serve a device to a VMM or any other client" },
    { "inspect", cli_inspect, "show what a server offers" },
    { "check", cli_check, "check that a server, or a client, does what the specification says" },
    { "run", cli_run, "run a virtual machine with its devices" },
    { "status", cli_status, "show the devices that are served, and how they are" },
    { "trace", cli_trace, "show what happened last to a device" },
    { "upgrade", cli_upgrade, "replace the program that runs a device, under load" },
};
enum { COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void help(void)
{
    printf("Usage: outboard COMMAND ...\n"
           "\n"
           "Virtual machine devices in processes of their own, over vfio-user.\n"
           "\n");
    for (int i = 0; i < COMMANDS; i++)
        printf("  %-10s %s\n", commands[i].name, commands[i].summary);
    printf("\n"
           "outboard COMMAND --help tells about one, and so does `man outboard-COMMAND`.\n"
           "outboard --version tells which outboard this is.\n");
}

/* Who starts us may have closed some of 0 to 2. What we open must not get their numbers. */
static void fill_standard_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

int main(int argc, char **argv)
{
    fill_standard_descriptors();
    if (argc < 2)
        return cli_usage(NULL, "which command?");
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        help();
        return CLI_OK;
    }
    if (strcmp(word, "--version") == 0) {
        printf("outboard %s\n", OUTBOARD_VERSION);
        return CLI_OK;
    }
    for (int i = 0; i < COMMANDS; i++)
        if (strcmp(word, commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    return cli_usage(NULL, "%s: no such command", word);
}

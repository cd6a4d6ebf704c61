/*
 * upgrade.c - outboard upgrade: another build runs a device from now on.
 *
 * What can be found out before anything happens is found out here, so that the keeper has less to do: is it a
 * program, does it know the device?
 */
#include "cli/cli.h"
#include "cli/control.h"
#include "cli/options.h"
#include "cli/serve_keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE 30u       /* s, for the answer: the keeper has its own */
#define PROBE_PATIENCE 10u /* s, for a program to say what it can do */

enum { BINARY = 1, KEEPER };

static const struct cli_option options[] = {
    { "binary", "FILE", "the program that shall run the device; this one, if\nnot given", BINARY },
    { "keeper", NULL,
      "replace the keeper instead of what it keeps: by the\noutboard-keeper beside FILE", KEEPER },
    { NULL, NULL, NULL, 0 },
};

static const struct cli_command command = {
    .name = "upgrade",
    .usage = "VM/DEVICE|CONTROL [--binary=FILE] [--keeper]",
    .summary = "Replace the program that runs a device, while its guest goes on",
    .options = options,
    .more =
        "CONTROL is the path of a control socket: outboard serve --control-path.\n"
        "If the new program cannot take over, or dies in its first second, the old one goes on,\n"
        "and the reason is told.\n",
};

/* ---- The program -------------------------------------------------------------------------------------- */

/* A word of another process's command line: the nth behind "--", as its keeper starts workers by it. */
static bool worker_word(int32_t keeper, unsigned nth, char *word, size_t space)
{
    char path[64], text[16384];

    snprintf(path, sizeof path, "/proc/%d/cmdline", keeper);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    const char *at = text, *end = text + n;
    while (at < end && strcmp(at, "--") != 0)
        at += strlen(at) + 1;
    for (unsigned i = 0; at < end && i <= nth; i++)
        at += strlen(at) + 1;
    return at < end && snprintf(word, space, "%s", at) < (int)space;
}

static void run_probe(const char *path, const char *device, int32_t keeper, int out)
{
    char folder[64];
    int null = open("/dev/null", O_RDWR);

    dup2(null, STDIN_FILENO);
    dup2(null, STDERR_FILENO);
    dup2(out, STDOUT_FILENO);
    /* A plugin's path is as it was when it was served. */
    snprintf(folder, sizeof folder, "/proc/%d/cwd", keeper);
    if (strchr(device, '/') && chdir(folder) < 0)
        _exit(127);
    execl(path, path, "serve", device, "--print-capabilities", (char *)NULL);
    _exit(errno == ENOEXEC ? 126 : 127);
}

/* What it prints, and how it ended. */
static size_t read_probe(int fd, pid_t pid, char *text, size_t space, int *status)
{
    struct pollfd p = { fd, POLLIN, 0 };
    time_t until = time(NULL) + PROBE_PATIENCE;
    size_t n = 0;
    ssize_t got = 1;

    while (got > 0 && n < space - 1 && time(NULL) < until)
        if (poll(&p, 1, 200) == 1 && (got = read(fd, text + n, space - 1 - n)) > 0)
            n += (size_t)got;
    text[n] = '\0';
    pid_t ended = 0;
    while (got == 0 && (ended = waitpid(pid, status, WNOHANG)) == 0 && time(NULL) < until)
        poll(NULL, 0, 1); /* it said all, and has not ended */
    if (ended)
        return n;
    kill(pid, SIGKILL);
    waitpid(pid, status, 0);
    return n;
}

static bool names_device(const char *text, const char *name)
{
    json_object *root = json_tokener_parse(text), *device;
    bool same = root && json_object_object_get_ex(root, "device", &device) &&
                json_object_is_type(device, json_type_string) &&
                strcmp(json_object_get_string(device), name) == 0;

    json_object_put(root);
    return same;
}

/* Does it serve this device, as far as it says? */
static int probe(const char *path, const char *device, const struct keeper_status *of)
{
    char text[65536];
    int ends[2], status = 0;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return cli_error("upgrade", "%s: %s", path, strerror(errno));
    pid_t pid = fork();
    if (pid == 0)
        run_probe(path, device, of->keeper, ends[1]);
    close(ends[1]);
    if (pid > 0)
        read_probe(ends[0], pid, text, sizeof text, &status);
    close(ends[0]);
    if (pid < 0)
        return cli_error("upgrade", "%s: %s", path, strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 126)
        return cli_error("upgrade", "%s: not a program", path);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !names_device(text, of->name))
        return cli_error("upgrade", "%s: does not serve the device %s", path, of->name);
    return CLI_OK;
}

/* *fd: it is this file, whatever the path leads to later. */
static int open_program(const char *given, char path[PATH_MAX], int *fd)
{
    struct stat st;

    if (!realpath(given ? given : "/proc/self/exe", path))
        return cli_error("upgrade", "%s: %s", given ? given : "this program", strerror(errno));
    *fd = open(path, O_PATH | O_CLOEXEC);
    if (*fd < 0 || fstat(*fd, &st) < 0)
        return cli_error("upgrade", "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || access(path, X_OK) < 0)
        return cli_error("upgrade", "%s: %s", path,
                         S_ISREG(st.st_mode) ? strerror(errno) : "not a program");
    return CLI_OK;
}

/* ---- Asking ------------------------------------------------------------------------------------------- */

static int connect_to(const struct control_target *target, int *sock, struct keeper_status *status)
{
    struct control_answer answer;
    int block;

    *sock = control_connect(target->path, PATIENCE);
    int ret = *sock < 0 ? *sock : control_status(*sock, &answer, &block);
    if (ret < 0)
        return cli_error("upgrade", "%s: %s", target->label, control_error(ret));
    if (block >= 0)
        close(block);
    *status = answer.status;
    return CLI_OK;
}

static int ask(const struct control_target *target, int sock, enum control_what what,
               const char *path, int program, struct keeper_status *after)
{
    struct {
        struct control_request head;
        char path[PATH_MAX];
    } request = { .head.what = what };
    struct control_answer answer;
    size_t n = strlen(path) + 1;

    memcpy(request.path, path, n);
    request.head.size = (uint32_t)(sizeof request.head + n);
    int ret = control_ask(sock, &request, request.head.size, program, &answer, NULL);
    if (ret == 0 && answer.result < 0)
        return cli_error("upgrade", "%s: not upgraded: %s", target->label,
                         answer.why[0] ? answer.why : control_error(answer.result));
    if (ret < 0)
        return cli_error("upgrade", "%s: %s", target->label, control_error(ret));
    *after = answer.status;
    return CLI_OK;
}

static int upgrade_worker(const struct control_target *target, const char *path, int program)
{
    char device[PATH_MAX];
    struct keeper_status before, after;
    int sock = -1;

    int ret = connect_to(target, &sock, &before);
    if (ret == CLI_OK) {
        bool known = worker_word(before.keeper, 2, device, sizeof device);
        ret = probe(path, known ? device : before.name, &before);
    }
    if (ret == CLI_OK)
        ret = ask(target, sock, CONTROL_UPGRADE, path, program, &after);
    if (ret == CLI_OK)
        printf("%s: upgraded, pause %.1f ms, worker %d -> %d\n", target->label,
               (double)after.upgrade_pause / 1e6, before.worker, after.worker);
    if (sock >= 0)
        close(sock);
    return ret;
}

static int upgrade_keeper(const struct control_target *target, const char *path, int program)
{
    struct keeper_status before, after;
    int sock = -1;

    int ret = connect_to(target, &sock, &before);
    if (ret == CLI_OK)
        ret = ask(target, sock, CONTROL_REEXEC, path, program, &after);
    if (ret == CLI_OK)
        printf("%s: keeper %d is %s now\n", target->label, after.keeper, path);
    if (sock >= 0)
        close(sock);
    return ret;
}

static int upgrade(const struct control_target *target, const char *binary, bool keeper)
{
    char path[PATH_MAX], keeper_path[PATH_MAX];
    int program = -1;

    int ret = open_program(binary, path, &program);
    if (ret == CLI_OK && keeper) {
        close(program);
        program = -1;
        serve_keeper_path(path, keeper_path, sizeof keeper_path);
        ret = open_program(keeper_path, path, &program);
    }
    if (ret == CLI_OK)
        ret = keeper ? upgrade_keeper(target, path, program)
                     : upgrade_worker(target, path, program);
    if (program >= 0)
        close(program);
    return ret;
}

int cli_upgrade(int argc, char **argv)
{
    struct control_targets found;
    const char *device = NULL, *binary = NULL;
    bool keeper = false;
    struct cli_args args;
    int word;

    cli_start(&args, &command, argc, argv);
    while ((word = cli_next(&args)) >= 0)
        switch (word) {
        case CLI_OPERAND:
            if (device)
                return cli_usage("upgrade", "%s: one device at a time", args.value);
            device = args.value;
            break;
        case BINARY:
            binary = args.value;
            break;
        case KEEPER:
            keeper = true;
            break;
        }
    if (word != CLI_END)
        return cli_exit(word);
    if (!device)
        return cli_usage("upgrade", "which device?");
    int ret = control_find("upgrade", device, &found);
    if (ret != CLI_OK)
        return ret;
    if (found.count == 1)
        ret = upgrade(&found.target[0], binary, keeper);
    else
        ret = cli_usage("upgrade", "%s: has %u devices, %s is the first: name one", device,
                        found.count, found.target[0].label);
    control_free(&found);
    return ret;
}

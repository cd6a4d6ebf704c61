/*
 * run.c - `outboard run`: a VM with its devices in processes of their own.
 */
#include "cli/cli.h"
#include "cli/options.h"
#include "server/bus.h"
#include "vm/command.h"
#include "vm/qemu.h"
#include "vm/run.h"
#include "vm/rundir.h"
#include "worker/plugins.h"
#include <errno.h>
#include <outboard/device.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME = 1, MEMORY, CPUS, KERNEL, INITRD, APPEND, DEVICE, DRY_RUN, VERBOSE };

static const struct cli_option options[] = {
    { "name", "VM", "name of the VM; standard: a free one of vm0, vm1, ...", NAME },
    { "memory", "SIZE", "guest memory, with K, M or G; standard: 512M", MEMORY },
    { "cpus", "N", "virtual CPUs; standard: 1", CPUS },
    { "kernel", "FILE", "Linux kernel to start at once, without a boot loader", KERNEL },
    { "initrd", "FILE", "its initial RAM disk", INITRD },
    { "append", "TEXT", "its command line, under 2048 bytes", APPEND },
    { "device", "DEVICE[,KEY=VALUE]...",
      "a device, in a process of its own; may be repeated.\n"
      "id=, bootindex= and addr= are for the VM, the rest\n"
      "for `outboard serve DEVICE`; ,, is a comma in a value",
      DEVICE },
    { "dry-run", NULL, "print the commands instead of running them", DRY_RUN },
    { "verbose", NULL, "have the devices log more", VERBOSE },
    { NULL, NULL, NULL, 0 },
};

static const struct cli_command command = {
    .name = "run",
    .usage = "[--name=VM] [--memory=SIZE] [--cpus=N]\n"
             "[--kernel=FILE [--initrd=FILE] [--append=TEXT]]\n"
             "[--device DEVICE[,KEY=VALUE]...]... [--dry-run] [--verbose]\n"
             "[-- QEMU arguments]",
    .summary = "Run a virtual machine whose devices are processes of their own",
    .options = options,
    .more = "What follows -- goes to QEMU as it is. The exit status is QEMU's.\n"
            "Environment: OUTBOARD_QEMU is the QEMU to run, OUTBOARD_ACCEL is kvm or tcg.\n",
};

struct request {
    struct vm vm;
    bool dry_run;
    bool verbose;
};

/* ---- The command line ----------------------------------------------------------------------- */

static int set_name(struct vm *vm, const char *text)
{
    if (!vm_is_name(text))
        return cli_usage("run", "--name=%s: a name is a letter, then letters, digits, '.', '_' "
                         "and '-', under %d", text, VM_NAME_SIZE);
    strcpy(vm->name, text);
    return CLI_OK;
}

static int set_memory(struct vm *vm, const char *text)
{
    const uint64_t unit = 1u << 20, most = 1ull << 44;
    uint64_t size;
    if (ob_parse_size(text, &size) < 0 || size < unit || size > most || size % unit)
        return cli_usage("run", "--memory=%s: not a size in whole MiB, such as 512M", text);
    vm->memory = size;
    return CLI_OK;
}

static int set_cpus(struct vm *vm, const char *text)
{
    uint64_t n;
    if (cli_number(text, 1, 1024, &n) < 0)
        return cli_usage("run", "--cpus=%s: not a number from 1 to 1024", text);
    vm->cpus = (unsigned)n;
    return CLI_OK;
}

static int set_append(struct vm *vm, const char *text)
{
    /* The boot protocol's limit. Beyond it a guest hangs without a word. */
    if (strlen(text) >= 2048)
        return cli_usage("run", "--append: a kernel takes no more than 2047 bytes");
    vm->append = text;
    return CLI_OK;
}

/* Whether QEMU can attach it, as far as can be told without loading a plugin's file into this process. */
static bool is_pci(const struct vm_device *d)
{
    const struct ob_plugin *plugin = NULL;
    const struct bus *bus = &bus_pci;
    for (unsigned i = 0; (plugin = plugin_built_in(i)) && strcmp(plugin->name, d->kind) != 0; i++)
        ;
    if (plugin)
        bus = bus_of(plugin, 0);
    for (size_t i = 0; i < d->params.count; i++)
        if (strcmp(d->params.word[i], "bus=platform") == 0)
            bus = &bus_platform;
    return bus == &bus_pci;
}

static int add_device(struct vm *vm, const char *text)
{
    char why[VM_WHY_SIZE];
    int error = vm_add_device(vm, text, why);
    if (error == -ENOMEM)
        return cli_error("run", "%s", why);
    if (error)
        return cli_usage("run", "--device %s", why);
    if (!is_pci(&vm->devices[vm->devices_count - 1]))
        return cli_usage("run", "--device %s: no PCI device, and QEMU attaches no others", text);
    return CLI_OK;
}

static int parse_word(struct request *r, int word, const char *value)
{
    switch (word) {
    case NAME:
        return set_name(&r->vm, value);
    case MEMORY:
        return set_memory(&r->vm, value);
    case CPUS:
        return set_cpus(&r->vm, value);
    case KERNEL:
        r->vm.kernel = value;
        return CLI_OK;
    case INITRD:
        r->vm.initrd = value;
        return CLI_OK;
    case APPEND:
        return set_append(&r->vm, value);
    case DEVICE:
        return add_device(&r->vm, value);
    case DRY_RUN:
        r->dry_run = true;
        return CLI_OK;
    case VERBOSE:
        r->verbose = true;
        return CLI_OK;
    }
    return cli_usage("run", "%s: QEMU's arguments come after --", value);
}

static int check_whole(const struct vm *vm)
{
    if (vm->kernel || (!vm->initrd && !vm->append))
        return CLI_OK;
    return cli_usage("run", "--%s: needs --kernel", vm->initrd ? "initrd" : "append");
}

/* CLI_OK to go on; -1: all was said, and it was no error. */
static int parse(struct request *r, int argc, char **argv)
{
    struct cli_args args;
    int word, status = CLI_OK;
    cli_start(&args, &command, argc, argv);
    while (status == CLI_OK && (word = cli_next(&args)) >= 0) {
        if (args.dashed) {
            r->vm.qemu_args = argv + args.next - 1;
            r->vm.qemu_args_count = (unsigned)(argc - args.next + 1);
            break;
        }
        status = parse_word(r, word, args.value);
    }
    if (status != CLI_OK)
        return status;
    if (word < 0 && word != CLI_END)
        return word == CLI_HELPED ? -1 : cli_exit(word);
    for (unsigned i = 0; i < r->vm.devices_count; i++)
        r->vm.devices[i].verbose = r->verbose;
    return check_whole(&r->vm);
}

/* ---- What it runs on ------------------------------------------------------------------------ */

/* This program, as a path that a person can paste; a deleted one runs only through /proc. */
static const char *own_program(char path[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (n <= 0)
        return "/proc/self/exe";
    path[n] = '\0';
    struct stat named, running;
    if (stat(path, &named) == 0 && stat("/proc/self/exe", &running) == 0 &&
        named.st_dev == running.st_dev && named.st_ino == running.st_ino)
        return path;
    return "/proc/self/exe";
}

static int check_file(const char *path)
{
    if (!path || access(path, R_OK) == 0)
        return CLI_OK;
    return cli_error("run", "%s: %s", path, strerror(errno));
}

/* A VM without a name gets the first free one. */
static int open_rundir(struct vm *vm, struct rundir *dir, char why[VM_WHY_SIZE])
{
    if (vm->name[0])
        return rundir_open(vm->name, dir, why);
    int error = -EBUSY;
    for (unsigned i = 0; error == -EBUSY; i++) {
        snprintf(vm->name, sizeof(vm->name), "vm%u", i);
        error = rundir_open(vm->name, dir, why);
    }
    return error;
}

static void say(const char *sentence)
{
    cli_error("run", "%s", sentence);
}

static int run(struct vm *vm)
{
    char program[PATH_MAX], qemu[PATH_MAX], why[VM_WHY_SIZE];
    struct rundir dir;
    struct vm_host host = { .program = own_program(program), .qemu = qemu, .say = say };
    if (check_file(vm->kernel) || check_file(vm->initrd))
        return CLI_FAILED;
    if (vm_find_qemu(qemu, why) < 0 || vm_check_qemu(qemu, why) < 0)
        return cli_error("run", "%s", why);
    host.accel = vm_accelerator(why);
    if (!host.accel || open_rundir(vm, &dir, why) < 0)
        return cli_error("run", "%s", why);
    host.rundir = dir.path;
    int status = vm_check_paths(vm, dir.path, why);
    status = status < 0 ? cli_error("run", "%s", why) : vm_run(vm, &host);
    rundir_remove(&dir);
    return status;
}

/* ---- --dry-run ------------------------------------------------------------------------------ */

/* As a POSIX shell reads it back. */
static void print_word(const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "%+,-./:=@_";
    if (*word && word[strspn(word, plain)] == '\0') {
        fputs(word, stdout);
        return;
    }
    putchar('\'');
    for (; *word; word++)
        if (*word == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*word);
    putchar('\'');
}

static int print_command(struct argv *argv, const char *end)
{
    bool failed = argv->failed;
    for (size_t i = 0; !failed && i < argv->count; i++) {
        if (i)
            putchar(' ');
        print_word(argv->word[i]);
    }
    argv_free(argv);
    if (failed)
        return cli_error("run", "%s", strerror(ENOMEM));
    printf("%s\n", end);
    return CLI_OK;
}

/* Nothing is made, looked for in vain, or run, but for the KVM probe that chooses a word. */
static int print_commands(struct vm *vm)
{
    char program[PATH_MAX], qemu[PATH_MAX], path[RUNDIR_SIZE], why[VM_WHY_SIZE];
    struct argv argv = { 0 };
    if (!vm->name[0])
        strcpy(vm->name, "vm0");
    vm_find_qemu(qemu, why);
    const char *accel = vm_accelerator(why);
    if (!accel || rundir_path(vm->name, path, why) < 0 || vm_check_paths(vm, path, why) < 0)
        return cli_error("run", "%s", why);

    argv_add(&argv, "mkdir");
    argv_add(&argv, "-p");
    argv_add(&argv, "%s", path);
    int status = print_command(&argv, "");
    for (unsigned i = 0; status == CLI_OK && i < vm->devices_count; i++) {
        vm_serve_command(&vm->devices[i], own_program(program), path, -1, &argv);
        status = print_command(&argv, " &");
    }
    if (status != CLI_OK)
        return status;
    vm_qemu_command(vm, qemu, accel, path, &argv);
    return print_command(&argv, "");
}

int cli_run(int argc, char **argv)
{
    struct request r = { .vm = { .memory = 512u << 20, .cpus = 1 } };
    int status = parse(&r, argc, argv);
    if (status == CLI_OK)
        status = r.dry_run ? print_commands(&r.vm) : run(&r.vm);
    vm_free(&r.vm);
    return status < 0 ? CLI_OK : status;
}

/*
 * command.c - the command lines of a VM's processes.
 */
#include "vm/command.h"
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

int vm_check_paths(const struct vm *vm, const char *rundir, char why[VM_WHY_SIZE])
{
    struct sockaddr_un address;
    for (unsigned i = 0; i < vm->devices_count; i++) {
        const char *id = vm->devices[i].id;
        if (strlen(rundir) + strlen("/") + strlen(id) + strlen(".control") < sizeof(address.sun_path))
            continue;
        snprintf(why, VM_WHY_SIZE, "%s/%s.control: longer than a socket's path may be (%zu bytes)",
                 rundir, id, sizeof(address.sun_path) - 1);
        return -ENAMETOOLONG;
    }
    return 0;
}

void vm_serve_command(const struct vm_device *d, const char *program, const char *rundir,
                      int ready_fd, struct argv *argv)
{
    argv_add(argv, "%s", program);
    argv_add(argv, "serve");
    argv_add(argv, "%s", d->kind);
    for (size_t i = 0; i < d->params.count; i++)
        argv_add(argv, "%s", d->params.word[i]);
    argv_add(argv, "--socket-path=%s/%s.sock", rundir, d->id);
    argv_add(argv, "--control-path=%s/%s.control", rundir, d->id);
    if (d->verbose)
        argv_add(argv, "--verbose");
    if (ready_fd >= 0)
        argv_add(argv, "--ready-fd=%d", ready_fd);
}

/* An option with its value, unless that is NULL. */
static void add_value(struct argv *argv, const char *option, const char *value)
{
    if (!value)
        return;
    argv_add(argv, "%s", option);
    argv_add(argv, "%s", value);
}

static bool is_one_of(const char *word, const char *const *options)
{
    if (word[0] == '-' && word[1] == '-') /* QEMU takes two dashes for one */
        word++;
    for (; *options; options++)
        if (strcmp(word, *options) == 0)
            return true;
    return false;
}

/* Do the user's own arguments for QEMU contain one of these options? */
static bool user_gave(const struct vm *vm, const char *const *options)
{
    for (unsigned i = 0; i < vm->qemu_args_count; i++)
        if (is_one_of(vm->qemu_args[i], options))
            return true;
    return false;
}

/* Is the terminal spoken for, or the console a device of ours? */
static bool console_is_elsewhere(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->devices_count; i++)
        if (vm->devices[i].takes_terminal || strcmp(vm->devices[i].kind, "serial") == 0)
            return true;
    for (unsigned i = 0; i < vm->qemu_args_count; i++)
        if (strstr(vm->qemu_args[i], "stdio"))
            return true;
    return false;
}

/*
 * The VM has nothing but what the user names, and its console is where the user put it: on a device
 * of ours, on what QEMU's own options say, or else on QEMU's serial port on the terminal.
 */
static void add_console(const struct vm *vm, struct argv *argv)
{
    static const char *const nographic[] = { "-nographic", NULL };
    static const char *const serial[] = { "-serial", "-nographic", NULL };
    static const char *const monitor[] = { "-monitor", "-nographic", NULL };
    argv_add(argv, "-no-user-config");
    /* QEMU's -nographic speaks of default devices, and does nothing without them. */
    if (user_gave(vm, nographic))
        return;
    argv_add(argv, "-nodefaults");
    add_value(argv, "-display", "none");
    if (!user_gave(vm, serial))
        add_value(argv, "-serial", console_is_elsewhere(vm) ? "none" : "mon:stdio");
    if (!user_gave(vm, monitor))
        add_value(argv, "-monitor", "none");
}

static bool put(struct json_object *object, const char *key, struct json_object *value)
{
    if (value && json_object_object_add(object, key, value) == 0)
        return true;
    json_object_put(value);
    return false;
}

static bool fill_client(struct json_object *device, const struct vm_device *d, const char *rundir)
{
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    char bus[VM_NAME_SIZE + 8];
    snprintf(path, sizeof(path), "%s/%s.sock", rundir, d->id);
    snprintf(bus, sizeof(bus), "%s-port", d->id);

    struct json_object *socket = json_object_new_object();
    return put(device, "driver", json_object_new_string("vfio-user-pci")) &&
           put(device, "id", json_object_new_string(d->id)) &&
           put(device, "bus", json_object_new_string(bus)) &&
           (d->bootindex < 0 || put(device, "bootindex", json_object_new_int(d->bootindex))) &&
           put(device, "socket", socket) && put(socket, "type", json_object_new_string("unix")) &&
           put(socket, "path", json_object_new_string(path));
}

/* QEMU's JSON form is the only one that takes a socket. */
static void add_client(const struct vm_device *d, const char *rundir, struct argv *argv)
{
    struct json_object *device = json_object_new_object();
    const char *text = NULL;
    if (device && fill_client(device, d, rundir))
        text = json_object_to_json_string_ext(device, JSON_C_TO_STRING_PLAIN |
                                                          JSON_C_TO_STRING_NOSLASHESCAPE);
    argv_add(argv, "-device");
    if (text)
        argv_add(argv, "%s", text);
    else
        argv->failed = true;
    json_object_put(device);
}

/* Each device sits behind a root port of its own, as a PCI Express endpoint must. */
static void add_devices(const struct vm *vm, const char *rundir, struct argv *argv)
{
    for (unsigned i = 0; i < vm->devices_count; i++) {
        const struct vm_device *d = &vm->devices[i];
        argv_add(argv, "-device");
        argv_add(argv, "pcie-root-port,id=%s-port,chassis=%u,slot=%u%s%s", d->id, i + 1, i + 1,
                 d->addr ? ",addr=" : "", d->addr ? d->addr : "");
        add_client(d, rundir, argv);
    }
}

static void format_size(uint64_t size, char text[32])
{
    static const char units[] = "BKMGT";
    unsigned unit = 0;
    while (units[unit + 1] && size && size % 1024 == 0) {
        size /= 1024;
        unit++;
    }
    snprintf(text, 32, "%" PRIu64 "%c", size, units[unit]);
}

void vm_qemu_command(const struct vm *vm, const char *qemu, const char *accel, const char *rundir,
                     struct argv *argv)
{
    char memory[32];
    format_size(vm->memory, memory);
    argv_add(argv, "%s", qemu);
    add_value(argv, "-name", vm->name);
    add_value(argv, "-machine", "q35,memory-backend=mem");
    add_value(argv, "-accel", accel);
    argv_add(argv, "-smp");
    argv_add(argv, "%u", vm->cpus);
    add_value(argv, "-m", memory);
    argv_add(argv, "-object");
    argv_add(argv, "memory-backend-memfd,id=mem,size=%s,share=on", memory);
    add_console(vm, argv);
    add_value(argv, "-kernel", vm->kernel);
    add_value(argv, "-initrd", vm->initrd);
    add_value(argv, "-append", vm->append);
    add_devices(vm, rundir, argv);
    for (unsigned i = 0; i < vm->qemu_args_count; i++)
        argv_add(argv, "%s", vm->qemu_args[i]);
}

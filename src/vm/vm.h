/*
 * vm.h - what a virtual machine consists of. How it is started is the subject of command.h, and
 * what runs of it that of run.h.
 */
#ifndef VM_H
#define VM_H

#include "vm/argv.h"
#include <stdbool.h>
#include <stdint.h>

/* Room for a name of a VM or a device, its NUL included. */
#define VM_NAME_SIZE 64

/* Room for a sentence that says what is wrong: what, colon, why. */
#define VM_WHY_SIZE 512

/* Root ports share bus 0 with a few devices of the machine itself; 0x1f is the chipset. */
#define VM_MAX_DEVICES 24u

struct vm_device {
    char id[VM_NAME_SIZE];
    char *kind;          /* what `outboard serve` serves: a name, or a plugin's file */
    struct argv params;  /* key=value for it */
    int bootindex;       /* for QEMU, -1: none */
    char *addr;          /* of the device's root port on the bus pcie.0, NULL: QEMU chooses */
    bool takes_terminal; /* one of params has the value "-" */
    bool verbose;        /* its process logs more */
};

struct vm {
    char name[VM_NAME_SIZE];
    uint64_t memory; /* bytes */
    unsigned cpus;
    const char *kernel, *initrd, *append; /* NULL: not given; the caller's */
    struct vm_device devices[VM_MAX_DEVICES];
    unsigned devices_count;
    char *const *qemu_args; /* more for QEMU, the caller's */
    unsigned qemu_args_count;
};

/* A letter, then letters, digits, '.', '_' and '-': what may name a VM, a device and a file. */
bool vm_is_name(const char *text);

/*
 * Adds a device from "DEVICE[,key=value]...", where ",," stands for a comma. id, bootindex and addr
 * are taken out, the rest is for the device. Without id the name is DEVICE and the first free
 * number. 0, or -EINVAL, -E2BIG or -ENOMEM and the reason in `why`.
 */
int vm_add_device(struct vm *vm, const char *text, char why[VM_WHY_SIZE]);

/* Frees what the devices own. */
void vm_free(struct vm *vm);

#endif

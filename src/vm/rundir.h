/*
 * rundir.h - the folder of a running VM: $XDG_RUNTIME_DIR/outboard/VM, for root /run/outboard/VM.
 *
 * Who runs the VM holds a lock on the folder, so that one left behind by a crash is told from one
 * in use.
 */
#ifndef VM_RUNDIR_H
#define VM_RUNDIR_H

#include "vm/vm.h"

/* Room for its path; a socket's path has to fit in 108 bytes anyway. */
#define RUNDIR_SIZE 128

struct rundir {
    char path[RUNDIR_SIZE];
    int fd; /* holds the lock, close-on-exec; -1: not open */
};

/* The folder of all VMs of this user. 0, or a negative errno with the reason in `why`. */
int rundir_base(char path[RUNDIR_SIZE], char why[VM_WHY_SIZE]);

/* Where the folder of a VM would be. 0, or a negative errno with the reason in `why`. */
int rundir_path(const char *name, char path[RUNDIR_SIZE], char why[VM_WHY_SIZE]);

/*
 * Makes it, empty, and locks it. -EBUSY: a VM of this name is running. Others as errno has them.
 * Then the reason is in `why`, and dir->fd is -1.
 */
int rundir_open(const char *name, struct rundir *dir, char why[VM_WHY_SIZE]);

/* Removes it with the files in it. */
void rundir_remove(struct rundir *dir);

#endif

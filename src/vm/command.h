/*
 * command.h - the command lines that make a virtual machine of its description.
 */
#ifndef VM_COMMAND_H
#define VM_COMMAND_H

#include "vm/vm.h"

/*
 * A device's process: `program` is outboard itself, `rundir` the folder for its sockets. ready_fd is
 * the number of the descriptor on which it is to say that it listens, or -1. An empty list to begin
 * with; look at argv->failed.
 */
void vm_serve_command(const struct vm_device *d, const char *program, const char *rundir,
                      int ready_fd, struct argv *argv);

/* QEMU. accel is "kvm" or "tcg". */
void vm_qemu_command(const struct vm *vm, const char *qemu, const char *accel, const char *rundir,
                     struct argv *argv);

/*
 * Do the sockets' paths fit an address (UNIX sockets take 107 bytes)? 0, or -ENAMETOOLONG with the
 * reason in `why`.
 */
int vm_check_paths(const struct vm *vm, const char *rundir, char why[VM_WHY_SIZE]);

#endif

/*
 * run.h - a VM's processes, from the first to the end of the last.
 */
#ifndef VM_RUN_H
#define VM_RUN_H

#include "vm/vm.h"

struct vm_host {
    const char *program; /* outboard itself */
    const char *qemu;
    const char *accel;   /* "kvm" or "tcg" */
    const char *rundir;  /* exists */
    void (*say)(const char *sentence); /* to the user, one line */
};

/*
 * Starts a process for each device and waits until all of them listen, then QEMU, and waits for its
 * end; then ends the others. SIGINT, SIGTERM and SIGHUP end all at any time; a second one does so
 * at once. They and SIGCHLD are blocked while this runs, so it must be called by a process with one
 * thread, and its children are reaped here. No child is left when it returns.
 *
 * The exit status of QEMU (128 + number when a signal killed it); 1 when it could not be started,
 * and it or a device has said why; 0 when the end was asked for before.
 */
int vm_run(const struct vm *vm, const struct vm_host *host);

#endif

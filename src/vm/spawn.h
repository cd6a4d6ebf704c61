/*
 * spawn.h - starting a child that does not outlive its parent.
 */
#ifndef VM_SPAWN_H
#define VM_SPAWN_H

#include "vm/argv.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/types.h>

struct vm_spawn {
    bool no_input; /* stdin is /dev/null, else it is inherited */
    int output;    /* what becomes stdout, and stderr with it; 0: both are inherited */
    int keep;      /* a close-on-exec descriptor that the child is to inherit; 0: none */
    const sigset_t *mask; /* the child's signal mask, NULL: as it is */
};

/*
 * Starts argv (word[0] is looked for on PATH). The child gets SIGTERM when the caller's thread
 * ends, however it ends. Its pid, or a negative errno, also for a program that cannot be executed.
 */
pid_t vm_spawn(const struct argv *argv, struct vm_spawn how);

#endif

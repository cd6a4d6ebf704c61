/*
 * control.h - asking keepers: which there are, and what they say (keeper/control.h).
 */
#ifndef CLI_CONTROL_H
#define CLI_CONTROL_H

#include "keeper/control.h"

#include <stddef.h>

/* The control socket of one device. */
struct control_target {
    char label[160]; /* VM/DEVICE, or the path as it was given */
    char path[108];
};

struct control_targets {
    struct control_target *target; /* in the order of labels */
    unsigned count;
};

/*
 * What people call a device, or several:
 *
 *     VM/DEVICE   a device of `outboard run`: $XDG_RUNTIME_DIR/outboard/VM/DEVICE.control, for root
 *                 below /run/outboard
 *     VM          all of them
 *     PATH        a control socket: with a slash in it, unless there is a VM/DEVICE of that name
 *     NULL        all devices of all VMs; perhaps none
 *
 * CLI_OK, or an exit status after an error, which was told in the name of `command`; then there is nothing
 * to be freed.
 */
int control_find(const char *command, const char *word, struct control_targets *found);
void control_free(struct control_targets *found);

/* A connection, or -errno: -ENOENT and -ECONNREFUSED where nobody listens. Waits no more than `seconds` for
 * that, and for each answer. */
int control_connect(const char *path, unsigned seconds);

/*
 * One request (which may carry a descriptor; -1: none), one answer: 0, or -errno where there is no answer.
 * *back, if not NULL, gets the descriptor that came with it, or -1; it is the caller's to close. What the
 * answer says is made safe to be printed as text, and is not to be believed otherwise.
 */
int control_ask(int sock, const void *request, size_t size, int fd, struct control_answer *answer, int *back);
int control_status(int sock, struct control_answer *answer, int *block);

/* A sentence for what control_connect() and control_ask() return. */
const char *control_error(int error);

#endif

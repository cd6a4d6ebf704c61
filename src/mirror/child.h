/*
 * child.h - the command that starts a client.
 */
#ifndef MIRROR_CHILD_H
#define MIRROR_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct child {
    pid_t pid; /* 0: none */
    int fd;    /* its pidfd: readable when it has ended */
    int said;  /* a file of what it writes */
    bool ended;
    int status; /* as of wait(2), once it has ended */
};

/* "{}" in the words, and $SOCKET, stand for the path. It ends when this process does. 0 or -errno. */
int child_start(struct child *c, char *const *command, const char *path);

/* Looks whether it has ended. */
bool child_ended(struct child *c);

/* Ends it, and what it has started in its process group. */
void child_end(struct child *c);

/* The last line that it has written, without control characters; "" for none. */
void child_last_words(const struct child *c, char *line, size_t size);

/* The signal that ended it, which a shell would tell as a status above 128; or 0. */
int child_signal(const struct child *c);

#endif

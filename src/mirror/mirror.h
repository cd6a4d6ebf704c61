/*
 * mirror.h - `outboard check --client`: a server that misbehaves on purpose, and tells what the client
 * that is pointed at it did.
 *
 * Each misbehaviour is one connection: the mirror plays a small PCI device, properly, until the point
 * where the misbehaviour applies, misbehaves once, and goes on properly. Before all of them comes a
 * connection without any, to see that the client gets along.
 *
 * What is seen of a client is what comes through the socket and what the kernel tells about its
 * process: how it ended, which files it has mapped, which descriptors it holds, how large it is.
 */
#ifndef MIRROR_MIRROR_H
#define MIRROR_MIRROR_H

#include "report/result.h"

struct mirror_options {
    const char *socket_path;
    struct selection select;
    /* Starts the client, once for each misbehaviour; "{}" in its words, and $SOCKET, stand for the
     * path. It should end by itself, with status 0 if it noticed nothing. NULL: somebody else does. */
    char *const *command;
    unsigned timeout_ms; /* without any progress: hung. Longer than the client's own timeout */
    /* Without a command: a client is waited for, for this misbehaviour (NULL: for none). Or NULL. */
    void (*waiting)(const char *id);
};

/* What there is to be checked, in the order in which it is run. Fills in the first `space` entries,
 * returns how many there are. */
size_t mirror_entries(struct entry *entries, size_t space);

/*
 * Listens, misbehaves, and hands over a result for each selected entry: VERDICT_PASS when the client
 * survived, VERDICT_FAIL when it crashed, hung or was fooled, VERDICT_SKIP when it never came to the
 * point. 0; or a negative errno with one line in `why` that says what and why: the socket cannot be
 * made, the command does not start, the client does not get along with a server that behaves; -EINTR:
 * ended by SIGINT or SIGTERM.
 */
int mirror_run(const struct mirror_options *options, struct results *results, char *why,
               size_t space);

#endif

/*
 * check.h - the conformance and robustness suite for vfio-user servers, of any make and any device.
 *
 * It stands on `wire` alone, and less on its opinions than on its layouts: it has to be able to
 * send what nobody may send, and to read what nobody should.
 */
#ifndef CHECK_CHECK_H
#define CHECK_CHECK_H

#include "report/result.h"

/* How the memory that a check offers for DMA reaches the server. */
enum check_memory {
    CHECK_MEMORY_MAPPED = 1,   /* with a descriptor */
    CHECK_MEMORY_MESSAGES = 2, /* without: the server has to ask for it by messages */
    CHECK_MEMORY_BOTH = 3,
};

struct check_options {
    const char *socket_path;
    struct selection select;
    enum check_memory memory;
    bool destructive;    /* may write to registers, reset, migrate: see the manual page */
    bool one_connection; /* the server serves one client in its life: all in one connection */
    unsigned timeout_ms; /* for one reply */
};

/* Fills in the first `space` of what there is to be checked, in the order of running, and
 * returns how many there are. */
size_t check_entries(struct entry *entries, size_t space);

/* What the specification says and nobody can check from outside; `title` says why not. As above. */
size_t check_uncheckable(struct entry *entries, size_t space);

/*
 * Checks a server and hands over a result for each selected entry. 0; or a negative errno when it
 * could not begin (nobody listens, another client is served, ...), and one line in `why`.
 */
int check_run(const struct check_options *options, struct results *results, char *why,
              size_t space);

#endif

/*
 * mirror.h - `outboard check --client`: a server that misbehaves on purpose, and tells what the client
 * that is pointed at it did.
 */
#ifndef MIRROR_MIRROR_H
#define MIRROR_MIRROR_H

#include "report/result.h"

struct mirror_options {
    const char *socket_path;
    struct selection select;
};

/* What there is to be checked, in the order in which it is run. Fills in the first `space` entries,
 * returns how many there are. */
size_t mirror_entries(struct entry *entries, size_t space);

/*
 * Listens, misbehaves, and hands over a result for each selected entry. 0; or a negative errno when it
 * could not even begin, and one line in `why` that says what and why.
 */
int mirror_run(const struct mirror_options *options, struct results *results, char *why, size_t space);

#endif

/*
 * mirror.c - a server that misbehaves on purpose.
 */
#include "mirror/mirror.h"

#include <errno.h>
#include <stdio.h>

size_t mirror_entries(struct entry *entries, size_t space)
{
    (void)entries;
    (void)space;
    return 0;
}

int mirror_run(const struct mirror_options *options, struct results *results, char *why, size_t space)
{
    (void)results;
    snprintf(why, space, "%s: there is nothing to be checked of a client yet", options->socket_path);
    return -ENOSYS;
}

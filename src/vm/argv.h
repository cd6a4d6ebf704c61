/*
 * argv.h - a list of words that grows: the command line of a child.
 *
 * A list starts as zeros. Once memory ran out it stays `failed` and takes nothing more, so that who
 * fills one looks once, in the end.
 */
#ifndef VM_ARGV_H
#define VM_ARGV_H

#include <stdbool.h>
#include <stddef.h>

struct argv {
    char **word; /* `count` strings and a NULL, owned by the list; NULL when count is 0 */
    size_t count;
    bool failed;
};

void argv_add(struct argv *argv, const char *format, ...) __attribute__((format(printf, 2, 3)));
void argv_free(struct argv *argv); /* and it is empty again */

#endif

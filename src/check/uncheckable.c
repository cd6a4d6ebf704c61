/*
 * uncheckable.c - what the specification says about servers, and nobody can find out from outside.
 */
#include "check/run.h"

static const struct entry rows[] = {
    { "Server Disconnection", "the server goes when it wants to, and a check would have to end it",
      "Socket Disconnection Behavior" },
};

size_t check_uncheckable(struct entry *entries, size_t space)
{
    for (size_t i = 0; i < LENGTH(rows) && i < space; i++)
        entries[i] = rows[i];
    return LENGTH(rows);
}

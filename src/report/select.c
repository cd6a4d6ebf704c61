/*
 * select.c - which checks are wanted.
 */
#include "report/result.h"

#include <fnmatch.h>
#include <string.h>

enum { LONGEST_WORD = 128 };

/* A word is a glob for the whole id, or the name of a group. */
static bool matches(const char *word, size_t n, const char *id)
{
    char glob[LONGEST_WORD];

    if (n == 0 || n >= sizeof glob)
        return false;
    memcpy(glob, word, n);
    glob[n] = '\0';
    return fnmatch(glob, id, 0) == 0 || (strncmp(id, glob, n) == 0 && id[n] == '.');
}

static bool listed(const char *list, const char *id)
{
    for (const char *word = list; *word;) {
        size_t n = strcspn(word, ",");
        if (matches(word, n, id))
            return true;
        word += n + (word[n] == ',');
    }
    return false;
}

bool selection_has(const struct selection *s, const char *id)
{
    return (!s->only || listed(s->only, id)) && (!s->skip || !listed(s->skip, id));
}

const char *selection_stray(const char *list, const char *const *ids, size_t n, size_t *length)
{
    for (const char *word = list; word && *word;) {
        *length = strcspn(word, ",");
        size_t i = 0;
        while (i < n && !matches(word, *length, ids[i]))
            i++;
        if (i == n)
            return word;
        word += *length + (word[*length] == ',');
    }
    return NULL;
}

/*
 * argv.c - a list of words that grows.
 */
#include "vm/argv.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void argv_add(struct argv *argv, const char *format, ...)
{
    char *word = NULL;
    va_list values;
    va_start(values, format);
    int n = argv->failed ? -1 : vasprintf(&word, format, values);
    va_end(values);
    char **grown = n < 0 ? NULL : reallocarray(argv->word, argv->count + 2, sizeof(char *));
    if (!grown) {
        if (n >= 0)
            free(word);
        argv->failed = true;
        return;
    }
    argv->word = grown;
    argv->word[argv->count++] = word;
    argv->word[argv->count] = NULL;
}

void argv_free(struct argv *argv)
{
    for (size_t i = 0; i < argv->count; i++)
        free(argv->word[i]);
    free(argv->word);
    *argv = (struct argv){ 0 };
}

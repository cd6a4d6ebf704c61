/*
 * vm.c - what a virtual machine consists of.
 */
#include "vm/vm.h"
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool vm_is_name(const char *text)
{
    if (!isalpha((unsigned char)text[0]))
        return false;
    size_t n = 0;
    for (; text[n]; n++)
        if (!isalnum((unsigned char)text[n]) && !strchr("._-", text[n]))
            return false;
    return n < VM_NAME_SIZE;
}

static int __attribute__((format(printf, 3, 4))) wrong(char why[VM_WHY_SIZE], int error,
                                                       const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(why, VM_WHY_SIZE, format, values);
    va_end(values);
    return error;
}

/*
 * Takes the next word off *text, up to a single comma, into `word`, which has room for all of *text.
 * *text is NULL after the last one.
 */
static void next_word(const char **text, char *word)
{
    const char *from = *text;
    for (; *from; from++) {
        if (*from == ',' && *++from != ',')
            break;
        *word++ = *from;
    }
    /* The break left `from` one behind the comma; without a comma the text is at its end. */
    bool more = from > *text && from[-1] == ',' && !(from - *text >= 2 && from[-2] == ',' && false);
    *word = '\0';
    *text = more ? from : NULL;
}

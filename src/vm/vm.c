/*
 * vm.c - what a virtual machine consists of.
 */
#include "vm/vm.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
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

/* Cuts the next word off *rest, in place; NULL when there is none. ",," is a comma in a word. */
static char *next_word(char **rest)
{
    char *word = *rest;
    if (!word)
        return NULL;
    char *to = word;
    *rest = NULL;
    for (char *from = word; *from; from++) {
        if (*from == ',' && *++from != ',') {
            *rest = from;
            break;
        }
        *to++ = *from;
    }
    *to = '\0';
    return word;
}

static bool id_taken(const struct vm *vm, const char *id)
{
    for (unsigned i = 0; i < vm->devices_count; i++)
        if (strcmp(vm->devices[i].id, id) == 0)
            return true;
    return false;
}

static int choose_id(const struct vm *vm, struct vm_device *d, char why[VM_WHY_SIZE])
{
    const char *slash = strrchr(d->kind, '/');
    const char *base = slash ? slash + 1 : d->kind;
    int n = (int)strcspn(base, "."); /* a plugin's file: mine.so is mine0 */
    unsigned number = 0;
    do {
        int size = snprintf(d->id, sizeof(d->id), "%.*s%u", n, base, number++);
        if (size >= (int)sizeof(d->id) || !vm_is_name(d->id))
            return wrong(why, -EINVAL, "%s: no name for a device in it, give id=NAME", d->kind);
    } while (id_taken(vm, d->id));
    return 0;
}

static int take_id(const struct vm *vm, struct vm_device *d, const char *id, char why[VM_WHY_SIZE])
{
    if (!vm_is_name(id))
        return wrong(why, -EINVAL,
                     "id=%s: a name is a letter, then letters, digits, '.', '_' and '-', under %d",
                     id, VM_NAME_SIZE);
    if (id_taken(vm, id))
        return wrong(why, -EINVAL, "id=%s: another device has this name", id);
    strcpy(d->id, id);
    return 0;
}

static int take_copy(char **to, const char *value, char why[VM_WHY_SIZE])
{
    free(*to);
    *to = strdup(value);
    return *to ? 0 : wrong(why, -ENOMEM, "%s", strerror(ENOMEM));
}

static int take_bootindex(struct vm_device *d, const char *value, char why[VM_WHY_SIZE])
{
    char *end;
    errno = 0;
    long number = strtol(value, &end, 10);
    if (!isdigit((unsigned char)*value) || *end || errno || number > INT_MAX)
        return wrong(why, -EINVAL, "bootindex=%s: not a number from 0 to %d", value, INT_MAX);
    d->bootindex = (int)number;
    return 0;
}

static int take_param(const struct vm *vm, struct vm_device *d, const char *param,
                      char why[VM_WHY_SIZE])
{
    const char *equals = strchr(param, '=');
    /* The words go to `outboard serve`: none of them may be an option there. */
    if (!equals || equals == param || param[0] == '-')
        return wrong(why, -EINVAL, "%s: \"%s\" is no key=value", d->kind, param);
    if (strncmp(param, "id=", 3) == 0)
        return take_id(vm, d, equals + 1, why);
    if (strncmp(param, "bootindex=", 10) == 0)
        return take_bootindex(d, equals + 1, why);
    if (strncmp(param, "addr=", 5) == 0)
        return take_copy(&d->addr, equals + 1, why);
    argv_add(&d->params, "%s", param);
    d->takes_terminal |= strcmp(equals, "=-") == 0;
    return d->params.failed ? wrong(why, -ENOMEM, "%s", strerror(ENOMEM)) : 0;
}

static int parse_device(const struct vm *vm, struct vm_device *d, char *words,
                        char why[VM_WHY_SIZE])
{
    const char *kind = next_word(&words);
    if (!*kind || *kind == '-' || strchr(kind, '='))
        return wrong(why, -EINVAL, "\"%s\" is no device: DEVICE,key=value,... is expected", kind);
    d->bootindex = -1;
    int error = take_copy(&d->kind, kind, why);
    for (char *word; !error && (word = next_word(&words));)
        error = take_param(vm, d, word, why);
    if (!error && !d->id[0])
        error = choose_id(vm, d, why);
    for (unsigned i = 0; !error && d->takes_terminal && i < vm->devices_count; i++)
        if (vm->devices[i].takes_terminal)
            error = wrong(why, -EINVAL, "%s: %s has the terminal already", d->id,
                          vm->devices[i].id);
    return error;
}

static void free_device(struct vm_device *d)
{
    free(d->kind);
    free(d->addr);
    argv_free(&d->params);
    *d = (struct vm_device){ 0 };
}

int vm_add_device(struct vm *vm, const char *text, char why[VM_WHY_SIZE])
{
    if (vm->devices_count == VM_MAX_DEVICES)
        return wrong(why, -E2BIG, "%s: a VM has at most %u devices", text, VM_MAX_DEVICES);
    char *words = strdup(text);
    if (!words)
        return wrong(why, -ENOMEM, "%s", strerror(ENOMEM));
    struct vm_device *d = &vm->devices[vm->devices_count];
    int error = parse_device(vm, d, words, why);
    free(words);
    if (error)
        free_device(d);
    else
        vm->devices_count++;
    return error;
}

void vm_free(struct vm *vm)
{
    for (unsigned i = 0; i < vm->devices_count; i++)
        free_device(&vm->devices[i]);
    vm->devices_count = 0;
}

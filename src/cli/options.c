/*
 * options.c - the words of a command line, its help text, and its errors.
 */
#include "cli/options.h"
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cli_start(struct cli_args *args, const struct cli_command *command, int argc, char **argv)
{
    *args = (struct cli_args){ .command = command, .argc = argc, .argv = argv, .next = 1 };
}

static int operand(struct cli_args *args, const char *word)
{
    args->value = word;
    return CLI_OPERAND;
}

static int wrong(const struct cli_args *args, const char *word, const char *why)
{
    cli_usage(args->command->name, "%s: %s", word, why);
    return CLI_WRONG;
}

static const struct cli_option *find(const struct cli_command *command, const char *name, size_t n)
{
    for (const struct cli_option *o = command->options; o && o->name; o++)
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            return o;
    return NULL;
}

int cli_next(struct cli_args *args)
{
    args->value = NULL;
    if (args->next >= args->argc)
        return CLI_END;
    const char *word = args->argv[args->next++];
    /* A lone "-" is an operand: it names stdin or stdout in many programs. */
    if (args->dashed || word[0] != '-' || word[1] == '\0')
        return operand(args, word);
    if (strcmp(word, "--") == 0) {
        args->dashed = true;
        return cli_next(args);
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        cli_help(args->command);
        return CLI_HELPED;
    }
    if (word[1] != '-')
        return wrong(args, word, "no such option");

    const char *equals = strchr(word, '=');
    const char *name = word + 2;
    size_t n = equals ? (size_t)(equals - name) : strlen(name);
    const struct cli_option *option = find(args->command, name, n);
    if (!option)
        return wrong(args, word, "no such option");
    if (!option->value)
        return equals ? wrong(args, word, "takes no value") : option->id;
    if (equals)
        args->value = equals + 1;
    else if (args->next < args->argc)
        args->value = args->argv[args->next++];
    else
        return wrong(args, word, "needs a value");
    return option->id;
}

int cli_exit(int word)
{
    return word == CLI_WRONG ? CLI_USAGE : CLI_OK;
}

/* Prints text with `indent` spaces before every line but the first. */
static void print_indented(const char *text, int indent)
{
    for (const char *line = text;;) {
        size_t n = strcspn(line, "\n");
        printf("%.*s\n", (int)n, line);
        if (line[n] == '\0')
            return;
        line += n + 1;
        printf("%*s", indent, "");
    }
}

static void print_option(const char *name, const char *value, const char *help)
{
    enum { COLUMN = 26 };
    int n = printf("  --%s%s%s", name, value ? "=" : "", value ? value : "");
    if (n >= COLUMN - 1) {
        printf("\n");
        n = 0;
    }
    printf("%*s", COLUMN - n, "");
    print_indented(help, COLUMN);
}

void cli_help(const struct cli_command *command)
{
    int indent = printf("Usage: outboard %s ", command->name);
    print_indented(command->usage, indent);
    printf("\n%s.\n\n", command->summary);
    for (const struct cli_option *o = command->options; o && o->name; o++)
        if (o->help)
            print_option(o->name, o->value, o->help);
    print_option("help", NULL, "show this text");
    if (command->more)
        printf("\n%s", command->more);
}

/* As a whole, in one write: lines of several processes must not mix. */
static void complain(const char *command, const char *format, va_list values, const char *hint)
{
    char line[1024];
    int n = snprintf(line, sizeof(line), "outboard: %s%s", command ? command : "",
                     command ? ": " : "");
    vsnprintf(line + n, sizeof(line) - (size_t)n, format, values);
    for (char *c = line; *c; c++)
        if (iscntrl((unsigned char)*c))
            *c = '?';
    if (hint)
        fprintf(stderr, "%s (see outboard %s%s--help)\n", line, hint, *hint ? " " : "");
    else
        fprintf(stderr, "%s\n", line);
}

int cli_error(const char *command, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    complain(command, format, values, NULL);
    va_end(values);
    return CLI_FAILED;
}

int cli_usage(const char *command, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    complain(command, format, values, command ? command : "");
    va_end(values);
    return CLI_USAGE;
}

int cli_number(const char *text, uint64_t least, uint64_t most, uint64_t *number)
{
    if (!isdigit((unsigned char)text[0]))
        return -EINVAL;
    char *end;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (*end != '\0')
        return -EINVAL;
    if (errno == ERANGE || n < least || n > most)
        return -ERANGE;
    *number = n;
    return 0;
}

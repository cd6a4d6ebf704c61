/*
 * options.h - the words of a command line, its help text, and its errors, the same in all commands.
 *
 * Options are long: --name, --name=VALUE or --name VALUE. `--` ends them: operands follow.
 * Nothing here allocates; all strings stay the caller's. For one thread.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 }; /* exit codes */

struct cli_option {
    const char *name;  /* without the dashes */
    const char *value; /* what stands for the value in help text, or NULL: a flag without a value */
    const char *help;  /* may have several lines, separated by \n; NULL: not for people, not shown */
    int id;            /* > 0: what cli_next() returns for it */
};

struct cli_command {
    const char *name;                 /* "inspect" */
    const char *usage;                /* what follows the name: "SOCKET [--json]"; may have lines */
    const char *summary;              /* one line, a sentence without its full stop */
    const struct cli_option *options; /* ends with a NULL name; --help is added */
    const char *more;                 /* paragraphs after the options, ending in \n, or NULL */
};

struct cli_args {
    const struct cli_command *command;
    int argc;
    char **argv;
    int next;          /* index in argv of the next word */
    bool dashed;       /* `--` was seen: the operands are from behind it */
    const char *value; /* of the option or the operand that cli_next() returned; NULL for a flag */
};

enum {
    CLI_OPERAND = 0, /* args->value is a word that is no option */
    CLI_END = -1,    /* no more words */
    CLI_HELPED = -2, /* --help: the text was printed; return CLI_OK */
    CLI_WRONG = -3,  /* an error was printed; return CLI_USAGE */
};

/* argv[0] is the command's name, as main() hands it over. */
void cli_start(struct cli_args *args, const struct cli_command *command, int argc, char **argv);

/*
 * The next word: the id of an option, or one of the above. The loop of a command is:
 *
 *     while ((word = cli_next(&args)) >= 0)
 *         switch (word) { ... }
 *     if (word != CLI_END)
 *         return cli_exit(word);
 */
int cli_next(struct cli_args *args);

/* The exit code for CLI_HELPED and CLI_WRONG. */
int cli_exit(int word);

void cli_help(const struct cli_command *command);

/*
 * One line on stderr: "outboard: COMMAND: " and the sentence, which names what and then why:
 * cli_error("run", "%s: %s", path, strerror(errno)). Control characters in it are shown as '?', so
 * that it stays one line whatever a peer or a file put there. `command` may be NULL.
 * cli_error() returns CLI_FAILED, cli_usage() adds where the help is and returns CLI_USAGE.
 */
int cli_error(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
int cli_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A decimal number within [least, most]. 0, or -EINVAL or -ERANGE with nothing stored. */
int cli_number(const char *text, uint64_t least, uint64_t most, uint64_t *number);

#endif

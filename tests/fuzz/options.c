/*
 * options.c - fuzz target: the words of a command line.
 */
#include "input.h"
#include "target.h"

#include "cli/options.h"

#define WORDS 16

static const struct cli_option options[] = {
    { "flag", NULL, "a flag", 1 }, { "value", "V", "has one", 2 }, { "value-2", "V", "another", 3 }, { 0 }
};
static const struct cli_command command = { "fuzz", "WORDS", "Reads words", options, NULL };

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    return 0;
}

/* Words end at a NUL, or at the end. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), *argv[WORDS + 1] = { "fuzz" };
    struct cli_args args;
    uint64_t number;
    int argc = 1, word, count = 0;

    memcpy(text, data, size);
    text[size] = '\0';
    for (char *p = text; p <= text + size && argc < WORDS; p += strlen(p) + 1)
        argv[argc++] = p;
    cli_start(&args, &command, argc, argv);
    while ((word = cli_next(&args)) >= 0) {
        REQUIRE(word <= 3 && ++count <= argc);
        REQUIRE((word == 1) == (args.value == NULL));
        if (args.value && cli_number(args.value, 1, 1000, &number) == 0)
            REQUIRE(number >= 1 && number <= 1000);
    }
    REQUIRE(word == CLI_END || cli_exit(word) == (word == CLI_HELPED ? CLI_OK : CLI_USAGE));
    free(text);
    return 0;
}

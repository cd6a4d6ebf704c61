/*
 * test_options.c - the words of a command line.
 */
#include "cli/options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { FLAG = 1, VALUE };

static const struct cli_option options[] = {
    { "flag", NULL, "a flag", FLAG },
    { "value", "WHAT", "a value\non two lines", VALUE },
    { NULL, NULL, NULL, 0 },
};
static const struct cli_command command = {
    .name = "test", .usage = "[--flag] WORD", .summary = "Test", .options = options,
};

static char *words[8];
static struct cli_args args;

static void start(const char *const *list)
{
    int n = 0;
    for (; list[n]; n++)
        words[n] = (char *)(uintptr_t)list[n];
    cli_start(&args, &command, n, words);
}
#define START(...) start((const char *const[]){ "test", __VA_ARGS__, NULL })

/* What is written to a stream while `act` runs, in a static buffer. */
static const char *captured(FILE *stream, int fd, void (*act)(void))
{
    static char text[4096];
    FILE *file = tmpfile();
    assert_non_null(file);
    fflush(stream);
    int saved = dup(fd);
    assert_true(saved >= 0 && dup2(fileno(file), fd) == fd);
    act();
    fflush(stream);
    assert_int_equal(dup2(saved, fd), fd);
    close(saved);
    rewind(file);
    size_t n = fread(text, 1, sizeof(text) - 1, file);
    text[n] = '\0';
    fclose(file);
    return text;
}

static void test_words(void **state)
{
    (void)state;
    START("one", "--value=x=y", "--flag", "--value", "--flag", "--value=", "-");
    assert_int_equal(cli_next(&args), CLI_OPERAND);
    assert_string_equal(args.value, "one");
    assert_int_equal(cli_next(&args), VALUE);
    assert_string_equal(args.value, "x=y");
    assert_int_equal(cli_next(&args), FLAG);
    assert_null(args.value);
    assert_int_equal(cli_next(&args), VALUE);
    assert_string_equal(args.value, "--flag");
    assert_int_equal(cli_next(&args), VALUE);
    assert_string_equal(args.value, "");
    assert_int_equal(cli_next(&args), CLI_OPERAND);
    assert_string_equal(args.value, "-");
    assert_false(args.dashed);
    assert_int_equal(cli_next(&args), CLI_END);
    assert_int_equal(cli_next(&args), CLI_END);
}

static void test_dashes(void **state)
{
    (void)state;
    START("--flag", "--", "--flag", "--");
    assert_int_equal(cli_next(&args), FLAG);
    assert_int_equal(cli_next(&args), CLI_OPERAND);
    assert_true(args.dashed);
    assert_string_equal(args.value, "--flag");
    assert_int_equal(cli_next(&args), CLI_OPERAND);
    assert_string_equal(args.value, "--");
    assert_int_equal(cli_next(&args), CLI_END);
    START("--");
    assert_int_equal(cli_next(&args), CLI_END);
}

static int result;

static void act_next(void)
{
    result = cli_next(&args);
}

static void test_wrong(void **state)
{
    (void)state;
    const char *const bad[][2] = {
        { "--nope", "--nope: no such option" }, { "--fla", "--fla: no such option" },
        { "--flag=1", "--flag=1: takes no value" }, { "--value", "--value: needs a value" },
        { "-x", "-x: no such option" }, { "--=", "--=: no such option" },
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char expected[128];
        START(bad[i][0]);
        snprintf(expected, sizeof(expected), "outboard: test: %s (see outboard test --help)\n",
                 bad[i][1]);
        assert_string_equal(captured(stderr, STDERR_FILENO, act_next), expected);
        assert_int_equal(result, CLI_WRONG);
        assert_int_equal(cli_exit(result), CLI_USAGE);
    }
}

static void test_help(void **state)
{
    (void)state;
    START("--help");
    const char *text = captured(stdout, STDOUT_FILENO, act_next);
    assert_int_equal(result, CLI_HELPED);
    assert_int_equal(cli_exit(result), CLI_OK);
    assert_string_equal(text, "Usage: outboard test [--flag] WORD\n"
                              "\n"
                              "Test.\n"
                              "\n"
                              "  --flag                  a flag\n"
                              "  --value=WHAT            a value\n"
                              "                          on two lines\n"
                              "  --help                  show this text\n");
}

static void act_error(void)
{
    result = cli_error("test", "%s: %s", "a\nb\033[1m", "why");
}

static void act_long_error(void)
{
    char text[5000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    result = cli_usage(NULL, "%s", text);
}

static void test_errors_are_one_line(void **state)
{
    (void)state;
    assert_string_equal(captured(stderr, STDERR_FILENO, act_error),
                        "outboard: test: a?b?[1m: why\n");
    assert_int_equal(result, CLI_FAILED);
    const char *text = captured(stderr, STDERR_FILENO, act_long_error);
    assert_int_equal(result, CLI_USAGE);
    assert_ptr_equal(strchr(text, '\n'), text + strlen(text) - 1);
    assert_non_null(strstr(text, " (see outboard --help)\n"));
}

static void test_numbers(void **state)
{
    (void)state;
    uint64_t n = 7;
    const char *const invalid[] = { "", "-1", "+1", " 1", "1 ", "x", "0x10", "1.5" };
    for (size_t i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++)
        assert_int_equal(cli_number(invalid[i], 0, 100, &n), -EINVAL);
    assert_int_equal(cli_number("4", 5, 100, &n), -ERANGE);
    assert_int_equal(cli_number("101", 5, 100, &n), -ERANGE);
    assert_int_equal(cli_number("18446744073709551616", 0, UINT64_MAX, &n), -ERANGE);
    assert_int_equal(n, 7);
    assert_int_equal(cli_number("18446744073709551615", 0, UINT64_MAX, &n), 0);
    assert_true(n == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words), cmocka_unit_test(test_dashes), cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_help),  cmocka_unit_test(test_errors_are_one_line),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

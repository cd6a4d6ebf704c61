/*
 * report.c - results as a table, as TAP, as JSON.
 */
#include "cli/report.h"
#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

static const struct {
    const char *word;    /* in JSON */
    const char *counted; /* in a sum */
} verdicts[] = {
    [VERDICT_PASS] = { "pass", "passed" },        [VERDICT_NOTE] = { "note", "passed with a note" },
    [VERDICT_SKIP] = { "skip", "skipped" },       [VERDICT_FAIL] = { "fail", "failed" },
    [VERDICT_NOT_RUN] = { "not run", "not run" },
};

int report_format(const char *word, enum report_format *format)
{
    static const char *const words[] = { "table", "tap", "json" };
    for (int i = 0; i < 3; i++) {
        if (strcmp(word, words[i]) == 0) {
            *format = (enum report_format)i;
            return 0;
        }
    }
    return -EINVAL;
}

/* Text of a peer may be in it: one line, whatever it holds. */
static void print_line(FILE *out, const char *text)
{
    for (; *text; text++)
        putc(iscntrl((unsigned char)*text) ? '?' : *text, out);
}

static void print_json_string(FILE *out, const char *text)
{
    putc('"', out);
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20 || c >= 0x7f) /* a peer's bytes need not be UTF-8 */
            fprintf(out, "\\u%04x", c);
        else
            putc(c, out);
    }
    putc('"', out);
}

static void print_json_pair(FILE *out, const char *key, const char *text, const char *end)
{
    fprintf(out, "\"%s\": ", key);
    print_json_string(out, text);
    fputs(end, out);
}

/* ---- A table: a line for each group, and below it those that need a look --------------------- */

static void print_counts(FILE *out, const unsigned *count)
{
    const char *comma = "";
    for (int v = 0; v <= VERDICT_NOT_RUN; v++) {
        if (count[v] || v == VERDICT_PASS) {
            fprintf(out, "%s%u %s", comma, count[v], verdicts[v].counted);
            comma = ", ";
        }
    }
    putc('\n', out);
}

static void close_group(struct report *r)
{
    if (r->group[0]) {
        fprintf(r->out, "%-12s ", r->group);
        print_counts(r->out, r->group_count);
    }
    memset(r->group_count, 0, sizeof r->group_count);
    fflush(r->out);
}

static void table_open_group(struct report *r, const char *id)
{
    size_t n = strcspn(id, ".");
    if (n >= sizeof r->group)
        n = sizeof r->group - 1;
    if (strncmp(r->group, id, n) == 0 && r->group[n] == '\0')
        return;
    close_group(r);
    memcpy(r->group, id, n);
    r->group[n] = '\0';
}

static void table_add(struct report *r, const struct result *result)
{
    bool looked_at = result->verdict == VERDICT_FAIL || result->verdict == VERDICT_NOTE;

    table_open_group(r, result->entry.id);
    r->group_count[result->verdict]++;
    if (!looked_at && !r->verbose)
        return;
    fprintf(r->out, "  %-7s %s: ", verdicts[result->verdict].word, result->entry.id);
    print_line(r->out, result->entry.title);
    if (result->detail[0]) {
        fprintf(r->out, "\n          ");
        print_line(r->out, result->detail);
    }
    if (result->verdict == VERDICT_FAIL)
        fprintf(r->out, "\n          section %s", result->entry.cite);
    putc('\n', r->out);
}

/* ---- TAP ------------------------------------------------------------------------------------- */

static void tap_add(struct report *r, const struct result *result, unsigned number)
{
    bool bad = result->verdict == VERDICT_FAIL || result->verdict == VERDICT_NOT_RUN;

    fprintf(r->out, "%s %u - %s", bad ? "not ok" : "ok", number, result->entry.id);
    if (result->verdict == VERDICT_SKIP) {
        fprintf(r->out, " # SKIP ");
        print_line(r->out, result->detail);
    }
    putc('\n', r->out);
    if (bad || result->verdict == VERDICT_NOTE) {
        fprintf(r->out, "  ---\n  ");
        print_json_pair(r->out, "title", result->entry.title, "\n  ");
        print_json_pair(r->out, "verdict", verdicts[result->verdict].word, "\n  ");
        print_json_pair(r->out, "message", result->detail, "\n  ");
        print_json_pair(r->out, "section", result->entry.cite, "\n  ...\n");
    }
    fflush(r->out);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void json_entry(FILE *out, const struct entry *e, bool first)
{
    fputs(first ? "\n    {" : ",\n    {", out);
    print_json_pair(out, "id", e->id, ", ");
    print_json_pair(out, "title", e->title, ", ");
    print_json_pair(out, "section", e->cite, "");
}

static void json_add(struct report *r, const struct result *result, unsigned number)
{
    json_entry(r->out, &result->entry, number == 1);
    fputs(", ", r->out);
    print_json_pair(r->out, "verdict", verdicts[result->verdict].word, ", ");
    print_json_pair(r->out, "detail", result->detail, "}");
}

/* ---- All of them ----------------------------------------------------------------------------- */

static void add(struct results *results, const struct result *result)
{
    struct report *r = (struct report *)(void *)results; /* its first member */
    unsigned number = 1;

    for (int v = 0; v <= VERDICT_NOT_RUN; v++)
        number += r->count[v];
    r->count[result->verdict]++;
    if (r->format == REPORT_TABLE)
        table_add(r, result);
    else if (r->format == REPORT_TAP)
        tap_add(r, result, number);
    else
        json_add(r, result, number);
}

void report_begin(struct report *r, FILE *out, enum report_format format, bool verbose,
                  const char *subject, size_t planned)
{
    *r = (struct report){
        .results = { .add = add },
        .out = out,
        .format = format,
        .verbose = verbose,
    };
    if (format == REPORT_TAP)
        fprintf(out, "TAP version 14\n1..%zu\n", planned);
    if (format == REPORT_JSON) {
        fputs("{\n  ", out);
        print_json_pair(out, "subject", subject, ",\n  \"checks\": [");
    }
}

int report_end(struct report *r)
{
    if (r->format == REPORT_TABLE) {
        close_group(r);
        fprintf(r->out, "%-12s ", "all");
        print_counts(r->out, r->count);
    }
    if (r->format == REPORT_JSON) {
        fputs("\n  ],\n  \"counts\": {", r->out);
        for (int v = 0; v <= VERDICT_NOT_RUN; v++)
            fprintf(r->out, "%s\"%s\": %u", v ? ", " : "", verdicts[v].word, r->count[v]);
        fputs("}\n}\n", r->out);
    }
    return r->count[VERDICT_FAIL] || r->count[VERDICT_NOT_RUN] ? CLI_FAILED : CLI_OK;
}

void report_list(FILE *out, enum report_format format, const struct entry *entries, size_t n)
{
    if (format == REPORT_JSON)
        fputs("{\n  \"checks\": [", out);
    for (size_t i = 0; i < n; i++) {
        if (format == REPORT_JSON) {
            json_entry(out, &entries[i], i == 0);
            putc('}', out);
        } else {
            fprintf(out, "%-36s %s [%s]\n", entries[i].id, entries[i].title, entries[i].cite);
        }
    }
    if (format == REPORT_JSON)
        fputs("\n  ]\n}\n", out);
}

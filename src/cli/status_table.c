/*
 * status_table.c - the table of devices.
 *
 * Columns are as wide as what is in them. On a terminal that is too narrow for all, those that matter least
 * are left out, and a line says which.
 */
#include "cli/status.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum column { NAME, DEVICE, STATE, WORKER, CLIENT, UPTIME, RESTARTS, REQUESTS, BYTES, P50, P99, SANDBOX, COLUMNS };

static const struct {
    const char *head;
    bool number; /* to the right */
} columns[COLUMNS] = {
    [NAME] = { "NAME", false },     [DEVICE] = { "DEVICE", false },     [STATE] = { "STATE", false },
    [WORKER] = { "WORKER", true },  [CLIENT] = { "CLIENT", true },      [UPTIME] = { "UPTIME", true },
    [RESTARTS] = { "RESTARTS", true }, [REQUESTS] = { "REQUESTS", true }, [BYTES] = { "BYTES", true },
    [P50] = { "P50", true },        [P99] = { "P99", true },            [SANDBOX] = { "SANDBOX", false },
};

/* What goes first when there is no room. */
static const enum column order[] = { BYTES, P50, CLIENT, UPTIME, SANDBOX, REQUESTS, WORKER, DEVICE };

#define CELL 160
struct row {
    char cell[COLUMNS][CELL];
};

static void set_pid(char *cell, int32_t pid)
{
    if (pid > 0)
        snprintf(cell, CELL, "%d", pid);
}

static void set_text(char *cell, const char *text)
{
    snprintf(cell, CELL, "%s", text);
}

static void fill_block(struct row *r, const struct look *l)
{
    struct status_requests q;
    char text[LOOK_TEXT];

    status_requests(l, &q);
    set_text(r->cell[DEVICE], l->facts.plugin);
    set_text(r->cell[REQUESTS], look_count(q.count, text));
    set_text(r->cell[BYTES], look_bytes(q.bytes, text));
    set_text(r->cell[P50], look_time(q.p50, text));
    set_text(r->cell[P99], look_time(q.p99, text));
    set_text(r->cell[SANDBOX], status_sandbox(l));
}

static void fill(struct row *r, const struct look *l)
{
    char text[LOOK_TEXT];

    for (unsigned c = 0; c < COLUMNS; c++)
        set_text(r->cell[c], "-");
    set_text(r->cell[NAME], l->target->label);
    set_text(r->cell[STATE], "?");
    if (!l->answered)
        return;
    set_text(r->cell[DEVICE], l->status.name);
    set_text(r->cell[STATE], look_state(l));
    set_pid(r->cell[WORKER], l->status.worker);
    set_pid(r->cell[CLIENT], l->status.client);
    set_text(r->cell[UPTIME], look_age(l->status.keeper_started, text));
    snprintf(r->cell[RESTARTS], CELL, "%u", look_restarts(l));
    if (l->block)
        fill_block(r, l);
}

/* ---- Layout ------------------------------------------------------------------------------------------ */

struct layout {
    unsigned width[COLUMNS]; /* 0: left out */
    unsigned total;
};

static void measure(struct layout *y, const struct row *rows, unsigned n)
{
    y->total = 0;
    for (unsigned c = 0; c < COLUMNS; c++) {
        size_t width = strlen(columns[c].head);
        for (unsigned i = 0; i < n; i++)
            width = strlen(rows[i].cell[c]) > width ? strlen(rows[i].cell[c]) : width;
        y->width[c] = (unsigned)width;
        y->total += (unsigned)width + (c ? 2 : 0);
    }
}

static void narrow(struct layout *y, unsigned most)
{
    for (unsigned i = 0; i < sizeof order / sizeof *order && y->total > most; i++) {
        y->total -= y->width[order[i]] + 2;
        y->width[order[i]] = 0;
    }
}

static void print_line(FILE *out, const struct layout *y, const char *(*cell)(const void *, unsigned), const void *of)
{
    char line[COLUMNS * (CELL + 2) + 1];
    int n = 0;

    for (unsigned c = 0; c < COLUMNS; c++) {
        int width = (int)y->width[c];
        if (width)
            n += snprintf(line + n, sizeof line - (size_t)n, "%s%*s", c ? "  " : "",
                          columns[c].number ? width : -width, cell(of, c));
    }
    while (n && line[n - 1] == ' ')
        n--;
    fprintf(out, "%.*s\n", n, line);
}

static const char *head_cell(const void *of, unsigned c)
{
    (void)of;
    return columns[c].head;
}

static const char *row_cell(const void *of, unsigned c)
{
    return ((const struct row *)of)->cell[c];
}

static void print_left_out(FILE *out, const struct layout *y)
{
    const char *before = "(no room for ";

    for (unsigned c = 0; c < COLUMNS; c++)
        if (!y->width[c]) {
            fprintf(out, "%s%s", before, columns[c].head);
            before = ", ";
        }
    if (*before == ',')
        fprintf(out, ")\n");
}

void status_table(FILE *out, const struct look *looks, unsigned n, unsigned width)
{
    struct row *rows = calloc(n ? n : 1, sizeof *rows);
    struct layout y;

    if (!rows)
        return;
    for (unsigned i = 0; i < n; i++)
        fill(&rows[i], &looks[i]);
    measure(&y, rows, n);
    if (width)
        narrow(&y, width);
    print_line(out, &y, head_cell, NULL);
    for (unsigned i = 0; i < n; i++)
        print_line(out, &y, row_cell, &rows[i]);
    print_left_out(out, &y);
    free(rows);
}

/*
 * report.h - results for people (a table), for test harnesses (TAP) and for machines (JSON).
 */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include "report/result.h"
#include <stdint.h>
#include <stdio.h>

enum report_format {
    REPORT_TABLE,
    REPORT_TAP,
    REPORT_JSON,
};

struct report {
    struct results results; /* hand its address to who checks */
    FILE *out;
    enum report_format format;
    bool verbose; /* table: also what passed and what was skipped, line by line */
    unsigned count[VERDICT_NOT_RUN + 1];
    unsigned group_count[VERDICT_NOT_RUN + 1]; /* of the group that is being shown */
    char group[32];
};

/* "table", "tap", "json". 0 or -EINVAL. */
int report_format(const char *word, enum report_format *format);

/* The head of a report about `subject` (a socket), of `planned` results. */
void report_begin(struct report *r, FILE *out, enum report_format format, bool verbose,
                  const char *subject, size_t planned);

/* The end of it. Returns CLI_OK, or CLI_FAILED if anything failed or was not run. */
int report_end(struct report *r);

/* The list of what could be checked, in the same formats. */
void report_list(FILE *out, enum report_format format, const struct entry *entries, size_t n);

#endif

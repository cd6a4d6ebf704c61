/*
 * result.h - what came out of one check. Those who check (src/check, src/mirror) fill it in, and
 * who shows it (src/cli/report.c) reads it; neither knows the other.
 */
#ifndef REPORT_RESULT_H
#define REPORT_RESULT_H

#include <stdbool.h>
#include <stddef.h>

enum verdict {
    VERDICT_PASS,
    VERDICT_NOTE, /* passed; what was seen is allowed, but unusual */
    VERDICT_SKIP, /* an optional thing that is not there, or not wanted */
    VERDICT_FAIL,
    VERDICT_NOT_RUN, /* could not be: an earlier one ended it all */
};

/* One check, run or not. All strings are static, or live as long as the run. */
struct entry {
    const char *id;    /* "dma.map-twice": group, dot, name */
    const char *title; /* one line: what is right */
    const char *cite;  /* section of the specification: "VFIO_USER_DMA_MAP", perhaps ": rows" */
};

struct result {
    struct entry entry;
    enum verdict verdict;
    const char *detail; /* one line: expected and got, why it was skipped, what was seen; or "" */
};

/* Where results go, one after the other. The result is the caller's, and gone afterwards. */
struct results {
    void (*add)(struct results *results, const struct result *result);
};

/* Which checks are wanted: lists of globs and names of groups, separated by commas; NULL: no
 * such list. */
struct selection {
    const char *only;
    const char *skip;
};

bool selection_has(const struct selection *s, const char *id);

/* The first word of the list that matches none of the ids (n of them), or NULL; *length is its
 * length. */
const char *selection_stray(const char *list, const char *const *ids, size_t n, size_t *length);

#endif

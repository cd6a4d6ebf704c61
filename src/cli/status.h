/*
 * status.h - what `outboard status` has found, in its three forms.
 */
#ifndef CLI_STATUS_H
#define CLI_STATUS_H

#include "cli/look.h"

/* One line for each device; `width`: columns of the terminal, 0: no matter. */
void status_table(FILE *out, const struct look *looks, unsigned n, unsigned width);

/* All that is known of one device. */
void status_detail(FILE *out, const struct look *look);

/* The keys are in outboard-status(1). -ENOMEM. */
int status_json(FILE *out, const struct look *looks, unsigned n);

/* "on", "part" (the host refused some of it), "off". */
const char *status_sandbox(const struct look *look);

/* Names of set bits, separated by commas. */
#define STATUS_SANDBOX_TEXT 320
const char *status_sandbox_names(uint32_t bits, char text[STATUS_SANDBOX_TEXT]);

/* Requests of all kinds: how many, bytes, and how long they took. Of a device that accounts for none, false:
 * then those are the messages of its client. */
struct status_requests {
    uint64_t count;
    uint64_t bytes;
    uint64_t p50, p99; /* ns, 0: nothing was measured */
};
bool status_requests(const struct look *look, struct status_requests *r);

#endif

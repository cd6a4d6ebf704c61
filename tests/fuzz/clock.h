/*
 * clock.h - time that passes only when an input says so, while one runs.
 */
#ifndef FUZZ_CLOCK_H
#define FUZZ_CLOCK_H

#include <stdint.h>

/* From here on CLOCK_MONOTONIC stands still at a certain time; to the second call it is real again. */
void clock_stop(void);
void clock_go_on(void);
void clock_advance(uint64_t ns);

#endif

/*
 * crash.h - the last words of a worker that its own code kills.
 *
 * SIGSEGV, SIGBUS (but for what src/memory repairs), SIGILL, SIGFPE and SIGABRT leave in the facts what the
 * kernel says of them; the process then dies of the signal as it would have. Its successor reports, and
 * `outboard status` and `trace --last` show it. A process without a keeper says one line itself.
 */
#ifndef WORKER_CRASH_H
#define WORKER_CRASH_H

#include "state/facts.h"

/* Installs the handlers: once in a process, when all code is loaded that is going to run, and before guest
 * memory is mapped (memory/mapping.h). A sanitizer's own come after them. */
void crash_open(const char *name);

/* Where the next death is written down, if it is where a successor will find it; NULL: nobody would, and it is a line
 * on stderr. */
void crash_record(struct shared_facts *facts);

#endif

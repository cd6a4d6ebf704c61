/*
 * sandbox.h - what a worker gives up before it looks at anything that a peer sent.
 *
 * docs/sandbox.md says what that is and why. Which file does what:
 *
 *   sandbox.c   the order; descriptors, capabilities, limits
 *   spaces.c    namespaces and an empty root
 *   landlock.c  no files, no TCP, no abstract sockets, no signals to others
 *   filter.c    which system calls are left
 */
#ifndef WORKER_SANDBOX_H
#define WORKER_SANDBOX_H

#include <outboard/device.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sanitizers and counters of coverage need the world outside to say what they have found. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__ || defined OUTBOARD_COVERAGE
#define SANDBOX_POSSIBLE false
#elif defined __has_feature
#define SANDBOX_POSSIBLE (!__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer))
#else
#define SANDBOX_POSSIBLE true
#endif

struct sandbox {
    uint32_t in_force; /* SANDBOX_* (state/facts.h) */
    uint32_t refused;  /* those that this host does not give... */
    char note[480];    /* ...with the reasons, for people */
};

/* Closes all descriptors from 3 on but these; those of -1 are passed over. */
void sandbox_close_others(struct sandbox *s, const int *given, unsigned n);

/*
 * From here on this process has what it has open, and the memory that it has mapped. Nothing stops it from going
 * on where the host forbids some of it: *s says what is in force. `kept`: a keeper started this process. It must be
 * the only thread.
 */
void sandbox_enter(struct sandbox *s, bool kept);

/* And now it has, in all its threads, the system calls of the framework and of these lists (NULL at their end). */
void sandbox_filter(struct sandbox *s, const struct ob_syscall *const *lists);

/* How many system calls that leaves, and their names with spaces between. */
unsigned sandbox_syscalls(const struct ob_syscall *const *lists, char *names, size_t space);

/* The number of a system call that was refused since this was asked last, -1: none was. */
extern volatile int sandbox_refused_call;

/* What follows is among the files of the sandbox. */

void sandbox_refuse(struct sandbox *s, uint32_t bits, int error);
void spaces_enter(struct sandbox *s);
void landlock_enter(struct sandbox *s);

#endif

/*
 * effect.h - reads and writes of which a successor knows whether they were done.
 *
 * The kernel counts the bytes that a process moved by read(2) and write(2), and its parent can read
 * the counts while the process is a zombie (/proc/PID/task/PID/io, rchar and wchar: of its first
 * thread, which must be the one that is here; others may move what they like). A system call that has
 * begun runs to its end before SIGKILL acts. So if every read and write of a worker goes through
 * here, with its intent in the block first, then the counts tell of the last one how many bytes it
 * moved, even when the process died before it could store the result.
 *
 * send(2), recv(2) and what io_uring does are not counted. The counts are of all devices of a process:
 * of several in one, none can be recovered in this way.
 */
#ifndef STATE_EFFECT_H
#define STATE_EFFECT_H

#include "state/block.h"
#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

enum effect_kind {
    EFFECT_NONE,
    EFFECT_REPLY,    /* replies on their way to the client */
    EFFECT_READ,     /* a device reads its backend */
    EFFECT_WRITE,    /* a device writes to its backend */
    EFFECT_TWIN_OUT, /* commands on their way to the client, on a socket of their own */
    EFFECT_TWIN_IN,  /* their replies */
};

/* How a worker died. */
struct effect_counts {
    uint64_t written; /* wchar */
    uint64_t read;    /* rchar */
};

/* Reads the counts of a process's first thread. 0 or -errno. */
int effect_counts(int pid, struct effect_counts *counts);

/* A descriptor by which this thread's counts can be read later, where there is no /proc any more. -errno. */
int effect_open_counts(void);

/* To be called once in a new worker, before any effect: from now on its own counts tell. `worker` is its
 * number among all that had this block; `counts` what effect_open_counts() gave to this thread. */
int effect_start(struct block *b, uint64_t worker, int counts);

/*
 * write(2) and read(2) with their intent recorded. `already` is a number that the caller gets back
 * with the result after a death. Bytes or -errno; EINTR is retried. An EFFECT_READ or EFFECT_WRITE
 * belongs to the step that is being run: its result is forgotten when the step is done. Others call
 * effect_done() when they have stored the result. A read moves at most BLOCK_MAX_READ bytes; they are
 * kept beside the state, where no undoing reaches them.
 */
ssize_t effect_write(struct block *b, enum effect_kind kind, int fd, const void *buf, size_t n,
                     uint64_t already);
ssize_t effect_read(struct block *b, int fd, void *buf, size_t n);
ssize_t effect_writev(struct block *b, enum effect_kind kind, int fd, const struct iovec *iov, int n,
                      uint64_t already);
void effect_done(struct block *b);

/* read(2) straight to where the bytes are to stay, any number of them; asked about as what is written. */
ssize_t effect_read_to(struct block *b, enum effect_kind kind, int fd, void *buf, size_t n,
                       uint64_t already);

/* Writes that nobody asks about later (interrupts, lines of log) keep the count right through this. */
ssize_t effect_write_plain(struct block *b, int fd, const void *buf, size_t n);

/*
 * For a successor, after step_recover(): what became of the effect that was under way. For one that
 * belongs to no step, its kind, with the bytes that were moved since `already` was counted. For a read
 * or write of a step that was undone, the result waits until the device asks again: effect_write() and
 * effect_read() then return it instead of doing anything. EFFECT_NONE: nothing to be settled now.
 * `dead` counts what the worker did that called effect_start() last; others may have died since, before
 * they came that far.
 */
enum effect_kind effect_recover(struct block *b, const struct effect_counts *dead, uint64_t *already,
                                uint64_t *moved);

#endif

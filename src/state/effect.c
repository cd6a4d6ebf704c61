/*
 * effect.c - intents, results, and the kernel's counts.
 */
#include "state/effect.h"
#include "state/step.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* block_effect.state: a kind, and whether the result is in the block. */
#define SETTLED 0x100u

static int parse(const char *text, const char *key, uint64_t *value)
{
    const char *at = strstr(text, key);
    if (!at)
        return -EINVAL;
    *value = strtoull(at + strlen(key), NULL, 10);
    return 0;
}

static int read_counts(int fd, struct effect_counts *counts)
{
    char text[512];
    ssize_t n = read(fd, text, sizeof text - 1);

    if (n < 0)
        return -errno;
    text[n] = '\0';
    if (parse(text, "rchar: ", &counts->read) < 0 || parse(text, "wchar: ", &counts->written) < 0)
        return -EINVAL;
    return (int)n;
}

/* Of the one thread: what others move (a pool that does a disk's I/O, io_uring's) is not counted. */
int effect_counts(int pid, struct effect_counts *counts)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/task/%d/io", pid, pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int ret = read_counts(fd, counts);
    close(fd);
    return ret < 0 ? ret : 0;
}

int effect_open_counts(void)
{
    int fd = open("/proc/thread-self/io", O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int effect_start(struct block *b, uint64_t worker, int counts)
{
    struct effect_counts now;
    int ret = read_counts(counts, &now);
    if (ret < 0)
        return ret;
    block_store(&b->h->effect.state, 0);
    b->h->written = now.written;
    b->h->read = now.read + (uint64_t)ret; /* the look itself is counted after it was answered */
    block_store(&b->h->owner, worker);
    return 0;
}

static bool inherited(struct block *b, enum effect_kind kind, ssize_t *result)
{
    if (b->h->inherited_kind != kind)
        return false;
    *result = (ssize_t)b->h->inherited_result;
    /* Forgotten with the step that uses it, and not before. */
    step_touch(b, &b->h->inherited_kind, sizeof b->h->inherited_kind);
    b->h->inherited_kind = 0;
    return true;
}

static void intend(struct block *b, enum effect_kind kind, uint64_t count, uint64_t already)
{
    struct block_effect *e = &b->h->effect;
    block_store(&e->state, 0);
    e->word = b->h->word;
    e->before = count;
    e->already = already;
    block_store(&e->state, kind);
}

static ssize_t settle(struct block *b, enum effect_kind kind, uint64_t *count, ssize_t n)
{
    struct block_effect *e = &b->h->effect;
    e->result = n < 0 ? -errno : n;
    block_store(&e->state, kind | SETTLED);
    if (n > 0)
        *count += (uint64_t)n;
    return (ssize_t)e->result;
}

/* #syscalls worker: writev */
ssize_t effect_writev(struct block *b, enum effect_kind kind, int fd, const struct iovec *iov, int n,
                      uint64_t already)
{
    ssize_t done;

    intend(b, kind, b->h->written, already);
    do
        done = writev(fd, iov, n);
    while (done < 0 && errno == EINTR);
    return settle(b, kind, &b->h->written, done);
}

/* #syscalls worker: read */
ssize_t effect_read_to(struct block *b, enum effect_kind kind, int fd, void *buf, size_t n,
                       uint64_t already)
{
    ssize_t done;

    intend(b, kind, b->h->read, already);
    do
        done = read(fd, buf, n);
    while (done < 0 && errno == EINTR);
    return settle(b, kind, &b->h->read, done);
}

ssize_t effect_write(struct block *b, enum effect_kind kind, int fd, const void *buf, size_t n,
                     uint64_t already)
{
    ssize_t done;
    if (inherited(b, kind, &done))
        return done;
    intend(b, kind, b->h->written, already);
    do
        done = write(fd, buf, n);
    while (done < 0 && errno == EINTR);
    return settle(b, kind, &b->h->written, done);
}

ssize_t effect_read(struct block *b, int fd, void *buf, size_t n)
{
    ssize_t done;

    n = n < BLOCK_MAX_READ ? n : BLOCK_MAX_READ;
    if (!inherited(b, EFFECT_READ, &done)) {
        intend(b, EFFECT_READ, b->h->read, 0);
        do
            done = read(fd, b->h->read_bytes, n);
        while (done < 0 && errno == EINTR);
        done = settle(b, EFFECT_READ, &b->h->read, done);
    }
    if (done > 0)
        memcpy(buf, b->h->read_bytes, (size_t)done < n ? (size_t)done : n);
    return done;
}

void effect_done(struct block *b)
{
    block_store(&b->h->effect.state, 0);
}

ssize_t effect_write_plain(struct block *b, int fd, const void *buf, size_t n)
{
    ssize_t done = write(fd, buf, n);
    if (done > 0)
        b->h->written += (uint64_t)done;
    return done < 0 ? -errno : done;
}

enum effect_kind effect_recover(struct block *b, const struct effect_counts *dead, uint64_t *already,
                                uint64_t *moved)
{
    struct block_effect *e = &b->h->effect;
    enum effect_kind kind = (enum effect_kind)(e->state & ~(uint64_t)SETTLED);
    int64_t result = e->result;

    if (!e->state)
        return EFFECT_NONE;
    if (!(e->state & SETTLED)) {
        bool in = kind == EFFECT_READ || kind == EFFECT_TWIN_IN;
        result = (int64_t)((in ? dead->read : dead->written) - e->before);
        e->result = result; /* this successor may die too, and its own counts say nothing of it */
        block_store(&e->state, kind | SETTLED);
    }
    if (kind != EFFECT_READ && kind != EFFECT_WRITE) {
        *already = e->already;
        *moved = result < 0 ? 0 : (uint64_t)result;
        return kind;
    }
    /* Of a step that was done, nobody asks any more. An effect that moved nothing can be tried again. */
    if (e->word == b->h->word && result > 0) {
        b->h->inherited_result = result;
        block_store(&b->h->inherited_kind, kind);
    }
    return EFFECT_NONE;
}

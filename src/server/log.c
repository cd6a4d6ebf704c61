/*
 * log.c - lines for people, on stderr.
 *
 * Lines go through the counted write, so that a successor can still tell what the replies did. A peer
 * that provokes line after line gets ten of them a second.
 */
#include "server/log.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

bool server_verbose;

#define LINES_A_SECOND 10u

static bool too_many(struct ob_device *dev)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if ((uint64_t)now.tv_sec != dev->log_second) {
        dev->log_second = (uint64_t)now.tv_sec;
        dev->log_lines = 0;
    }
    return dev->log_lines++ >= LINES_A_SECOND;
}

/*
 * Nobody may stop us by not reading what we say: a line that would have to wait is lost. (The flag
 * O_NONBLOCK is not ours to set, others share the descriptor's file.) Pipes can be asked not to wait,
 * whatever other writers do; others are looked at first.
 */
/* #syscalls worker: poll|ppoll pwritev2 write */
ssize_t server_say(const char *line, size_t n)
{
    struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };
    struct iovec iov = { (void *)(uintptr_t)line, n };

    if (poll(&p, 1, 0) != 1 || !(p.revents & POLLOUT))
        return 0;
    ssize_t done = pwritev2(STDERR_FILENO, &iov, 1, -1, RWF_NOWAIT);
    return done < 0 && errno != EAGAIN ? write(STDERR_FILENO, line, n) : done;
}

static void say(struct ob_device *dev, const char *line, size_t n)
{
    ssize_t done = server_say(line, n);

    if (done > 0 && dev->block.h)
        ob_moved(dev, 0, (uint64_t)done);
}

static char last_line[512];

const char *server_last_line(void)
{
    return last_line;
}

static void put_line(struct ob_device *dev, const char *format, va_list args)
{
    char line[512];
    int n = snprintf(line, sizeof line, "outboard: %s: ", dev->name);
    if (n < 0)
        return;
    int m = vsnprintf(line + n, sizeof line - (size_t)n, format, args);
    size_t length = strlen(line);
    if (m < 0 || length + 1 >= sizeof line)
        length = sizeof line - 2;
    memcpy(last_line, line + n, length - (size_t)n);
    last_line[length - (size_t)n] = '\0';
    line[length] = '\n';
    say(dev, line, length + 1);
}

void server_tell(struct ob_device *dev, const char *lines, size_t n)
{
    say(dev, lines, n);
}

void server_log(struct ob_device *dev, const char *format, ...)
{
    va_list args;
    if (too_many(dev))
        return;
    va_start(args, format);
    put_line(dev, format, args);
    va_end(args);
}

void ob_error(struct ob_device *dev, const char *format, ...)
{
    va_list args;
    if (too_many(dev))
        return;
    va_start(args, format);
    put_line(dev, format, args);
    va_end(args);
}

void ob_debug(struct ob_device *dev, const char *format, ...)
{
    va_list args;
    if (!server_verbose || too_many(dev))
        return;
    va_start(args, format);
    put_line(dev, format, args);
    va_end(args);
}

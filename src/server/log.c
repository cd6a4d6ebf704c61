/*
 * log.c - lines for people, on stderr.
 *
 * Lines go through the counted write, so that a successor can still tell what the replies did. A peer
 * that provokes line after line gets ten of them a second.
 */
#include "server/log.h"

#include <stdio.h>
#include <string.h>
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
    line[length] = '\n';
    if (dev->block.h)
        effect_write_plain(&dev->block, STDERR_FILENO, line, length + 1);
    else
        fputs(line, stderr);
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

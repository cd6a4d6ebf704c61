/*
 * log.h - lines for people, on stderr: "outboard: NAME: ...".
 */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include "server/device.h"
#include <stdarg.h>

/* What the last line said, "" before the first: for who asks why this process cannot go on. */
const char *server_last_line(void);

extern bool server_verbose; /* set once, before any device is made */

void server_log(struct ob_device *dev, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Lines that are complete, however many; who does not read loses them. */
void server_tell(struct ob_device *dev, const char *lines, size_t n);

/* Where there is no device yet, or in a signal handler: bytes, or what write(2) says. */
ssize_t server_say(const char *line, size_t n);

#endif

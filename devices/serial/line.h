/*
 * line.h - what a serial port is connected to: the descriptors, and who is at the other end.
 *
 *   pty        a new pseudo-terminal; somebody is there while a process has it open
 *   unix:PATH  a listening UNIX socket; one client at a time, more are hung up on
 *   FILE       output is appended to it; there is no input
 *   -          standard input and output, a terminal in raw mode
 *
 * The pseudo-terminal, the listening socket and its client outlive the process, with its keeper; the
 * rest is opened anew by the next one. Nothing here calls read(2) or write(2) on the line while the device runs: ob_read() and ob_write() alone move bytes.
 */
#ifndef OUTBOARD_SERIAL_LINE_H
#define OUTBOARD_SERIAL_LINE_H

#include <outboard/device.h>
#include <sys/un.h>
#include <termios.h>

enum line_kind { LINE_PTY, LINE_SOCKET, LINE_FILE, LINE_STDIO };

/* A descriptor, and the events that it is watched for. */
struct line_end {
    int fd;     /* -1: none */
    int events; /* EPOLL*, or LINE_UNWATCHED */
};
#define LINE_UNWATCHED (-1)

struct line {
    enum line_kind kind;
    struct line_end in;       /* read from here; may be the same descriptor as out */
    struct line_end out;      /* write to here; -1: nobody would hear it */
    struct line_end arrivals; /* becomes ready when somebody may have come */
    int master;               /* of the pseudo-terminal */
    bool ended;               /* the client sends no more, but still listens */
    bool unpollable;          /* in is a file that is always ready, which epoll does not take */
    bool raw;                 /* the terminal's settings are to be restored */
    struct termios terminal;
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)]; /* of the socket or the pty */
};

/* Opens what `path` says. 0, or a negative errno after an ob_error() that tells the user why. */
int line_open(struct ob_device *dev, struct line *line, const char *path);
void line_close(struct ob_device *dev, struct line *line);

/* Whether there is somebody to talk to. */
bool line_connected(const struct line *line);

/* `arrivals` is ready: takes a new client, or looks whether the pseudo-terminal was opened. */
void line_arrived(struct ob_device *dev, struct line *line);

/* The other end hung up, or reading from it failed. */
void line_hung_up(struct ob_device *dev, struct line *line);

/* A read from `in` found the end of the input. */
void line_input_ended(struct ob_device *dev, struct line *line);

/* A write to `out` failed. Files are kept: there may be room again later. */
void line_output_failed(struct ob_device *dev, struct line *line);

/*
 * Has `ready` called for arrivals, for input if `input`, and for room for output if `output`. What
 * is not asked for is not watched at all: a descriptor whose other end is closed reports EPOLLHUP
 * for ever, and would keep the process awake. True if `in` is always ready and must be read
 * unasked.
 */
bool line_watch(struct ob_device *dev, struct line *line, bool input, bool output,
                ob_ready_fn *ready);

#endif

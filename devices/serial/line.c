/* line.c - what a serial port is connected to. */
#include "line.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a successor goes on with (ob_keep()). */
enum { KEPT_MASTER, KEPT_LISTENER, KEPT_CLIENT, KEPT_OTHER };

static void end_watch(struct ob_device *dev, struct line_end *end)
{
    if (end->events != LINE_UNWATCHED)
        ob_unwatch(dev, end->fd);
    end->events = LINE_UNWATCHED;
}

static void close_end(struct ob_device *dev, struct line_end *end)
{
    end_watch(dev, end);
    if (end->fd >= 0)
        close(end->fd);
    end->fd = -1;
}

/* ---- Pseudo-terminal ------------------------------------------------------------------------ */

/*
 * Nothing tells the master's descriptor that somebody opened the terminal, and EPOLLHUP holds on
 * while nobody has. So while nobody has, the master is not watched, but the opening of its path is, by
 * inotify. That watch is made once, while there are paths.
 */
static void watch_openings(struct ob_device *dev, struct line *line)
{
    line->arrivals.fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (line->arrivals.fd < 0 || inotify_add_watch(line->arrivals.fd, line->path, IN_OPEN) < 0)
        ob_error(dev, "cannot wait for %s to be opened: %s", line->path, strerror(errno));
}

/* #syscalls serial: read poll|ppoll */
static void forget_openings(struct ob_device *dev, struct line *line)
{
    char events[1024] __attribute__((aligned(8)));

    for (ssize_t n; line->arrivals.fd >= 0 && (n = read(line->arrivals.fd, events, sizeof events)) > 0;)
        ob_moved(dev, (uint64_t)n, 0);
}

static void look_at_pty(struct ob_device *dev, struct line *line)
{
    struct pollfd master = { .fd = line->master, .events = POLLIN };

    /* Before the look, or an opening in between would be missed. Who wrote and closed is there until that
     * has been read. */
    forget_openings(dev, line);
    if (poll(&master, 1, 0) == 1 && master.revents == POLLHUP) {
        end_watch(dev, &line->in);
        line->in.fd = line->out.fd = -1;
    } else {
        end_watch(dev, &line->arrivals);
        line->in.fd = line->out.fd = line->master;
    }
}

static int open_pty(struct ob_device *dev, struct line *line)
{
    struct termios settings;
    int slave;

    line->master = ob_kept(dev, KEPT_MASTER);
    if (line->master >= 0 && ptsname_r(line->master, line->path, sizeof(line->path)) == 0) {
        watch_openings(dev, line);
        look_at_pty(dev, line);
        return 0;
    }
    line->master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (line->master < 0 || grantpt(line->master) < 0 || unlockpt(line->master) < 0 ||
        (errno = ptsname_r(line->master, line->path, sizeof(line->path))) != 0 ||
        tcgetattr(line->master, &settings) < 0)
        goto failed;
    cfmakeraw(&settings);
    if (tcsetattr(line->master, TCSANOW, &settings) < 0)
        goto failed;
    /* A terminal that was never open does not count as hung up; one that was, does. */
    slave = open(line->path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        goto failed;
    close(slave);
    int ret = ob_keep(dev, KEPT_MASTER, line->master);
    if (ret < 0) {
        errno = -ret;
        goto failed;
    }
    watch_openings(dev, line);
    look_at_pty(dev, line);
    dprintf(STDOUT_FILENO, "serial: %s\n", line->path);
    return 0;

failed:;
    int error = errno;
    ob_error(dev, "cannot make a pseudo-terminal: %s", strerror(error));
    return -error;
}

/* ---- UNIX socket ---------------------------------------------------------------------------- */

/* Whether there is a socket file at the address which outlived the process that listened at it. */
static bool left_over(const struct sockaddr_un *address)
{
    struct stat st;

    if (lstat(address->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool refused = connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0 &&
                   errno == ECONNREFUSED;
    if (fd >= 0)
        close(fd);
    return refused;
}

/* A predecessor's, with the client that it had. */
static bool take_over_socket(struct ob_device *dev, struct line *line, const char *path)
{
    int fd = ob_kept(dev, KEPT_LISTENER);

    if (fd < 0)
        return false;
    line->arrivals.fd = fd;
    ob_keep(dev, KEPT_OTHER, -1); /* whoever was to be hung up on */
    strcpy(line->path, path);
    fd = ob_kept(dev, KEPT_CLIENT);
    line->in.fd = line->out.fd = fd < 0 ? -1 : fd;
    return true;
}

static int open_socket(struct ob_device *dev, struct line *line, const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const struct sockaddr *any = (const struct sockaddr *)&address;
    int ret;

    if (*path == '\0' || strlen(path) >= sizeof(address.sun_path)) {
        ob_error(dev, "path=unix:%s: a socket's path has 1 to %zu bytes", path,
                 sizeof(address.sun_path) - 1);
        return -EINVAL;
    }
    if (take_over_socket(dev, line, path))
        return 0;
    strcpy(address.sun_path, path);
    line->arrivals.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    ret = bind(line->arrivals.fd, any, sizeof(address));
    if (ret < 0 && errno == EADDRINUSE && left_over(&address)) {
        unlink(path);
        ret = bind(line->arrivals.fd, any, sizeof(address));
    }
    if (ret == 0) {
        strcpy(line->path, path);
        ret = listen(line->arrivals.fd, 1);
    }
    if (ret == 0 && (ret = ob_keep(dev, KEPT_LISTENER, line->arrivals.fd)) < 0)
        errno = -ret;
    if (ret < 0) {
        int error = errno;
        ob_error(dev, "cannot listen at %s: %s", path, strerror(error));
        return -error;
    }
    return 0;
}

/* #syscalls serial: accept4 */
static void accept_client(struct ob_device *dev, struct line *line)
{
    bool first = line->in.fd < 0;
    int fd = ob_accept(dev, KEPT_LISTENER, line->arrivals.fd, first ? KEPT_CLIENT : KEPT_OTHER);

    if (fd < 0) {
        if (fd == -EAGAIN || fd == -ECONNABORTED || fd == -EINTR)
            return;
        /* The one who waits would make the descriptor ready again at once, and so without end. */
        ob_error(dev, "no more clients at %s: %s", line->path, strerror(-fd));
        close_end(dev, &line->arrivals);
    } else if (!first) {
        close(fd);
        ob_keep(dev, KEPT_OTHER, -1);
    } else {
        line->in.fd = line->out.fd = fd;
        line->ended = false;
    }
}

/* ---- Files and standard input and output ---------------------------------------------------- */

static int open_file(struct ob_device *dev, struct line *line, const char *path)
{
    line->out.fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                        0666);
    if (line->out.fd < 0) {
        int error = errno;
        ob_error(dev, "cannot open %s: %s", path, strerror(error));
        return -error;
    }
    return 0;
}

/*
 * A descriptor for the same file as `fd` that does not block. O_NONBLOCK belongs to what was
 * opened, which the shell that started us goes on using, so we open it again. Regular files do not
 * block, and must keep their position.
 */
static int open_again(int fd, int mode)
{
    char path[32];
    struct stat st;
    int again = -1;

    if (fstat(fd, &st) < 0)
        return -1;
    if (!S_ISREG(st.st_mode)) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        again = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    }
    if (again < 0) { /* a socket, or somebody else's terminal: there is no other way */
        again = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (again >= 0 && !S_ISREG(st.st_mode))
            fcntl(again, F_SETFL, fcntl(again, F_GETFL) | O_NONBLOCK);
    }
    return again;
}

static int open_stdio(struct ob_device *dev, struct line *line)
{
    line->in.fd = open_again(STDIN_FILENO, O_RDONLY);
    line->out.fd = line->in.fd < 0 ? -1 : open_again(STDOUT_FILENO, O_WRONLY);
    if (line->out.fd < 0) {
        int error = errno;
        ob_error(dev, "cannot use standard input and output: %s", strerror(error));
        return -error;
    }
    if (tcgetattr(line->in.fd, &line->terminal) == 0) {
        struct termios settings = line->terminal;
        cfmakeraw(&settings);
        line->raw = tcsetattr(line->in.fd, TCSANOW, &settings) == 0;
    }
    return 0;
}

/* ---- Any line ------------------------------------------------------------------------------- */

int line_open(struct ob_device *dev, struct line *line, const char *path)
{
    static const struct line_end none = { .fd = -1, .events = LINE_UNWATCHED };
    int ret;

    *line = (struct line){ .in = none, .out = none, .arrivals = none, .master = -1 };
    if (strcmp(path, "pty") == 0) {
        line->kind = LINE_PTY;
        ret = open_pty(dev, line);
    } else if (strcmp(path, "-") == 0) {
        line->kind = LINE_STDIO;
        ret = open_stdio(dev, line);
    } else if (strncmp(path, "unix:", 5) == 0) {
        line->kind = LINE_SOCKET;
        ret = open_socket(dev, line, path + 5);
    } else {
        line->kind = LINE_FILE;
        ret = open_file(dev, line, path);
    }
    if (ret < 0)
        line_close(dev, line);
    return ret;
}

void line_close(struct ob_device *dev, struct line *line)
{
    if (line->raw)
        tcsetattr(line->in.fd >= 0 ? line->in.fd : STDIN_FILENO, TCSANOW, &line->terminal);
    line->raw = false;
    if (line->in.fd == line->out.fd)
        line->out.fd = -1;
    if (line->in.fd == line->master)
        line->master = -1;
    close_end(dev, &line->in);
    close_end(dev, &line->out);
    close_end(dev, &line->arrivals);
    if (line->master >= 0)
        close(line->master);
    line->master = -1;
    line->path[0] = '\0';
}

/* #syscalls serial: ioctl[1]=TCSETS */
bool line_connected(const struct line *line)
{
    return line->out.fd >= 0;
}

void line_arrived(struct ob_device *dev, struct line *line)
{
    if (line->kind == LINE_PTY)
        look_at_pty(dev, line);
    else
        accept_client(dev, line);
}

void line_hung_up(struct ob_device *dev, struct line *line)
{
    switch (line->kind) {
    case LINE_PTY:
        look_at_pty(dev, line); /* somebody else may have opened it in the meantime */
        break;
    case LINE_SOCKET:
        line->out.fd = -1;
        close_end(dev, &line->in);
        ob_keep(dev, KEPT_CLIENT, -1);
        break;
    case LINE_FILE:
    case LINE_STDIO:
        close_end(dev, &line->in);
        break;
    }
}

void line_input_ended(struct ob_device *dev, struct line *line)
{
    if (line->kind == LINE_SOCKET && line->out.fd >= 0)
        line->ended = true;
    else
        line_hung_up(dev, line);
}

void line_output_failed(struct ob_device *dev, struct line *line)
{
    if (line->kind == LINE_SOCKET)
        line->out.fd = -1; /* but what the client sent before it went is still to be read */
    else if (line->kind == LINE_PTY)
        look_at_pty(dev, line);
}

static int watch_end(struct ob_device *dev, struct line_end *end, int events, ob_ready_fn *ready)
{
    int ret = 0;

    if (end->fd < 0 || end->events == events)
        return 0;
    if (events == LINE_UNWATCHED)
        ob_unwatch(dev, end->fd);
    else
        ret = ob_watch(dev, end->fd, (uint32_t)events, ready);
    if (ret == 0)
        end->events = events;
    else if (ret != -EPERM)
        ob_error(dev, "cannot watch the line: %s", strerror(-ret));
    return ret;
}

bool line_watch(struct ob_device *dev, struct line *line, bool input, bool output,
                ob_ready_fn *ready)
{
    int in = input && !line->ended ? EPOLLIN : 0;
    int out = output ? EPOLLOUT : 0;

    if (line->kind != LINE_PTY || line->in.fd < 0)
        watch_end(dev, &line->arrivals, EPOLLIN, ready);
    if (line->in.fd == line->out.fd) {
        int events = in | out;
        if (!events && !line->ended) /* a client that only listens is watched for its going */
            events = LINE_UNWATCHED;
        watch_end(dev, &line->in, events, ready);
        return false;
    }
    watch_end(dev, &line->out, out ? out : LINE_UNWATCHED, ready);
    if (!line->unpollable && watch_end(dev, &line->in, in ? in : LINE_UNWATCHED, ready) == -EPERM)
        line->unpollable = true;
    return line->unpollable && line->in.fd >= 0 && input;
}

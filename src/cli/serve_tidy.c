/*
 * serve_tidy.c - see serve_tidy.h.
 */
#include "cli/serve_tidy.h"
#include "cli/options.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_socket(const struct ob_plugin *p, const struct option_value *v)
{
    for (const struct ob_option *o = p->options; o && o->key; o++)
        if (strcmp(o->key, v->key) == 0)
            return o->flags & OB_OPTION_SOCKET && strncmp(v->value, "unix:", 5) == 0;
    return false;
}

const char *serve_device_socket(const struct worker_settings *s, unsigned nth)
{
    for (unsigned i = 0; i < s->option_count; i++)
        if (is_socket(s->plugin, &s->options[i]) && nth-- == 0)
            return s->options[i].value + 5;
    return NULL;
}

void serve_remove_sockets(const struct worker_settings *s, const char *socket_path, bool well)
{
    const char *path;

    if (socket_path)
        unlink(socket_path);
    for (unsigned n = 0; well && (path = serve_device_socket(s, n)); n++)
        unlink(path);
}

/* Signals are for the other one, whose end this one waits for. Who is killed leaves its sockets: another
 * may have come to the same paths by the time that this one has noticed. */
static void wait_for_end(int fd, const struct worker_settings *s, const char *socket_path)
{
    char how;
    sigset_t all;

    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    prctl(PR_SET_NAME, "outboard-tidy");
    dup2(fd, 3);
    close_range(4, ~0u, 0);
    close_range(0, 2, 0);
    if (read(3, &how, 1) == 1)
        serve_remove_sockets(s, socket_path, how == 'w');
    _exit(0);
}

int serve_tidy_start(const struct worker_settings *s, const char *socket_path)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return cli_error("serve", "cannot make a socket: %s", strerror(errno)), -1;
    pid_t pid = fork();
    if (pid == 0)
        wait_for_end(pair[1], s, socket_path);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return cli_error("serve", "cannot make a process: %s", strerror(errno)), -1;
    }
    return pair[0];
}

void serve_tidy(int tidy, bool well)
{
    char byte = well ? 'w' : 'b';

    if (write(tidy, &byte, 1) == 1 && read(tidy, &byte, 1) < 0)
        return;
    close(tidy);
}

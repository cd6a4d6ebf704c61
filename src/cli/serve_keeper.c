/*
 * serve_keeper.c - the keeper's command line, and the worker's in it.
 */
#include "cli/serve_keeper.h"
#include "cli/serve_tidy.h"
#include "cli/options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Words of a command line; ends with a NULL. */
struct words {
    char **word;
    size_t count;
    size_t room;
    bool lost; /* no memory */
};

static void add(struct words *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct words *w, const char *format, ...)
{
    va_list args;
    char *text = NULL;

    if (w->count + 1 >= w->room) {
        w->room = w->room ? w->room * 2 : 32;
        char **more = realloc(w->word, w->room * sizeof *more);
        w->lost |= !more;
        w->word = more ? more : w->word;
    }
    va_start(args, format);
    if (w->lost || vasprintf(&text, format, args) < 0)
        w->lost = true;
    va_end(args);
    if (w->lost)
        return;
    w->word[w->count++] = text;
    w->word[w->count] = NULL;
}

static void find_self(char *path, size_t space)
{
    ssize_t n = readlink("/proc/self/exe", path, space - 1);

    path[n < 0 ? 0 : n] = '\0';
}

/* Beside this program, or where it was installed to. */
void serve_keeper_path(const char *self, char *path, size_t space)
{
    const char *slash = strrchr(self, '/');
    int folder = slash ? (int)(slash - self) : 0;
    int length = snprintf(path, space, "%.*s/outboard-keeper", folder, self);

    if (length < 0 || (size_t)length >= space || access(path, X_OK) < 0)
        snprintf(path, space, "%s/outboard-keeper", OUTBOARD_LIBEXEC);
}

static bool has_flag(const struct ob_plugin *p, const char *key, unsigned flag)
{
    for (const struct ob_option *o = p->options; o && o->key; o++)
        if (strcmp(o->key, key) == 0)
            return o->flags & flag;
    return false;
}

static void add_files(struct words *w, const struct worker_settings *s)
{
    bool readonly = false, on;

    for (unsigned i = 0; i < s->option_count; i++)
        if (has_flag(s->plugin, s->options[i].key, OB_OPTION_READONLY))
            readonly |= ob_parse_bool(s->options[i].value, &on) == 0 && on;
    for (unsigned i = 0; i < s->option_count; i++)
        if (has_flag(s->plugin, s->options[i].key, OB_OPTION_FILE))
            add(w, "--%s=%s", readonly ? "read-file" : "file", s->options[i].value);
}

static void add_worker(struct words *w, const struct worker_settings *s, const char *self, const char *device,
                       bool verbose)
{
    add(w, "--");
    add(w, "%s", self);
    add(w, "serve");
    add(w, "%s", device);
    for (unsigned i = 0; i < s->option_count; i++)
        add(w, "%s=%s", s->options[i].key, s->options[i].value);
    if (!s->sandbox)
        add(w, "--sandbox=off");
    if (verbose)
        add(w, "--verbose");
    if (s->client >= 0)
        add(w, "--one-client");
}

/* The descriptors that go along stay open at the same numbers. */
static void add_fd(struct words *w, const char *name, int fd)
{
    if (fd < 0)
        return;
    add(w, "--%s=%d", name, fd);
    w->lost |= fcntl(fd, F_SETFD, 0) < 0;
}

int serve_keeper(const struct worker_settings *s, const char *device,
                 const struct keeper_sockets *sockets, bool verbose)
{
    char self[PATH_MAX], path[PATH_MAX];
    struct words w = { 0 };
    const char *remove;

    find_self(self, sizeof self);
    serve_keeper_path(self, path, sizeof path);
    add(&w, "%s", path);
    add(&w, "--name=%s", s->plugin->name);
    if (!s->sandbox)
        add(&w, "--sandbox=off");
    add_fd(&w, "door", s->door);
    add_fd(&w, "client", s->client);
    add_fd(&w, "ready-fd", s->ready_fd);
    add_fd(&w, "notify-fd", s->notify_fd);
    add_fd(&w, "control", sockets->control);
    if (sockets->socket_path)
        add(&w, "--socket-path=%s", sockets->socket_path);
    if (sockets->control >= 0)
        add(&w, "--control-path=%s", sockets->control_path);
    add_files(&w, s);
    for (unsigned i = 0; (remove = serve_device_socket(s, i)); i++)
        add(&w, "--remove=%s", remove);
    add_worker(&w, s, self, device, verbose);
    if (w.lost)
        return cli_error("serve", "no memory for the keeper's command line");
    execv(path, w.word);
    return cli_error("serve", "%s: %s (--no-keeper does without)", path, strerror(errno));
}

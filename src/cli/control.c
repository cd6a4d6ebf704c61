/*
 * control.c - see control.h.
 */
#include "cli/control.h"
#include "cli/options.h"
#include "vm/rundir.h"
#include "wire/socket.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SUFFIX ".control"

/* ---- Which there are --------------------------------------------------------------------------------- */

static bool is_socket(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static int add(struct control_targets *to, const char *label, const char *path)
{
    struct control_target *more = reallocarray(to->target, to->count + 1u, sizeof *more);

    if (!more)
        return -ENOMEM;
    to->target = more;
    struct control_target *t = &more[to->count];
    if (snprintf(t->label, sizeof t->label, "%s", label) >= (int)sizeof t->label ||
        snprintf(t->path, sizeof t->path, "%s", path) >= (int)sizeof t->path)
        return -ENAMETOOLONG;
    to->count++;
    return 0;
}

/* All control sockets of a VM's folder. -ENOENT: there is no such VM. */
static int add_vm(struct control_targets *to, const char *base, const char *vm)
{
    char path[2 * RUNDIR_SIZE], label[sizeof to->target->label];
    int ret = 0;

    snprintf(path, sizeof path, "%s/%.*s", base, VM_NAME_SIZE, vm);
    DIR *folder = opendir(path);
    if (!folder)
        return -errno;
    for (struct dirent *e; ret == 0 && (e = readdir(folder));) {
        size_t n = strlen(e->d_name), suffix = sizeof SUFFIX - 1;
        if (n <= suffix || strcmp(e->d_name + n - suffix, SUFFIX) != 0)
            continue;
        snprintf(label, sizeof label, "%.*s/%.*s", VM_NAME_SIZE, vm, (int)(n - suffix), e->d_name);
        snprintf(path, sizeof path, "%s/%s" SUFFIX, base, label);
        if (is_socket(path))
            ret = add(to, label, path);
    }
    closedir(folder);
    return ret;
}

static int add_all(struct control_targets *to, const char *base)
{
    DIR *folder = opendir(base);
    int ret = 0;

    if (!folder)
        return errno == ENOENT ? 0 : -errno;
    for (struct dirent *e; ret == 0 && (e = readdir(folder));)
        if (vm_is_name(e->d_name) && (ret = add_vm(to, base, e->d_name)) == -ENOENT)
            ret = 0; /* it has gone meanwhile */
    closedir(folder);
    return ret;
}

static int add_word(struct control_targets *to, const char *word)
{
    char base[RUNDIR_SIZE], path[2 * RUNDIR_SIZE], why[VM_WHY_SIZE];
    bool known = rundir_base(base, why) == 0, slash = word && strchr(word, '/');

    if (slash && known &&
        snprintf(path, sizeof path, "%s/%s" SUFFIX, base, word) < (int)sizeof path &&
        is_socket(path))
        return add(to, word, path);
    if (slash)
        return add(to, word, word);
    if (!known)
        return word ? -ENOENT : 0;
    if (!word)
        return add_all(to, base);
    return vm_is_name(word) ? add_vm(to, base, word) : -ENOENT;
}

static int by_label(const void *a, const void *b)
{
    return strcmp(((const struct control_target *)a)->label,
                  ((const struct control_target *)b)->label);
}

int control_find(const char *command, const char *word, struct control_targets *found)
{
    *found = (struct control_targets){ 0 };
    int ret = add_word(found, word);

    if (ret == 0 && (found->count || !word)) {
        if (found->count)
            qsort(found->target, found->count, sizeof *found->target, by_label);
        return CLI_OK;
    }
    control_free(found);
    if (ret == 0)
        return cli_error(command, "%.200s: this VM has no device with a control socket", word);
    return cli_error(command, "%.200s: %s", word ? word : "VMs",
                     ret != -ENOENT ? strerror(-ret)
                     : word && is_socket(word)
                         ? "no such VM, but a socket here: ./ before it makes it a path"
                         : "no such VM");
}

void control_free(struct control_targets *found)
{
    free(found->target);
    *found = (struct control_targets){ 0 };
}

/* ---- Asking ------------------------------------------------------------------------------------------ */

int control_connect(const char *path, unsigned seconds)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    const struct timeval patience = { .tv_sec = seconds };

    if (snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path) >= (int)sizeof addr.sun_path)
        return -ENAMETOOLONG;
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (sock < 0)
        return -errno;
    setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(sock, (struct sockaddr *)&addr, sizeof addr) == 0)
        return sock;
    int error = errno;
    close(sock);
    return error == ECONNREFUSED && !is_socket(path) ? -EPROTOTYPE : -error;
}

/* A keeper may be anybody's program. */
static void make_text(char *text, size_t size)
{
    text[size - 1] = '\0';
    for (char *p = text; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
}

/* A keeper that refuses us answers before we ask, and closes: that the connection is broken is heard first, once. */
static ssize_t get_answer(int sock, ssize_t sent, struct control_answer *answer,
                          struct wire_fds *fds)
{
    if (sent < 0 && sent != -EPIPE && sent != -ECONNRESET)
        return sent;
    ssize_t n = wire_receive(sock, answer, sizeof *answer, fds);
    return n == -ECONNRESET ? wire_receive(sock, answer, sizeof *answer, fds) : n;
}

int control_ask(int sock, const void *request, size_t size, int fd, struct control_answer *answer,
                int *back)
{
    struct iovec iov = { (void *)(uintptr_t)request, size };
    struct wire_fds fds = { .count = 0 };

    if (back)
        *back = -1;
    ssize_t n = get_answer(sock, wire_send(sock, &iov, 1, &fd, fd >= 0), answer, &fds);
    if (n == (ssize_t)sizeof *answer && back && fds.count == 1) {
        *back = fds.fd[0];
        fds.fd[0] = -1;
    }
    wire_fds_close(&fds);
    if (n < 0)
        return n == -EAGAIN ? -ETIMEDOUT : (int)n;
    if (n != (ssize_t)sizeof *answer || answer->size != sizeof *answer) {
        if (back && *back >= 0)
            close(*back);
        return n == 0 ? -ECONNRESET : -EPROTO;
    }
    make_text(answer->status.name, sizeof answer->status.name);
    make_text(answer->why, sizeof answer->why);
    return 0;
}

int control_status(int sock, struct control_answer *answer, int *block)
{
    const struct control_request r = { CONTROL_STATUS, sizeof r };
    int ret = control_ask(sock, &r, sizeof r, -1, answer, block);

    return ret < 0 ? ret : answer->result;
}

const char *control_error(int error)
{
    switch (error) {
    case -ENOENT:
        return "there is no such control socket";
    case -ECONNREFUSED:
        return "nobody listens there any more";
    case -EPROTOTYPE:
        return "not a control socket";
    case -EAGAIN:
    case -ETIMEDOUT:
        return "its keeper does not answer";
    case -ECONNRESET:
        return "its keeper has ended";
    case -EPROTO:
        return "its keeper is of another build, and is not understood";
    case -EACCES:
        return "not allowed: it belongs to another user";
    default:
        return strerror(-error);
    }
}

/*
 * keeping.c - requests to the keeper, which answers each at once.
 *
 * None of this is on the path of a message: it is called when a session changes. What is sent here goes
 * by sendmsg(2), which the kernel does not count among a process's writes (state/effect.h).
 */
#include "worker/keeping.h"
#include "keeper/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static_assert(KEEP_CONNECTION == NAME_CONNECTION, "one name for the connection");
static_assert(KEEP_BLOCK == NAME_BLOCK && KEEP_NEW_BLOCK == NAME_NEW_BLOCK, "and for blocks");

static_assert(KEEPER_MAX_FDS == WIRE_MAX_FDS, "what wire can send");

static int send_request(int sock, const struct keeper_request *r, const void *bytes, const int *fds,
                        unsigned nfds)
{
    struct iovec iov[] = { { (void *)(uintptr_t)r, sizeof *r }, { (void *)(uintptr_t)bytes, r->size } };
    ssize_t n = wire_send(sock, iov, r->size ? 2 : 1, fds, nfds);

    if (n == -ETOOMANYREFS) /* its user has as many under way as it may have open */
        return -EMFILE;
    return n < 0 ? (int)n : 0;
}

static int get_answer(int sock, struct keeper_answer *a, int *fd)
{
    struct wire_fds fds;
    ssize_t n = wire_receive(sock, a, sizeof *a, &fds);

    if (n == (ssize_t)sizeof *a && fds.count == 1) {
        *fd = fds.fd[0];
        fds.fd[0] = -1;
    }
    wire_fds_close(&fds);
    if (n != (ssize_t)sizeof *a)
        return n < 0 ? (int)n : -EPIPE;
    return 0;
}

/* The result, or the descriptor that came with it. */
static int ask(struct keeping *k, const struct keeper_request *r, const void *bytes, const int *fds,
               unsigned nfds, struct keeper_answer *a)
{
    struct keeper_answer own;
    int fd = -1, ret = -EPIPE;

    if (!a)
        a = &own;
    if (k->watch.fd >= 0)
        ret = send_request(k->watch.fd, r, bytes, fds, nfds);
    if (ret == 0)
        ret = get_answer(k->watch.fd, a, &fd);
    if (ret < 0)
        return ret;
    return fd >= 0 ? fd : a->result;
}

/* ---- struct server_keeping ------------------------------------------------------------------------- */

static int put(void *ctx, uint32_t name, int fd)
{
    struct keeper_request r = { .what = KEEPER_PUT, .name = name };
    return ask(ctx, &r, NULL, &fd, 1, NULL);
}

static void drop(void *ctx, uint32_t name)
{
    struct keeper_request r = { .what = KEEPER_DROP, .name = name };
    ask(ctx, &r, NULL, NULL, 0, NULL);
}

static int get(void *ctx, uint32_t name)
{
    struct keeper_request r = { .what = KEEPER_GET, .name = name };
    return ask(ctx, &r, NULL, NULL, 0, NULL);
}

static uint32_t next(void *ctx, uint32_t after)
{
    struct keeper_request r = { .what = KEEPER_NEXT, .name = after };
    struct keeper_answer a = { .result = 0 };
    return ask(ctx, &r, NULL, NULL, 0, &a) < 0 ? 0 : (uint32_t)a.result;
}

static ssize_t send_once(void *ctx, uint64_t which, const void *bytes, size_t n, const int *fds,
                         unsigned nfds)
{
    struct keeper_request r = { .what = KEEPER_SEND, .which = which, .size = (uint32_t)n };

    if (n > KEEPER_MAX_SEND || nfds > KEEPER_MAX_FDS)
        return -EMSGSIZE;
    return ask(ctx, &r, bytes, fds, nfds, NULL);
}

static int open_file(void *ctx, unsigned file, int flags)
{
    struct keeper_request r = { .what = KEEPER_OPEN, .name = file, .flags = (uint32_t)flags };
    return ask(ctx, &r, NULL, NULL, 0, NULL);
}

static int accept_client(void *ctx, uint32_t listener, uint32_t name)
{
    struct keeper_request r = { .what = KEEPER_ACCEPT, .name = listener, .flags = name };
    return ask(ctx, &r, NULL, NULL, 0, NULL);
}

static int watch_file(void *ctx, int inotify, unsigned file)
{
    struct keeper_request r = { .what = KEEPER_WATCH, .name = file };
    return ask(ctx, &r, NULL, &inotify, 1, NULL);
}

void keeping_open(struct keeping *k, int fd)
{
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    k->watch.fd = fd;
    k->calls = (struct server_keeping){ 0,         put,           drop,        get, next, send_once,
                                        open_file, accept_client, watch_file,  k,   NULL, false };
}

void keeping_close(struct keeping *k)
{
    if (k->watch.fd >= 0)
        close(k->watch.fd);
    k->watch.fd = -1;
}

int keeping_dead(struct keeping *k, struct effect_counts *counts)
{
    struct keeper_request r = { .what = KEEPER_DEAD };
    struct keeper_answer a;
    int ret = ask(k, &r, NULL, NULL, 0, &a);

    if (ret < 0)
        return ret;
    k->calls.worker = a.worker;
    *counts = (struct effect_counts){ .written = a.written, .read = a.read };
    return 0;
}

static int ready(void *ctx)
{
    struct keeper_request r = { .what = KEEPER_READY };
    return ask(ctx, &r, NULL, NULL, 0, NULL);
}

int keeping_ready(struct keeping *k)
{
    return ready(k);
}

void keeping_upgrade(struct keeping *k)
{
    k->calls.taken_over = ready;
}

int keeping_rest(struct keeping *k)
{
    struct keeper_request r = { .what = KEEPER_REST };

    return ask(k, &r, NULL, NULL, 0, NULL);
}

void keeping_tell(struct keeping *k, const char *text)
{
    struct keeper_request r = { .what = KEEPER_TELL, .size = (uint32_t)strnlen(text, KEEPER_MAX_TEXT) };

    ask(k, &r, text, NULL, 0, NULL);
}

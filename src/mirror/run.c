/*
 * run.c - one connection after the other, and the verdict on each.
 */
#include "mirror/run.h"
#include "mirror/mirror.h"
#include "mirror/stream.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* For a command to start the client and have it connected. */
#define START_NS 60000000000u

/* In all, in units of the timeout: a client that makes progress for ever. */
#define MOST_TIMEOUTS 8u

static const struct misbehaviour *const tables[] = {
    misbehaviours_version,    misbehaviours_header, misbehaviours_info, misbehaviours_data,
    misbehaviours_descriptor, misbehaviours_dma,    misbehaviours_pace, misbehaviours_twin,
};

static const struct misbehaviour *misbehaviour(size_t i)
{
    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++)
        for (const struct misbehaviour *m = tables[t]; m->id; m++)
            if (i-- == 0)
                return m;
    return NULL;
}

static struct entry entry_of(const struct misbehaviour *m)
{
    return (struct entry){ m->id, m->text, m->section };
}

size_t mirror_entries(struct entry *entries, size_t space)
{
    const struct misbehaviour *m;
    size_t i;

    for (i = 0; (m = misbehaviour(i)); i++)
        if (i < space)
            entries[i] = entry_of(m);
    return i;
}

/* ---- A client comes, and goes -------------------------------------------------------------- */

/* Waits for a connection or the end of the child. false: no connection. */
static bool wait_for_client(struct run *run, uint64_t until)
{
    struct mirror *m = run->mirror;
    struct pollfd polls[] = { { .fd = m->listener, .events = POLLIN },
                              { .fd = m->stop, .events = POLLIN },
                              { .fd = run->child.fd, .events = POLLIN } };

    for (;;) {
        uint64_t now = play_now();
        bool forever = !run->child.pid && !run->connected;
        poll(polls, 3, forever ? -1 : now >= until ? 0 : (int)((until - now) / 1000000 + 1));
        if (polls[1].revents) {
            run->play.stopped = true;
            return false;
        }
        if (polls[0].revents) {
            run->play.sock = accept4(m->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
            if (run->play.sock >= 0)
                return true;
        }
        if (child_ended(&run->child) || (!forever && play_now() >= until))
            return false;
    }
}

static void meet(struct play *p)
{
    struct ucred who;
    socklen_t size = sizeof who;

    p->client = 0;
    if (getsockopt(p->sock, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 && who.pid != getpid())
        p->client = who.pid;
}

/* After the client has closed, or we have: a client that was started ends, or comes back. */
static bool comes_again(struct run *run)
{
    if (!run->child.pid || run->play.stopped)
        return false;
    if (play_now() < run->deadline)
        return wait_for_client(run, play_now() + run->play.timeout_ms * UINT64_C(1000000));
    struct pollfd p = { .fd = run->child.fd, .events = POLLIN };
    poll(&p, 1, (int)run->play.timeout_ms);
    child_ended(&run->child);
    return false;
}

static int connect_and_play(struct run *run)
{
    struct play *p = &run->play;

    /* A command that does not connect ends; one that is only slow to start is given time. */
    if (!wait_for_client(run, play_now() + START_NS))
        return 0;
    run->deadline = play_now() + MOST_TIMEOUTS * p->timeout_ms * UINT64_C(1000000);
    do {
        int ret = device_init(&p->device);
        p->in = malloc(STREAM_LONGEST);
        if (ret < 0 || !p->in) {
            play_free(p);
            close(p->sock);
            return ret < 0 ? ret : -ENOMEM;
        }
        run->came_back = run->connected;
        run->connected = true;
        p->closed = p->over = false;
        p->in_size = 0;
        meet(p);
        play(p);
        run->closed_first = p->closed;
        close(p->sock);
        play_free(p);
    } while ((p->closed || p->over) && comes_again(run));
    return 0;
}

/* ---- Runs ---------------------------------------------------------------------------------- */

static int one_run(struct mirror *m, const struct misbehaviour *what, struct run *run)
{
    const struct mirror_options *o = m->options;

    memset(run, 0, sizeof *run);
    run->mirror = m;
    run->child.fd = run->child.said = -1;
    run->play.m = what;
    run->play.later = run->play.keep = -1;
    run->play.stop = m->stop;
    run->play.timeout_ms = o->timeout_ms;
    run->play.reads_registers = m->reads_registers;
    if (!o->command && o->waiting)
        o->waiting(what ? what->id : NULL);
    int ret = o->command ? child_start(&run->child, o->command, o->socket_path) : 0;
    if (ret == 0)
        ret = connect_and_play(run);
    if (ret == 0 && run->play.stopped)
        ret = -EINTR;
    return ret;
}

/* Nobody misbehaves: does the client get along, and what does it use? */
static int first_run(struct mirror *m, struct run *run, char *why, size_t space)
{
    int ret = one_run(m, NULL, run);
    char said[160];

    child_last_words(&run->child, said, sizeof said);
    if (ret == -EINTR) {
        snprintf(why, space, "interrupted");
    } else if (ret < 0) {
        errno = -ret;
        snprintf(why, space, "%s: %m", m->options->command ? m->options->command[0] : "the device");
    } else if (!run->connected) {
        snprintf(why, space, "the client did not connect%s%s", said[0] ? ": " : "", said);
        ret = -ECONNREFUSED;
    } else if (run->play.wrong[0]) {
        snprintf(why, space, "the client is at fault before the mirror is: it %s", run->play.wrong);
        ret = -EPROTO;
    } else if (run->child.ended && run->child.status != 0) {
        snprintf(why, space, "the client fails even if nobody misbehaves%s%s", said[0] ? ": " : "",
                 said);
        ret = -EPROTO;
    }
    m->ends_itself = run->child.ended;
    m->reads_registers = run->play.register_read;
    child_end(&run->child);
    return ret;
}

static int run_all(struct mirror *m, struct run *run, struct results *results, char *why,
                   size_t space)
{
    const struct misbehaviour *x;

    int ret = first_run(m, run, why, space);
    for (size_t i = 0; ret == 0 && (x = misbehaviour(i)); i++) {
        if (!selection_has(&m->options->select, x->id))
            continue;
        ret = one_run(m, x, run);
        if (ret == 0) {
            char detail[400];
            enum verdict verdict = judge(run, detail, sizeof detail);
            results->add(results, &(struct result){ entry_of(x), verdict, detail });
        } else {
            errno = -ret;
            snprintf(why, space, ret == -EINTR ? "interrupted" : "%s: %m", x->id);
        }
        child_end(&run->child);
    }
    return ret;
}

int mirror_run(const struct mirror_options *options, struct results *results, char *why,
               size_t space)
{
    struct mirror m = { .options = options };
    sigset_t ends, before;
    struct run *run = malloc(sizeof *run);

    int ret = run ? wire_listen(options->socket_path, &m.listener) : -ENOMEM;
    if (ret < 0) {
        errno = -ret;
        snprintf(why, space, "%s: %m", options->socket_path);
        free(run);
        return ret;
    }
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, &before);
    m.stop = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);

    ret = run_all(&m, run, results, why, space);

    unlink(options->socket_path);
    close(m.listener);
    /* What ended us has been heard: it must not end the process when it is let through again. */
    struct signalfd_siginfo heard;
    while (read(m.stop, &heard, sizeof heard) > 0)
        ;
    close(m.stop);
    sigprocmask(SIG_SETMASK, &before, NULL);
    free(run);
    return ret;
}

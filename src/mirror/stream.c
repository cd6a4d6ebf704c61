/*
 * stream.c - bytes of the client become commands that wait for their turn, and answers.
 */
#include "mirror/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Commands that may wait before the client counts as one that sends without end. */
#define MOST_WAITING 4096u

/* How often to look at a client from which nothing comes. */
#define LOOK_NS 100000000u

uint64_t play_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- Answers of the client ----------------------------------------------------------------- */

/* Ids are indexes, but for those that a misbehaviour has chosen by itself. */
static struct asked *find_asked(struct play *p, const struct vfio_user_header *h)
{
    unsigned i = h->id;

    if (i >= p->asked_count || p->asked[i].id != i)
        for (i = 0; i < p->asked_count && p->asked[i].id != h->id; i++)
            ;
    return i < p->asked_count && p->asked[i].command == h->command ? &p->asked[i] : NULL;
}

/* "VFIO_USER_DMA_READ of 0x10 bytes at 0x1000", "command 14". */
static const char *describe(const struct asked *a, char *text, size_t size)
{
    const char *name = wire_command_name(a->command);

    if (a->command == VFIO_USER_DMA_READ || a->command == VFIO_USER_DMA_WRITE)
        snprintf(text, size, "%s of 0x%llx bytes at 0x%llx", name, (unsigned long long)a->count,
                 (unsigned long long)a->address);
    else if (strcmp(name, "unknown") == 0)
        snprintf(text, size, "command %u", a->command);
    else
        snprintf(text, size, "%s", name);
    return text;
}

static void check_answer(struct play *p, const struct vfio_user_header *h, const uint8_t *bytes)
{
    struct asked *a = find_asked(p, h);
    struct wire_message m;
    char about[96];

    if (!a) {
        play_wrong(p, "sent a reply to %s, id %u, that nobody asked for",
                   wire_command_name(h->command), h->id);
        return;
    }
    describe(a, about, sizeof about);
    if (a->no_reply)
        play_wrong(p, "replied to %s, which wants no reply", about);
    if (a->answers++)
        play_wrong(p, "replied twice to %s", about);
    else
        p->answered++;
    if (h->flags & VFIO_USER_FLAG_ERROR)
        return;
    if (a->must_fail)
        play_wrong(p, "replied success to %s", about);
    else if (wire_decode_reply(bytes, h->size, h->command, &m) < 0 ||
             (h->command == VFIO_USER_DMA_READ && m.dma.count != a->count))
        play_wrong(p, "replied to %s with a message of the wrong size", about);
}

/* ---- Input --------------------------------------------------------------------------------- */

static void queue_command(struct play *p, const struct vfio_user_header *h, const uint8_t *bytes,
                          struct wire_fds *fds)
{
    struct waiting *w = malloc(sizeof *w + h->size);
    if (!w || p->waiting >= MOST_WAITING) {
        play_wrong(p, "sends commands without end");
        free(w);
        play_close(p);
        return;
    }
    w->bytes = (uint8_t *)(w + 1);
    w->n = h->size;
    memcpy(w->bytes, bytes, w->n);
    w->fds = *fds;
    fds->count = 0;
    w->next = NULL;
    *p->last = w;
    p->last = &w->next;
    p->waiting++;
}

static void parse(struct play *p)
{
    size_t at = 0;
    struct vfio_user_header h;

    while (!p->over) {
        int size = wire_header(p->in + at, p->in_size - at, STREAM_LONGEST, &h);
        if (size < 0) {
            play_wrong(p, "sent something that is no message");
            play_close(p);
            return;
        }
        if (size == 0 || (size_t)size > p->in_size - at)
            break;
        bool is_last = at + (size_t)size == p->in_size;
        struct wire_fds none = { .count = 0 }, *fds = is_last ? &p->in_fds : &none;
        if (wire_is_reply(&h))
            check_answer(p, &h, p->in + at);
        else
            queue_command(p, &h, p->in + at, fds);
        wire_fds_close(fds);
        at += (size_t)size;
    }
    memmove(p->in, p->in + at, p->in_size - at);
    p->in_size -= at;
}

/* Takes in what is there. */
static void receive(struct play *p)
{
    struct wire_fds fds;
    ssize_t got = wire_receive(p->sock, p->in + p->in_size, STREAM_LONGEST - p->in_size, &fds);

    if (got == -EAGAIN)
        return;
    if (got <= 0) {
        p->closed = true;
        return;
    }
    p->heard_at = play_now();
    p->in_size += (size_t)got;
    if (fds.count) {
        wire_fds_close(&p->in_fds);
        p->in_fds = fds;
    }
    parse(p);
}

/* Waits for the socket, for at most `ms`. What comes is taken in. */
static void wait_for(struct play *p, short events, uint64_t until)
{
    uint64_t now = play_now();
    int ms = now >= until ? 0 : (int)((until - now + 999999) / 1000000);
    struct pollfd polls[] = { { .fd = p->sock, .events = (short)(events | POLLIN) },
                              { .fd = p->stop, .events = POLLIN } };

    poll(polls, 2, ms);
    if (polls[1].revents)
        p->stopped = p->over = true;
    if (polls[0].revents & (POLLIN | POLLHUP | POLLERR))
        receive(p);
}

struct waiting *stream_next(struct play *p)
{
    uint64_t until = play_now() + (uint64_t)p->timeout_ms * 1000000u;

    while (!p->first && !p->over && !p->closed) {
        if (p->heard_at + (uint64_t)p->timeout_ms * 1000000u > until)
            until = p->heard_at + (uint64_t)p->timeout_ms * 1000000u;
        uint64_t now = play_now();
        if (now >= until)
            return NULL;
        wait_for(p, 0, until - now > LOOK_NS ? now + LOOK_NS : until);
        play_look_size(p);
    }
    struct waiting *w = p->over ? NULL : p->first;
    if (w) {
        p->first = w->next;
        if (!p->first)
            p->last = &p->first;
        p->waiting--;
    }
    return w;
}

void stream_free(struct waiting *w)
{
    wire_fds_close(&w->fds);
    free(w);
}

void play_pause(struct play *p, unsigned ms)
{
    uint64_t until = play_now() + (uint64_t)ms * 1000000u;
    while (!p->over && !p->closed && play_now() < until)
        wait_for(p, 0, until);
}

void play_nap(struct play *p, unsigned ms)
{
    struct pollfd stop = { .fd = p->stop, .events = POLLIN };
    if (poll(&stop, 1, (int)ms) > 0)
        p->stopped = p->over = true;
}

/* ---- Output -------------------------------------------------------------------------------- */

void play_send(struct play *p, const void *bytes, size_t n, const int *fds, unsigned nfds)
{
    const uint8_t *at = bytes;
    uint64_t until = play_now() + (uint64_t)p->timeout_ms * 1000000u;

    while (n > 0 && !p->closed && !p->over) {
        struct iovec iov = { (void *)(uintptr_t)at, n };
        ssize_t sent = wire_send_any(p->sock, &iov, 1, fds, nfds, MSG_DONTWAIT);
        if (sent > 0) {
            nfds = 0;
            at += sent;
            n -= (size_t)sent;
        } else if (sent != -EAGAIN || play_now() >= until) {
            /* A client that has closed may have said something before. */
            if (sent != -EAGAIN)
                play_pause(p, 1);
            break;
        } else {
            wait_for(p, POLLOUT, until);
        }
    }
}

bool play_try_send(struct play *p, const void *bytes, size_t n)
{
    const uint8_t *at = bytes;

    while (n > 0 && !p->closed && !p->over) {
        struct iovec iov = { (void *)(uintptr_t)at, n };
        ssize_t sent = wire_send_any(p->sock, &iov, 1, NULL, 0, MSG_DONTWAIT);
        if (sent == -EAGAIN) {
            /* What has begun must be finished. */
            if (at != (const uint8_t *)bytes)
                play_send(p, at, n, NULL, 0);
            return at != (const uint8_t *)bytes;
        }
        if (sent <= 0)
            return false;
        at += sent;
        n -= (size_t)sent;
    }
    return n == 0;
}

void play_send_reply(struct play *p, const struct reply *r)
{
    play_send(p, r->bytes, r->size, r->fds, r->nfds);
}

void play_close(struct play *p)
{
    p->over = true;
    shutdown(p->sock, SHUT_RDWR);
}

/*
 * pace.c - replies that come in pieces, late, out of order, or not at all; connections that end.
 */
#include "mirror/misbehaviour.h"

#include <stdlib.h>
#include <sys/socket.h>

#define SOCKET "Socket Disconnection Behavior"
#define LATE "Request Retry and Response Timeout"

/* One byte after the other. */
static bool bytewise(struct play *p, struct reply *r)
{
    for (size_t i = 0; i < r->size; i++) {
        play_send(p, r->bytes + i, 1, r->fds, i ? 0 : r->nfds);
        play_pause(p, i < 64);
    }
    return false;
}

/* So many bytes, then a while, then the rest. */
static bool in_two(struct play *p, struct reply *r)
{
    size_t n = p->m->arg < r->size ? p->m->arg : r->size - 1;
    play_send(p, r->bytes, n, r->fds, r->nfds);
    play_pause(p, 50);
    play_send(p, r->bytes + n, r->size - n, NULL, 0);
    return false;
}

/* So many bytes, and then silence. */
static bool part(struct play *p, struct reply *r)
{
    p->owes = true;
    play_send(p, r->bytes, p->m->arg < r->size ? p->m->arg : r->size - 1, r->fds, r->nfds);
    return false;
}

/* Nothing; the client is served as ever if it asks for something else. */
static bool never(struct play *p, struct reply *r)
{
    (void)r;
    p->owes = true;
    return false;
}

/* Nothing, whatever the client does from now on; what it sends is not even taken. */
static bool deaf(struct play *p, struct reply *r)
{
    (void)r;
    p->owes = p->deaf = true;
    return false;
}

/* Later than most clients wait. */
static bool late(struct play *p, struct reply *r)
{
    play_pause(p, p->timeout_ms * 7 / 10);
    play_send_reply(p, r);
    return false;
}

static bool slow(struct play *p, struct reply *r)
{
    play_pause(p, (unsigned)p->m->arg);
    play_send_reply(p, r);
    return false;
}

/* So many bytes, and the end: who has read them cannot send any more. */
static bool end(struct play *p, struct reply *r)
{
    size_t n = p->m->arg < r->size ? p->m->arg : r->size;
    shutdown(p->sock, SHUT_RD);
    play_send(p, r->bytes, n, r->fds, r->nfds);
    play_close(p);
    return false;
}

static bool end_at_once(struct play *p, struct reply *r)
{
    (void)r;
    play_close(p);
    return false;
}

/* No message at all. */
static bool noise(struct play *p, struct reply *r)
{
    uint8_t bytes[4096];
    uint32_t x = 12345;

    (void)r;
    for (size_t i = 0; i < sizeof bytes; i++) {
        x = x * 1664525u + 1013904223u;
        bytes[i] = (uint8_t)(x >> 24);
    }
    p->owes = true;
    play_send(p, bytes, p->m->arg, NULL, 0);
    return false;
}

/* The reply to this request, after that to the next one, which waits already. */
static bool swapped(struct play *p, struct reply *r)
{
    struct reply *first = malloc(sizeof *first);
    if (!first)
        return true;
    *first = *r;
    play_serve_next(p, r);
    play_send_reply(p, first);
    free(first);
    return false;
}

#define ROW(id, section, text, point, must, act, arg)          \
    {                                                          \
        "pace." id, section, text, point, must, act, arg, NULL \
    }
#define AT_ALL(id, section, text, must, act, arg)                              \
    ROW(id "@version", section, text, AT_VERSION, must, act, arg),             \
        ROW(id "@info", section, text, AT_INFO, must, act, arg),               \
        ROW(id "@region-info", section, text, AT_REGION_INFO, must, act, arg), \
        ROW(id "@read", section, text, AT_READ, must, act, arg)

const struct misbehaviour misbehaviours_pace[] = {
    AT_ALL("bytewise", "Header", "a reply that comes byte by byte", MAY_GO_ON, bytewise, 0),
    AT_ALL("in-two-header", "Header", "a reply in two pieces, the first of 7 bytes", MAY_GO_ON,
           in_two, 7),
    AT_ALL("in-two-body", "Header", "a reply in two pieces, the first of 18 bytes", MAY_GO_ON,
           in_two, 18),
    AT_ALL("part-header", LATE, "7 bytes of a reply, then silence", MUST_NOTICE, part, 7),
    AT_ALL("part-body", LATE, "18 bytes of a reply, then silence", MUST_NOTICE, part, 18),
    AT_ALL("never", LATE, "no reply", MUST_NOTICE, never, 0),
    ROW("never@dma-map", LATE, "no reply to a DMA map", AT_DMA_MAP, MUST_NOTICE, never, 0),
    ROW("never@dma-unmap", LATE, "no reply to a DMA unmap", AT_DMA_UNMAP, MUST_NOTICE, never, 0),
    ROW("never@reset", LATE, "no reply to a reset", AT_RESET, MUST_NOTICE, never, 0),
    ROW("deaf@read", LATE, "no reply any more to anything", AT_READ, MUST_NOTICE, deaf, 0),
    ROW("slow@read", LATE, "a reply after 200 ms, which is allowed", AT_READ, MAY_GO_ON, slow, 200),
    ROW("late@info", LATE, "a reply after most clients have given up", AT_INFO, MAY_GO_ON, late, 0),
    ROW("late@read", LATE, "a reply after most clients have given up", AT_READ, MAY_GO_ON, late, 0),
    ROW("swapped", "Command Concurrency", "the replies to two requests in the wrong order",
        AT_PIPELINED, MAY_GO_ON, swapped, 0),
    ROW("end@connect", SOCKET, "the connection ends before anything was said", AT_CONNECT,
        MUST_NOTICE, end_at_once, 0),
    AT_ALL("end-before", SOCKET, "the connection ends instead of a reply", MUST_NOTICE, end, 0),
    AT_ALL("end-header", SOCKET, "the connection ends after 7 bytes of a reply", MUST_NOTICE, end,
           7),
    AT_ALL("end-body", SOCKET, "the connection ends after 18 bytes of a reply", MUST_NOTICE, end,
           18),
    AT_ALL("end-after", SOCKET, "the connection ends after a reply", MAY_GO_ON, end, REPLY_SPACE),
    ROW("end@dma-map", SOCKET, "the connection ends instead of the reply to a DMA map", AT_DMA_MAP,
        MUST_NOTICE, end, 0),
    ROW("end@reset", SOCKET, "the connection ends instead of the reply to a reset", AT_RESET,
        MUST_NOTICE, end, 0),
    ROW("noise@version", "Header", "4,096 bytes that are no messages", AT_VERSION, MUST_NOTICE,
        noise, 4096),
    ROW("noise@read", "Header", "4,096 bytes that are no messages", AT_READ, MUST_NOTICE, noise,
        4096),
    ROW("noise-short@read", "Header", "5 bytes that are no message", AT_READ, MUST_NOTICE, noise,
        5),
    { NULL, NULL, NULL, 0, 0, NULL, 0, NULL },
};

/*
 * framing.c - group "framing": a stream of messages, cut anywhere, glued together, or longer than a
 * socket holds.
 */
#include "check/run.h"

#include <sys/socket.h>
#include <time.h>

#define F "Command Concurrency"

/* A small command and a larger one, one after the other. */
struct pair {
    struct vfio_user_header first_header;
    struct vfio_user_device_info first;
    struct vfio_user_header second_header;
    struct vfio_region_info second;
} __attribute__((packed));

static struct pair a_pair(uint16_t id)
{
    return (struct pair){
        { id, VFIO_USER_DEVICE_GET_INFO, 32, 0, 0 },
        { .argsz = 16 },
        { (uint16_t)(id + 1), VFIO_USER_DEVICE_GET_REGION_INFO, 48, 0, 0 },
        { .argsz = 32 },
    };
}

static void both_answered(struct run *r, struct peer *p, uint16_t id)
{
    if (reply_to(r, p, id, VFIO_USER_DEVICE_GET_INFO) != SERVED)
        fail(r,
             "first of two messages: expected success, got an error or the end of the connection");
    if (reply_to(r, p, (uint16_t)(id + 1), VFIO_USER_DEVICE_GET_REGION_INFO) == CLOSED)
        fail(r, "second of two messages: expected a reply, got the end of the connection");
}

static void rest(unsigned ms)
{
    nanosleep(&(struct timespec){ .tv_nsec = (long)ms * 1000000 }, NULL);
}

/* c->a bytes at a time, and a pause of c->b ms between. */
static void in_pieces(struct run *r, const struct check *c)
{
    struct pair pair = a_pair(100);
    struct peer *p = client(r);

    for (size_t at = 0; at < sizeof pair; at += c->a) {
        size_t n = sizeof pair - at < c->a ? sizeof pair - at : c->a;
        send_raw(r, p, (const char *)&pair + at, n, NULL, 0);
        rest((unsigned)c->b);
    }
    both_answered(r, p, 100);
}

/* The first c->a bytes, a moment of silence, and the rest. */
static void cut_at(struct run *r, const struct check *c)
{
    struct pair pair = a_pair(200);
    struct peer *p = client(r);

    send_raw(r, p, &pair, c->a, NULL, 0);
    rest(20);
    send_raw(r, p, (const char *)&pair + c->a, sizeof pair - c->a, NULL, 0);
    both_answered(r, p, 200);
}

static void at_once(struct run *r, const struct check *c)
{
    struct pair pairs[64];
    struct peer *p = client(r);

    for (uint16_t i = 0; i < c->a; i++)
        pairs[i] = a_pair((uint16_t)(2 * i));
    send_raw(r, p, pairs, c->a * sizeof pairs[0], NULL, 0);
    for (uint16_t i = 0; i < c->a; i++)
        both_answered(r, p, (uint16_t)(2 * i));
}

/* A write behind the end of a region: it is refused, but has to be read whole. */
static struct ask long_write(struct run *r, uint32_t count)
{
    struct vfio_user_region_access a = { UINT64_C(1) << 40, VFIO_PCI_CONFIG_REGION_INDEX, count };
    uint8_t *bytes = zeroes(r, sizeof a + count);
    memcpy(bytes, &a, sizeof a);
    return (struct ask){ VFIO_USER_REGION_WRITE, bytes, sizeof a + count, NULL, 0, 0 };
}

/* As long as the server says it takes. A default of a megabyte is more than a socket holds. */
static void longest(struct run *r, const struct check *c)
{
    struct ask ask = long_write(r, r->facts.max_data);

    for (uint64_t i = 0; i < c->a; i++) {
        post(r, &ask);
        if (next_reply(r, client(r)) == CLOSED)
            fail(r,
                 "%u bytes of data, which is max_data_xfer_size: expected a reply, got the end of "
                 "the connection",
                 r->facts.max_data);
    }
    still_works(r, client(r));
}

/* Longer than it takes. It may end the connection, or read all of it to throw it away. */
static void too_long(struct run *r, const struct check *c)
{
    struct ask ask = long_write(r, r->facts.max_data + (uint32_t)c->a);
    uint16_t id;
    int ret = peer_send_message(client(r), ask.command, 0, ask.body, ask.size, NULL, 0, &id);
    bool silent;

    if (ret == -ETIMEDOUT)
        fail(r,
             "expected a message that is too long to be refused, got a server that stops reading");
    if (consequence(r, client(r), &silent) == SERVED)
        fail(r, "a message that is too long: expected an error, got success");
    if (r->client.sock >= 0 && !silent)
        still_works(r, client(r));
}

/* Commands without end, while replies are read late. */
static void late_reader(struct run *r, const struct check *c)
{
    uint16_t ids[256];
    struct vfio_user_device_info info = { .argsz = sizeof info };

    for (unsigned i = 0; i < c->a; i++)
        ids[i] = post(r, ASK(VFIO_USER_DEVICE_GET_INFO, info));
    rest(50);
    for (unsigned i = 0; i < c->a; i++)
        if (reply_to(r, client(r), ids[i], VFIO_USER_DEVICE_GET_INFO) != SERVED)
            fail(r, "reply %u of %u: expected success, got something else", i, (unsigned)c->a);
}

/* Always some on their way; many in all. */
static void stream(struct run *r, const struct check *c)
{
    enum { WINDOW = 32 };
    uint16_t ids[WINDOW];
    struct vfio_user_device_info info = { .argsz = sizeof info };

    for (unsigned i = 0; i < c->a + WINDOW; i++) {
        if (i >= WINDOW &&
            reply_to(r, client(r), ids[i % WINDOW], VFIO_USER_DEVICE_GET_INFO) != SERVED)
            fail(r, "reply %u: expected success, got something else", i - WINDOW);
        if (i < c->a)
            ids[i % WINDOW] = post(r, ASK(VFIO_USER_DEVICE_GET_INFO, info));
    }
}

/* Nothing more will come from us; the replies that are due may still be sent. */
static void half_closed(struct run *r, const struct check *c)
{
    struct pair pair = a_pair(300);
    struct peer *p = client(r);
    (void)c;

    send_raw(r, p, &pair, sizeof pair, NULL, 0);
    shutdown(p->sock, SHUT_WR);
    for (int i = 0; i < 3 && p->sock >= 0; i++)
        next_reply(r, p); /* one of two replies, or the end, which has to come */
}

/* Goes away after c->a bytes of a message. */
static void vanish(struct run *r, const struct check *c)
{
    struct pair pair = a_pair(400);
    struct peer *p = client(r);

    send_raw(r, p, &pair, c->a, NULL, 0);
    peer_close(p);
}

/* Goes away with replies that nobody reads, and commands that nobody waits for. */
static void vanish_busy(struct run *r, const struct check *c)
{
    struct vfio_user_device_info info = { .argsz = sizeof info };
    for (unsigned i = 0; i < c->a; i++)
        post(r, ASK(VFIO_USER_DEVICE_GET_INFO, info));
    peer_close(client(r));
}

/* A descriptor comes with the first byte of its message, whatever the pieces. */
static void descriptor_in_pieces(struct run *r, const struct check *c)
{
    struct {
        struct vfio_user_header header;
        struct vfio_user_dma_map map;
    } m = { { 500, VFIO_USER_DMA_MAP, 48, 0, 0 }, a_map(BASE, PAGE) };
    int fd = a_memory_file(r, PAGE);
    struct peer *p = client(r);

    send_raw(r, p, &m, c->a, &fd, 1);
    rest(20);
    send_raw(r, p, (const char *)&m + c->a, sizeof m - c->a, NULL, 0);
    if (reply_to(r, p, 500, VFIO_USER_DMA_MAP) != SERVED)
        fail(r, "a map in two pieces: expected success, got an error or the end of the connection");
    r->offers[r->offer_count++] = (struct offer){ BASE, PAGE };
    unmap(r, BASE, PAGE);
}

static const struct check checks[] = {
    { "framing.bytes", "messages that come byte by byte", F, in_pieces, 0, 1, 0 },
    { "framing.bytes-slow", "byte by byte, with pauses", F, in_pieces, 0, 1, 2 },
    { "framing.by-7", "seven bytes at a time", F, in_pieces, 0, 7, 1 },
    { "framing.by-16", "sixteen bytes at a time", F, in_pieces, 0, 16, 1 },
    { "framing.by-40", "a message and the half of the next", F, in_pieces, 0, 40, 1 },
    { "framing.cut-1", "one byte, and then the rest", "Header", cut_at, 0, 1, 0 },
    { "framing.cut-4", "the header in two pieces", "Header", cut_at, 0, 4, 0 },
    { "framing.cut-15", "all but a byte of the header", "Header", cut_at, 0, 15, 0 },
    { "framing.cut-16", "the header, and then the rest", "Header", cut_at, 0, 16, 0 },
    { "framing.cut-17", "a byte more than the header", "Header", cut_at, 0, 17, 0 },
    { "framing.cut-31", "all but a byte of the message", "Header", cut_at, 0, 31, 0 },
    { "framing.cut-33", "a message and a byte", "Header", cut_at, 0, 33, 0 },
    { "framing.cut-48", "a message and the header of the next", "Header", cut_at, 0, 48, 0 },
    { "framing.cut-79", "all but the last byte of two messages", "Header", cut_at, 0, 79, 0 },
    { "framing.two", "two messages at once", F, at_once, 0, 1, 0 },
    { "framing.many", "128 messages at once", F, at_once, 0, 64, 0 },
    { "framing.longest", "a message with max_data_xfer_size of data",
      "VFIO_USER_VERSION: max_data_xfer_size", longest, 0, 1, 0 },
    { "framing.longest-8", "eight of them", "VFIO_USER_VERSION: max_data_xfer_size", longest, 0, 8,
      0 },
    { "framing.too-long", "one byte more than max_data_xfer_size is no harm",
      "VFIO_USER_VERSION: max_data_xfer_size", too_long, NEED_OWN, 1, 0 },
    { "framing.too-long-1m", "a megabyte more is no harm", "VFIO_USER_VERSION: max_data_xfer_size",
      too_long, NEED_OWN, 1 << 20, 0 },
    { "framing.late-reader", "200 replies that are read late", F, late_reader, 0, 200, 0 },
    { "framing.stream", "20,000 commands, 32 at a time", F, stream, 0, 20000, 0 },
    { "framing.half-closed", "a client that sends no more is let go", "Client Disconnection",
      half_closed, NEED_OWN, 0, 0 },
    { "framing.vanish-1", "a client that goes after a byte", "Client Disconnection", vanish,
      NEED_OWN, 1, 0 },
    { "framing.vanish-16", "a client that goes after a header", "Client Disconnection", vanish,
      NEED_OWN, 16, 0 },
    { "framing.vanish-31", "a client that goes in a message", "Client Disconnection", vanish,
      NEED_OWN, 31, 0 },
    { "framing.vanish-80", "a client that goes before its replies", "Client Disconnection", vanish,
      NEED_OWN, 80, 0 },
    { "framing.vanish-busy", "a client that goes with 200 commands under way",
      "Client Disconnection", vanish_busy, NEED_OWN, 200, 0 },
    { "framing.fd-1", "a descriptor with the first byte of a message in two pieces",
      "VFIO_USER_DMA_MAP", descriptor_in_pieces, NEED_MAPPED, 1, 0 },
    { "framing.fd-16", "a descriptor with the header alone", "VFIO_USER_DMA_MAP",
      descriptor_in_pieces, NEED_MAPPED, 16, 0 },
    { "framing.fd-47", "a descriptor with all but a byte", "VFIO_USER_DMA_MAP",
      descriptor_in_pieces, NEED_MAPPED, 47, 0 },
};
GROUP(check_framing, checks);

/*
 * robust.c - group "robust": garbage. Nothing is expected of the server but that it is there
 * afterwards, for the next client, and that it does not leave this one waiting where a reply is
 * due.
 *
 * The garbage is the same in every run. Writes to the device, resets and states are left out of it
 * unless --destructive is given.
 */
#include "check/run.h"

#include <stdlib.h>

#define S "Security Considerations"

/* xorshift64: the same in every run. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

static void fill(uint8_t *bytes, size_t n, uint64_t *state)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)(next_random(state) >> 32);
}

/* c->a bytes of noise instead of a version, or after one. As a rule its header cannot be. The bytes
 * of a command that acts on the device are none that this noise begins with. */
static void noise(struct run *r, const struct check *c)
{
    static uint8_t bytes[65536];
    uint64_t state = c->b * UINT64_C(0x9e3779b97f4a7c15) + 1;
    struct peer *p = c->b & 1 ? stranger(r) : client(r);

    fill(bytes, c->a, &state);
    if (!r->options->destructive && c->a >= 4)
        bytes[3] = 0x7f; /* of the command */
    peer_send(p, bytes, c->a, NULL, 0);
    for (int i = 0; i < 8 && p->sock >= 0; i++)
        if (peer_wait(p, 20) < 0 || peer_receive(p) < 0)
            break;
}

/* Fields of a message that are interesting now and then. */
static void spice(uint8_t *body, size_t n, uint64_t *state)
{
    static const uint64_t values[] = { 0,          1,
                                       8,          16,
                                       20,         24,
                                       32,         64,
                                       4096,       0x10000,
                                       0x7fffffff, 0x80000000,
                                       UINT32_MAX, UINT64_C(1) << 32,
                                       INT64_MAX,  UINT64_C(1) << 63,
                                       UINT64_MAX, UINT64_MAX - 4095 };
    for (int i = 0; i < 4 && n >= 8; i++) {
        uint64_t v = values[next_random(state) % LENGTH(values)];
        size_t width = next_random(state) % 2 ? 4 : 8;
        memcpy(body + next_random(state) % (n / 4) * 4, &v, width); /* there is room behind n */
    }
}

/* Many wrong ones of a command, each of which has to be answered, or ends the connection. */
static void wrong_bodies(struct run *r, const struct check *c)
{
    uint64_t state = c->a * 7919 + 17;
    uint8_t body[256 + 8];

    for (int i = 0; i < 200; i++) {
        size_t n = harmless(r, (uint16_t)c->a, body);
        if (n == 0 || next_random(&state) % 4 == 0) {
            n = next_random(&state) % 64;
            fill(body, n, &state);
        }
        spice(body, n, &state);
        if (c->a == VFIO_USER_DEVICE_FEATURE && n >= 8 && !r->options->destructive)
            body[6] = (uint8_t)((body[6] & ~6u) | 4u); /* to probe is harmless */
        if (c->a == VFIO_USER_REGION_READ && n >= 12 && !r->options->destructive)
            memcpy(body + 8, &(uint32_t){ VFIO_PCI_CONFIG_REGION_INDEX }, 4);
        struct ask ask = { (uint16_t)c->a, body, n, NULL, 0, 0 };
        if (try(r, &ask) == CLOSED) {
            note(r, "the connection is closed by one of them");
            return;
        }
    }
    still_works(r, client(r));
}

/* Descriptors that come with half a message, and go with it. */
static void half_with_fds(struct run *r, const struct check *c)
{
    struct vfio_user_header h = { 1, VFIO_USER_DMA_MAP, 48, 0, 0 };
    int fds[PEER_MOST_FDS], fd = a_memory_file(r, PAGE);
    struct peer *p = client(r);

    for (uint64_t i = 0; i < c->a; i++)
        fds[i] = fd;
    send_raw(r, p, &h, sizeof h, fds, (unsigned)c->a);
    peer_close(p);
}

/* As many as a message can carry, one message after the other. */
static void flood_of_fds(struct run *r, const struct check *c)
{
    struct vfio_user_device_info info = { .argsz = sizeof info };
    int fds[PEER_MOST_FDS], fd = a_memory_file(r, PAGE);
    (void)c;

    for (unsigned i = 0; i < PEER_MOST_FDS; i++)
        fds[i] = fd;
    for (int i = 0; i < 50 && r->client.sock >= 0; i++) {
        struct ask ask = { VFIO_USER_DEVICE_GET_INFO, &info, sizeof info, fds, PEER_MOST_FDS, 0 };
        try(r, &ask);
    }
}

/* Replies to commands that the server never sent. */
static void unasked_replies(struct run *r, const struct check *c)
{
    struct {
        struct vfio_user_header header;
        struct vfio_user_dma_access access;
        uint64_t data;
    } reply = { { 0, (uint16_t)c->a, sizeof reply, VFIO_USER_FLAG_TYPE_REPLY, 0 }, { BASE, 8 }, 7 };

    for (uint16_t id = 0; id < 20; id++) {
        reply.header.id = id;
        if (!send_raw(r, client(r), &reply, sizeof reply, NULL, 0))
            break;
    }
    struct vfio_user_device_info info = { .argsz = sizeof info };
    if (try(r, ASK(VFIO_USER_DEVICE_GET_INFO, info)) == CLOSED)
        note(r, "replies that nobody waits for end the connection");
}

/* Sent without ever reading a reply, until the server stops taking, or enough. */
static void never_reads(struct run *r, const struct check *c)
{
    struct {
        struct vfio_user_header header;
        struct vfio_user_device_info info;
    } m = { { 9, VFIO_USER_DEVICE_GET_INFO, 32, 0, 0 }, { .argsz = 16 } };
    struct peer *p = client(r);

    p->timeout_ms = 300;
    for (uint64_t i = 0; i < c->a; i++)
        if (peer_send(p, &m, sizeof m, NULL, 0) < 0)
            break;
    p->timeout_ms = r->options->timeout_ms;
    peer_close(p);
}

#define NOISE(tag, n, seed)                                                  \
    {                                                                        \
        "robust.noise-" tag, "noise is no harm", S, noise, NEED_OWN, n, seed \
    }
#define WRONG_OF(tag, command, cite)                                                         \
    {                                                                                        \
        "robust.wrong-" tag, "200 wrong " #command, cite, wrong_bodies, NEED_OWN, command, 0 \
    }

#define WRONG(tag, command) WRONG_OF(tag, command, #command)

static const struct check checks[] = {
    NOISE("1", 1, 1),
    NOISE("15", 15, 3),
    NOISE("16", 16, 5),
    NOISE("17", 17, 7),
    NOISE("100", 100, 9),
    NOISE("4096", 4096, 11),
    NOISE("65536", 65536, 13),
    NOISE("later-1", 1, 2),
    NOISE("later-15", 15, 4),
    NOISE("later-16", 16, 6),
    NOISE("later-17", 17, 8),
    NOISE("later-100", 100, 10),
    NOISE("later-4096", 4096, 12),
    NOISE("later-65536", 65536, 14),
    WRONG("dma-map", VFIO_USER_DMA_MAP),
    WRONG("dma-unmap", VFIO_USER_DMA_UNMAP),
    WRONG("info", VFIO_USER_DEVICE_GET_INFO),
    WRONG("region-info", VFIO_USER_DEVICE_GET_REGION_INFO),
    WRONG("io-fds", VFIO_USER_DEVICE_GET_REGION_IO_FDS),
    WRONG("irq-info", VFIO_USER_DEVICE_GET_IRQ_INFO),
    WRONG("set-irqs", VFIO_USER_DEVICE_SET_IRQS),
    WRONG("read", VFIO_USER_REGION_READ),
    WRONG("feature", VFIO_USER_DEVICE_FEATURE),
    WRONG("mig-read", VFIO_USER_MIG_DATA_READ),
    WRONG_OF("unknown", 4711, "Commands"),
    { "robust.half-fd", "a descriptor with half a message", S, half_with_fds, NEED_OWN, 1, 0 },
    { "robust.half-fds", "253 descriptors with half a message", S, half_with_fds, NEED_OWN,
      PEER_MOST_FDS, 0 },
    { "robust.flood-fds", "12,650 descriptors beside messages that take none", S, flood_of_fds,
      NEED_OWN, 0, 0 },
    { "robust.replies-read", "replies to reads that the server never sent", "VFIO_USER_DMA_READ",
      unasked_replies, NEED_OWN, VFIO_USER_DMA_READ, 0 },
    { "robust.replies-write", "replies to writes that the server never sent", "VFIO_USER_DMA_WRITE",
      unasked_replies, NEED_OWN, VFIO_USER_DMA_WRITE, 0 },
    { "robust.replies-info", "replies to commands that no server sends", S, unasked_replies,
      NEED_OWN, VFIO_USER_DEVICE_GET_INFO, 0 },
    { "robust.never-reads", "a client that asks, and never reads", S, never_reads, NEED_OWN, 20000,
      0 },
};
GROUP(check_robust, checks);

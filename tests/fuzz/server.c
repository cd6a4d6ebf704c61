/*
 * server.c - fuzz target: a client's messages and descriptors, to a device that is served in this process.
 *
 * An input is a list of acts: messages with all fields from the input, or raw bytes, sent whole, in
 * pieces or many at once, with descriptors of any kind; replies to the server's own commands; hang-ups,
 * further clients, truncated memory, time that passes. Whatever is sent, the replies must be messages,
 * in the order of the commands, and when the client has gone nothing of it may be left.
 */
#include "clock.h"
#include "descriptors.h"
#include "input.h"
#include "target.h"

#include "server/reset.h"
#include "worker/loop.h"

#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

extern const struct ob_plugin *const ob_plugin_edu, *const ob_plugin_probe;

#define EXTRA 3       /* clients besides the one that is served */
#define EXPECTED 4096 /* commands whose replies have not come */

static struct world {
    struct loop loop;
    struct served served;
} worlds[2], *w;

static struct link {
    int sock; /* -1: not connected */
    uint16_t id;
    bool answered;
    bool twin_wanted;
    bool raw; /* something was sent that may be no message: what comes back is not checked */
    struct {
        uint16_t id, command;
    } expected[EXPECTED];
    unsigned first, count; /* of expected */
    int twin; /* the socket for the server's commands, -1: there is none */
    uint8_t twin_in[2 * 65536];
    size_t twin_size;
    struct vfio_user_header asked; /* the server's last command, size 0: none */
    struct vfio_user_dma_access access;
    uint8_t out[3 * 65536]; /* to be sent */
    size_t out_size;
    int fds[64];
    unsigned nfds;
    uint8_t in[2 * 65536]; /* received, not yet a message */
    size_t in_size;
} client;
static int extra[EXTRA];

/* ---- Turns of the server ---------------------------------------------------------------------------- */

static void turn(unsigned n)
{
    while (n--)
        loop_turn(&w->loop, 0);
}

static void hang_up(void)
{
    if (client.sock < 0)
        return;
    close(client.sock);
    if (client.twin >= 0)
        close(client.twin);
    client.sock = client.twin = -1;
}

static int new_connection(void)
{
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    lobby_welcome(&w->served.lobby, pair[1]);
    return pair[0];
}

static void connect_client(void)
{
    if (client.sock >= 0) {
        hang_up();
        turn(2);
    }
    client.sock = new_connection();
    client.raw = client.answered = client.twin_wanted = false;
    client.first = client.count = client.nfds = 0;
    client.out_size = client.in_size = client.twin_size = client.asked.size = 0;
}

/* ---- What comes back -------------------------------------------------------------------------------- */

static void check_reply(const struct vfio_user_header *h)
{
    if (!client.answered && h->command == 0 && h->error == EINVAL) {
        client.raw = true; /* the first message was too long to be looked at */
        return;
    }
    client.answered = true;
    REQUIRE(client.count > 0);
    REQUIRE(h->id == client.expected[client.first].id);
    REQUIRE(h->command == client.expected[client.first].command);
    if (h->flags & VFIO_USER_FLAG_ERROR)
        REQUIRE(h->size == sizeof *h && h->error > 0 && h->error < 4096);
    client.first = (client.first + 1) % EXPECTED;
    client.count--;
}

static void check_command(const struct vfio_user_header *h, const uint8_t *bytes)
{
    REQUIRE(h->command == VFIO_USER_DMA_READ || h->command == VFIO_USER_DMA_WRITE);
    REQUIRE(h->size >= sizeof *h + sizeof client.access);
    client.asked = *h;
    memcpy(&client.access, bytes + sizeof *h, sizeof client.access);
    REQUIRE(client.access.count > 0 && client.access.count <= WIRE_MAX_DATA);
}

/* The messages that are whole. */
static void take_messages(uint8_t *bytes, size_t *size, bool twin)
{
    struct vfio_user_header h;
    size_t at = 0;

    for (int n; !client.raw; at += (size_t)n) {
        n = wire_header(bytes + at, *size - at, WIRE_MAX_MESSAGE, &h);
        REQUIRE(n >= 0);
        if (n == 0 || (size_t)n > *size - at)
            break;
        REQUIRE(wire_is_reply(&h) ? !twin : twin == (client.twin >= 0));
        if (wire_is_reply(&h))
            check_reply(&h);
        else
            check_command(&h, bytes + at);
    }
    if (client.raw)
        at = *size;
    memmove(bytes, bytes + at, *size - at);
    *size -= at;
}

/* Takes what has arrived. False: the server has closed the connection. */
static bool hear(void)
{
    struct wire_fds fds;

    ssize_t n = wire_receive(client.sock, client.in + client.in_size, sizeof client.in - client.in_size,
                             &fds);
    if (n > 0 && fds.count && client.twin < 0 && client.twin_wanted && !client.answered) {
        client.twin = fds.fd[0]; /* with the reply to VERSION: its end is ours */
        fds.fd[0] = -1;
    }
    wire_fds_close(&fds);
    if (n <= 0)
        return n == -EAGAIN;
    client.in_size += (size_t)n;
    take_messages(client.in, &client.in_size, false);
    if (client.twin < 0)
        return true;
    n = recv(client.twin, client.twin_in + client.twin_size, sizeof client.twin_in - client.twin_size,
             MSG_DONTWAIT);
    if (n > 0) {
        client.twin_size += (size_t)n;
        take_messages(client.twin_in, &client.twin_size, true);
    }
    return true;
}

/* ---- What is sent ----------------------------------------------------------------------------------- */

static void send_some(size_t n)
{
    struct iovec iov = { client.out, n < client.out_size ? n : client.out_size };

    while (client.sock >= 0 && iov.iov_len) {
        ssize_t sent = wire_send(client.sock, &iov, 1, client.fds, client.nfds);
        if (sent == -EAGAIN) {
            /* One side has to read first. */
            turn(1);
            if (!hear())
                hang_up();
            continue;
        }
        if (sent <= 0) {
            hang_up();
            break;
        }
        client.nfds = 0;
        memmove(client.out, client.out + sent, client.out_size - (size_t)sent);
        client.out_size -= (size_t)sent;
        iov.iov_len -= (size_t)sent;
    }
    if (client.sock < 0)
        client.out_size = 0;
}

static void put(const void *bytes, size_t n)
{
    if (n > sizeof client.out - client.out_size)
        send_some(SIZE_MAX);
    memcpy(client.out + client.out_size, bytes, n);
    client.out_size += n;
}

static void attach(struct input *in, unsigned n)
{
    if (client.nfds)
        send_some(SIZE_MAX); /* a message each */
    for (; n && client.nfds < WIRE_MAX_FDS; n--)
        client.fds[client.nfds++] = descriptor[descriptor_kind(take8(in))];
}

static void put_header(uint16_t command, size_t body, uint32_t flags)
{
    struct vfio_user_header h = { .id = client.id++, .command = command,
                                  .size = (uint32_t)(sizeof h + body), .flags = flags };

    put(&h, sizeof h);
    if ((flags & VFIO_USER_FLAG_TYPE) || (flags & VFIO_USER_FLAG_NO_REPLY))
        return;
    if (client.count == EXPECTED) {
        client.raw = true;
        return;
    }
    unsigned last = (client.first + client.count++) % EXPECTED;
    client.expected[last].id = h.id;
    client.expected[last].command = command;
}

static void put_message(uint16_t command, const void *fixed, size_t fixed_size, const void *data, size_t size,
                        uint32_t flags)
{
    put_header(command, fixed_size + size, flags);
    put(fixed, fixed_size);
    if (size)
        put(data, size);
}

/* n bytes of data: what the input has left of them at most, repeated. */
static const uint8_t *data_of(struct input *in, size_t n)
{
    static uint8_t data[70000];
    size_t got;
    const uint8_t *p = take_bytes(in, n < 24 ? n : 24, &got);

    memset(data, 0x5a, n);
    if (got)
        memcpy(data, p, got);
    return data;
}

static void say_version(const char *json)
{
    struct vfio_user_version v = { VFIO_USER_MAJOR, VFIO_USER_MINOR };
    put_message(VFIO_USER_VERSION, &v, sizeof v, json, json ? strlen(json) + 1 : 0, 0);
}

static void say_map(struct input *in, uint32_t flags)
{
    struct vfio_user_dma_map m = { .argsz = sizeof m, .flags = 1 + take8(in) % 3 };
    bool plain = take8(in) < 0xc0;

    m.offset = plain ? (take8(in) % 16) * 0x1000ull : take_number(in);
    m.address = plain ? (take8(in) % 64) * 0x1000ull : take_number(in);
    m.size = plain ? (1 + take8(in) % 16) * 0x1000ull : take_number(in);
    uint8_t fds = take8(in);
    attach(in, fds < 0xc0 ? 1 : fds % 4);
    put_message(VFIO_USER_DMA_MAP, &m, sizeof m, NULL, 0, flags);
}

static void say_unmap(struct input *in, uint32_t flags)
{
    struct vfio_user_dma_unmap m = { .argsz = sizeof m };
    uint8_t what = take8(in);

    m.flags = what % 8 == 0 ? VFIO_DMA_UNMAP_FLAG_ALL : 0;
    if (what % 8 > 1) {
        m.address = (take8(in) % 64) * 0x1000ull;
        m.size = (1 + take8(in) % 16) * 0x1000ull;
    } else if (what % 8 == 1) {
        m.address = take_number(in);
        m.size = take_number(in);
    }
    put_message(VFIO_USER_DMA_UNMAP, &m, sizeof m, NULL, 0, flags);
}

static void say_irqs(struct input *in, uint32_t flags)
{
    struct vfio_irq_set m = { .argsz = sizeof m };
    static const uint32_t data[] = { VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_DATA_NONE,
                                     VFIO_IRQ_SET_DATA_BOOL };
    static const uint32_t actions[] = { VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_IRQ_SET_ACTION_MASK,
                                        VFIO_IRQ_SET_ACTION_UNMASK };
    uint8_t what = take8(in), how = take8(in);

    m.index = what % 8 == 7 ? (uint32_t)take_number(in) : what % 8 % 5;
    m.flags = data[how % 3] | actions[how / 3 % 3] | (how >= 0xf0 ? take8(in) : 0u);
    m.start = what & 0x40 ? (uint32_t)take_number(in) : 0;
    m.count = what & 0x80 ? (uint32_t)take_number(in) : what >> 3 & 7;
    size_t bytes = how % 3 == 2 ? m.count % 65536 : 0;
    if (how % 3 == 0)
        attach(in, m.count < 20 ? m.count : 0);
    put_message(VFIO_USER_DEVICE_SET_IRQS, &m, sizeof m, data_of(in, bytes), bytes, flags);
}

static void say_access(struct input *in, uint32_t flags, bool is_write)
{
    struct vfio_user_region_access m = { 0 };
    uint8_t what = take8(in);

    m.region = what % 16 < 9 ? what % 16 : what % 16 < 14 ? 0 : (uint32_t)take_number(in);
    m.offset = what & 0x10 ? take_number(in) : take8(in) * 4u;
    m.count = what & 0x20 ? (uint32_t)take_number(in) : what & 0x40 ? 1u << (what >> 7) : 4;
    size_t bytes = is_write && m.count <= 65536 ? m.count : 0;
    put_message(is_write ? VFIO_USER_REGION_WRITE : VFIO_USER_REGION_READ, &m, sizeof m,
                data_of(in, bytes), bytes, flags);
}

static void say_multi(struct input *in, uint32_t flags)
{
    struct vfio_user_write w8[16];
    struct vfio_user_write_multi m = { take8(in) % 16 };

    for (unsigned i = 0; i < m.wr_cnt; i++) {
        uint8_t what = take8(in);
        w8[i].region = what % 16 < 9 ? what % 16 : 0;
        w8[i].offset = what & 0x10 ? take_number(in) : take8(in) * 4u;
        w8[i].count = what & 0x20 ? (uint32_t)take_number(in) : 4;
        uint64_t v = take_number(in);
        memcpy(w8[i].data, &v, sizeof v);
    }
    put_message(VFIO_USER_REGION_WRITE_MULTI, &m, sizeof m, w8, m.wr_cnt * sizeof *w8, flags);
}

/* Registers and config space, as a driver uses them, at a length of a few bytes of input. */
static void say_register(struct input *in)
{
    struct vfio_user_region_access m = { .offset = take8(in) * 4u, .region = 0, .count = 4 };
    uint32_t v = (uint32_t)take_number(in);
    put_message(VFIO_USER_REGION_WRITE, &m, sizeof m, &v, sizeof v, VFIO_USER_FLAG_NO_REPLY);
}

static void say_command_register(uint16_t v)
{
    struct vfio_user_region_access m = { .offset = 4, .region = 7, .count = sizeof v };
    put_message(VFIO_USER_REGION_WRITE, &m, sizeof m, &v, sizeof v, VFIO_USER_FLAG_NO_REPLY);
}

/* A message of info, feature, migration or no command at all: four numbers, and bytes. */
static void say_other(struct input *in, uint32_t flags)
{
    static const uint8_t sizes[VFIO_USER_COMMANDS] = {
        [VFIO_USER_VERSION] = 4, [VFIO_USER_DEVICE_GET_INFO] = 16,
        [VFIO_USER_DEVICE_GET_REGION_INFO] = 32, [VFIO_USER_DEVICE_GET_REGION_IO_FDS] = 16,
        [VFIO_USER_DEVICE_GET_IRQ_INFO] = 16, [VFIO_USER_DMA_READ] = 16, [VFIO_USER_DMA_WRITE] = 16,
        [VFIO_USER_DEVICE_FEATURE] = 8, [VFIO_USER_MIG_DATA_READ] = 8, [VFIO_USER_MIG_DATA_WRITE] = 8,
    };
    uint8_t command = take8(in);
    uint32_t words[8] = { 0 };
    size_t size = command < VFIO_USER_COMMANDS ? sizes[command] : command % 32;
    size_t got = take8(in) % 64;

    for (unsigned i = 0; i < size / 4 && i < 4; i++)
        words[i] = (uint32_t)take_number(in);
    if (command == VFIO_USER_DEVICE_GET_INFO || command == VFIO_USER_DEVICE_GET_REGION_INFO ||
        command == VFIO_USER_DEVICE_GET_IRQ_INFO || command == VFIO_USER_DEVICE_FEATURE)
        words[0] |= take8(in) < 0xe0 ? 32 : 0; /* argsz */
    const uint8_t *data = got < 16 ? NULL : take_bytes(in, got, &got);
    attach(in, take8(in) >= 0xe0 ? 2 : 0);
    put_message(command, words, size, data, data ? got : 0, flags);
}

static void say_raw(struct input *in)
{
    size_t got, want = take8(in);
    const uint8_t *p = take_bytes(in, want, &got);

    client.raw = true;
    if (got)
        put(p, got);
    attach(in, take8(in) >= 0xc0 ? 1 : 0);
}

/* The reply to the server's last command, right or wrong. */
static void say_reply(struct input *in)
{
    uint8_t how = take8(in);
    struct vfio_user_header h = client.asked;
    struct vfio_user_dma_access a = client.access;

    if (!h.size) {
        h.command = VFIO_USER_DMA_READ;
        a = (struct vfio_user_dma_access){ 0, 0 };
    }
    client.asked.size = 0;
    if (how & 1)
        h.id = (uint16_t)(h.id + take8(in));
    if (how & 2)
        a.count = take_number(in) % 0x11000;
    if (how & 4)
        h.command ^= VFIO_USER_DMA_READ ^ VFIO_USER_DMA_WRITE;
    size_t data = h.command == VFIO_USER_DMA_READ ? a.count : 0;
    h.flags = VFIO_USER_FLAG_TYPE_REPLY | (how & 8 ? VFIO_USER_FLAG_ERROR : 0);
    h.error = how & 8 ? (uint32_t)take_number(in) : 0;
    size_t body = how & 8 ? 0 : h.command == VFIO_USER_DMA_WRITE && how & 16 ? 0 : sizeof a + data;
    if (how & 32)
        body = body > 5 ? body - 5 : 0;
    h.size = (uint32_t)(sizeof h + body);
    struct iovec iov[] = { { &h, sizeof h },
                           { &a, body < sizeof a ? body : sizeof a },
                           { (void *)(uintptr_t)data_of(in, data), body > sizeof a ? body - sizeof a : 0 } };
    if (client.twin >= 0 && !(how & 64)) {
        wire_send(client.twin, iov, 3, NULL, 0);
        return;
    }
    for (int i = 0; i < 3; i++)
        if (iov[i].iov_len)
            put(iov[i].iov_base, iov[i].iov_len);
}

/* The state of a migration, and the log of dirty pages. */
static void say_feature(struct input *in, uint32_t flags)
{
    static const uint32_t methods[] = { VFIO_DEVICE_FEATURE_GET, VFIO_DEVICE_FEATURE_SET,
                                        VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET,
                                        VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_SET };
    uint8_t what = take8(in), how = take8(in);
    struct vfio_user_device_feature m = { .argsz = how & 0x80 ? (uint32_t)take_number(in) : 4096 };
    struct {
        struct vfio_user_dma_logging_start start;
        struct vfio_device_feature_dma_logging_range range[4];
    } log = { .start = { .page_size = 4096, .num_ranges = how & 3 } };
    struct vfio_device_feature_mig_state state = { how >> 2 & 7, -1 };
    struct vfio_user_dma_logging_report report = { (how & 0x1f) * 0x1000ull, 0x10000, 4096 };
    const void *data = &state;
    size_t size = sizeof state;

    switch (what % 8) {
    case 0: case 1: m.flags = VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE | VFIO_DEVICE_FEATURE_SET; break;
    case 2: case 3:
        m.flags = VFIO_DEVICE_FEATURE_DMA_LOGGING_START | VFIO_DEVICE_FEATURE_SET;
        if (how & 4)
            log.start.page_size = take_number(in);
        for (unsigned i = 0; i < log.start.num_ranges; i++)
            log.range[i] = (struct vfio_device_feature_dma_logging_range){
                how & 8 ? take_number(in) : take8(in) * 0x1000ull, how & 8 ? take_number(in) : 0x10000 };
        data = &log;
        size = sizeof log.start + log.start.num_ranges * sizeof *log.range;
        if (how & 16)
            log.start.num_ranges = (uint32_t)take_number(in);
        break;
    case 4: case 5:
        m.flags = VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT | VFIO_DEVICE_FEATURE_GET;
        if (how & 0x20)
            report = (struct vfio_user_dma_logging_report){ take_number(in), take_number(in),
                                                            take_number(in) };
        data = &report;
        size = sizeof report;
        break;
    case 6: m.flags = VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP | VFIO_DEVICE_FEATURE_SET; size = 0; break;
    case 7: m.flags = how % 16u | methods[how >> 4 & 3]; break;
    }
    if ((what & 0x38) == 0x38)
        size = take8(in) % (size + 1);
    put_message(VFIO_USER_DEVICE_FEATURE, &m, sizeof m, data, size, flags);
}

/* To RESUMING and back, with bytes that are no state; or what there is to read. */
static void say_mig_data(struct input *in, uint32_t flags)
{
    uint8_t how = take8(in);
    size_t size = how & 1 ? (size_t)take_number(in) % 65537 : how;
    struct vfio_user_mig_data m = { .argsz = (uint32_t)(sizeof m + size), .size = (uint32_t)size };

    if ((how & 0x30) == 0x30)
        m.argsz = (uint32_t)take_number(in);
    if (how & 2)
        put_message(VFIO_USER_MIG_DATA_READ, &m, sizeof m, NULL, 0, flags);
    else
        put_message(VFIO_USER_MIG_DATA_WRITE, &m, sizeof m, data_of(in, size), size, flags);
}

static void say(struct input *in, uint8_t what)
{
    uint32_t flags = what & 0x80 ? VFIO_USER_FLAG_NO_REPLY : 0;

    switch (what % 16) {
    case 0: say_map(in, flags); break;
    case 1: say_unmap(in, flags); break;
    case 2: say_irqs(in, flags); break;
    case 3: say_access(in, flags, false); break;
    case 4: say_access(in, flags, true); break;
    case 5: say_multi(in, flags); break;
    case 6: say_other(in, flags); break;
    case 7: put_header(VFIO_USER_DEVICE_RESET, 0, flags); break;
    case 8: say_raw(in); break;
    case 9: say_reply(in); break;
    case 10: say_version("{\"capabilities\":{\"max_data_xfer_size\":300}}"); break;
    case 11: say_feature(in, flags); break;
    case 12: say_mig_data(in, flags); break;
    default: say_register(in); break;
    }
}

/* ---- Everything else that can happen ---------------------------------------------------------------- */

static void extra_client(struct input *in)
{
    uint8_t what = take8(in);
    int *sock = &extra[what % EXTRA];
    size_t got;

    if (*sock < 0)
        *sock = new_connection();
    const uint8_t *p = take_bytes(in, what >> 3, &got);
    struct iovec iov = { (void *)(uintptr_t)p, got };
    if (got)
        wire_send(*sock, &iov, 1, &descriptor[FD_EVENT], what & 4 ? 1 : 0);
    else if (what & 4) {
        close(*sock);
        *sock = -1;
    }
}

static void happen(struct input *in, uint8_t what)
{
    switch (what % 12) {
    case 0: /* the rest of what is to be sent comes a little later */
        send_some(take8(in));
        turn(1);
        break;
    case 1: turn(1); break;
    case 2:
        if (client.sock >= 0 && !hear())
            hang_up();
        break;
    case 3: clock_advance((uint64_t)take8(in) * 1000000u); break;
    case 4: clock_advance((uint64_t)take8(in) * 100000000u); break;
    case 5: descriptor_truncate(take8(in) * 0x1000u % MEMORY_BYTES); break;
    case 6: descriptors_restore(); break;
    case 7: extra_client(in); break;
    case 8: eventfd_write(descriptor[FD_EVENT], 1); break;
    case 9:
        if (client.sock >= 0)
            shutdown(client.sock, take8(in) % 2 ? SHUT_WR : SHUT_RDWR);
        break;
    case 10:
        send_some(SIZE_MAX);
        connect_client();
        if (take8(in) < 0xc0)
            say_version(NULL);
        break;
    case 11: say_command_register(take8(in) % 8); break;
    }
}

static void act(struct input *in)
{
    uint8_t what = take8(in);

    if (what & 0x40) {
        happen(in, what & 0x3f);
        return;
    }
    say(in, what);
    if (what & 0x20)
        return; /* more comes with it */
    send_some(SIZE_MAX);
    turn(1);
}

/* ---- One input -------------------------------------------------------------------------------------- */

/* The areas of its BARs. (A byte in one tells the probe to keep its pin.) */
static void clear_shared_memory(struct ob_device *dev)
{
    for (unsigned i = 0; i < 6; i++) {
        const struct ob_bar *bar = &dev->plugin->bar[i];
        for (unsigned a = 0; a < bar->areas_count; a++)
            memset((uint8_t *)ob_bar_memory(dev, i) + bar->areas[a].offset, 0, bar->areas[a].size);
    }
}

/* Everybody goes. What the client set up goes with it, at the latest when no I/O is under way. */
static void end(void)
{
    struct ob_device *dev = w->served.dev;

    hang_up();
    for (int i = 0; i < EXTRA; i++) {
        if (extra[i] >= 0)
            close(extra[i]);
        extra[i] = -1;
    }
    clear_shared_memory(dev);
    descriptors_restore();
    for (unsigned i = 0; i < 100 && (server_busy(dev) || !lobby_empty(&w->served.lobby)); i++) {
        turn(1);
        clock_advance(UINT64_C(1000000) << 32); /* the longest that the probe can be asked to pin memory */
    }
    REQUIRE(!server_busy(dev) && lobby_empty(&w->served.lobby));
    REQUIRE(memory_count(dev->memory) == 0 && dev->pin_count == 0 && dev->file_ids.next == 0);
    REQUIRE(dev->twin.fd < 0 && !dev->dirty);
    REQUIRE(dev->session->regions_end == 0 && !dev->fds_end && !dev->quiesce);
    for (unsigned i = 0; i < IRQ_COUNT; i++)
        REQUIRE(dev->irq_fd[i] < 0);

    server_step_begin(dev);
    memset(dev->state, 0, dev->plugin->state.size);
    server_power_on(dev);
    server_step_end(dev, 0, 0);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const struct ob_plugin *plugins[] = { ob_plugin_edu, ob_plugin_probe };
    static const struct option_value options[] = { { NULL, NULL } };

    (void)argc;
    (void)argv;
    signal(SIGPIPE, SIG_IGN);
    descriptors_open();
    for (int i = 0; i < EXTRA; i++)
        extra[i] = -1;
    client.sock = client.twin = -1;
    for (int i = 0; i < 2; i++) {
        REQUIRE(loop_open(&worlds[i].loop) == 0);
        struct served *s = &worlds[i].served;
        s->dev = server_device_new(plugins[i], plugins[i]->name, options, 0, worlds[i].loop.epoll, NULL,
                                   -1, NULL);
        REQUIRE(s->dev && lobby_open(&s->lobby, s->dev, -1) == 0);
        worlds[i].loop.first = s;
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int lowest = descriptor_lowest();
    struct input in = { data, size };
    uint8_t how = take8(&in);

    clock_stop();
    w = &worlds[how & 1 ? 0 : 1];
    w->served.dev->log_lines = 8; /* a few for each input */
    connect_client();
    if (!(how & 2))
        say_version(how & 8 ? "{\"capabilities\":{\"max_msg_fds\":16,\"twin_socket\":{\"supported\":true}}}"
                            : "{\"capabilities\":{\"max_msg_fds\":16,\"write_multiple\":true}}");
    client.twin_wanted = how & 8;
    if (how & 8) {
        send_some(SIZE_MAX);
        turn(2);
        hear();
    }
    if (!(how & 4))
        say_command_register(7);
    for (unsigned i = 0; in.left && i < 256; i++) {
        act(&in);
        if (client.sock < 0)
            connect_client();
    }
    send_some(SIZE_MAX);
    turn(2);
    if (client.sock >= 0)
        hear();
    end();
    clock_go_on();
    REQUIRE(descriptor_lowest() == lowest);
    return 0;
}

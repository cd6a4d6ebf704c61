/*
 * client.c - fuzz target: a server's bytes and descriptors, to the client library while it makes calls.
 *
 * The server is the function that the library's sends are led to: it sees the request, and puts into the
 * socket what the input says: a right reply, one with changed fields or of another length, descriptors,
 * commands of its own, anything before and behind it, or an end. So the library has one thread, and
 * whoever waits for a reply that never comes only lets the time pass (clock.c).
 *
 * Whatever comes, every call must return, no reply may be believed that is none, only memory that was
 * mapped for the device may change, and nothing may be left when the client is freed.
 */
#include "clock.h"
#include "descriptors.h"
#include "input.h"
#include "target.h"

#include "wire/message.h"
#include "wire/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <outboard/client.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static struct input in;
static int server; /* its end of the socket, -1: closed */
/* Memory for the device, and what it must not reach. */
static uint8_t guard_before[4096] __attribute__((aligned(8))), mapped[3][4096] __attribute__((aligned(8))),
    guard_behind[4096] __attribute__((aligned(8)));
static bool versions; /* the first request is answered well */
static bool twin;     /* a twin socket was offered: it is taken */
static int twin_end;  /* the server's end of it, -1: there is none */

/* ---- The server ------------------------------------------------------------------------------------- */

static void say(const void *bytes, size_t n, const int *fds, unsigned nfds)
{
    struct iovec iov = { (void *)(uintptr_t)bytes, n };
    if (server >= 0 && n)
        wire_send(server, &iov, 1, fds, nfds);
}

/* The socket that the client gets; ours is where commands are said then. */
static int make_twin(void)
{
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    if (twin_end >= 0)
        close(twin_end);
    twin_end = pair[0];
    return pair[1];
}

static void say_end(void)
{
    if (twin_end >= 0)
        close(twin_end);
    twin_end = -1;
    if (server >= 0)
        close(server);
    server = -1;
}

/* The reply that a good server gives, without its header. Returns its size. */
static size_t good_reply(const struct wire_message *m, uint8_t *body)
{
    size_t size = 0;

    memset(body, 0, 64);
    switch (m->header.command) {
    case VFIO_USER_VERSION: {
        static const char one[] = "{\"capabilities\":{\"max_msg_fds\":4,\"max_data_xfer_size\":4096,"
                                  "\"write_multiple\":true}}";
        static const char two[] = "{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":0}}}";
        const char *json = twin ? two : one;
        memcpy(body, &(struct vfio_user_version){ VFIO_USER_MAJOR, VFIO_USER_MINOR }, 4);
        memcpy(body + 4, json, strlen(json) + 1);
        return 4 + strlen(json) + 1;
    }
    case VFIO_USER_DEVICE_GET_INFO:
        memcpy(body, &(struct vfio_user_device_info){ 16, VFIO_DEVICE_FLAGS_PCI, 9, 5 }, 16);
        return 16;
    case VFIO_USER_DEVICE_GET_REGION_INFO: {
        struct vfio_region_info info = { .argsz = 32, .flags = VFIO_REGION_INFO_FLAG_READ |
                                         VFIO_REGION_INFO_FLAG_WRITE,
                                         .index = m->region_info.index, .size = MEMORY_BYTES };
        memcpy(body, &info, sizeof info);
        return sizeof info;
    }
    case VFIO_USER_DEVICE_GET_IRQ_INFO:
        memcpy(body, &(struct vfio_irq_info){ 16, VFIO_IRQ_INFO_EVENTFD, m->irq_info.index, 4 }, 16);
        return 16;
    case VFIO_USER_DMA_UNMAP: memcpy(body, &m->unmap, sizeof m->unmap); return sizeof m->unmap;
    case VFIO_USER_REGION_READ:
        size = m->region.count;
        memset(body + 16, 0x77, size);
        /* fall through */
    case VFIO_USER_REGION_WRITE: memcpy(body, &m->region, 16); return 16 + size;
    case VFIO_USER_REGION_WRITE_MULTI: memcpy(body, &m->multi, 8); return 8;
    case VFIO_USER_DEVICE_FEATURE:
        memcpy(body, &m->feature, 8);
        return 8 + m->data_size;
    case VFIO_USER_MIG_DATA_READ: {
        struct vfio_user_mig_data data = { 8, m->mig_data.size };
        memcpy(body, &data, sizeof data);
        memset(body + 8, 0x33, data.size);
        return 8 + data.size;
    }
    default: return 0;
    }
}

static void say_with_header(struct vfio_user_header h, const uint8_t *body, size_t size)
{
    static uint8_t bytes[70000 + sizeof h];
    uint8_t more = take8(&in);
    int fds[4] = { -1, -1, -1, -1 };
    unsigned nfds = 0;

    /* Descriptors, a wrong size, some of the bytes later or never. */
    if (more & 1)
        for (nfds = 0; nfds < (more >> 1 & 3); nfds++)
            fds[nfds] = descriptor[descriptor_kind(take8(&in))];
    h.size = (uint32_t)(sizeof h + size);
    if ((more & 0x78) == 0x78)
        h.size = (uint32_t)(h.size + take_number(&in));
    memcpy(bytes, &h, sizeof h);
    if (size)
        memcpy(bytes + sizeof h, body, size);
    size_t first = sizeof h + size;
    if (more & 0x80)
        first = take8(&in) % (first + 1);
    say(bytes, first, fds, nfds);
    if (first < sizeof h + size && take8(&in) < 0xc0)
        say(bytes + first, sizeof h + size - first, NULL, 0);
}

/* A region's description with capabilities, which the client has to walk. */
static size_t add_capabilities(uint8_t *body)
{
    struct vfio_region_info info;
    size_t at = sizeof info;
    uint8_t n = take8(&in) % 4;

    memcpy(&info, body, sizeof info);
    info.flags |= VFIO_REGION_INFO_FLAG_CAPS | VFIO_REGION_INFO_FLAG_MMAP;
    info.cap_offset = n ? (uint32_t)at : (uint32_t)take_number(&in);
    while (n--) {
        struct vfio_info_cap_header cap = { .id = 1 + take8(&in) % 3, .version = 1 };
        uint8_t areas = take8(&in) % 4;
        size_t size = sizeof(struct vfio_region_info_cap_sparse_mmap) + areas * 16u;
        cap.next = n ? (uint32_t)(at + size) : 0;
        if (take8(&in) >= 0xe0)
            cap.next = (uint32_t)take_number(&in);
        memset(body + at, 0, size);
        memcpy(body + at, &cap, sizeof cap);
        uint32_t count = take8(&in) < 0xe0 ? areas : (uint32_t)take_number(&in);
        memcpy(body + at + sizeof cap, &count, sizeof count);
        for (uint8_t i = 0; i < areas; i++) {
            uint64_t area[2] = { take_number(&in), take_number(&in) };
            memcpy(body + at + 16 + i * 16u, area, 16);
        }
        at += size;
    }
    info.argsz = take8(&in) < 0xc0 ? (uint32_t)at : (uint32_t)take_number(&in);
    memcpy(body, &info, sizeof info);
    return at;
}

static void say_reply(const struct wire_message *m, uint8_t how)
{
    static uint8_t body[70000];
    struct vfio_user_header h = { .id = m->header.id, .command = m->header.command,
                                  .flags = VFIO_USER_FLAG_TYPE_REPLY };
    size_t size = good_reply(m, body);

    if (how & 1) {
        h.flags |= VFIO_USER_FLAG_ERROR;
        h.error = (uint32_t)take_number(&in);
        size = how & 2 ? size : 0;
    }
    if ((how & 4) && h.command == VFIO_USER_DEVICE_GET_REGION_INFO)
        size = add_capabilities(body);
    if (how & 8) { /* some of it is otherwise */
        size_t at = take8(&in) % 64;
        uint64_t v = take_number(&in);
        memcpy(body + at, &v, sizeof v);
    }
    if (how & 16)
        size = (size_t)take_number(&in) % 69000;
    if ((how & 0x60) == 0x60) {
        h.id = (uint16_t)(h.id + take8(&in));
        h.command = (uint16_t)(h.command + take8(&in) % 20);
    }
    say_with_header(h, body, size);
}

static void say_command(void)
{
    static uint8_t body[70000];
    uint8_t how = take8(&in);
    struct vfio_user_header h = { .id = how, .command = how & 1 ? VFIO_USER_DMA_READ : VFIO_USER_DMA_WRITE };
    struct vfio_user_dma_access a = { .address = 0x100000u + take8(&in) * 0x100u, .count = take8(&in) };

    if (how & 2)
        a.address = take_number(&in);
    if (how & 4)
        a.count = take_number(&in);
    if ((how & 0x38) == 0x38)
        h.command = take8(&in) % 24;
    if (how & 0x40)
        h.flags |= VFIO_USER_FLAG_NO_REPLY;
    memcpy(body, &a, sizeof a);
    memset(body + sizeof a, how, 4096);
    size_t data = h.command == VFIO_USER_DMA_WRITE ? a.count % 66000 : 0;
    int main_end = server;
    if (twin_end >= 0 && how < 0xf0)
        server = twin_end;
    say_with_header(h, body, sizeof a + data);
    server = main_end;
}

static void say_something(const struct wire_message *m)
{
    uint8_t how = take8(&in);
    size_t got;

    switch (how % 16) {
    case 0: case 1: case 2: case 3: case 4: case 5:
        if (m)
            say_reply(m, take8(&in));
        break;
    case 6: case 7: case 8: say_command(); break;
    case 9:
        for (unsigned n = take8(&in); n; n--)
            say_command();
        break;
    case 10: {
        const uint8_t *p = take_bytes(&in, take8(&in), &got);
        say(p, got, &descriptor[FD_SEALED], how >> 7);
        break;
    }
    case 11: say_end(); break;
    case 12:
        if (server >= 0)
            shutdown(server, SHUT_WR);
        break;
    case 13: break; /* nothing: no reply will come */
    case 14: descriptor_truncate(how & 0xf000); break;
    default: break;
    }
    if (how & 0x40)
        say_something(m);
}

/* The library's request, instead of into the socket. */
ssize_t __real_wire_send(int sock, const struct iovec *iov, int n, const int *fds, unsigned nfds);
ssize_t __wrap_wire_send(int sock, const struct iovec *iov, int n, const int *fds, unsigned nfds);
ssize_t __wrap_wire_send(int sock, const struct iovec *iov, int n, const int *fds, unsigned nfds)
{
    static uint8_t request[WIRE_MAX_MESSAGE + 64];
    struct wire_message m;
    size_t size = 0;

    if (sock == server || sock == twin_end)
        return __real_wire_send(sock, iov, n, fds, nfds);
    for (int i = 0; i < n; i++) {
        REQUIRE(iov[i].iov_len <= sizeof request - size);
        if (iov[i].iov_len)
            memcpy(request + size, iov[i].iov_base, iov[i].iov_len);
        size += iov[i].iov_len;
    }
    if (server < 0)
        return -EPIPE;
    /* What the library sends is a whole message and a right one, and no reply to it is lost. */
    memcpy(&m.header, request, sizeof m.header);
    REQUIRE(m.header.size == size);
    if (wire_is_reply(&m.header)) {
        if (take8(&in) & 1)
            say_something(NULL);
        return (ssize_t)size; /* an answer */
    }
    wire_decode_command(request, size, nfds, &m); /* the caller may have asked for nonsense */
    uint8_t how = versions && m.header.command == VFIO_USER_VERSION ? 0 : take8(&in);
    if (m.header.flags & VFIO_USER_FLAG_NO_REPLY) {
        if (how & 0x80)
            say_something(NULL);
    } else if (how & 0x80) {
        say_something(&m);
    } else {
        static uint8_t body[70000];
        struct vfio_user_header h = { .id = m.header.id, .command = m.header.command,
                                      .flags = VFIO_USER_FLAG_TYPE_REPLY };
        size_t n_body = good_reply(&m, body);
        h.size = (uint32_t)(sizeof h + n_body);
        int fd = twin && h.command == VFIO_USER_VERSION ? make_twin() : -1;
        say(&h, sizeof h, &fd, fd >= 0);
        say(body, n_body, NULL, 0);
        if (fd >= 0)
            close(fd);
    }
    return (ssize_t)size;
}

/* Nothing is there: the time that the socket would wait passes at once. */
ssize_t __real_wire_receive(int sock, void *buf, size_t n, struct wire_fds *fds);
ssize_t __wrap_wire_receive(int sock, void *buf, size_t n, struct wire_fds *fds);
ssize_t __wrap_wire_receive(int sock, void *buf, size_t n, struct wire_fds *fds)
{
    char c;

    if (recv(sock, &c, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN) {
        clock_advance(5100u * UINT64_C(1000000));
        fds->count = 0;
        fds->lost = false;
        return -EAGAIN;
    }
    return __real_wire_receive(sock, buf, n, fds);
}

/* ---- Calls ------------------------------------------------------------------------------------------ */

#define STARTED 8
static struct ob_request *started[STARTED];
static uint8_t buffers[STARTED][512];

static void call_region(struct ob_client *c)
{
    uint8_t how = take8(&in);
    struct ob_region *r;
    void *p;

    if (ob_client_region(c, how % 12, &r) < 0) {
        REQUIRE(r == NULL);
        return;
    }
    for (uint32_t i = 0; i < r->areas_count; i++)
        REQUIRE(r->areas[i].size && r->areas[i].offset <= r->size &&
                r->areas[i].size <= r->size - r->areas[i].offset);
    uint64_t offset = how & 0x20 ? take_number(&in) : 0, size = how & 0x40 ? take_number(&in) : 0x1000;
    if (ob_region_map(r, offset, size, how & 0x80 ? PROT_READ : PROT_READ | PROT_WRITE, &p) == 0) {
        REQUIRE(offset <= r->size && size <= r->size - offset);
        munmap(p, size);
    }
    ob_region_free(r);
}

static void call_irq(struct ob_client *c)
{
    uint8_t how = take8(&in);
    struct vfio_irq_info info;
    static const uint8_t on[64] = { 1, 0, 1 };
    int fds[64];

    for (int i = 0; i < 64; i++)
        fds[i] = i % 5 == 4 ? -1 : descriptor[FD_EVENT];
    uint32_t count = how >> 3;
    switch (how % 6) {
    case 0:
        if (ob_client_irq_info(c, how >> 3, &info) == 0)
            REQUIRE(info.count <= 4096);
        break;
    case 1: ob_client_irq_eventfds(c, 2, VFIO_IRQ_SET_ACTION_TRIGGER, 0, count, fds); break;
    case 2: ob_client_irq_eventfds(c, 0, VFIO_IRQ_SET_ACTION_UNMASK, 0, count, NULL); break;
    case 3: ob_client_irq_act(c, 1, VFIO_IRQ_SET_ACTION_MASK, take8(&in), count, on); break;
    case 4: ob_client_irq_act(c, 1, VFIO_IRQ_SET_ACTION_TRIGGER, 0, count, NULL); break;
    case 5: ob_client_irq_disable(c, 2); break;
    }
}

static void call_dma(struct ob_client *c)
{
    uint8_t how = take8(&in);
    unsigned page = how >> 3 & 1; /* the third is never the device's */
    uint64_t address = 0x100000u + page * 0x1000u;

    switch (how % 5) {
    case 0:
    case 1:
        ob_client_dma_map(c, address, 0x1000, mapped[page], how & 0x80 ? descriptor[FD_SEALED] : -1, 0,
                          1 + (how >> 4) % 3);
        break;
    case 2: ob_client_dma_unmap(c, address, 0x1000); break;
    case 3: ob_client_dma_unmap_all(c); break;
    case 4: ob_client_dma_map(c, take_number(&in), take_number(&in) % 0x1001, mapped[0], -1, 0, how >> 4); break;
    }
}

static void call_started(struct ob_client *c)
{
    uint8_t how = take8(&in);
    unsigned i = how % STARTED;

    if (started[i] && (how & 0x80)) {
        ob_request_done(started[i]);
    } else if (started[i]) {
        ob_request_wait(started[i]);
        started[i] = NULL;
    } else if (how & 0x40) {
        ob_client_start_write(c, 0, how, buffers[i], 1 + how * 2u, &started[i]);
    } else if (ob_client_start_read(c, 0, how, buffers[i], 1 + how * 2u, &started[i]) < 0) {
        started[i] = NULL;
    }
}

/* A region and an interrupt of a platform device, by name. */
static void find(struct ob_client *c)
{
    const char *name = take8(&in) & 1 ? "registers" : "";
    struct ob_region *region;
    uint32_t index;

    if (ob_client_find_region(c, name, &region) == 0)
        ob_region_free(region);
    ob_client_find_irq(c, name, &index);
}

static void call_other(struct ob_client *c, uint8_t what)
{
    static uint8_t data[20000] __attribute__((aligned(8)));
    uint64_t number;
    uint32_t state;
    struct vfio_user_write w[200];
    size_t out = 0;
    ssize_t n;

    switch (what) {
    case 0: ob_client_process(c); break;
    case 1: ob_client_reset(c); break;
    case 2: {
        struct vfio_user_device_info info;
        if (ob_client_device_info(c, &info) == 0)
            REQUIRE(info.num_regions <= 256 && info.num_irqs <= 64);
        break;
    }
    case 3:
        if (ob_client_device_feature(c, (uint32_t)take_number(&in), data, take8(&in), 256, &out) == 0)
            REQUIRE(out <= 256);
        break;
    case 4:
        n = ob_client_mig_data_read(c, data, 1 + take_number(&in) % sizeof data);
        REQUIRE(n <= (ssize_t)sizeof data);
        break;
    case 5: ob_client_mig_data_write(c, data, take_number(&in) % sizeof data); break;
    case 6:
        memset(w, 0, sizeof w);
        for (unsigned i = 0; i < 200; i++)
            w[i].count = 1 + i % 8;
        ob_client_write_multi(c, w, take8(&in) % 200, take8(&in) & 1);
        break;
    case 7: ob_client_post(c, 0, take_number(&in), data, take_number(&in) % sizeof data); break;
    case 8: ob_client_read(c, take8(&in), take_number(&in), data, take_number(&in) % sizeof data); break;
    case 9: ob_client_write(c, take8(&in), take_number(&in), data, take_number(&in) % sizeof data); break;
    case 10: ob_client_set_timeout(c, 1 + take8(&in)); break;
    case 11: ob_client_set_spin(c, take8(&in)); break;
    case 12: /* the server speaks by itself */
        say_something(NULL);
        ob_client_process(c);
        break;
    case 13: ob_client_migration(c, &number); break;
    case 14: ob_client_set_migration_state(c, take8(&in) % 9); break;
    case 15: {
        const struct vfio_device_feature_dma_logging_range range = { take_number(&in), take_number(&in) };
        number = take_number(&in);
        ob_client_dirty_start(c, &number, &range, take8(&in) % 2);
        break;
    }
    case 16: {
        uint64_t page = UINT64_C(1) << take8(&in) % 20, pages = 1 + take8(&in);
        ob_client_dirty_report(c, take_number(&in), page * pages, page, (uint64_t *)(void *)data);
        break;
    }
    case 17: ob_client_dirty_stop(c); break;
    case 18:
        if (ob_client_migration_state(c, &state) == 0)
            ob_client_set_migration_state(c, state);
        break;
    case 19: ob_client_disconnect(c); break;
    case 20: find(c); break;
    }
}

static void call(struct ob_client *c)
{
    uint8_t what = take8(&in) % 28;

    switch (what) {
    case 0: case 1: call_region(c); break;
    case 2: call_irq(c); break;
    case 3: case 4: call_dma(c); break;
    case 5: case 6: call_started(c); break;
    default: call_other(c, what - 7); break;
    }
}

/* ---- One input -------------------------------------------------------------------------------------- */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    signal(SIGPIPE, SIG_IGN);
    descriptors_open();
    memset(guard_before, 0xee, sizeof guard_before);
    memset(guard_behind, 0xee, sizeof guard_behind);
    return 0;
}

static bool is_untouched(const uint8_t *p)
{
    const uint64_t *words = (const uint64_t *)(const void *)p;
    uint64_t differs = 0;
    for (size_t i = 0; i < 4096 / sizeof *words; i++)
        differs |= words[i] ^ UINT64_C(0xeeeeeeeeeeeeeeee);
    return differs == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int lowest = descriptor_lowest();
    char why[OB_CLIENT_ERROR_SIZE];
    struct ob_client *c = ob_client_new();
    int pair[2];

    in = (struct input){ data, size };
    clock_stop();
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    server = pair[1];
    /* Into a full socket goes no more of what an input repeats. */
    int flags = fcntl(server, F_GETFL);
    fcntl(server, F_SETFL, flags | O_NONBLOCK);
    memset(mapped[2], 0xee, sizeof mapped[2]);
    memset(started, 0, sizeof started);
    uint8_t how = take8(&in);
    versions = how < 0xc0;
    twin = how & 1;
    twin_end = -1;
    ob_client_set_twin(c, twin);
    ob_client_adopt(c, pair[0]);
    for (unsigned i = 0; in.left && i < 64; i++)
        call(c);
    for (unsigned i = 0; i < STARTED; i++)
        if (started[i])
            ob_request_wait(started[i]);
    ob_client_error(c, why, sizeof why);
    REQUIRE(strlen(why) < sizeof why);
    ob_client_free(c);
    say_end();
    descriptors_restore();
    clock_go_on();
    REQUIRE(is_untouched(guard_before) && is_untouched(mapped[2]) && is_untouched(guard_behind));
    REQUIRE(descriptor_lowest() == lowest);
    return 0;
}

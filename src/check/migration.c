/*
 * migration.c - group "migration": the states of a device, and the stream that it becomes.
 *
 * All of it is --destructive, and what was stopped runs again at the end of each check.
 */
#include "check/ask_feature.h"

#define STATE "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE"
#define DIRECT "Direct State Transitions"
#define COMPLEX "Complex State Transitions"

enum {
    ERROR = VFIO_DEVICE_STATE_ERROR,
    STOP = VFIO_DEVICE_STATE_STOP,
    RUNNING = VFIO_DEVICE_STATE_RUNNING,
    STOP_COPY = VFIO_DEVICE_STATE_STOP_COPY,
    RESUMING = VFIO_DEVICE_STATE_RESUMING,
    PRE_COPY = OB_DEVICE_STATE_PRE_COPY,
};

struct state {
    uint32_t device_state, data_fd;
};

enum outcome try_state(struct run *r, uint32_t state)
{
    struct state s = { state, UINT32_MAX };
    return ask_feature(r, FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, FEATURE_WHOLE, &s,
                       sizeof s);
}

/* There is no data in the request, by the text; but there are those who want room for the reply in it. */
uint32_t get_state(struct run *r)
{
    struct state s = { 0 };
    if (ask_feature(r, FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, FEATURE_WHOLE, NULL,
                    0) == REFUSED &&
        ask_feature(r, FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, FEATURE_WHOLE, &s,
                    sizeof s) == REFUSED)
        fail(r, "GET of the device's state: expected success, got %s",
             strerror((int)r->client.header.error));
    if (r->client.size < 8 + sizeof s)
        fail(r, "GET of the device's state: expected 16 bytes, got %zu", r->client.size);
    memcpy(&s, r->client.body + 8, sizeof s);
    return s.device_state;
}

void set_state(struct run *r, uint32_t state)
{
    if (try_state(r, state) == REFUSED)
        fail(r, "state %u: expected success, got %s", state, strerror((int)r->client.header.error));
    uint32_t got = get_state(r);
    if (got != state)
        fail(r, "expected the device to be in state %u, got %u", state, got);
}

/* The device runs again, whatever was done to it. */
static void run_again(struct run *r)
{
    if (get_state(r) == RUNNING)
        return;
    if (try_state(r, RUNNING) == SERVED && get_state(r) == RUNNING)
        return;
    struct ask reset = { .command = VFIO_USER_DEVICE_RESET };
    served(r, &reset, 0);
    if (get_state(r) != RUNNING)
        fail(r, "expected the device to run after a reset, got state %u", get_state(r));
}

/* ---- The stream ------------------------------------------------------------------------------ */

enum { STREAM_MOST = 64 << 20, PIECE_MOST = 1 << 20, LARGE = 4096, PIECES = 2000 };

/* One piece. Its data is behind 8 bytes in client(r). */
static uint32_t read_piece(struct run *r, uint32_t size)
{
    struct vfio_user_mig_data q = { (uint32_t)sizeof q + size, size }, got;

    memcpy(&got, served(r, ASK(VFIO_USER_MIG_DATA_READ, q), sizeof got), sizeof got);
    if (got.size > size)
        fail(r, "expected at most %u bytes of data, got %u", size, got.size);
    if (r->client.size != sizeof got + got.size)
        fail(r, "expected the %u bytes that size says, got %zu", got.size,
             r->client.size - sizeof got);
    if (got.argsz != sizeof got + got.size)
        note(r, "argsz %u in a reply with %u bytes of data", got.argsz, got.size);
    return got.size;
}

/* All of it, in pieces of `piece` bytes, which shows where they end. */
static uint8_t *read_stream(struct run *r, uint32_t piece, size_t *size)
{
    uint8_t *all = zeroes(r, STREAM_MOST);
    size_t n = 0;
    uint32_t got;

    do {
        got = read_piece(r, piece);
        if (got > STREAM_MOST - n)
            fail(r, "expected the stream to end, got %zu bytes and more", n);
        memcpy(all + n, r->client.body + sizeof(struct vfio_user_mig_data), got);
        n += got;
    } while (got == piece); /* less: "there is no more migration data to read" */
    *size = n;
    return all;
}

static enum outcome write_piece(struct run *r, const uint8_t *data, uint32_t n)
{
    static uint8_t body[sizeof(struct vfio_user_mig_data) + PIECE_MOST];
    struct vfio_user_mig_data q = { (uint32_t)sizeof q + n, n };

    memcpy(body, &q, sizeof q);
    memcpy(body + sizeof q, data, n);
    struct ask ask = { VFIO_USER_MIG_DATA_WRITE, body, sizeof q + n, NULL, 0, 0 };
    enum outcome outcome = try(r, &ask);
    if (outcome == CLOSED)
        fail(r, "VFIO_USER_MIG_DATA_WRITE: expected a reply, got the end of the connection");
    if (outcome == SERVED && r->client.size)
        fail(r, "VFIO_USER_MIG_DATA_WRITE: expected no payload, got %zu bytes", r->client.size);
    return outcome;
}

static void write_stream(struct run *r, const uint8_t *data, size_t n, uint32_t piece)
{
    for (size_t at = 0; at < n; at += piece) {
        uint32_t size = n - at < piece ? (uint32_t)(n - at) : piece;
        if (write_piece(r, data + at, size) == REFUSED)
            fail(r, "writing the stream at %zu of %zu: expected success, got %s", at, n,
                 strerror((int)r->client.header.error));
    }
}

/* Out of STOP_COPY and into RESUMING again: the same device takes its own state. */
static void round_trip(struct run *r, const struct check *c)
{
    uint32_t piece = (uint32_t)c->a;
    size_t n;

    set_state(r, STOP_COPY);
    uint8_t *stream = read_stream(r, LARGE, &n);
    if (n / piece > PIECES) /* there are devices of many megabytes */
        piece = (uint32_t)(n / PIECES);
    set_state(r, STOP);
    set_state(r, STOP_COPY);
    stream = read_stream(r, piece, &n);
    set_state(r, STOP);
    set_state(r, RESUMING);
    write_stream(r, stream, n, c->b ? (uint32_t)(n / PIECES + c->b) : piece);
    set_state(r, STOP);
    set_state(r, RUNNING);
}

static void nothing_more(struct run *r, const struct check *c)
{
    size_t n;
    (void)c;
    set_state(r, STOP_COPY);
    read_stream(r, 4096, &n);
    if (n == 0)
        note(r, "the stream is empty");
    uint32_t more = read_piece(r, 4096);
    if (more)
        fail(r, "expected the end of the stream to stay one, got %u bytes", more);
    run_again(r);
}

static void read_none(struct run *r, const struct check *c)
{
    struct vfio_user_mig_data q = { sizeof q, 0 };
    (void)c;
    set_state(r, STOP_COPY);
    if (try(r, ASK(VFIO_USER_MIG_DATA_READ, q)) == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    run_again(r);
}

/* More than may be asked for. */
static void read_too_much(struct run *r, const struct check *c)
{
    struct vfio_user_mig_data q = { UINT32_MAX, (uint32_t)c->a };
    set_state(r, STOP_COPY);
    if (try(r, ASK(VFIO_USER_MIG_DATA_READ, q)) == SERVED &&
        r->client.size > sizeof q + r->facts.max_data)
        fail(r, "expected at most max_data_xfer_size = %u bytes, got %zu", r->facts.max_data,
             r->client.size - sizeof q);
    if (r->client.sock >= 0)
        run_again(r);
}

/* Data can be read "while it is in a saving group state", and written in RESUMING. */
static void wrong_state(struct run *r, const struct check *c)
{
    static const uint8_t data[8];
    struct vfio_user_mig_data q = { sizeof q + 64, 64 };

    if (c->a != RUNNING)
        set_state(r, (uint32_t)c->a);
    enum outcome outcome = c->b ? write_piece(r, data, sizeof data)
                                : try(r, ASK(VFIO_USER_MIG_DATA_READ, q));
    run_again(r);
    if (outcome == SERVED)
        fail(r, "data in state %u: expected an error, got success", (unsigned)c->a);
    if (outcome == CLOSED)
        fail(r, "expected an error reply, got the end of the connection");
}

/* A stream that is none. It must be refused when it is written, or at the latest when it ends. */
static void bad_stream(struct run *r, const struct check *c)
{
    uint8_t junk[4096];
    bool taken = true;

    memset(junk, (int)c->b, sizeof junk);
    set_state(r, RESUMING);
    if (c->a)
        taken = write_piece(r, junk, (uint32_t)c->a) == SERVED;
    enum outcome outcome = try_state(r, STOP);
    uint32_t now = get_state(r);
    run_again(r);
    if (outcome == SERVED && taken)
        fail(r, "%u bytes that are no stream: expected an error, got success", (unsigned)c->a);
    if (outcome == REFUSED && now != ERROR && now != RESUMING && now != STOP && now != RUNNING)
        fail(r, "expected a valid state after a bad stream, got %u", now);
}

/* A stream that ends early, or with a byte that is another. */
static void damaged(struct run *r, const struct check *c)
{
    size_t n;
    bool taken = true;

    set_state(r, STOP_COPY);
    uint8_t *stream = read_stream(r, LARGE, &n);
    set_state(r, RESUMING);
    if (c->a == 0 && n > 1)
        n--;
    for (size_t at = 0; at < n && taken; at += 4096)
        taken = write_piece(r, stream + at, n - at < 4096 ? (uint32_t)(n - at) : 4096) == SERVED;
    enum outcome outcome = try_state(r, STOP);
    run_again(r);
    if (taken && outcome == SERVED)
        note(r, "a stream without its last byte is accepted");
}

/* ---- States ---------------------------------------------------------------------------------- */

/* From RUNNING through c->a to c->b, and back. */
static void arc(struct run *r, const struct check *c)
{
    if ((c->a == PRE_COPY || c->b == PRE_COPY) && !(r->facts.migration & OB_MIGRATION_PRE_COPY))
        skip(r, "the device has no PRE_COPY");
    if (c->a != RUNNING)
        set_state(r, (uint32_t)c->a);
    set_state(r, (uint32_t)c->b);
    run_again(r);
}

/* A transition that is none: the state stays, or is ERROR. */
static void no_arc(struct run *r, const struct check *c)
{
    if (c->a == PRE_COPY && !(r->facts.migration & OB_MIGRATION_PRE_COPY))
        skip(r, "the device has no PRE_COPY");
    if (c->a != RUNNING)
        set_state(r, (uint32_t)c->a);
    enum outcome outcome = try_state(r, (uint32_t)c->b);
    uint32_t now = get_state(r);
    run_again(r);
    if (outcome == SERVED)
        fail(r, "from state %u to %u: expected an error, got success", (unsigned)c->a,
             (unsigned)c->b);
    if (now != c->a && now != ERROR)
        fail(r, "expected state %u to stay (or ERROR), got %u", (unsigned)c->a, now);
}

static void no_pre_copy(struct run *r, const struct check *c)
{
    (void)c;
    if (r->facts.migration & OB_MIGRATION_PRE_COPY)
        skip(r, "the device has PRE_COPY");
    if (try_state(r, PRE_COPY) == SERVED) {
        run_again(r);
        fail(r, "PRE_COPY, which is not offered: expected an error, got success");
    }
}

static void reset_runs(struct run *r, const struct check *c)
{
    struct ask reset = { .command = VFIO_USER_DEVICE_RESET };
    if (!(r->facts.device.flags & VFIO_DEVICE_FLAGS_RESET))
        skip(r, "the device has no reset");
    set_state(r, (uint32_t)c->a);
    served(r, &reset, 0);
    if (get_state(r) != RUNNING)
        fail(r, "expected RUNNING after a reset, got %u", get_state(r));
}

/* The reply to SET has the same data as its request. */
static void set_echo(struct run *r, const struct check *c)
{
    struct state got;
    (void)c;
    set_state(r, STOP);
    if (try_state(r, RUNNING) != SERVED)
        fail(r, "RUNNING: expected success, got an error");
    if (r->client.size != 8 + sizeof got)
        fail(r, "expected the request's 16 bytes in the reply, got %zu", r->client.size);
    memcpy(&got, r->client.body + 8, sizeof got);
    if (got.device_state != RUNNING)
        fail(r, "expected state 2 in the reply, got %u", got.device_state);
}

/* The text has the state of a device stay; VFIO has it run again. The next client can use it. */
static void left_stopped(struct run *r, const struct check *c)
{
    (void)c;
    set_state(r, STOP);
    peer_close(&r->client);
    struct peer *p = &r->client;
    if (peer_connect(p, r->options->socket_path, r->options->timeout_ms) < 0)
        fail(r, "expected a new connection, got none");
    uint64_t deadline = peer_now_ms() + r->options->timeout_ms;
    while (negotiate(r, p, VFIO_USER_MINOR, "{}") != SERVED && peer_now_ms() < deadline) {
        peer_close(p);
        if (peer_connect(p, r->options->socket_path, r->options->timeout_ms) < 0)
            fail(r, "expected a new connection, got none");
    }
    run_again(r);
}

#define N (NEED_MIGRATION | NEED_DESTRUCTIVE)
#define ARC(tag, from, to, cite)                                                                   \
    {                                                                                              \
        "migration." tag, #from " -> " #to,                                                        \
            cite "; " STATE ": VFIO_DEVICE_STATE_" #from ", VFIO_DEVICE_STATE_" #to, arc, N, from, \
            to                                                                                     \
    }
#define NO_ARC(tag, from, to, name, title)                           \
    {                                                                \
        "migration.no-" tag, title, DIRECT name, no_arc, N, from, to \
    }
#define NAMED(name) "; " STATE ": VFIO_DEVICE_STATE_" name

static const struct check checks[] = {
    ARC("running-stop", RUNNING, STOP, DIRECT),
    ARC("stop-running", STOP, RUNNING, DIRECT),
    ARC("stop-copy", STOP, STOP_COPY, DIRECT),
    ARC("copy-stop", STOP_COPY, STOP, DIRECT),
    ARC("stop-resuming", STOP, RESUMING, DIRECT),
    ARC("running-pre", RUNNING, PRE_COPY, DIRECT),
    ARC("pre-running", PRE_COPY, RUNNING, DIRECT),
    ARC("pre-copy", PRE_COPY, STOP_COPY, DIRECT),
    ARC("running-copy", RUNNING, STOP_COPY, COMPLEX),
    ARC("running-resuming", RUNNING, RESUMING, COMPLEX),
    ARC("copy-running", STOP_COPY, RUNNING, COMPLEX),
    ARC("copy-resuming", STOP_COPY, RESUMING, COMPLEX),
    ARC("pre-stop", PRE_COPY, STOP, COMPLEX),
    ARC("pre-resuming", PRE_COPY, RESUMING, COMPLEX),
    ARC("stop-stop", STOP, STOP, COMPLEX),
    ARC("running-running", RUNNING, RUNNING, COMPLEX),
    NO_ARC("copy-pre", STOP_COPY, PRE_COPY, "", "STOP_COPY -> PRE_COPY is not allowed"),
    NO_ARC("error", RUNNING, ERROR, NAMED("ERROR"), "ERROR cannot be asked for"),
    NO_ARC("p2p", RUNNING, 5, NAMED("RUNNING_P2P"), "RUNNING_P2P is not used"),
    NO_ARC("pre-p2p", RUNNING, 7, NAMED("PRE_COPY_P2P"), "PRE_COPY_P2P is not used"),
    NO_ARC("8", RUNNING, 8, "", "state 8 is refused"),
    NO_ARC("9", RUNNING, 9, "", "state 9 is refused"),
    NO_ARC("max", RUNNING, UINT32_MAX, "", "state 0xffffffff is refused"),
    NO_ARC("stop-8", STOP, 8, "", "state 8 is refused by a device that is stopped"),
    { "migration.no-pre-copy", "PRE_COPY that is not offered is refused", DIRECT, no_pre_copy, N, 0,
      0 },
    { "migration.set-echo", "the reply to SET is its request", STATE ": device_state, data_fd",
      set_echo, N, 0, 0 },
    { "migration.reset-stop", "a reset makes a stopped device run", "Direct State Transitions",
      reset_runs, N, STOP, 0 },
    { "migration.reset-copy", "and one that is being saved", "Direct State Transitions", reset_runs,
      N, STOP_COPY, 0 },
    { "migration.reset-resuming", "and one that is being restored", "Direct State Transitions",
      reset_runs, N, RESUMING, 0 },
    { "migration.round-trip", "a device takes its own state",
      "VFIO_USER_MIG_DATA_WRITE: argsz, size, data", round_trip, N, LARGE, 0 },
    { "migration.round-trip-7", "in pieces of 7 bytes",
      "VFIO_USER_MIG_DATA_READ: argsz, size, data", round_trip, N, 7, 0 },
    { "migration.round-trip-crumbs", "read at once, and written in crumbs",
      "VFIO_USER_MIG_DATA_WRITE: argsz, size, data", round_trip, N, LARGE, 1 },
    { "migration.end", "the end of the stream stays one", "VFIO_USER_MIG_DATA_READ: size",
      nothing_more, N, 0, 0 },
    { "migration.read-0", "a read of no bytes gets an answer", "VFIO_USER_MIG_DATA_READ: size",
      read_none, N, 0, 0 },
    { "migration.read-2g", "a read of 2 GiB gives no more than max_data_xfer_size",
      "VFIO_USER_MIG_DATA_READ: size", read_too_much, N | NEED_OWN, 0x80000000, 0 },
    { "migration.read-max", "nor does one of 4 GiB", "VFIO_USER_MIG_DATA_READ: size", read_too_much,
      N | NEED_OWN, UINT32_MAX, 0 },
    { "migration.read-running", "a running device has no stream", "VFIO_USER_MIG_DATA_READ",
      wrong_state, N, RUNNING, 0 },
    { "migration.read-stop", "nor has a stopped one", "VFIO_USER_MIG_DATA_READ", wrong_state, N,
      STOP, 0 },
    { "migration.read-resuming", "nor has one that is being restored", "VFIO_USER_MIG_DATA_READ",
      wrong_state, N, RESUMING, 0 },
    { "migration.write-running", "a running device takes no stream", "VFIO_USER_MIG_DATA_WRITE",
      wrong_state, N, RUNNING, 1 },
    { "migration.write-stop", "nor does a stopped one", "VFIO_USER_MIG_DATA_WRITE", wrong_state, N,
      STOP, 1 },
    { "migration.write-copy", "nor does one that is being saved", "VFIO_USER_MIG_DATA_WRITE",
      wrong_state, N, STOP_COPY, 1 },
    { "migration.bad-zeroes", "a stream of zeroes is refused", DIRECT, bad_stream, N, 4096, 0 },
    { "migration.bad-ones", "a stream of ones is refused", DIRECT, bad_stream, N, 4096, 255 },
    { "migration.bad-short", "a stream of three bytes is refused", DIRECT, bad_stream, N, 3, 'x' },
    { "migration.cut", "a stream without its end gets an answer", DIRECT, damaged, N, 0, 0 },
    { "migration.left-stopped", "a device that its client left stopped can be used by the next",
      "Client Disconnection", left_stopped, N | NEED_OWN, 0, 0 },
};
GROUP(check_migration, checks);

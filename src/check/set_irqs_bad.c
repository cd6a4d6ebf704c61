/*
 * set_irqs_bad.c - group "set-irqs", second half: flags, ranges, data and descriptors that cannot be.
 */
#include "check/ask_irqs.h"

#include <fcntl.h>
#include <unistd.h>

/* "mutually exclusive for both sets", and one of each. No combination can harm: nothing is
 * assigned. */
static void bad_flags(struct run *r, const struct check *c)
{
    has_refused(r, try_set(r, (uint32_t)c->a, some_irq(r), 0, 1, NOTHING));
}

/* c->a + count of the type: start, c->b: count. */
static void bad_range(struct run *r, const struct check *c)
{
    uint32_t i = some_irq(r);
    uint32_t start = c->a == UINT32_MAX ? UINT32_MAX : r->facts.irq[i].count + (uint32_t)c->a;
    int fd = an_eventfd(r);
    has_refused(r, try_set(r, EVENTFD | TRIGGER, i, start, (uint32_t)c->b,
                           (struct with){ NULL, 0, &fd, c->b == 1 }));
    has_refused(r, try_set(r, NONE | TRIGGER, i, start, (uint32_t)c->b, NOTHING));
}

/* A few more than there are, from the first. */
static void too_many(struct run *r, const struct check *c)
{
    uint32_t i = some_irq(r);
    uint32_t count = c->a ? (uint32_t)c->a : r->facts.irq[i].count + 1;
    has_refused(r, try_set(r, EVENTFD | TRIGGER, i, 0, count, NOTHING));
    has_refused(r, try_set(r, NONE | TRIGGER, i, 0, count, NOTHING));
}

static void no_such_type(struct run *r, const struct check *c)
{
    uint32_t index = c->a ? (uint32_t)c->a : r->facts.device.num_irqs;
    int fd = an_eventfd(r);
    has_refused(r, try_set(r, EVENTFD | TRIGGER, index, 0, 1, (struct with){ NULL, 0, &fd, 1 }));
    has_refused(r, try_set(r, NONE | TRIGGER, index, 0, 0, NOTHING));
}

static void empty_type(struct run *r, const struct check *c)
{
    (void)c;
    for (uint32_t i = 0; i < r->facts.irqs; i++) {
        if (r->facts.irq[i].count)
            continue;
        int fd = an_eventfd(r);
        has_refused(r, try_set(r, EVENTFD | TRIGGER, i, 0, 1, (struct with){ NULL, 0, &fd, 1 }));
        return;
    }
    skip(r, "no type is without interrupts");
}

/* Nothing says what these mean; but they get an answer. */
static void count_zero(struct run *r, const struct check *c)
{
    if (try_set(r, (uint32_t)c->a, some_irq(r), (uint32_t)c->b, 0, NOTHING) == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
}

/* Booleans that are not as many as count says. */
static void booleans(struct run *r, const struct check *c)
{
    static const uint8_t zeroes[LONGEST];
    uint32_t i = some_irq(r), count = r->facts.irq[i].count;
    size_t n = c->a ? count + c->b : count - c->b;
    enum outcome outcome = try_set(r, BOOL | TRIGGER, i, 0, count,
                                   (struct with){ zeroes, n, NULL, 0 });
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == SERVED && n < count)
        fail(r, "%zu booleans for %u interrupts: expected an error, got success", n, count);
    if (outcome == SERVED)
        note(r, "%zu booleans for %u interrupts are served", n, count);
}

/* Descriptors that are not as many as count says. */
static void descriptors(struct run *r, const struct check *c)
{
    uint32_t index = UINT32_MAX;
    int fds[4];

    for (uint32_t i = 0; next_irq(r, &i) && index == UINT32_MAX; i++)
        if (r->facts.irq[i].count >= c->b)
            index = i;
    if (index == UINT32_MAX || r->facts.max_msg_fds < c->a)
        skip(r, "no type has %u interrupts, or the server takes less than %u descriptors",
             (unsigned)c->b, (unsigned)c->a);
    for (uint32_t k = 0; k < c->a; k++)
        fds[k] = an_eventfd(r);
    enum outcome outcome = try_set(r, EVENTFD | TRIGGER, index, 0, (uint32_t)c->b,
                                   (struct with){ NULL, 0, fds, (unsigned)c->a });
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == SERVED)
        note(r, "%u descriptors for %u interrupts are served", (unsigned)c->a, (unsigned)c->b);
}

/* Descriptors with a kind of data that has none. */
static void descriptors_with(struct run *r, const struct check *c)
{
    static const uint8_t zero;
    int fd = an_eventfd(r);
    struct with with = { &zero, c->a == BOOL, &fd, 1 };
    if (try_set(r, (uint32_t)c->a | TRIGGER, some_irq(r), 0, 1, with) == CLOSED)
        note(r, "a descriptor with this data ends the connection");
}

/* More of them than the server says it takes. It cannot even see those behind its limit. */
static void descriptors_over_limit(struct run *r, const struct check *c)
{
    int fds[PEER_MOST_FDS];
    unsigned n = c->a ? (unsigned)c->a : r->facts.max_msg_fds + 1;
    bool silent;

    if (n > LENGTH(fds))
        skip(r, "the server takes as many as there can be");
    int fd = an_eventfd(r);
    for (unsigned i = 0; i < n; i++)
        fds[i] = fd;
    struct vfio_irq_set set = { sizeof set, EVENTFD | TRIGGER, some_irq(r), 0, n };
    struct ask ask = { VFIO_USER_DEVICE_SET_IRQS, &set, sizeof set, fds, n, 0 };
    post(r, &ask);
    if (consequence(r, client(r), &silent) == SERVED && n > r->facts.irq[some_irq(r)].count)
        fail(r, "%u descriptors for %u interrupts: expected an error, got success", n,
             r->facts.irq[some_irq(r)].count);
}

/* Something that is no eventfd. Whether it is refused or not, nothing may hang on it. */
static int odd_descriptor(struct run *r, uint64_t kind)
{
    int fds[2];

    switch (kind) {
    case 0:
        return a_memory_file(r, PAGE);
    case 1:
        return a_file(r, "/", O_RDONLY | O_DIRECTORY);
    case 2:
        return a_file(r, "/dev/null", O_RDWR);
    case 3:
        a_pipe(r, fds);
        return fds[0];
    case 4: /* a pipe that is full, and blocks */
        a_pipe(r, fds);
        while (write(fds[1], fds, sizeof fds) > 0)
            ;
        fcntl(fds[1], F_SETFL, 0);
        return fds[1];
    default: /* a pipe that nobody reads: to write raises SIGPIPE */
        a_pipe(r, fds);
        give_away(r, fds[0]);
        return fds[1];
    }
}

static void odd_kind(struct run *r, const struct check *c)
{
    uint32_t i = some_irq(r);
    int fd = odd_descriptor(r, c->a);
    enum outcome outcome = try_set(r, EVENTFD | TRIGGER, i, 0, 1, (struct with){ NULL, 0, &fd, 1 });

    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == REFUSED)
        return;
    note(r, "what is no eventfd is accepted as one");
    if (c->a == 4)
        return; /* to wait for its reader is the server's own wish */
    trigger_irq(r, i, false, 0);
    still_works(r, client(r));
}

/* Linux adds to an eventfd until it is full, and then waits, if the eventfd is a blocking one. */
static void full_eventfd(struct run *r, const struct check *c)
{
    static const uint64_t most = UINT64_MAX - 1;
    uint32_t i = some_irq(r);
    int fd = an_eventfd(r);
    (void)c;

    if (write(fd, &most, sizeof most) < 0)
        skip(r, "no eventfd can be filled here: %s", strerror(errno));
    fcntl(fd, F_SETFL, 0);
    assign_eventfd(r, i, 0, fd);
    struct vfio_irq_set set = { sizeof set, NONE | TRIGGER, i, 0, 1 };
    struct ask ask = { VFIO_USER_DEVICE_SET_IRQS, &set, sizeof set, NULL, 0, 0 };
    post(r, &ask);
    bool stuck = peer_wait(client(r), 500) == -ETIMEDOUT;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    eventfd_count(fd); /* so that it can go on */
    next_reply(r, client(r));
    if (stuck)
        note(r, "a full eventfd stops the server until somebody reads it");
}

static void argsz(struct run *r, const struct check *c)
{
    struct vfio_irq_set set = { (uint32_t)c->a, NONE | TRIGGER, some_irq(r), 0, 0 };
    enum outcome outcome = try(r, ASK(VFIO_USER_DEVICE_SET_IRQS, set));
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == SERVED && set.argsz < sizeof set)
        note(r, "argsz %u is served, where 20 is the size", set.argsz);
}

#define FLAGS(tag, title, value)                                          \
    {                                                                     \
        "set-irqs.flags-" tag, title, S ": flags", bad_flags, 0, value, 0 \
    }
#define KIND(tag, title, value)                                                                \
    {                                                                                          \
        "set-irqs.fd-" tag, title " is no harm", S ": VFIO_IRQ_SET_DATA_EVENTFD", odd_kind, 0, \
            value, 0                                                                           \
    }

static const struct check checks[] = {
    FLAGS("0", "no flags at all are refused", 0),
    FLAGS("no-action", "data without an action is refused", NONE),
    FLAGS("no-data", "an action without a kind of data is refused", TRIGGER),
    FLAGS("none-bool", "two kinds of data are refused", NONE | BOOL | TRIGGER),
    FLAGS("none-eventfd", "two other kinds of data are refused", NONE | EVENTFD | TRIGGER),
    FLAGS("all-data", "all kinds of data are refused", NONE | BOOL | EVENTFD | TRIGGER),
    FLAGS("mask-unmask", "two actions are refused", NONE | MASK | UNMASK),
    FLAGS("mask-trigger", "two other actions are refused", NONE | MASK | TRIGGER),
    FLAGS("all-actions", "all actions are refused", NONE | MASK | UNMASK | TRIGGER),
    FLAGS("6", "flag 6, which is not assigned, is refused", NONE | TRIGGER | 1u << 6),
    FLAGS("31", "flag 31, which is not assigned, is refused", NONE | TRIGGER | 1u << 31),
    FLAGS("max", "all flags are refused", UINT32_MAX),
    { "set-irqs.start-behind", "the interrupt behind the last is refused", S ": start", bad_range,
      0, 0, 1 },
    { "set-irqs.start-far", "one far behind is refused", S ": start", bad_range, 0, 5000, 1 },
    { "set-irqs.start-wrap", "a range that wraps round is refused", S ": start, count", bad_range,
      0, UINT32_MAX, 1 },
    { "set-irqs.start-wrap-2", "and one that wraps round to 1", S ": start, count", bad_range, 0,
      UINT32_MAX, 2 },
    { "set-irqs.count-over", "more interrupts than there are are refused", S ": count", too_many, 0,
      0, 0 },
    { "set-irqs.count-2g", "2^31 interrupts are refused", S ": count", too_many, 0, 0x80000000, 0 },
    { "set-irqs.count-max", "2^32 - 1 interrupts are refused", S ": count", too_many, 0, UINT32_MAX,
      0 },
    { "set-irqs.type-behind", "the type behind the last is refused", S ": index", no_such_type, 0,
      0, 0 },
    { "set-irqs.type-2g", "type 0x80000000 is refused", S ": index", no_such_type, 0, 0x80000000,
      0 },
    { "set-irqs.type-max", "type 0xffffffff is refused", S ": index", no_such_type, 0, UINT32_MAX,
      0 },
    { "set-irqs.type-empty", "a type without interrupts has none to assign", S ": index",
      empty_type, 0, 0, 0 },
    { "set-irqs.zero-eventfd", "no eventfds for no interrupts get an answer", S ": count",
      count_zero, 0, EVENTFD | TRIGGER, 0 },
    { "set-irqs.zero-bool", "no booleans for no interrupts get an answer", S ": count", count_zero,
      0, BOOL | TRIGGER, 0 },
    { "set-irqs.zero-start", "no interrupts from the second on get an answer", S ": start, count",
      count_zero, 0, NONE | TRIGGER, 1 },
    { "set-irqs.zero-mask", "to mask no interrupts gets an answer", S ": count", count_zero, 0,
      NONE | MASK, 0 },
    { "set-irqs.bool-fewer", "fewer booleans than interrupts are refused", S ": count, data",
      booleans, 0, 0, 1 },
    { "set-irqs.bool-more", "more booleans than interrupts get an answer", S ": count, data",
      booleans, 0, 1, 1 },
    { "set-irqs.fds-fewer", "fewer descriptors than interrupts get an answer",
      S ": count, VFIO_IRQ_SET_DATA_EVENTFD", descriptors, 0, 1, 2 },
    { "set-irqs.fds-more", "more descriptors than interrupts get an answer",
      S ": count, VFIO_IRQ_SET_DATA_EVENTFD", descriptors, 0, 2, 1 },
    { "set-irqs.fds-none-data", "a descriptor with DATA_NONE is no harm",
      S ": VFIO_IRQ_SET_DATA_NONE", descriptors_with, NEED_OWN, NONE, 0 },
    { "set-irqs.fds-bool-data", "a descriptor with DATA_BOOL is no harm",
      S ": VFIO_IRQ_SET_DATA_BOOL", descriptors_with, NEED_OWN, BOOL, 0 },
    { "set-irqs.fds-over-limit", "a descriptor more than max_msg_fds is no harm",
      "VFIO_USER_VERSION: max_msg_fds", descriptors_over_limit, NEED_OWN, 0, 0 },
    { "set-irqs.fds-253", "253 descriptors are no harm", "VFIO_USER_VERSION: max_msg_fds",
      descriptors_over_limit, NEED_OWN, PEER_MOST_FDS, 0 },
    KIND("file", "a file as an eventfd", 0),
    KIND("directory", "a directory as an eventfd", 1),
    KIND("null", "/dev/null as an eventfd", 2),
    KIND("pipe-read", "the wrong end of a pipe as an eventfd", 3),
    KIND("pipe-full", "a full pipe as an eventfd", 4),
    KIND("pipe-closed", "a pipe that nobody reads as an eventfd", 5),
    { "set-irqs.fd-full", "a full eventfd stops nobody", S ": VFIO_IRQ_SET_ACTION_TRIGGER",
      full_eventfd, 0, 0, 0 },
    { "set-irqs.argsz-0", "argsz 0 gets an answer", S ": argsz", argsz, 0, 0, 0 },
    { "set-irqs.argsz-19", "an argsz that is too small gets an answer", S ": argsz", argsz, 0, 19,
      0 },
    { "set-irqs.argsz-max", "an argsz that is too large gets an answer", S ": argsz", argsz, 0,
      UINT32_MAX, 0 },
};
GROUP(check_set_irqs_bad, checks);

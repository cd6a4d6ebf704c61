/*
 * session.c - group "session": clients that come, go, and come together.
 */
#include "check/run.h"

#include <linux/pci_regs.h>
#include <time.h>

#define D "Client Disconnection"

/* A server may serve several; or refuse; or let them wait. But the first must not notice. */
static void second_client(struct run *r, const struct check *c)
{
    struct peer *p = another(r);
    struct ask ask = { VFIO_USER_VERSION, "\0\0\1\0{}", 7, NULL, 0, 0 };
    uint16_t id;
    bool silent;
    (void)c;

    still_works(r, client(r));
    peer_send_message(p, ask.command, 0, ask.body, ask.size, NULL, 0, &id);
    enum outcome outcome = consequence(r, p, &silent);
    if (silent)
        note(r, "a second client is left waiting");
    else if (outcome == SERVED)
        note(r, "a second client is served at the same time");
    else if (outcome == REFUSED && p->header.error != EBUSY)
        note(r, "a second client is refused with \"%s\"", strerror((int)p->header.error));
    still_works(r, client(r));
}

static void many_clients(struct run *r, const struct check *c)
{
    for (uint64_t i = 0; i < c->a; i++) {
        struct peer *p = another(r);
        if (c->b)
            send_raw(r, p, "\1", 1, NULL, 0);
    }
    still_works(r, client(r));
}

/* Those who say nothing, while nobody else is served. When they have gone, all is as before. */
static void silent_strangers(struct run *r, const struct check *c)
{
    stranger(r);
    for (uint64_t i = 1; i < c->a; i++)
        another(r);
}

static void come_and_go(struct run *r, const struct check *c)
{
    peer_close(client(r));
    for (uint64_t i = 0; i < c->a; i++) {
        struct peer *p = stranger(r);
        if (c->b)
            send_raw(r, p, "\0\0\1\0\24\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0", 20, NULL, 0);
        peer_free(p);
        r->peer_count--;
    }
}

/* Back in a new connection, when the server is done with the last. */
static void come_back(struct run *r)
{
    uint64_t deadline = peer_now_ms() + r->options->timeout_ms;
    peer_close(&r->client);
    do {
        peer_close(&r->client);
        int ret = peer_connect(&r->client, r->options->socket_path, r->options->timeout_ms);
        if (ret < 0)
            fail(r, "expected a new connection, got %s", strerror(-ret));
        if (negotiate(r, &r->client, VFIO_USER_MINOR, "{}") == SERVED)
            return;
        nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    } while (peer_now_ms() < deadline);
    fail(r, "expected a new client to be served, got none");
}

/* "all IRQ file descriptors passed from the old client are closed" */
static void irqs_gone(struct run *r, const struct check *c)
{
    uint32_t i = some_irq(r);
    int fd = an_eventfd(r);
    struct vfio_irq_set set = { sizeof set, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
                                i, 0, 1 };
    struct ask ask = { VFIO_USER_DEVICE_SET_IRQS, &set, sizeof set, &fd, 1, 0 };
    (void)c;

    served(r, &ask, 0);
    come_back(r);
    eventfd_count(fd);
    set.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER;
    try(r, ASK(VFIO_USER_DEVICE_SET_IRQS, set));
    if (eventfd_count(fd))
        fail(r, "expected no signal from the eventfd of a client that has gone, got one");
}

/* "the device state should otherwise be retained" */
static void state_stays(struct run *r, const struct check *c)
{
    uint64_t before = config_get(r, PCI_INTERRUPT_LINE, 1);
    (void)c;
    config_set(r, PCI_INTERRUPT_LINE, 1, before ^ 0x33);
    come_back(r);
    uint64_t after = config_get(r, PCI_INTERRUPT_LINE, 1);
    config_set(r, PCI_INTERRUPT_LINE, 1, before);
    if (after != (before ^ 0x33))
        note(r, "the state of the device does not stay when its client goes");
}

static void reconnects(struct run *r, const struct check *c)
{
    for (uint64_t i = 0; i < c->a; i++) {
        come_back(r);
        still_works(r, client(r));
    }
}

static const struct check checks[] = {
    { "session.second", "a second client gets an answer, and the first notices nothing", "Socket",
      second_client, NEED_OWN, 0, 0 },
    { "session.many", "thirty silent connections beside a client are no harm",
      "Security Considerations", many_clients, NEED_OWN, 30, 0 },
    { "session.many-begun", "and thirty that have begun to speak", "Security Considerations",
      many_clients, NEED_OWN, 30, 1 },
    { "session.strangers", "sixty silent connections, that go, are no harm",
      "Security Considerations", silent_strangers, NEED_OWN, 60, 0 },
    { "session.come-and-go", "500 clients that come and go are no harm", D, come_and_go, NEED_OWN,
      500, 0 },
    { "session.come-and-say", "500 clients that go when they have asked", D, come_and_go, NEED_OWN,
      500, 1 },
    { "session.reconnect", "a client that comes back is served, again and again", D, reconnects,
      NEED_OWN, 50, 0 },
    { "session.irqs-gone", "eventfds go with their client", D, irqs_gone, NEED_OWN, 0, 0 },
    { "session.state-stays", "the device stays as it is when its client goes", D, state_stays,
      NEED_OWN | NEED_PCI | NEED_DESTRUCTIVE, 0, 0 },
};
GROUP(check_session, checks);

/*
 * set_irqs.c - group "set-irqs", first half: interrupts that are assigned, triggered and masked.
 *
 * "Not all interrupt types support every combination of data and action flags": what is allowed may
 * therefore still be refused, and is skipped then. What is accepted has to have its effect.
 */
#include "check/ask_irqs.h"

enum outcome try_set(struct run *r, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
                     struct with with)
{
    uint8_t body[sizeof(struct vfio_irq_set) + LONGEST];
    struct vfio_irq_set set = { (uint32_t)(sizeof set + with.size), flags, index, start, count };

    memcpy(body, &set, sizeof set);
    if (with.size)
        memcpy(body + sizeof set, with.data, with.size);
    struct ask ask = {
        VFIO_USER_DEVICE_SET_IRQS, body, sizeof set + with.size, with.fds, with.nfds, 0
    };
    enum outcome outcome = try(r, &ask);
    if (outcome == SERVED && r->client.size)
        fail(r, "expected no payload in the reply, got %zu bytes", r->client.size);
    return outcome;
}

void has_served(struct run *r, enum outcome outcome, uint32_t index, const char *what)
{
    if (outcome == CLOSED)
        fail(r, "type %u, %s: expected a reply, got the end of the connection", index, what);
    if (outcome == REFUSED)
        fail(r, "type %u, %s: expected success, got %s", index, what,
             strerror((int)r->client.header.error));
}

void has_refused(struct run *r, enum outcome outcome)
{
    if (outcome == CLOSED)
        fail(r, "expected an error reply, got the end of the connection");
    if (outcome == SERVED)
        fail(r, "expected an error reply, got success");
    if (r->client.header.error != EINVAL)
        note(r, "refused with \"%s\", where VFIO has \"%s\"", strerror((int)r->client.header.error),
             strerror(EINVAL));
}

void assign_eventfd(struct run *r, uint32_t index, uint32_t start, int fd)
{
    has_served(r, try_set(r, EVENTFD | TRIGGER, index, start, 1, (struct with){ NULL, 0, &fd, 1 }),
               index, "an eventfd");
}

bool next_irq(struct run *r, uint32_t *i)
{
    for (; *i < r->facts.irqs; ++*i)
        if (r->facts.irq[*i].count && (r->facts.irq[*i].flags & VFIO_IRQ_INFO_EVENTFD))
            return true;
    return false;
}

bool trigger_irq(struct run *r, uint32_t index, bool with_bool, uint8_t value)
{
    struct with with = { &value, 1, NULL, 0 };
    enum outcome outcome = with_bool ? try_set(r, BOOL | TRIGGER, index, 0, 1, with)
                                     : try_set(r, NONE | TRIGGER, index, 0, 1, NOTHING);
    if (outcome == CLOSED)
        fail(r, "type %u: expected a reply, got the end of the connection", index);
    return outcome == SERVED;
}

/* ---- Eventfds -------------------------------------------------------------------------------- */

static void assign_each(struct run *r, const struct check *c)
{
    (void)c;
    EACH(i)
    {
        assign_eventfd(r, i, 0, an_eventfd(r));
        has_served(r, try_set(r, EVENTFD | TRIGGER, i, 0, 1, NOTHING), i, "no eventfd");
    }
}

/* All of a type, no more at a time than the server takes in one message. */
static void assign_all(struct run *r, const struct check *c)
{
    int fds[64];
    (void)c;
    EACH(i)
    {
        uint32_t count = r->facts.irq[i].count;
        uint32_t most = r->facts.max_msg_fds < LENGTH(fds) ? r->facts.max_msg_fds : LENGTH(fds);
        int fd = an_eventfd(r);
        for (uint32_t k = 0; k < most; k++)
            fds[k] = fd;
        for (uint32_t at = 0; at < count; at += most) {
            uint32_t n = count - at < most ? count - at : most;
            has_served(r, try_set(r, EVENTFD | TRIGGER, i, at, n, (struct with){ NULL, 0, fds, n }),
                       i, "eventfds for all");
        }
        has_served(r, try_set(r, NONE | TRIGGER, i, 0, 0, NOTHING), i, "to disable all");
    }
}

static void assign_last(struct run *r, const struct check *c)
{
    (void)c;
    EACH(i)
    {
        if (r->facts.irq[i].flags & VFIO_IRQ_INFO_NORESIZE)
            continue;
        assign_eventfd(r, i, r->facts.irq[i].count - 1, an_eventfd(r));
        has_served(r, try_set(r, NONE | TRIGGER, i, 0, 0, NOTHING), i, "to disable all");
    }
}

static void disable_twice(struct run *r, const struct check *c)
{
    (void)c;
    EACH(i)
    {
        assign_eventfd(r, i, 0, an_eventfd(r));
        has_served(r, try_set(r, NONE | TRIGGER, i, 0, 0, NOTHING), i, "to disable all");
        enum outcome outcome = try_set(r, NONE | TRIGGER, i, 0, 0, NOTHING);
        if (outcome == REFUSED)
            note(r, "type %u: to disable what is disabled is refused", i);
    }
}

/* ---- Triggered by the client ----------------------------------------------------------------- */

/* Messages of MSI-X are masked in their table until a driver unmasks them, and wait: so for those nothing
 * can be concluded from silence. */
static bool may_be_masked(struct run *r, uint32_t index)
{
    return is_pci(r) && index == VFIO_PCI_MSIX_IRQ_INDEX;
}

static void triggers(struct run *r, const struct check *c)
{
    bool any = false;
    EACH(i)
    {
        int fd = an_eventfd(r);
        assign_eventfd(r, i, 0, fd);
        if (!trigger_irq(r, i, c->a, 1))
            continue;
        any = true;
        uint64_t n = eventfd_count(fd);
        if (n == 0 && !may_be_masked(r, i))
            fail(r, "type %u: expected a signal from the eventfd, got none", i);
    }
    if (!any)
        skip(r, "the client cannot trigger interrupts of this device");
}

static void triggers_not(struct run *r, const struct check *c)
{
    (void)c;
    EACH(i)
    {
        int fd = an_eventfd(r);
        assign_eventfd(r, i, 0, fd);
        trigger_irq(r, i, true, 0);
        if (eventfd_count(fd))
            fail(r, "type %u: expected no signal for a false boolean, got one", i);
    }
}

static void triggers_only_one(struct run *r, const struct check *c)
{
    static const uint8_t second[2] = { 0, 1 };
    bool any = false;
    (void)c;
    EACH(i)
    {
        if (r->facts.irq[i].count < 2)
            continue;
        any = true;
        int fds[2] = { an_eventfd(r), an_eventfd(r) };
        uint32_t step = r->facts.max_msg_fds > 1 ? 2 : 1;
        for (uint32_t k = 0; k < 2; k += step)
            has_served(
                r,
                try_set(r, EVENTFD | TRIGGER, i, k, step, (struct with){ NULL, 0, &fds[k], step }),
                i, "two eventfds");
        enum outcome outcome = try_set(r, BOOL | TRIGGER, i, 0, 2,
                                       (struct with){ second, 2, NULL, 0 });
        if (outcome == CLOSED)
            fail(r, "type %u: expected a reply, got the end of the connection", i);
        if (eventfd_count(fds[0]))
            fail(r, "type %u: expected no signal for a false boolean, got one", i);
        if (outcome == SERVED && !eventfd_count(fds[1]) && !may_be_masked(r, i))
            fail(r, "type %u: expected a signal for a true boolean, got none", i);
    }
    if (!any)
        skip(r, "no type has two interrupts");
}

/* Whoever was assigned before hears nothing any more. */
static void silent_after(struct run *r, const struct check *c)
{
    EACH(i)
    {
        int old = an_eventfd(r);
        assign_eventfd(r, i, 0, old);
        if (c->a == 0)
            has_served(r, try_set(r, EVENTFD | TRIGGER, i, 0, 1, NOTHING), i, "no eventfd");
        else if (c->a == 1)
            has_served(r, try_set(r, NONE | TRIGGER, i, 0, 0, NOTHING), i, "to disable all");
        else
            assign_eventfd(r, i, 0, an_eventfd(r));
        eventfd_count(old);
        trigger_irq(r, i, false, 0);
        if (eventfd_count(old))
            fail(r, "type %u: expected no signal from an eventfd that was taken back, got one", i);
    }
}

/* ---- Masks ----------------------------------------------------------------------------------- */

static void mask(struct run *r, const struct check *c)
{
    static const uint8_t yes = 1;
    struct with with = c->a == BOOL ? (struct with){ &yes, 1, NULL, 0 } : NOTHING;
    bool any = false;
    EACH(i)
    {
        if (!(r->facts.irq[i].flags & VFIO_IRQ_INFO_MASKABLE))
            continue;
        any = true;
        assign_eventfd(r, i, 0, an_eventfd(r));
        has_served(r, try_set(r, (uint32_t)c->a | MASK, i, 0, 1, with), i, "to mask");
        has_served(r, try_set(r, (uint32_t)c->a | UNMASK, i, 0, 1, with), i, "to unmask");
    }
    if (!any)
        skip(r, "no type is MASKABLE");
}

/* For INTx, VFIO has an eventfd that unmasks; KVM uses it. To have none of them is allowed. */
static void mask_event(struct run *r, const struct check *c)
{
    bool any = false;
    EACH(i)
    {
        int fd = an_eventfd(r);
        assign_eventfd(r, i, 0, an_eventfd(r));
        enum outcome outcome = try_set(r, EVENTFD | (uint32_t)c->a, i, 0, 1,
                                       (struct with){ NULL, 0, &fd, 1 });
        if (outcome == CLOSED)
            fail(r, "type %u: expected a reply, got the end of the connection", i);
        if (outcome == REFUSED)
            continue;
        any = true;
        has_served(r, try_set(r, EVENTFD | (uint32_t)c->a, i, 0, 1, NOTHING), i, "to take it back");
    }
    if (!any)
        skip(r, "the device has none of these events");
}

static const struct check checks[] = {
    { "set-irqs.assign", "one eventfd of each type is assigned and taken back",
      S ": VFIO_IRQ_SET_DATA_EVENTFD, VFIO_IRQ_SET_ACTION_TRIGGER", assign_each, 0, 0, 0 },
    { "set-irqs.assign-all", "eventfds for all, as many at a time as the server takes",
      S ": start, count", assign_all, 0, 0, 0 },
    { "set-irqs.assign-last", "an eventfd for the last of a type alone", S ": start", assign_last,
      0, 0, 0 },
    { "set-irqs.disable", "a count of 0 disables all of a type, at any time",
      S ": count, VFIO_IRQ_SET_DATA_NONE", disable_twice, 0, 0, 0 },
    { "set-irqs.trigger", "the client can trigger an interrupt",
      S ": VFIO_IRQ_SET_DATA_NONE, VFIO_IRQ_SET_ACTION_TRIGGER", triggers, 0, 0, 0 },
    { "set-irqs.trigger-true", "a true boolean triggers", S ": VFIO_IRQ_SET_DATA_BOOL, data",
      triggers, 0, 1, 0 },
    { "set-irqs.trigger-false", "a false boolean does not", S ": VFIO_IRQ_SET_DATA_BOOL, data",
      triggers_not, 0, 0, 0 },
    { "set-irqs.trigger-second", "only those with a true boolean are triggered",
      S ": VFIO_IRQ_SET_DATA_BOOL, data", triggers_only_one, 0, 0, 0 },
    { "set-irqs.silent-unassigned", "an eventfd that was de-assigned is silent",
      S ": VFIO_IRQ_SET_DATA_EVENTFD", silent_after, 0, 0, 0 },
    { "set-irqs.silent-disabled", "an eventfd of a type that was disabled is silent",
      S ": VFIO_IRQ_SET_DATA_NONE", silent_after, 0, 1, 0 },
    { "set-irqs.silent-replaced", "an eventfd that was replaced is silent",
      S ": VFIO_IRQ_SET_DATA_EVENTFD", silent_after, 0, 2, 0 },
    { "set-irqs.mask", "what is MASKABLE can be masked and unmasked",
      S ": VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_NONE", mask, 0,
      NONE, 0 },
    { "set-irqs.mask-bool", "and with booleans",
      S ": VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_BOOL", mask, 0,
      BOOL, 0 },
    { "set-irqs.mask-event", "an eventfd for masking can be assigned, and taken back",
      S ": VFIO_IRQ_SET_ACTION_MASK, VFIO_IRQ_SET_DATA_EVENTFD", mask_event, 0, MASK, 0 },
    { "set-irqs.unmask-event", "an eventfd for unmasking can be assigned, and taken back",
      S ": VFIO_IRQ_SET_ACTION_UNMASK, VFIO_IRQ_SET_DATA_EVENTFD", mask_event, 0, UNMASK, 0 },
};
GROUP(check_set_irqs, checks);

/*
 * reset.c - group "reset": VFIO_USER_DEVICE_RESET. All of it is --destructive.
 */
#include "check/run.h"

#include <linux/pci_regs.h>

#define R "VFIO_USER_DEVICE_RESET"
#define N NEED_DESTRUCTIVE

static void reset(struct run *r)
{
    struct ask ask = { .command = VFIO_USER_DEVICE_RESET };
    if (!(r->facts.device.flags & VFIO_DEVICE_FLAGS_RESET))
        skip(r, "the device has no reset");
    served(r, &ask, 0);
}

static void works(struct run *r, const struct check *c)
{
    for (uint64_t i = 0; i < c->a; i++) {
        reset(r);
        if (r->client.size)
            fail(r, "expected no payload in the reply, got %zu bytes", r->client.size);
    }
    still_works(r, client(r));
}

static void not_offered(struct run *r, const struct check *c)
{
    struct ask ask = { .command = VFIO_USER_DEVICE_RESET };
    (void)c;
    if (r->facts.device.flags & VFIO_DEVICE_FLAGS_RESET)
        skip(r, "the device has a reset");
    refused(r, &ask, 0);
}

static void payload(struct run *r, const struct check *c)
{
    uint64_t data = 0;
    (void)c;
    if (try(r, ASK(VFIO_USER_DEVICE_RESET, data)) == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    still_works(r, client(r));
}

static void posted(struct run *r, const struct check *c)
{
    struct ask ask = { .command = VFIO_USER_DEVICE_RESET, .flags = VFIO_USER_FLAG_NO_REPLY };
    (void)c;
    reset(r);
    post(r, &ask);
    still_works(r, client(r));
}

/* Guest memory is the client's affair, not the device's. */
static void keeps_memory(struct run *r, const struct check *c)
{
    map(r, BASE, PAGE, memory_for(r, c, PAGE));
    reset(r);
    if (!is_mapped(r, BASE, PAGE))
        fail(r, "expected a DMA region to stay, got it unmapped");
    unmap(r, BASE, PAGE);
}

/* PCI: a function that was reset does not answer, and asks nobody. */
static void command_register(struct run *r, const struct check *c)
{
    const uint64_t bits = PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
    (void)c;
    config_set(r, PCI_COMMAND, 2, bits);
    reset(r);
    uint64_t after = config_get(r, PCI_COMMAND, 2);
    config_set(r, PCI_COMMAND, 2, 0);
    if (after & bits)
        note(r, "the command register is 0x%llx after a reset", (unsigned long long)after);
}

static void same_device(struct run *r, const struct check *c)
{
    uint64_t id = config_get(r, PCI_VENDOR_ID, 4), class = config_get(r, PCI_CLASS_REVISION, 4);
    (void)c;
    reset(r);
    if (config_get(r, PCI_VENDOR_ID, 4) != id || config_get(r, PCI_CLASS_REVISION, 4) != class)
        fail(r, "expected the same ids and class after a reset, got others");
}

static void descriptor(struct run *r, const struct check *c)
{
    int fd = an_eventfd(r);
    struct ask ask = { VFIO_USER_DEVICE_RESET, NULL, 0, &fd, 1, 0 };
    (void)c;
    try(r, &ask);
}

static void among_others(struct run *r, const struct check *c)
{
    struct ask ask = { .command = VFIO_USER_DEVICE_RESET };
    struct vfio_user_device_info info = { .argsz = sizeof info };
    uint16_t ids[3];
    (void)c;
    reset(r);
    ids[0] = post(r, ASK(VFIO_USER_DEVICE_GET_INFO, info));
    ids[1] = post(r, &ask);
    ids[2] = post(r, ASK(VFIO_USER_DEVICE_GET_INFO, info));
    reply_to(r, client(r), ids[0], VFIO_USER_DEVICE_GET_INFO);
    reply_to(r, client(r), ids[1], VFIO_USER_DEVICE_RESET);
    reply_to(r, client(r), ids[2], VFIO_USER_DEVICE_GET_INFO);
}

static const struct check checks[] = {
    { "reset.works", "a device that says so can be reset",
      "Commands: " R "; " R "; VFIO_USER_DEVICE_GET_INFO: VFIO_DEVICE_FLAGS_RESET", works, N, 1,
      0 },
    { "reset.again", "again and again", R, works, N, 10, 0 },
    { "reset.not-offered", "a device that does not say so cannot",
      "VFIO_USER_DEVICE_GET_INFO: VFIO_DEVICE_FLAGS_RESET", not_offered, N, 0, 0 },
    { "reset.payload", "a reset with a payload gets an answer", R, payload, N, 0, 0 },
    { "reset.no-reply", "a reset with No_reply is not answered", "Header: Flags, No_reply", posted,
      N, 0, 0 },
    { "reset.memory", "DMA regions stay", R, keeps_memory, N | NEED_MAPPED, 0, 0 },
    { "reset.memory-messages", "DMA regions without a descriptor stay", R, keeps_memory,
      N | NEED_MESSAGES, 0, 0 },
    { "reset.command", "decoding and bus mastering are off", R, command_register, N | NEED_PCI, 0,
      0 },
    { "reset.same", "it is the same device", R, same_device, N | NEED_PCI, 0, 0 },
    { "reset.fd", "a descriptor beside a reset is no harm", R, descriptor, N | NEED_OWN, 0, 0 },
    { "reset.in-order", "a reset among other commands is answered in its turn",
      "Command Concurrency", among_others, N, 0, 0 },
};
GROUP(check_reset, checks);

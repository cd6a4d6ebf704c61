/*
 * irqs.c - group "irq": VFIO_USER_DEVICE_GET_IRQ_INFO.
 */
#include "check/run.h"

#define INFO "VFIO_USER_DEVICE_GET_IRQ_INFO"

static struct vfio_irq_info ask_irq(struct run *r, uint32_t index, uint32_t argsz)
{
    struct vfio_irq_info info = { .argsz = argsz, .index = index };
    memcpy(&info, served(r, ASK(VFIO_USER_DEVICE_GET_IRQ_INFO, info), sizeof info), sizeof info);
    return info;
}

/* VFIO itself refuses the error and request types of devices that cannot have them. */
static void answered(struct run *r, const struct check *c)
{
    (void)c;
    for (uint32_t i = 0; i < r->facts.irqs; i++) {
        struct vfio_irq_info info = { .argsz = sizeof info, .index = i };
        if (try(r, ASK(VFIO_USER_DEVICE_GET_IRQ_INFO, info)) == CLOSED)
            fail(r, "type %u: expected a reply, got the end of the connection", i);
        if (r->client.header.flags & VFIO_USER_FLAG_ERROR)
            note(r, "type %u of %u is refused", i, r->facts.device.num_irqs);
    }
}

static void index_echoed(struct run *r, const struct check *c)
{
    (void)c;
    for (uint32_t i = 0; i < r->facts.irqs; i++) {
        if (!r->facts.irq[i].argsz)
            continue;
        struct vfio_irq_info info = ask_irq(r, i, sizeof info);
        if (info.index != i)
            fail(r, "index: expected %u, got %u", i, info.index);
    }
}

static void argsz(struct run *r, const struct check *c)
{
    struct vfio_irq_info info = ask_irq(r, 0, (uint32_t)c->a);
    if (info.argsz < sizeof info || (c->a >= info.argsz && r->client.size != info.argsz))
        fail(r, "expected a payload of argsz = 16 bytes or more, got argsz %u and %zu bytes",
             info.argsz, r->client.size);
    if (r->client.size > c->a)
        fail(r, "expected at most argsz = %u bytes of payload, got %zu", (unsigned)c->a,
             r->client.size);
}

static void argsz_too_small(struct run *r, const struct check *c)
{
    struct vfio_irq_info info = { .argsz = (uint32_t)c->a };
    enum outcome outcome = try(r, ASK(VFIO_USER_DEVICE_GET_IRQ_INFO, info));
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == SERVED)
        note(r, "argsz %u is served with %zu bytes", info.argsz, r->client.size);
}

static void flags(struct run *r, const struct check *c)
{
    const uint32_t known = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE |
                           VFIO_IRQ_INFO_AUTOMASKED | VFIO_IRQ_INFO_NORESIZE;
    (void)c;
    for (uint32_t i = 0; i < r->facts.irqs; i++) {
        uint32_t flags = r->facts.irq[i].flags;
        if (flags & ~known)
            note(r, "type %u: flags 0x%x have bits that are not known here", i, flags);
        if (r->facts.irq[i].count && !(flags & VFIO_IRQ_INFO_EVENTFD))
            note(r, "type %u has interrupts that no eventfd can signal", i);
    }
}

/* "masks itself after being triggered, and the client must send an UNMASK action" */
static void automasked(struct run *r, const struct check *c)
{
    const uint32_t both = VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
    (void)c;
    for (uint32_t i = 0; i < r->facts.irqs; i++)
        if ((r->facts.irq[i].flags & both) == VFIO_IRQ_INFO_AUTOMASKED)
            fail(r, "type %u: expected AUTOMASKED with MASKABLE, got it alone", i);
}

/* What PCI lets there be. */
static void pci_count(struct run *r, const struct check *c)
{
    uint32_t count = c->a < r->facts.irqs ? r->facts.irq[c->a].count : 0;
    if (count > c->b)
        fail(r, "expected %u interrupts or fewer, got %u", (unsigned)c->b, count);
}

static void twice(struct run *r, const struct check *c)
{
    (void)c;
    for (uint32_t i = 0; i < r->facts.irqs; i++) {
        if (!r->facts.irq[i].argsz)
            continue;
        struct vfio_irq_info info = ask_irq(r, i, sizeof info);
        if (memcmp(&info, &r->facts.irq[i], sizeof info) != 0)
            fail(r, "type %u: expected the same answer to the same question, got two", i);
    }
}

static void no_such(struct run *r, const struct check *c)
{
    uint32_t index = c->b ? (uint32_t)c->a : r->facts.device.num_irqs + (uint32_t)c->a;
    struct vfio_irq_info info = { .argsz = sizeof info, .index = index };
    refused(r, ASK(VFIO_USER_DEVICE_GET_IRQ_INFO, info), EINVAL);
}

static void other_fields(struct run *r, const struct check *c)
{
    struct vfio_irq_info info = { sizeof info, UINT32_MAX, 0, UINT32_MAX };
    (void)c;
    if (try(r, ASK(VFIO_USER_DEVICE_GET_IRQ_INFO, info)) == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
}

static const struct check checks[] = {
    { "irq.answered", "each interrupt type is answered", INFO, answered, 0, 0, 0 },
    { "irq.index", "the reply is about the type that was asked for", INFO ": index", index_echoed,
      0, 0, 0 },
    { "irq.argsz", "the reply has the size that argsz says", INFO ": argsz", argsz, 0, 16, 0 },
    { "irq.argsz-4096", "argsz may be larger than needed", INFO ": argsz", argsz, 0, 4096, 0 },
    { "irq.argsz-max", "argsz may be as large as it gets", INFO ": argsz", argsz, 0, UINT32_MAX,
      0 },
    { "irq.argsz-0", "argsz 0 gets an answer", "Message sizes", argsz_too_small, 0, 0, 0 },
    { "irq.argsz-15", "an argsz that is too small gets an answer", "Message sizes", argsz_too_small,
      0, 15, 0 },
    { "irq.flags", "the flags are known",
      INFO ": flags, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_NORESIZE", flags, 0, 0, 0 },
    { "irq.automasked", "what masks itself can be unmasked",
      INFO ": flags, VFIO_IRQ_INFO_MASKABLE, VFIO_IRQ_INFO_AUTOMASKED", automasked, 0, 0, 0 },
    { "irq.count-intx", "there is at most one INTx", INFO ": count", pci_count, NEED_PCI,
      VFIO_PCI_INTX_IRQ_INDEX, 1 },
    { "irq.count-msi", "there are at most 32 MSIs", INFO ": count", pci_count, NEED_PCI,
      VFIO_PCI_MSI_IRQ_INDEX, 32 },
    { "irq.count-msix", "there are at most 2048 MSI-X", INFO ": count", pci_count, NEED_PCI,
      VFIO_PCI_MSIX_IRQ_INDEX, 2048 },
    { "irq.twice", "the same question gets the same answer", INFO, twice, 0, 0, 0 },
    { "irq.none-next", "the type behind the last is refused", INFO ": index", no_such, 0, 0, 0 },
    { "irq.none-far", "a type far behind the last is refused", INFO ": index", no_such, 0, 1000,
      0 },
    { "irq.none-2g", "type 0x80000000 is refused", INFO ": index", no_such, 0, 0x80000000, 1 },
    { "irq.none-max", "type 0xffffffff is refused", INFO ": index", no_such, 0, UINT32_MAX, 1 },
    { "irq.other-fields", "fields that should be zero do no harm", INFO ": flags, count",
      other_fields, 0, 0, 0 },
};
GROUP(check_irqs, checks);

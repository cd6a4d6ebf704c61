/*
 * device.c - group "device": VFIO_USER_DEVICE_GET_INFO.
 */
#include "check/run.h"

#define INFO "VFIO_USER_DEVICE_GET_INFO"
#define FLAGS_CDX (1u << 8) /* VFIO_DEVICE_FLAGS_CDX, which older headers do not have */

static struct vfio_user_device_info ask_device(struct run *r, uint32_t argsz)
{
    struct vfio_user_device_info info = { .argsz = argsz };
    memcpy(&info, served(r, ASK(VFIO_USER_DEVICE_GET_INFO, info), sizeof info), sizeof info);
    return info;
}

static void argsz(struct run *r, const struct check *c)
{
    struct vfio_user_device_info info = ask_device(r, (uint32_t)c->a);
    if (info.argsz < sizeof info)
        fail(r, "argsz: expected 16 or more, got %u", info.argsz);
    if (r->client.size > c->a)
        fail(r, "expected at most argsz = %u bytes of payload, got %zu", (unsigned)c->a,
             r->client.size);
    if (c->a >= info.argsz && r->client.size != info.argsz)
        fail(r, "expected the %u bytes of payload that argsz says, got %zu", info.argsz,
             r->client.size);
}

/* VFIO refuses it. An answer with all that there is can be understood as well. */
static void argsz_too_small(struct run *r, const struct check *c)
{
    struct vfio_user_device_info info = { .argsz = (uint32_t)c->a };
    enum outcome outcome = try(r, ASK(VFIO_USER_DEVICE_GET_INFO, info));
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == SERVED)
        note(r, "argsz %u is served with %zu bytes", info.argsz, r->client.size);
}

static void flags(struct run *r, const struct check *c)
{
    const uint32_t known = VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI |
                           VFIO_DEVICE_FLAGS_PLATFORM | VFIO_DEVICE_FLAGS_AMBA |
                           VFIO_DEVICE_FLAGS_CCW | VFIO_DEVICE_FLAGS_AP | VFIO_DEVICE_FLAGS_FSL_MC |
                           VFIO_DEVICE_FLAGS_CAPS | FLAGS_CDX;
    uint32_t flags = ask_device(r, sizeof(struct vfio_user_device_info)).flags;
    (void)c;
    if (flags & ~known)
        note(r, "flags 0x%x have bits that are not known here", flags);
}

/* "only supports PCI devices": others are on their way, with the flags that VFIO has for them. */
static void bus(struct run *r, const struct check *c)
{
    const uint32_t buses = VFIO_DEVICE_FLAGS_PCI | VFIO_DEVICE_FLAGS_PLATFORM |
                           VFIO_DEVICE_FLAGS_AMBA | VFIO_DEVICE_FLAGS_CCW | VFIO_DEVICE_FLAGS_AP |
                           VFIO_DEVICE_FLAGS_FSL_MC | FLAGS_CDX;
    uint32_t bus = r->facts.device.flags & buses;
    (void)c;
    if (bus & (bus - 1))
        fail(r, "expected one kind of device, got flags 0x%x", r->facts.device.flags);
    if (bus != VFIO_DEVICE_FLAGS_PCI)
        note(r, "not a PCI device: flags 0x%x", r->facts.device.flags);
}

static void pci_regions(struct run *r, const struct check *c)
{
    (void)c;
    if (r->facts.device.num_regions < VFIO_PCI_NUM_REGIONS)
        fail(r, "expected %u regions or more, got %u", VFIO_PCI_NUM_REGIONS,
             r->facts.device.num_regions);
}

static void pci_irqs(struct run *r, const struct check *c)
{
    (void)c;
    if (r->facts.device.num_irqs < VFIO_PCI_NUM_IRQS)
        note(r, "%u interrupt types, where VFIO has %u for every PCI device",
             r->facts.device.num_irqs, VFIO_PCI_NUM_IRQS);
}

static void twice(struct run *r, const struct check *c)
{
    struct vfio_user_device_info one = ask_device(r, 16), two = ask_device(r, 16);
    (void)c;
    if (memcmp(&one, &two, sizeof one) != 0)
        fail(r, "expected the same answer to the same question, got two");
}

/* "all other fields must be zero": what if they are not? */
static void other_fields(struct run *r, const struct check *c)
{
    struct vfio_user_device_info info = { sizeof info, UINT32_MAX, UINT32_MAX, UINT32_MAX };
    (void)c;
    if (try(r, ASK(VFIO_USER_DEVICE_GET_INFO, info)) == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (r->client.size >= sizeof info &&
        memcmp(r->client.body + 4, &r->facts.device.flags, 12) != 0)
        fail(r, "expected the device's fields in the reply, got others");
}

static const struct check checks[] = {
    { "device.argsz", "the reply has the size that argsz says", INFO ": argsz", argsz, 0, 16, 0 },
    { "device.argsz-17", "argsz may be larger than needed", INFO ": argsz", argsz, 0, 17, 0 },
    { "device.argsz-4096", "argsz may be much larger", INFO ": argsz", argsz, 0, 4096, 0 },
    { "device.argsz-max", "argsz may be as large as it gets", INFO ": argsz", argsz, 0, UINT32_MAX,
      0 },
    { "device.argsz-0", "argsz 0 gets an answer", "Message sizes", argsz_too_small, 0, 0, 0 },
    { "device.argsz-15", "an argsz that is too small gets an answer", "Message sizes",
      argsz_too_small, 0, 15, 0 },
    { "device.flags", "the flags are known", INFO ": flags", flags, 0, 0, 0 },
    { "device.bus", "the flags say what kind of device it is",
      INFO ": flags, VFIO_DEVICE_FLAGS_PCI", bus, 0, 0, 0 },
    { "device.pci-regions", "a PCI device has regions 0 to 8", INFO ": num_regions", pci_regions,
      NEED_PCI, 0, 0 },
    { "device.pci-irqs", "a PCI device has interrupt types 0 to 4", INFO ": num_irqs", pci_irqs,
      NEED_PCI, 0, 0 },
    { "device.twice", "the same question gets the same answer", INFO, twice, 0, 0, 0 },
    { "device.other-fields", "fields that should be zero do no harm",
      INFO ": flags, num_regions, num_irqs", other_fields, 0, 0, 0 },
};
GROUP(check_device, checks);

/*
 * facts.c - the names of what `inspect` shows, and its text.
 */
#include "cli/facts.h"
#include "cli/lspci/lspci.h"
#include <inttypes.h>
#include <string.h>

const struct facts_flag facts_device_flags[] = {
    { VFIO_DEVICE_FLAGS_RESET, "reset" },   { VFIO_DEVICE_FLAGS_PCI, "pci" },
    { VFIO_DEVICE_FLAGS_PLATFORM, "platform" }, { VFIO_DEVICE_FLAGS_AMBA, "amba" },
    { VFIO_DEVICE_FLAGS_CCW, "ccw" },       { VFIO_DEVICE_FLAGS_AP, "ap" },
    { VFIO_DEVICE_FLAGS_FSL_MC, "fsl-mc" }, { VFIO_DEVICE_FLAGS_CAPS, "caps" },
    { 0, NULL },
};

const struct facts_flag facts_region_flags[] = {
    { VFIO_REGION_INFO_FLAG_READ, "read" },
    { VFIO_REGION_INFO_FLAG_WRITE, "write" },
    { VFIO_REGION_INFO_FLAG_MMAP, "mmap" },
    { VFIO_REGION_INFO_FLAG_CAPS, "caps" },
    { 0, NULL },
};

const struct facts_flag facts_irq_flags[] = {
    { VFIO_IRQ_INFO_EVENTFD, "eventfd" },
    { VFIO_IRQ_INFO_MASKABLE, "maskable" },
    { VFIO_IRQ_INFO_AUTOMASKED, "automasked" },
    { VFIO_IRQ_INFO_NORESIZE, "noresize" },
    { 0, NULL },
};

const struct facts_flag facts_migration_flags[] = {
    { VFIO_MIGRATION_STOP_COPY, "stop-copy" },
    { VFIO_MIGRATION_P2P, "p2p" },
    { 1u << 2, "pre-copy" }, /* VFIO_MIGRATION_PRE_COPY, in newer headers */
    { 0, NULL },
};

uint64_t facts_size(const struct facts *f, uint32_t region)
{
    if (region >= f->device.num_regions || !f->regions[region].region)
        return 0;
    return f->regions[region].region->size;
}

/* A region that says what the device is: each of a platform device does, but an answer may be missing. */
static const struct ob_region *platform_region(const struct facts *f)
{
    for (uint32_t i = 0; i < f->device.num_regions; i++)
        if (f->regions[i].region && f->regions[i].region->compatible.count)
            return f->regions[i].region;
    return NULL;
}

const struct ob_strings *facts_compatible(const struct facts *f)
{
    static const struct ob_strings none;
    const struct ob_region *r = platform_region(f);
    return r ? &r->compatible : &none;
}

static const char *pci_name(const struct facts *f, const char *const *names, size_t count,
                            uint32_t index)
{
    return (f->device.flags & VFIO_DEVICE_FLAGS_PCI) && index < count ? names[index] : NULL;
}

const char *facts_region_name(const struct facts *f, uint32_t index)
{
    static const char *const names[] = { "BAR0", "BAR1", "BAR2",   "BAR3", "BAR4",
                                         "BAR5", "ROM",  "config", "VGA" };
    const struct ob_region *r = f->regions[index].region;
    return r && r->name ? r->name : pci_name(f, names, sizeof(names) / sizeof(names[0]), index);
}

const char *facts_irq_name(const struct facts *f, uint32_t index)
{
    static const char *const names[] = { "INTx", "MSI", "MSI-X", "ERR", "REQ" };
    const struct ob_region *r = platform_region(f);
    if (r)
        return ob_strings_get(&r->irq_names, index);
    return pci_name(f, names, sizeof(names) / sizeof(names[0]), index);
}

/* "read write", and bits without a name as a number; "-" for none. */
static void print_flags(FILE *out, uint64_t value, const struct facts_flag *flags)
{
    const char *space = "";
    for (; flags->name; flags++) {
        if (!(value & flags->bit))
            continue;
        fprintf(out, "%s%s", space, flags->name);
        value &= ~flags->bit;
        space = " ";
    }
    if (value)
        fprintf(out, "%s%#" PRIx64, space, value);
    else if (!*space)
        fprintf(out, "-");
}

static void print_areas(FILE *out, const struct ob_region *r)
{
    for (uint32_t i = 0; i < r->areas_count; i++)
        fprintf(out, "      mmap area %#" PRIx64 " size %#" PRIx64 "\n",
                (uint64_t)r->areas[i].offset, (uint64_t)r->areas[i].size);
}

static void print_regions(FILE *out, const struct facts *f)
{
    fprintf(out, "Regions:\n");
    for (uint32_t i = 0; i < f->device.num_regions; i++) {
        const struct ob_region *r = f->regions[i].region;
        const char *name = facts_region_name(f, i);
        if (r && r->size == 0)
            continue;
        fprintf(out, "  %3u %-7s ", i, name ? name : "");
        if (!r) {
            fprintf(out, "refused: %s\n", strerror(-f->regions[i].error));
            continue;
        }
        fprintf(out, "size %#-10" PRIx64 " ", r->size);
        print_flags(out, r->flags, facts_region_flags);
        if (r->has_type)
            fprintf(out, " type %#x subtype %#x", r->type, r->subtype);
        fputc('\n', out);
        print_areas(out, r);
    }
}

static void print_irqs(FILE *out, const struct facts *f)
{
    fprintf(out, "Interrupts:\n");
    for (uint32_t i = 0; i < f->device.num_irqs; i++) {
        const struct irq_fact *irq = &f->irqs[i];
        const char *name = facts_irq_name(f, i);
        if (!irq->error && irq->info.count == 0)
            continue;
        fprintf(out, "  %3u %-7s ", i, name ? name : "");
        if (irq->error) {
            fprintf(out, "refused: %s\n", strerror(-irq->error));
            continue;
        }
        fprintf(out, "count %-9u ", irq->info.count);
        print_flags(out, irq->info.flags, facts_irq_flags);
        fputc('\n', out);
    }
}

static void print_compatible(FILE *out, const struct facts *f)
{
    const char *name;

    if (!facts_compatible(f)->count)
        return;
    fprintf(out, "Compatible:");
    for (unsigned i = 0; (name = ob_strings_get(facts_compatible(f), i)); i++)
        fprintf(out, " %s", name);
    fputc('\n', out);
}

void facts_print(FILE *out, const struct facts *f)
{
    const struct ob_capabilities *s = &f->server;
    fprintf(out, "Server: %s\n", f->socket);
    fprintf(out, "Protocol: vfio-user %u.%u\n", s->major, s->minor);
    fprintf(out, "Limits: max_msg_fds %u, max_data_xfer_size %u, max_dma_maps %u, "
                 "pgsizes %#" PRIx64 ", write_multiple %s\n",
            s->max_msg_fds, s->max_data_xfer_size, s->max_dma_maps, s->pgsizes,
            s->write_multiple ? "yes" : "no");
    fprintf(out, "Device: ");
    print_flags(out, f->device.flags, facts_device_flags);
    fputc('\n', out);
    print_compatible(out, f);
    print_regions(out, f);
    print_irqs(out, f);
    fprintf(out, "Migration: ");
    if (f->migrates)
        print_flags(out, f->migration, facts_migration_flags);
    else
        fprintf(out, "no");
    fputc('\n', out);

    if (!f->config.size)
        return;
    uint64_t size[CONFIG_ADDRESSES];
    for (uint32_t i = 0; i < CONFIG_ADDRESSES; i++)
        size[i] = facts_size(f, i);
    fprintf(out, "Config space: %u bytes\n", f->config.size);
    lspci_print(out, &f->config, size);
}

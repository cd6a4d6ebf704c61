/*
 * facts_json.c - what `inspect` shows, for machines. outboard-inspect(1) documents the keys.
 */
#include "cli/facts.h"
#include "cli/json.h"
#include "cli/lspci/names.h"
#include <errno.h>
#include <json-c/json.h>
#include <linux/pci_regs.h>
#include <string.h>

/* The names of set bits; a bit without a name is left out, the number beside the list has it. */
static void put_flags(struct builder *b, json *object, const char *key, uint64_t value,
                      const struct facts_flag *flags)
{
    json *list = json_object_new_array();
    for (; flags->name; flags++)
        if (value & flags->bit)
            append(b, list, json_object_new_string(flags->name));
    put(b, object, key, list);
}

static void put_hex(struct builder *b, json *object, const char *key, const uint8_t *bytes,
                    uint32_t n)
{
    static const char digits[] = "0123456789abcdef";
    char text[2 * CONFIG_EXTENDED_SIZE];
    for (uint32_t i = 0; i < n; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    put(b, object, key, json_object_new_string_len(text, (int)(2 * n)));
}

static json *protocol(struct builder *b, const struct ob_capabilities *s)
{
    json *o = json_object_new_object();
    put_number(b, o, "major", s->major);
    put_number(b, o, "minor", s->minor);
    put_number(b, o, "max_msg_fds", s->max_msg_fds);
    put_number(b, o, "max_data_xfer_size", s->max_data_xfer_size);
    put_number(b, o, "max_dma_maps", s->max_dma_maps);
    put_number(b, o, "pgsizes", s->pgsizes);
    put_bool(b, o, "write_multiple", s->write_multiple);
    return o;
}

static json *numbered(struct builder *b, uint32_t index, const char *name, int error)
{
    json *o = json_object_new_object();
    put_number(b, o, "index", index);
    if (name)
        put_text(b, o, "name", name);
    if (error)
        put_text(b, o, "error", strerror(-error));
    return o;
}

static json *region(struct builder *b, const struct facts *f, uint32_t index)
{
    const struct ob_region *r = f->regions[index].region;
    json *o = numbered(b, index, facts_region_name(f, index), f->regions[index].error);
    if (!r)
        return o;
    put_number(b, o, "size", r->size);
    put_flags(b, o, "flags", r->flags, facts_region_flags);
    if (r->has_type) {
        put_number(b, o, "type", r->type);
        put_number(b, o, "subtype", r->subtype);
    }
    if (!r->has_areas)
        return o;
    json *areas = json_object_new_array();
    for (uint32_t i = 0; i < r->areas_count; i++) {
        json *area = json_object_new_object();
        put_number(b, area, "offset", r->areas[i].offset);
        put_number(b, area, "size", r->areas[i].size);
        append(b, areas, area);
    }
    put(b, o, "areas", areas);
    return o;
}

static json *interrupt(struct builder *b, const struct facts *f, uint32_t index)
{
    const struct irq_fact *irq = &f->irqs[index];
    json *o = numbered(b, index, facts_irq_name(f, index), irq->error);
    if (irq->error)
        return o;
    put_number(b, o, "count", irq->info.count);
    put_flags(b, o, "flags", irq->info.flags, facts_irq_flags);
    return o;
}

static json *bar(struct builder *b, unsigned index, const struct config_bar *bar)
{
    json *o = json_object_new_object();
    if (index == CONFIG_ROM)
        put_text(b, o, "kind", "rom");
    else
        put_text(b, o, "kind", bar->io ? "io" : bar->is64 ? "mem64" : "mem32");
    put_number(b, o, "index", index);
    put_bool(b, o, "prefetchable", bar->prefetchable);
    put_bool(b, o, "enabled", bar->enabled);
    put_number(b, o, "address", bar->address);
    put_number(b, o, "size", bar->size);
    return o;
}

static void put_msi(struct builder *b, json *o, const struct config *c, uint32_t at)
{
    struct config_msi msi;
    config_msi(c, at, &msi);
    put_bool(b, o, "enabled", msi.enabled);
    put_number(b, o, "vectors", msi.capable);
    put_number(b, o, "allocated", msi.allocated);
    put_bool(b, o, "maskable", msi.maskable);
    put_bool(b, o, "64bit", msi.is64);
}

static void put_msix(struct builder *b, json *o, const struct config *c, uint32_t at)
{
    struct config_msix msix;
    if (!config_msix(c, at, &msix))
        return;
    put_bool(b, o, "enabled", msix.enabled);
    put_bool(b, o, "masked", msix.masked);
    put_number(b, o, "vectors", msix.count);
    put_number(b, o, "table_bar", msix.table_bar);
    put_number(b, o, "table_offset", msix.table);
    put_number(b, o, "pba_bar", msix.pba_bar);
    put_number(b, o, "pba_offset", msix.pba);
}

static json *capability(struct builder *b, const struct config *c,
                        const struct config_capability *cap)
{
    json *o = json_object_new_object();
    put_number(b, o, "offset", cap->at);
    put_bool(b, o, "extended", cap->extended);
    if (cap->fault) {
        put_text(b, o, "fault", cap->fault);
        return o;
    }
    put_number(b, o, "id", cap->id);
    const char *name = name_of_capability(cap->id, cap->extended);
    if (name)
        put_text(b, o, "name", name);
    if (cap->extended)
        put_number(b, o, "version", cap->version);
    else if (cap->id == PCI_CAP_ID_MSI)
        put_msi(b, o, c, cap->at);
    else if (cap->id == PCI_CAP_ID_MSIX)
        put_msix(b, o, c, cap->at);
    return o;
}

static json *config_space(struct builder *b, const struct facts *f)
{
    const struct config *c = &f->config;
    json *o = json_object_new_object();
    put_number(b, o, "vendor", config_u16(c, PCI_VENDOR_ID));
    put_number(b, o, "device", config_u16(c, PCI_DEVICE_ID));
    put_number(b, o, "subsystem_vendor", config_u16(c, PCI_SUBSYSTEM_VENDOR_ID));
    put_number(b, o, "subsystem", config_u16(c, PCI_SUBSYSTEM_ID));
    put_number(b, o, "class", config_u32(c, PCI_CLASS_REVISION) >> 8);
    put_text(b, o, "class_name", name_of_class(config_u16(c, PCI_CLASS_DEVICE)));
    put_number(b, o, "revision", config_u8(c, PCI_REVISION_ID));
    put_number(b, o, "command", config_u16(c, PCI_COMMAND));
    put_number(b, o, "status", config_u16(c, PCI_STATUS));
    put_number(b, o, "interrupt_pin", config_u8(c, PCI_INTERRUPT_PIN));

    uint64_t size[CONFIG_ADDRESSES];
    struct config_bar bars[CONFIG_ADDRESSES];
    for (uint32_t i = 0; i < CONFIG_ADDRESSES; i++)
        size[i] = facts_size(f, i);
    config_bars(c, size, bars);
    json *list = json_object_new_array();
    for (unsigned i = 0; i < CONFIG_ADDRESSES; i++)
        if (bars[i].present)
            append(b, list, bar(b, i, &bars[i]));
    put(b, o, "bars", list);

    struct config_capabilities found;
    config_find_capabilities(c, &found);
    list = json_object_new_array();
    for (unsigned i = 0; i < found.count; i++)
        append(b, list, capability(b, c, &found.list[i]));
    put(b, o, "capabilities", list);
    put_hex(b, o, "bytes", c->bytes, c->size);
    return o;
}

int facts_print_json(FILE *out, const struct facts *f)
{
    struct builder b = { false };
    json *o = json_object_new_object();
    put_text(&b, o, "socket", f->socket);
    put(&b, o, "protocol", protocol(&b, &f->server));
    put_flags(&b, o, "device", f->device.flags, facts_device_flags);

    if (facts_compatible(f)->count) {
        json *compatible = json_object_new_array();
        const char *name;
        for (unsigned i = 0; (name = ob_strings_get(facts_compatible(f), i)); i++)
            append(&b, compatible, json_object_new_string(name));
        put(&b, o, "compatible", compatible);
    }

    json *regions = json_object_new_array();
    for (uint32_t i = 0; i < f->device.num_regions; i++)
        append(&b, regions, region(&b, f, i));
    put(&b, o, "regions", regions);

    json *irqs = json_object_new_array();
    for (uint32_t i = 0; i < f->device.num_irqs; i++)
        append(&b, irqs, interrupt(&b, f, i));
    put(&b, o, "interrupts", irqs);

    json *migration = json_object_new_object();
    put_bool(&b, migration, "supported", f->migrates);
    if (f->migrates)
        put_flags(&b, migration, "flags", f->migration, facts_migration_flags);
    put(&b, o, "migration", migration);
    if (f->config.size)
        put(&b, o, "config", config_space(&b, f));

    return json_print(&b, o, out);
}

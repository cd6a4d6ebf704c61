/*
 * config.c - the header of PCI config space (type 0) and what writes to it do.
 *
 * PCI Local Bus 3.0 chapter 6. Which bits a client may write is a mask, made once; the rest of
 * config space never changes. BARs answer sizing by the mask alone. What follows from a write
 * (INTx disable, MSI-X function mask, function level reset) is looked up after it.
 */
#include "server/pci/config.h"
#include "server/pci/capability.h"
#include "server/irq.h"
#include "server/pci/le.h"
#include "server/reset.h"

#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

/* Behind this, config space is zero and nobody may write it. */
#define CONFIG_USED 256u

static bool has_bar(const struct ob_plugin *plugin, bool io)
{
    for (int i = 0; i < 6; i++)
        if (plugin->bar[i].size && (plugin->bar[i].kind == OB_BAR_IO) == io)
            return true;
    return false;
}

static uint32_t bar_type(const struct ob_bar *bar)
{
    if (bar->kind == OB_BAR_IO)
        return PCI_BASE_ADDRESS_SPACE_IO;
    return (bar->kind == OB_BAR_MEM64 ? PCI_BASE_ADDRESS_MEM_TYPE_64 : 0) |
           (bar->prefetchable ? PCI_BASE_ADDRESS_MEM_PREFETCH : 0);
}

static void header_mask(const struct ob_plugin *plugin, uint8_t *mask)
{
    put16(mask + PCI_COMMAND,
          (uint16_t)((has_bar(plugin, true) ? PCI_COMMAND_IO : 0) |
                     (has_bar(plugin, false) ? PCI_COMMAND_MEMORY : 0) | PCI_COMMAND_MASTER |
                     PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
                     (plugin->irq.intx ? PCI_COMMAND_INTX_DISABLE : 0)));
    mask[PCI_CACHE_LINE_SIZE] = 0xff;
    mask[PCI_LATENCY_TIMER] = plugin->pci.express ? 0 : 0xff;
    mask[PCI_INTERRUPT_LINE] = 0xff;
    for (int i = 0; i < 6; i++) {
        const struct ob_bar *bar = &plugin->bar[i];
        if (!bar->size)
            continue;
        uint64_t bits = ~(bar->size - 1);
        put32(mask + PCI_BASE_ADDRESS_0 + 4 * i, (uint32_t)bits);
        if (bar->kind == OB_BAR_MEM64)
            put32(mask + PCI_BASE_ADDRESS_0 + 4 * i + 4, (uint32_t)(bits >> 32));
    }
}

static void header_reset(const struct ob_plugin *plugin, uint8_t *config)
{
    const struct ob_pci *pci = &plugin->pci;

    put16(config + PCI_VENDOR_ID, pci->vendor);
    put16(config + PCI_DEVICE_ID, pci->device);
    put32(config + PCI_CLASS_REVISION, pci->class_code << 8 | pci->revision);
    for (int i = 0; i < 6; i++)
        if (plugin->bar[i].size)
            put32(config + PCI_BASE_ADDRESS_0 + 4 * i, bar_type(&plugin->bar[i]));
    put16(config + PCI_SUBSYSTEM_VENDOR_ID,
          pci->subsystem_vendor ? pci->subsystem_vendor : pci->vendor);
    put16(config + PCI_SUBSYSTEM_ID, pci->subsystem ? pci->subsystem : pci->device);
    config[PCI_INTERRUPT_PIN] = plugin->irq.intx ? 1 : 0;
}

int config_describe(struct ob_device *dev)
{
    dev->config_size = dev->plugin->pci.express ? 4096 : 256;
    dev->config_mask = calloc(1, dev->config_size);
    if (!dev->config_mask)
        return -ENOMEM;
    header_mask(dev->plugin, dev->config_mask);
    return capability_describe(dev);
}

void config_reset(struct ob_device *dev)
{
    server_touch(dev, dev->config, CONFIG_USED);
    memset(dev->config, 0, CONFIG_USED);
    header_reset(dev->plugin, dev->config);
    capability_reset(dev);
}

bool config_bus_master(const struct ob_device *dev)
{
    return get16(dev->config + PCI_COMMAND) & PCI_COMMAND_MASTER;
}

bool config_intx_disabled(const struct ob_device *dev)
{
    return get16(dev->config + PCI_COMMAND) & PCI_COMMAND_INTX_DISABLE;
}

bool config_msix_masked(const struct ob_device *dev)
{
    return dev->cap_msix &&
           (get16(dev->config + dev->cap_msix + PCI_MSIX_FLAGS) & PCI_MSIX_FLAGS_MASKALL);
}

void config_read(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    memcpy(buf, dev->config + at, n);
    /* The only bit that is alive: does the function assert INTx? */
    if (dev->irqs->level[IRQ_INTX] && at <= PCI_STATUS && PCI_STATUS < at + n)
        ((uint8_t *)buf)[PCI_STATUS - at] |= PCI_STATUS_INTERRUPT;
}

int config_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    const uint8_t *bytes = buf;
    uint16_t command = get16(dev->config + PCI_COMMAND);
    bool msix_masked = config_msix_masked(dev);

    if (dev->cap_express && capability_function_reset(dev, at, buf, n))
        return server_reset(dev);

    server_touch(dev, dev->config + at, n);
    for (size_t i = 0; i < n; i++) {
        uint8_t mask = dev->config_mask[at + i];
        dev->config[at + i] = (uint8_t)((dev->config[at + i] & ~mask) | (bytes[i] & mask));
    }

    uint16_t changed = command ^ get16(dev->config + PCI_COMMAND);
    if (changed & PCI_COMMAND_INTX_DISABLE)
        irq_look_again(dev, IRQ_INTX);
    if (msix_masked && !config_msix_masked(dev))
        irq_msix_unmasked(dev);
    if ((changed & PCI_COMMAND_MASTER) && dev->plugin->irq_changed && !server_stopped(dev)) {
        server_enter(dev);
        dev->plugin->irq_changed(dev);
    }
    return 0;
}

int config_access(struct ob_device *dev, uint64_t at, void *in, const void *out, size_t n)
{
    if (in) {
        config_read(dev, at, in, n);
        return 1;
    }
    int ret = config_write(dev, at, out, n);
    return ret < 0 ? ret : 1;
}

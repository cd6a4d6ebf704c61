/*
 * config.h - PCI config space: made from the plugin's declaration, kept in the block.
 */
#ifndef PCI_CONFIG_H
#define PCI_CONFIG_H

#include "server/device.h"

/* Size, capability offsets and writable bits: the same for every device of a plugin. 0 or -errno. */
int config_describe(struct ob_device *dev);

/* Puts config space to its state after a reset. Inside a step. */
void config_reset(struct ob_device *dev);

/* Accesses by the client, inside a step; at + n is within config_size. */
void config_read(struct ob_device *dev, uint64_t at, void *buf, size_t n);
int config_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n);

/* An access to the region that it is, see struct region. */
int config_access(struct ob_device *dev, uint64_t at, void *in, const void *out, size_t n);

bool config_bus_master(const struct ob_device *dev);
bool config_intx_disabled(const struct ob_device *dev);
bool config_msix_masked(const struct ob_device *dev); /* by the function mask */

#endif

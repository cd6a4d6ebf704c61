/*
 * msix.h - the MSI-X table and pending bits, as the guest sees them in a BAR.
 */
#ifndef PCI_MSIX_H
#define PCI_MSIX_H

#include "server/device.h"

/* An access to their BAR, see struct region. */
int msix_access(struct ob_device *dev, uint64_t at, void *in, const void *out, size_t n);

void msix_reset(struct ob_device *dev);

#endif

/*
 * capability.h - the PCI capabilities that the framework provides, behind the header.
 */
#ifndef PCI_CAPABILITY_H
#define PCI_CAPABILITY_H

#include "server/device.h"

int capability_describe(struct ob_device *dev); /* -ENOSPC: more than config space holds */
void capability_reset(struct ob_device *dev);   /* on config space that is zero and touched */

/* Does this write set Initiate Function Level Reset? */
bool capability_function_reset(const struct ob_device *dev, uint64_t at, const void *buf, size_t n);

#endif

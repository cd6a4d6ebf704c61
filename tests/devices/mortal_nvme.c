/*
 * mortal_nvme.c - the NVMe disk, which dies of a write to a register that it does not have.
 *
 * Linked with --wrap: what the disk's own code calls registers_write() is here.
 */
#include "nvme.h"

#define DEADLY 0xff8 /* reserved */

int __real_registers_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n);
int __wrap_registers_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n);

int __wrap_registers_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    if (at == DEADLY)
        __builtin_trap();
    return __real_registers_write(dev, at, buf, n);
}

/*
 * qemu.h - which QEMU to run, and how it runs guests.
 */
#ifndef VM_QEMU_H
#define VM_QEMU_H

#include "vm/vm.h"
#include <limits.h>

/* The oldest QEMU that has vfio-user-pci. */
#define VM_QEMU_MAJOR 10
#define VM_QEMU_MINOR 1

/* The path from $OUTBOARD_QEMU, or else qemu-system-x86_64 as $PATH has it. 0, or -ENOENT with the
 * reason in `why`; then `path` is a name that may do elsewhere. */
int vm_find_qemu(char path[PATH_MAX], char why[VM_WHY_SIZE]);

/* Runs `path --version`, for at most 10 s. 0, or a negative errno and the reason in `why`. */
int vm_check_qemu(const char *path, char why[VM_WHY_SIZE]);

/* Reads the number out of what QEMU says for --version. false: that is not QEMU. */
bool vm_parse_qemu_version(const char *text, unsigned *major, unsigned *minor);

/* "kvm" or "tcg": what $OUTBOARD_ACCEL says, or else KVM if it runs an instruction here. NULL, and
 * the reason in `why`: $OUTBOARD_ACCEL is neither. */
const char *vm_accelerator(char why[VM_WHY_SIZE]);

/* Does /dev/kvm run a small guest as it should? Takes a few ms, or 2 s where a guest hangs. */
bool vm_kvm_works(void);

#endif

/*
 * lspci.h - prints a config space the way `lspci -vvv -nn` does (pciutils 3.9).
 *
 * What lspci takes from the host (slot, driver, IOMMU group, names of vendors) is left out.
 */
#ifndef LSPCI_H
#define LSPCI_H

#include "cli/lspci/config.h"
#include <stddef.h>
#include <stdio.h>

/* All of it; size[i] is the size of region i, 0 for none. Prints nothing for an empty space. */
void lspci_print(FILE *out, const struct config *c, const uint64_t size[CONFIG_ADDRESSES]);

/* ---- The parts, for the files of this folder ------------------------------------------------ */

struct lspci_flag {
    const char *name;
    uint32_t bit;
};

/* "Mem+ BusMaster-", without spaces around. */
void lspci_flags(FILE *out, uint32_t value, const struct lspci_flag *flags, size_t count);
#define LSPCI_FLAGS(out, value, ...)                                                  \
    lspci_flags(out, value, (const struct lspci_flag[]){ __VA_ARGS__ },               \
                sizeof((const struct lspci_flag[]){ __VA_ARGS__ }) / sizeof(struct lspci_flag))

/* A number that has a word: words[value], or `other` from `count` on and for NULL. */
const char *lspci_word(const char *const *words, size_t count, uint32_t value, const char *other);
#define LSPCI_WORD(words, value, other) \
    lspci_word(words, sizeof(words) / sizeof((words)[0]), value, other)

/* One capability, from its name to the end of its lines. */
void lspci_capability(FILE *out, const struct config *c, const struct config_capability *cap);
void lspci_express(FILE *out, const struct config *c, uint32_t at);

#endif

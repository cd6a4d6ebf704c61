/*
 * names.h - what the numbers of a config space are called, in the words that lspci uses.
 */
#ifndef LSPCI_NAMES_H
#define LSPCI_NAMES_H

#include <stdbool.h>
#include <stdint.h>

/* The name of a class (base class << 8 | subclass), or of its base class, or "Class". */
const char *name_of_class(uint16_t class);

/* The name of a programming interface of a class, or NULL. */
const char *name_of_interface(uint16_t class, uint8_t interface);

/* NULL: not known. */
const char *name_of_capability(uint16_t id, bool extended);

#endif

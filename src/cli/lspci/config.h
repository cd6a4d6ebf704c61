/*
 * config.h - a copy of a device's PCI config space, and what is found in it.
 *
 * The bytes come from a peer and may be anything: all access is bounded by `size`, and every chain
 * of capabilities ends. Offsets and sizes are in bytes. Nothing here allocates or fails.
 * Sections are those of the PCI Local Bus Specification 3.0 and PCI Express Base Specification 4.0.
 */
#ifndef LSPCI_CONFIG_H
#define LSPCI_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#define CONFIG_SPACE_SIZE 256u
#define CONFIG_EXTENDED_SIZE 4096u

struct config {
    uint8_t bytes[CONFIG_EXTENDED_SIZE];
    uint32_t size; /* bytes that are there, 0 to CONFIG_EXTENDED_SIZE */
};

bool config_has(const struct config *c, uint32_t at, uint32_t n);

/* Little-endian numbers; 0 where they are not all there. */
uint8_t config_u8(const struct config *c, uint32_t at);
uint16_t config_u16(const struct config *c, uint32_t at);
uint32_t config_u32(const struct config *c, uint32_t at);

struct config_capability {
    uint16_t at;
    uint16_t id;
    uint8_t version;   /* of an extended one; 0 otherwise */
    bool extended;     /* from the chain at 0x100 */
    const char *fault; /* why its chain ends here ("chain looped"), without an id; or NULL */
};

/* Each takes at least 4 bytes, and no place is visited twice; a chain may end in a fault. */
#define CONFIG_MAX_CAPABILITIES ((CONFIG_EXTENDED_SIZE - 64) / 4 + 2)

struct config_capabilities {
    struct config_capability list[CONFIG_MAX_CAPABILITIES];
    unsigned count;
};

/* Both chains, in their order. */
void config_find_capabilities(const struct config *c, struct config_capabilities *found);

/* Base address registers of a type 0 header; the last is the expansion ROM. */
enum { CONFIG_BARS = 6, CONFIG_ROM = 6, CONFIG_ADDRESSES = 7 };

struct config_bar {
    bool present;      /* false also for the upper half of a 64-bit one */
    bool io;
    bool is64;
    bool halved;       /* a 64-bit one that has no register for its upper half */
    bool prefetchable;
    uint8_t type;      /* bits 2-1 of a memory BAR */
    bool enabled;      /* by the command register, and for the ROM by its own bit */
    uint64_t address;
    uint64_t size;     /* 0: not known */
};

/* size[i] is the size of region i as the server gave it. */
void config_bars(const struct config *c, const uint64_t size[CONFIG_ADDRESSES],
                 struct config_bar bars[CONFIG_ADDRESSES]);

/* The capabilities that are more than listed. false: it is not all there. */

struct config_msi { /* PCI 6.8.1 */
    bool enabled, is64, maskable;
    uint16_t capable, allocated; /* vectors, 1 to 128 */
    uint64_t address;
    uint16_t data;
    uint32_t mask, pending;
};
bool config_msi(const struct config *c, uint32_t at, struct config_msi *msi);

struct config_msix { /* PCI 6.8.2 */
    bool enabled, masked;
    uint16_t count; /* vectors, 1 to 2048 */
    uint8_t table_bar, pba_bar;
    uint32_t table, pba; /* offsets in them */
};
bool config_msix(const struct config *c, uint32_t at, struct config_msix *msix);

#endif

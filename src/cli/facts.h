/*
 * facts.h - what `inspect` learns from a server, and its two ways to say it.
 */
#ifndef CLI_FACTS_H
#define CLI_FACTS_H

#include "cli/lspci/config.h"
#include <outboard/client.h>
#include <stdio.h>

#define FACTS_MAX_REGIONS 256u /* what ob_client_device_info() lets through */
#define FACTS_MAX_IRQS 64u

/* One answer about an index. `error` is a negative errno when the server refused it, or 0. */
struct region_fact {
    struct ob_region *region; /* NULL if refused; owned by the facts */
    int error;
};
struct irq_fact {
    struct vfio_irq_info info;
    int error;
};

struct facts {
    const char *socket;
    struct ob_capabilities server;
    struct vfio_user_device_info device;
    struct region_fact regions[FACTS_MAX_REGIONS];
    struct irq_fact irqs[FACTS_MAX_IRQS];
    struct config config; /* what could be read of it; empty for a device that is not PCI */
    bool migrates;
    uint64_t migration; /* VFIO_MIGRATION_*, if it does */
};

/* The size of region i of a PCI device, 0 where there is none. */
uint64_t facts_size(const struct facts *f, uint32_t region);

/* "BAR0", "INTx", ..., or what a platform device calls it; NULL where the index has no name. */
const char *facts_region_name(const struct facts *f, uint32_t index);
const char *facts_irq_name(const struct facts *f, uint32_t index);

/* What a platform device is compatible with; empty for others. */
const struct ob_strings *facts_compatible(const struct facts *f);

/* A bit of a flag word and its name; lists end with a NULL name. */
struct facts_flag {
    uint64_t bit;
    const char *name;
};
extern const struct facts_flag facts_device_flags[], facts_region_flags[], facts_irq_flags[],
    facts_migration_flags[];

void facts_print(FILE *out, const struct facts *f);
int facts_print_json(FILE *out, const struct facts *f); /* 0 or -ENOMEM */

#endif

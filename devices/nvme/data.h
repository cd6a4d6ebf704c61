/*
 * data.h - where in guest memory a command's data lies: PRP entries or an SGL, as a list of ranges.
 */
#ifndef NVME_DATA_H
#define NVME_DATA_H

#include "nvme.h"

struct data {
    uint32_t count;
    struct range {
        uint64_t address;
        uint64_t size; /* bytes, not 0 */
    } range[RANGES]; /* neighbours in memory are joined */
};

/*
 * Reads the list, once (SC_FAR: it cannot be read at once). Everything in it is the guest's and is checked here, but not whether the
 * ranges are guest memory. length: bytes, at most TRANSFER. Returns a status.
 */
uint16_t data_map(struct ob_device *dev, const struct nvme_command *c, uint64_t length,
                  struct data *d);

/* Pins all ranges. Returns the number of pieces, or -errno as ob_memory_get() with nothing pinned. */
int data_get(struct ob_device *dev, const struct data *d, unsigned access, struct iovec *iov,
             int max);
void data_put(struct ob_device *dev, const struct data *d, unsigned access);

/* Small data, copied at once. A status, or SC_FAR. */
uint16_t data_to_guest(struct ob_device *dev, const struct nvme_command *c, const void *buf,
                       uint32_t n);
uint16_t data_from_guest(struct ob_device *dev, const struct nvme_command *c, void *buf, uint32_t n);

#endif

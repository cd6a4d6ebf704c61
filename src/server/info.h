/*
 * info.h - what the device is: VERSION, DEVICE_GET_INFO, GET_REGION_INFO, GET_IRQ_INFO.
 *
 * A reply that does not fit the client's argsz is cut to its fixed part, and tells the size needed.
 */
#ifndef SERVER_INFO_H
#define SERVER_INFO_H

#include "server/device.h"

/* Capabilities of a region, behind the fixed part of the reply. */
struct capabilities {
    uint8_t *body; /* of the reply */
    uint32_t size; /* so far, the fixed part included */
    void *next;    /* where the offset of the next one goes; perhaps unaligned */
};

/* Adds one of `size` bytes (a multiple of 8), its header included, all zero behind that. Where it goes on. */
uint8_t *info_add_capability(struct capabilities *c, uint16_t id, uint32_t size);

int info_version(struct ob_device *dev, const struct wire_message *m, struct reply *reply);
int info_device(struct ob_device *dev, const struct wire_message *m, struct reply *reply);
int info_region(struct ob_device *dev, const struct wire_message *m, struct reply *reply);
int info_irq(struct ob_device *dev, const struct wire_message *m, struct reply *reply);

#endif

/*
 * info.h - what the device is: VERSION, DEVICE_GET_INFO, GET_REGION_INFO, GET_IRQ_INFO.
 *
 * A reply that does not fit the client's argsz is cut to its fixed part, and tells the size needed.
 */
#ifndef SERVER_INFO_H
#define SERVER_INFO_H

#include "server/device.h"

int info_version(struct ob_device *dev, const struct wire_message *m, struct reply *reply);
int info_device(struct ob_device *dev, const struct wire_message *m, struct reply *reply);
int info_region(struct ob_device *dev, const struct wire_message *m, struct reply *reply);
int info_irq(struct ob_device *dev, const struct wire_message *m, struct reply *reply);

#endif

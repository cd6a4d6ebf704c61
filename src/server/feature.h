/*
 * feature.h - VFIO_USER_DEVICE_FEATURE: what features there are, and who serves them. Inside a step.
 */
#ifndef SERVER_FEATURE_H
#define SERVER_FEATURE_H

#include "server/device.h"

int feature(struct ob_device *dev, const struct wire_message *m, struct reply *reply);

#endif

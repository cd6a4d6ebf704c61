/*
 * reset.h - VFIO_USER_DEVICE_RESET and the function level reset of PCI Express. Inside a step.
 */
#ifndef SERVER_RESET_H
#define SERVER_RESET_H

#include "server/device.h"

int server_reset(struct ob_device *dev); /* 0, or -EINPROGRESS: I/O is under way, again later */
void server_power_on(struct ob_device *dev); /* a new device: the block is zero */

#endif

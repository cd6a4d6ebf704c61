/*
 * twin.h - the twin socket: commands to the client, and their replies, on a socket of their own.
 *
 * Where a client offers it (section "VFIO_USER_VERSION"), it gets one end of a socket pair with the
 * reply. Replies on it carry no descriptors, so they are read, not looked at: straight to where their
 * data belongs, by counted reads. Commands are written from the transfers that they are part of. So
 * nothing of a message is in the block besides how far it has come, and a successor goes on in the middle.
 */
#ifndef SERVER_TWIN_H
#define SERVER_TWIN_H

#include "server/device.h"

/* Makes the sockets, keeps both, and watches ours. Inside a step, before the reply to VERSION. 0 or
 * -errno. */
int twin_open(struct ob_device *dev);

/* The client has its end. Between steps. */
void twin_sent(struct ob_device *dev);

/* The client has gone; or we do. */
void twin_close(struct ob_device *dev);

/* Sends commands as far as the socket takes them. False: the client was disconnected. */
bool twin_flush(struct ob_device *dev);

/* For a successor: takes the sockets out of keeping (0 or -errno); then goes on where the dead worker was. */
int twin_recover(struct ob_device *dev);
void twin_resume(struct ob_device *dev);

/* Is what is kept under KEEP_TWIN | number of any use? */
bool twin_is_used(const struct ob_device *dev, uint32_t number);

#endif

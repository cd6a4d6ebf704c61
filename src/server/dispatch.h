/*
 * dispatch.h - one message is one step; in a REGION_WRITE_MULTI, each write is.
 */
#ifndef SERVER_DISPATCH_H
#define SERVER_DISPATCH_H

#include "server/device.h"

/*
 * Runs the message in the n bytes at `bytes`, which is the next of the client's stream: decodes it,
 * serves it, puts the reply behind the others in the output, and ends the step. Descriptors that
 * nobody took are closed. 0, -EPROTO when the client is not to be talked to any more, or -EINPROGRESS
 * when the message (or what is left of a REGION_WRITE_MULTI) has to wait for I/O that is under way.
 */
int dispatch(struct ob_device *dev, const uint8_t *bytes, size_t n, struct wire_fds *fds);

#endif

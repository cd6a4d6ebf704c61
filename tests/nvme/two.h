/*
 * two.h - two processes that serve the same file: what moves between them.
 */
#ifndef NVME_TWO_H
#define NVME_TWO_H

#include "fixture.h"

extern struct disk other; /* the same file as `disk`, another process, which waits for the state */

int two_serve(void **state); /* group setup and teardown */
int two_end(void **state);

/* One more process for the file, with these arguments beside. */
void two_serve_more(struct disk *d, const char *name, const char *const *args);
void two_end_more(struct disk *d);

/* A client that has the driver's memory and nothing else: the rest comes with the state. */
struct ob_client *two_connect(const char *socket);

uint32_t two_state(struct ob_client *c);
/* Stops the device, and reads its state. Bytes. */
size_t two_save(struct ob_client *c, uint8_t *stream, size_t space);

#endif

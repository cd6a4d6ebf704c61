/*
 * ask_feature.h - VFIO_USER_DEVICE_FEATURE, for the groups "feature", "logging" and "migration".
 */
#ifndef CHECK_ASK_FEATURE_H
#define CHECK_ASK_FEATURE_H

#include "check/run.h"

#define FEATURE_GET VFIO_DEVICE_FEATURE_GET
#define FEATURE_SET VFIO_DEVICE_FEATURE_SET
#define FEATURE_PROBE VFIO_DEVICE_FEATURE_PROBE

enum {
    FEATURE_WHOLE = 65536, /* an argsz that has room for any reply */
    LAST_STATE = 7,        /* PRE_COPY_P2P */
};

/* Sends flags and n bytes of data; the reply, with its data behind 8 bytes, is in client(r). */
enum outcome ask_feature(struct run *r, uint32_t flags, uint32_t argsz, const void *data, size_t n);

/* "the full payload is not included in the reply, but the argsz field in the reply indicates the needed
 * size": asks without room for the data of the reply, of which all needs `needed` bytes. Or the check fails. */
void no_room(struct run *r, uint32_t flags, const void *data, size_t n, uint32_t needed);

/* MIG_DEVICE_STATE. SERVED and REFUSED only. */
enum outcome try_state(struct run *r, uint32_t state);
void set_state(struct run *r, uint32_t state); /* or the check fails */
uint32_t get_state(struct run *r);

#endif

/*
 * crc32c.h - the checksum of RFC 3720 (Castagnoli's polynomial).
 */
#ifndef STATE_CRC32C_H
#define STATE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Goes on from `crc`, the result for the bytes before these; 0 at the beginning. */
uint32_t crc32c(uint32_t crc, const void *bytes, size_t n);

#endif

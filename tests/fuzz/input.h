/*
 * input.h - a fuzzer's bytes, taken from the front, as numbers that go deep more often than chance does.
 *
 * At the end of the input everything is 0, so any bytes at all are a valid input.
 */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct input {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t take8(struct input *in)
{
    if (!in->left)
        return 0;
    in->left--;
    return *in->at++;
}

static inline uint64_t take(struct input *in, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++)
        v |= (uint64_t)take8(in) << (8 * i);
    return v;
}

/* Up to n bytes where they stand; how many are there in *got. */
static inline const uint8_t *take_bytes(struct input *in, size_t n, size_t *got)
{
    const uint8_t *p = in->at;
    *got = n < in->left ? n : in->left;
    in->at += *got;
    in->left -= *got;
    return p;
}

/* A number: by its first byte one of those that checks are about, or 1 to 8 bytes that follow. */
static inline uint64_t take_number(struct input *in)
{
    static const uint64_t known[] = { 0,      1,      2,        4,         8,          16,
                                      0x1000, 0x2000, 0x100000, 0x101000,  0x10000,    0xffff,
                                      0xfff,  0x4000, 0x3fff,   INT32_MAX, UINT32_MAX, UINT32_MAX + 1ull,
                                      INT64_MAX, INT64_MAX + 1ull, UINT64_MAX, UINT64_MAX - 0xfff };
    uint8_t what = take8(in);

    if (what < sizeof known / sizeof *known)
        return known[what];
    if (what >= 0xc0) /* small, in the byte itself */
        return what - 0xc0u;
    static const uint8_t bytes[] = { 1, 2, 2, 4, 8 };
    return take(in, bytes[what % sizeof bytes]);
}

#endif

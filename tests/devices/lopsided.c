/* lopsided.c - a plugin whose declaration contradicts itself: a BAR whose size is no power of two. */
#include <outboard/device.h>

static const struct ob_plugin lopsided = {
    .name = "lopsided",
    .summary = "test device that cannot be served",
    .bar[0] = { .size = 3000 },
};
OB_PLUGIN(lopsided)

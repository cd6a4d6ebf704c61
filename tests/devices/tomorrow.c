/* tomorrow.c - a plugin made for an interface that does not exist yet: it must be refused by name. */
#include <outboard/device.h>

extern const struct ob_plugin *const ob_plugin;
extern const uint32_t ob_plugin_abi;

static const struct ob_plugin tomorrow = { .name = "tomorrow", .summary = "-" };

__attribute__((visibility("default"))) const struct ob_plugin *const ob_plugin = &tomorrow;
__attribute__((visibility("default"))) const uint32_t ob_plugin_abi = OB_ABI + 1;

/*
 * plugins.h - devices by name: those that are built in, and those in a file.
 */
#ifndef WORKER_PLUGINS_H
#define WORKER_PLUGINS_H

#include <outboard/device.h>

/* The plugin called `name`, or the one in the file `name` if there is a slash in it. NULL with a
 * sentence in `why`. A file stays loaded. */
const struct ob_plugin *plugin_find(const char *name, char *why, size_t space);

/* The i-th of those built in, NULL at the end. */
const struct ob_plugin *plugin_built_in(unsigned i);

#endif

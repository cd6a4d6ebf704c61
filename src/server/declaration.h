/*
 * declaration.h - is a plugin's declaration one that can be served?
 */
#ifndef SERVER_DECLARATION_H
#define SERVER_DECLARATION_H

#include <outboard/device.h>

/* For all buses that it is declared for. 0, or -1 with a sentence in `why`. */
int declaration_check(const struct ob_plugin *plugin, char *why, size_t space);

#endif

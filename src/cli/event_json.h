/*
 * event_json.h - events and deaths for machines: the keys are in outboard-trace(1).
 */
#ifndef CLI_EVENT_JSON_H
#define CLI_EVENT_JSON_H

#include "cli/json.h"
#include "cli/look.h"

json *event_json(struct builder *b, const struct recorded *e, bool pci);

/* How the last worker died, as far as the block knows. */
json *death_json(struct builder *b, const struct look *l);

#endif

/*
 * report.h - what a dead worker left behind, for the log.
 */
#ifndef SERVER_REPORT_H
#define SERVER_REPORT_H

#include "server/device.h"

/* For a successor, as soon as it has the block, before any step is undone: keeps in the facts what its
 * predecessor was doing. */
void report_bury(struct ob_device *dev);

/* One report on stderr of a death by a signal, if there is one that nobody has told: all that is known, or a
 * line, where workers die again and again in one place. */
void report_tell(struct ob_device *dev);

#endif

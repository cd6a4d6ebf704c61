/*
 * event_text.h - an event of the flight recorder in words, as the specifications spell them.
 */
#ifndef SERVER_EVENT_TEXT_H
#define SERVER_EVENT_TEXT_H

#include "state/facts.h"

#include <stdbool.h>

#define EVENT_TEXT 160

/* One line without its end and without the time. The event may be anything; what is printed is printable.
 * `pci`: regions and interrupts have PCI's names. */
void event_text(const struct recorded *e, bool pci, char text[EVENT_TEXT]);

/* "SIGSEGV", or "signal 99". */
#define SIGNAL_TEXT 24
void signal_text(int signal, char text[SIGNAL_TEXT]);

#endif

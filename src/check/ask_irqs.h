/*
 * ask_irqs.h - VFIO_USER_DEVICE_SET_IRQS, for both halves of the group "set-irqs".
 */
#ifndef CHECK_ASK_IRQS_H
#define CHECK_ASK_IRQS_H

#include "check/run.h"

#define S "VFIO_USER_DEVICE_SET_IRQS"
#define NONE VFIO_IRQ_SET_DATA_NONE
#define BOOL VFIO_IRQ_SET_DATA_BOOL
#define EVENTFD VFIO_IRQ_SET_DATA_EVENTFD
#define MASK VFIO_IRQ_SET_ACTION_MASK
#define UNMASK VFIO_IRQ_SET_ACTION_UNMASK
#define TRIGGER VFIO_IRQ_SET_ACTION_TRIGGER

/* What goes with a request: data or descriptors. */
struct with {
    const void *data;
    size_t size;
    const int *fds;
    unsigned nfds;
};
#define NOTHING ((struct with){ NULL, 0, NULL, 0 })

enum { LONGEST = 4096 }; /* data */

enum outcome try_set(struct run *r, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
                     struct with with);

/* Judge its outcome. `what` was asked of this type. */
void has_served(struct run *r, enum outcome outcome, uint32_t index, const char *what);
void has_refused(struct run *r, enum outcome outcome);

/* One eventfd, or the check fails. */
void assign_eventfd(struct run *r, uint32_t index, uint32_t start, int fd);

/* Triggers interrupt 0 of a type: by a boolean, or without data. False: that is refused. */
bool trigger_irq(struct run *r, uint32_t index, bool with_bool, uint8_t value);

/* The next type from *i on that has interrupts with eventfds. */
bool next_irq(struct run *r, uint32_t *i);
#define EACH(i)  \
    some_irq(r); \
    for (uint32_t i = 0; next_irq(r, &i); i++)

#endif

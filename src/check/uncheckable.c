/*
 * uncheckable.c - what the specification says about servers, and nobody can find out from outside.
 */
#include "check/run.h"

static const struct entry rows[] = {
    { "DMA_READ and DMA_WRITE",
      "only a driver of the very device makes it ask; when it does ask, during a check, it is looked at",
      "VFIO_USER_DMA_READ: address, count, data; VFIO_USER_DMA_WRITE: address, count, data" },
    { "datamatch, user_data, padding", "any value is right",
      "Sub-Region IO FD info format (ioeventfd): padding, datamatch; "
      "Sub-Region IO FD info format (ioregionfd): padding, user_data" },
    { "the end of a server", "it ends when it wants to, and a check would have to end it",
      "Socket Disconnection Behavior" },
    { "the program", "its options, files and signals are not behind the socket",
      "Backend Program Conventions" },
};

size_t check_uncheckable(struct entry *entries, size_t space)
{
    for (size_t i = 0; i < LENGTH(rows) && i < space; i++)
        entries[i] = rows[i];
    return LENGTH(rows);
}

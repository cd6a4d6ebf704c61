/*
 * message.h - what a message says, once it has been checked.
 *
 * Bytes of a peer become one of these structures here and nowhere else. A struct wire_message holds
 * copies of all fixed parts; `data` points into the bytes that were given, and `data_size` of them
 * are there. Everything that can be checked without knowing the device has been: sizes against
 * counts, reserved bits, sums that would overflow. What depends on the device or the session (is
 * there such a region? is the range mapped?) is for the caller.
 */
#ifndef WIRE_MESSAGE_H
#define WIRE_MESSAGE_H

#include <outboard/vfio_user.h>
#include <stdbool.h>
#include <stddef.h>

struct wire_message {
    struct vfio_user_header header;
    const void *data; /* what follows the fixed part */
    size_t data_size;
    union {
        struct vfio_user_version version; /* without its data */
        struct vfio_user_dma_map map;
        struct vfio_user_dma_unmap unmap;
        struct vfio_user_device_info device_info;
        struct vfio_region_info region_info;
        struct vfio_user_region_io_fds io_fds;
        struct vfio_irq_info irq_info;
        struct vfio_irq_set irq_set; /* without its data */
        struct vfio_user_region_access region;
        struct vfio_user_dma_access dma;
        struct vfio_user_write_multi multi;
        struct vfio_user_device_feature feature;
        struct vfio_user_mig_data mig_data;
    };
};

static inline bool wire_is_reply(const struct vfio_user_header *h)
{
    return (h->flags & VFIO_USER_FLAG_TYPE) == VFIO_USER_FLAG_TYPE_REPLY;
}

/*
 * Looks at the first bytes of a stream. 0: not even a header yet. >0: the size of the message that
 * begins here (it may not all be there), *h is filled in. -EBADMSG: this is no message, or one longer
 * than `longest`; the framing is lost and the connection is of no more use.
 */
int wire_header(const void *bytes, size_t n, size_t longest, struct vfio_user_header *h);

/*
 * Decodes a whole command (n == header.size bytes, nfds descriptors came with it). 0, or a negative
 * errno for the error reply: -EINVAL for wrong sizes, fields, or a wrong number of descriptors,
 * -ENOTSUP for a command that does not exist. m->header is valid in any case.
 */
int wire_decode_command(const void *bytes, size_t n, size_t nfds, struct wire_message *m);

/*
 * Decodes the whole reply to a command that we sent. A reply with the error flag gives 0 and a bare
 * header: look at wire_reply_error(). -EBADMSG: not what a reply to this command may look like.
 */
int wire_decode_reply(const void *bytes, size_t n, uint16_t command, struct wire_message *m);

/* 0, or the negative errno that an error reply carries (-EIO when it names none or nonsense). */
int wire_reply_error(const struct vfio_user_header *h);

/* The i-th write of a decoded REGION_WRITE_MULTI, i < multi.wr_cnt. */
struct vfio_user_write wire_multi_write(const struct wire_message *m, size_t i);

/* Name of a command as the specification spells it ("VFIO_USER_REGION_READ"), or "unknown". */
const char *wire_command_name(uint16_t command);

#endif

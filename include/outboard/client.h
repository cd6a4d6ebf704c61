/*
 * client.h - how to use a device that another process serves: the client's side of vfio-user.
 *
 * A struct ob_client is one connection to one device. The functions below follow the sections of
 * the specification (docs/interop/vfio-user.rst of the QEMU project); structures and flags that
 * it takes from <linux/vfio.h> are used as they are.
 *
 *     struct ob_client *c = ob_client_new();
 *     if (ob_client_connect(c, "/run/edu.sock") < 0 ||
 *         ob_client_read(c, VFIO_PCI_BAR0_REGION_INDEX, 0, &id, sizeof(id)) < 0) {
 *         char why[OB_CLIENT_ERROR_SIZE];
 *         fprintf(stderr, "%s\n", ob_client_error(c, why, sizeof(why)));
 *     }
 *     ob_client_free(c);
 *
 * UNITS. Sizes and offsets are in bytes, times as their names say.
 *
 * ERRORS are negative errno values:
 *   -ENOTCONN    not connected yet
 *   -ETIMEDOUT   no reply in time; whether the device did what was asked is not known
 *   -EBADMSG     the reply makes no sense, and nothing of it was used
 *   -EPROTO      the server broke the protocol, and the connection is lost
 *   -ECONNRESET  the server closed the connection
 *   others       what the server replied, or what a function's own comment says
 * A lost connection stays lost: every later call returns the same error. ob_client_error() has a
 * sentence for the last error.
 *
 * TRUST. Nothing that a server says is believed: not a size, an offset, an index, a count, a
 * number of descriptors, nor a reply that nobody asked for. What it can still do is to shrink a
 * file that the caller has mapped; see ob_region_map() and ob_client_dma_map().
 *
 * THREADS. One connection may be used by any number of threads at once. There is no thread inside:
 * one of those that wait for a reply reads the socket for all of them. Different connections are
 * independent. Only ob_client_free() must be alone.
 *
 * THE SERVER'S COMMANDS. A server reads and writes memory that was given to it without a
 * descriptor by messages (VFIO_USER_DMA_READ and _WRITE). Whichever thread reads the socket
 * answers them. A program that waits for something else, an interrupt for instance, must wait for
 * ob_client_fd() to be readable as well, and then call ob_client_process(). For a program that gives
 * much memory in this way there is a twin socket, see ob_client_set_twin().
 *
 * TIME. Every call that talks to the server ends after the timeout (ob_client_set_timeout()), or
 * up to an eighth later; calls that need several messages start it anew for each.
 */
#ifndef OUTBOARD_CLIENT_H
#define OUTBOARD_CLIENT_H

#include <outboard/vfio_user.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct ob_client;

/* ---- The connection ------------------------------------------------------------------------ */

/* What one side can take (section "VFIO_USER_VERSION"). Each side keeps to what the other said. */
struct ob_capabilities {
    uint16_t major;
    uint16_t minor;
    uint32_t max_msg_fds;        /* descriptors in one message */
    uint32_t max_data_xfer_size; /* data of one message */
    uint32_t max_dma_maps;
    uint64_t pgsizes;            /* of DMA maps, or'ed together */
    bool write_multiple;         /* VFIO_USER_REGION_WRITE_MULTI */
    bool twin_socket;            /* the server's commands have a socket of their own */
};

/* A client that is not connected. NULL with errno ENOMEM. */
struct ob_client *ob_client_new(void);

/* Closes the connection and frees everything, requests under way included. NULL is fine. */
void ob_client_free(struct ob_client *c);

/* How long to wait for one reply: 1 to 3,600,000 ms; 5,000 if never called. At any time; holds for
 * requests that start later. -EINVAL. */
int ob_client_set_timeout(struct ob_client *c, unsigned ms);

/*
 * Before a thread that waits for a reply goes to sleep, it looks at the socket over and over for
 * so long: 0 (as at the start) to 1,000,000 us. At any time. -EINVAL.
 */
int ob_client_set_spin(struct ob_client *c, unsigned us);

/* What we tell the server that we take, before connecting: 1 to 16 and 1 to 65536, which are 16 and
 * 65536 if this is never called. -EINVAL, -EISCONN. */
int ob_client_set_limits(struct ob_client *c, uint32_t max_msg_fds, uint32_t max_data_xfer_size);

/*
 * Offers the server a twin socket (section "VFIO_USER_VERSION"): one for its commands alone, on which
 * several may be under way. Before connecting; if never called, none is offered, since all that a
 * device does to memory that has a descriptor goes without commands, and every thread that waits for a
 * reply has to watch one socket more. The server may decline: ob_client_twin_fd() tells. -EISCONN.
 *
 * Any thread that waits for a reply answers the commands as well. Better is a thread of its own in
 * ob_client_serve(), which returns when the connection has ended, with its error: -ENOTCONN after
 * ob_client_disconnect(). -ENOTSUP: there is no twin socket; -EBUSY: another thread is in it. Without
 * such a thread, a program that waits for something else waits for ob_client_twin_fd() to be readable as
 * well, and then calls ob_client_process(). (-ENOTCONN, -ENOTSUP.)
 */
int ob_client_set_twin(struct ob_client *c, bool on);
int ob_client_twin_fd(struct ob_client *c);
int ob_client_serve(struct ob_client *c);

/* Ends the connection: calls under way and later ones return -ENOTCONN. At any time, from any thread. */
void ob_client_disconnect(struct ob_client *c);

/*
 * Connects to the UNIX socket of a server, or takes over a socket that is connected already, and
 * negotiates. ob_client_adopt() owns the descriptor from the moment it is called, in every case,
 * and changes its file status flags. A client connects once; it may try again only where there was
 * no server to connect to. Errors of socket(2) and connect(2); -ENAMETOOLONG; -EPROTONOSUPPORT:
 * another version of the protocol; -EBUSY: the usual reply of a server that has a client; -EISCONN:
 * connected before.
 */
int ob_client_connect(struct ob_client *c, const char *path);
int ob_client_adopt(struct ob_client *c, int fd);

/* What was negotiated. Either may be NULL. -ENOTCONN. */
int ob_client_capabilities(struct ob_client *c, struct ob_capabilities *ours,
                           struct ob_capabilities *theirs);

/* The socket, for poll(2) and its like alone. -ENOTCONN. */
int ob_client_fd(struct ob_client *c);

/*
 * Handles what has arrived, without waiting for more: answers the server's commands and takes
 * replies to requests in. Where another thread reads the socket, it does nothing. It waits only for
 * the server to take the answers. 0, or the error that ended the connection.
 */
int ob_client_process(struct ob_client *c);

/*
 * The sentence, without a newline, for the last error of this connection ("" if there was none),
 * cut to fit `size`. Returns buf. After the connection was lost it says why. While several
 * threads meet errors at once, it is that of one of them, and names the command that it is about.
 */
#define OB_CLIENT_ERROR_SIZE 256
const char *ob_client_error(struct ob_client *c, char *buf, size_t size);

/* ---- The device ---------------------------------------------------------------------------- */

/* Fills in flags (VFIO_DEVICE_FLAGS_*), num_regions (at most 256) and num_irqs (at most 64). */
int ob_client_device_info(struct ob_client *c, struct vfio_user_device_info *info);

/* Section "VFIO_USER_DEVICE_RESET". May take long: see ob_client_set_timeout(). */
int ob_client_reset(struct ob_client *c);

/* ---- Regions ------------------------------------------------------------------------------- */

/* A list of strings, as devicetrees have them: one behind the other, each with its end. NULL and 0: empty. */
struct ob_strings {
    const char *first;
    unsigned count;
};

/* What a server says about one region, checked. To be read only, and freed by ob_region_free(). */
struct ob_region {
    uint32_t index;
    uint32_t flags; /* VFIO_REGION_INFO_FLAG_* */
    uint64_t size;  /* 0: there is no such region */
    uint64_t offset; /* of the region's start in the descriptor */
    bool has_type;   /* VFIO_REGION_INFO_CAP_TYPE: type and subtype are valid */
    uint32_t type;
    uint32_t subtype;
    /* VFIO_REGION_INFO_CAP_SPARSE_MMAP: the parts that can be mapped, each not empty and inside the
     * region. Without it, a region with VFIO_REGION_INFO_FLAG_MMAP can be mapped as a whole. */
    bool has_areas;
    uint32_t areas_count;
    const struct vfio_region_sparse_mmap_area *areas;
    int fd;          /* what to map, owned by this structure; -1 when there is nothing. A server may send
                      * one for each area: then the first; ob_region_map() knows the others */
    bool may_shrink; /* the server can make the file of fd shorter */
    /* VFIO_USER_REGION_INFO_CAP_PLATFORM, which the regions of a device that is not on PCI have: the
     * region's name, what the device is, the most specific first, and the names of its interrupts by
     * number. All of printable characters; they end with the region. Without it NULL and empty. */
    const char *name;
    struct ob_strings compatible;
    struct ob_strings irq_names;
};

/* *region is NULL on errors. */
int ob_client_region(struct ob_client *c, uint32_t index, struct ob_region **region);
void ob_region_free(struct ob_region *region); /* NULL is fine; mappings stay */

/* The nth of a list, from 0; NULL: there are not so many. Is `what` in it, and which is it (nth may be
 * NULL)? */
const char *ob_strings_get(const struct ob_strings *s, unsigned nth);
bool ob_strings_has(const struct ob_strings *s, const char *what, unsigned *nth);

/* A platform device's region and interrupt by name. Two messages at least. -ENOENT: no such name. */
int ob_client_find_region(struct ob_client *c, const char *name, struct ob_region **region);
int ob_client_find_irq(struct ob_client *c, const char *name, uint32_t *index);

/*
 * Maps [offset, offset + size) of a region: shared, prot is PROT_READ, PROT_WRITE or both. All of
 * it must lie in one area (or in the region, when it has no areas). End it with munmap(2).
 * -EINVAL: outside, empty, or offset not a multiple of the page size; -EACCES: the region does
 * not allow this; -ENOTSUP: nothing to map; -EBADMSG: the server's file is shorter than it said,
 * or no file of memory; errors of mmap(2).
 *
 * If region->may_shrink, the server can cut its file off at any time, and an access to the lost
 * pages raises SIGBUS. A program that must survive this handles SIGBUS or uses ob_client_read()
 * and ob_client_write() instead. The contents change under the reader in any case.
 */
int ob_region_map(const struct ob_region *region, uint64_t offset, uint64_t size, int prot,
                  void **p);

/*
 * Reads and writes any number of bytes, in pieces of the server's max_data_xfer_size in ascending
 * order. n == 0 does nothing. After an error, earlier pieces are done. -EINVAL: offset + n wraps
 * round.
 */
int ob_client_read(struct ob_client *c, uint32_t region, uint64_t offset, void *buf, size_t n);
int ob_client_write(struct ob_client *c, uint32_t region, uint64_t offset, const void *buf,
                    size_t n);

/*
 * The same without waiting for the device: no reply will come, and if the device refuses, nobody
 * will know. Returns when the socket has taken the message. It is done before any later request
 * of the same thread is.
 */
int ob_client_post(struct ob_client *c, uint32_t region, uint64_t offset, const void *buf,
                   size_t n);

/*
 * Several small writes in few messages, done in order. -ENOTSUP unless the server has
 * write_multiple; -EINVAL: a count that is not 1 to 8. posted: as ob_client_post(). Else -EIO
 * when the device did not do all of them.
 */
int ob_client_write_multi(struct ob_client *c, const struct vfio_user_write *writes, size_t count,
                          bool posted);

/*
 * Requests that are sent now and waited for later. Up to OB_CLIENT_REQUESTS of them may be under
 * way on one connection (-EAGAIN: wait for one first); n is 1 to what ob_client_transfer_size()
 * says (-EINVAL). buf belongs to the request until ob_request_wait() returns; a write's can be
 * used again at once. The server runs requests in the order in which they were started.
 */
#define OB_CLIENT_REQUESTS 128
struct ob_request;
int ob_client_start_read(struct ob_client *c, uint32_t region, uint64_t offset, void *buf, size_t n,
                         struct ob_request **request);
int ob_client_start_write(struct ob_client *c, uint32_t region, uint64_t offset, const void *buf,
                          size_t n, struct ob_request **request);

/* How many bytes one request may read or write. -ENOTCONN. */
ssize_t ob_client_transfer_size(struct ob_client *c);

/*
 * Waits for the reply, at most until the timeout since the start, and ends the request: its
 * handle is no longer valid. One thread for each request. Returns the result.
 */
int ob_request_wait(struct ob_request *request);

/*
 * Would ob_request_wait() return at once? Handles what has arrived first, as ob_client_process().
 */
bool ob_request_done(struct ob_request *request);

/* ---- Descriptors that stand for writes ------------------------------------------------------ */

/*
 * Section "VFIO_USER_DEVICE_GET_REGION_IO_FDS": places of a region where a write may be signalled
 * instead of sent, say by KVM on behalf of a guest (KVM_IOEVENTFD takes offset, size, flags and value
 * as they are, the region's own address added). Each has been checked: inside the region, of an access's
 * size, with a descriptor that is an eventfd. An ioregionfd is told as it is, and can be used where
 * the kernel has them.
 */
struct ob_sub_region {
    uint64_t offset;
    uint64_t size;  /* of the write; 0: any */
    uint32_t type;  /* VFIO_USER_IO_FD_TYPE_* */
    uint32_t flags; /* VFIO_USER_IOEVENTFD_* */
    uint64_t value; /* with VFIO_USER_IOEVENTFD_DATAMATCH, the one that is meant; user_data of an ioregionfd */
    int fd;         /* owned by the list; several may have the same one */
};
struct ob_io_fds {
    uint32_t region;
    uint32_t count; /* perhaps 0 */
    const struct ob_sub_region *sub;
};

/* *fds is NULL on errors. The list, and its descriptors, end with ob_io_fds_free() (NULL is fine). */
int ob_client_io_fds(struct ob_client *c, uint32_t region, struct ob_io_fds **fds);
void ob_io_fds_free(struct ob_io_fds *fds);

/*
 * Signals a write of n bytes (little-endian, as a device reads them), if there is a descriptor for it.
 * False: there is none, or its counter is full: use ob_client_write(). What was signalled is in no order
 * with messages. Needs no connection, and waits for nothing.
 */
bool ob_io_fds_signal(const struct ob_io_fds *fds, uint64_t offset, const void *buf, size_t n);

/* ---- Interrupts ---------------------------------------------------------------------------- */

/* Fills in flags (VFIO_IRQ_INFO_*) and count (at most 4096). */
int ob_client_irq_info(struct ob_client *c, uint32_t index, struct vfio_irq_info *info);

/*
 * Section "VFIO_USER_DEVICE_SET_IRQS", for interrupts start to start + count - 1 of an index.
 * action is VFIO_IRQ_SET_ACTION_TRIGGER, _MASK or _UNMASK. -EINVAL: another action, or count is 0
 * or over 4096. All are sent in as many messages as needed; after an error, earlier ones are
 * done.
 *
 * ob_client_irq_eventfds: which event descriptor is to be signalled when the action happens; -1
 * takes the old one away, and so does fds == NULL for all. The descriptors stay the caller's.
 * ob_client_irq_act: does the action now, for each i with on[i] != 0; on == NULL: for all.
 * ob_client_irq_disable: switches all interrupts of the index off.
 */
int ob_client_irq_eventfds(struct ob_client *c, uint32_t index, uint32_t action, uint32_t start,
                           uint32_t count, const int *fds);
int ob_client_irq_act(struct ob_client *c, uint32_t index, uint32_t action, uint32_t start,
                      uint32_t count, const uint8_t *on);
int ob_client_irq_disable(struct ob_client *c, uint32_t index);

/* ---- Memory for the device ----------------------------------------------------------------- */

/*
 * Makes [address, address + size) of the DMA address space available to the device. memory is
 * where this process has it, size bytes, and stays the caller's. flags: VFIO_DMA_MAP_FLAG_READ
 * (the device may read), _WRITE, or both. With a descriptor (fd >= 0, it stays the caller's) the
 * server may map its file from `offset` on; without (fd is -1, offset is 0) it sends messages.
 * -EINVAL: size 0, wraps round, other flags, or no whole pages of the server's (its smallest one); -EEXIST:
 * overlaps another map; -ENOSPC: the server takes no more.
 *
 * The server can do as it likes to a file that it was given, also write to it where it holds a
 * writable descriptor, whatever the flags say. It can make the file shorter too, which kills this
 * process by SIGBUS at its next access: seal a memfd with F_SEAL_SHRINK first.
 */
int ob_client_dma_map(struct ob_client *c, uint64_t address, uint64_t size, void *memory, int fd,
                      uint64_t offset, uint32_t flags);

/*
 * Takes a range back that was mapped as exactly this. -ENOENT: there is none. Whatever is
 * returned, no message of the server reaches the memory any more. What the server has mapped it
 * may keep until it replied without an error, and a hostile one for longer.
 */
int ob_client_dma_unmap(struct ob_client *c, uint64_t address, uint64_t size);
int ob_client_dma_unmap_all(struct ob_client *c);

/* The same as requests, see ob_client_start_read(): many under way at once, which is how a guest with a
 * virtual IOMMU is kept up with. They may be kept here to be sent in one go: with the next call of this
 * connection that sends something, or asks or waits for a request. What is wrong is said at once, or by
 * ob_request_wait(). */
int ob_client_start_dma_map(struct ob_client *c, uint64_t address, uint64_t size, void *memory, int fd,
                            uint64_t offset, uint32_t flags, struct ob_request **request);
int ob_client_start_dma_unmap(struct ob_client *c, uint64_t address, uint64_t size,
                              struct ob_request **request);

/* ---- Migration ----------------------------------------------------------------------------- */

/*
 * Section "VFIO_USER_DEVICE_FEATURE". flags: the feature's number and VFIO_DEVICE_FEATURE_GET,
 * _SET, or _PROBE. data holds `in` bytes for the server; the reply's are put there, up to
 * `space`, and *out (may be NULL) says how many. -EINVAL: in or space over 65536. -ENOSPC: the
 * reply is longer than space; *out is its length.
 */
int ob_client_device_feature(struct ob_client *c, uint32_t flags, void *data, size_t in,
                             size_t space, size_t *out);

/*
 * What the device can do: VFIO_MIGRATION_STOP_COPY and its like, and 0 in *flags when it cannot migrate;
 * and the state that it is in (enum vfio_device_mig_state), and going to another one. The device takes
 * the shortest way there. What is under way comes to an end first: see ob_client_set_timeout().
 * -EINVAL: there is no way from where it is, or what was written to it is no state that it can load
 * (then only a reset helps). Ask for the state after an error: it may be one on the way. What a
 * device may refuse when it is to run: -EBUSY, its backend is still in use by another process.
 */
int ob_client_migration(struct ob_client *c, uint64_t *flags);
int ob_client_migration_state(struct ob_client *c, uint32_t *state);
int ob_client_set_migration_state(struct ob_client *c, uint32_t state);

/*
 * Sections "VFIO_USER_MIG_DATA_READ" and "_WRITE", in as many messages as needed. Bytes read:
 * fewer than n when there are no more; in PRE_COPY, no more for now.
 */
ssize_t ob_client_mig_data_read(struct ob_client *c, void *buf, size_t n);
int ob_client_mig_data_write(struct ob_client *c, const void *buf, size_t n);

/*
 * Moves the state of a running device to another one of the same kind, on another connection, which
 * runs then; the first one is left in STOP, and begins anew with its next client. Memory (at the same
 * addresses) and interrupts have been set up at `to`. The rest of the machine is the caller's:
 * at(ctx, OB_MOVE_STOPS) is called when the device is about to be stopped, and nothing may use it from
 * then on; at(ctx, OB_MOVE_STOPPED) when it stands still and no longer writes to memory. at may be
 * NULL; an error of its own ends the move.
 *
 * Before anything is stopped, `to` sees what it would have to load, where both sides know PRE_COPY. On
 * an error, `from` runs again if it can, and `to` was reset. The sentence is with the connection that
 * the error is of; *at_to (may be NULL) says which.
 */
enum ob_move { OB_MOVE_STOPS, OB_MOVE_STOPPED };
int ob_client_move(struct ob_client *from, struct ob_client *to,
                   int (*at)(void *ctx, enum ob_move moment), void *ctx, bool *at_to);

/*
 * The log of pages that the device wrote to. _start: to which ranges (n == 0: everywhere), by pages of
 * *page_size, a power of two, which the device may change. _report: which pages of [address, address +
 * size), of page_size bytes each counted from `address`, were written since the log was started or
 * reported this range last: bits of a bitmap of ob_client_dirty_words() words. Bits are set, never
 * cleared. size: not 0, and a multiple of page_size. After an error of _report, everything counts as
 * written, and the log must be started anew. -EINVAL: there is a log already, or none; or an argument.
 * -E2BIG, -ENOSPC: more than the device can log.
 */
int ob_client_dirty_start(struct ob_client *c, uint64_t *page_size,
                          const struct vfio_device_feature_dma_logging_range *ranges, uint32_t n);
int ob_client_dirty_stop(struct ob_client *c);
int ob_client_dirty_report(struct ob_client *c, uint64_t address, uint64_t size, uint64_t page_size,
                           uint64_t *bitmap);
static inline uint64_t ob_client_dirty_words(uint64_t size, uint64_t page_size)
{
    return (size / page_size + 63) / 64;
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif

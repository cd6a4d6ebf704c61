/*
 * device.h - how to write a device. (Plugin interface, version 3.)
 *
 * A device declares what it is as data, in one struct ob_plugin, and supplies functions for what it
 * does. The framework does the rest: the protocol, config space and its capabilities, guest memory,
 * interrupts, the command line, and the steps that let a device process die at any instruction.
 *
 * STEPS. Every callback runs inside a step: one message of the client (one write, where it holds
 * several), one timer, one finished DMA transfer or one backend event. A step changes the device's
 * state all or nothing. Therefore:
 *   - What must outlive the process lives in the state (ob_state()), and nowhere else. Descriptors
 *     and buffers that are opened anew by the next process live in ob_private().
 *   - Interrupts that a callback raises leave the process after its step is complete.
 *   - A read or write that returns an error is undone, in the state. Guest memory that it pinned, or
 *     what it changed in ob_private(), it puts back itself.
 *   - Reads and writes of a backend go through ob_read() and ob_write(), which know after a death
 *     whether they were done.
 *
 * THREADS. All callbacks of a device run on one thread, and none may block: they share it with the
 * messages of this device and of others. Threads of a device's own call nothing of this file.
 *
 * ERRORS are negative errno values. What a callback returns to a guest's access becomes the error of
 * the reply.
 */
#ifndef OUTBOARD_DEVICE_H
#define OUTBOARD_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define OB_ABI 3u

struct ob_device; /* one device of a plugin's kind, made by the framework */

/*
 * SANDBOX. When open() has returned, the process gives up all that it does not hold: there is no file
 * system any more, no network, no other process, and of the system calls only those that somebody asked
 * for. So open() does what needs the world outside (files, sockets, rings, what a library reads at its
 * first use), with the user's rights and before any byte of a peer is looked at. Threads are made in
 * make_threads(). From start() on a device uses what it has. It may accept connections, map memory
 * without PROT_EXEC, and make eventfds and memory files; the system calls that it makes itself, in all of
 * its threads, it tells in open(), by ob_syscalls(). One that nobody told of is refused with EPERM, and
 * the log has its number.
 */

/* A system call, or with an argument of 0 to 5 one whose argument, as far as `mask` shows it, is `value`. */
struct ob_syscall {
    const char *name;
    int number;   /* SYS_* of <sys/syscall.h>; -1 ends a list */
    int argument; /* -1: whatever they are */
    uint32_t mask, value;
};
#define OB_SYSCALL(name) { #name, SYS_##name, -1, 0, 0 }
#define OB_SYSCALL_IF(name, argument, mask, value) { #name, SYS_##name, argument, mask, value }
#define OB_SYSCALL_END { NULL, -1, -1, 0, 0 }

/* ---- What a device is ---------------------------------------------------------------------- */

/* One key=value of the command line. */
struct ob_option {
    const char *key;
    const char *value;    /* what stands for the value in help text, e.g. "PATH" */
    const char *help;     /* one line */
    const char *standard; /* the value when the key is not given, or NULL */
    unsigned flags;       /* OB_OPTION_* */
};
#define OB_OPTION_REQUIRED 1u
#define OB_OPTION_REPEAT 2u /* may be given more than once */
#define OB_OPTION_FILE 4u   /* the path of a backend, to be opened by ob_open() */
#define OB_OPTION_READONLY 8u /* on or off: while it is on, the device gets its files for reading alone, whatever
                               * a guest makes of its process */
#define OB_OPTION_SOCKET 16u /* "unix:PATH" is where open() listens: the framework removes the path at the end */

/* A part of a region that clients may map (page aligned, in bytes from the region's start). */
struct ob_area {
    uint64_t offset;
    uint64_t size;
};

enum ob_bar_kind {
    OB_BAR_MEM32, /* 32-bit memory */
    OB_BAR_MEM64, /* 64-bit memory: takes this BAR and the next */
    OB_BAR_IO,    /* I/O ports */
};

/* Access widths, for ob_bar.widths. */
#define OB_WIDTH_1 1u
#define OB_WIDTH_2 2u
#define OB_WIDTH_4 4u
#define OB_WIDTH_8 8u

/*
 * A write that says no more than "look": `size` bytes (1, 2, 4 or 8) at `offset`, of this value or of any.
 * Clients may signal a descriptor for it, so that a virtual machine's write needs no message (KVM's
 * ioeventfd). A signal becomes a call of the region's write, with this value. Several signals may become
 * one call, and one may become two if the process dies in between; so nothing may be counted by them.
 * Whether a write of any other size or value is the same thing is for the device to say: those come as
 * messages, as before.
 */
struct ob_ioevent {
    uint64_t offset;
    uint32_t size;
    bool any_value; /* the value does not matter */
    uint64_t value;
};

/*
 * A PCI base address register and the region behind it. The framework calls read and write only with
 * at + n <= size and 1 <= n <= 65536. When widths is set, n is one of them, and `at` a multiple of n;
 * other accesses get EINVAL. Numbers in the buffer are little-endian, as PCI has them.
 *
 * A region with areas is backed by shared memory there: clients map it, and their accesses by
 * message reach the same memory (ob_bar_memory()) without calling read or write.
 */
struct ob_bar {
    uint64_t size; /* 0: no such BAR; a power of two, at least 4 (I/O) or 16 (memory) */
    enum ob_bar_kind kind;
    bool prefetchable;
    unsigned widths; /* OB_WIDTH_*, or 0 for any */
    int (*read)(struct ob_device *dev, uint64_t at, void *buf, size_t n);
    int (*write)(struct ob_device *dev, uint64_t at, const void *buf, size_t n);
    const struct ob_area *areas;
    unsigned areas_count;
    const struct ob_ioevent *ioevents; /* outside of areas; at most 16 */
    unsigned ioevents_count;
};

/*
 * A region that PCI does not know, for clients that know the device: they find it by its type (VFIO's
 * VFIO_REGION_INFO_CAP_TYPE). It has no BAR, so guests do not see it; kind and prefetchable mean
 * nothing, and the size can be any.
 */
struct ob_typed_region {
    uint32_t type;    /* VFIO_REGION_TYPE_PCI_VENDOR_TYPE | vendor, or a type of <linux/vfio.h> */
    uint32_t subtype; /* the type's own */
    struct ob_bar region;
};

/* A vendor-specific capability (PCI 3.0, 6.7): the bytes after id, next and length. Read only. */
struct ob_vendor_capability {
    const void *data;
    uint8_t size; /* at most 240 */
};

struct ob_pci {
    uint16_t vendor;
    uint16_t device;
    uint16_t subsystem_vendor; /* 0: as vendor */
    uint16_t subsystem;        /* 0: as device */
    uint32_t class_code;       /* base class << 16 | subclass << 8 | interface */
    uint8_t revision;
    bool power_management;  /* PM capability: D0 and D3hot */
    bool express;           /* PCI Express endpoint with function level reset; 4096-byte config space */
    const struct ob_vendor_capability *vendor_capabilities;
    unsigned vendor_capabilities_count;
};

/* MSI-X: table and pending bits are served by the framework, inside a BAR of the device. */
struct ob_msix {
    uint16_t count; /* vectors, 0 to 2048; 0: no MSI-X */
    uint8_t bar;
    uint32_t table; /* offset in the BAR, multiple of 8; count * 16 bytes */
    uint32_t pba;   /* offset in the BAR, multiple of 8; a bit for each vector, in 8-byte words */
};

struct ob_irqs {
    bool intx;    /* INTA# */
    uint8_t msi;  /* vectors: 0, 1, 2, 4, 8, 16 or 32 */
    struct ob_msix msix;
    bool err; /* the device can report an error that only a reset cures: ob_error_irq() */
    bool req; /* the device can ask to be given back: ob_request_irq() */
};

/* ---- What it is when it is not on PCI --------------------------------------------------------
 *
 * A platform device sits at an address that somebody knows, say from a devicetree. It has regions and
 * interrupts by number, each with a name, and `compatible`, which tells drivers what it is. It has no
 * config space, no messages, and needs no leave to reach guest memory.
 *
 * A plugin with platform.compatible is a platform device; with pci.vendor as well it can be either,
 * and the option bus=pci|platform, which the framework then adds, chooses: the first of the two if it
 * is not given. All callbacks are the same on both. Names are 1 to 31 printable characters.
 */
struct ob_platform_region {
    const char *name;
    uint64_t size; /* bytes, 1 to 2^40 */
    /* As in struct ob_bar. Without read, or write, clients learn that the region cannot be read or written,
     * but for its areas. */
    unsigned widths;
    int (*read)(struct ob_device *dev, uint64_t at, void *buf, size_t n);
    int (*write)(struct ob_device *dev, uint64_t at, const void *buf, size_t n);
    const struct ob_area *areas;
    unsigned areas_count;
    const struct ob_ioevent *ioevents;
    unsigned ioevents_count;
};

struct ob_platform_irq {
    const char *name;
    bool edge; /* each rise is an event; else the level counts, see ob_irq() */
};

struct ob_platform {
    const char *const *compatible; /* the most specific first, ends with NULL; at most 16 */
    const struct ob_platform_region *regions;
    unsigned regions_count; /* 1 to 16 */
    const struct ob_platform_irq *irqs;
    unsigned irqs_count; /* 0 to 16 */
};

/*
 * One member of the state, for whoever reads it from outside: a newer build, or another host. Names and
 * element sizes are what the two sides agree on; where a member lies in the structure is not. In a
 * migration stream:
 *   - A field that one side has and the other has not is refused, unless it is OPTIONAL: then it is
 *     zero where it is missing, and may be dropped where it is unknown if it is zero. That is how a
 *     newer build adds a field and an older one still understands it, as long as it is not used.
 *   - Sizes, counts and kinds must be equal.
 *   - A field that is RUNTIME is not in it. It is for what a successor needs of a worker that died, and
 *     stop() brings to an end: an older build that takes over from a newer one finds it by its name.
 * A member that is no field is zero when another build has taken over.
 */
enum ob_field_kind {
    OB_FIELD_END,
    OB_FIELD_INT,
    OB_FIELD_BYTES,
    OB_FIELD_TIME,    /* CLOCK_MONOTONIC ns, 0: none; travels as the distance from now */
    OB_FIELD_STRUCTS, /* an array of structures, which have `fields` */
};
struct ob_field {
    const char *name; /* shorter than 64 with that of the array around it */
    enum ob_field_kind kind;
    uint32_t offset; /* in the state, or in the structure of an array */
    uint32_t size;   /* of one element: 1, 2, 4 or 8 for integers */
    uint32_t count;  /* of elements */
    uint32_t flags;  /* OB_FIELD_OPTIONAL, OB_FIELD_RUNTIME */
    const struct ob_field *fields; /* of OB_FIELD_STRUCTS; no arrays of structures among them */
};
#define OB_FIELD_OPTIONAL 1u
#define OB_FIELD_RUNTIME 2u

#define OB_FIELD_1(type, member, kind, flags) \
    { #member, kind, offsetof(type, member), sizeof(((type *)0)->member), 1, flags, NULL }
#define OB_FIELD_N(type, member, kind, flags, fields)                       \
    { #member, kind, offsetof(type, member), sizeof(((type *)0)->member[0]), \
      sizeof(((type *)0)->member) / sizeof(((type *)0)->member[0]), flags, fields }
#define OB_FIELD_B(type, member, flags) \
    { #member, OB_FIELD_BYTES, offsetof(type, member), 1, sizeof(((type *)0)->member), flags, NULL }

#define OB_INT(type, member) OB_FIELD_1(type, member, OB_FIELD_INT, 0)
#define OB_INTS(type, member) OB_FIELD_N(type, member, OB_FIELD_INT, 0, NULL)
#define OB_BYTES(type, member) OB_FIELD_B(type, member, 0)
#define OB_TIME(type, member) OB_FIELD_1(type, member, OB_FIELD_TIME, 0)
#define OB_STRUCTS(type, member, fields) OB_FIELD_N(type, member, OB_FIELD_STRUCTS, 0, fields)
#define OB_OPTIONAL_INT(type, member) OB_FIELD_1(type, member, OB_FIELD_INT, OB_FIELD_OPTIONAL)
#define OB_OPTIONAL_INTS(type, member) OB_FIELD_N(type, member, OB_FIELD_INT, OB_FIELD_OPTIONAL, NULL)
#define OB_OPTIONAL_BYTES(type, member) OB_FIELD_B(type, member, OB_FIELD_OPTIONAL)
#define OB_OPTIONAL_TIME(type, member) OB_FIELD_1(type, member, OB_FIELD_TIME, OB_FIELD_OPTIONAL)
#define OB_RUNTIME_INT(type, member) OB_FIELD_1(type, member, OB_FIELD_INT, OB_FIELD_RUNTIME)
#define OB_RUNTIME_INTS(type, member) OB_FIELD_N(type, member, OB_FIELD_INT, OB_FIELD_RUNTIME, NULL)
#define OB_RUNTIME_BYTES(type, member) OB_FIELD_B(type, member, OB_FIELD_RUNTIME)
#define OB_RUNTIME_TIME(type, member) OB_FIELD_1(type, member, OB_FIELD_TIME, OB_FIELD_RUNTIME)
#define OB_RUNTIME_STRUCTS(type, member, fields) \
    OB_FIELD_N(type, member, OB_FIELD_STRUCTS, OB_FIELD_RUNTIME, fields)
#define OB_END \
    { NULL, OB_FIELD_END, 0, 0, 0, 0, NULL }

struct ob_state_info {
    uint32_t size;                /* of the state, bytes; at most 16 MiB */
    const struct ob_field *fields; /* ends with OB_END; NULL: the device cannot migrate */
    uint32_t version; /* one more when fields mean something else than before */
    uint32_t oldest;  /* the oldest version that loaded() understands; 0: this one alone */
    /*
     * How a step is undone. false: the framework keeps a copy of the whole state at the start of
     * each step (fit for up to a few KiB). true: the device calls ob_touch() before it changes
     * anything, and only what was touched is kept.
     */
    bool touched;
};

enum ob_reset {
    OB_RESET_POWER_ON, /* a new device: the state is all zeros */
    OB_RESET_DEVICE,   /* VFIO_USER_DEVICE_RESET, or a function level reset by the driver */
};

struct ob_plugin {
    const char *name;    /* [a-z0-9-]+ */
    const char *summary; /* one line */
    const struct ob_option *options; /* ends with a NULL key; NULL: takes none */

    struct ob_pci pci;
    struct ob_bar bar[6];
    const struct ob_typed_region *regions; /* VFIO indexes 9 and up; at most 16 */
    unsigned regions_count;
    struct ob_irqs irq; /* on PCI */
    struct ob_platform platform;
    struct ob_state_info state;
    size_t private_size;
    unsigned timers; /* ob_timer_set() knows ids 0 to timers - 1; at most 64 */
    unsigned dmas;   /* transfers that may be under way at once, slots 0 to dmas - 1; at most 64 */

    /* All optional. */
    int (*open)(struct ob_device *dev);  /* options are there: check them, open backends */
    /* The process has given up what it could reach, and not yet what it can ask of the kernel: the time to make
     * threads, which stay until it ends, and to wait until they run: to begin and to end one needs calls that need
     * not be on a list. Nothing that a peer sent has been looked at. */
    void (*make_threads)(struct ob_device *dev);
    /* The device begins to run, or goes on after stop(). The state is there: new, inherited, loaded from
     * a stream, or what it was at the stop. Watch backends; derive from the state what ob_private()
     * holds. An error keeps the device as it was. */
    int (*start)(struct ob_device *dev);
    void (*close)(struct ob_device *dev);
    void (*reset)(struct ob_device *dev, enum ob_reset kind); /* put the state back to its start */
    void (*timer)(struct ob_device *dev, unsigned id);        /* the deadline of timer id passed */
    void (*dma_done)(struct ob_device *dev, unsigned slot, int error);
    /* Bus mastering, or what the client listens to, was switched on or off: look again at what to
     * raise, and at what waits. */
    void (*irq_changed)(struct ob_device *dev);
    /* ob_memory_get() said -EBUSY, and now it may succeed, or find the memory gone. */
    void (*memory_changed)(struct ob_device *dev);
    /* Polling, see ob_poll_until(). pending() runs outside of steps: it looks and changes nothing;
     * when it says true, work() runs in a step. */
    bool (*pending)(struct ob_device *dev);
    void (*work)(struct ob_device *dev);
    /* A step of this device has become valid: the place to start what the step intends (say, to
     * submit I/O). Runs outside of steps and must not change the state. */
    void (*committed)(struct ob_device *dev);
    /*
     * Migration. stop: bring what is under way to an end, or to something that the state describes, and
     * begin nothing new: 0, or -EBUSY: not yet; it is asked again after the device's next step. From
     * then on the device stands still (timers and backends too, which the framework sees to): no
     * function of it is called but start(), reset(), loaded() and close(). start() may also come
     * without the stop having ended.
     */
    int (*stop)(struct ob_device *dev);
    /*
     * The fields were filled in from a stream that was made for `version` of them (oldest to version);
     * members that are no fields hold what they held. Sizes are right; nothing else can be believed.
     * Look at the state alone: 0, or -EINVAL after an ob_error() that says what is wrong; then the old
     * state comes back.
     */
    int (*loaded)(struct ob_device *dev, uint32_t version);
};

/* Makes the plugin known, in a file that is loaded (./mine.so) as in one that is built in. */
#ifdef OB_BUILT_IN
#define OB_PLUGIN(plugin) \
    const struct ob_plugin *const ob_plugin_##plugin = &plugin;
#else
#define OB_PLUGIN(plugin)                                                       \
    __attribute__((visibility("default"))) extern const struct ob_plugin *const ob_plugin; \
    const struct ob_plugin *const ob_plugin = &plugin;                          \
    __attribute__((visibility("default"))) extern const uint32_t ob_plugin_abi; \
    const uint32_t ob_plugin_abi = OB_ABI;
#endif

/* ---- What a device may call, on its thread -------------------------------------------------- */

#pragma GCC visibility push(default) /* so that a plugin in a file finds them in the program */

/* The state: in memory that outlives the process, aligned to 4096 bytes. Never NULL if size > 0. */
void *ob_state(struct ob_device *dev);

/* private_size bytes of this process, zeroed when the device is made. */
void *ob_private(struct ob_device *dev);

/* Call before changing [p, p + n) of a state declared `touched`. Once a step for each place is
 * enough, more is harmless. Without effect for other states. */
void ob_touch(struct ob_device *dev, void *p, size_t n);

/* The value of an option, its standard, or NULL. The nth (from 0) of a repeated one, NULL at the end. */
const char *ob_option(struct ob_device *dev, const char *key);
const char *ob_option_nth(struct ob_device *dev, const char *key, unsigned nth);

/* In open() alone, up to four times: system calls that this device will make. The list stays the device's. 0,
 * or -ENOSPC. */
int ob_syscalls(struct ob_device *dev, const struct ob_syscall *list);

/* In open() alone: this device has a ring of io_uring, whose operations it has restricted (io_uring_register(2),
 * IORING_REGISTER_RESTRICTIONS), since no filter of system calls sees them. `outboard status` says so. */
void ob_ring_restricted(struct ob_device *dev);

/* In open() alone: there is no MSI-X this time, or a BAR has no areas, whatever the declaration says. */
void ob_without_msix(struct ob_device *dev);
void ob_without_areas(struct ob_device *dev, unsigned bar);

/*
 * open(2) of the file that the nth value (from 0) of an OB_OPTION_FILE names. The descriptor is the
 * device's, and its file description is new, also in a successor; which file it is was settled when the
 * first process of the device began, whatever the path leads to now. A descriptor or a negative errno.
 */
int ob_open(struct ob_device *dev, const char *key, unsigned nth, int flags);

/*
 * inotify_add_watch(2) for changes (IN_MODIFY) of the file that ob_open() opens, at any time: in the sandbox
 * there are no paths. The number of the watch or a negative errno, -EPERM in a sandbox without a keeper.
 */
int ob_watch_file(struct ob_device *dev, int inotify, const char *key, unsigned nth);

/* "64K", "1G", "4096"; "on", "off". 0, or -EINVAL with nothing stored. */
int ob_parse_size(const char *text, uint64_t *size);
int ob_parse_bool(const char *text, bool *value);

/* One line on stderr, "outboard: NAME: ..."; ob_debug only with --verbose. */
void ob_error(struct ob_device *dev, const char *format, ...) __attribute__((format(printf, 2, 3)));
void ob_debug(struct ob_device *dev, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Memory of a region where it has areas: a pointer to the region's start, of which only the areas may be
 * used. On PCI, `region` is the number of a BAR, or a typed region's VFIO index. The client writes to it
 * whenever it likes: copy first, then check the copy. */
void *ob_region_memory(struct ob_device *dev, unsigned region);
static inline void *ob_bar_memory(struct ob_device *dev, unsigned bar)
{
    return ob_region_memory(dev, bar);
}

/*
 * A wire: interrupt `index` of a platform device, or 0, which is INTx on PCI. It has a level: while it is
 * true the client is told, again after each end of interrupt. Of one declared `edge`, the client is told
 * each rise, once: to pulse it is to raise it and to lower it again.
 */
void ob_irq(struct ob_device *dev, unsigned index, bool level);
static inline void ob_intx(struct ob_device *dev, bool level)
{
    ob_irq(dev, 0, level);
}

/*
 * Messages (PCI) are events. The number of vectors that the driver enabled is 0 while neither MSI nor
 * MSI-X is on; a message on a vector that is off is lost, a masked MSI-X vector stays pending.
 */
unsigned ob_vectors(struct ob_device *dev);
void ob_message(struct ob_device *dev, unsigned vector);
void ob_error_irq(struct ob_device *dev);
void ob_request_irq(struct ob_device *dev);

/*
 * Requests of the guest that the device has served, for `outboard status`: what they were, the bytes that
 * they moved in all, and how many ns each took (0: not measured). A few stores. Asking for the time is what
 * costs: take ob_step_time() for the beginning, and ob_now() once for all that end in one go.
 */
enum ob_account { OB_ACCOUNT_READ, OB_ACCOUNT_WRITE, OB_ACCOUNT_OTHER };
void ob_account(struct ob_device *dev, enum ob_account kind, uint64_t requests, uint64_t bytes, uint64_t ns);

/* An event for the flight recorder, which `outboard trace --last` shows: a word of at most 16 bytes, and two
 * numbers. A few stores. */
void ob_trace(struct ob_device *dev, const char *text, uint64_t a, uint64_t b);

/* As ob_now(), but of the time when this step began, or first asked. */
uint64_t ob_step_time(struct ob_device *dev);

/* CLOCK_MONOTONIC, ns. A timer is called once, soon after its deadline, also by a successor. */
uint64_t ob_now(struct ob_device *dev);
void ob_timer_set(struct ob_device *dev, unsigned id, uint64_t deadline);
void ob_timer_cancel(struct ob_device *dev, unsigned id);

/*
 * Transfers between guest memory and a buffer inside the state. They work for memory that is mapped
 * and for memory that is reached by messages alike, and need not be complete when the call returns:
 * dma_done() is called for the slot in a step of its own, with 0 or:
 *   -EFAULT  some of the range is not mapped for this access, or the client's file was truncated
 *   -EIO     the client answered with an error, or is gone
 *   -EPERM   bus mastering is off (PCI)
 * Until then the buffer belongs to the transfer. Returns 0, or -EBUSY (the slot is in use), -EINVAL
 * (slot, or a buffer that is not in the state, or n is 0 or over 1 MiB); then dma_done is not called.
 * A reset cancels all transfers without calling dma_done.
 */
int ob_dma_read(struct ob_device *dev, unsigned slot, uint64_t address, void *buf, size_t n);
int ob_dma_write(struct ob_device *dev, unsigned slot, uint64_t address, const void *buf, size_t n);
/* Forgets a transfer, and dma_done is not called. For stop() and loaded(), see struct ob_plugin. A write
 * may have been made, in whole or in part. */
void ob_dma_cancel(struct ob_device *dev, unsigned slot);

/*
 * Guest memory at once, without a transfer: copies, if all of it is mapped. 0, or:
 *   -EFAULT  not mapped for this access, or the client's file was truncated
 *   -EPERM   bus mastering is off
 *   -EREMOTE some of it can only be reached by ob_dma_read() and ob_dma_write(); nothing was copied
 */
int ob_memory_read(struct ob_device *dev, uint64_t address, void *buf, size_t n);
int ob_memory_write(struct ob_device *dev, uint64_t address, const void *buf, size_t n);

/*
 * Guest memory by pointer, for I/O that goes on after the callback has returned. Fills in at most max
 * pieces and returns their number; errors as above, and -E2BIG (more pieces than max), -EBUSY (the
 * client takes memory back or resets the device, which waits for the I/O that is under way: start
 * nothing new, memory_changed() will be called). access is OB_READ (the device reads the memory),
 * OB_WRITE or both.
 *
 * Each range that was got must be put, with the same arguments. Until then neither an unmap of the
 * memory nor a reset is acknowledged. So no put may wait for a transfer of ob_dma_read() or _write():
 * while it waits for such a reply, QEMU answers no DMA message. A driver may change the bytes at any
 * time. The pointers are this process's: a successor gets them anew.
 */
#define OB_READ 1u
#define OB_WRITE 2u
int ob_memory_get(struct ob_device *dev, uint64_t address, uint64_t n, unsigned access,
                  struct iovec *iov, int max);
void ob_memory_put(struct ob_device *dev, uint64_t address, uint64_t n, unsigned access);

/*
 * Keeps a reset from being acknowledged, and a client that has gone from being forgotten, as memory
 * that was got does: for I/O that a reset must not overtake, in the state or in no memory at all. 0, or
 * -EBUSY as above. Each hold must be released.
 */
int ob_hold(struct ob_device *dev);
void ob_release(struct ob_device *dev);

/*
 * In start(), for a successor: I/O that a process before this one began may still reach guest memory, and nobody
 * knows where. While it is so, no unmap is acknowledged either. Once said, it has to be taken back.
 */
void ob_hold_memory(struct ob_device *dev, bool held);

/*
 * In open(): locks by which processes of this device say that they have such I/O under way in a file (io_uring's, which
 * ends later than they do). They lie on OB_LATE_LOCKS bytes from *first on, which are this device's own; those of all
 * devices lie behind OB_LATE_LOCKS_START. A process takes one (fcntl(2), F_OFD_SETLK) by the open file description that
 * its I/O goes through: the kernel lets go of that with the last of its I/O. Another description of the file is to be in
 * ob_keep(). Then a device that has failed, of which no code runs any more, is waited for too: its guest is not told
 * that it is gone while there is such a lock. 0 or a negative errno.
 */
#define OB_LATE_LOCKS 64u
#define OB_LATE_LOCKS_START (UINT64_C(1) << 62)
int ob_late_locks(struct ob_device *dev, uint64_t *first);

/* In stop(): another process takes over here and now (an upgrade), not elsewhere. What belongs to the device, such as
 * a lock on a file that is in keeping, stays its own. */
bool ob_stays(struct ob_device *dev);

/* A pointer for a short look from pending(), which may not go through the copies above: valid until
 * the next event of the loop, so ask again each time. NULL: not mapped in one piece. */
const void *ob_memory_peek(struct ob_device *dev, uint64_t address, size_t n);

/* Until this deadline (CLOCK_MONOTONIC ns) the loop does not sleep, and asks pending() in each turn. */
void ob_poll_until(struct ob_device *dev, uint64_t deadline);

/*
 * Backends. ready() runs in a step of its own when `fd` is ready for `events` (EPOLLIN, EPOLLOUT,
 * level-triggered; EPOLLHUP and EPOLLERR always). One watch for a descriptor: a second call changes
 * the events (0: keep quiet, though EPOLLHUP still comes), and ob_unwatch() ends it. The descriptor
 * stays the device's.
 */
typedef void ob_ready_fn(struct ob_device *dev, int fd, uint32_t events);
int ob_watch(struct ob_device *dev, int fd, uint32_t events, ob_ready_fn *ready);
void ob_unwatch(struct ob_device *dev, int fd);

/*
 * read(2) and write(2), at most one of them in a step, as the last thing before the state records
 * what they did. If the process died between the call and the end of the step, the successor's first
 * call, which must ask for no less, returns the result of the dead one instead of doing it again. What was
 * read makes no descriptor ready again: a device that reads when it is told to tries once after start().
 * A read moves at most 4096 bytes. Return bytes or a negative errno.
 */
ssize_t ob_read(struct ob_device *dev, int fd, void *buf, size_t n);
ssize_t ob_write(struct ob_device *dev, int fd, const void *buf, size_t n);

/*
 * A backend's descriptor that cannot be opened again (a connection, the master of a pseudo-terminal) is
 * kept for a successor under a number of the device's choice, below 4096. ob_kept() returns a duplicate
 * of it, the caller's, or -ENOENT. A descriptor of -1 ends the keeping. 0 or a negative errno.
 */
int ob_keep(struct ob_device *dev, unsigned number, int fd);
int ob_kept(struct ob_device *dev, unsigned number);

/*
 * accept4(2), non-blocking, on a listening socket `fd` that is kept under the number `listener`. The connection is
 * kept under `number` at once, instead of what was, so that none is lost with the process. The caller's, or -errno.
 */
int ob_accept(struct ob_device *dev, unsigned listener, int fd, unsigned number);

/* Bytes that the device moved on its thread by other calls of the read(2) and write(2) families
 * (preadv2...), to be told right after each call: a successor tells by the process's counts what
 * ob_read() and ob_write() did. What io_uring moves is not counted. */
void ob_moved(struct ob_device *dev, uint64_t read, uint64_t written);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
#endif

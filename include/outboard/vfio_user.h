/*
 * vfio_user.h - the messages of the vfio-user protocol, as they stand on the wire.
 *
 * The specification is docs/interop/vfio-user.rst of the QEMU project; the section names below are
 * its own. All numbers are in the byte order of the host, all sizes and offsets in bytes. Where the
 * specification takes a structure from <linux/vfio.h> unchanged, so does this file: struct
 * vfio_region_info, struct vfio_irq_info, struct vfio_irq_set, and the VFIO_* flags.
 *
 * This header declares layouts only. Nothing in it says that a message which came from a peer may be
 * read through these structures without being checked first.
 */
#ifndef OUTBOARD_VFIO_USER_H
#define OUTBOARD_VFIO_USER_H

#include <assert.h>
#include <linux/vfio.h>
#include <stdint.h>

/* Section "Commands". 14 is not assigned. Commands 11 and 12 go from the server to the client. */
enum vfio_user_command {
    VFIO_USER_VERSION = 1,
    VFIO_USER_DMA_MAP = 2,
    VFIO_USER_DMA_UNMAP = 3,
    VFIO_USER_DEVICE_GET_INFO = 4,
    VFIO_USER_DEVICE_GET_REGION_INFO = 5,
    VFIO_USER_DEVICE_GET_REGION_IO_FDS = 6,
    VFIO_USER_DEVICE_GET_IRQ_INFO = 7,
    VFIO_USER_DEVICE_SET_IRQS = 8,
    VFIO_USER_REGION_READ = 9,
    VFIO_USER_REGION_WRITE = 10,
    VFIO_USER_DMA_READ = 11,
    VFIO_USER_DMA_WRITE = 12,
    VFIO_USER_DEVICE_RESET = 13,
    VFIO_USER_REGION_WRITE_MULTI = 15,
    VFIO_USER_DEVICE_FEATURE = 16,
    VFIO_USER_MIG_DATA_READ = 17,
    VFIO_USER_MIG_DATA_WRITE = 18,
    VFIO_USER_COMMANDS = 19, /* one more than the highest */
};

/* Section "Header". */
struct vfio_user_header {
    uint16_t id;      /* chosen by the sender, echoed in the reply */
    uint16_t command; /* enum vfio_user_command */
    uint32_t size;    /* of the whole message, this header included */
    uint32_t flags;   /* VFIO_USER_FLAG_* */
    uint32_t error;   /* an errno value, when VFIO_USER_FLAG_ERROR is set in a reply */
};

#define VFIO_USER_FLAG_TYPE 0xfu /* bits 0-3 */
#define VFIO_USER_FLAG_TYPE_COMMAND 0x0u
#define VFIO_USER_FLAG_TYPE_REPLY 0x1u
#define VFIO_USER_FLAG_NO_REPLY (1u << 4)
#define VFIO_USER_FLAG_ERROR (1u << 5)

/* Section "VFIO_USER_VERSION". The data is JSON text that ends in a NUL, and is optional. */
struct vfio_user_version {
    uint16_t major;
    uint16_t minor;
    char data[];
};
#define VFIO_USER_MAJOR 0
#define VFIO_USER_MINOR 1

/* The values that hold when the version data does not name a capability. */
#define VFIO_USER_DEFAULT_MAX_MSG_FDS 1
#define VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE 1048576
#define VFIO_USER_DEFAULT_MAX_DMA_MAPS 65535
#define VFIO_USER_DEFAULT_PGSIZES 4096

/* Section "VFIO_USER_DMA_MAP"; flags are VFIO_DMA_MAP_FLAG_READ and _WRITE. No reply payload. */
struct vfio_user_dma_map {
    uint32_t argsz; /* size of this structure */
    uint32_t flags;
    uint64_t offset; /* into the file that comes along, 0 without one */
    uint64_t address;
    uint64_t size;
};

/*
 * Section "VFIO_USER_DMA_UNMAP". The reply repeats the request. Flags are VFIO_DMA_UNMAP_FLAG_ALL or
 * zero: the text calls them unused, clients and servers in the field agree on ALL with address and
 * size zero.
 */
struct vfio_user_dma_unmap {
    uint32_t argsz;
    uint32_t flags;
    uint64_t address;
    uint64_t size;
};

/* Section "VFIO_USER_DEVICE_GET_INFO". (The kernel's structure has grown, this one has not.) */
struct vfio_user_device_info {
    uint32_t argsz;
    uint32_t flags; /* VFIO_DEVICE_FLAGS_* */
    uint32_t num_regions;
    uint32_t num_irqs;
};

/* Section "VFIO_USER_DEVICE_GET_REGION_IO_FDS". */
struct vfio_user_region_io_fds {
    uint32_t argsz;
    uint32_t flags;
    uint32_t index;
    uint32_t count;
};

#define VFIO_USER_IO_FD_TYPE_IOEVENTFD 0
#define VFIO_USER_IO_FD_TYPE_IOREGIONFD 1 /* which Linux never had */

/* Flags of an ioeventfd; bits and meaning are those of <linux/kvm.h>. */
#define VFIO_USER_IOEVENTFD_DATAMATCH (1u << 0) /* KVM_IOEVENTFD_FLAG_DATAMATCH */
#define VFIO_USER_IOEVENTFD_PIO (1u << 1)       /* KVM_IOEVENTFD_FLAG_PIO */

struct vfio_user_sub_region {
    uint64_t offset;
    uint64_t size;
    uint32_t fd_index;
    uint32_t type;
    uint32_t flags;
    uint32_t padding;
    uint64_t datamatch; /* user_data of an ioregionfd */
};

/*
 * A capability of a region (struct vfio_region_info) that is not in the specification: what a
 * devicetree says of a device that is found by no bus. Each region of a device with
 * VFIO_DEVICE_FLAGS_PLATFORM has it, also one that cannot be mapped. Behind the fixed part follow, of
 * the sizes given and without gaps, three lists of strings, each string with its NUL:
 *   name         one: the region's own (in a devicetree: reg-names)
 *   compatible   what the device is, the most specific first
 *   irq_names    of the device's interrupts, in the order of their numbers (interrupt-names)
 * then zeros up to a multiple of 8. Strings are 1 to 31 printable characters (0x21 to 0x7e). The id is
 * "OB", far from those that <linux/vfio.h> numbers through.
 */
#define VFIO_USER_REGION_INFO_CAP_PLATFORM 0x4f42
struct vfio_user_region_info_cap_platform {
    struct vfio_info_cap_header header; /* version 1 */
    uint32_t name_size;
    uint32_t compatible_size;
    uint32_t irq_names_size;
    uint32_t reserved;
    uint8_t names[];
};

/* Sections "VFIO_USER_REGION_READ" and "VFIO_USER_REGION_WRITE": request and reply alike. */
struct vfio_user_region_access {
    uint64_t offset;
    uint32_t region;
    uint32_t count; /* data of a write, or of a read's reply, follows */
};

/* Section "VFIO_USER_REGION_WRITE_MULTI": an array of vfio_user_write follows in the request. */
struct vfio_user_write_multi {
    uint64_t wr_cnt;
};
struct vfio_user_write {
    uint64_t offset;
    uint32_t region;
    uint32_t count; /* 1 to 8 */
    uint8_t data[8];
};

/* Sections "VFIO_USER_DMA_READ" and "VFIO_USER_DMA_WRITE". */
struct vfio_user_dma_access {
    uint64_t address;
    uint64_t count; /* data of a write, or of a read's reply, follows */
};

/* Section "VFIO_USER_DEVICE_FEATURE"; flags are VFIO_DEVICE_FEATURE_*. */
struct vfio_user_device_feature {
    uint32_t argsz;
    uint32_t flags;
};

/* The data of its features. What the kernel's structures point to follows them here. (PRE_COPY is in
 * newer kernel headers under its own name, VFIO_DEVICE_STATE_PRE_COPY and VFIO_MIGRATION_PRE_COPY.) */
#define OB_DEVICE_STATE_PRE_COPY 6u
#define OB_MIGRATION_PRE_COPY (1u << 2)
struct vfio_user_dma_logging_start {
    uint64_t page_size;
    uint32_t num_ranges; /* struct vfio_device_feature_dma_logging_range follow; 0: all writes */
    uint32_t reserved;
};
struct vfio_user_dma_logging_report {
    uint64_t iova;
    uint64_t length;
    uint64_t page_size; /* 64-bit words of the bitmap follow in the reply */
};

/* Sections "VFIO_USER_MIG_DATA_READ" and "VFIO_USER_MIG_DATA_WRITE": data follows in a read's reply
 * and in a write's request. */
struct vfio_user_mig_data {
    uint32_t argsz;
    uint32_t size;
};

static_assert(sizeof(struct vfio_user_header) == 16, "header");
static_assert(sizeof(struct vfio_user_version) == 4, "version");
static_assert(sizeof(struct vfio_user_dma_map) == 32, "DMA map");
static_assert(sizeof(struct vfio_user_dma_unmap) == 24, "DMA unmap");
static_assert(sizeof(struct vfio_user_device_info) == 16, "device info");
static_assert(sizeof(struct vfio_region_info) == 32, "region info");
static_assert(sizeof(struct vfio_user_region_io_fds) == 16, "region I/O descriptors");
static_assert(sizeof(struct vfio_user_sub_region) == 40, "sub-region");
static_assert(sizeof(struct vfio_user_region_info_cap_platform) == 24, "platform capability");
static_assert(sizeof(struct vfio_irq_info) == 16, "interrupt info");
static_assert(sizeof(struct vfio_irq_set) == 20, "interrupt set");
static_assert(sizeof(struct vfio_user_region_access) == 16, "region access");
static_assert(sizeof(struct vfio_user_write) == 24, "one write of several");
static_assert(sizeof(struct vfio_user_dma_access) == 16, "DMA access");

#endif

/*
 * device.h - the device that the mirror plays: a PCI device with a bit of everything, and properly.
 *
 *   BAR0    registers, by messages: 0x00 reads "MIRR", 0x04 how many commands of the mirror the
 *           client has not answered yet; the rest keeps what is written
 *   BAR2    memory; its second and third page can be mapped
 *   BAR4    MSI-X table and pending bits
 *   config  256 bytes: MSI-X is the one capability
 */
#ifndef MIRROR_DEVICE_H
#define MIRROR_DEVICE_H

#include "mirror/reply.h"
#include "wire/message.h"
#include "wire/socket.h"

#define DEVICE_REGISTERS VFIO_PCI_BAR0_REGION_INDEX
#define DEVICE_MEMORY VFIO_PCI_BAR2_REGION_INDEX
#define DEVICE_TABLE VFIO_PCI_BAR4_REGION_INDEX

#define DEVICE_REGISTERS_SIZE 4096u
#define DEVICE_MEMORY_SIZE 16384u
#define DEVICE_FILE_SIZE 131072u /* of the file of BAR2, which lies at its start */
#define DEVICE_TABLE_SIZE 4096u
#define DEVICE_CONFIG_SIZE 256u
#define DEVICE_AREA_START 4096u
#define DEVICE_AREA_SIZE 8192u
#define DEVICE_STATE_SIZE 300u /* of migration data */
#define DEVICE_IRQ_TYPES (VFIO_PCI_MSIX_IRQ_INDEX + 1u)
#define DEVICE_VECTORS 2u

/* The info of BAR2, with its capability. */
struct device_sparse {
    struct vfio_region_info info;
    struct vfio_region_info_cap_sparse_mmap cap;
    struct vfio_region_sparse_mmap_area area;
};

#define DEVICE_MAPS 4096u
struct device_map {
    uint64_t address, size;
    uint32_t flags; /* VFIO_DMA_MAP_FLAG_* */
    int fd;         /* -1: none */
};

struct device {
    uint8_t registers[DEVICE_REGISTERS_SIZE];
    uint8_t table[DEVICE_TABLE_SIZE];
    uint8_t config[DEVICE_CONFIG_SIZE];
    int memory;       /* file of BAR2; cannot shrink, so that careful clients map it */
    uint8_t *mapped;  /* the same, here */
    int eventfd;      /* for GET_REGION_IO_FDS */
    int gift;         /* a file that no client has a use for */
    uint32_t state;   /* enum vfio_device_mig_state */
    size_t state_at;  /* how much of the migration data has been read */
    uint32_t pending; /* what register 4 reads */
    struct device_map maps[DEVICE_MAPS];
    unsigned maps_count;
};

int device_init(struct device *d); /* 0 or -errno */
void device_free(struct device *d);

/* Does what the command asks, and makes the reply. Descriptors that it keeps are taken out of *fds. */
void device_reply(struct device *d, const struct wire_message *m, struct wire_fds *fds,
                  struct reply *r);

/* An error reply to the command with this header. */
void device_error(const struct vfio_user_header *h, int error, struct reply *r);

/* The address of BAR4 as the client's guest has set it; 0: not yet. */
uint64_t device_bar4(const struct device *d);

#endif

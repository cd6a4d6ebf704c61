/* edu_vfio.c - by vfio-pci behind the guest's IOMMU: INTx or MSI, and addresses of our choice. */
#include "edu.h"

#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define ADDRESS 0x1000000u /* anything that the device can drive, and the IOMMU does not reserve */

static int container, device, event;
static off_t config;

static int open_group(const struct edu *edu)
{
    char link[256], target[256];

    snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group", edu->pci);
    long n = SYS(readlink(link, target, sizeof(target) - 1));
    target[n] = '\0';
    snprintf(link, sizeof(link), "/dev/vfio/%s", strrchr(target, '/') + 1);
    return (int)SYS(open(link, O_RDWR | O_CLOEXEC));
}

static off_t region(unsigned index, uint64_t *size)
{
    struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

    SYS(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info));
    *size = info.size;
    return (off_t)info.offset;
}

void vfio_map(void *memory, uint64_t address, uint64_t size)
{
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        .vaddr = (uintptr_t)memory,
        .iova = address,
        .size = size,
    };
    SYS(ioctl(container, VFIO_IOMMU_MAP_DMA, &map));
}

void vfio_unmap(uint64_t address, uint64_t size)
{
    struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof(unmap), .iova = address,
                                                .size = size };
    SYS(ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap));
    CHECK(unmap.size == size);
}

static void set_irq(unsigned index, uint32_t flags, const int *fd)
{
    union {
        struct vfio_irq_set set;
        uint8_t bytes[sizeof(struct vfio_irq_set) + sizeof(int)];
    } u = { .set = { .argsz = sizeof(struct vfio_irq_set), .index = index, .count = 1 } };

    u.set.flags = flags | (fd ? VFIO_IRQ_SET_DATA_EVENTFD : VFIO_IRQ_SET_DATA_NONE);
    if (fd) {
        memcpy(u.set.data, fd, sizeof(*fd));
        u.set.argsz += (uint32_t)sizeof(*fd);
    }
    SYS(ioctl(device, VFIO_DEVICE_SET_IRQS, &u.set));
}

static uint16_t config_read(struct edu *edu, unsigned at)
{
    uint16_t value;

    (void)edu;
    CHECK(pread(device, &value, 2, config + at) == 2);
    return value;
}

static void config_write(struct edu *edu, unsigned at, uint16_t value)
{
    (void)edu;
    CHECK(pwrite(device, &value, 2, config + at) == 2);
}

static unsigned wait_for_interrupt(struct edu *edu, int ms)
{
    struct pollfd p = { .fd = event, .events = POLLIN };
    uint64_t count;

    (void)edu;
    if (SYS(poll(&p, 1, ms)) == 0)
        return 0;
    CHECK(read(event, &count, 8) == 8);
    return (unsigned)count;
}

static void open_vfio(struct edu *edu)
{
    uint64_t size;

    container = (int)SYS(open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC));
    int group = open_group(edu);
    SYS(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
    SYS(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
    device = (int)SYS(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, edu->pci));
    event = (int)SYS(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    config = region(VFIO_PCI_CONFIG_REGION_INDEX, &size);

    off_t bar = region(VFIO_PCI_BAR0_REGION_INDEX, &size);
    edu->bar = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, device, bar);
    CHECK(edu->bar != MAP_FAILED);
    edu->memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    CHECK(edu->memory != MAP_FAILED);
    edu->address = ADDRESS;
    vfio_map(edu->memory, edu->address, MEMORY_SIZE);
    config_write(edu, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    set_irq(edu->way->is_message ? VFIO_PCI_MSI_IRQ_INDEX : VFIO_PCI_INTX_IRQ_INDEX,
            VFIO_IRQ_SET_ACTION_TRIGGER, &event);
}

static void unmask_intx(struct edu *edu)
{
    (void)edu;
    set_irq(VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, NULL);
}

static void unmask_msi(struct edu *edu)
{
    (void)edu; /* a message needs none */
}

static void reset(struct edu *edu)
{
    (void)edu;
    SYS(ioctl(device, VFIO_DEVICE_RESET));
}

const struct way vfio_intx = {
    .name = "vfio-intx",
    .open = open_vfio,
    .wait = wait_for_interrupt,
    .unmask = unmask_intx,
    .config_read = config_read,
    .config_write = config_write,
    .reset = reset,
};

const struct way vfio_msi = {
    .name = "vfio-msi",
    .open = open_vfio,
    .wait = wait_for_interrupt,
    .unmask = unmask_msi,
    .config_read = config_read,
    .config_write = config_write,
    .reset = reset,
    .is_message = 1,
};

/* edu_uio.c - by uio_pci_generic, which knows INTx alone, and physical addresses. */
#include "edu.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int config, interrupts;
static uint32_t counted;

static int open_in_sysfs(const struct edu *edu, const char *file, int mode)
{
    char path[256];

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", edu->pci, file);
    return (int)SYS(open(path, mode | O_CLOEXEC));
}

/* Interrupts are counted from when the driver took the device. */
static uint32_t count_so_far(const char *uio)
{
    char path[512], text[32] = "";

    snprintf(path, sizeof(path), "/sys/class/uio/%s/event", uio);
    int fd = (int)SYS(open(path, O_RDONLY | O_CLOEXEC));
    SYS(read(fd, text, sizeof(text) - 1));
    close(fd);
    return (uint32_t)strtoul(text, NULL, 10);
}

/* /dev/uioN, where N is in the name of a folder. */
static int open_interrupts(const struct edu *edu)
{
    char path[512];

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/uio", edu->pci);
    DIR *folder = opendir(path);
    if (!folder)
        fail("%s is not bound to uio_pci_generic", edu->pci);
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.')
            continue;
        counted = count_so_far(entry->d_name);
        snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
        closedir(folder);
        return (int)SYS(open(path, O_RDWR | O_CLOEXEC));
    }
    fail("%s has no uio device", edu->pci);
}

static uint64_t physical_address(const void *memory)
{
    uint64_t entry;
    int fd = (int)SYS(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));

    CHECK(pread(fd, &entry, 8, (off_t)((uintptr_t)memory / 4096 * 8)) == 8);
    close(fd);
    CHECK(entry >> 63); /* present */
    return (entry & ((1ull << 55) - 1)) * 4096;
}

/* A huge page: contiguous for the device as well, and it stays where it is. EDU_ABOVE: it has to
 * lie at that physical address or higher. */
static void get_memory(struct edu *edu)
{
    const char *above = getenv("EDU_ABOVE");
    uint64_t lowest = above ? strtoull(above, NULL, 0) : 0;
    int protection = PROT_READ | PROT_WRITE;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE;

    do {
        edu->memory = mmap(NULL, MEMORY_SIZE, protection, flags, -1, 0);
        if (edu->memory == MAP_FAILED)
            fail("no huge page at 0x%llx or above", (unsigned long long)lowest);
        memset(edu->memory, 0, MEMORY_SIZE);
        edu->address = physical_address(edu->memory);
    } while (edu->address < lowest);
    printf("memory at 0x%llx\n", (unsigned long long)edu->address);
}

static uint16_t config_read(struct edu *edu, unsigned at)
{
    uint16_t value;

    (void)edu;
    CHECK(pread(config, &value, 2, at) == 2);
    return value;
}

static void config_write(struct edu *edu, unsigned at, uint16_t value)
{
    (void)edu;
    CHECK(pwrite(config, &value, 2, at) == 2);
}

/* The driver's handler sets "interrupt disable", and leaves it to us to clear it. */
static void unmask(struct edu *edu)
{
    uint16_t command = config_read(edu, PCI_COMMAND);
    config_write(edu, PCI_COMMAND, command & (uint16_t)~PCI_COMMAND_INTX_DISABLE);
}

static unsigned wait_for_interrupt(struct edu *edu, int ms)
{
    struct pollfd p = { .fd = interrupts, .events = POLLIN };
    uint32_t count, before = counted;

    (void)edu;
    if (SYS(poll(&p, 1, ms)) == 0)
        return 0;
    CHECK(read(interrupts, &count, 4) == 4);
    counted = count;
    return count - before;
}

static void reset(struct edu *edu)
{
    int fd = open_in_sysfs(edu, "reset", O_WRONLY);

    SYS(write(fd, "1", 1));
    close(fd);
}

static void open_uio(struct edu *edu)
{
    config = open_in_sysfs(edu, "config", O_RDWR);
    interrupts = open_interrupts(edu);
    int bar = open_in_sysfs(edu, "resource0", O_RDWR);

    edu->bar = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, bar, 0);
    CHECK(edu->bar != MAP_FAILED);
    get_memory(edu);
    config_write(edu, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

const struct way uio = {
    .name = "uio",
    .open = open_uio,
    .wait = wait_for_interrupt,
    .unmask = unmask,
    .config_read = config_read,
    .config_write = config_write,
    .reset = reset,
};

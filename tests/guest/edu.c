/*
 * edu.c - checks of the teaching device from the guest's user space.
 *
 *   edu WAY ADDRESS CHECK [COUNT [CPU]]
 *
 * WAY is uio, vfio-intx or vfio-msi, ADDRESS a PCI function's, CPU the one to interrupt. Exit
 * status 0 when all was right; otherwise 1 and a line that says what was not.
 */
#include "edu.h"

#include <dirent.h>
#include <errno.h>
#include <linux/pci_regs.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define IDENTIFICATION 0x00
#define LIVENESS 0x04
#define FACTORIAL 0x08
#define STATUS 0x20
#define IRQ_STATUS 0x24
#define IRQ_RAISE 0x60
#define IRQ_ACKNOWLEDGE 0x64
#define DMA_SOURCE 0x80
#define DMA_DESTINATION 0x88
#define DMA_COUNT 0x90
#define DMA_COMMAND 0x98

#define STATUS_COMPUTING 0x01u
#define STATUS_IRQ 0x80u
#define RUN 0x01u
#define TO_RAM 0x02u
#define WITH_IRQ 0x04u

#define BUFFER 0x40000u
#define BUFFER_SIZE 4096u

#define SOON 10000 /* ms; what happens at all happens long before */
#define QUIET 30   /* ms in which nothing may happen */

void fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    exit(1);
}

long sys_result(long result, const char *call)
{
    if (result == -1)
        fail("%s: %s", call, strerror(errno));
    return result;
}

static uint32_t get(struct edu *edu, unsigned reg)
{
    return *(volatile uint32_t *)(edu->bar + reg);
}

static void set(struct edu *edu, unsigned reg, uint32_t value)
{
    *(volatile uint32_t *)(edu->bar + reg) = value;
}

static void set_wide(struct edu *edu, unsigned reg, uint64_t value)
{
    *(volatile uint64_t *)(edu->bar + reg) = value;
}

/* ---- Registers ------------------------------------------------------------------------------- */

static void check_registers(struct edu *edu, unsigned count)
{
    (void)count;
    CHECK(get(edu, IDENTIFICATION) == 0x010000ed);
    set(edu, IDENTIFICATION, 0);
    CHECK(get(edu, IDENTIFICATION) == 0x010000ed);
    for (uint32_t bit = 1; bit; bit <<= 1) {
        set(edu, LIVENESS, bit);
        CHECK(get(edu, LIVENESS) == ~bit);
    }
    CHECK(get(edu, 0x0c) == UINT32_MAX); /* none of its registers, ... */
    CHECK(get(edu, 0xffffc) == UINT32_MAX); /* ... at the end of the BAR either */
    set_wide(edu, DMA_SOURCE, 0x123456789abcdef0);
    CHECK(*(volatile uint64_t *)(edu->bar + DMA_SOURCE) == 0x123456789abcdef0);
    set(edu, DMA_SOURCE, 0x55);
    CHECK(*(volatile uint64_t *)(edu->bar + DMA_SOURCE) == 0x55);
}

static uint32_t factorial(uint32_t n)
{
    uint32_t product = 1;

    for (; n > 1; n--)
        product *= n;
    return product;
}

static void check_factorial(struct edu *edu, unsigned count)
{
    (void)count;
    for (uint32_t n = 0; n <= 40; n++) {
        set(edu, FACTORIAL, n);
        while (get(edu, STATUS) & STATUS_COMPUTING)
            sched_yield();
        CHECK(get(edu, FACTORIAL) == factorial(n));
    }
    CHECK(edu->way->wait(edu, QUIET) == 0);
}

/* ---- Interrupts ------------------------------------------------------------------------------ */

static void acknowledge(struct edu *edu, uint32_t bits)
{
    set(edu, IRQ_ACKNOWLEDGE, bits);
    edu->way->unmask(edu);
}

/* The number that the guest's kernel gave the interrupt. */
static unsigned irq_number(const struct edu *edu)
{
    char path[256];
    unsigned irq = 0;

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", edu->pci,
             edu->way->is_message ? "msi_irqs" : "irq");
    if (edu->way->is_message) { /* a folder with one file, named after it */
        DIR *folder = opendir(path);
        CHECK(folder);
        for (struct dirent *entry; (entry = readdir(folder));)
            if (entry->d_name[0] != '.')
                irq = (unsigned)strtoul(entry->d_name, NULL, 10);
        closedir(folder);
    } else {
        FILE *file = fopen(path, "r");
        CHECK(file && fscanf(file, "%u", &irq) == 1);
        fclose(file);
    }
    CHECK(irq);
    return irq;
}

/* How often it came according to the guest's kernel: on that CPU, or (-1) on all. */
static unsigned long kernel_count(unsigned irq, int cpu)
{
    char line[1024], *at;
    unsigned long count = 0;
    FILE *file = fopen("/proc/interrupts", "r");

    CHECK(file);
    while (fgets(line, sizeof(line), file)) {
        if (strtoul(line, &at, 10) != irq || *at != ':')
            continue;
        at++;
        for (int i = 0; i < sysconf(_SC_NPROCESSORS_ONLN); i++) {
            unsigned long n = strtoul(at, &at, 10);
            if (cpu == -1 || cpu == i)
                count += n;
        }
    }
    fclose(file);
    return count;
}

static void choose_cpu(unsigned irq, int cpu)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/irq/%u/smp_affinity_list", irq);
    FILE *file = fopen(path, "w");
    CHECK(file && fprintf(file, "%d", cpu) > 0 && fclose(file) == 0);
}

/* One interrupt, for these bits. */
static void expect_interrupt(struct edu *edu, uint32_t bits)
{
    unsigned n = edu->way->wait(edu, SOON);

    if (n != 1)
        fail("%u interrupts instead of 1 for status 0x%x", n, bits);
    CHECK(get(edu, IRQ_STATUS) == bits);
    acknowledge(edu, bits);
    CHECK(get(edu, IRQ_STATUS) == 0);
}

static void check_factorial_interrupt(struct edu *edu, unsigned count)
{
    set(edu, STATUS, STATUS_IRQ);
    for (uint32_t n = 0; n < count; n++) {
        set(edu, FACTORIAL, n);
        expect_interrupt(edu, 1);
        CHECK(get(edu, STATUS) == STATUS_IRQ);
        CHECK(get(edu, FACTORIAL) == factorial(n));
    }
    set(edu, STATUS, 0);
    CHECK(edu->way->wait(edu, QUIET) == 0);
}

/* As many interrupts as were raised, whatever their bits, as counted here and by the kernel. */
static void check_raise(struct edu *edu, unsigned count)
{
    unsigned irq = irq_number(edu);

    if (edu->cpu != -1)
        choose_cpu(irq, edu->cpu);
    unsigned long before = kernel_count(irq, -1), there = kernel_count(irq, edu->cpu);
    for (unsigned i = 0; i < count; i++) {
        uint32_t bits = 1u << (i % 32);
        set(edu, IRQ_RAISE, bits);
        expect_interrupt(edu, bits);
    }
    CHECK(edu->way->wait(edu, QUIET) == 0);
    CHECK(kernel_count(irq, -1) - before == count);
    CHECK(kernel_count(irq, edu->cpu) - there == count);
}

/* A level interrupts again until it is acknowledged; a message comes once each time. */
static void check_unacknowledged(struct edu *edu, unsigned count)
{
    set(edu, IRQ_RAISE, 0x6);
    for (unsigned i = 0; i < count; i++) {
        CHECK(edu->way->wait(edu, SOON) == 1);
        CHECK(get(edu, IRQ_STATUS) == 0x6);
        if (edu->way->is_message)
            set(edu, IRQ_RAISE, 0x2);
        edu->way->unmask(edu);
    }
    expect_interrupt(edu, 0x6);
    CHECK(edu->way->wait(edu, QUIET) == 0);
}

/* ---- DMA ------------------------------------------------------------------------------------- */

static void fill(uint8_t *memory, size_t n)
{
    static uint32_t random = 1;

    for (size_t i = 0; i < n; i++) {
        random = random * 1103515245 + 12345;
        memory[i] = (uint8_t)(random >> 16);
    }
}

static void transfer(struct edu *edu, uint64_t from, uint64_t to, uint32_t n, uint32_t command)
{
    set_wide(edu, DMA_SOURCE, from);
    set_wide(edu, DMA_DESTINATION, to);
    set_wide(edu, DMA_COUNT, n);
    set_wide(edu, DMA_COMMAND, RUN | command);
    if (command & WITH_IRQ)
        expect_interrupt(edu, 0x100);
    else
        while (get(edu, DMA_COMMAND) & RUN)
            sched_yield();
    CHECK((get(edu, DMA_COMMAND) & RUN) == 0);
}

/*
 * Takes n bytes at memory + at into the device and back to memory + back: they arrive, and not one
 * byte beside them changes. `beyond` is added to the addresses that the device is told.
 */
static void round_trip(struct edu *edu, size_t at, size_t back, uint32_t n, uint32_t command,
                       uint64_t beyond)
{
    static uint8_t pattern[BUFFER_SIZE], expected[MEMORY_SIZE];
    uint64_t address = edu->address + beyond;
    uint32_t inside = BUFFER + (BUFFER_SIZE - n) / 2;

    fill(pattern, n);
    memcpy(edu->memory + at, pattern, n);
    memcpy(expected, edu->memory, MEMORY_SIZE);
    transfer(edu, address + at, inside, n, command);
    CHECK(memcmp(expected, edu->memory, MEMORY_SIZE) == 0);

    /* Other bytes in both places, so that what does not come is missed. */
    fill(edu->memory + at, n);
    fill(edu->memory + back, n);
    memcpy(expected, edu->memory, MEMORY_SIZE);
    memcpy(expected + back, pattern, n);
    transfer(edu, inside, address + back, n, command | TO_RAM);
    CHECK(memcmp(expected, edu->memory, MEMORY_SIZE) == 0);
}

static void check_dma(struct edu *edu, unsigned count)
{
    (void)count;
    round_trip(edu, 0, 8192, 4096, 0, 0);
    round_trip(edu, 4095, 1, 1, 0, 0);
    round_trip(edu, 3, 12289, 4093, 0, 0);
    round_trip(edu, 8191, 4097, 4096, 0, 0);
    round_trip(edu, MEMORY_SIZE - 4096, 77, 4096, 0, 0);
    round_trip(edu, 77, MEMORY_SIZE - 513, 513, 0, 0);
    round_trip(edu, 4096, 4096, 4096, 0, 0);
    CHECK(edu->way->wait(edu, QUIET) == 0);
}

static void check_dma_interrupt(struct edu *edu, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        round_trip(edu, 111 * i, MEMORY_SIZE / 2 + 97 * i, 4096 - i % 4096, WITH_IRQ, 0);
    CHECK(edu->way->wait(edu, QUIET) == 0);
}

/* The device does not drive this address bit. */
static void check_dma_mask(struct edu *edu, unsigned bit)
{
    round_trip(edu, 100, 8000, 4000, 0, 1ull << bit);
    round_trip(edu, 100, 8000, 4000, 0, ~0ull << bit);
}

/* It is over like any other, and moved nothing. */
static void transfer_nothing(struct edu *edu, uint64_t from, uint64_t to, uint64_t n,
                             uint32_t command)
{
    static uint8_t expected[MEMORY_SIZE];

    fill(edu->memory, MEMORY_SIZE);
    memcpy(expected, edu->memory, MEMORY_SIZE);
    transfer(edu, from, to, (uint32_t)n, command);
    CHECK(memcmp(expected, edu->memory, MEMORY_SIZE) == 0);
}

static void check_dma_refused(struct edu *edu, unsigned count)
{
    static const struct { uint64_t inside; uint32_t n; } wrong[] = {
        { BUFFER - 1, 1 },   { BUFFER, 4097 },     { BUFFER + 4096, 1 },   { BUFFER + 1, 4096 },
        { 0, 4096 },         { UINT64_MAX, 2 },    { UINT64_MAX, 4096 },   { BUFFER, UINT32_MAX },
        { BUFFER, 0 },       { BUFFER + 4095, 2 }, { BUFFER + (1ull << 32), 4 },
    };

    (void)count;
    for (unsigned i = 0; i < LENGTH(wrong); i++)
        transfer_nothing(edu, wrong[i].inside, edu->address, wrong[i].n, TO_RAM | WITH_IRQ);

    uint16_t command = edu->way->config_read(edu, PCI_COMMAND);
    edu->way->config_write(edu, PCI_COMMAND, command & (uint16_t)~PCI_COMMAND_MASTER);
    /* Without a message: the bus master bit is what lets messages out, too. */
    transfer_nothing(edu, BUFFER, edu->address, 4096, TO_RAM);
    edu->way->config_write(edu, PCI_COMMAND, command);
    round_trip(edu, 0, 8192, 4096, WITH_IRQ, 0);
}

/* Pages in the reverse order, so that neighbours for the device are none in memory. */
static void check_scattered(struct edu *edu, unsigned pages)
{
    uint8_t pattern[4096];
    uint64_t size = 4096ull * pages, base = edu->address;

    vfio_unmap(base, MEMORY_SIZE);
    for (unsigned i = 0; i < pages; i++)
        vfio_map(edu->memory + size - 4096 * (i + 1), base + 4096ull * i, 4096);

    for (unsigned i = 0; i + 1 < pages; i++) {
        uint8_t *first = edu->memory + size - 4096 * (i + 1), *second = first - 4096;
        fill(first, 4096);
        fill(second, 4096);
        memcpy(pattern, first + 1024, 3072);
        memcpy(pattern + 3072, second, 1024);
        transfer(edu, base + 4096ull * i + 1024, BUFFER, 4096, 0);
        fill(first, 4096);
        fill(second, 4096);
        transfer(edu, BUFFER, base + 4096ull * i + 1024, 4096, TO_RAM);
        CHECK(memcmp(first + 1024, pattern, 3072) == 0);
        CHECK(memcmp(second, pattern + 3072, 1024) == 0);
    }
    for (unsigned i = 0; i < pages; i += 2) /* not in order, and with neighbours left */
        vfio_unmap(base + 4096ull * i, 4096);
    for (unsigned i = 1; i < pages; i += 2)
        vfio_unmap(base + 4096ull * i, 4096);
    vfio_map(edu->memory, base, MEMORY_SIZE);
    round_trip(edu, 0, 8192, 4096, 0, 0);
}

/* An address means what it is mapped to, now; and nothing when it is not. */
static void check_remapped(struct edu *edu, unsigned count)
{
    uint64_t address = edu->address + MEMORY_SIZE;
    uint8_t *old = edu->memory, *other = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    CHECK(other != MAP_FAILED);
    for (unsigned i = 0; i < count; i++) {
        vfio_map(i % 2 ? old : other, address, 4096);
        fill(old, 4096);
        fill(other, 4096);
        transfer(edu, edu->address, BUFFER, 4096, 0);
        transfer(edu, BUFFER, address, 4096, TO_RAM);
        CHECK(memcmp(old, other, 4096) == 0 || i % 2);
        vfio_unmap(address, 4096);
        transfer_nothing(edu, BUFFER, address, 4096, TO_RAM);
        fill(other, 4096);
        memcpy(old, other, 4096);
        transfer(edu, BUFFER, address, 4096, TO_RAM);
        CHECK(memcmp(old, other, 4096) == 0);
    }
    round_trip(edu, 0, 8192, 4096, WITH_IRQ, 0);
}

/* ---- Reset ----------------------------------------------------------------------------------- */

/* What a device is after a reset, and what it is not before one. */
static void check_fresh(struct edu *edu, unsigned count)
{
    (void)count;
    CHECK(get(edu, LIVENESS) == 0);
    CHECK(get(edu, FACTORIAL) == 0);
    CHECK(get(edu, STATUS) == 0);
    CHECK(get(edu, IRQ_STATUS) == 0);
    CHECK(get(edu, DMA_SOURCE) == 0);
    CHECK(edu->way->wait(edu, QUIET) == 0);
}

static void leave_used(struct edu *edu, unsigned count)
{
    (void)count;
    set(edu, LIVENESS, 1);
    set(edu, STATUS, STATUS_IRQ);
    set_wide(edu, DMA_SOURCE, 1);
    set(edu, IRQ_RAISE, 0x8);
    CHECK(edu->way->wait(edu, SOON) == 1);
}

static void check_reset(struct edu *edu, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        leave_used(edu, 0);
        set(edu, STATUS, 0);
        set(edu, FACTORIAL, 5); /* its end is never seen */
        edu->way->reset(edu);
        check_fresh(edu, 0);
        CHECK(get(edu, FACTORIAL) == 0);
        edu->way->unmask(edu);
        round_trip(edu, 0, 8192, 4096, WITH_IRQ, 0);
    }
}

/* ---- The program ----------------------------------------------------------------------------- */

static const struct way *const ways[] = { &uio, &vfio_intx, &vfio_msi };

static const struct check {
    const char *name;
    void (*run)(struct edu *edu, unsigned count);
} checks[] = {
    { "registers", check_registers },
    { "factorial", check_factorial },
    { "factorial-interrupt", check_factorial_interrupt },
    { "raise", check_raise },
    { "unacknowledged", check_unacknowledged },
    { "dma", check_dma },
    { "dma-interrupt", check_dma_interrupt },
    { "dma-mask", check_dma_mask },
    { "dma-refused", check_dma_refused },
    { "scattered", check_scattered },
    { "remapped", check_remapped },
    { "reset", check_reset },
    { "leave-used", leave_used },
    { "fresh", check_fresh },
};

int main(int argc, char **argv)
{
    struct edu edu = { .cpu = argc > 5 ? atoi(argv[5]) : -1 };
    const struct check *check = NULL;

    if (argc < 4)
        fail("usage: edu WAY ADDRESS CHECK [COUNT [CPU]]");
    for (unsigned i = 0; i < LENGTH(ways); i++)
        if (strcmp(argv[1], ways[i]->name) == 0)
            edu.way = ways[i];
    for (unsigned i = 0; i < LENGTH(checks); i++)
        if (strcmp(argv[3], checks[i].name) == 0)
            check = &checks[i];
    if (!edu.way || !check)
        fail("no way %s or no check %s", argv[1], argv[3]);
    edu.pci = argv[2];
    edu.way->open(&edu);
    check->run(&edu, argc > 4 ? (unsigned)strtoul(argv[4], NULL, 0) : 0);
    return 0;
}

/*
 * library_memory.c - cases of library.c: interrupts, memory of both sides, and threads.
 */
#include "library.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

/* ---- Interrupts ----------------------------------------------------------------------------- */

void case_interrupts(void)
{
    int wire = event(), message = event(), unmask = event();

    connected();
    CHECK(ob_client_irq_eventfds(c, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1,
                                 &wire),
          0);
    CHECK(ob_client_irq_eventfds(c, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, 0, 1,
                                 &unmask),
          0);
    set(0x60, 1);
    CHECK(count(wire), 1);
    CHECK(ob_client_irq_act(c, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, NULL), 0);
    CHECK(count(wire), 1);
    CHECK(eventfd_write(unmask, 1), 0);
    CHECK(wait_for(wire), 1);
    set(0x64, 1);
    CHECK(ob_client_irq_eventfds(c, VFIO_PCI_MSI_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1,
                                 &message),
          0);
    set(0x60, 1);
    CHECK(count(message), 1);
    uint8_t on = 1;
    CHECK(ob_client_irq_act(c, VFIO_PCI_MSI_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, &on), 0);
    CHECK(count(message), 1);
    CHECK(ob_client_irq_disable(c, VFIO_PCI_MSI_IRQ_INDEX), 0);
    set(0x64, 1);
    set(0x60, 2);
    CHECK(count(message), 0);
    CHECK(ob_client_irq_disable(c, 9), -EINVAL);
    set(0x20, 0x80);
    CHECK(ob_client_irq_eventfds(c, VFIO_PCI_MSI_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1,
                                 &message),
          0);
    set(8, 6);
    CHECK(wait_for(message), 1);
    CHECK(get(8), 720);
}

/* 80 vectors, though a message carries 16 descriptors; each one its own. */
void case_vectors(void)
{
    int fds[80], holes[80];

    connected();
    for (int i = 0; i < 80; i++) {
        fds[i] = event();
        holes[i] = i % 3 ? fds[i] : -1;
    }
    CHECK(
        ob_client_irq_eventfds(c, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 80, fds),
        0);
    for (uint32_t i = 0; i < 80; i++)
        set(0xc, i);
    for (int i = 0; i < 80; i++)
        CHECK(count(fds[i]), 1);
    CHECK(ob_client_irq_eventfds(c, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 80,
                                 holes),
          0);
    for (uint32_t i = 0; i < 80; i++)
        set(0xc, i);
    for (int i = 0; i < 80; i++)
        CHECK(count(fds[i]), i % 3 ? 1 : 0);
    CHECK(ob_client_irq_eventfds(c, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 80,
                                 NULL),
          0);
    CHECK(get(0x1c), 0);
    TRUE(ob_client_irq_eventfds(c, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 1, 80,
                                fds) < 0);
}

/* ---- Memory --------------------------------------------------------------------------------- */

static void edu_dma(uint64_t source, uint64_t destination, uint64_t n, bool to_ram)
{
    set64(0x80, source);
    set64(0x88, destination);
    set64(0x90, n);
    set64(0x98, to_ram ? 3 : 1);
    /* Whoever waits for a reply answers the device's messages, so reading the register is enough. */
    for (uint64_t command = 1; command & 1;)
        CHECK(ob_client_read(c, 0, 0x98, &command, 8), 0);
}

static void dma(int fd, uint8_t *memory)
{
    bus_master();
    CHECK(ob_client_dma_map(c, 0x100000, 8192, memory, fd, 0,
                            VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE),
          0);
    CHECK(ob_client_dma_map(c, 0x101000, 8192, memory, fd, 0, VFIO_DMA_MAP_FLAG_READ), -EEXIST);
    for (int i = 0; i < 4096; i++)
        memory[i] = (uint8_t)(i * 5);
    edu_dma(0x100000, 0x40000, 4096, false);
    edu_dma(0x40000, 0x101000, 4096, true);
    CHECK(memcmp(memory, memory + 4096, 4096), 0);
    CHECK(ob_client_dma_unmap(c, 0x100000, 4096), -ENOENT);
    CHECK(ob_client_dma_unmap(c, 0x100000, 8192), 0);
    CHECK(ob_client_dma_unmap(c, 0x100000, 8192), -ENOENT);
    memory[0] = 0x77;
    edu_dma(0x40000, 0x100000, 4096, true); /* ends, and reaches nothing */
    CHECK(memory[0], 0x77);
    CHECK(ob_client_dma_map(c, 0, 8192, memory, fd, 0, VFIO_DMA_MAP_FLAG_READ), 0);
    edu_dma(0x40000, 0, 4096, true); /* read only */
    CHECK(memory[0], 0x77);
    CHECK(ob_client_dma_unmap_all(c), 0);
    CHECK(ob_client_dma_map(c, 0, 8192, memory, fd, 0, VFIO_DMA_MAP_FLAG_READ), 0);
}

void case_dma_by_descriptor(void)
{
    void *memory;
    int fd = memory_file(8192, &memory);
    connected();
    dma(fd, memory);
}

void case_dma_by_messages(void)
{
    uint8_t *memory = calloc(2, 4096);
    connected();
    dma(-1, memory);
    ob_client_free(c);
    c = NULL;
    free(memory);
}

/* A program that waits for an interrupt has to serve the connection meanwhile. */
void case_process(void)
{
    uint8_t *memory = calloc(1, 4096);
    int message = event();

    connected();
    bus_master();
    memcpy(memory, "by message", 10);
    CHECK(ob_client_dma_map(c, 0, 4096, memory, -1, 0,
                            VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE),
          0);
    CHECK(ob_client_irq_eventfds(c, VFIO_PCI_MSI_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1,
                                 &message),
          0);
    set64(0x80, 0);
    set64(0x88, 0x40000);
    set64(0x90, 4096);
    set64(0x98, 5); /* interrupt when done */
    struct pollfd p[2] = { { message, POLLIN, 0 }, { ob_client_fd(c), POLLIN, 0 } };
    while (!(p[0].revents & POLLIN)) {
        TRUE(poll(p, 2, 20000) > 0);
        CHECK(ob_client_process(c), 0);
    }
    CHECK(count(message), 1);
    ob_client_free(c);
    c = NULL;
    free(memory);
}

void case_large(void)
{
    static uint8_t out[1 << 20], in[1 << 20];

    connected();
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (uint8_t)(i * 31 + (i >> 9));
    CHECK(ob_client_write(c, 5, 0, out, sizeof out), 0);
    CHECK(ob_client_read(c, 5, 0, in, sizeof in), 0);
    CHECK(memcmp(in, out, sizeof in), 0);
    CHECK(ob_client_read(c, 5, 1, in, sizeof in), -EINVAL); /* the last piece is too long */
    CHECK(ob_client_transfer_size(c), 65536);
}

void case_mappings(void)
{
    struct ob_region *region;
    void *p;

    connected();
    CHECK(ob_client_region(c, 2, &region), 0);
    TRUE(region->size == 0x4000 && !region->has_areas && region->fd >= 0 && !region->may_shrink);
    CHECK(ob_region_map(region, 0x1000, 0x2000, PROT_READ | PROT_WRITE, &p), 0);
    uint32_t *word = p;
    word[1] = 0x600d600d;
    set(0x2c, 0x1004);
    CHECK(get(0x30), 0x600d600d);
    set(0x30, 0xabcdef01);
    CHECK(word[1], 0xabcdef01);
    munmap(p, 0x2000);
    CHECK(ob_region_map(region, 0, 0x5000, PROT_READ, &p), -EINVAL);
    CHECK(ob_region_map(region, 1, 0x1000, PROT_READ, &p), -EINVAL);
    CHECK(ob_region_map(region, 0, 0, PROT_READ, &p), -EINVAL);
    ob_region_free(region);

    CHECK(ob_client_region(c, 4, &region), 0);
    TRUE(region->has_areas && region->areas_count == 2 && region->areas[1].offset == 0x4000 &&
         region->areas[1].size == 0x2000);
    CHECK(ob_region_map(region, 0x5000, 0x1000, PROT_READ | PROT_WRITE, &p), 0);
    ((uint8_t *)p)[7] = 0x42;
    uint8_t byte = 0;
    CHECK(ob_client_read(c, 4, 0x5007, &byte, 1), 0);
    CHECK(byte, 0x42);
    munmap(p, 0x1000);
    CHECK(ob_region_map(region, 0, 0x1000, PROT_READ, &p), -EINVAL);
    CHECK(ob_region_map(region, 0x5000, 0x2000, PROT_READ, &p), -EINVAL);
    ob_region_free(region);
}

/* ---- Threads -------------------------------------------------------------------------------- */

#define THREADS 8
#define ROUNDS 1500
static void *read_and_write(void *arg)
{
    uint64_t place = (uint64_t)(uintptr_t)arg * 4096, value;

    for (uint64_t i = 1; i <= ROUNDS; i++) {
        uint64_t mark = place << 32 | i;
        if (i % 3)
            CHECK(ob_client_write(c, 5, place, &mark, 8), 0);
        else
            CHECK(ob_client_post(c, 5, place, &mark, 8), 0);
        CHECK(ob_client_read(c, 5, place, &value, 8), 0);
        TRUE(value == mark);
    }
    return NULL;
}

/* All use one connection, and the device reads and writes memory by messages meanwhile. */
void case_threads(void)
{
    pthread_t threads[THREADS];
    uint8_t *memory = calloc(1, 4096);

    connected();
    bus_master();
    CHECK(ob_client_dma_map(c, 0, 4096, memory, -1, 0,
                            VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE),
          0);
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, read_and_write, (void *)i), 0);
    for (uint32_t i = 0; i < 200; i++) {
        memory[0] = (uint8_t)i;
        set(0x108, 0x80000); /* channel 0: read guest memory to there */
        set(0x10c, 1);
        set(0x110, 1);
        while (get(0x118) != i + 1)
            ;
        uint8_t byte = 0;
        CHECK(ob_client_read(c, 5, 0x80000, &byte, 1), 0);
        CHECK(byte, (uint8_t)i);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    ob_client_free(c);
    c = NULL;
    free(memory);
}

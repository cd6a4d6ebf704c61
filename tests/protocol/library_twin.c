/*
 * library_twin.c - cases of library.c: the server's commands on a socket of their own.
 */
#include "library.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define BOTH (VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)
#define SIZE (1u << 20)

static uint8_t memory[2 * SIZE];

static void connected_with_twin(void)
{
    struct ob_capabilities ours, theirs;

    c = ob_client_new();
    TRUE(c);
    CHECK(ob_client_twin_fd(c), -ENOTCONN);
    CHECK(ob_client_set_twin(c, true), 0);
    CHECK(ob_client_connect(c, path), 0);
    CHECK(ob_client_set_twin(c, false), -EISCONN);
    CHECK(ob_client_capabilities(c, &ours, &theirs), 0);
    TRUE(ours.twin_socket && theirs.twin_socket);
    TRUE(ob_client_twin_fd(c) >= 0 && ob_client_twin_fd(c) != ob_client_fd(c));
    bus_master();
    CHECK(ob_client_dma_map(c, 0, sizeof memory, memory, -1, 0, BOTH), 0);
}

/* Channel 0 of probe moves all of its memory: 1 reads ours, 2 writes it. Does not wait. */
static void begin(uint32_t command, uint32_t address)
{
    set(0x100, address);
    set(0x104, 0);
    set(0x108, 0);
    set(0x10c, SIZE);
    set(0x110, command);
}

static void wait_done(uint32_t transfers)
{
    while (get(0x118) != transfers)
        ;
    CHECK(get(0x114), 0);
}

static void there_and_back(uint32_t transfers)
{
    for (size_t i = 0; i < SIZE; i++) {
        memory[i] = (uint8_t)(i * 7 + i / 4096 + transfers);
        memory[SIZE + i] = 0;
    }
    begin(1, 0);
    wait_done(transfers + 1);
    begin(2, SIZE);
    wait_done(transfers + 2);
    TRUE(memcmp(memory, memory + SIZE, SIZE) == 0);
}

/* Threads that wait for replies answer. */
void case_twin(void)
{
    connected_with_twin();
    there_and_back(0);
    CHECK(ob_client_set_spin(c, 50), 0);
    there_and_back(2);
    CHECK(ob_client_set_spin(c, 0), 0);
    begin(1, 0);
    CHECK(ob_client_reset(c), 0); /* waits for the commands under way */
    bus_master();
    there_and_back(0);
    begin(2, 0);
    CHECK(ob_client_dma_unmap(c, 0, sizeof memory), 0);
    memset(memory, 0x77, sizeof memory);
    while (get(0x118) != 3)
        ;
    uint32_t result = get(0x114); /* the whole may have been there before the unmap */
    TRUE(result == 0 || result == EFAULT);
    for (size_t i = 0; i < sizeof memory; i++)
        if (memory[i] != 0x77)
            CHECK(i, -1);
}

/* Nobody waits for a reply: the program waits for the sockets. */
void case_twin_process(void)
{
    int message = event();

    connected_with_twin();
    CHECK(ob_client_irq_eventfds(c, VFIO_PCI_MSI_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1,
                                 &message),
          0);
    begin(1, 0);
    set(0x48, 0); /* timer 0, with message 0 */
    struct pollfd p[] = { { ob_client_fd(c), POLLIN, 0 }, { ob_client_twin_fd(c), POLLIN, 0 } };
    uint64_t messages = 0; /* the timer may be first */
    while ((messages += count(message)) == 0 || get(0x118) != 1) {
        TRUE(poll(p, 2, 20) >= 0);
        CHECK(ob_client_process(c), 0);
    }
}

static void *serve(void *result)
{
    *(int *)result = ob_client_serve(c);
    return NULL;
}

void case_twin_serve(void)
{
    pthread_t thread;
    int result = 0;

    connected_with_twin();
    CHECK(pthread_create(&thread, NULL, serve, &result), 0);
    there_and_back(0);
    there_and_back(2);
    CHECK(ob_client_reset(c), 0);
    while (ob_client_serve(c) != -EBUSY) /* when the thread has begun */
        ;
    bus_master();
    there_and_back(0);
    ob_client_disconnect(c);
    pthread_join(thread, NULL);
    CHECK(result, -ENOTCONN);
    CHECK(ob_client_reset(c), -ENOTCONN);
}

/* A device that sends no commands has no use for one, and the client does not mind. */
void case_twin_declined(void)
{
    c = ob_client_new();
    CHECK(ob_client_set_twin(c, true), 0);
    CHECK(ob_client_connect(c, path), 0);
    CHECK(ob_client_twin_fd(c), -ENOTSUP);
    CHECK(ob_client_serve(c), -ENOTSUP);
    CHECK(ob_client_process(c), 0);
    CHECK(ob_client_reset(c), 0);
}

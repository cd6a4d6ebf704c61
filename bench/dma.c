/*
 * dma.c - transfers by DMA_READ and DMA_WRITE messages between our two sides, next to messages of the
 * same sizes over a bare socket.
 *
 *     dma SOCKET PID
 *
 * SOCKET is a server of tests/devices/probe.c, which transfers between guest memory and its own, over and
 * over; PID is the process that serves it. The memory has no descriptor, so each transfer is messages: we
 * answer them, from liboutboard. The raw side is a child that asks for the same bytes, or sends them, in
 * messages of the same sizes, and has an answer before it sends the next. Both run in turns, for equal
 * times, on one core and on two. Prints one JSON object; rates are MB (10^6 bytes) a second.
 */
#include "rounds.h"

#include <outboard/client.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIECE 65536u         /* of data in one message */
#define SECONDS 0.1          /* of one measurement */
#define ROUNDS 7
#define HEAD 32              /* header, address and count */
#define MEMORY (1u << 20)

/* Registers of the probe's channel 0, and what to write to them. */
enum { ADDRESS_LOW = 0x100, MEMORY_AT = 0x108, SIZE = 0x10c, COMMAND = 0x110, DONE = 0x118, NEXT = 0x11c };
enum { READ = 1, WRITE = 2 };

static char memory[MEMORY];

static void die(const char *what)
{
    fprintf(stderr, "dma: %s\n", what);
    exit(1);
}

/* ---- The raw side ------------------------------------------------------------------------ */

static void send_all(int sock, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t sent = send(sock, p, n, MSG_NOSIGNAL);
        if (sent <= 0)
            _exit(1);
        p += sent;
        n -= (size_t)sent;
    }
}

/* In one go, as long as the socket takes it. */
static void send_two(int sock, const char *a, size_t n, const char *b, size_t m)
{
    struct iovec iov[2] = { { (void *)(uintptr_t)a, n }, { (void *)(uintptr_t)b, m } };
    ssize_t sent = writev(sock, iov, 2);

    if (sent < (ssize_t)n)
        _exit(1);
    send_all(sock, b + ((size_t)sent - n), m - ((size_t)sent - n));
}

static void receive_all(int sock, char *p, size_t n)
{
    while (n > 0) {
        ssize_t got = recv(sock, p, n, 0);
        if (got <= 0)
            _exit(0);
        p += got;
        n -= (size_t)got;
    }
}

struct order {
    uint32_t command; /* READ or WRITE */
    uint32_t size;    /* of the memory to go through, piece by piece, over and over */
};

/* The device: told to begin by an order, it goes on until there is another. */
static void raw_device(int sock, int control)
{
    static char mine[MEMORY];
    char head[HEAD] = { 0 };
    struct order order, stop;

    while (read(control, &order, sizeof order) == sizeof order) {
        uint64_t pieces = 0;
        head[0] = (char)order.command;
        do {
            char *at = mine + pieces * PIECE % order.size;
            send_two(sock, head, HEAD, at, order.command == READ ? 0 : PIECE);
            receive_all(sock, head, HEAD);
            receive_all(sock, at, order.command == READ ? PIECE : 0);
            pieces++;
        } while (recv(control, &stop, sizeof stop, MSG_DONTWAIT) != sizeof stop);
        head[0] = 0;
        send_all(sock, head, HEAD);
        if (write(control, &pieces, sizeof pieces) != sizeof pieces)
            _exit(1);
    }
    _exit(0);
}

/* Bytes a second. */
static double raw_rate(int sock, int control, uint32_t command, uint32_t size)
{
    const struct order order = { command, size };
    char head[HEAD];
    uint64_t pieces;
    double start = seconds();
    bool told = false;

    if (write(control, &order, sizeof order) != sizeof order)
        die("the raw device has gone");
    for (uint64_t i = 0;; i++) {
        char *at = memory + i * PIECE % size;
        receive_all(sock, head, HEAD);
        if (head[0] == 0)
            break;
        receive_all(sock, at, head[0] == WRITE ? PIECE : 0);
        send_two(sock, head, HEAD, at, head[0] == WRITE ? 0 : PIECE);
        if (!told && seconds() - start >= SECONDS)
            told = write(control, &order, sizeof order) == sizeof order;
    }
    double passed = seconds() - start;
    if (read(control, &pieces, sizeof pieces) != sizeof pieces)
        die("the raw device has gone");
    return (double)pieces * PIECE / passed;
}

static pid_t start_raw(int *sock, int *control)
{
    int pair[2], controls[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, controls) < 0)
        die("no socket pair");
    pid_t child = fork();
    if (child < 0)
        die("no child");
    if (child == 0) {
        close(pair[0]);
        close(controls[0]);
        raw_device(pair[1], controls[1]);
    }
    close(pair[1]);
    close(controls[1]);
    *sock = pair[0];
    *control = controls[0];
    return child;
}

/* ---- The client -------------------------------------------------------------------------- */

static void check(struct ob_client *c, int ret)
{
    char why[OB_CLIENT_ERROR_SIZE];
    if (ret < 0)
        die(ob_client_error(c, why, sizeof why));
}

static void set(struct ob_client *c, uint64_t reg, uint32_t value)
{
    check(c, ob_client_write(c, 0, reg, &value, sizeof value));
}

static uint32_t get(struct ob_client *c, uint64_t reg)
{
    uint32_t value;
    check(c, ob_client_read(c, 0, reg, &value, sizeof value));
    return value;
}

static double client_rate(struct ob_client *c, uint32_t command, uint32_t size)
{
    struct pollfd p = { .fd = ob_client_fd(c), .events = POLLIN };

    set(c, SIZE, size);
    set(c, NEXT, 1); /* channel 0 again */
    uint32_t before = get(c, DONE);
    double start = seconds(), passed;
    set(c, COMMAND, command);
    do {
        if (poll(&p, 1, 1000) != 1)
            die("the device is silent");
        check(c, ob_client_process(c));
        passed = seconds() - start;
    } while (passed < SECONDS);
    uint32_t transfers = get(c, DONE) - before;
    passed = seconds() - start;
    set(c, NEXT, 0);
    for (uint32_t last = get(c, DONE), same = 0; same < 3; same++) {
        uint32_t done = get(c, DONE); /* the one that is under way comes to its end */
        if (done != last)
            same = 0;
        last = done;
    }
    return (double)transfers * size / passed;
}

/* ---- Rounds ------------------------------------------------------------------------------ */

static void measure(struct ob_client *c, int sock, int control, const char *where)
{
    static const struct {
        const char *name;
        uint32_t command, size;
    } kinds[] = { { "read_64k", READ, PIECE },
                  { "write_64k", WRITE, PIECE },
                  { "read_1m", READ, MEMORY },
                  { "write_1m", WRITE, MEMORY } };
    double raw[ROUNDS], client[ROUNDS], ratio[ROUNDS];

    for (unsigned k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (int i = 0; i < ROUNDS; i++) {
            raw[i] = raw_rate(sock, control, kinds[k].command, kinds[k].size);
            client[i] = client_rate(c, kinds[k].command, kinds[k].size);
            ratio[i] = client[i] / raw[i];
        }
        printf("  \"%s_%s\": {\"raw\": %.0f, \"client\": %.0f, \"ratio\": %.3f},\n", kinds[k].name, where,
               median(raw, ROUNDS) / 1e6, median(client, ROUNDS) / 1e6, median(ratio, ROUNDS));
    }
}

int main(int argc, char **argv)
{
    struct ob_client *c = ob_client_new();
    uint16_t bus_master = 6;
    cpu_set_t all;
    int sock, control;

    if (argc != 3 || !c || sched_getaffinity(0, sizeof all, &all) < 0)
        die("usage: dma SOCKET PID");
    pid_t child = start_raw(&sock, &control), server = (pid_t)atoi(argv[2]);
    check(c, ob_client_connect(c, argv[1]));
    check(c, ob_client_write(c, VFIO_PCI_CONFIG_REGION_INDEX, 4, &bus_master, 2));
    check(c, ob_client_dma_map(c, 0x100000, MEMORY, memory, -1, 0,
                               VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE));
    set(c, ADDRESS_LOW, 0x100000);
    set(c, MEMORY_AT, 0);
    printf("{\n");
    place(&all, server, child, false);
    measure(c, sock, control, "one_core");
    place(&all, server, child, true);
    measure(c, sock, control, "two_cores");
    printf("  \"rounds\": %d\n}\n", ROUNDS);
    sched_setaffinity(server, sizeof all, &all);
    close(control);
    close(sock);
    waitpid(child, NULL, 0);
    ob_client_free(c);
    return 0;
}

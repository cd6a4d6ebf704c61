/*
 * maps.c - DMA maps and unmaps through liboutboard, as a guest with a virtual IOMMU makes them, next to
 * messages of the same sizes over a bare socket.
 *
 *     maps SOCKET PID
 *
 * SOCKET is a vfio-user server that has no maps yet, PID the process that serves it. A round maps COUNT pages without descriptors, then
 * unmaps them, in the same order; WINDOW requests are under way at once. The raw side is a child over a
 * socket pair: 48 bytes of a map and 40 of an unmap, answered by 16 and 40. It has a send for each request,
 * and one for all answers to what was received at once; "at once" is the same with as many requests in a
 * send as the window allows, ready-made. Rounds of all are made in turns, on one core and on two. The time
 * of each STEP maps is noted, to show whether it grows.
 *
 * Such a guest also makes its virtual machine unmap what is no one map: a hole, or several maps and what is
 * between them. liboutboard does not, so this is a connection without it, and each is a round trip. RANGES of
 * both are timed among FEW maps, and among COUNT.
 *
 * Prints one JSON object; rates are messages a second.
 */
#include "rounds.h"

#include <outboard/client.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT 65000
#define STEP 6500 /* a tenth */
#define STEPS (COUNT / STEP)
#define WINDOW 128
#define FEW 100
#define RANGES 500
#define SEVERAL 16
#define ROUNDS 5
#define PAGE 4096u

enum { MAP, UNMAP, KINDS };
static const size_t request_size[KINDS] = { 48, 40 }, reply_size[KINDS] = { 16, 40 };

static void die(const char *what)
{
    fprintf(stderr, "maps: %s\n", what);
    exit(1);
}

/* ---- The raw side ------------------------------------------------------------------------ */

/* The first byte of a message is its kind. */
static void answer_raw(int sock)
{
    static char in[65536], out[65536];
    size_t have = 0;

    for (;;) {
        ssize_t got = recv(sock, in + have, sizeof in - have, 0);
        if (got <= 0)
            _exit(0);
        have += (size_t)got;
        size_t at = 0, answer = 0;
        while (have - at >= 1 && have - at >= request_size[(int)in[at]]) {
            int kind = in[at];
            out[answer] = (char)kind;
            answer += reply_size[kind];
            at += request_size[kind];
        }
        if (answer && send(sock, out, answer, MSG_NOSIGNAL) != (ssize_t)answer)
            _exit(1);
        memmove(in, in + at, have - at);
        have -= at;
    }
}

static pid_t start_raw(int *sock)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        die("no socket pair");
    pid_t child = fork();
    if (child < 0)
        die("no child");
    if (child == 0) {
        close(pair[0]);
        answer_raw(pair[1]);
    }
    close(pair[1]);
    *sock = pair[0];
    return child;
}

/* Requests a second. */
static double raw_round(int sock, int kind, int at_once)
{
    char requests[WINDOW * 48] = { 0 }, in[65536];
    size_t have = 0, size = request_size[kind];
    int sent = 0, answered = 0;
    double start = seconds();

    for (int i = 0; i < WINDOW; i++)
        requests[(size_t)i * size] = (char)kind;
    while (answered < COUNT) {
        while (sent < COUNT && sent - answered < WINDOW) {
            int n = WINDOW - (sent - answered);
            n = n < at_once ? n : at_once;
            n = n < COUNT - sent ? n : COUNT - sent;
            if (send(sock, requests, (size_t)n * size, MSG_NOSIGNAL) < 0)
                die("the raw socket broke");
            sent += n;
        }
        ssize_t got = recv(sock, in, sizeof in, 0);
        if (got <= 0)
            die("the raw socket broke");
        have += (size_t)got;
        answered += (int)(have / reply_size[kind]);
        have %= reply_size[kind];
    }
    return COUNT / (seconds() - start);
}

/* ---- The client -------------------------------------------------------------------------- */

static void check(struct ob_client *c, int ret)
{
    char why[OB_CLIENT_ERROR_SIZE];
    if (ret < 0)
        die(ob_client_error(c, why, sizeof why));
}

/* Addresses with gaps between them, so that no two can be taken for one. */
static uint64_t address(int i)
{
    return (uint64_t)i * 2 * PAGE;
}

/* Fills in the time that each step took. */
static void client_round(struct ob_client *c, int kind, double step[STEPS])
{
    static char memory[PAGE];
    struct ob_request *request[WINDOW];
    double start = seconds();

    for (int i = 0; i < COUNT + WINDOW; i++) {
        if (i >= WINDOW)
            check(c, ob_request_wait(request[i % WINDOW]));
        if (i < COUNT && kind == MAP)
            check(c, ob_client_start_dma_map(c, address(i), PAGE, memory, -1, 0,
                                             VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
                                             &request[i % WINDOW]));
        else if (i < COUNT)
            check(c, ob_client_start_dma_unmap(c, address(i), PAGE, &request[i % WINDOW]));
        if (i >= WINDOW && (i - WINDOW) % STEP == STEP - 1) {
            double end = seconds();
            step[(i - WINDOW) / STEP] = end - start;
            start = end;
        }
    }
}

/* ---- Rounds ------------------------------------------------------------------------------ */

static double raw[KINDS][ROUNDS], single[KINDS][ROUNDS], client[KINDS][ROUNDS], ratio[KINDS][ROUNDS];
static double first[KINDS][ROUNDS], last[KINDS][ROUNDS];

static void one_round(struct ob_client *c, int sock, int round)
{
    for (int kind = 0; kind < KINDS; kind++) {
        double step[STEPS], all = 0;
        raw[kind][round] = raw_round(sock, kind, WINDOW);
        single[kind][round] = raw_round(sock, kind, 1);
        client_round(c, kind, step);
        for (int i = 0; i < STEPS; i++)
            all += step[i];
        client[kind][round] = COUNT / all;
        ratio[kind][round] = client[kind][round] / single[kind][round];
        /* An unmap among few others is the last, a map the first. */
        first[kind][round] = step[kind == MAP ? 0 : STEPS - 1] / STEP * 1e9;
        last[kind][round] = step[kind == MAP ? STEPS - 1 : 0] / STEP * 1e9;
    }
}

static void measure(struct ob_client *c, int sock, const char *where)
{
    static const char *const names[KINDS] = { "map", "unmap" };

    for (int round = 0; round < ROUNDS; round++)
        one_round(c, sock, round);
    for (int kind = 0; kind < KINDS; kind++)
        printf("  \"%s_%s\": {\"raw\": %.0f, \"raw_at_once\": %.0f, \"client\": %.0f, \"ratio\": %.3f, "
               "\"ns_among_few\": %.0f, \"ns_among_many\": %.0f},\n",
               names[kind], where, median(single[kind], ROUNDS), median(raw[kind], ROUNDS),
               median(client[kind], ROUNDS), median(ratio[kind], ROUNDS), median(first[kind], ROUNDS),
               median(last[kind], ROUNDS));
}

/* ---- Ranges ------------------------------------------------------------------------------ */

/* Sends a command, and takes its reply: a success of `size` bytes. */
static void exchange(int sock, struct vfio_user_header *h, size_t size)
{
    char reply[4096];
    ssize_t got = 0;

    if (send(sock, h, h->size, MSG_NOSIGNAL) == h->size)
        got = recv(sock, reply, size ? size : sizeof reply, size ? MSG_WAITALL : 0);
    memcpy(h, reply, sizeof *h);
    if (got < (ssize_t)sizeof *h || (size && got != (ssize_t)size) || h->error)
        die("the server does not do as it is told");
}

static int connect_raw(const char *path)
{
    struct {
        struct vfio_user_header h;
        uint16_t major, minor;
        char data[4]; /* spaces are nothing in JSON */
    } version = { { 0, VFIO_USER_VERSION, sizeof version, 0, 0 }, 0, 1, "{} " };
    struct sockaddr_un at = { .sun_family = AF_UNIX };
    int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    if (sock < 0 || connect(sock, (struct sockaddr *)&at, sizeof at) < 0)
        die("cannot connect again");
    exchange(sock, &version.h, 0);
    return sock;
}

static void map_raw(int sock, int first, int end)
{
    for (int i = first; i < end; i++) {
        struct {
            struct vfio_user_header h;
            struct vfio_user_dma_map m;
        } map = { { 0, VFIO_USER_DMA_MAP, sizeof map, 0, 0 },
                  { sizeof map.m, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, 0, address(i), PAGE } };
        exchange(sock, &map.h, sizeof map.h);
    }
}

/* Seconds. */
static double unmap_raw(int sock, uint64_t from, uint64_t size)
{
    struct {
        struct vfio_user_header h;
        struct vfio_user_dma_unmap u;
    } unmap = { { 0, VFIO_USER_DMA_UNMAP, sizeof unmap, 0, 0 }, { sizeof unmap.u, 0, from, size } };
    double start = seconds();

    exchange(sock, &unmap.h, sizeof unmap);
    return seconds() - start;
}

static void measure_ranges_among(int sock, int maps)
{
    static double hole[RANGES], several[RANGES];

    for (int i = 0; i < RANGES; i++) {
        int at = i * 7919 % (maps - SEVERAL);
        hole[i] = unmap_raw(sock, address(at) + PAGE, PAGE);
        several[i] = unmap_raw(sock, address(at), address(SEVERAL));
        map_raw(sock, at, at + SEVERAL);
    }
    printf("    \"%d\": {\"hole_us\": %.2f, \"several_us\": %.2f},\n", maps, median(hole, RANGES) * 1e6,
           median(several, RANGES) * 1e6);
}

static void measure_ranges(const char *path)
{
    int sock = connect_raw(path);

    printf("  \"ranges\": {\n");
    map_raw(sock, 0, FEW);
    measure_ranges_among(sock, FEW);
    map_raw(sock, FEW, COUNT);
    measure_ranges_among(sock, COUNT);
    printf("    \"maps_in_several\": %d\n  },\n", SEVERAL);
    close(sock);
}

int main(int argc, char **argv)
{
    struct ob_client *c = ob_client_new();
    cpu_set_t all;
    int sock;

    if (argc != 3 || !c || sched_getaffinity(0, sizeof all, &all) < 0)
        die("usage: maps SOCKET PID");
    pid_t child = start_raw(&sock), server = (pid_t)atoi(argv[2]);
    check(c, ob_client_connect(c, argv[1]));
    printf("{\n");
    place(&all, server, child, false);
    measure(c, sock, "one_core");
    place(&all, server, child, true);
    measure(c, sock, "two_cores");
    ob_client_free(c);
    measure_ranges(argv[1]);
    printf("  \"count\": %d, \"window\": %d, \"rounds\": %d\n}\n", COUNT, WINDOW, ROUNDS);
    sched_setaffinity(server, sizeof all, &all);
    close(sock);
    waitpid(child, NULL, 0);
    return 0;
}

/*
 * pingpong.c - what a register read through liboutboard costs, next to what the kernel alone
 * takes for messages of the same sizes.
 *
 *     pingpong SOCKET PID REGION OFFSET
 *
 * SOCKET is a vfio-user server whose device has a register of 4 bytes at OFFSET of REGION that
 * may be read and written at will (edu: region 0, offset 4), PID the process that serves it.
 *
 * The raw side is a child that answers 32 bytes with 36 over a socket pair. Both sides are
 * measured in turns, in many short rounds, and the medians of the rounds are printed: noise of
 * the machine then meets both. "Spinning" is the client alone; the other end always sleeps. It is
 * not measured on one core, where it would keep the other end from running. Prints one JSON
 * object; times are in ns.
 */
#include <outboard/client.h>

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REQUEST 32 /* VFIO_USER_REGION_READ */
#define REPLY 36   /* the same with 4 bytes of data */
#define POSTED 36  /* VFIO_USER_REGION_WRITE of 4 bytes */

#define ROUNDS 201
#define TRIPS 200    /* in a round */
#define POSTS 1000   /* in a round */
#define SPIN_US 1000 /* longer than any reply takes */

struct bench {
    struct ob_client *client;
    uint32_t region;
    uint64_t offset;
    pid_t server;
    pid_t child;
    int raw; /* our end of the socket pair */
    size_t cpu[2];
};

static void die(const char *what)
{
    fprintf(stderr, "pingpong: %s\n", what);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- The raw side ------------------------------------------------------------------------ */

static void send_all(int sock, const char *p, size_t n)
{
    if (send(sock, p, n, MSG_NOSIGNAL) != (ssize_t)n)
        die("the raw socket broke");
}

static void receive_all(int sock, char *p, size_t n, int flags)
{
    while (n > 0) {
        ssize_t got = recv(sock, p, n, flags);
        if (got < 0 && errno == EAGAIN)
            continue;
        if (got <= 0)
            die("the raw socket broke");
        p += got;
        n -= (size_t)got;
    }
}

/* Answers messages whose first byte is not 0, as a server answers those that are not posted. Takes
 * many at once when they are there, as any server can. */
static void answer_raw(int sock)
{
    char in[65536], out[REPLY] = { 0 };
    size_t have = 0;

    for (;;) {
        ssize_t got = recv(sock, in + have, sizeof in - have, 0);
        if (got <= 0)
            _exit(0);
        have += (size_t)got;
        size_t at = 0;
        while (have - at > 0) {
            size_t n = in[at] ? REQUEST : POSTED;
            if (have - at < n)
                break;
            if (in[at])
                send_all(sock, out, sizeof out);
            at += n;
        }
        memmove(in, in + at, have - at);
        have -= at;
    }
}

static void start_raw(struct bench *b)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        die("no socket pair");
    b->child = fork();
    if (b->child < 0)
        die("no child");
    if (b->child == 0) {
        close(pair[0]);
        answer_raw(pair[1]);
    }
    close(pair[1]);
    b->raw = pair[0];
}

static double raw_trips(struct bench *b, bool spinning)
{
    char request[REQUEST] = { 1 }, reply[REPLY];
    double start = now();
    for (int i = 0; i < TRIPS; i++) {
        send_all(b->raw, request, sizeof request);
        receive_all(b->raw, reply, sizeof reply, spinning ? MSG_DONTWAIT : 0);
    }
    return (now() - start) / TRIPS;
}

static double raw_posts(struct bench *b)
{
    char post[POSTED] = { 0 }, request[REQUEST] = { 1 }, reply[REPLY];
    double start = now();
    for (int i = 0; i < POSTS; i++)
        send_all(b->raw, post, sizeof post);
    send_all(b->raw, request, sizeof request);
    receive_all(b->raw, reply, sizeof reply, 0);
    return (now() - start) / POSTS;
}

/* ---- The client -------------------------------------------------------------------------- */

static void check(struct bench *b, int ret)
{
    char why[OB_CLIENT_ERROR_SIZE];
    if (ret < 0)
        die(ob_client_error(b->client, why, sizeof why));
}

static double client_trips(struct bench *b)
{
    uint32_t v;
    double start = now();
    for (int i = 0; i < TRIPS; i++)
        check(b, ob_client_read(b->client, b->region, b->offset, &v, sizeof v));
    return (now() - start) / TRIPS;
}

static double client_posts(struct bench *b)
{
    uint32_t v = 0;
    double start = now();
    for (int i = 0; i < POSTS; i++)
        check(b, ob_client_post(b->client, b->region, b->offset, &v, sizeof v));
    check(b, ob_client_read(b->client, b->region, b->offset, &v, sizeof v));
    return (now() - start) / POSTS;
}

/* ---- Placement --------------------------------------------------------------------------- */

static void pin(pid_t thread, size_t cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(thread, sizeof set, &set) < 0)
        die("cannot pin a thread to a core");
}

static void pin_process(pid_t pid, size_t cpu)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (!tasks)
        die("there is no process with the server's pid");
    for (struct dirent *e; (e = readdir(tasks));)
        if (atoi(e->d_name) > 0)
            pin((pid_t)atoi(e->d_name), cpu);
    closedir(tasks);
}

/* We run on the first core, the other ends on the first or the second. */
static void place(struct bench *b, bool two_cores)
{
    pin(0, b->cpu[0]);
    pin_process(b->server, b->cpu[two_cores]);
    pin_process(b->child, b->cpu[two_cores]);
}

static void find_cores(struct bench *b, cpu_set_t *all)
{
    int found = 0;
    if (sched_getaffinity(0, sizeof *all, all) < 0)
        die("cannot ask for the cores");
    for (size_t i = 0; i < CPU_SETSIZE && found < 2; i++)
        if (CPU_ISSET(i, all))
            b->cpu[found++] = i;
    if (found < 2)
        die("two cores are needed");
}

/* ---- Rounds ------------------------------------------------------------------------------ */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, ascending);
    return values[ROUNDS / 2];
}

static void measure_trips(struct bench *b, const char *name, bool two_cores, bool spinning)
{
    double raw[ROUNDS], client[ROUNDS];

    place(b, two_cores);
    check(b, ob_client_set_spin(b->client, spinning ? SPIN_US : 0));
    raw_trips(b, spinning); /* warm */
    client_trips(b);
    for (int i = 0; i < ROUNDS; i++) {
        raw[i] = raw_trips(b, spinning);
        client[i] = client_trips(b);
    }
    double r = median(raw), c = median(client);
    printf("  \"%s\": {\"raw\": %.0f, \"client\": %.0f, \"ratio\": %.3f},\n", name, r, c, c / r);
}

static void measure_posts(struct bench *b, const char *name, bool two_cores)
{
    double raw[ROUNDS], client[ROUNDS];

    place(b, two_cores);
    check(b, ob_client_set_spin(b->client, 0));
    for (int i = 0; i < ROUNDS; i++) {
        raw[i] = raw_posts(b);
        client[i] = client_posts(b);
    }
    printf("  \"%s\": {\"raw\": %.0f, \"client\": %.0f},\n", name, 1e9 / median(raw),
           1e9 / median(client));
}

int main(int argc, char **argv)
{
    struct bench b = { 0 };
    cpu_set_t all;

    if (argc != 5)
        die("usage: pingpong SOCKET PID REGION OFFSET");
    b.server = (pid_t)atoi(argv[2]);
    b.region = (uint32_t)strtoul(argv[3], NULL, 0);
    b.offset = strtoull(argv[4], NULL, 0);
    b.client = ob_client_new();
    if (!b.client)
        die("no memory");
    find_cores(&b, &all);
    start_raw(&b);
    check(&b, ob_client_connect(b.client, argv[1]));

    printf("{\n");
    measure_trips(&b, "read_one_core_sleeping", false, false);
    measure_trips(&b, "read_two_cores_sleeping", true, false);
    measure_trips(&b, "read_two_cores_spinning", true, true);
    measure_posts(&b, "posted_writes_a_second_one_core", false);
    measure_posts(&b, "posted_writes_a_second_two_cores", true);
    printf("  \"rounds\": %d, \"trips_a_round\": %d, \"posts_a_round\": %d\n}\n", ROUNDS, TRIPS,
           POSTS);

    /* The server is not ours: it gets all cores back. */
    sched_setaffinity(b.server, sizeof all, &all);
    close(b.raw);
    waitpid(b.child, NULL, 0);
    ob_client_free(b.client);
    return 0;
}

/*
 * upgrade.c - how long a busy disk's guest waits while another build takes the disk over.
 *
 *     upgrade [-n UPGRADES] [-f FOLDER] [-b PROGRAM]...
 *
 * A driver keeps 32 random reads of 4 KiB in flight, and asks the disk's keeper for one upgrade after the other,
 * to the programs in turn. The pause of one is the longest time without a completion in the 200 ms after it was asked
 * for; the same of 200 ms without one says what the machine does by itself. A line of JSON.
 */
#include "../tests/nvme/driver.h"
#include "keeper/control.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { DEPTH = 32, QUEUE = 128, MOST = 10000, PROGRAMS = 8, MEMORY = 512 << 20, DISK = 64 << 20 };

static struct disk disk;
static struct driver driver;
static uint64_t address[QUEUE]; /* of a command's data */
static uint64_t random_state = 88172645463325252u, done, last, longest;
static unsigned in_flight;

#define WHILE 200000000u /* ns */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void submit(void)
{
    struct nvme_command c = { .opcode = NVM_READ, .nsid = 1, .cdw12 = 4096 / 512 - 1 };

    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    c.cdw10 = (uint32_t)(random_state % (DISK / 4096)) * (4096 / 512);
    c.prp1 = address[random_state % QUEUE];
    driver_put(&driver, 1, &c);
    in_flight++;
}

/* One look: completions are taken, and as many commands put in their place. */
static void turn(void)
{
    struct nvme_completion c;
    unsigned taken = 0;

    while (driver_poll(&driver, 1, &c)) {
        if (driver_status(&c)) {
            fprintf(stderr, "upgrade: a read failed: status 0x%x\n", driver_status(&c));
            exit(1);
        }
        taken++;
    }
    if (!taken)
        return;
    uint64_t time = now();
    longest = time - last > longest ? time - last : longest;
    last = time;
    done += taken;
    in_flight -= taken;
    driver_ring_head(&driver, 1);
    while (in_flight < DEPTH)
        submit();
    driver_ring(&driver, 1);
}

static void run_for(uint64_t ns)
{
    for (uint64_t end = now() + ns; now() < end;)
        turn();
}

static int connect_control(const char *path)
{
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    snprintf(to.sun_path, sizeof to.sun_path, "%s", path);
    if (sock < 0 || connect(sock, (struct sockaddr *)&to, sizeof to) < 0)
        die("the control socket");
    return sock;
}

static void ask(int control, const char *path)
{
    struct {
        struct control_request head;
        char path[512];
    } request = { .head.what = CONTROL_UPGRADE };
    char space[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
    struct iovec iov = { &request, 0 };
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space
    };
    int program = open(path, O_PATH | O_CLOEXEC);

    snprintf(request.path, sizeof request.path, "%s", path);
    iov.iov_len = request.head.size = (uint32_t)(sizeof request.head + strlen(request.path) + 1);
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    *c = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
    memcpy(CMSG_DATA(c), &program, sizeof program);
    if (program < 0 || sendmsg(control, &m, 0) < 0)
        die(path);
    close(program);
}

/* The longest time without a completion in the next while: it is long enough for an upgrade to be in it. */
static uint64_t look(void)
{
    longest = 0;
    last = now();
    run_for(WHILE);
    return longest;
}

/* Its pause in ns, as the guest sees it; and what the keeper says of it: from one worker to the other. */
static uint64_t upgrade(int control, const char *program, uint64_t *handover)
{
    struct control_answer answer;

    ask(control, program);
    uint64_t pause = look();
    while (recv(control, &answer, sizeof answer, MSG_DONTWAIT) < 0)
        turn();
    if (answer.result) {
        fprintf(stderr, "upgrade: %s\n", answer.why);
        exit(1);
    }
    *handover = answer.status.upgrade_pause;
    return pause;
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void print(const char *name, uint64_t *v, unsigned n)
{
    qsort(v, n, sizeof *v, compare);
    printf(", \"%s_ms\": {\"median\": %.2f, \"p99\": %.2f, \"worst\": %.2f}", name,
           (double)v[n / 2] / 1e6, (double)v[n - 1 - n / 100] / 1e6, (double)v[n - 1] / 1e6);
}

int main(int argc, char **argv)
{
    static uint64_t pause_ns[MOST], handover[MOST], without[MOST];
    const char *folder = "/dev/shm", *program[PROGRAMS] = { getenv("OUTBOARD") };
    char control[100], word[160];
    unsigned wanted = 100, programs = 0;
    int o;

    while ((o = getopt(argc, argv, "n:f:b:")) != -1) {
        switch (o) {
        case 'n':
            wanted = (unsigned)atoi(optarg);
            break;
        case 'f':
            folder = optarg;
            break;
        case 'b':
            if (programs == PROGRAMS)
                return 2;
            program[programs++] = optarg;
            break;
        default:
            return 2;
        }
    }
    if (wanted == 0 || wanted > MOST || !program[0])
        return 2;
    programs += !programs;
    snprintf(control, sizeof control, "/tmp/outboard-upgrade-%d", getpid());
    snprintf(word, sizeof word, "--control-path=%s", control);
    disk_serve(&disk, folder, DISK, (const char *const[]){ word, NULL });
    driver_connect(&driver, disk.socket, MEMORY);
    driver_enable(&driver, 32);
    if (driver_queue(&driver, 1, QUEUE, -1))
        return 1;
    for (unsigned i = 0; i < QUEUE; i++)
        driver_alloc(&driver, 4096, 4096, &address[i]);
    for (unsigned i = 0; i < DEPTH; i++)
        submit();
    driver_ring(&driver, 1);
    last = now();
    run_for(500000000);
    int sock = connect_control(control);
    for (unsigned i = 0; i < wanted; i++) {
        without[i] = look();
        pause_ns[i] = upgrade(sock, program[i % programs], &handover[i]);
    }
    printf("{\"upgrades\": %u, \"reads\": %llu", wanted, (unsigned long long)done);
    print("pause", pause_ns, wanted);
    print("without", without, wanted);
    print("handover", handover, wanted);
    printf("}\n");
    driver_close(&driver);
    disk_end(&disk);
    return 0;
}

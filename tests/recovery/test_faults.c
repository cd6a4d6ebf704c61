/*
 * test_faults.c - a worker dies at each named point of recovery in turn, and its successor at the next ones.
 *
 *     test_faults nvme|edu|serial
 *
 * Whole programs with the real keeper: outboard-faults (faults.h). A workload is a session from its first message to
 * its last, in which every result is known. First it runs undisturbed, and what points it comes by is counted. Then
 * a worker dies at each of those points: when it comes by first, last, and in the middle; and for each of the points
 * that a successor comes by until it serves, another death follows the first. The client notices nothing.
 */
#include "../nvme/fixture.h"
#include "faults.h"
#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/serial_reg.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static struct faults *faults;
static char folder[] = "/tmp/outboard-faults-XXXXXX", socket_path[64], line_path[64], file[64], faults_file[64];
static pid_t keeper;
static unsigned deaths, looks_at_blocks;
static const char *doing = "";

static void give_up(const char *what, long long number)
{
    fprintf(stderr, "test_faults: %s: %s (%lld)\n", doing, what, number);
    kill(keeper, SIGTERM);
    exit(1);
}

static void check(bool right, const char *what, long long number)
{
    if (!right)
        give_up(what, number);
}

/* ---- The program, and its executioner ---------------------------------------------------------------- */

static void serve(const char *const *words)
{
    const char *argv[16] = { getenv("FAULTY"), "serve" };
    char ready_fd[32], socket[96], byte;
    unsigned n = 2;
    int ready[2];

    if (pipe(ready) < 0)
        give_up("pipe", errno);
    snprintf(ready_fd, sizeof ready_fd, "--ready-fd=%d", ready[1]);
    snprintf(socket, sizeof socket, "--socket-path=%s", socket_path);
    while (*words)
        argv[n++] = *words++;
    argv[n++] = socket;
    argv[n++] = ready_fd;
    keeper = fork();
    if (keeper == 0) {
        close(ready[0]);
        execv(argv[0], (char **)(uintptr_t)argv);
        _exit(127);
    }
    close(ready[1]);
    check(read(ready[0], &byte, 1) == 1, "it is not served", 0);
    close(ready[0]);
}

/* Filters of system calls that a process has, -1: none can be counted. */
static int filters(const char *pid)
{
    static const char key[] = "Seccomp_filters:";
    char path[64], line[256];
    int count = -1;

    snprintf(path, sizeof path, "/proc/%s/status", pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, sizeof key - 1) == 0)
            count = atoi(line + sizeof key - 1);
    if (f)
        fclose(f);
    return count;
}

/* What its predecessor left is looked at in the sandbox. */
static void check_sandbox(pid_t worker, const char *point)
{
    char pid[16];

    if (!SANDBOX_POSSIBLE || (!strstr(point, "adopting the block") && !strstr(point, "undoing the open step")))
        return;
    snprintf(pid, sizeof pid, "%d", worker);
    check(filters(pid) == filters("self") + 1 || filters("self") < 0, "no sandbox before the block is read",
          filters(pid));
    looks_at_blocks++;
}

/* Who has stopped is killed. */
static void *execute(void *ctx)
{
    (void)ctx;
    for (;;) {
        if (faults->stopped) {
            pid_t pid = disk_worker(keeper);
            check_sandbox(pid, faults->name[faults->stopped - 1]);
            if (getenv("VERBOSE"))
                fprintf(stderr, "    it dies %s\n", faults->name[faults->stopped - 1]);
            faults->stopped = 0;
            deaths++;
            if (pid > 0)
                kill(pid, SIGKILL);
        }
        usleep(20);
    }
    return NULL;
}

/* ---- Workloads: the disk -------------------------------------------------------------------------------- */

static void good(const struct nvme_command *c, const char *what)
{
    uint16_t status = io(c);
    check(status == 0, what, status);
}

static void write_and_read(unsigned n, uint32_t seed)
{
    uint8_t *p = pages(n);
    struct nvme_command w = rw(NVM_WRITE, p, seed * 64, n * 8), r = rw(NVM_READ, p, seed * 64, n * 8);

    fill(p, n * 4096, seed);
    good(&w, "write");
    memset(p, 0xee, n * 4096);
    good(&r, "read");
    check(is_filled(p, n * 4096, seed), "wrong bytes", n);
}

static uint64_t signalled(int fd)
{
    uint64_t count = 0;
    return read(fd, &count, sizeof count) == sizeof count ? count : 0;
}

static void run_nvme(void)
{
    static uint32_t seed;
    int fd[2] = { eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK) };
    struct nvme_command flush = { .opcode = NVM_FLUSH, .nsid = 1 };

    driver_connect(&driver, socket_path, 8 * MIB);
    check(ob_client_irq_eventfds(driver.client, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 2, fd) == 0,
          "eventfds", 0);
    driver_enable(&driver, 16);
    uint16_t status = driver_queue(&driver, 1, 64, 1);
    check(status == 0, "no queue", status);
    signalled(fd[1]);
    write_and_read(1, ++seed % 64);
    check(signalled(fd[1]) > 0, "no interrupt", 0);
    write_and_read(64, ++seed % 64);
    good(&flush, "flush");
    struct nvme_command zeroes = rw(NVM_WRITE_ZEROES, NULL, seed % 64 * 64, 8), r = zeroes;
    uint8_t *p = pages(1);
    good(&zeroes, "write zeroes");
    r = rw(NVM_READ, p, seed % 64 * 64, 8);
    good(&r, "read");
    check(p[0] == 0 && p[4095] == 0, "not zeros", p[0]);
    status = driver_delete_queue(&driver, 1);
    check(status == 0, "the queue does not go", status);
    driver_disable(&driver);
    check(ob_client_irq_disable(driver.client, VFIO_PCI_MSIX_IRQ_INDEX) == 0, "interrupts off", 0);
    check(ob_client_dma_unmap_all(driver.client) == 0, "unmap", 0);
    driver_close(&driver);
    close(fd[0]);
    close(fd[1]);
}

/* ---- The teaching device --------------------------------------------------------------------------------- */

static struct ob_client *client;

static void connect_client(void)
{
    const uint16_t command = 7;
    int ret;

    do {
        client = ob_client_new();
        ret = ob_client_connect(client, socket_path);
        if (ret == -EBUSY) { /* the last one's end is not known there yet */
            ob_client_free(client);
            usleep(200);
        }
    } while (ret == -EBUSY);
    check(ret == 0, "connect", ret);
    check(ob_client_reset(client) == 0, "reset", 0);
    ret = ob_client_write(client, VFIO_PCI_CONFIG_REGION_INDEX, 4, &command, 2);
    check(ret == 0, "config space", ret);
}

static uint64_t get(uint64_t at, size_t n)
{
    uint64_t v = 0;
    int ret = ob_client_read(client, VFIO_PCI_BAR0_REGION_INDEX, at, &v, n);
    check(ret == 0, "register read", ret);
    return v;
}

static void put(uint64_t at, uint64_t v, size_t n)
{
    int ret = ob_client_write(client, VFIO_PCI_BAR0_REGION_INDEX, at, &v, n);
    check(ret == 0, "register write", ret);
}

enum { LIVENESS = 0x04, FACTORIAL = 0x08, STATUS = 0x20, IRQ_STATUS = 0x24, ACKNOWLEDGE = 0x64, SOURCE = 0x80,
       DESTINATION = 0x88, COUNT = 0x90, COMMAND = 0x98, BUFFER = 0x40000 };

static void transfer(uint64_t from, uint64_t to, uint64_t command)
{
    put(SOURCE, from, 8);
    put(DESTINATION, to, 8);
    put(COUNT, 4096, 8);
    put(COMMAND, command, 8);
    while (get(COMMAND, 8) & 1)
        ;
}

static void run_edu(void)
{
    static uint32_t seed;
    int irq = eventfd(0, EFD_NONBLOCK), memory = memfd_create("guest", MFD_CLOEXEC);
    uint8_t *p = MAP_FAILED;

    if (ftruncate(memory, 65536) == 0)
        p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    check(p != MAP_FAILED, "memory", errno);
    connect_client();
    check(ob_client_dma_map(client, 0, 65536, p, memory, 0, 3) == 0, "map", 0);
    check(ob_client_irq_eventfds(client, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, &irq) == 0,
          "eventfd", 0);
    put(LIVENESS, 0x12345678, 4);
    check(get(LIVENESS, 4) == (uint32_t)~0x12345678u, "liveness", 0);
    put(STATUS, 0x80, 4);
    put(FACTORIAL, 10, 4);
    while (get(STATUS, 4) & 1)
        ;
    check(get(FACTORIAL, 4) == 3628800, "factorial", 0);
    fill(p, 4096, ++seed);
    transfer(0, BUFFER, 1);
    transfer(BUFFER, 8192, 3 | 4);
    check(is_filled(p + 8192, 4096, seed), "wrong bytes", seed);
    check(get(IRQ_STATUS, 4) == 0x101 && signalled(irq) > 0, "no interrupt", (long long)get(IRQ_STATUS, 4));
    put(ACKNOWLEDGE, 0x101, 4);
    check(ob_client_dma_unmap(client, 0, 65536) == 0, "unmap", 0);
    ob_client_free(client);
    munmap(p, 65536);
    close(memory);
    close(irq);
}

/* ---- The serial port --------------------------------------------------------------------------------------- */

static int call(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    check(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "the line", errno);
    return fd;
}

/* Bytes from there, exactly these. */
static void expect(int fd, const char *text)
{
    char got[64] = "";
    size_t n = strlen(text), have = 0;

    while (have < n) {
        ssize_t some = recv(fd, got + have, n - have, 0);
        check(some > 0, "the line is cut", errno);
        have += (size_t)some;
    }
    check(memcmp(got, text, n) == 0, got, 0);
    check(recv(fd, got, 1, MSG_DONTWAIT) < 0, "too much comes out", got[0]);
}

static void run_serial(void)
{
    static unsigned number;
    char out[32], in[32];
    struct timeval patience = { .tv_sec = 20 };

    int line = call(strchr(line_path, ':') + 1);
    setsockopt(line, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    connect_client();
    put(UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2, 1);
    put(UART_FCR, UART_FCR_ENABLE_FIFO, 1);
    snprintf(out, sizeof out, "out %u;", ++number);
    snprintf(in, sizeof in, "in %u;", number);
    for (const char *c = out; *c; c++) {
        while (!(get(UART_LSR, 1) & UART_LSR_THRE))
            ;
        put(UART_TX, (uint8_t)*c, 1);
    }
    while (!(get(UART_LSR, 1) & UART_LSR_TEMT))
        ;
    expect(line, out);
    check(send(line, in, strlen(in), 0) == (ssize_t)strlen(in), "the line", errno);
    for (const char *c = in; *c; c++) {
        while (!(get(UART_LSR, 1) & UART_LSR_DR))
            ;
        uint64_t byte = get(UART_RX, 1);
        check(byte == (uint8_t)*c, "another byte comes in", (long long)byte);
    }
    check(!(get(UART_LSR, 1) & UART_LSR_DR), "too much comes in", 0);
    ob_client_free(client);
    close(line);
    /* The next caller is hung up on while this one is thought to be there. */
    connect_client();
    while (get(UART_MSR, 1) & UART_MSR_DCD)
        ;
    ob_client_free(client);
}

/* ---- All of it --------------------------------------------------------------------------------------- */

static const struct workload {
    const char *name;
    const char *words[4];
    void (*run)(void);
    unsigned points; /* that it comes by, at least */
} workloads[] = {
    { "nvme", { "nvme", file }, run_nvme, 80 },
    { "edu", { "edu" }, run_edu, 60 },
    { "serial", { "serial", line_path }, run_serial, 60 },
};

static void disturbed(const struct workload *w, uint32_t point, uint32_t pass, uint32_t next)
{
    static char what[160];

    snprintf(what, sizeof what, "a death %s, when it came by for the %u. time, and then at point %u",
             faults->name[point], pass, next);
    doing = what;
    if (getenv("VERBOSE"))
        fprintf(stderr, "%s\n", what);
    faults->next = next;
    faults->pass = pass;
    faults->at = point + 1;
    w->run();
    /* What was counted after the client had gone may not come again. */
    faults->at = faults->next = 0;
    while (faults->stopped)
        usleep(100);
}

/* Each point of this workload, and every third time a point of the successor as well. */
static void each_point(const struct workload *w, const uint64_t *hits)
{
    for (uint32_t point = 0, n = 0; point < faults->count; point++) {
        const uint32_t passes[] = { 1, (uint32_t)(hits[point] + 1) / 2, (uint32_t)hits[point] };
        for (unsigned i = 0; i < 3; i++)
            if (hits[point] > i)
                disturbed(w, point, passes[i], n++ % 3 ? 0 : n * 7 % faults->takeover + 1);
    }
}

/* Each point of a successor: of one that takes over in the middle of the session, and of one without a client. */
static void each_successor(const struct workload *w, const uint64_t *hits)
{
    uint32_t middle = 0, last = 0;

    for (uint32_t point = 0; point < faults->count; point++) {
        if (strcmp(faults->name[point], "after running") == 0)
            middle = point;
        if (strcmp(faults->name[point], "after ending a session") == 0)
            last = point;
    }
    for (uint32_t next = 1; next <= faults->takeover; next++) {
        disturbed(w, middle, (uint32_t)hits[middle] / 2, next);
        disturbed(w, last, 1, next);
    }
}

static void begin(const struct workload *w)
{
    if (!mkdtemp(folder) || !getenv("FAULTY"))
        exit(2);
    snprintf(socket_path, sizeof socket_path, "%s/socket", folder);
    snprintf(faults_file, sizeof faults_file, "%s/faults", folder);
    snprintf(line_path, sizeof line_path, "path=unix:%s/line", folder);
    snprintf(file, sizeof file, "file=%s/disk", folder);
    int disk_fd = open(strchr(file, '=') + 1, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int fd = open(faults_file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (ftruncate(disk_fd, 16 * MIB) < 0 || ftruncate(fd, sizeof *faults) < 0)
        exit(2);
    faults = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(disk_fd);
    close(fd);
    setenv("FAULTS", faults_file, 1);
    serve(w->words);
}

static void end(void)
{
    int status = 0;

    kill(keeper, SIGTERM);
    waitpid(keeper, &status, 0);
    check(status == 0, "its end", status);
    unlink(strchr(file, '=') + 1);
    unlink(faults_file);
    check(rmdir(folder) == 0, "something is left", errno);
}

int main(int argc, char **argv)
{
    const struct workload *w = workloads;
    uint64_t hits[FAULTS_MOST], seen = 0;
    pthread_t executioner;

    while (w < workloads + 3 && (argc < 2 || strcmp(w->name, argv[1]) != 0))
        w++;
    if (w == workloads + 3)
        return 2;
    begin(w);
    pthread_create(&executioner, NULL, execute, NULL);
    doing = "undisturbed";
    w->run();
    for (unsigned i = 0; i < faults->count; i++)
        hits[i] = faults->hits[i];
    each_point(w, hits);
    each_successor(w, hits);
    for (unsigned i = 0; i < faults->count; i++) {
        seen += faults->hits[i] != 0;
        if (!faults->hits[i])
            printf("never %s\n", faults->name[i]);
    }
    check(seen >= w->points, "points that it came by", (long long)seen);
    check(!SANDBOX_POSSIBLE || looks_at_blocks, "nobody was asked for its sandbox", 0);
    doing = "at the end";
    end();
    printf("%s: %llu points, %u of them of a successor, %u deaths\n", w->name, (unsigned long long)seen,
           faults->takeover, deaths);
    return 0;
}

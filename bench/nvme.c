/*
 * nvme.c - an NVMe disk measured by a driver in user space, against the same file without NVMe.
 *
 *     bench/nvme [--folder=DIR] [--seconds=S] [--rounds=N] [-- more words for "outboard serve nvme"]
 *
 * Worker and driver have a core each. Rounds of all kinds follow each other, and medians are printed,
 * as a table or (--json) for programs.
 */
#include "../tests/nvme/driver.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <liburing.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define DISK (256ull << 20)
#define MOST 128u

static double seconds = 0.5;
static uint64_t seed = 88172645463325252u;

static uint64_t random64(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct job {
    const char *name;
    bool write, sequential;
    uint32_t size, depth;
};

static uint64_t next_offset(const struct job *j, uint64_t i)
{
    uint64_t blocks = DISK / j->size;
    return (j->sequential ? i % blocks : random64() % blocks) * j->size;
}

/* ---- The ways ------------------------------------------------------------------------------------ */

static double by_syscall(const struct job *j, const char *file)
{
    void *buffer = aligned_alloc(4096, j->size);
    int fd = open(file, O_RDWR | O_CLOEXEC);
    double begin = now(), end;
    uint64_t n = 0;

    memset(buffer, 1, j->size);
    do {
        for (unsigned k = 0; k < 32; k++, n++) {
            struct iovec iov = { buffer, j->size };
            off_t at = (off_t)next_offset(j, n);
            ssize_t got = j->write ? pwritev2(fd, &iov, 1, at, 0) : preadv2(fd, &iov, 1, at, 0);
            if (got != (ssize_t)j->size)
                exit((perror(file), 1));
        }
    } while ((end = now()) - begin < seconds);
    close(fd);
    free(buffer);
    return (double)n / (end - begin);
}

static double by_ring(const struct job *j, const char *file)
{
    int fd = open(file, O_RDWR | O_CLOEXEC);
    uint8_t *buffer = aligned_alloc(4096, (size_t)j->size * j->depth);
    struct io_uring ring;
    struct io_uring_cqe *cqe;
    uint64_t begun = 0, n = 0;

    memset(buffer, 1, (size_t)j->size * j->depth);
    if (io_uring_queue_init(MOST, &ring, 0) < 0)
        exit((perror("io_uring"), 1));
    double begin = now(), end = begin;
    while (end - begin < seconds || n < begun) {
        while (begun - n < j->depth && end - begin < seconds) {
            struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
            uint8_t *p = buffer + begun % j->depth * j->size;
            if (j->write)
                io_uring_prep_write(sqe, fd, p, j->size, next_offset(j, begun));
            else
                io_uring_prep_read(sqe, fd, p, j->size, next_offset(j, begun));
            begun++;
        }
        io_uring_submit_and_wait(&ring, 1);
        while (io_uring_peek_cqe(&ring, &cqe) == 0) {
            io_uring_cqe_seen(&ring, cqe);
            n++;
        }
        end = now();
    }
    io_uring_queue_exit(&ring);
    close(fd);
    free(buffer);
    return (double)n / (end - begin);
}

static void prepare(struct driver *d, const struct job *j, struct nvme_command *c, unsigned slot,
                    uint8_t *const *buffers, uint64_t i)
{
    uint64_t lba = next_offset(j, i) / 512;

    *c = (struct nvme_command){ .opcode = j->write ? NVM_WRITE : NVM_READ, .nsid = 1,
                                .prp1 = driver_address(d, buffers[slot]), .cdw10 = (uint32_t)lba,
                                .cdw11 = (uint32_t)(lba >> 32), .cdw12 = j->size / 512 - 1 };
    if (j->size > 4096)
        c->prp2 = c->prp1 + (1u << 20); /* where the list is */
    if (j->size == 8192)
        c->prp2 = c->prp1 + 4096;
}

static double by_nvme(const struct job *j, struct driver *d, uint8_t *const *buffers)
{
    struct driver_queue *q = &d->queue[1];
    struct nvme_completion done;
    uint64_t begun = 0, n = 0;
    double begin = now(), end = begin;

    while (end - begin < seconds || n < begun) {
        bool put = false, got = false;
        while (begun - n < j->depth && end - begin < seconds) {
            struct nvme_command c;
            unsigned slot = (unsigned)(begun % j->depth);
            prepare(d, j, &c, slot, buffers, begun);
            driver_put(d, 1, &c);
            begun++;
            put = true;
        }
        if (put)
            driver_ring(d, 1);
        while (driver_poll(d, 1, &done)) {
            if (driver_status(&done))
                exit((fprintf(stderr, "status 0x%x\n", driver_status(&done)), 1));
            n++;
            got = true;
        }
        if (got)
            driver_ring_head(d, 1);
        else
            __builtin_ia32_pause();
        if (!(n & 31) || !got)
            end = now();
    }
    (void)q;
    return (double)n / (end - begin);
}

/* ---- All together -------------------------------------------------------------------------------- */

static void on_core(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    sched_setaffinity(0, sizeof set, &set);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, unsigned n)
{
    qsort(v, n, sizeof *v, compare);
    return v[n / 2];
}

/* ns of CPU that a process has had */
static double cpu_ns(pid_t pid)
{
    char path[64];
    unsigned long long ns = 0;
    snprintf(path, sizeof path, "/proc/%d/schedstat", pid);
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%llu", &ns) != 1)
        ns = 0;
    if (f)
        fclose(f);
    return (double)ns;
}

int main(int argc, char **argv)
{
    static const struct job jobs[] = {
        { "4 KiB random read, depth 1", false, false, 4096, 1 },
        { "4 KiB random read, depth 32", false, false, 4096, 32 },
        { "4 KiB random read, depth 128", false, false, 4096, 128 },
        { "4 KiB random write, depth 1", true, false, 4096, 1 },
        { "4 KiB random write, depth 32", true, false, 4096, 32 },
        { "4 KiB random write, depth 128", true, false, 4096, 128 },
        { "128 KiB sequential read, depth 8", false, true, 131072, 8 },
        { "128 KiB sequential write, depth 8", true, true, 131072, 8 },
    };
    enum { JOBS = sizeof jobs / sizeof *jobs, WAYS = 4, MAX_ROUNDS = 31 };
    static double rate[JOBS][WAYS][MAX_ROUNDS], cpu[JOBS][MAX_ROUNDS];
    static uint8_t *buffers[MOST];
    const char *folder = "/dev/shm";
    unsigned rounds = 5, only = 0;
    struct disk disk;
    struct driver d;
    int o;

    while ((o = getopt(argc, argv, "f:s:r:j:")) != -1) {
        switch (o) {
        case 'f': folder = optarg; break;
        case 's': seconds = atof(optarg); break;
        case 'r': rounds = (unsigned)atoi(optarg) % MAX_ROUNDS; break;
        case 'j': only = (unsigned)atoi(optarg); break;
        default: return 2;
        }
    }
    on_core(1);
    disk_serve(&disk, folder, DISK, (const char *const *)argv + optind);
    on_core(0);
    char *fill = calloc(1, 1 << 20);
    int fd = open(disk.file, O_RDWR);
    for (uint64_t at = 0; at < DISK; at += 1 << 20)
        if (pwrite(fd, memset(fill, (int)(at >> 20), 1 << 20), 1 << 20, (off_t)at) < 0)
            return 1;
    fsync(fd);
    close(fd);

    driver_connect(&d, disk.socket, 512ull << 20);
    driver_enable(&d, 64);
    if (driver_queue(&d, 1, 1024, -1))
        return 1;
    if (!getenv("NO_SHADOW"))
        driver_shadow(&d);
    for (unsigned i = 0; i < MOST; i++) {
        uint64_t address;
        buffers[i] = driver_alloc(&d, (1 << 20) + 4096, 4096, &address);
        uint64_t *list = (uint64_t *)(void *)(buffers[i] + (1 << 20));
        for (unsigned k = 0; k < 255; k++)
            list[k] = address + (k + 1) * 4096ull;
    }
    printf("%-36s %10s %10s %10s %7s %7s %9s\n", disk.folder, "preadv2", "io_uring", "nvme", "/preadv2",
           "/uring", "ns CPU/IO");
    for (unsigned k = 0; k < JOBS; k++) {
        const struct job *j = &jobs[k];
        if (only && k + 1 != only)
            continue;
        for (unsigned r = 0; r < rounds; r++) {
            rate[k][0][r] = by_syscall(j, disk.file);
            rate[k][1][r] = by_ring(j, disk.file);
            double before = cpu_ns(disk.pid);
            double begin = now();
            rate[k][2][r] = by_nvme(j, &d, buffers);
            cpu[k][r] = (cpu_ns(disk.pid) - before) / (rate[k][2][r] * (now() - begin));
        }
        double a = median(rate[k][0], rounds), b = median(rate[k][1], rounds),
               c = median(rate[k][2], rounds);
        printf("%-36s %10.0f %10.0f %10.0f %7.2f %7.2f %9.0f\n", j->name, a, b, c, c / a, c / b,
               median(cpu[k], rounds));
    }
    printf("traps %llu\n", (unsigned long long)d.traps);
    driver_disable(&d);
    driver_close(&d);
    disk_end(&disk);
    return 0;
}

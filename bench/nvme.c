/*
 * nvme.c - an NVMe disk measured by a driver in user space, against the same file without NVMe.
 *
 *     nvme [-f FOLDER] [-s SECONDS] [-r ROUNDS] [-j JOB] [-t] [-i] [-- WORDS for "outboard serve nvme"]
 *
 * Worker and driver have a core each. Rounds of all ways follow each other, so that noise meets all of
 * them, and medians are printed, as JSON. -j: one job alone, from 1. -t: doorbells are registers, each
 * of which traps. -i: uses the disk a little, prints the worker's number, and waits for the end of
 * standard input, so that an idle worker can be looked at. -o WORD...: compares NVMe alone with another
 * disk, that is served with these words and measured in the same rounds.
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

static double seconds = 0.2;
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

static double by_syscall(const struct job *j, const char *file, uint8_t *const *buffers)
{
    int fd = open(file, O_RDWR | O_CLOEXEC);
    double begin = now(), end;
    uint64_t n = 0;

    do {
        for (unsigned k = 0; k < 32; k++, n++) {
            struct iovec iov = { buffers[n % j->depth], j->size };
            off_t at = (off_t)next_offset(j, n);
            ssize_t got = j->write ? pwritev2(fd, &iov, 1, at, 0) : preadv2(fd, &iov, 1, at, 0);
            if (got != (ssize_t)j->size)
                exit((perror(file), 1));
        }
    } while ((end = now()) - begin < seconds);
    close(fd);
    return (double)n / (end - begin);
}

static double by_ring(const struct job *j, const char *file, uint8_t *const *buffers)
{
    int fd = open(file, O_RDWR | O_CLOEXEC);
    struct io_uring ring;
    struct io_uring_cqe *cqe;
    uint64_t begun = 0, n = 0;

    if (io_uring_queue_init(MOST, &ring, 0) < 0)
        exit((perror("io_uring"), 1));
    double begin = now(), end = begin;
    while (end - begin < seconds || n < begun) {
        while (begun - n < j->depth && end - begin < seconds) {
            struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
            uint8_t *p = buffers[begun % j->depth];
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
    return (double)n / (end - begin);
}

/* ---- All together -------------------------------------------------------------------------------- */

static void on_core(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
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

/* ns of CPU that a process has had, all threads, also those that have ended */
static double cpu_ns(pid_t pid)
{
    clockid_t clock;
    struct timespec t = { 0, 0 };

    if (clock_getcpuclockid(pid, &clock) == 0)
        clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The child that runs the device, or (--no-keeper) the process itself. */
static pid_t worker_of(pid_t pid)
{
    pid_t worker = disk_worker(pid);

    return worker ? worker : pid;
}

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
enum { JOBS = sizeof jobs / sizeof *jobs, MAX_ROUNDS = 301, DRIVER_CORE = 0, WORKER_CORE = 1 };

static void fill_disk(const char *file)
{
    uint8_t *bytes = malloc(1 << 20);
    int fd = open(file, O_RDWR | O_CLOEXEC);

    for (uint64_t at = 0; at < DISK; at += 1 << 20)
        if (pwrite(fd, memset(bytes, (int)(at >> 20), 1 << 20), 1 << 20, (off_t)at) < 0)
            exit((perror(file), 1));
    fsync(fd);
    close(fd);
    free(bytes);
}

static void set_up(struct driver *d, const struct disk *disk, bool shadow, uint8_t **buffers)
{
    driver_connect(d, disk->socket, 512ull << 20);
    driver_enable(d, 64);
    if (driver_queue(d, 1, 1024, -1))
        exit(1);
    if (shadow)
        driver_shadow(d);
    for (unsigned i = 0; i < MOST; i++) {
        uint64_t address;
        buffers[i] = driver_alloc(d, (1 << 20) + 4096, 4096, &address);
        uint64_t *list = (uint64_t *)(void *)(buffers[i] + (1 << 20));
        for (unsigned k = 0; k < 255; k++)
            list[k] = address + (k + 1) * 4096ull;
    }
}

enum { SYSCALL, RING, NVME, TO_SYSCALL, TO_RING, SYSCALL_CPU, NVME_CPU, TRAPS, FIGURES };
static const char *const figures[] = { "preadv2", "io_uring", "nvme", "to_preadv2", "to_io_uring",
                                       "preadv2_cpu_ns", "nvme_cpu_ns", "traps" };

static void measure_round(const struct job *j, struct driver *d, const struct disk *disk,
                          uint8_t *const *buffers, double *v)
{
    on_core(WORKER_CORE);
    double cpu = cpu_ns(0), start = now();
    v[SYSCALL] = by_syscall(j, disk->file, buffers);
    v[SYSCALL_CPU] = (cpu_ns(0) - cpu) / (v[SYSCALL] * (now() - start));
    v[RING] = by_ring(j, disk->file, buffers);
    on_core(DRIVER_CORE);
    uint64_t traps = d->traps;
    pid_t worker = worker_of(disk->pid);
    cpu = cpu_ns(worker);
    start = now();
    v[NVME] = by_nvme(j, d, buffers);
    double count = v[NVME] * (now() - start);
    v[NVME_CPU] = (cpu_ns(worker) - cpu) / count;
    v[TRAPS] = (double)(d->traps - traps) / count;
    v[TO_SYSCALL] = v[NVME] / v[SYSCALL];
    v[TO_RING] = v[NVME] / v[RING];
}

static void measure(const struct job *j, struct driver *d, const struct disk *disk,
                    uint8_t *const *buffers, unsigned rounds)
{
    double all[FIGURES][MAX_ROUNDS], v[FIGURES];

    for (unsigned r = 0; r < rounds; r++) {
        measure_round(j, d, disk, buffers, v);
        for (unsigned i = 0; i < FIGURES; i++)
            all[i][r] = v[i];
    }
    printf("  {\"job\": \"%s\"", j->name);
    for (unsigned i = 0; i < FIGURES; i++)
        printf(", \"%s\": %.6g", figures[i], median(all[i], rounds));
    printf("}");
    fflush(stdout);
}

/* Two disks, whose rounds follow each other closely, each first as often as the other. */
static void compare_disks(const struct job *j, struct driver *d, uint8_t *const (*buffers)[MOST], unsigned rounds)
{
    double ratios[MAX_ROUNDS], all[2][MAX_ROUNDS];

    for (unsigned r = 0; r < rounds; r++) {
        for (unsigned i = 0; i < 2; i++) {
            unsigned which = (r ^ i) & 1;
            all[which][r] = by_nvme(j, &d[which], buffers[which]);
        }
        ratios[r] = all[0][r] / all[1][r];
    }
    printf("  {\"job\": \"%s\", \"nvme\": %.6g, \"other\": %.6g, \"to_other\": %.6g}", j->name,
           median(all[0], rounds), median(all[1], rounds), median(ratios, rounds));
}

/* Memory that was ever used stays: so a look at the largest transfers too. */
static void use_a_little(struct driver *d, uint8_t *const *buffers)
{
    seconds = 0.05;
    for (unsigned k = 0; k < JOBS; k++)
        by_nvme(&jobs[k], d, buffers);
}

int main(int argc, char **argv)
{
    static uint8_t *buffers[2][MOST];
    const char *folder = "/dev/shm", *other[8] = { NULL };
    unsigned rounds = 7, only = 0, others = 0;
    bool shadow = true, idle = false;
    struct disk disk[2];
    struct driver d[2];
    int o;

    while ((o = getopt(argc, argv, "f:s:r:j:tio:")) != -1) {
        switch (o) {
        case 'f': folder = optarg; break;
        case 's': seconds = atof(optarg); break;
        case 'r': rounds = (unsigned)atoi(optarg) % (MAX_ROUNDS + 1); break;
        case 'j': only = (unsigned)atoi(optarg); break;
        case 't': shadow = false; break;
        case 'i': idle = true; break;
        case 'o': other[others++ % 7] = optarg; break;
        default: return 2;
        }
    }
    for (unsigned i = 0; i < 1u + !!others; i++) {
        on_core(WORKER_CORE);
        disk_serve(&disk[i], folder, DISK, i ? other : (const char *const *)argv + optind);
        on_core(DRIVER_CORE);
        fill_disk(disk[i].file);
        set_up(&d[i], &disk[i], shadow, buffers[i]);
    }
    if (idle) {
        use_a_little(&d[0], buffers[0]);
        printf("%d\n", (int)worker_of(disk[0].pid));
        fflush(stdout);
        while (getchar() != EOF)
            ;
    } else {
        for (unsigned k = only ? only - 1 : 0; k < (only ? only : JOBS); k++) {
            printf("%s\n", only || k == 0 ? "[" : ",");
            if (others)
                compare_disks(&jobs[k], d, buffers, rounds);
            else
                measure(&jobs[k], &d[0], &disk[0], buffers[0], rounds);
        }
        printf("\n]\n");
    }
    for (unsigned i = 0; i < 1u + !!others; i++) {
        driver_disable(&d[i]);
        driver_close(&d[i]);
        disk_end(&disk[i]);
    }
    return 0;
}

/*
 * recovery.c - how long a client waits when the disk's process is killed.
 *
 *     recovery [-n KILLS] [-f FOLDER] [-b] [-- WORDS for "outboard serve nvme"]
 *
 * From SIGKILL to the answer to a register read that is sent at once, and to the completion of a read of 4 KiB whose
 * doorbell is rung next. The guest has 512 MiB of memory. -b: the disk is busy with 32 writes of 64 KiB, which
 * the successor must see landed before it executes a command. Medians, and the worst, as JSON.
 */
#include "../tests/nvme/driver.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DISK (256ull << 20)
#define MEMORY (512ull << 20)
#define MOST 100000u
#define WRITES 32u
#define WRITE (64u << 10)

static struct disk disk;
static struct driver driver;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void put_writes(const uint64_t *address, const uint64_t *list)
{
    for (uint32_t i = 0; i < WRITES; i++) {
        uint64_t block = (uint64_t)rand() % (DISK / WRITE) * (WRITE / 512);
        struct nvme_command c = { .opcode = NVM_WRITE, .nsid = 1, .prp1 = address[i], .prp2 = list[i],
                                  .cdw10 = (uint32_t)block, .cdw12 = WRITE / 512 - 1 };
        driver_put(&driver, 1, &c);
    }
    driver_ring(&driver, 1);
}

static void wait_for(unsigned n)
{
    struct nvme_completion c;

    while (n--) {
        if (!driver_wait(&driver, 1, &c) || driver_status(&c)) {
            fprintf(stderr, "recovery: a command failed\n");
            exit(1);
        }
        driver_ring_head(&driver, 1);
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static void print(const char *name, uint64_t *v, unsigned n, const char *after)
{
    qsort(v, n, sizeof *v, compare);
    printf("\"%s\": {\"median_ms\": %.3f, \"p99_ms\": %.3f, \"worst_ms\": %.3f}%s", name, (double)v[n / 2] / 1e6,
           (double)v[n - 1 - n / 100] / 1e6, (double)v[n - 1] / 1e6, after);
}

int main(int argc, char **argv)
{
    static uint64_t answer[MOST], completion[MOST], address[WRITES], list[WRITES];
    const char *folder = "/dev/shm";
    unsigned kills = 1000;
    bool busy = false;
    uint64_t page;
    int o;

    while ((o = getopt(argc, argv, "n:f:b")) != -1) {
        switch (o) {
        case 'n': kills = (unsigned)atoi(optarg); break;
        case 'f': folder = optarg; break;
        case 'b': busy = true; break;
        default: return 2;
        }
    }
    if (kills == 0 || kills > MOST)
        return 2;
    disk_serve(&disk, folder, DISK, (const char *const *)argv + optind);
    driver_connect(&driver, disk.socket, MEMORY);
    driver_enable(&driver, 16);
    if (driver_queue(&driver, 1, 64, -1))
        return 1;
    driver_alloc(&driver, 4096, 4096, &page);
    for (uint32_t i = 0; i < WRITES; i++) {
        driver_alloc(&driver, WRITE, 4096, &address[i]);
        uint64_t *entry = driver_alloc(&driver, 4096, 4096, &list[i]);
        for (unsigned k = 1; k < WRITE / 4096; k++)
            entry[k - 1] = address[i] + k * 4096;
    }
    struct nvme_command r = { .opcode = NVM_READ, .nsid = 1, .prp1 = page, .cdw12 = 7 };
    for (unsigned i = 0; i < kills; i++) {
        if (busy)
            put_writes(address, list);
        uint64_t start = now();
        kill(disk_worker(disk.pid), SIGKILL);
        driver_read32(&driver, REG_CSTS);
        answer[i] = now() - start;
        driver_put(&driver, 1, &r);
        driver_ring(&driver, 1);
        wait_for(1);
        completion[i] = now() - start;
        if (busy)
            wait_for(WRITES);
        usleep(2000);
    }
    printf("{\"kills\": %u, ", kills);
    print("answer", answer, kills, ", ");
    print("completion", completion, kills, "}\n");
    driver_close(&driver);
    disk_end(&disk);
    return 0;
}

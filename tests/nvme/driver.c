/*
 * driver.c - see driver.h.
 */
#include "driver.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what, int error)
{
    fprintf(stderr, "driver: %s: %s\n", what, strerror(error < 0 ? -error : error));
    exit(1);
}

static void check(struct driver *d, int ret)
{
    char why[OB_CLIENT_ERROR_SIZE];

    if (ret >= 0)
        return;
    fprintf(stderr, "driver: %s\n", ob_client_error(d->client, why, sizeof why));
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#define PATIENCE 20000000000u

/* ---- A served disk ------------------------------------------------------------------------------- */

const char *disk_device = "nvme";
void (*disk_child)(void);

void disk_serve_again(struct disk *disk, const char *const *args)
{
    const char *program = getenv("OUTBOARD"), *argv[32];
    char file[128], socket[128], ready_fd[32], byte;
    unsigned n = 0;
    int ready[2];

    if (pipe(ready) < 0)
        die("pipe", errno);
    snprintf(file, sizeof file, "file=%s", disk->file);
    snprintf(socket, sizeof socket, "--socket-path=%s", disk->socket);
    snprintf(ready_fd, sizeof ready_fd, "--ready-fd=%d", ready[1]);
    argv[n++] = program ? program : "build/outboard";
    argv[n++] = "serve";
    argv[n++] = disk_device;
    argv[n++] = file;
    argv[n++] = socket;
    argv[n++] = ready_fd;
    while (args && *args && n < 31)
        argv[n++] = *args++;
    argv[n] = NULL;
    disk->pid = fork();
    if (disk->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ready[0]);
        if (disk_child)
            disk_child();
        execv(argv[0], (char **)(uintptr_t)argv);
        die(argv[0], errno);
    }
    close(ready[1]);
    if (disk->pid < 0 || read(ready[0], &byte, 1) != 1) {
        fprintf(stderr, "driver: the disk is not served\n");
        exit(1);
    }
    close(ready[0]);
}

void disk_serve(struct disk *disk, const char *folder, uint64_t size, const char *const *args)
{
    snprintf(disk->folder, sizeof disk->folder, "%s/outboard-nvme-XXXXXX", folder ? folder : "/tmp");
    if (!mkdtemp(disk->folder))
        die(disk->folder, errno);
    snprintf(disk->socket, sizeof disk->socket, "%s/socket", disk->folder);
    snprintf(disk->file, sizeof disk->file, "%s/disk", disk->folder);
    int fd = open(disk->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        die(disk->file, errno);
    close(fd);
    disk_serve_again(disk, args);
}

void disk_end(struct disk *disk)
{
    int status = 0;

    kill(disk->pid, SIGTERM);
    waitpid(disk->pid, &status, 0);
    unlink(disk->file);
    unlink(disk->socket);
    rmdir(disk->folder);
    if (!WIFEXITED(status) || WEXITSTATUS(status)) {
        fprintf(stderr, "driver: the disk's process ended with status 0x%x\n", status);
        exit(1);
    }
}

pid_t disk_worker(pid_t keeper)
{
    pid_t found = 0;

    for (int pid = keeper, child; pid; pid = child) {
        char path[64];
        child = 0;
        snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
        FILE *f = fopen(path, "re");
        if (f && fscanf(f, "%d", &child) == 1)
            found = child;
        if (f)
            fclose(f);
    }
    return found;
}

/* ---- The controller ------------------------------------------------------------------------------ */

#define MIX (11 * 4096u) /* bytes of one kind of memory, before the other begins */

int driver_map(struct driver *d, uint64_t address, void *memory, uint64_t size)
{
    const uint32_t rw = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    bool far = d->kind == DRIVER_MESSAGES || (d->kind == DRIVER_MIXED && address / MIX % 2);

    return ob_client_dma_map(d->client, address, size, memory, far ? -1 : d->memory_fd,
                             far ? 0 : (uint64_t)((uint8_t *)memory - d->memory), rw);
}

void driver_map_all(struct driver *d)
{
    uint64_t left = MIX - DRIVER_BASE % MIX, size;

    for (uint64_t at = 0; at < d->size; at += size) {
        size = d->kind == DRIVER_MIXED && left < d->size - at ? left : d->size - at;
        check(d, driver_map(d, DRIVER_BASE + at, d->memory + at, size));
        left = MIX;
    }
}

static void choose_kind(struct driver *d)
{
    const char *kind = getenv("NVME_MEMORY");

    if (!kind || strcmp(kind, "mapped") == 0)
        d->kind = DRIVER_MAPPED;
    else if (strcmp(kind, "messages") == 0)
        d->kind = DRIVER_MESSAGES;
    else if (strcmp(kind, "mixed") == 0)
        d->kind = DRIVER_MIXED;
    else
        die("NVME_MEMORY", EINVAL);
}

/* With doorbells=mapped there is something to map. */
static void map_doorbells(struct driver *d)
{
    struct ob_region *bar;
    void *p;

    check(d, ob_client_region(d->client, VFIO_PCI_BAR0_REGION_INDEX, &bar));
    if (bar->fd >= 0) {
        int ret = ob_region_map(bar, REG_DOORBELLS, 4096, PROT_READ | PROT_WRITE, &p);
        if (ret < 0)
            die("doorbells", ret);
        d->mapped = p;
    }
    ob_region_free(bar);
}

void driver_connect(struct driver *d, const char *socket, uint64_t memory)
{
    const uint16_t command = 6; /* memory space, bus master */

    *d = (struct driver){ .size = memory };
    choose_kind(d);
    int ret = -EBUSY;
    /* The device's process may not have noticed yet that the client before us has gone. */
    for (unsigned i = 0; i < 1000 && ret == -EBUSY; i++) {
        if (i)
            usleep(1000);
        ob_client_free(d->client);
        d->client = ob_client_new();
        if (!d->client)
            die("client", errno);
        ob_client_set_spin(d->client, 20);
        ret = ob_client_connect(d->client, socket);
    }
    check(d, ret);
    check(d, ob_client_reset(d->client));
    d->memory_fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (d->memory_fd < 0 || ftruncate(d->memory_fd, (off_t)memory) < 0)
        die("memory", errno);
    d->memory = mmap(NULL, memory, PROT_READ | PROT_WRITE, MAP_SHARED, d->memory_fd, 0);
    if (d->memory == MAP_FAILED)
        die("memory", errno);
    driver_map_all(d);
    map_doorbells(d);
    check(d, ob_client_write(d->client, VFIO_PCI_CONFIG_REGION_INDEX, 4, &command, 2));
}

void driver_close(struct driver *d)
{
    ob_client_free(d->client);
    if (d->mapped)
        munmap(d->mapped, 4096);
    munmap(d->memory, d->size);
    close(d->memory_fd);
}

uint32_t driver_read32(struct driver *d, uint32_t reg)
{
    uint32_t v;
    check(d, ob_client_read(d->client, VFIO_PCI_BAR0_REGION_INDEX, reg, &v, sizeof v));
    return v;
}

uint64_t driver_read64(struct driver *d, uint32_t reg)
{
    uint64_t v;
    check(d, ob_client_read(d->client, VFIO_PCI_BAR0_REGION_INDEX, reg, &v, sizeof v));
    return v;
}

void driver_write32(struct driver *d, uint32_t reg, uint32_t v)
{
    check(d, ob_client_write(d->client, VFIO_PCI_BAR0_REGION_INDEX, reg, &v, sizeof v));
}

void driver_write64(struct driver *d, uint32_t reg, uint64_t v)
{
    check(d, ob_client_write(d->client, VFIO_PCI_BAR0_REGION_INDEX, reg, &v, sizeof v));
}

bool driver_wait_csts(struct driver *d, uint32_t mask, uint32_t value)
{
    uint64_t end = now_ns() + PATIENCE;

    while ((driver_read32(d, REG_CSTS) & mask) != value)
        if (now_ns() > end)
            return false;
    return true;
}

void *driver_alloc(struct driver *d, uint64_t size, uint64_t align, uint64_t *address)
{
    uint64_t at = (d->used + align - 1) / align * align;

    if (at + size > d->size) {
        fprintf(stderr, "driver: out of memory for the device\n");
        exit(1);
    }
    d->used = at + size;
    if (address)
        *address = DRIVER_BASE + at;
    memset(d->memory + at, 0, size);
    return d->memory + at;
}

static void make_queue(struct driver *d, uint32_t q, uint32_t entries)
{
    struct driver_queue *dq = &d->queue[q];

    *dq = (struct driver_queue){ .entries = entries, .phase = 1 };
    dq->sq = driver_alloc(d, entries * 64ull, 4096, &dq->sq_address);
    dq->cq = driver_alloc(d, entries * 16ull, 4096, &dq->cq_address);
}

void driver_enable(struct driver *d, uint32_t entries)
{
    make_queue(d, 0, entries);
    d->shadow = false;
    driver_write32(d, REG_AQA, (entries - 1) << 16 | (entries - 1));
    driver_write64(d, REG_ASQ, d->queue[0].sq_address);
    driver_write64(d, REG_ACQ, d->queue[0].cq_address);
    driver_write32(d, REG_CC, CC_EN | 6 << 16 | 4 << 20);
    if (!driver_wait_csts(d, CSTS_RDY | CSTS_CFS, CSTS_RDY)) {
        fprintf(stderr, "driver: the controller does not get ready\n");
        exit(1);
    }
}

void driver_disable(struct driver *d)
{
    driver_write32(d, REG_CC, 6 << 16 | 4 << 20);
    if (!driver_wait_csts(d, CSTS_RDY, 0)) {
        fprintf(stderr, "driver: the controller does not reset\n");
        exit(1);
    }
    d->shadow = false;
}

/* ---- Queues -------------------------------------------------------------------------------------- */

uint16_t driver_queue(struct driver *d, uint32_t q, uint32_t entries, int vector)
{
    make_queue(d, q, entries);
    struct nvme_command cq = { .opcode = ADMIN_CREATE_CQ, .prp1 = d->queue[q].cq_address,
                               .cdw10 = (entries - 1) << 16 | q, .cdw11 = vector < 0 ? 1 : (uint32_t)vector << 16 | 3 };
    struct nvme_command sq = { .opcode = ADMIN_CREATE_SQ, .prp1 = d->queue[q].sq_address,
                               .cdw10 = (entries - 1) << 16 | q, .cdw11 = q << 16 | 1 };

    uint16_t status = driver_do(d, 0, &cq, NULL);
    return status ? status : driver_do(d, 0, &sq, NULL);
}

uint16_t driver_delete_queue(struct driver *d, uint32_t q)
{
    struct nvme_command sq = { .opcode = ADMIN_DELETE_SQ, .cdw10 = q };
    struct nvme_command cq = { .opcode = ADMIN_DELETE_CQ, .cdw10 = q };

    uint16_t status = driver_do(d, 0, &sq, NULL);
    return status ? status : driver_do(d, 0, &cq, NULL);
}

bool driver_shadow(struct driver *d)
{
    struct nvme_command c = { .opcode = ADMIN_DOORBELL_BUFFER };

    d->doorbells = driver_alloc(d, 4096, 4096, &c.prp1);
    d->events = driver_alloc(d, 4096, 4096, &c.prp2);
    d->shadow = driver_do(d, 0, &c, NULL) == 0;
    if (!d->shadow && d->kind == DRIVER_MAPPED && !d->mapped) {
        fprintf(stderr, "driver: no shadow doorbells\n");
        exit(1);
    }
    return d->shadow;
}

uint16_t driver_put(struct driver *d, uint32_t q, const struct nvme_command *c)
{
    struct driver_queue *dq = &d->queue[q];
    struct nvme_command *e = &dq->sq[dq->tail];

    *e = *c;
    e->cid = dq->next_cid++;
    dq->tail = dq->tail + 1 == dq->entries ? 0 : dq->tail + 1;
    return e->cid;
}

/* By the register, or in memory and by the register only if the controller asks for that. */
static void doorbell(struct driver *d, uint32_t n, uint32_t value)
{
    if (d->mapped) {
        atomic_store(&d->mapped[n], value);
        return;
    }
    if (d->shadow && n >= 2) {
        uint16_t old = (uint16_t)atomic_exchange(&d->doorbells[n], value); /* and a full barrier */
        uint16_t event = (uint16_t)atomic_load(&d->events[n]), new = (uint16_t)value;
        if ((uint16_t)(new - event - 1) >= (uint16_t)(new - old))
            return;
    }
    d->traps++;
    check(d, ob_client_post(d->client, VFIO_PCI_BAR0_REGION_INDEX, REG_DOORBELLS + 4ull * n, &value,
                            sizeof value));
}

void driver_ring(struct driver *d, uint32_t q)
{
    atomic_thread_fence(memory_order_release);
    doorbell(d, 2 * q, d->queue[q].tail);
}

void driver_ring_head(struct driver *d, uint32_t q)
{
    doorbell(d, 2 * q + 1, d->queue[q].head);
}

void driver_answer(struct driver *d)
{
    if (d->kind != DRIVER_MAPPED)
        check(d, ob_client_process(d->client));
}

bool driver_poll(struct driver *d, uint32_t q, struct nvme_completion *c)
{
    struct driver_queue *dq = &d->queue[q];
    volatile struct nvme_completion *e = &dq->cq[dq->head];

    if ((e->status & 1) != dq->phase)
        driver_answer(d);
    if ((e->status & 1) != dq->phase)
        return false;
    atomic_thread_fence(memory_order_acquire);
    *c = *(struct nvme_completion *)(uintptr_t)e;
    if (++dq->head == dq->entries) {
        dq->head = 0;
        dq->phase ^= 1;
    }
    return true;
}

bool driver_wait(struct driver *d, uint32_t q, struct nvme_completion *c)
{
    uint64_t end = 0;

    for (unsigned i = 1; !driver_poll(d, q, c); i++) {
        if (i % 4096)
            continue;
        uint64_t now = now_ns();
        if (!end)
            end = now + PATIENCE;
        if (now > end)
            return false;
        usleep(20);
    }
    return true;
}

uint16_t driver_do(struct driver *d, uint32_t q, const struct nvme_command *c, uint32_t *dw0)
{
    struct nvme_completion done;

    uint16_t cid = driver_put(d, q, c);
    driver_ring(d, q);
    do
        if (!driver_wait(d, q, &done))
            return 0xffff;
    while (done.cid != cid);
    driver_ring_head(d, q);
    if (dw0)
        *dw0 = done.dw0;
    return driver_status(&done);
}

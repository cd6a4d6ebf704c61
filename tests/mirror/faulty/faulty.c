/*
 * faulty.c - what the client does: a little of everything, one after the other.
 *
 *   faulty SOCKET [FAULT [TIMEOUT]]      ends with status 0 if nothing was out of order
 *   faulty --list                        the faults
 */
#include "faulty.h"

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

enum fault the_fault;
uint8_t *mapped;

static struct message m;
static uint8_t *shared; /* memory of the client's, in a file */

static const struct {
    const char *name, *text;
} faults[] = {
#define FAULT_ROW(name, word, text) { word, text },
    FAULTS(FAULT_ROW)
};

void give_up(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vfprintf(stderr, format, values);
    va_end(values);
    fprintf(stderr, "\n");
    exit(1);
}

/* ---- What there is ------------------------------------------------------------------------- */

static void device_info(struct vfio_user_device_info *info)
{
    struct vfio_user_device_info request = { .argsz = sizeof request };

    call(&(struct request){ VFIO_USER_DEVICE_GET_INFO, &request, sizeof request,
                            .least = sizeof *info, .most = sizeof *info },
         &m);
    memcpy(info, m.body, sizeof *info);
    if (m.h.flags & VFIO_USER_FLAG_ERROR)
        memset(info, 0, sizeof *info);
    if (!fault(FAULT_REGIONS) && (info->num_regions > 64 || info->num_irqs > 16))
        give_up("%u regions and %u interrupt types", info->num_regions, info->num_irqs);
}

static uint32_t irq_info(uint32_t index)
{
    struct vfio_irq_info request = { .argsz = sizeof request, .index = index }, info;

    call(&(struct request){ VFIO_USER_DEVICE_GET_IRQ_INFO, &request, sizeof request,
                            .least = sizeof info, .most = sizeof info },
         &m);
    memcpy(&info, m.body, sizeof info);
    if (m.h.flags & VFIO_USER_FLAG_ERROR)
        return 0;
    if (info.index != index && !fault(FAULT_ECHO))
        give_up("interrupt type %u instead of %u", info.index, index);
    if (info.count > 2048 && !fault(FAULT_IRQS))
        give_up("%u interrupts", info.count);
    return info.count;
}

static void set_irqs(uint32_t count)
{
    int fd[2] = { eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC) };

    for (uint32_t start = 0; start < count;) {
        uint32_t n = limit_fds > 1 && count - start > 1 ? 2 : 1;
        struct vfio_irq_set set = { .argsz = sizeof set,
                                    .flags = VFIO_IRQ_SET_DATA_EVENTFD |
                                             VFIO_IRQ_SET_ACTION_TRIGGER,
                                    .index = VFIO_PCI_MSIX_IRQ_INDEX,
                                    .start = start,
                                    .count = n };
        call(&(struct request){ VFIO_USER_DEVICE_SET_IRQS, &set, sizeof set, fd, n, .most = 0 },
             &m);
        start += n;
    }
    close(fd[0]);
    close(fd[1]);
}

/* ---- Registers ----------------------------------------------------------------------------- */

struct access {
    struct vfio_user_region_access head;
    uint8_t data[64];
};

static struct request read_request(struct access *a, uint64_t offset, uint32_t n)
{
    a->head = (struct vfio_user_region_access){ offset, VFIO_PCI_BAR0_REGION_INDEX, n };
    return (struct request){ VFIO_USER_REGION_READ, a, sizeof a->head, .least = sizeof a->head,
                             .most = fault(FAULT_COUNT) ? MOST_BODY : sizeof a->head + n };
}

/* Is a body too short, and does nobody see it? Then what was in its place before is taken for it. */
static bool cut(size_t wanted)
{
    return fault(FAULT_BODY) && m.size < wanted;
}

/* Takes what a read has brought. */
static void take_data(const struct access *asked, uint8_t *to)
{
    struct vfio_user_region_access got;

    memcpy(&got, m.body, sizeof got);
    if ((m.h.flags & VFIO_USER_FLAG_ERROR) || cut(sizeof got) || cut(sizeof got + got.count))
        return;
    if (!fault(FAULT_ECHO) &&
        (got.offset != asked->head.offset || got.region != asked->head.region))
        give_up("the data of something else");
    if (!fault(FAULT_COUNT) && got.count > asked->head.count)
        give_up("%u bytes, where %u were asked for", got.count, asked->head.count);
    if (!fault(FAULT_SHORT_READ) && got.count < asked->head.count)
        give_up("%u bytes, where %u were asked for", got.count, asked->head.count);
    if (m.size - sizeof got != got.count && !fault(FAULT_TAIL) && !fault(FAULT_COUNT))
        give_up("%zu bytes of data, and a count of %u", m.size - sizeof got, got.count);
    memcpy(to, m.body + sizeof got, got.count);
}

static uint32_t read32(uint64_t offset)
{
    static uint8_t *to;
    struct access a;
    uint32_t value, step = limit_data < 4 ? (uint32_t)limit_data : 4;

    if (!to)
        to = guarded(4);
    for (uint32_t i = 0; i < 4; i += step) {
        struct request r = read_request(&a, offset + i, step);
        call(&r, &m);
        take_data(&a, step == 4 ? to : to + i);
    }
    memcpy(&value, to, sizeof value);
    return value;
}

/* Two reads at once. */
static void pipeline(void)
{
    struct access a, b;
    uint8_t data[64];
    struct request first = read_request(&a, 0, 1), second = read_request(&b, 1, 1);
    uint16_t ids[2] = { call_send(&first), call_send(&second) };

    call_wait(&first, ids[0], &m);
    take_data(&a, data);
    call_wait(&second, ids[1], &m);
    take_data(&b, data);
}

static void write32(uint64_t offset, uint32_t value)
{
    struct access a = { .head = { offset, VFIO_PCI_BAR0_REGION_INDEX, 1 } };
    struct vfio_user_region_access got;

    a.data[0] = (uint8_t)value;
    call(&(struct request){ VFIO_USER_REGION_WRITE, &a, sizeof a.head + 1, .least = sizeof got,
                            .most = sizeof got },
         &m);
    memcpy(&got, m.body, sizeof got);
    if (cut(sizeof got))
        return;
    if (!fault(FAULT_ECHO) && (got.offset != a.head.offset || got.region != a.head.region))
        give_up("something else was written");
    if (!fault(FAULT_WRITTEN) && got.count != 1)
        give_up("%u bytes were written instead of 1", got.count);
}

static void write_multi(void)
{
    struct {
        uint64_t n;
        struct vfio_user_write write;
    } request = { 1, { .offset = 0x40, .region = VFIO_PCI_BAR0_REGION_INDEX, .count = 1 } };
    uint64_t done;

    if ((!takes_multi && !fault(FAULT_LIMITS)) || limit_data < sizeof request)
        return;
    call(&(struct request){ VFIO_USER_REGION_WRITE_MULTI, &request, sizeof request,
                            .least = sizeof done, .most = sizeof done },
         &m);
    memcpy(&done, m.body, sizeof done);
    if (done != 1 && !fault(FAULT_WRITTEN))
        give_up("%llu writes were done", (unsigned long long)done);
}

/* The mirror's commands are answered while it says that it waits for some. */
static void answer_all(void)
{
    for (unsigned i = 0; i < 200 && read32(4) != 0; i++)
        usleep(1000);
}

/* ---- Memory -------------------------------------------------------------------------------- */

#define SHARED 0x100000u
#define READ_ONLY 0x200000u
#define WRITE_ONLY 0x300000u
#define BRIEF 0x400000u
#define SIZE 65536u

static unsigned maps_count;

static void dma_map(uint64_t address, uint8_t *memory, int fd, uint32_t flags)
{
    struct vfio_user_dma_map map = {
        .argsz = sizeof map, .flags = flags, .address = address, .size = SIZE
    };

    if (maps_count++ >= limit_maps)
        give_up("the server takes no more DMA maps");
    dma_add(address, SIZE, memory, flags);
    call(&(struct request){ VFIO_USER_DMA_MAP, &map, sizeof map, &fd, fd >= 0, .most = 0 }, &m);
}

static void dma_unmap(uint64_t address)
{
    struct vfio_user_dma_unmap unmap = { .argsz = sizeof unmap, .address = address, .size = SIZE };

    call(&(struct request){ VFIO_USER_DMA_UNMAP, &unmap, sizeof unmap, .least = sizeof unmap,
                            .most = sizeof unmap },
         &m);
    dma_remove(address);
}

static void map_memory(void)
{
    static uint8_t others[SIZE];
    int fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, SIZE) < 0)
        give_up("no memory");
    if (!fault(FAULT_MEMORY_SHRINK))
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
    shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    dma_map(SHARED, shared, fd, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
    close(fd);
    dma_map(READ_ONLY, others, -1, VFIO_DMA_MAP_FLAG_READ);
    dma_map(WRITE_ONLY, others, -1, VFIO_DMA_MAP_FLAG_WRITE);
    dma_map(BRIEF, others, -1, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE);
}

/* ---- Migration ----------------------------------------------------------------------------- */

static void migrate(void)
{
    static uint8_t *state;
    struct vfio_user_device_feature feature = { .argsz = 16,
                                                .flags = VFIO_DEVICE_FEATURE_GET |
                                                         VFIO_DEVICE_FEATURE_MIGRATION },
                                    got;
    struct vfio_user_mig_data want = { .argsz = 8 + 200, .size = 200 }, head;

    call(&(struct request){ VFIO_USER_DEVICE_FEATURE, &feature, sizeof feature, .least = 16,
                            .most = 16 },
         &m);
    memcpy(&got, m.body, sizeof got);
    if (!fault(FAULT_FEATURE) && (got.flags != feature.flags || got.argsz > 16))
        give_up("the reply is about feature 0x%x, and takes %u bytes", got.flags, got.argsz);
    state = guarded(200);
    call(&(struct request){ VFIO_USER_MIG_DATA_READ, &want, sizeof want, .least = sizeof head,
                            .most = MOST_BODY },
         &m);
    memcpy(&head, m.body, sizeof head);
    if (cut(sizeof head))
        return;
    if (!fault(FAULT_MIG_DATA) && (head.size > 200 || head.size != m.size - sizeof head))
        give_up("%u bytes of state, and %zu of data", head.size, m.size - sizeof head);
    memcpy(state, m.body + sizeof head, head.size);
}

static void reset(void)
{
    call(&(struct request){ VFIO_USER_DEVICE_RESET, .most = 0 }, &m);
}

/* ---- All of it ----------------------------------------------------------------------------- */

static void play(void)
{
    struct vfio_user_device_info info;
    uint32_t vectors = 0;

    version(&m);
    device_info(&info);
    for (uint32_t i = 0; i < info.num_regions; i++)
        region(i, &m);
    for (uint32_t i = 0; i < info.num_irqs; i++)
        vectors = irq_info(i);
    map_memory();
    set_irqs(vectors);
    uint32_t magic = read32(0);
    if (memcmp(&magic, "MIRR", 4) != 0 && !(m.h.flags & VFIO_USER_FLAG_ERROR) &&
        !fault(FAULT_BODY) && !fault(FAULT_SHORT_READ))
        give_up("register 0 reads 0x%x", magic);
    read32(0x20);
    if (mapped)
        mapped[0] = 1;
    write32(0x10, 7);
    write_multi();
    pipeline();
    answer_all();
    dma_unmap(BRIEF);
    read32(0x10);
    read32(0x20);
    answer_all();
    migrate();
    reset();
    read32(0x10);
    answer_all();
    memset(shared, 1, SIZE); /* it must still be there */
}

static int choose(const char *name)
{
    for (int i = 0; i < FAULTS_IN_ALL; i++)
        if (strcmp(faults[i].name, name) == 0)
            return i;
    give_up("%s: no such fault", name);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--list") == 0) {
        for (int i = 0; i < FAULTS_IN_ALL; i++)
            printf("%-14s %s\n", faults[i].name, faults[i].text);
        return 0;
    }
    if (argc < 2)
        return 2;
    the_fault = (enum fault)(argc > 2 ? choose(argv[2]) : 0);
    m.body = guarded(MOST_BODY);
    io_start(argv[1], argc > 3 ? (unsigned)atoi(argv[3]) : 300);
    play();
    return 0;
}

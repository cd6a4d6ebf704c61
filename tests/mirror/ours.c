/*
 * ours.c - a client that uses every function of liboutboard but ob_client_move(), for the mirror to misbehave to.
 *
 *   ours SOCKET [TIMEOUT [other]]
 *
 * "other": what can be done by other functions is; the socket is connected before the library gets it, and
 * memory is mapped and unmapped by requests, many under way at once.
 *
 * It goes on after errors as far as it gets. Status 0: nothing was out of order. 1: something was, and
 * the first of it is on stderr. What must never happen (memory changes that no server may write) aborts.
 */
#include <outboard/client.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define PAGE 4096u
#define READS 64u
#define POLLS 200u

static struct ob_client *c;
static bool failed, other;

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void complain(const char *format, ...)
{
    va_list values;
    if (!failed) {
        va_start(values, format);
        vfprintf(stderr, format, values);
        va_end(values);
        fprintf(stderr, "\n");
    }
    failed = true;
}

/* Notes that a call has failed. Returns whether it has not. */
static bool worked(long result)
{
    char why[OB_CLIENT_ERROR_SIZE];
    if (result < 0)
        complain("%s", ob_client_error(c, why, sizeof why));
    return result >= 0;
}

/* ---- What there is ------------------------------------------------------------------------- */

/* Reads and writes the first part of a region that can be mapped. */
static void use_mapping(const struct ob_region *r)
{
    uint64_t offset = r->has_areas ? r->areas[0].offset : 0;
    uint64_t size = r->has_areas ? r->areas[0].size : r->size;
    void *p;

    /* Who maps a file that can shrink has to live with SIGBUS, and this program cannot. */
    if (r->may_shrink)
        return;
    int ret = ob_region_map(r, offset, size, PROT_READ | PROT_WRITE, &p);
    if (ret < 0) {
        complain("region %u cannot be mapped: %s", r->index, strerror(-ret));
        return;
    }
    volatile uint8_t *bytes = p;
    for (uint64_t i = 0; i < size; i += PAGE)
        bytes[i] = bytes[i];
    munmap(p, size);
}

/* Strings have an end, all of them, and are found again. */
static void look_at_strings(const struct ob_strings *s)
{
    const char *text;
    unsigned nth;

    for (unsigned i = 0; (text = ob_strings_get(s, i)); i++)
        if (!ob_strings_has(s, text, &nth) || nth > i || strlen(text) > 4096)
            complain("string %u of a list is not there", i);
    if (ob_strings_has(s, "\n", NULL))
        complain("a list has a string of what cannot be printed");
}

static void look_at_regions(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct ob_region *r;
        if (!worked(ob_client_region(c, i, &r)))
            continue;
        if (r->fd >= 0 && r->size && (!r->has_areas || r->areas_count))
            use_mapping(r);
        look_at_strings(&r->compatible);
        look_at_strings(&r->irq_names);
        ob_region_free(r);
    }
}

/* It is a PCI device: nothing of it has a name. */
static void look_for_names(void)
{
    struct ob_region *r;
    uint32_t index;
    int ret = ob_client_find_region(c, "registers", &r);

    if (ret != -ENOENT && worked(ret))
        ob_region_free(r);
    ret = ob_client_find_irq(c, "line", &index);
    if (ret != -ENOENT)
        worked(ret);
}

static void look_at_device(void)
{
    struct ob_capabilities ours, theirs;
    struct vfio_user_device_info info = { 0 };
    struct vfio_irq_info irq;

    worked(ob_client_capabilities(c, &ours, &theirs));
    worked(ob_client_fd(c));
    worked(ob_client_transfer_size(c));
    worked(ob_client_device_info(c, &info));
    look_at_regions(info.num_regions);
    look_for_names();
    for (uint32_t i = 0; i < info.num_irqs; i++)
        worked(ob_client_irq_info(c, i, &irq));
}

/* ---- Registers ----------------------------------------------------------------------------- */

static uint32_t read32(uint64_t offset)
{
    uint32_t value = 0;
    worked(ob_client_read(c, VFIO_PCI_BAR0_REGION_INDEX, offset, &value, sizeof value));
    return value;
}

/* Answers the mirror's commands, until it says that it waits for none. */
static void answer_all(void)
{
    for (unsigned i = 0; i < POLLS; i++) {
        if (!worked(ob_client_process(c)) || read32(4) == 0)
            return;
        usleep(1000);
    }
}

static void use_registers(void)
{
    uint32_t magic = read32(0), value = 0x12345678, back;
    uint8_t config[256], page[PAGE] = { 1 };
    struct vfio_user_write writes[3] = {
        { .offset = 0x20, .region = VFIO_PCI_BAR0_REGION_INDEX, .count = 4, .data = { 1 } },
        { .offset = 0x24, .region = VFIO_PCI_BAR0_REGION_INDEX, .count = 2, .data = { 2 } },
        { .offset = 0x28, .region = VFIO_PCI_BAR0_REGION_INDEX, .count = 8, .data = { 3 } },
    };

    if (memcmp(&magic, "MIRR", 4) != 0)
        complain("register 0 reads 0x%x", magic);
    worked(ob_client_write(c, VFIO_PCI_BAR0_REGION_INDEX, 0x10, &value, sizeof value));
    worked(ob_client_post(c, VFIO_PCI_BAR0_REGION_INDEX, 0x14, &value, sizeof value));
    back = read32(0x10);
    if (back != value)
        complain("register 0x10 reads 0x%x", back);
    int ret = ob_client_write_multi(c, writes, 3, false);
    if (ret != -ENOTSUP && worked(ret))
        worked(ob_client_write_multi(c, writes, 3, true));
    worked(ob_client_read(c, VFIO_PCI_CONFIG_REGION_INDEX, 0, config, sizeof config));
    worked(ob_client_write(c, VFIO_PCI_BAR2_REGION_INDEX, 0, page, sizeof page));
    worked(ob_client_read(c, VFIO_PCI_BAR2_REGION_INDEX, 0, page, sizeof page));
}

/* A write that may be signalled. */
static void use_io_fds(void)
{
    struct ob_io_fds *fds;
    uint32_t value = 0;

    if (!worked(ob_client_io_fds(c, VFIO_PCI_BAR0_REGION_INDEX, &fds)))
        return;
    ob_io_fds_signal(fds, 0x100, &value, sizeof value);
    ob_io_fds_free(fds);
}

static void pipeline(void)
{
    static uint32_t values[READS];
    struct ob_request *requests[READS + 1];
    uint32_t value = 7;
    unsigned n = 0;

    ssize_t most = ob_client_transfer_size(c);
    if (!worked(most) || most < (ssize_t)sizeof value)
        return;
    if (!worked(ob_client_start_write(c, VFIO_PCI_BAR0_REGION_INDEX, 0x30, &value, sizeof value,
                                      &requests[n])))
        return;
    for (n = 1; n <= READS; n++)
        if (!worked(ob_client_start_read(c, VFIO_PCI_BAR0_REGION_INDEX, 0, &values[n - 1],
                                         sizeof values[0], &requests[n])))
            break;
    for (unsigned i = 0; i < n; i++) {
        ob_request_done(requests[i]);
        worked(ob_request_wait(requests[i]));
    }
}

/* ---- Interrupts ---------------------------------------------------------------------------- */

static void use_interrupts(void)
{
    int fds[2] = { eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC) };
    uint8_t on[2] = { 1, 0 };

    worked(
        ob_client_irq_eventfds(c, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 2, fds));
    worked(ob_client_irq_act(c, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 2, on));
    worked(ob_client_irq_eventfds(c, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 2,
                                  NULL));
    worked(ob_client_irq_act(c, VFIO_PCI_INTX_IRQ_INDEX, VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, NULL));
    worked(ob_client_irq_disable(c, VFIO_PCI_MSIX_IRQ_INDEX));
    close(fds[0]);
    close(fds[1]);
}

/* ---- Memory -------------------------------------------------------------------------------- */

#define SHARED 0x100000u
#define READ_ONLY 0x200000u
#define WRITE_ONLY 0x300000u
#define BRIEF 0x400000u
#define SHARED_SIZE (64u * PAGE)
#define FIRST_OF_MANY 0x800000u
#define MANY 32u

static uint8_t read_only[PAGE], write_only[PAGE], brief[PAGE];

static uint8_t many[MANY][PAGE];
static unsigned taken_back; /* of those */

static void map(uint64_t address, uint64_t size, void *memory, int fd, uint32_t flags)
{
    struct ob_request *request;

    if (!other)
        worked(ob_client_dma_map(c, address, size, memory, fd, 0, flags));
    else if (worked(ob_client_start_dma_map(c, address, size, memory, fd, 0, flags, &request)))
        worked(ob_request_wait(request));
}

static void unmap(uint64_t address, uint64_t size)
{
    struct ob_request *request;

    if (!other)
        worked(ob_client_dma_unmap(c, address, size));
    else if (worked(ob_client_start_dma_unmap(c, address, size, &request)))
        worked(ob_request_wait(request));
}

static uint8_t *map_memory(void)
{
    const uint32_t both = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
    int fd = memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 || ftruncate(fd, SHARED_SIZE) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) < 0)
        abort();
    uint8_t *shared = mmap(NULL, SHARED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        abort();
    memset(read_only, 0x5a, sizeof read_only);
    memset(brief, 0x5a, sizeof brief);
    map(SHARED, SHARED_SIZE, shared, fd, both);
    map(READ_ONLY, PAGE, read_only, -1, VFIO_DMA_MAP_FLAG_READ);
    map(WRITE_ONLY, PAGE, write_only, -1, VFIO_DMA_MAP_FLAG_WRITE);
    map(BRIEF, PAGE, brief, -1, both);
    close(fd);
    return shared;
}

static void unmap_brief(void)
{
    unmap(BRIEF, PAGE);
    memset(brief, 0x5a, sizeof brief); /* ours again */
}

/* What a guest with an IOMMU of its own makes of it: many come and go at once. */
static void map_many(void)
{
    struct ob_request *requests[2 * MANY];
    unsigned n = 0;

    for (unsigned i = 0; i < MANY; i++, n++)
        if (!worked(ob_client_start_dma_map(c, FIRST_OF_MANY + i * 2 * PAGE, PAGE, many[i], -1, 0,
                                            VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, &requests[n])))
            break;
    for (unsigned maps = n; taken_back < maps; taken_back++, n++)
        if (!worked(ob_client_start_dma_unmap(c, FIRST_OF_MANY + taken_back * 2 * PAGE, PAGE, &requests[n])))
            break;
    for (unsigned i = 0; i < n; i++)
        worked(ob_request_wait(requests[i]));
    memset(many, 0x5a, taken_back * sizeof many[0]);
}

static void check_memory(uint8_t *shared)
{
    for (unsigned i = 0; i < PAGE; i++)
        if (read_only[i] != 0x5a || brief[i] != 0x5a) {
            fprintf(stderr, "memory was written that is not the server's\n");
            abort();
        }
    for (unsigned i = 0; i < taken_back * PAGE; i++)
        if (many[i / PAGE][i % PAGE] != 0x5a) {
            fprintf(stderr, "memory was written that had been taken back\n");
            abort();
        }
    memset(shared, 1, SHARED_SIZE); /* it must still be there */
    munmap(shared, SHARED_SIZE);
}

/* ---- Migration ----------------------------------------------------------------------------- */

/* Which pages of its memory has the device written to? */
static void log_pages(void)
{
    struct vfio_device_feature_dma_logging_range all = { .iova = SHARED, .length = SHARED_SIZE };
    uint64_t page_size = PAGE;

    if (!worked(ob_client_dirty_start(c, &page_size, &all, 1)))
        return;
    /* A server may have larger pages than the whole range. */
    if (SHARED_SIZE % page_size == 0) {
        uint64_t *bitmap = calloc(ob_client_dirty_words(SHARED_SIZE, page_size), sizeof *bitmap);
        if (bitmap)
            worked(ob_client_dirty_report(c, SHARED, SHARED_SIZE, page_size, bitmap));
        free(bitmap);
    }
    worked(ob_client_dirty_stop(c));
}

static void migrate(void)
{
    uint8_t state[1000];
    struct vfio_device_feature_migration migration;
    uint64_t flags;
    uint32_t at;
    size_t n;

    worked(ob_client_migration(c, &flags));
    worked(ob_client_device_feature(c, VFIO_DEVICE_FEATURE_MIGRATION | VFIO_DEVICE_FEATURE_GET,
                                    &migration, 0, sizeof migration, &n));
    worked(ob_client_set_migration_state(c, VFIO_DEVICE_STATE_STOP_COPY));
    worked(ob_client_migration_state(c, &at));
    ssize_t got = ob_client_mig_data_read(c, state, sizeof state);
    if (worked(got) && got > 0)
        worked(ob_client_mig_data_write(c, state, (size_t)got));
    worked(ob_client_set_migration_state(c, VFIO_DEVICE_STATE_RUNNING));
}

/* Answers what comes on a twin socket. */
static void *serve_twin(void *unused)
{
    ob_client_serve(c);
    return unused;
}

static int connect_to(const char *path)
{
    struct sockaddr_un at = { .sun_family = AF_UNIX };

    if (!other)
        return ob_client_connect(c, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&at, sizeof at) < 0)
        abort();
    return ob_client_adopt(c, fd);
}

int main(int argc, char **argv)
{
    unsigned timeout = argc > 2 ? (unsigned)atoi(argv[2]) : 300;

    pthread_t server;
    bool twin = false;

    other = argc > 3;
    c = ob_client_new();
    if (argc < 2 || !c)
        return 2;
    worked(ob_client_set_timeout(c, timeout));
    worked(ob_client_set_spin(c, 10));
    worked(ob_client_set_limits(c, 8, 32768));
    worked(ob_client_set_twin(c, true));
    if (worked(connect_to(argv[1]))) {
        twin = ob_client_twin_fd(c) >= 0 && pthread_create(&server, NULL, serve_twin, NULL) == 0;
        look_at_device();
        uint8_t *shared = map_memory();
        use_interrupts();
        use_registers();
        use_io_fds();
        pipeline();
        answer_all();
        unmap_brief();
        read32(0);
        answer_all();
        log_pages();
        migrate();
        worked(ob_client_reset(c));
        map_many();
        worked(ob_client_dma_unmap_all(c));
        read32(0);
        answer_all();
        check_memory(shared);
    }
    ob_client_disconnect(c);
    if (twin)
        pthread_join(server, NULL);
    ob_client_free(c);
    return failed;
}

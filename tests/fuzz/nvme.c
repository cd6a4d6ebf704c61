/*
 * nvme.c - fuzz target: a hostile guest (and client) that drives the disk.
 *
 * An input is a list of acts of a driver: registers, commands of every opcode, PRP lists and SGLs that are
 * right or wrong in some field, doorbells in registers and in memory, queues in memory that is mapped or
 * reached by messages alone, resets, memory taken away, files that change their size. Memory also changes
 * under the device's feet: an act arms a change that happens just after the device has read something,
 * so that what is read twice is different the second time.
 *
 * The engine is the one with threads, of which none can be had: it does its work in the caller, so that
 * a run is the same each time. Files are memory files, made new after each input that changed them.
 *
 * Whatever the guest does, the controller can be reset, and then nothing of it is left; memory that was
 * given for reading alone never changes.
 */
#include "clock.h"
#include "descriptors.h"
#include "input.h"
#include "target.h"

#include "memory/mapping.h"
#include "nvme/nvme.h"
#undef SET /* the device's own, and the framework's */
#include "worker/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

extern const struct ob_plugin *const ob_plugin_nvme;

#define PAGE 4096u
#define DISK (128u << 10)
#define NAMES 3 /* namespaces of a device */

/* What the client maps. LOST is a file that an input may truncate. */
enum { RAM, RAM_2, READ_ONLY, REMOTE, LOST, PARTS };
static struct part {
    uint64_t address;
    uint32_t size;
    uint32_t flags;
    bool has_file;
    int fd;
    uint8_t *memory; /* the guest's own view */
    bool gone;       /* not mapped for the device now */
} parts[PARTS] = {
    [RAM] = { 0x100000, 32 * PAGE, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, true, -1, NULL, false },
    [RAM_2] = { 0x120000, 8 * PAGE, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, true, -1, NULL, false },
    [READ_ONLY] = { 0x200000, 4 * PAGE, VFIO_DMA_MAP_FLAG_READ, true, -1, NULL, false },
    [REMOTE] = { 0x300000, 8 * PAGE, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, false, -1, NULL, false },
    [LOST] = { 0x400000, 4 * PAGE, VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, true, -1, NULL, false },
};

static struct world {
    struct loop loop;
    struct served served;
    int file[NAMES];
    int sock; /* the client's end */
    bool connected;
    uint8_t in[2 * 65536]; /* received, not yet a message */
    size_t have;
} worlds[2], *w;

static struct input in;
static uint8_t out[65536 + 4096];
static size_t out_size;
static bool stopped; /* threads cannot be had */
static uint16_t cid;
static uint32_t sq_tail[QUEUES]; /* as the driver counts */
static uint16_t awaited;         /* number of the message whose reply is waited for, 0: it has come... */
static bool refused;             /* ...and was an error */

static struct {
    unsigned after; /* so many reads of the device, 0: never */
    uint8_t at, with;
} change;

/* ---- The guest's memory ----------------------------------------------------------------------------- */

static uint8_t *guest(uint64_t address, size_t n)
{
    for (int i = 0; i < PARTS; i++) {
        const struct part *p = &parts[i];
        if (i != LOST && address >= p->address && address - p->address < p->size &&
            n <= p->size - (address - p->address))
            return p->memory + (address - p->address);
    }
    return NULL;
}

static void store(uint64_t address, const void *bytes, size_t n)
{
    uint8_t *p = guest(address, n);
    if (p && (p < parts[READ_ONLY].memory || p >= parts[READ_ONLY].memory + parts[READ_ONLY].size))
        memcpy(p, bytes, n);
}

/* A page of one of the parts; now and then none, or an address in the middle of one. */
static uint64_t page_address(void)
{
    uint8_t what = take8(&in);

    if (what < 0xa0)
        return parts[RAM].address + what % 40 * PAGE; /* RAM and RAM_2 */
    if (what < 0xc8)
        return parts[REMOTE].address + what % 8 * PAGE;
    if (what < 0xd8)
        return parts[READ_ONLY].address + what % 4 * PAGE;
    if (what < 0xe8)
        return parts[LOST].address + what % 4 * PAGE;
    if (what < 0xf8)
        return parts[RAM].address + what % 8 * PAGE + take(&in, 2) % 0x2000;
    return take_number(&in);
}

/* After a read of the device, the guest may store something there. */
int __real_memory_read(struct memory *m, uint64_t address, void *buf, size_t n);
int __wrap_memory_read(struct memory *m, uint64_t address, void *buf, size_t n);
int __wrap_memory_read(struct memory *m, uint64_t address, void *buf, size_t n)
{
    int ret = __real_memory_read(m, address, buf, n);

    if (ret == 0 && n && change.after && --change.after == 0)
        store(address + change.at % n, &change.with, 1);
    return ret;
}

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    return stopped ? EAGAIN : __real_pthread_create(thread, attr, run, arg);
}

/* ---- The client ------------------------------------------------------------------------------------- */

static void send_all(void)
{
    struct iovec iov = { out, out_size };

    if (out_size && w->connected && wire_send(w->sock, &iov, 1, NULL, 0) != (ssize_t)out_size)
        w->connected = false;
    out_size = 0;
}

static void say(uint16_t command, const void *fixed, size_t fixed_size, const void *data, size_t size,
                uint32_t flags)
{
    struct vfio_user_header h = { .id = awaited, .command = command, .flags = flags,
                                  .size = (uint32_t)(sizeof h + fixed_size + size) };

    if (h.size > sizeof out - out_size)
        send_all();
    memcpy(out + out_size, &h, sizeof h);
    if (fixed_size)
        memcpy(out + out_size + sizeof h, fixed, fixed_size);
    if (size)
        memcpy(out + out_size + sizeof h + fixed_size, data, size);
    out_size += h.size;
}

static void answer(const struct vfio_user_header *h, const uint8_t *body)
{
    struct vfio_user_dma_access a;
    struct vfio_user_header r = *h;

    memcpy(&a, body, sizeof a);
    REQUIRE(a.count && a.count <= WIRE_MAX_DATA);
    r.flags = VFIO_USER_FLAG_TYPE_REPLY;
    uint8_t *memory = parts[REMOTE].gone ? NULL : guest(a.address, a.count);
    if (!memory) {
        r.flags |= VFIO_USER_FLAG_ERROR;
        r.error = EFAULT;
        r.size = sizeof r;
        struct iovec iov = { &r, sizeof r };
        wire_send(w->sock, &iov, 1, NULL, 0);
        return;
    }
    bool is_write = h->command == VFIO_USER_DMA_WRITE;
    if (is_write)
        memcpy(memory, body + sizeof a, a.count);
    struct iovec iov[] = { { &r, sizeof r }, { &a, sizeof a }, { memory, is_write ? 0 : a.count } };
    r.size = (uint32_t)(sizeof r + sizeof a + iov[2].iov_len);
    wire_send(w->sock, iov, 3, NULL, 0);
    if (!is_write && change.after && --change.after == 0)
        store(a.address + change.at % a.count, &change.with, 1);
}

/* Takes what has come, and answers. The device never closes the connection: nothing here breaks the
 * framing. */
static bool hear(void)
{
    uint8_t *bytes = w->in;
    size_t have = w->have;
    struct vfio_user_header h;
    struct wire_fds fds;
    size_t at = 0;

    ssize_t n = wire_receive(w->sock, bytes + have, sizeof w->in - have, &fds);
    wire_fds_close(&fds);
    if (n <= 0) {
        REQUIRE(n == -EAGAIN);
        return false;
    }
    have += (size_t)n;
    for (int size; (size = wire_header(bytes + at, have - at, WIRE_MAX_MESSAGE, &h)) != 0; at += h.size) {
        REQUIRE(size > 0);
        if ((size_t)size > have - at)
            break;
        if (wire_is_reply(&h) && h.id == awaited) {
            awaited = 0;
            refused = h.flags & VFIO_USER_FLAG_ERROR;
        }
        if (!wire_is_reply(&h))
            answer(&h, bytes + at + sizeof h);
    }
    memmove(bytes, bytes + at, have - at);
    w->have = have - at;
    return true;
}

static void turns(unsigned n)
{
    send_all();
    while (n--) {
        loop_turn(&w->loop, 0);
        hear();
    }
}

/* The next message has a number of its own; all others have 0. */
static void await(void)
{
    static uint16_t number;
    awaited = ++number ? number : ++number;
}

/* A message whose reply may have to wait until I/O has ended: it does end. */
static void say_and_wait(uint16_t command, const void *fixed, size_t n)
{
    await();
    say(command, fixed, n, NULL, 0, 0);
    send_all();
    for (unsigned i = 0; awaited; i++) {
        REQUIRE(i < 3000);
        turns(1);
        if (i > 100)
            clock_advance(1000000);
    }
}

static void map(struct part *p)
{
    struct vfio_user_dma_map m = { .argsz = sizeof m, .flags = p->flags, .address = p->address,
                                   .size = p->size };
    send_all();
    await();
    struct vfio_user_header h = { .id = awaited, .command = VFIO_USER_DMA_MAP, .size = sizeof h + sizeof m };
    struct iovec iov[] = { { &h, sizeof h }, { &m, sizeof m } };
    REQUIRE(wire_send(w->sock, iov, 2, &p->fd, p->has_file) == (ssize_t)h.size);
    for (unsigned i = 0; awaited; i++) {
        REQUIRE(i < 1000);
        turns(1);
    }
    p->gone = refused; /* its file may be too short by now */
}

static void unmap(struct part *p)
{
    struct vfio_user_dma_unmap m = { .argsz = sizeof m, .address = p->address, .size = p->size };
    say_and_wait(VFIO_USER_DMA_UNMAP, &m, sizeof m);
    p->gone = true;
}

static void post(uint32_t region, uint64_t at, const void *v, uint32_t n)
{
    struct vfio_user_region_access a = { .offset = at, .region = region, .count = n };
    say(VFIO_USER_REGION_WRITE, &a, sizeof a, v, n, VFIO_USER_FLAG_NO_REPLY);
}

static void write32(uint32_t at, uint32_t v)
{
    post(0, at, &v, sizeof v);
}

static void write_address(uint32_t at, uint64_t v)
{
    post(0, at, &v, sizeof v);
}

static void command_register(uint16_t v)
{
    post(7, 4, &v, sizeof v);
}

static const struct nvme *controller(void)
{
    return w->served.dev->state;
}

/* ---- The driver ------------------------------------------------------------------------------------- */

/* Where queue q has its place: in mapped memory, or in that of messages. */
static uint64_t sq_place(uint32_t q, bool remote)
{
    return remote ? parts[REMOTE].address + q % 4 * 2 * PAGE : parts[RAM].address + q % 4 * 2 * PAGE;
}

static void bring_up(uint8_t how)
{
    bool remote = how & 1;
    uint32_t entries = how & 2 ? 4 : 32;

    write32(REG_CC, 0);
    turns(2);
    write32(REG_AQA, (entries - 1) << 16 | (entries - 1));
    write_address(REG_ASQ, sq_place(0, remote));
    write_address(REG_ACQ, sq_place(0, remote) + PAGE);
    write32(REG_CC, CC_EN | 6u << 16 | 4u << 20);
    memset(sq_tail, 0, sizeof sq_tail);
}

static void ring(uint32_t q, uint32_t tail)
{
    const struct nvme *s = controller();

    if (s->shadow && q)
        store(s->shadow_doorbells + q * 8, &tail, 4);
    if (!s->shadow || !q || (tail & 3) == 0)
        write32(REG_DOORBELLS + q * 8, tail);
}

static void submit(uint32_t q, struct nvme_command *c, bool now)
{
    const struct nvme_sq *sq = &controller()->sq[q];
    uint32_t entries = sq->entries ? sq->entries : 32;

    c->cid = cid++ % 64;
    store(sq->entries ? sq->address + sq_tail[q] % entries * 64ull : sq_place(q, false), c, sizeof *c);
    sq_tail[q] = (sq_tail[q] + 1) % entries;
    if (now)
        ring(q, sq_tail[q]);
}

/* Says where the data is: pages, a list, an SGL. */
static void point(struct nvme_command *c)
{
    uint8_t how = take8(&in);
    struct nvme_sgl sgl = { 0 };

    if (how < 0xa0) {
        c->prp1 = page_address() + (how & 1 ? take8(&in) * 4u : 0);
        c->prp2 = how & 2 ? page_address() + (how & 4 ? take8(&in) * 8u : 0) : 0;
        return;
    }
    c->flags |= (uint8_t)(how >= 0xf8 ? 0xc0 : 0x40);
    sgl.address = page_address();
    sgl.length = how & 1 ? take8(&in) * 16u : (uint32_t)take_number(&in);
    sgl.type = how & 2 ? SGL_SEGMENT : how & 4 ? SGL_LAST_SEGMENT : how & 8 ? take8(&in) : SGL_DATA;
    memcpy(&c->prp1, &sgl, sizeof sgl);
}

static void write_prp_list(void)
{
    uint64_t at = page_address(), entry[64];
    uint8_t n = take8(&in) % 64, how = take8(&in);
    uint64_t first = page_address();

    for (unsigned i = 0; i < n; i++)
        entry[i] = first + i % 24 * PAGE;
    if (n && how & 1)
        entry[n - 1] = page_address(); /* a chain, or a loop */
    if (how & 2)
        at = (at & ~0xfffull) + PAGE - n * 8u;
    store(at, entry, n * 8u);
}

static void write_sgl(void)
{
    uint64_t at = page_address();
    struct nvme_sgl sgl[16] = { 0 };
    uint8_t n = take8(&in) % 16;
    static const uint8_t types[] = { SGL_DATA, SGL_DATA, SGL_DATA, SGL_DATA, SGL_SEGMENT, SGL_LAST_SEGMENT };

    for (unsigned i = 0; i < n; i++) {
        uint8_t how = take8(&in);
        sgl[i].address = page_address();
        sgl[i].length = how & 0x80 ? (uint32_t)take_number(&in) : 512;
        sgl[i].type = i + 1 < n ? SGL_DATA : types[how % 6];
        if ((how & 0x70) == 0x70)
            sgl[i].type = take8(&in);
    }
    store(at, sgl, n * sizeof *sgl);
}

static void admin_command(void)
{
    static const uint8_t opcodes[] = { ADMIN_DELETE_SQ, ADMIN_CREATE_SQ, ADMIN_GET_LOG, ADMIN_DELETE_CQ,
                                       ADMIN_CREATE_CQ, ADMIN_IDENTIFY, ADMIN_ABORT, ADMIN_SET_FEATURES,
                                       ADMIN_GET_FEATURES, ADMIN_AER, ADMIN_DOORBELL_BUFFER };
    uint8_t what = take8(&in), how = take8(&in);
    struct nvme_command c = { .opcode = what % 16 < 11 ? opcodes[what % 16] : take8(&in) };

    c.nsid = how & 1 ? 1u + how % 3 : how & 2 ? NSID_ALL : 0;
    switch (c.opcode) {
    case ADMIN_IDENTIFY: c.cdw10 = take8(&in) % 0x20; break;
    case ADMIN_GET_LOG: c.cdw10 = take8(&in) % 8u | (uint32_t)take(&in, 2) << 16; break;
    case ADMIN_SET_FEATURES:
    case ADMIN_GET_FEATURES: c.cdw10 = take8(&in) % 0x14; break;
    case ADMIN_AER: break;
    default: c.cdw10 = how & 4 ? (uint32_t)take_number(&in) : take8(&in) % 5; break;
    }
    if (how & 8)
        c.cdw11 = (uint32_t)take_number(&in);
    if (how & 16) {
        c.cdw12 = (uint32_t)take_number(&in);
        c.cdw13 = (uint32_t)take_number(&in);
    }
    if (how & 32)
        c.flags = take8(&in);
    point(&c);
    submit(0, &c, !(how & 64));
}

static void create_queue(void)
{
    uint8_t how = take8(&in);
    uint32_t q = 1 + how % 3, size = how & 8 ? 3 : how & 16 ? (uint32_t)take_number(&in) & 0xffff : 31;
    bool remote = how & 0x80;
    struct nvme_command c = { .opcode = ADMIN_CREATE_CQ, .prp1 = sq_place(q, remote) + PAGE,
                              .cdw10 = size << 16 | q, .cdw11 = (how & 4 ? 3 : 1) | q << 16 };

    submit(0, &c, false);
    c = (struct nvme_command){ .opcode = ADMIN_CREATE_SQ, .prp1 = sq_place(q, remote),
                               .cdw10 = size << 16 | q, .cdw11 = q << 16 | 1 };
    submit(0, &c, true);
    sq_tail[q] = 0;
    turns(3);
}

static void delete_queue(void)
{
    uint8_t how = take8(&in);
    struct nvme_command c = { .opcode = how & 0x80 ? ADMIN_DELETE_CQ : ADMIN_DELETE_SQ, .cdw10 = 1 + how % 3 };
    submit(0, &c, true);
}

static void doorbell_buffer(void)
{
    uint64_t at = page_address();
    struct nvme_command c = { .opcode = ADMIN_DOORBELL_BUFFER, .prp1 = at, .prp2 = at + PAGE };
    submit(0, &c, true);
    turns(3);
}

static void io_command(void)
{
    static const uint8_t opcodes[] = { NVM_READ, NVM_WRITE, NVM_READ, NVM_WRITE, NVM_FLUSH, NVM_COMPARE,
                                       NVM_WRITE_ZEROES, NVM_DSM, NVM_VERIFY, NVM_COPY };
    uint8_t what = take8(&in), how = take8(&in);
    struct nvme_command c = { .opcode = what % 16 < 10 ? opcodes[what % 16] : take8(&in) };

    c.nsid = how % 8 < 6 ? 1u + how % 3 : how % 8 == 6 ? NSID_ALL : (uint32_t)take_number(&in);
    c.cdw10 = how & 8 ? (uint32_t)take_number(&in) : take8(&in);
    c.cdw12 = how & 16 ? (uint32_t)take_number(&in) : take8(&in) % 16;
    if (how & 32)
        c.cdw12 |= RW_FUA;
    if (c.opcode == NVM_WRITE_ZEROES && how & 64)
        c.cdw12 |= RW_DEAC;
    if (c.opcode == NVM_DSM || c.opcode == NVM_COPY) {
        c.cdw11 = c.opcode == NVM_DSM ? DSM_DEALLOCATE : 0;
        c.cdw10 = c.opcode == NVM_DSM ? take8(&in) : c.cdw10;
    }
    if (how & 128)
        c.cdw11 |= (uint32_t)take_number(&in);
    point(&c);
    submit(1 + (what >> 4) % 3, &c, !(what & 0x80));
}

/* Ranges of Dataset Management or Copy. */
static void write_ranges(void)
{
    uint64_t at = page_address();
    uint8_t how = take8(&in), n = 1 + how % 8;

    for (unsigned i = 0; i < n; i++) {
        struct nvme_dsm_range dsm = { .blocks = (uint32_t)take_number(&in), .lba = take8(&in) };
        struct nvme_copy_range copy = { .lba = take8(&in), .blocks = (uint16_t)take8(&in) };
        if (how & 0x80)
            dsm.lba = copy.lba = take_number(&in);
        if (how & 0x40)
            store(at + i * sizeof dsm, &dsm, sizeof dsm);
        else
            store(at + i * sizeof copy, &copy, sizeof copy);
    }
}

static void any_register(void)
{
    static const uint16_t known[] = { REG_CC, REG_CSTS, REG_NSSR, REG_AQA, REG_ASQ, REG_ACQ, REG_INTMS,
                                      REG_INTMC, REG_CAP, REG_DOORBELLS, 0x2000, 0x200c };
    static const uint32_t values[] = { 0, CC_EN, NSSR_RESET, 0x460001, 0x464001, 0x468001, CSTS_NSSRO };
    uint8_t how = take8(&in), what = take8(&in);
    uint32_t at = how % 16 < 12 ? known[how % 16] : REG_DOORBELLS + take8(&in) * 4u;
    uint64_t v = what % 8 < 7 ? values[what % 8] : take_number(&in);

    if (how & 0x10)
        at += take8(&in);
    if (how & 0x20)
        v = take_number(&in);
    post(0, at, &v, how & 0x40 ? 8 : how & 0x80 ? 1u << (what >> 6) : 4);
    if (what & 0x20) {
        struct vfio_user_region_access a = { .offset = at, .region = 0, .count = 4 };
        say(VFIO_USER_REGION_READ, &a, sizeof a, NULL, 0, 0);
    }
}

/* Completion queues: the driver has seen all, or says nonsense. */
static void take_completions(void)
{
    uint8_t how = take8(&in);
    uint32_t q = how % 4;
    uint32_t head = how & 0x80 ? (uint32_t)take_number(&in) : controller()->cq[q].tail;

    if (controller()->shadow && q)
        store(controller()->shadow_doorbells + q * 8 + 4, &head, 4);
    else
        write32(REG_DOORBELLS + q * 8 + 4, head);
}

/* ---- What the client and the host do to it ---------------------------------------------------------- */

static void change_file(uint8_t how)
{
    int fd = w->file[how % NAMES];
    struct private *p = w->served.dev->private;

    p->written = true; /* and is made new in the end */
    if (ftruncate(fd, (off_t)(how >> 4) * (DISK / 8)) < 0)
        abort();
    clock_advance(UINT64_C(2000000000));
}

static void client_acts(void)
{
    uint8_t how = take8(&in);
    struct part *p = &parts[(how >> 3 & 7) % PARTS];

    switch (how % 8) {
    case 0:
    case 1:
        send_all();
        if (p->gone)
            map(p);
        else
            unmap(p);
        break;
    case 2: command_register(how >> 3 & 7); break;
    case 3: descriptor_truncate((how >> 3) * PAGE % MEMORY_BYTES); break;
    case 4: say_and_wait(VFIO_USER_DEVICE_RESET, NULL, 0); break;
    case 5: { /* function level reset, D3 and back */
        uint32_t v = how & 0x80 ? 0x8000 : how >> 3;
        post(7, how & 0x80 ? 0x48u + (how >> 1 & 0x3c) : 0x44, &v, 2);
        break;
    }
    case 6: {
        struct vfio_irq_set set = { .argsz = sizeof set, .index = how & 8 ? 2 : 0, .count = 1,
            .flags = VFIO_IRQ_SET_DATA_NONE | (how & 16 ? VFIO_IRQ_SET_ACTION_MASK : VFIO_IRQ_SET_ACTION_UNMASK) };
        say(VFIO_USER_DEVICE_SET_IRQS, &set, sizeof set, NULL, 0, VFIO_USER_FLAG_NO_REPLY);
        break;
    }
    case 7: change_file(how >> 1); break;
    }
}

static void act(void)
{
    uint8_t what = take8(&in);
    size_t got;

    switch (what % 24) {
    case 0: bring_up(what / 24); break;
    case 1: any_register(); break;
    case 2: case 3: admin_command(); break;
    case 4: create_queue(); break;
    case 5: delete_queue(); break;
    case 6: doorbell_buffer(); break;
    case 7: case 8: case 9: case 10: io_command(); break;
    case 11: write_prp_list(); break;
    case 12: write_sgl(); break;
    case 13: write_ranges(); break;
    case 14: {
        uint64_t at = page_address();
        const uint8_t *p = take_bytes(&in, take8(&in) % 64, &got);
        store(at, p, got);
        break;
    }
    case 15: take_completions(); break;
    case 16:
        change.after = 1 + what / 24;
        change.at = take8(&in);
        change.with = take8(&in);
        break;
    case 17: clock_advance(take8(&in) * UINT64_C(10000)); break;
    case 18: clock_advance(take8(&in) * UINT64_C(10000000)); break;
    case 19: client_acts(); break;
    default: turns(1 + what / 24); break;
    }
}

/* ---- One input -------------------------------------------------------------------------------------- */

static int memory_file(uint32_t size, uint8_t **p)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, size) < 0)
        abort();
    if (p && (*p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) == MAP_FAILED)
        abort();
    return fd;
}

static void make_world(struct world *x, const char *lba, const char *readonly)
{
    static char path[2][NAMES][32];
    static struct option_value options[2][NAMES + 3];
    struct option_value *o = options[x - worlds];

    for (int i = 0; i < NAMES; i++) {
        x->file[i] = memory_file(DISK, NULL);
        snprintf(path[x - worlds][i], sizeof path[0][0], "/proc/self/fd/%d", x->file[i]);
        o[i] = (struct option_value){ "file", path[x - worlds][i] };
    }
    o[NAMES] = (struct option_value){ "lba", lba };
    o[NAMES + 1] = (struct option_value){ "readonly", readonly };
    o[NAMES + 2] = (struct option_value){ "engine", "threads" };
    REQUIRE(loop_open(&x->loop) == 0);
    x->served.dev = server_device_new(ob_plugin_nvme, "nvme", o, NAMES + 3, x->loop.epoll, NULL, -1, NULL);
    REQUIRE(x->served.dev && lobby_open(&x->served.lobby, x->served.dev, -1) == 0);
    x->loop.first = &x->served;
}

static void connect_client(void)
{
    struct vfio_user_version v = { VFIO_USER_MAJOR, VFIO_USER_MINOR };
    int pair[2];

    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    w->sock = pair[0];
    w->connected = true;
    lobby_welcome(&w->served.lobby, pair[1]);
    say_and_wait(VFIO_USER_VERSION, &v, sizeof v);
    for (int i = 0; i < PARTS; i++)
        map(&parts[i]);
    struct vfio_irq_set set = { .argsz = sizeof set, .index = 2, .count = 2,
        .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER };
    struct vfio_user_header h = { .command = VFIO_USER_DEVICE_SET_IRQS, .size = sizeof h + sizeof set };
    struct iovec iov[] = { { &h, sizeof h }, { &set, sizeof set } };
    const int fds[] = { descriptor[FD_EVENT], descriptor[FD_EVENT_2] };
    REQUIRE(wire_send(w->sock, iov, 2, fds, 2) == (ssize_t)h.size);
    turns(3);
}

/* What a file can do is found out as it is used; begin with all of it, or with less. */
static void make_files_new(uint8_t how)
{
    struct private *p = w->served.dev->private;

    for (int i = 0; i < NAMES; i++) {
        struct nvme_namespace *ns = &p->ns[i];
        if (p->written && (ftruncate(w->file[i], 0) < 0 || ftruncate(w->file[i], DISK) < 0))
            abort();
        ns->bytes = DISK;
        ns->blocks = DISK >> p->lba_shift;
        ns->at_once = i == 0 ? AT_ONCE_READ | AT_ONCE_WRITE | AT_ONCE_MEMORY
                      : i == 1 ? (how & 1 ? AT_ONCE_READ | AT_ONCE_WRITE : 0) : 0;
        ns->align = i == 2 ? 512 : 1;
        ns->no_zero_range = how & 2;
        ns->no_punch = how & 4;
    }
    p->written = false;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    signal(SIGPIPE, SIG_IGN);
    descriptors_open();
    for (int i = 0; i < PARTS; i++)
        parts[i].fd = i == LOST ? descriptor[FD_MEMORY] : memory_file(parts[i].size, &parts[i].memory);
    memset(parts[READ_ONLY].memory, 0xee, parts[READ_ONLY].size);
    stopped = true;
    for (int i = 0; i < 2; i++) {
        make_world(&worlds[i], i ? "4096" : "512", "off");
        w = &worlds[i];
        connect_client();
    }
    stopped = false;
    return 0;
}

static bool read_only_is_untouched(void)
{
    const uint64_t *words = (const uint64_t *)(const void *)parts[READ_ONLY].memory;
    uint64_t differs = 0;

    for (size_t i = 0; i < parts[READ_ONLY].size / sizeof *words; i++)
        differs |= words[i] ^ UINT64_C(0xeeeeeeeeeeeeeeee);
    return differs == 0;
}

/* Everything as it was. */
static void end(void)
{
    struct ob_device *dev = w->served.dev;
    struct private *p = dev->private;
    struct nvme *s = dev->state;

    change.after = 0;
    turns(2);
    say_and_wait(VFIO_USER_DEVICE_RESET, NULL, 0);
    descriptors_restore();
    /* A file that was cut off stays lost until it is mapped anew. */
    if (atomic_load(&memory_mappings_broken) && !parts[LOST].gone)
        unmap(&parts[LOST]);
    for (int i = 0; i < PARTS; i++)
        if (parts[i].gone)
            map(&parts[i]);
    command_register(6);
    turns(2);
    REQUIRE(dev->pin_count == 0 && !dev->quiesce && p->outstanding == 0);
    REQUIRE(s->live == 0 && !s->shadow && p->start.count == 0 && p->go_on.count == 0 && p->post.count == 0);
    for (unsigned i = 0; i < SLOTS / 64; i++)
        REQUIRE(s->slot_map[i] == 0);
    REQUIRE(read_only_is_untouched());
    memset(&s->counters, 0, sizeof s->counters);
    memset(s->error, 0, sizeof s->error);
    for (int i = 0; i < PARTS; i++)
        if (i != READ_ONLY && i != LOST)
            memset(parts[i].memory, 0, parts[i].size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int lowest = descriptor_lowest();

    in = (struct input){ data, size };
    uint8_t how = take8(&in);
    clock_stop();
    stopped = true;
    w = &worlds[how & 1];
    w->served.dev->log_lines = 8;
    make_files_new(how >> 1);
    if (!(how & 0x80))
        bring_up(how >> 4 & 3);
    turns(2);
    for (unsigned i = 0; in.left && i < 128; i++)
        act();
    end();
    stopped = false;
    clock_go_on();
    REQUIRE(descriptor_lowest() == lowest);
    return 0;
}

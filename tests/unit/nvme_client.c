/*
 * nvme_client.c - see nvme_client.h.
 */
#include "nvme_client.h"
#include "say.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Guest memory: a page or two for each queue, the doorbells, lists, then buffers. */
#define SQ_AT(q) (0x4000u * (q))
#define CQ_AT(q) (0x4000u * (q) + 0x3000u)
#define SHADOW_AT 0x10000u
#define EVENTS_AT 0x11000u
#define LIST_AT 0x12000u
#define SMALL_AT 0x20000u
#define SMALLS 224u
#define BIG_AT 0x100000u
#define BIGS 4u

#define require(c, what, ...)                                                                   \
    do {                                                                                        \
        if (!(what))                                                                            \
            fail_msg("%s, death at point %ld: " __VA_ARGS__, (c)->where, (c)->point);           \
    } while (0)
#define wrong(c, format, ...) \
    fail_msg("%s, death at point %ld: " format, (c)->where, (c)->point, __VA_ARGS__)

/* ---- The disk --------------------------------------------------------------------------------------- */

int disk_fd;
uint8_t disk_model[DISK_SIZE];

static void fill(void *p, size_t n, uint32_t seed)
{
    uint32_t *words = p;
    for (size_t i = 0; i < n / 4; i++)
        words[i] = (uint32_t)i * 2654435761u ^ seed * 40503u;
}

void disk_new(void)
{
    fill(disk_model, DISK_SIZE, 1);
    assert_int_equal(pwrite(disk_fd, disk_model, DISK_SIZE, 0), DISK_SIZE);
}

/* The host changes blocks whose command is over: nobody may touch them any more. */
static void change_disk(uint32_t at, uint32_t n, uint32_t seed)
{
    fill(disk_model + at, n, seed);
    assert_int_equal(pwrite(disk_fd, disk_model + at, n, at), n);
}

static bool disk_is(uint32_t at, uint32_t n)
{
    static uint8_t bytes[DISK_SIZE];
    assert_int_equal(pread(disk_fd, bytes, n, at), n);
    return memcmp(bytes, disk_model + at, n) == 0;
}

/* ---- Doing ------------------------------------------------------------------------------------------ */

uint64_t client_address(const struct client *c, const void *p)
{
    return GUEST + (uint64_t)((const uint8_t *)p - c->mem);
}

void *client_buffer(struct client *c, uint32_t bytes)
{
    uint32_t *n = bytes <= 4096 ? &c->smalls : &c->bigs;
    require(c, *n < (bytes <= 4096 ? SMALLS : BIGS), "no buffer is left");
    return c->mem + (bytes <= 4096 ? SMALL_AT + (*n)++ * 4096 : BIG_AT + (*n)++ * BIG);
}

void client_write32(struct client *c, uint32_t reg, uint32_t value)
{
    say_write(c->s.client, 0, reg, value, 4, false);
    c->asked++;
}

void client_negotiate(struct client *c)
{
    int fds[CLIENT_QUEUES], memory = memfd_create("guest", MFD_CLOEXEC);

    assert_int_equal(ftruncate(memory, GUEST_SIZE), 0);
    c->mem = mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    assert_ptr_not_equal(c->mem, MAP_FAILED);
    for (unsigned i = 0; i < CLIENT_QUEUES; i++)
        fds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    say_version(c->s.client);
    say_map(c->s.client, GUEST, GUEST_SIZE, c->far ? -1 : memory);
    say_irqs(c->s.client, TRIGGER, 2, 0, CLIENT_QUEUES, NULL, 0, fds, CLIENT_QUEUES);
    say_write(c->s.client, 7, PCI_COMMAND, PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY, 2, false);
    c->asked += 4;
    for (unsigned i = 0; i < CLIENT_QUEUES; i++)
        close(fds[i]);
    close(memory);
}

void client_map(struct client *c)
{
    const uint8_t *from = c->mem;

    if (c->far) {
        c->mem = mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_ptr_not_equal(c->mem, MAP_FAILED);
        memcpy(c->mem, from, GUEST_SIZE);
        return;
    }
    c->mem = mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                  stand_in_fd(&c->s, KEEP_FILE | 0), 0);
    assert_ptr_not_equal(c->mem, MAP_FAILED);
}

static void new_queue(struct client *c, unsigned q, uint32_t entries)
{
    c->q[q] = (struct client_queue){ .entries = entries, .phase = 1 };
    memset(c->mem + CQ_AT(q), 0, 4096);
}

void client_enable(struct client *c)
{
    new_queue(c, 0, 32);
    client_write32(c, REG_AQA, 31 << 16 | 31);
    client_write32(c, REG_ASQ, GUEST + SQ_AT(0));
    client_write32(c, REG_ACQ, GUEST + CQ_AT(0));
    client_write32(c, REG_CC, CC_EN | 6 << 16 | 4 << 20);
    client_wait_csts(c, CSTS_RDY | CSTS_CFS, CSTS_RDY);
}

static void ask_csts(struct client *c)
{
    say_read(c->s.client, 0, REG_CSTS, 4);
    c->asked++;
}

void client_chat(struct client *c)
{
    for (unsigned i = 0; i < 6; i++)
        ask_csts(c);
}

void client_wait_csts(struct client *c, uint32_t mask, uint32_t value)
{
    c->wait_mask = mask;
    c->wait_value = value;
    c->waiting = true;
    ask_csts(c);
}

void client_reset_message(struct client *c)
{
    say(c->s.client, say_header(VFIO_USER_DEVICE_RESET, 0), NULL, 0, NULL, 0, NULL, 0);
    c->asked++;
}

/* What a command did that never ended nobody knows; from now on it does no more. */
static void forget_command(struct command *k, uint8_t byte)
{
    if (!k->done && k->c.opcode == NVM_WRITE && k->q)
        change_disk(k->c.cdw10 * 512, k->bytes, 7);
    k->done = true;
    k->rest = byte;
    if (k->data)
        memset(k->data, byte, k->bytes);
}

void client_forget(struct client *c)
{
    memset(c->q, 0, sizeof c->q);
    memset(c->mem, 0x5a, GUEST_SIZE);
    for (unsigned i = 0; i < c->commands; i++)
        forget_command(&c->command[i], 0x5a);
    c->shadow = false;
}

void client_forget_queue(struct client *c, unsigned q)
{
    c->q[q] = (struct client_queue){ 0 };
    for (unsigned i = 0; i < c->commands; i++)
        if (c->command[i].q == q)
            forget_command(&c->command[i], 0x5a);
}

static uint16_t free_cid(const struct client *c, unsigned q)
{
    for (uint16_t cid = 0;; cid++) {
        bool used = false;
        for (unsigned i = 0; i < c->commands; i++)
            used |= c->command[i].q == q && !c->command[i].done && c->command[i].c.cid == cid;
        if (!used)
            return cid;
    }
}

struct command *client_put(struct client *c, unsigned q, struct nvme_command n, uint16_t status)
{
    struct client_queue *dq = &c->q[q];
    struct command *k = &c->command[c->commands];

    require(c, c->commands < COMMANDS, "more commands than there is room for");
    n.cid = free_cid(c, q);
    *k = (struct command){ .c = n, .q = (uint8_t)q, .status = status };
    c->commands++;
    memcpy(c->mem + SQ_AT(q) + dq->tail * sizeof n, &n, sizeof n);
    dq->tail = (dq->tail + 1) % dq->entries;
    require(c, dq->tail != dq->freed, "a submission queue is too short");
    return k;
}

void client_rewrite(struct client *c, unsigned q, uint32_t back, const struct nvme_command *n)
{
    const struct client_queue *dq = &c->q[q];
    memcpy(c->mem + SQ_AT(q) + (dq->tail + dq->entries - back) % dq->entries * sizeof *n, n, sizeof *n);
}

void client_ring(struct client *c, unsigned q)
{
    uint32_t *values = (uint32_t *)(void *)(c->mem + SHADOW_AT);
    uint32_t *events = (uint32_t *)(void *)(c->mem + EVENTS_AT);

    if (c->shadow && q) {
        uint16_t old = (uint16_t)values[2 * q], new = (uint16_t)c->q[q].tail;
        __atomic_store_n(&values[2 * q], new, __ATOMIC_SEQ_CST);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        uint16_t event = (uint16_t)__atomic_load_n(&events[2 * q], __ATOMIC_SEQ_CST);
        if ((uint16_t)(new - event - 1) >= (uint16_t)(new - old))
            return;
    }
    say_write(c->s.client, 0, REG_DOORBELLS + 8 * q, c->q[q].tail, 4, true);
}

static void ring_head(struct client *c, unsigned q)
{
    uint32_t *values = (uint32_t *)(void *)(c->mem + SHADOW_AT);

    if (c->shadow && q)
        __atomic_store_n(&values[2 * q + 1], c->q[q].head, __ATOMIC_SEQ_CST);
    else
        say_write(c->s.client, 0, REG_DOORBELLS + 8 * q + 4, c->q[q].head, 4, true);
}

struct command *client_rw(struct client *c, unsigned q, uint8_t opcode, uint32_t lba, uint32_t blocks,
                          uint32_t flags, uint16_t status)
{
    struct nvme_command n = { .opcode = opcode, .nsid = 1, .cdw10 = lba, .cdw12 = (blocks - 1) | flags };
    uint32_t bytes = blocks * 512;
    uint8_t *data = client_buffer(c, bytes);

    n.prp1 = client_address(c, data);
    if (bytes > 4096) {
        uint64_t *list = (uint64_t *)(void *)(c->mem + LIST_AT + (data - c->mem - BIG_AT) / BIG * 4096);
        n.prp2 = client_address(c, list);
        for (uint32_t i = 1; i < bytes / 4096; i++)
            list[i - 1] = n.prp1 + i * 4096;
    }
    if (opcode == NVM_WRITE)
        fill(data, bytes, c->commands + 100);
    else if (opcode == NVM_COMPARE)
        memcpy(data, disk_model + lba * 512, bytes);
    struct command *k = client_put(c, q, n, status);
    k->data = data;
    k->bytes = bytes;
    return k;
}

void client_copy(struct client *c, unsigned q, uint32_t to, uint32_t from, uint32_t blocks)
{
    struct nvme_copy_range range = { .lba = from, .blocks = (uint16_t)(blocks - 1) };
    struct nvme_command n = { .opcode = NVM_COPY, .nsid = 1, .cdw10 = to };
    uint8_t *data = client_buffer(c, 4096);

    memcpy(data, &range, sizeof range);
    n.prp1 = client_address(c, data);
    struct command *k = client_put(c, q, n, 0);
    k->data = data;
    k->bytes = sizeof range;
    k->source = from * 512;
    k->copied = blocks * 512;
}

struct command *client_admin(struct client *c, uint8_t opcode, uint32_t cdw10, uint32_t cdw11,
                             uint64_t prp1, uint16_t status)
{
    struct nvme_command n = { .opcode = opcode, .prp1 = prp1, .cdw10 = cdw10, .cdw11 = cdw11 };
    return client_put(c, 0, n, status);
}

void client_create_cq(struct client *c, unsigned q, uint32_t entries)
{
    new_queue(c, q, entries);
    client_admin(c, ADMIN_CREATE_CQ, (entries - 1) << 16 | q, q << 16 | 3, GUEST + CQ_AT(q), 0);
}

void client_create_sq(struct client *c, unsigned q, uint32_t entries)
{
    client_admin(c, ADMIN_CREATE_SQ, (entries - 1) << 16 | q, q << 16 | 1, GUEST + SQ_AT(q), 0);
}

void client_configure_doorbells(struct client *c)
{
    struct nvme_command n = { .opcode = ADMIN_DOORBELL_BUFFER, .prp1 = GUEST + SHADOW_AT,
                              .prp2 = GUEST + EVENTS_AT };
    client_put(c, 0, n, 0);
}

/* ---- Seeing ----------------------------------------------------------------------------------------- */

static struct command *find(struct client *c, unsigned q, uint16_t cid, uint16_t status)
{
    for (unsigned i = 0; i < c->commands; i++) {
        struct command *k = &c->command[i];
        if (k->q == q && !k->done && k->c.cid == cid &&
            k->conflicts == (status == (SC_CID_CONFLICT | SC_DNR)))
            return k;
    }
    return NULL;
}

void client_expect_dw0(struct client *c, uint32_t dw0)
{
    if (c->command[c->commands - 1].dw0 != dw0)
        wrong(c, "dword 0 is 0x%x, not 0x%x", c->command[c->commands - 1].dw0, dw0);
}

/* What a driver may do when it has seen a completion; and what it may rely on. */
static void finish(struct client *c, struct command *k)
{
    uint32_t at = k->c.cdw10 * 512;
    static const uint8_t zeros[BIG];

    k->done = true;
    if (!k->q || k->status)
        return;
    switch (k->c.opcode) {
    case NVM_READ:
        require(c, memcmp(k->data, disk_model + at, k->bytes) == 0, "wrong data was read");
        break;
    case NVM_WRITE:
        memcpy(disk_model + at, k->data, k->bytes);
        require(c, disk_is(at, k->bytes), "data is not on the disk");
        break;
    case NVM_WRITE_ZEROES:
        memcpy(disk_model + at, zeros, k->bytes);
        require(c, disk_is(at, k->bytes), "zeros are not on the disk");
        change_disk(at, k->bytes, 9);
        break;
    case NVM_COPY:
        memcpy(disk_model + at, disk_model + k->source, k->copied);
        require(c, disk_is(at, k->copied), "the copy is not on the disk");
        change_disk(at, k->copied, 10);
        break;
    default: break;
    }
    if (k->data)
        memset(k->data, k->rest = 0xee, k->bytes);
}

/* The places of commands up to the queue's head are the driver's again. */
static void take_places(struct client *c, unsigned q, uint32_t head)
{
    struct client_queue *dq = &c->q[q];

    if (head >= dq->entries || (head + dq->entries - dq->freed) % dq->entries >
                                   (dq->tail + dq->entries - dq->freed) % dq->entries)
        wrong(c, "queue %u: head %u is not between %u and the tail %u", q, head, dq->freed, dq->tail);
    for (; dq->freed != head; dq->freed = (dq->freed + 1) % dq->entries)
        memset(c->mem + SQ_AT(q) + dq->freed * 64, 0xff, 64);
}

/* Returns the number of completions. */
static unsigned look(struct client *c, unsigned q)
{
    struct client_queue *dq = &c->q[q];
    struct nvme_completion e;
    unsigned n = 0;

    for (; dq->entries; n++) {
        uint8_t *at = c->mem + CQ_AT(q) + dq->head * sizeof e;
        uint16_t status = __atomic_load_n((uint16_t *)(void *)(at + 14), __ATOMIC_ACQUIRE);
        if ((status & 1) != dq->phase)
            break;
        memcpy(&e, at, sizeof e);
        struct command *k = find(c, q, e.cid, e.status >> 1);
        if (!k || e.sqid != q)
            wrong(c, "queue %u: a completion of command %u, which is not under way", q, e.cid);
        if (e.status >> 1 != k->status && !k->maybe)
            wrong(c, "queue %u: opcode 0x%x ended with status 0x%x", q, k->c.opcode, e.status >> 1);
        k->dw0 = e.dw0;
        c->errors += e.status >> 1 != 0;
        finish(c, k);
        take_places(c, q, e.sqhd);
        if (++dq->head == dq->entries) {
            dq->head = 0;
            dq->phase ^= 1;
        }
    }
    if (n)
        ring_head(c, q);
    return n;
}

static bool interrupted(struct client *c, unsigned q)
{
    uint64_t n;
    int fd = stand_in_fd(&c->s, KEEP_IRQ | (IRQ_MSIX + q));
    return fd >= 0 && read(fd, &n, sizeof n) == sizeof n;
}

/* A command of the device. */
static void answer(struct client *c, const struct vfio_user_header *h)
{
    struct vfio_user_header reply = { h->id, h->command, sizeof reply, VFIO_USER_FLAG_TYPE_REPLY, 0 };
    struct vfio_user_dma_access a;

    memcpy(&a, c->in + sizeof *h, sizeof a);
    require(c, c->far && a.count && a.address >= GUEST && a.count <= GUEST_SIZE &&
            a.address - GUEST <= GUEST_SIZE - a.count, "a message for memory that there is not");
    uint8_t *at = c->mem + (a.address - GUEST);
    struct iovec iov[] = { { &reply, sizeof reply }, { &a, sizeof a }, { at, a.count } };
    if (h->command == VFIO_USER_DMA_WRITE) {
        require(c, h->size == sizeof *h + sizeof a + a.count, "a DMA_WRITE of a wrong size");
        memcpy(at, c->in + sizeof *h + sizeof a, a.count);
        for (unsigned q = 0; q < CLIENT_QUEUES; q++)
            if (a.address - GUEST >= CQ_AT(q) && a.address - GUEST < CQ_AT(q) + 4096 && look(c, q))
                c->q[q].owed = true;
        iov[2].iov_len = 0;
    }
    reply.size += (uint32_t)(sizeof a + iov[2].iov_len);
    assert_int_equal(wire_send(c->s.client, iov, 3, NULL, 0), reply.size);
}

static void take_replies(struct client *c)
{
    struct vfio_user_header h;

    ssize_t n = recv(c->s.client, c->in + c->have, sizeof c->in - c->have, MSG_DONTWAIT);
    c->have += n > 0 ? (size_t)n : 0;
    while (c->have >= sizeof h) {
        memcpy(&h, c->in, sizeof h);
        bool is_reply = wire_is_reply(&h), is_dma = h.command == VFIO_USER_DMA_READ ||
                                                    h.command == VFIO_USER_DMA_WRITE;
        require(c, is_reply != is_dma && h.size >= sizeof h && h.size <= sizeof c->in,
                "something that is no reply");
        if (c->have < h.size)
            return;
        if (is_dma)
            answer(c, &h);
        else if (wire_reply_error(&h))
            wrong(c, "command %u failed: %d", h.command, wire_reply_error(&h));
        require(c, is_dma || ++c->answered <= c->asked, "a reply too many");
        if (h.command == VFIO_USER_REGION_READ)
            memcpy(&c->register_value, c->in + h.size - 4, 4);
        c->have -= h.size;
        memmove(c->in, c->in + h.size, c->have);
    }
    if (!c->waiting || c->answered < c->asked)
        return;
    if ((c->register_value & c->wait_mask) == c->wait_value)
        c->waiting = false;
    else
        ask_csts(c);
}

static bool all_ended(const struct client *c)
{
    for (unsigned i = 0; i < c->commands; i++)
        if (!c->command[i].done && !c->command[i].maybe && !c->command[i].waits)
            return false;
    return !c->waiting && c->answered == c->asked;
}

bool client_done(void *client)
{
    struct client *c = client;
    bool owed = false;

    take_replies(c);
    for (unsigned q = 0; q < CLIENT_QUEUES; q++)
        if (interrupted(c, q)) {
            c->q[q].owed = false;
            look(c, q);
        }
    while (!c->finished && all_ended(c))
        c->finished = !c->script(c, c->stage++);
    for (unsigned q = 0; q < CLIENT_QUEUES; q++)
        owed |= c->q[q].entries && c->q[q].owed;
    if (!c->finished || owed || !all_ended(c))
        return false;
    if (c->fenced)
        return true;
    /* It may have yet to look at our answer to its last message. */
    c->fenced = true;
    ask_csts(c);
    return false;
}

void client_look_at_rest(struct client *c)
{
    take_replies(c);
    for (unsigned q = 0; q < CLIENT_QUEUES; q++) {
        if (interrupted(c, q))
            c->q[q].owed = false, look(c, q);
        else if (look(c, q))
            c->q[q].owed = true;
    }
}

/* ---- The end ---------------------------------------------------------------------------------------- */

static void check_state(struct client *c, const struct nvme *s)
{
    unsigned waiting = 0, slots = 0;

    for (unsigned i = 0; i < c->commands; i++)
        waiting += !c->command[i].done && c->command[i].waits;
    for (unsigned i = 0; i < SLOTS / 64; i++)
        slots += (unsigned)__builtin_popcountll(s->slot_map[i]);
    if (slots != waiting || s->event_count != waiting)
        wrong(c, "%u slots are in use, %u requests wait for events, not %u", slots, s->event_count,
              waiting);
    for (unsigned q = 0; q < CLIENT_QUEUES; q++) {
        const struct client_queue *dq = &c->q[q];
        if (s->sq[q].entries != dq->entries || s->cq[q].entries != dq->entries)
            wrong(c, "queue %u has %u and %u entries", q, s->sq[q].entries, s->cq[q].entries);
        if (s->sq[q].head != dq->tail || s->cq[q].tail != dq->head ||
            (dq->entries && s->cq[q].phase != dq->phase))
            wrong(c, "queue %u: head %u, tail %u, and it should be %u and %u", q, s->sq[q].head,
                  s->cq[q].tail, dq->tail, dq->head);
        if (s->fetch.count || s->post.stage)
            wrong(c, "%u entries are being read, or one is being written", s->fetch.count);
        if (s->sq[q].in_flight != (q ? 0 : waiting))
            wrong(c, "queue %u has %u commands in flight", q, s->sq[q].in_flight);
    }
    for (unsigned k = 0; k < FARS; k++)
        if (s->far[k].stage || s->far[k].moving)
            wrong(c, "place %u is in use", k);
    if (s->counters.errors != c->errors)
        wrong(c, "%u errors are in the log, not %u", (unsigned)s->counters.errors, c->errors);
}

void client_check(struct client *c)
{
    struct block_part parts[SHARED_PARTS];
    struct block b;
    int fd = dup(stand_in_fd(&c->s, STAND_IN_BLOCK));
    struct block_header *h = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);

    for (unsigned q = 0; q < CLIENT_QUEUES; q++)
        require(c, !look(c, q), "a completion came after the last one");
    require(c, disk_is(0, DISK_SIZE), "the disk was written where nobody asked for it");
    for (unsigned i = 0; i < c->commands; i++) {
        const struct command *k = &c->command[i];
        for (uint32_t n = 0; k->rest && k->data && n < k->bytes; n++)
            require(c, k->data[n] == k->rest, "memory was written after the command's end");
    }
    assert_ptr_not_equal(h, MAP_FAILED);
    memcpy(parts, h->parts, sizeof parts);
    munmap(h, 4096);
    assert_int_equal(block_open(&b, fd, parts, SHARED_PARTS), 0);
    check_state(c, block_part(&b, SHARED_DEVICE));
    block_close(&b);
}

void client_close(struct client *c)
{
    stand_in_free(&c->s);
    munmap(c->mem, GUEST_SIZE);
}

/*
 * dma.c - the mirror's own commands: memory that it must not have, sizes that nobody can mean, too many.
 */
#include "mirror/misbehaviour.h"

#include <stdlib.h>

#define READ VFIO_USER_DMA_READ
#define WRITE VFIO_USER_DMA_WRITE

/* An address that no client maps. */
#define NOWHERE UINT64_C(0x7eee00000000)

static const uint8_t junk[PLAY_DATA];

/* The first map that allows this, or NULL. */
static const struct device_map *map_with(const struct play *p, uint32_t flags, uint32_t without)
{
    for (unsigned i = 0; i < p->device.maps_count; i++)
        if ((p->device.maps[i].flags & flags) == flags && !(p->device.maps[i].flags & without))
            return &p->device.maps[i];
    return NULL;
}

/* Is any byte of it mapped for `flags`? */
static bool is_mapped(const struct play *p, uint64_t address, uint32_t flags)
{
    for (unsigned i = 0; i < p->device.maps_count; i++)
        if (address - p->device.maps[i].address < p->device.maps[i].size &&
            (p->device.maps[i].flags & flags))
            return true;
    return false;
}

/* The end of a map behind which nothing is, or 0. */
static uint64_t an_end(const struct play *p)
{
    for (unsigned i = 0; i < p->device.maps_count; i++) {
        uint64_t end = p->device.maps[i].address + p->device.maps[i].size;
        if (end && !is_mapped(p, end, ~0u))
            return end;
    }
    return 0;
}

/* ---- Reads and writes ---------------------------------------------------------------------- */

/* These come before the proper reply, so that they arrive while a request is open. */

static bool read_nowhere(struct play *p, struct reply *r)
{
    (void)r;
    play_ask(p, READ, 0, NOWHERE, p->m->arg, NULL, 0, true);
    return true;
}

static bool write_nowhere(struct play *p, struct reply *r)
{
    (void)r;
    play_ask(p, WRITE, 0, NOWHERE, 16, junk, 16, true);
    return true;
}

static bool read_wrap(struct play *p, struct reply *r)
{
    (void)r;
    play_ask(p, READ, 0, -UINT64_C(16), 64, NULL, 0, true);
    return true;
}

static bool write_wrap(struct play *p, struct reply *r)
{
    (void)r;
    play_ask(p, WRITE, 0, -UINT64_C(16), 64, junk, 64, true);
    return true;
}

static bool read_straddle(struct play *p, struct reply *r)
{
    (void)r;
    uint64_t end = an_end(p);
    if (end)
        play_ask(p, READ, 0, end - 16, 64, NULL, 0, true);
    else
        p->acted = false;
    return true;
}

static bool write_straddle(struct play *p, struct reply *r)
{
    (void)r;
    uint64_t end = an_end(p);
    if (end)
        play_ask(p, WRITE, 0, end - 16, 64, junk, 64, true);
    else
        p->acted = false;
    return true;
}

/* A count that no message can hold, from memory that is mapped. */
static bool read_count(struct play *p, struct reply *r)
{
    const struct device_map *map = map_with(p, VFIO_DMA_MAP_FLAG_READ, 0);
    (void)r;
    if (map)
        play_ask(p, READ, 0, map->address, p->m->arg, NULL, 0, true);
    else
        p->acted = false;
    return true;
}

/* A count that is not that of the data. */
static bool write_count(struct play *p, struct reply *r)
{
    const struct device_map *map = map_with(p, VFIO_DMA_MAP_FLAG_WRITE, 0);
    (void)r;
    if (map)
        play_ask(p, WRITE, 0, map->address, p->m->arg, junk, 16, true);
    else
        p->acted = false;
    return true;
}

static bool write_read_only(struct play *p, struct reply *r)
{
    const struct device_map *map = map_with(p, VFIO_DMA_MAP_FLAG_READ, VFIO_DMA_MAP_FLAG_WRITE);
    (void)r;
    if (map)
        play_ask(p, WRITE, 0, map->address, 16, junk, 16, true);
    else
        p->acted = false;
    return true;
}

static bool read_write_only(struct play *p, struct reply *r)
{
    const struct device_map *map = map_with(p, VFIO_DMA_MAP_FLAG_WRITE, VFIO_DMA_MAP_FLAG_READ);
    (void)r;
    if (map)
        play_ask(p, READ, 0, map->address, 16, NULL, 0, true);
    else
        p->acted = false;
    return true;
}

/* Something that was mapped, and is not any more. false: there is none. */
static bool find_gone(const struct play *p, uint64_t *address)
{
    for (unsigned i = 0; i < p->gone_count && i < PLAY_GONE; i++) {
        *address = p->gone[i];
        if (!is_mapped(p, *address, ~0u))
            return true;
    }
    return false;
}

static bool read_unmapped(struct play *p, struct reply *r)
{
    uint64_t address;
    (void)r;
    p->acted = find_gone(p, &address);
    if (p->acted)
        play_ask(p, READ, 0, address, 16, NULL, 0, true);
    return true;
}

static bool write_unmapped(struct play *p, struct reply *r)
{
    uint64_t address;
    (void)r;
    p->acted = find_gone(p, &address);
    if (p->acted)
        play_ask(p, WRITE, 0, address, 16, junk, 16, true);
    return true;
}

/* Into the device's own MSI-X table, where the guest has put that: no memory of the client's. */
static bool write_own_table(struct play *p, struct reply *r)
{
    uint64_t address = device_bar4(&p->device);
    (void)r;
    if (address && !is_mapped(p, address, ~0u))
        play_ask(p, WRITE, 0, address, 16, junk, 16, true);
    else
        p->acted = false;
    return true;
}

static bool read_posted(struct play *p, struct reply *r)
{
    (void)r;
    play_ask(p, READ, VFIO_USER_FLAG_NO_REPLY, p->m->arg ? p->m->arg : p->device.maps[0].address,
             16, NULL, 0, p->m->arg);
    return true;
}

static bool write_posted(struct play *p, struct reply *r)
{
    (void)r;
    play_ask(p, WRITE, VFIO_USER_FLAG_NO_REPLY, NOWHERE, 16, junk, 16, true);
    return true;
}

/* Before the client's version has a reply: nothing is mapped yet. */
static bool before_version(struct play *p, struct reply *r)
{
    (void)r;
    play_ask(p, READ, 0, 0, 16, NULL, 0, true);
    play_ask(p, WRITE, 0, 0, 16, junk, 16, true);
    return p->m->point != AT_CONNECT;
}

/* ---- What is no DMA command ---------------------------------------------------------------- */

/* A command of this number, with nothing behind its header. */
static bool bare_command(struct play *p, struct reply *r)
{
    struct vfio_user_header h = { .command = (uint16_t)p->m->arg, .size = sizeof h };
    (void)r;
    if (play_note(p, h.command, 0, 0, 0, true, &h.id))
        play_send(p, &h, sizeof h, NULL, 0);
    return true;
}

/* A read as a client would send it to a server. */
static bool clients_command(struct play *p, struct reply *r)
{
    (void)r;
    play_ask(p, (uint16_t)p->m->arg, 0, 0, UINT64_C(4) << 32, NULL, 0, true);
    return true;
}

/* A DMA_WRITE that says to have 1 GiB of data, and has 16 bytes. */
static bool size_lie(struct play *p, struct reply *r)
{
    struct {
        struct vfio_user_header header;
        struct vfio_user_dma_access dma;
        uint8_t data[16];
    } m = { .header = { .command = WRITE, .size = (uint32_t)p->m->arg },
            .dma = { .address = NOWHERE, .count = p->m->arg - 32 } };

    (void)r;
    p->owes = true;
    if (play_note(p, WRITE, 0, m.dma.address, m.dma.count, true, &m.header.id))
        play_send(p, &m, sizeof m, NULL, 0);
    return false;
}

/* ---- Many ---------------------------------------------------------------------------------- */

struct dma_message {
    struct vfio_user_header header;
    struct vfio_user_dma_access dma;
};

/*
 * As many reads as the argument says, of 64 KiB of mapped memory each, one behind the other, until
 * the client takes no more of them. None of its answers is looked at before; nor is its request.
 */
static bool flood(struct play *p, struct reply *r)
{
    const struct device_map *map = map_with(p, VFIO_DMA_MAP_FLAG_READ, 0);
    if (!map) {
        p->acted = false;
        return true;
    }
    uint64_t n = map->size < 65536 ? map->size : 65536;
    for (uint64_t i = 0; i < p->m->arg; i++) {
        struct dma_message m = { .header = { .command = READ, .size = sizeof m },
                                 .dma = { map->address, n } };
        if (!play_note(p, READ, 0, map->address, n, false, &m.header.id))
            break;
        bool sent = play_try_send(p, &m, sizeof m);
        for (unsigned tries = 0; !sent && tries < 20 && !p->over; tries++) {
            play_nap(p, 10);
            sent = play_try_send(p, &m, sizeof m);
        }
        if (!sent) {
            p->asked_count--;
            break;
        }
    }
    play_look(p);
    play_send_reply(p, r);
    return false;
}

/* So many reads of nothing, each wrong, all answers taken. */
static bool many_wrong(struct play *p, struct reply *r)
{
    (void)r;
    for (uint64_t i = 0; i < p->m->arg && !p->closed; i++)
        play_ask(p, READ, 0, NOWHERE + i * 4096, 16, NULL, 0, true);
    return true;
}

#define ROW(id, section, text, point, act, arg)                    \
    {                                                              \
        "dma." id, section, text, point, MAY_GO_ON, act, arg, NULL \
    }
#define READ_ROW(id, text, act, arg) \
    ROW("read-" id, "VFIO_USER_DMA_READ", text, AT_MAPPED_DMA, act, arg)
#define WRITE_ROW(id, text, act, arg) \
    ROW("write-" id, "VFIO_USER_DMA_WRITE", text, AT_MAPPED_DMA, act, arg)
#define COMMAND(id, text, act, arg) ROW("command-" id, "Commands", text, AT_READ, act, arg)

const struct misbehaviour misbehaviours_dma[] = {
    READ_ROW("nowhere", "reads memory that is not mapped", read_nowhere, 16),
    READ_ROW("straddle", "reads over the end of a map", read_straddle, 0),
    READ_ROW("wrap", "reads around the end of the address space", read_wrap, 0),
    READ_ROW("write-only", "reads memory that may only be written", read_write_only, 0),
    READ_ROW("count-16m", "reads 16 MiB at once", read_count, 16 << 20),
    READ_ROW("count-wraps", "reads 2^32 + 16 bytes at once", read_count, (UINT64_C(1) << 32) + 16),
    READ_ROW("count-2g", "reads 2^31 bytes at once", read_count, UINT64_C(1) << 31),
    READ_ROW("count-max", "reads 2^64 - 1 bytes at once", read_count, UINT64_MAX),
    READ_ROW("count-nearly-max", "reads 2^64 - 32 bytes at once", read_count, UINT64_MAX - 31),
    READ_ROW("posted", "reads mapped memory, and wants no reply", read_posted, 0),
    READ_ROW("posted-nowhere", "reads memory that is not mapped, and wants no reply", read_posted,
             NOWHERE),
    WRITE_ROW("nowhere", "writes to memory that is not mapped", write_nowhere, 0),
    WRITE_ROW("straddle", "writes over the end of a map", write_straddle, 0),
    WRITE_ROW("wrap", "writes around the end of the address space", write_wrap, 0),
    WRITE_ROW("read-only", "writes to memory that may only be read", write_read_only, 0),
    WRITE_ROW("own-table", "writes to the device's own MSI-X table, which is no memory",
              write_own_table, 0),
    WRITE_ROW("count-more", "writes 4,096 bytes, of which 16 are there", write_count, 4096),
    WRITE_ROW("count-huge", "writes 2^64 - 1 bytes, of which 16 are there", write_count,
              UINT64_MAX),
    WRITE_ROW("count-wraps", "writes 2^64 - 16 bytes, of which 16 are there", write_count,
              UINT64_MAX - 15),
    WRITE_ROW("posted-nowhere", "writes to memory that is not mapped, and wants no reply",
              write_posted, 0),
    ROW("read-unmapped", "VFIO_USER_DMA_UNMAP", "reads what was taken away", AT_UNMAPPED_DMA,
        read_unmapped, 0),
    ROW("write-unmapped", "VFIO_USER_DMA_UNMAP", "writes to what was taken away", AT_UNMAPPED_DMA,
        write_unmapped, 0),
    ROW("before-connect", "VFIO_USER_VERSION",
        "reads and writes before the client has said anything", AT_CONNECT, before_version, 0),
    ROW("before-version", "VFIO_USER_VERSION", "reads and writes before it replies to the version",
        AT_VERSION, before_version, 0),
    COMMAND("0", "a command 0", bare_command, 0),
    COMMAND("14", "a command 14, which is not assigned", bare_command, 14),
    COMMAND("max", "a command 65535", bare_command, 65535),
    COMMAND("version", "a VFIO_USER_VERSION of the server", bare_command, VFIO_USER_VERSION),
    COMMAND("reset", "a VFIO_USER_DEVICE_RESET of the server", bare_command,
            VFIO_USER_DEVICE_RESET),
    COMMAND("region-read", "a VFIO_USER_REGION_READ of the server", clients_command,
            VFIO_USER_REGION_READ),
    COMMAND("bare-read", "a VFIO_USER_DMA_READ with nothing but a header", bare_command, READ),
    COMMAND("bare-write", "a VFIO_USER_DMA_WRITE with nothing but a header", bare_command, WRITE),
    COMMAND("size-1g", "a VFIO_USER_DMA_WRITE of 1 GiB that never comes", size_lie, 1 << 30),
    COMMAND("size-4g", "a VFIO_USER_DMA_WRITE of 4 GiB - 1 that never comes", size_lie, UINT32_MAX),
    ROW("flood", "VFIO_USER_DMA_READ",
        "4,000 reads of 64 KiB, of which it does not take the answers", AT_MAPPED_DMA, flood, 4000),
    ROW("many-wrong", "VFIO_USER_DMA_READ", "1,000 reads of memory that is not mapped",
        AT_MAPPED_DMA, many_wrong, 1000),
    { NULL, NULL, NULL, 0, 0, NULL, 0, NULL },
};

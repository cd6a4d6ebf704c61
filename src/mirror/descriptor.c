/*
 * descriptor.c - replies with descriptors that are not what they should be.
 */
#include "mirror/misbehaviour.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECTION "VFIO_USER_DEVICE_GET_REGION_INFO"

/* Ours is closed once the reply is under way. */
static bool send_with(struct play *p, struct reply *r, int fd)
{
    r->fds[0] = fd;
    r->nfds = fd >= 0;
    play_send_reply(p, r);
    if (fd >= 0)
        close(fd);
    return false;
}

static bool no_fd(struct play *p, struct reply *r)
{
    (void)p;
    r->nfds = 0;
    return true;
}

/* So many of them, of a file that the client has no use for. */
static bool gifts(struct play *p, struct reply *r)
{
    unsigned n = (unsigned)p->m->arg;

    watch_gift(&p->watch, p->device.gift);
    while (n-- > 0 && r->nfds < REPLY_FDS)
        r->fds[r->nfds++] = p->device.gift;
    return true;
}

/* A command with a descriptor: none of a server's commands has any. */
static bool gift_with_command(struct play *p, struct reply *r)
{
    struct {
        struct vfio_user_header header;
        struct vfio_user_dma_access dma;
    } m = { .header = { .command = VFIO_USER_DMA_READ, .size = sizeof m },
            .dma = { .address = UINT64_C(0x7eee00000000), .count = 16 } };

    if (play_note(p, VFIO_USER_DMA_READ, 0, m.dma.address, m.dma.count, true, &m.header.id)) {
        watch_gift(&p->watch, p->device.gift);
        play_send(p, &m, sizeof m, &p->device.gift, 1);
    }
    play_send_reply(p, r);
    return false;
}

static bool directory(struct play *p, struct reply *r)
{
    return send_with(p, r, open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static bool path_only(struct play *p, struct reply *r)
{
    return send_with(p, r, open("/proc/self/exe", O_PATH | O_CLOEXEC));
}

static bool null_device(struct play *p, struct reply *r)
{
    return send_with(p, r, open("/dev/null", O_RDWR | O_CLOEXEC));
}

static bool zero_device(struct play *p, struct reply *r)
{
    return send_with(p, r, open("/dev/zero", O_RDWR | O_CLOEXEC));
}

static bool socket_fd(struct play *p, struct reply *r)
{
    return send_with(p, r, socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static bool closed_pipe(struct play *p, struct reply *r)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return true;
    close(fds[1]);
    return send_with(p, r, fds[0]);
}

/* A file of so many bytes, which can shrink. Mappings beyond its end are looked for. */
static bool short_file(struct play *p, struct reply *r)
{
    int fd = memfd_create("short", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, (off_t)p->m->arg) < 0)
        return true;
    watch_map(&p->watch, fd, p->m->arg);
    return send_with(p, r, fd);
}

/* A file that can be read alone, where the region can be written. */
static bool read_only(struct play *p, struct reply *r)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", p->device.memory);
    return send_with(p, r, open(path, O_RDONLY | O_CLOEXEC));
}

/*
 * A file as it should be, but without a seal. It is cut off once the client has mapped it, and the
 * client is told nothing. Happens in two moments, the first of which is the reply.
 */
static bool truncated(struct play *p, struct reply *r)
{
    int fd = memfd_create("truncated", MFD_CLOEXEC);
    if (fd < 0 || ftruncate(fd, DEVICE_MEMORY_SIZE) < 0)
        return true;
    watch_map(&p->watch, fd, DEVICE_AREA_START + DEVICE_AREA_SIZE);
    p->later = fd;
    r->fds[0] = fd;
    return true;
}

/* The client's own memory, which it has given away with a descriptor, is cut off. */
static bool shrink_memory(struct play *p, struct reply *r)
{
    (void)r;
    p->acted = false;
    for (unsigned i = 0; i < p->device.maps_count; i++) {
        int fd = p->device.maps[i].fd;
        p->acted |= fd >= 0;
        if (fd >= 0 && ftruncate(fd, 0) == 0)
            break;
    }
    return true;
}

#define ROW(id, section, text, point, must, act, arg)                \
    {                                                                \
        "descriptor." id, section, text, point, must, act, arg, NULL \
    }
#define REGION(id, text, must, act, arg) ROW(id, SECTION, text, AT_REGION_INFO, must, act, arg)

const struct misbehaviour misbehaviours_descriptor[] = {
    REGION("none", "a region that can be mapped comes without a descriptor", MAY_GO_ON, no_fd, 0),
    REGION("two", "a second descriptor with a region", MAY_GO_ON, gifts, 1),
    REGION("17", "16 descriptors more than one with a region", MAY_GO_ON, gifts, 16),
    REGION("253", "253 descriptors with a region, as many as a socket takes", MAY_GO_ON, gifts,
           252),
    ROW("unmappable", SECTION, "a descriptor with a region that cannot be mapped",
        AT_OTHER_REGION_INFO, MAY_GO_ON, gifts, 1),
    ROW("with-version", "VFIO_USER_VERSION", "a descriptor with the version", AT_VERSION, MAY_GO_ON,
        gifts, 1),
    ROW("with-info", "VFIO_USER_DEVICE_GET_INFO", "a descriptor with the device info", AT_INFO,
        MAY_GO_ON, gifts, 1),
    ROW("with-irq-info", "VFIO_USER_DEVICE_GET_IRQ_INFO", "a descriptor with interrupt info",
        AT_IRQ_INFO, MAY_GO_ON, gifts, 1),
    ROW("with-map", "VFIO_USER_DMA_MAP", "a descriptor with the reply to a DMA map", AT_DMA_MAP,
        MAY_GO_ON, gifts, 1),
    ROW("with-set-irqs", "VFIO_USER_DEVICE_SET_IRQS", "a descriptor with the reply to SET_IRQS",
        AT_SET_IRQS, MAY_GO_ON, gifts, 1),
    ROW("with-read", "VFIO_USER_REGION_READ", "a descriptor with the data of a read", AT_READ,
        MAY_GO_ON, gifts, 1),
    ROW("with-read-253", "VFIO_USER_REGION_READ", "253 descriptors with the data of a read",
        AT_READ, MAY_GO_ON, gifts, 253),
    ROW("with-command", "VFIO_USER_DMA_READ", "a descriptor with a command of the server", AT_READ,
        MAY_GO_ON, gift_with_command, 0),
    ROW("io-fds-none", "VFIO_USER_DEVICE_GET_REGION_IO_FDS",
        "a sub-region comes without its descriptor", AT_IO_FDS, MUST_NOTICE, no_fd, 0),
    ROW("io-fds-two", "VFIO_USER_DEVICE_GET_REGION_IO_FDS",
        "a second descriptor for one sub-region", AT_IO_FDS, MAY_GO_ON, gifts, 1),
    REGION("directory", "a directory instead of a file", MAY_GO_ON, directory, 0),
    REGION("path", "a descriptor of a path, O_PATH", MAY_GO_ON, path_only, 0),
    REGION("null", "/dev/null instead of a file", MAY_GO_ON, null_device, 0),
    REGION("zero", "/dev/zero instead of a file", MAY_GO_ON, zero_device, 0),
    REGION("socket", "a socket instead of a file", MAY_GO_ON, socket_fd, 0),
    REGION("pipe", "a pipe whose other end is closed", MAY_GO_ON, closed_pipe, 0),
    REGION("read-only", "a file that cannot be written, for a region that can", MAY_GO_ON,
           read_only, 0),
    REGION("empty", "a file of no bytes", MAY_GO_ON, short_file, 0),
    REGION("short", "a file of 4 KiB, for a region of 16 KiB", MAY_GO_ON, short_file, 4096),
    REGION("odd", "a file that ends in the middle of an area's page", MAY_GO_ON, short_file, 5000),
    REGION("truncated", "a file that is cut off after the client has mapped it", MAY_GO_ON,
           truncated, 0),
    ROW("client-memory", "VFIO_USER_DMA_MAP", "the client's own memory file is cut off",
        AT_MAPPED_DMA, MAY_GO_ON, shrink_memory, 0),
    { NULL, NULL, NULL, 0, 0, NULL, 0, NULL },
};

/*
 * dma_fds.c - group "dma-file": the descriptors that come with DMA regions.
 */
#include "check/run.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define M "VFIO_USER_DMA_MAP"

enum kind {
    PIPE,
    DIRECTORY,
    NUL,
    EVENTFD,
    SOCKET,
    READ_ONLY,
    EMPTY,
    SHORT,
    SEALED,
    SEALED_ALL,
    PATH
};

static int descriptor(struct run *r, enum kind kind)
{
    int fds[2];

    switch (kind) {
    case PIPE:
        a_pipe(r, fds);
        return fds[1];
    case DIRECTORY:
        return a_file(r, "/", O_RDONLY | O_DIRECTORY);
    case NUL:
        return a_file(r, "/dev/null", O_RDWR);
    case EVENTFD:
        return an_eventfd(r);
    case SOCKET:
        return client(r)->sock; /* the connection itself */
    case READ_ONLY:
        return a_file(r, "/proc/self/exe", O_RDONLY);
    case PATH:
        return a_file(r, "/proc/self/exe", O_PATH);
    case EMPTY:
        return a_memory_file(r, 0);
    case SHORT:
        return a_memory_file(r, PAGE);
    case SEALED:
        fds[0] = a_memory_file(r, 16 * PAGE);
        fcntl(fds[0], F_ADD_SEALS, F_SEAL_WRITE);
        return fds[0];
    case SEALED_ALL:
        fds[0] = a_memory_file(r, 16 * PAGE);
        fcntl(fds[0], F_ADD_SEALS, F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
        return fds[0];
    }
    return -1;
}

/* Whether it is taken or refused, at once or when it is first needed, is the server's affair. */
static void odd(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(BASE, 16 * PAGE);
    enum outcome outcome = try_map(r, &m, descriptor(r, (enum kind)c->a));

    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    still_works(r, client(r));
    if (outcome == SERVED)
        unmap(r, BASE, 16 * PAGE);
    else if (is_mapped(r, BASE, PAGE))
        fail(r, "expected no region after an error, got one");
}

static void good_seals(struct run *r, const struct check *c)
{
    (void)c;
    map(r, BASE, 16 * PAGE, descriptor(r, SEALED_ALL));
    unmap(r, BASE, 16 * PAGE);
}

/* It goes away while it is mapped. */
static void truncated(struct run *r, const struct check *c)
{
    int fd = a_memory_file(r, 16 * PAGE);

    map(r, BASE, 16 * PAGE, fd);
    if (ftruncate(fd, (off_t)c->a) < 0)
        skip(r, "the server has sealed the file");
    still_works(r, client(r));
    unmap(r, BASE, 16 * PAGE);
}

static void two(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(BASE, PAGE);
    int fds[2] = { a_memory_file(r, PAGE), a_memory_file(r, PAGE) };
    struct ask ask = { VFIO_USER_DMA_MAP, &m, sizeof m, fds, 2, 0 };
    (void)c;
    if (try(r, &ask) == SERVED) {
        note(r, "two descriptors for one region are served");
        unmap(r, BASE, PAGE);
    }
}

static void offset(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(BASE, PAGE);
    m.offset = c->a;
    enum outcome outcome = try_map(r, &m, a_memory_file(r, 16 * PAGE));
    if (outcome == CLOSED)
        fail(r, "expected a reply, got the end of the connection");
    if (outcome == REFUSED && c->a < 16 * PAGE && c->a % PAGE == 0)
        fail(r, "offset 0x%llx: expected success, got %s", (unsigned long long)c->a,
             strerror((int)r->client.header.error));
    if (outcome == SERVED && c->a > INT64_MAX)
        fail(r, "offset 0x%llx: expected an error, got success", (unsigned long long)c->a);
    if (outcome == SERVED)
        unmap(r, BASE, PAGE);
}

/* Memory that nobody maps any more can be sealed. c->a: how it comes to that. */
static void released(struct run *r, const struct check *c)
{
    int fd = a_memory_file(r, 16 * PAGE);
    uint64_t deadline = peer_now_ms() + (c->a ? r->options->timeout_ms : 0);

    map(r, BASE, 16 * PAGE, fd);
    if (c->a)
        peer_close(&r->client);
    else
        unmap(r, BASE, 16 * PAGE);
    while (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0) {
        if (errno == EPERM)
            skip(r, "the server has sealed the file");
        if (peer_now_ms() >= deadline)
            fail(r, "expected all mappings of the memory to be gone, got some (%s)",
                 strerror(errno));
        usleep(10000);
    }
}

/* One file for several regions, as a virtual machine has it. */
static void shared_file(struct run *r, const struct check *c)
{
    int fd = a_memory_file(r, 16 * PAGE);
    (void)c;
    for (uint64_t i = 0; i < 4; i++) {
        struct vfio_user_dma_map m = a_map(BASE + i * 8 * PAGE, 4 * PAGE);
        m.offset = (3 - i) * 4 * PAGE;
        if (try_map(r, &m, fd) != SERVED)
            fail(r, "region %u of one file: expected success, got an error", (unsigned)i);
    }
    for (uint64_t i = 0; i < 4; i++)
        unmap(r, BASE + i * 8 * PAGE, 4 * PAGE);
}

/* The same memory at two addresses: shadows of a ROM are like that. */
static void alias(struct run *r, const struct check *c)
{
    int fd = a_memory_file(r, PAGE);
    (void)c;
    map(r, BASE, PAGE, fd);
    map(r, BASE + 8 * PAGE, PAGE, fd);
    unmap(r, BASE, PAGE);
    unmap(r, BASE + 8 * PAGE, PAGE);
}

/* A refused map leaves nothing behind: the other end of the pipe sees when the last one goes. */
static void refused_is_closed(struct run *r, const struct check *c)
{
    struct vfio_user_dma_map m = a_map(BASE, 0); /* no bytes: refused whatever comes along */
    int fds[2];
    char byte;
    (void)c;

    a_pipe(r, fds);
    if (try_map(r, &m, fds[1]) != REFUSED)
        skip(r, "a region of no bytes is not refused");
    give_away(r, fds[1]);
    for (int i = 0; i < 20; i++) {
        if (read(fds[0], &byte, 1) == 0)
            return;
        usleep(10000);
    }
    if (r->options->one_connection)
        skip(r, "the server may keep the descriptor until the connection ends");
    peer_close(&r->client);
    for (unsigned i = 0; i < r->options->timeout_ms / 10; i++) {
        if (read(fds[0], &byte, 1) == 0) {
            note(r, "the descriptor of a refused map is kept until the connection ends");
            return;
        }
        usleep(10000);
    }
    fail(r, "expected the descriptor of a refused map to be closed, got it kept");
}

#define ODD(tag, title, kind)                                                                \
    {                                                                                        \
        "dma-file." tag, "memory that is " title " is no harm", M, odd, NEED_MAPPED, kind, 0 \
    }

static const struct check checks[] = {
    ODD("pipe", "a pipe", PIPE),
    ODD("directory", "a directory", DIRECTORY),
    ODD("null", "/dev/null", NUL),
    ODD("eventfd", "an eventfd", EVENTFD),
    ODD("socket", "the connection itself", SOCKET),
    ODD("read-only", "a file for reading only", READ_ONLY),
    ODD("path", "a file for no access at all", PATH),
    ODD("empty", "an empty file", EMPTY),
    ODD("short", "a file shorter than the region", SHORT),
    ODD("sealed", "sealed against writing", SEALED),
    { "dma-file.seals", "memory of a size that cannot change is accepted", M, good_seals,
      NEED_MAPPED, 0, 0 },
    { "dma-file.truncated", "memory that is truncated is no harm", M, truncated, NEED_MAPPED, 0,
      0 },
    { "dma-file.truncated-half", "memory that is truncated in the middle is no harm", M, truncated,
      NEED_MAPPED, 8 * PAGE, 0 },
    { "dma-file.two", "two descriptors for one region are no harm", M, two, NEED_MAPPED, 0, 0 },
    { "dma-file.offset", "a region may begin in the middle of a file", M ": offset", offset,
      NEED_MAPPED, 8 * PAGE, 0 },
    { "dma-file.offset-end", "an offset behind the end of the file gets an answer", M ": offset",
      offset, NEED_MAPPED, 64 * PAGE, 0 },
    { "dma-file.offset-odd", "an offset inside a page gets an answer", M ": offset", offset,
      NEED_MAPPED, 8, 0 },
    { "dma-file.offset-huge", "an offset that no file has is refused", M ": offset", offset,
      NEED_MAPPED, UINT64_MAX - PAGE + 1, 0 },
    { "dma-file.released", "an unmap lets go of the memory before its reply", "VFIO_USER_DMA_UNMAP",
      released, NEED_MAPPED, 0, 0 },
    { "dma-file.released-end", "the end of the connection lets go of the memory",
      "Client Disconnection", released, NEED_MAPPED | NEED_OWN, 1, 0 },
    { "dma-file.shared", "several regions of one file", M ": offset", shared_file, NEED_MAPPED, 0,
      0 },
    { "dma-file.alias", "the same memory at two addresses", M, alias, NEED_MAPPED, 0, 0 },
    { "dma-file.refused", "the descriptor of a refused map is closed", M, refused_is_closed,
      NEED_MAPPED | NEED_OWN, 0, 0 },
};
GROUP(check_dma_fds, checks);

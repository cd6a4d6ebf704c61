/*
 * twin.c - a twin socket, where the client has offered one, that is none or does not behave.
 */
#include "mirror/misbehaviour.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Turns the reply into one with a twin socket, which is `fd`. Ours is closed once it is sent. */
static bool give(struct play *p, struct reply *r, int fd)
{
    struct wire_capabilities c = p->limits;
    struct vfio_user_version *version = reply_body(r);

    c.twin_socket = true;
    c.twin_socket_fd_index = 0;
    int n = wire_capabilities_format(&c, version->data, 1024);
    reply_resize(r, sizeof *version + (size_t)n);
    r->fds[0] = fd;
    r->nfds = 1;
    play_send_reply(p, r);
    close(fd);
    return false;
}

/* With a pair of sockets, whose other end is left open as long as the connection. */
static bool give_pair(struct play *p, struct reply *r, const void *bytes, size_t n)
{
    int pair[2];

    if (!p->offers_twin || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        p->acted = false;
        return true;
    }
    if (n && send(pair[1], bytes, n, MSG_NOSIGNAL) < 0)
        p->acted = false;
    if (p->m->arg)
        close(pair[1]);
    else
        p->keep = pair[1];
    return give(p, r, pair[0]);
}

static bool silent(struct play *p, struct reply *r)
{
    return give_pair(p, r, NULL, 0);
}

static bool noise(struct play *p, struct reply *r)
{
    uint8_t bytes[256];
    memset(bytes, 0xa5, sizeof bytes);
    return give_pair(p, r, bytes, sizeof bytes);
}

static bool part(struct play *p, struct reply *r)
{
    struct vfio_user_header h = { .command = VFIO_USER_DMA_READ, .size = 32 };
    return give_pair(p, r, &h, 7);
}

static bool a_reply(struct play *p, struct reply *r)
{
    struct vfio_user_header h = { .command = VFIO_USER_DEVICE_GET_INFO,
                                  .size = sizeof h,
                                  .flags = VFIO_USER_FLAG_TYPE_REPLY };
    return give_pair(p, r, &h, sizeof h);
}

static bool huge(struct play *p, struct reply *r)
{
    struct vfio_user_header h = { .command = VFIO_USER_DMA_WRITE, .size = UINT32_MAX };
    return give_pair(p, r, &h, sizeof h);
}

/* A socket that is no stream, or is not connected. */
static bool other_socket(struct play *p, struct reply *r)
{
    int fd = p->offers_twin ? socket(AF_UNIX, (int)p->m->arg | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0) {
        p->acted = false;
        return true;
    }
    return give(p, r, fd);
}

#define ROW(id, text, must, act, arg)                                           \
    {                                                                           \
        "twin." id, "VFIO_USER_VERSION", text, AT_VERSION, must, act, arg, NULL \
    }

const struct misbehaviour misbehaviours_twin[] = {
    ROW("silent", "a twin socket on which nothing comes, which is allowed", MAY_GO_ON, silent, 0),
    ROW("closed", "a twin socket whose other end is closed", MAY_GO_ON, silent, 1),
    ROW("noise", "a twin socket with bytes that are no message", MAY_GO_ON, noise, 0),
    ROW("part", "a twin socket with 7 bytes of a command", MAY_GO_ON, part, 0),
    ROW("part-closed", "a twin socket with 7 bytes of a command, then its end", MAY_GO_ON, part, 1),
    ROW("reply", "a twin socket with a reply", MAY_GO_ON, a_reply, 0),
    ROW("size-huge", "a twin socket with a command of 4 GiB - 1", MAY_GO_ON, huge, 0),
    ROW("datagrams", "a twin socket of datagrams", MAY_GO_ON, other_socket, SOCK_DGRAM),
    ROW("not-connected", "a twin socket that is not connected", MAY_GO_ON, other_socket,
        SOCK_STREAM),
    { NULL, NULL, NULL, 0, 0, NULL, 0, NULL },
};

/*
 * lobby.c - connections before they are sessions.
 */
#include "worker/lobby.h"
#include "server/log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void leave(struct seat *seat, const char *why)
{
    if (why)
        server_log(seat->lobby->dev, "connection closed: %s", why);
    close(seat->watch.fd);
    seat->watch.fd = -1;
}

/* An error reply to a command that wants one, as far as it goes: who does not read it does not get it. */
static void refuse(struct seat *seat, const struct vfio_user_header *h, int error, const char *why)
{
    struct vfio_user_header reply = {
        .id = h->id,
        .command = h->command,
        .size = sizeof reply,
        .flags = VFIO_USER_FLAG_TYPE_REPLY | VFIO_USER_FLAG_ERROR,
        .error = (uint32_t)error,
    };
    /* Unread bytes would make the reply be lost at the other end when we close. */
    wire_drain(seat->watch.fd);
    if (!(h->flags & VFIO_USER_FLAG_NO_REPLY) && !wire_is_reply(h) &&
        send(seat->watch.fd, &reply, sizeof reply, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        why = strerror(errno);
    leave(seat, why);
}

static void become_session(struct seat *seat)
{
    int sock = seat->watch.fd;

    epoll_ctl(seat->lobby->dev->epoll, EPOLL_CTL_DEL, sock, NULL);
    seat->watch.fd = -1;
    int ret = server_attach(seat->lobby->dev, sock);
    if (ret < 0) {
        server_log(seat->lobby->dev, "cannot take the connection: %s", strerror(-ret));
        close(sock);
    }
}

/* A client that has gone may not have been missed yet: a new one that comes at once gets its place. */
static bool still_busy(struct ob_device *dev)
{
    if (server_busy(dev))
        server_resume(dev);
    return server_busy(dev);
}

static void seat_ready(struct watch *w, uint32_t events)
{
    struct seat *seat = (struct seat *)(void *)w;
    uint8_t bytes[WIRE_MAX_VERSION];
    struct vfio_user_header header;
    struct wire_fds fds;

    ssize_t n = wire_look(seat->watch.fd, bytes, sizeof bytes, &fds);
    if (n == -EAGAIN)
        return;
    wire_fds_close(&fds);
    if (n <= 0) {
        leave(seat, "it went without a word");
        return;
    }
    int size = wire_header(bytes, (size_t)n, sizeof bytes, &header);
    if (size < 0 || (size > 0 && (header.command != VFIO_USER_VERSION || wire_is_reply(&header)))) {
        refuse(seat, &header, EINVAL, "it does not begin with a version message");
    } else if (size == 0 || n < size) {
        /* The rest will wake us, if there can be any. */
        if (events & ((uint32_t)EPOLLRDHUP | EPOLLHUP | EPOLLERR))
            leave(seat, "it went in the middle of its version message");
    } else if (still_busy(seat->lobby->dev)) {
        refuse(seat, &header, EBUSY, "the device has a client already");
    } else {
        become_session(seat);
    }
}

/* A free seat; if all are taken, that of the one who waited longest. */
static struct seat *find_seat(struct lobby *l)
{
    struct seat *oldest = &l->seats[0];
    for (struct seat *s = l->seats; s < l->seats + LOBBY_SEATS; s++) {
        if (s->watch.fd < 0)
            return s;
        if (s->deadline < oldest->deadline)
            oldest = s;
    }
    leave(oldest, "too many wait with it");
    return oldest;
}

void lobby_welcome(struct lobby *l, int sock)
{
    struct seat *seat = find_seat(l);

    seat->watch.fd = sock;
    seat->watch.ready = seat_ready;
    seat->lobby = l;
    seat->deadline = ob_now(l->dev) + LOBBY_PATIENCE;
    int ret = watch_control(l->dev->epoll, EPOLL_CTL_ADD, &seat->watch,
                            (uint32_t)EPOLLIN | (uint32_t)EPOLLRDHUP | (uint32_t)EPOLLET);
    if (ret < 0)
        leave(seat, strerror(-ret));
}

/* A connection that nobody takes would keep the door ready, and the loop awake, for good. */
static void send_away(struct lobby *l)
{
    close(l->spare);
    int sock = accept4(l->door.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (sock >= 0)
        close(sock);
    l->spare = fcntl(l->door.fd, F_DUPFD_CLOEXEC, 0);
}

static void door_ready(struct watch *w, uint32_t events)
{
    struct lobby *l = (struct lobby *)(void *)w;
    (void)events;

    int sock = accept4(l->door.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int error = errno;
    if (sock < 0 && (error == EMFILE || error == ENFILE))
        send_away(l);
    if (sock >= 0)
        lobby_welcome(l, sock);
    else if (error != EAGAIN && error != EINTR && error != ECONNABORTED)
        server_log(l->dev, "cannot accept a connection: %s", strerror(error));
}

int lobby_open(struct lobby *l, struct ob_device *dev, int door)
{
    *l = (struct lobby){ .door = { .fd = door, .ready = door_ready }, .dev = dev, .spare = -1 };
    for (int i = 0; i < LOBBY_SEATS; i++)
        l->seats[i].watch.fd = -1;
    if (door < 0)
        return 0;
    l->spare = fcntl(door, F_DUPFD_CLOEXEC, 0);
    return l->spare < 0 ? -errno : watch_control(dev->epoll, EPOLL_CTL_ADD, &l->door, EPOLLIN);
}

bool lobby_empty(const struct lobby *l)
{
    for (int i = 0; i < LOBBY_SEATS; i++)
        if (l->seats[i].watch.fd >= 0)
            return false;
    return true;
}

uint64_t lobby_next_deadline(const struct lobby *l)
{
    uint64_t next = UINT64_MAX;
    for (int i = 0; i < LOBBY_SEATS; i++)
        if (l->seats[i].watch.fd >= 0 && l->seats[i].deadline < next)
            next = l->seats[i].deadline;
    return next;
}

void lobby_run(struct lobby *l, uint64_t now)
{
    for (int i = 0; i < LOBBY_SEATS; i++)
        if (l->seats[i].watch.fd >= 0 && l->seats[i].deadline <= now)
            leave(&l->seats[i], "it sent no version message");
}

void lobby_close(struct lobby *l)
{
    for (int i = 0; i < LOBBY_SEATS; i++)
        if (l->seats[i].watch.fd >= 0)
            leave(&l->seats[i], NULL);
    if (l->spare >= 0)
        close(l->spare);
}

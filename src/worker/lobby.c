/*
 * lobby.c - connections before they are sessions.
 */
#include "worker/lobby.h"
#include "keeper/protocol.h"
#include "server/log.h"

#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whoever sat there is a session now, or is sent away. */
static void give_back(struct seat *seat)
{
    const struct server_keeping *k = seat->lobby->dev->keeping;

    if (seat->name && k)
        k->drop(k->ctx, seat->name);
    seat->name = 0;
}

static void leave(struct seat *seat, const char *why)
{
    if (why)
        server_log(seat->lobby->dev, "connection closed: %s", why);
    epoll_ctl(seat->lobby->dev->epoll, EPOLL_CTL_DEL, seat->watch.fd, NULL);
    close(seat->watch.fd);
    seat->watch.fd = -1;
    give_back(seat);
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
    const struct iovec iov = { &reply, sizeof reply };
    /* Unread bytes would make the reply be lost at the other end when we close. */
    wire_drain(seat->watch.fd);
    if (!(h->flags & VFIO_USER_FLAG_NO_REPLY) && !wire_is_reply(h)) {
        ssize_t sent = wire_send_now(seat->watch.fd, &iov, 1);
        if (sent < 0)
            why = strerror((int)-sent);
    }
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
    give_back(seat);
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

static void welcome(struct lobby *l, int sock, uint32_t name)
{
    struct seat *seat = find_seat(l);

    seat->watch.fd = sock;
    seat->name = name;
    seat->watch.ready = seat_ready;
    seat->lobby = l;
    seat->deadline = ob_now(l->dev) + LOBBY_PATIENCE;
    int ret = watch_control(l->dev->epoll, EPOLL_CTL_ADD, &seat->watch,
                            (uint32_t)EPOLLIN | (uint32_t)EPOLLRDHUP | (uint32_t)EPOLLET);
    if (ret < 0)
        leave(seat, strerror(-ret));
}

void lobby_welcome(struct lobby *l, int sock)
{
    welcome(l, sock, 0);
}

/* ---- With a keeper --------------------------------------------------------------------------------- */

static bool sits_here(const struct lobby *l, uint32_t name)
{
    for (int i = 0; i < LOBBY_SEATS; i++)
        if (l->seats[i].watch.fd >= 0 && l->seats[i].name == name)
            return true;
    return false;
}

/* A worker that died while it took this one in as its client may not have given the seat back. */
static bool is_client(const struct lobby *l, int sock)
{
    struct stat a, b;

    return l->dev->connection.fd >= 0 && fstat(sock, &a) == 0 && fstat(l->dev->connection.fd, &b) == 0 &&
           a.st_ino == b.st_ino;
}

static void call_seats(struct lobby *l)
{
    const struct server_keeping *k = l->dev->keeping;
    uint32_t name = NAME_SEAT - 1;

    while (k && (name = k->next(k->ctx, name)) && name < NAME_SEAT + KEEPER_SEATS) {
        int sock = sits_here(l, name) ? -1 : k->get(k->ctx, name);
        if (sock < 0)
            continue;
        if (is_client(l, sock) || wire_set_peek_offset(sock, -1) < 0) {
            close(sock);
            k->drop(k->ctx, name);
        } else {
            welcome(l, sock, name);
        }
    }
}

static void bell_rings(struct watch *w, uint32_t events)
{
    struct lobby *l = (struct lobby *)(void *)((uint8_t *)w - offsetof(struct lobby, bell));
    uint64_t count;

    (void)events;
    if (read(w->fd, &count, sizeof count) == sizeof count)
        ob_moved(l->dev, sizeof count, 0);
    call_seats(l);
}

static int open_bell(struct lobby *l)
{
    const struct server_keeping *k = l->dev->keeping;
    int bell = k ? k->get(k->ctx, NAME_BELL) : -1;

    if (bell < 0)
        return k ? bell : 0;
    l->bell = (struct watch){ bell, bell_rings };
    int ret = watch_control(l->dev->epoll, EPOLL_CTL_ADD, &l->bell, EPOLLIN);
    call_seats(l);
    return ret;
}

/* ---- Without ----------------------------------------------------------------------------------------- */

/* A connection that nobody takes would keep the door ready, and the loop awake, for good. */
static void send_away(struct lobby *l)
{
    close(l->spare);
    int sock = accept4(l->door.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (sock >= 0)
        close(sock);
    l->spare = fcntl(l->door.fd, F_DUPFD_CLOEXEC, 0);
}

/* #syscalls door: accept4 */
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
    *l = (struct lobby){ .door = { .fd = door, .ready = door_ready }, .dev = dev, .spare = -1,
                         .bell.fd = -1 };
    for (int i = 0; i < LOBBY_SEATS; i++)
        l->seats[i].watch.fd = -1;
    if (door < 0)
        return open_bell(l);
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
    if (l->bell.fd >= 0)
        close(l->bell.fd);
}

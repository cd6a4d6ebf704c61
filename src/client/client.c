/*
 * client.c - a connection's beginning, settings and end.
 */
#include "client/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define TIMEOUT_MS 5000u
#define TIMEOUT_MAX_MS 3600000u
#define SPIN_MAX_US 1000000u

/* ---- Errors ------------------------------------------------------------------------------ */

static void set_error(struct ob_client *c, const char *format, va_list args)
{
    if (!c->failed)
        vsnprintf(c->error, sizeof c->error, format, args);
}

void client_set_error(struct ob_client *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    set_error(c, format, args);
    va_end(args);
}

int client_refuse(struct ob_client *c, int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&c->lock);
    set_error(c, format, args);
    pthread_mutex_unlock(&c->lock);
    va_end(args);
    return error;
}

int client_fail(struct ob_client *c, int error, const char *format, ...)
{
    if (c->failed)
        return c->failed;
    va_list args;
    va_start(args, format);
    set_error(c, format, args);
    va_end(args);
    c->failed = error;
    /* Tells the server, and wakes who reads; who waits for a reply is woken by the one before. */
    shutdown(c->fd, SHUT_RDWR);
    if (c->twin_fd >= 0)
        shutdown(c->twin_fd, SHUT_RDWR);
    pthread_cond_broadcast(&c->sent);
    pthread_cond_broadcast(&c->slot_freed);
    return error;
}

const char *ob_client_error(struct ob_client *c, char *buf, size_t size)
{
    pthread_mutex_lock(&c->lock);
    snprintf(buf, size, "%s", c->error);
    pthread_mutex_unlock(&c->lock);
    return buf;
}

/* ---- Settings ---------------------------------------------------------------------------- */

/*
 * How long the kernel itself waits. Receiving: as long as a reply may take. Sending: one tick,
 * after which we look whether the server wants to say something first. A thread that spins must
 * not wait in the kernel at all.
 */
static int apply_settings(struct ob_client *c)
{
    unsigned ms = atomic_load(&c->timeout_ms);
    struct timeval receive = { .tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000 };
    struct timeval send = { .tv_usec = 1 };
    int flags = fcntl(c->fd, F_GETFL);

    if (flags < 0)
        return -errno;
    flags = atomic_load(&c->spin_us) ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    if (setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &receive, sizeof receive) < 0 ||
        setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &send, sizeof send) < 0 ||
        fcntl(c->fd, F_SETFL, flags) < 0)
        return -errno;
    return 0;
}

static int change_setting(struct ob_client *c, atomic_uint *setting, unsigned value)
{
    pthread_mutex_lock(&c->lock);
    atomic_store(setting, value);
    int ret = c->fd >= 0 ? apply_settings(c) : 0;
    pthread_mutex_unlock(&c->lock);
    return ret;
}

int ob_client_set_timeout(struct ob_client *c, unsigned ms)
{
    if (ms < 1 || ms > TIMEOUT_MAX_MS)
        return client_refuse(c, -EINVAL, "a timeout of %u ms is out of range", ms);
    return change_setting(c, &c->timeout_ms, ms);
}

int ob_client_set_spin(struct ob_client *c, unsigned us)
{
    if (us > SPIN_MAX_US)
        return client_refuse(c, -EINVAL, "%u us of spinning are out of range", us);
    return change_setting(c, &c->spin_us, us);
}

int ob_client_set_limits(struct ob_client *c, uint32_t max_msg_fds, uint32_t max_data_xfer_size)
{
    if (max_msg_fds < 1 || max_msg_fds > WIRE_MAX_FDS || max_data_xfer_size < 1 ||
        max_data_xfer_size > WIRE_MAX_DATA)
        return client_refuse(c, -EINVAL, "limits of %u descriptors and %u bytes are out of range",
                             max_msg_fds, max_data_xfer_size);
    pthread_mutex_lock(&c->lock);
    int ret = c->fd >= 0 ? -EISCONN : 0;
    if (ret == 0) {
        c->ours.max_msg_fds = max_msg_fds;
        c->ours.max_data_xfer_size = max_data_xfer_size;
    } else {
        client_set_error(c, "limits must be set before connecting");
    }
    pthread_mutex_unlock(&c->lock);
    return ret;
}

/* ---- Beginning and end ------------------------------------------------------------------- */

static void init_condition(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

struct ob_client *ob_client_new(void)
{
    struct ob_client *c = calloc(1, sizeof *c);
    uint8_t *in = malloc(WIRE_MAX_MESSAGE);
    uint8_t *out = malloc(WIRE_MAX_DATA);
    if (!c || !in || !out) {
        free(c);
        free(in);
        free(out);
        errno = ENOMEM;
        return NULL;
    }
    c->in = in;
    c->out = out;
    c->fd = c->twin_fd = -1;
    atomic_init(&c->timeout_ms, TIMEOUT_MS);
    wire_capabilities_ours(&c->ours);
    pthread_mutex_init(&c->lock, NULL);
    init_condition(&c->sent);
    init_condition(&c->slot_freed);
    init_condition(&c->twin_idle);
    for (unsigned i = CLIENT_SLOTS; i-- > 0;) {
        struct ob_request *rq = &c->slots[i];
        rq->client = c;
        rq->id = (uint16_t)i;
        init_condition(&rq->changed);
        rq->next_free = c->free;
        c->free = rq;
    }
    return c;
}

void ob_client_free(struct ob_client *c)
{
    if (!c)
        return;
    if (c->fd >= 0)
        close(c->fd);
    if (c->twin_fd >= 0)
        close(c->twin_fd);
    wire_fds_close(&c->in_fds);
    client_dma_clear(c);
    for (unsigned i = 0; i < CLIENT_SLOTS; i++)
        pthread_cond_destroy(&c->slots[i].changed);
    pthread_cond_destroy(&c->slot_freed);
    pthread_cond_destroy(&c->twin_idle);
    pthread_cond_destroy(&c->sent);
    pthread_mutex_destroy(&c->lock);
    free(c->in);
    free(c->out);
    free(c->twin_in);
    free(c->twin_out);
    free(c);
}

/* ---- Negotiation ------------------------------------------------------------------------- */

/* Gives the connection up, for who does not hold the lock. */
static int refuse_server(struct ob_client *c, int error, const char *why)
{
    pthread_mutex_lock(&c->lock);
    client_fail(c, error, "VFIO_USER_VERSION: %s", why);
    pthread_mutex_unlock(&c->lock);
    return error;
}

/* The socket that the server's reply names, out of the descriptors that came with it. NULL, or what is
 * wrong. */
static const char *take_twin(struct ob_client *c, const struct wire_capabilities *theirs,
                             struct wire_fds *fds)
{
    struct stat st;

    if (!theirs->twin_socket)
        return fds->count ? "descriptors came with it that belong to nothing" : NULL;
    if (!c->want_twin)
        return "the server wants a twin socket, which was not offered";
    if (theirs->twin_socket_fd_index < 0 || (unsigned)theirs->twin_socket_fd_index >= fds->count)
        return "the server has a twin socket, and does not send it";
    int *fd = &fds->fd[theirs->twin_socket_fd_index];
    if (fds->count != 1 || fstat(*fd, &st) < 0 || !S_ISSOCK(st.st_mode))
        return "the server's twin socket is no socket";
    uint8_t *in = malloc(WIRE_MAX_MESSAGE), *out = malloc(WIRE_MAX_DATA);
    pthread_mutex_lock(&c->lock);
    c->twin_in = in;
    c->twin_out = out;
    c->twin_fd = *fd;
    pthread_mutex_unlock(&c->lock);
    *fd = -1;
    return in && out ? NULL : "no memory for a twin socket";
}

static int negotiate(struct ob_client *c)
{
    char offer[512], reply[WIRE_MAX_VERSION];
    struct wire_capabilities theirs;
    struct wire_fds fds = { .count = 0 };

    c->ours.twin_socket = c->want_twin;
    int n = wire_capabilities_format(&c->ours, offer, sizeof offer);
    if (n < 0)
        return n;
    struct call call = {
        .request = { .header.command = VFIO_USER_VERSION,
                     .version = { .major = VFIO_USER_MAJOR, .minor = VFIO_USER_MINOR } },
        .fixed = sizeof call.request.version,
        .data = offer,
        .data_size = (size_t)n,
        .space = reply,
        .room = sizeof reply,
        .reply_fds = c->want_twin ? &fds : NULL,
    };
    int ret = client_call(c, &call);
    if (ret < 0) {
        char why[OB_CLIENT_ERROR_SIZE];
        pthread_mutex_lock(&c->lock);
        snprintf(why, sizeof why, "%s", c->error);
        client_fail(c, ret, "%s", why);
        pthread_mutex_unlock(&c->lock);
        return ret;
    }
    const struct vfio_user_version *v = &call.reply.version;
    const char *wrong = NULL;
    if (v->major != VFIO_USER_MAJOR || v->minor > VFIO_USER_MINOR)
        ret = -EPROTONOSUPPORT, wrong = "the server speaks another version";
    else if (call.got > sizeof reply || wire_capabilities_parse(reply, call.got, &theirs) < 0)
        ret = -EPROTO, wrong = "the server's capabilities make no sense";
    else if ((wrong = take_twin(c, &theirs, &fds)))
        ret = -EPROTO;
    wire_fds_close(&fds);
    if (wrong)
        return refuse_server(c, ret, wrong);

    pthread_mutex_lock(&c->lock);
    c->theirs = theirs;
    c->minor = v->minor;
    c->transfer = theirs.max_data_xfer_size < WIRE_MAX_DATA ? theirs.max_data_xfer_size
                                                            : WIRE_MAX_DATA;
    c->negotiated = true;
    pthread_mutex_unlock(&c->lock);
    return 0;
}

int ob_client_adopt(struct ob_client *c, int fd)
{
    int type;
    socklen_t size = sizeof type;

    int ret = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ? -errno : 0;
    if (ret == 0 && type != SOCK_STREAM)
        ret = -EPROTOTYPE;
    if (ret < 0) {
        close(fd);
        return client_refuse(c, ret, "descriptor %d is not a stream socket", fd);
    }
    pthread_mutex_lock(&c->lock);
    ret = c->fd >= 0 ? -EISCONN : 0;
    if (ret == 0) {
        c->fd = fd;
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        ret = apply_settings(c);
        if (ret < 0)
            client_fail(c, ret, "the socket does not take its settings");
    } else {
        close(fd);
        client_set_error(c, "connected already");
    }
    pthread_mutex_unlock(&c->lock);
    return ret < 0 ? ret : negotiate(c);
}

/*
 * A listener that does not accept can hold connect(2) for ever: the socket's send timeout ends
 * it.
 */
static int connect_within(const char *path, unsigned ms, int *sock)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct timeval limit = { .tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000 };

    if (strlen(path) >= sizeof address.sun_path)
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path));
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return -errno;
    if (setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) < 0 ||
        connect(s, (struct sockaddr *)&address, sizeof address) < 0) {
        int ret = errno == EAGAIN ? -ETIMEDOUT : -errno;
        close(s);
        return ret;
    }
    *sock = s;
    return 0;
}

int ob_client_connect(struct ob_client *c, const char *path)
{
    int sock = -1;

    pthread_mutex_lock(&c->lock);
    bool connected = c->fd >= 0;
    pthread_mutex_unlock(&c->lock);
    if (connected)
        return client_refuse(c, -EISCONN, "connected already");
    int ret = connect_within(path, atomic_load(&c->timeout_ms), &sock);
    if (ret < 0) {
        errno = -ret;
        return client_refuse(c, ret, "cannot connect to %s: %m", path);
    }
    return ob_client_adopt(c, sock);
}

/* ---- What was agreed --------------------------------------------------------------------- */

static void publish(const struct wire_capabilities *w, uint16_t minor, struct ob_capabilities *c)
{
    *c = (struct ob_capabilities){
        .major = VFIO_USER_MAJOR,
        .minor = minor,
        .max_msg_fds = w->max_msg_fds,
        .max_data_xfer_size = w->max_data_xfer_size,
        .max_dma_maps = w->max_dma_maps,
        .pgsizes = w->pgsizes,
        .write_multiple = w->write_multiple,
        .twin_socket = w->twin_socket,
    };
}

int ob_client_capabilities(struct ob_client *c, struct ob_capabilities *ours,
                           struct ob_capabilities *theirs)
{
    pthread_mutex_lock(&c->lock);
    int ret = client_negotiated(c);
    if (ret == 0 && ours)
        publish(&c->ours, VFIO_USER_MINOR, ours);
    if (ret == 0 && theirs)
        publish(&c->theirs, c->minor, theirs);
    pthread_mutex_unlock(&c->lock);
    return ret;
}

int ob_client_fd(struct ob_client *c)
{
    pthread_mutex_lock(&c->lock);
    int ret = client_negotiated(c);
    if (ret == 0)
        ret = c->fd;
    pthread_mutex_unlock(&c->lock);
    return ret;
}

ssize_t ob_client_transfer_size(struct ob_client *c)
{
    pthread_mutex_lock(&c->lock);
    ssize_t ret = client_negotiated(c);
    if (ret == 0)
        ret = (ssize_t)c->transfer;
    pthread_mutex_unlock(&c->lock);
    return ret;
}

int ob_client_process(struct ob_client *c)
{
    pthread_mutex_lock(&c->lock);
    int ret = client_negotiated(c);
    if (ret == 0) {
        client_look(c);
        ret = c->failed;
    }
    pthread_mutex_unlock(&c->lock);
    return ret;
}

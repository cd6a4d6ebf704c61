/*
 * session.c - the client's stream: bytes in, messages run, replies out.
 *
 * Bytes are looked at (MSG_PEEK) into the block, run from there, and taken from the socket only when
 * all replies to them have left. So at every instant a successor can tell from the block and from
 * the socket's peek offset, which the kernel keeps, what has happened:
 *
 *   looked at, not run     the message is still in the socket, with its descriptors: look again
 *   run, reply not sent    the step word says so; the reply is in the block
 *   reply partly sent      the counted write says how much (effect.h)
 *   sent, not taken        the peek offset is what it was: take it now
 *   taken, not recorded    the peek offset has become smaller by as much
 *
 * A message that is longer than what the socket holds can never be looked at whole; such a one
 * carries no descriptors, and its first part is taken early (`taken`).
 *
 * The socket is watched edge triggered: bytes that stay in it do not wake us again.
 */
#include "server/device.h"
#include "server/dispatch.h"
#include "server/dma.h"
#include "server/dma_message.h"
#include "server/guest.h"
#include "server/ioevent.h"
#include "server/irq.h"
#include "server/log.h"
#include "server/logging.h"
#include "server/migration.h"
#include "server/record.h"
#include "server/twin.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HELD_PATIENCE UINT64_C(4000000000) /* ns; clients wait for 5 s */
#define EVENTS ((uint32_t)EPOLLIN | (uint32_t)EPOLLRDHUP | (uint32_t)EPOLLET)

bool server_busy(const struct ob_device *dev)
{
    return dev->connection.fd >= 0 || dev->draining;
}

/* ---- Out ---------------------------------------------------------------------------------------- */

/* Whatever is there already will be told anew. */
static void watch_output(struct ob_device *dev, bool blocked)
{
    dev->output_blocked = blocked;
    watch_control(dev->epoll, EPOLL_CTL_MOD, &dev->connection,
                  EVENTS | (blocked ? (uint32_t)EPOLLOUT : 0));
}

/* The descriptors of a reply. Their number. */
static unsigned fds_of(struct ob_device *dev, uint32_t what, int *fds)
{
    if ((what & ~0xffu) == FDS_IOEVENTS)
        return ioevent_fds(dev, what & 0xff, fds);
    fds[0] = what == FDS_TWIN ? dev->twin_peer : dev->region[what & 0xff].fd;
    return 1;
}

static ssize_t send_with_fds(struct ob_device *dev, const uint8_t *bytes, size_t n)
{
    int fds[WIRE_MAX_FDS];
    unsigned count = fds_of(dev, dev->session->fds_what, fds);
    struct iovec iov = { (void *)(uintptr_t)bytes, n };

    if (dev->keeping)
        return dev->keeping->send(dev->keeping->ctx, dev->session->fds_which, bytes, n, fds, count);
    return wire_send(dev->connection.fd, &iov, 1, fds, count);
}

/* Sends what is to be sent up to the next message with descriptors, or that message. */
static ssize_t send_some(struct ob_device *dev, uint32_t end)
{
    struct shared_session *s = dev->session;
    const uint8_t *from = dev->output + s->sent;

    if (s->fds_what && s->sent == s->fds_at)
        return send_with_fds(dev, from, end - s->sent);
    if (s->fds_what && s->sent < s->fds_at)
        end = s->fds_at;
    return effect_write(&dev->block, EFFECT_REPLY, dev->connection.fd, from, end - s->sent, s->sent);
}

/* True when all output has left. */
static bool flush(struct ob_device *dev)
{
    struct shared_session *s = dev->session;
    uint32_t end = step_reply(&dev->block);

    while (s->sent < end) {
        ssize_t n = send_some(dev, end);
        if (n == -EAGAIN) {
            effect_done(&dev->block);
            if (!dev->output_blocked)
                watch_output(dev, true);
            return false;
        }
        if (n < 0) {
            effect_done(&dev->block);
            server_disconnect(dev, "it does not take its replies");
            return false;
        }
        block_store(&s->sent, s->sent + (uint32_t)n);
        effect_done(&dev->block);
        dev->facts->bytes_out += (uint64_t)n;
    }
    return true;
}

/* ---- In ----------------------------------------------------------------------------------------- */

/* Looks at what has come. Returns bytes, 0 when there is nothing, or a negative number: disconnected.
 * *more: there may be bytes behind those. */
static ssize_t look(struct ob_device *dev, bool *more)
{
    struct shared_session *s = dev->session;
    size_t space = SHARED_BUFFER - s->looked;
    struct wire_fds fds;

    /* While a message waits, descriptors of later ones could not be told apart. */
    dev->unlooked = space == 0 || (dev->quiesce && dev->fds_end);
    if (dev->unlooked)
        return 0;
    ssize_t n = wire_look(dev->connection.fd, dev->input + s->looked, space, &fds);
    if (n == -EAGAIN)
        return 0;
    if (n <= 0) {
        server_disconnect(dev, n < 0 ? strerror((int)-n)
                                     : s->looked ? "it has gone in the middle of a message" : NULL);
        return -1;
    }
    *more = (size_t)n == space || fds.count || fds.lost;
    if (fds.count || fds.lost) {
        if (dev->fds_end && !dev->fds_cut) {
            wire_fds_close(&fds);
            server_disconnect(dev, "descriptors came in the middle of a message");
            return -1;
        }
        if (dev->fds_end)
            wire_fds_close(&dev->fds); /* the same ones, shown again with the rest of their bytes */
        dev->fds = fds;
        dev->fds_end = s->looked + (uint32_t)n;
        dev->fds_cut = (size_t)n == space;
    }
    block_store(&s->looked, s->looked + (uint32_t)n);
    return n;
}

/* Replies that are due leave before a client is sent away. */
static void send_away(struct ob_device *dev, const char *why)
{
    flush(dev);
    if (dev->connection.fd >= 0)
        server_disconnect(dev, why);
}

/*
 * A message that waits for I/O to end (an unmap, a reset, a stop) is answered with an error in time, since its
 * client will not listen for ever, and takes an answer that comes too late for a broken connection. Nothing was done
 * then, and nothing acknowledged. Who wants no answer (a reset by a posted write) cannot be told, so that one waits.
 */
static uint64_t held_until(const struct ob_device *dev)
{
    const struct shared_session *s = dev->session;
    struct vfio_user_header header;

    if (!dev->quiesce || !s->held_since || dev->halted || dev->output_blocked)
        return UINT64_MAX;
    memcpy(&header, dev->input + step_run(&dev->block), sizeof header);
    return header.flags & VFIO_USER_FLAG_NO_REPLY ? UINT64_MAX : s->held_since + HELD_PATIENCE;
}

static void no_longer_held(struct ob_device *dev)
{
    dev->overdue = dev->quiesce = false;
    migration_unstop(dev);
    guest_released(dev);
}

/* Runs the messages that are complete. Descriptors belong to the last one that begins in the bytes of
 * the look that brought them. Returns false when the client was disconnected. */
static bool run_messages(struct ob_device *dev)
{
    struct shared_session *s = dev->session;
    struct wire_fds none = { .count = 0 };
    struct vfio_user_header header;

    if (dev->resting || (dev->quiesce && !dev->resume))
        return true;
    dev->resume = false;
    dev->now = 0; /* of several messages, each begins when the one before it was answered */
    while (step_reply(&dev->block) <= SHARED_OUTPUT_FULL && !s->fds_what) {
        uint32_t run = step_run(&dev->block);
        int size = wire_header(dev->input + run, s->looked - run, WIRE_MAX_MESSAGE, &header);
        if (size < 0) {
            send_away(dev, "it sent something that is no message");
            return false;
        }
        if (size == 0 || (uint32_t)size > s->looked - run)
            return true;
        bool with_fds = dev->fds_end && dev->fds_end <= run + (uint32_t)size;
        int ret = dispatch(dev, dev->input + run, (size_t)size, with_fds ? &dev->fds : &none);
        if (ret == -EINPROGRESS) {
            if (!s->held_since && !dev->halted)
                block_store(&s->held_since, ob_now(dev));
            return true;
        }
        if (dev->overdue)
            no_longer_held(dev);
        if (with_fds)
            dev->fds_end = 0;
        if (dev->refused && !dev->quiesce)
            guest_released(dev);
        if (ret < 0) {
            send_away(dev, "no common version of the protocol");
            return false;
        }
    }
    return true;
}

/* Is there a message that could be run now? */
static bool message_waits(const struct ob_device *dev)
{
    if (dev->resting || (dev->quiesce && !dev->resume))
        return false;
    struct vfio_user_header header;
    uint32_t run = step_run(&dev->block);
    int size = wire_header(dev->input + run, dev->session->looked - run, WIRE_MAX_MESSAGE, &header);
    return size < 0 || (size > 0 && (uint32_t)size <= dev->session->looked - run);
}

/* Takes what was run, or all if the rest is the beginning of a long message, and starts the buffers
 * anew. Output has left. */
static bool settle(struct ob_device *dev)
{
    struct shared_session *s = dev->session;
    uint32_t run = step_run(&dev->block);
    uint32_t rest = s->looked - run;
    bool early = rest && !dev->fds_end && !dev->quiesce && !dev->resting && !message_waits(dev);
    /* Of a message that has to wait, or whose descriptors came late, some may be taken already. */
    uint32_t taken = early ? s->looked : run > s->taken ? run : s->taken;
    uint32_t take = taken - s->taken;

    if (run == 0 && take == 0 && s->sent == 0)
        return true;
    if (take) {
        block_store(&s->take_intent, take);
        if (wire_take(dev->connection.fd, take) != (ssize_t)take) {
            server_disconnect(dev, "its bytes are gone");
            return false;
        }
    }
    server_step_begin(dev);
    server_touch(dev, &s->looked, offsetof(struct shared_session, next_id) -
                                      offsetof(struct shared_session, looked));
    if (rest && run) {
        server_touch(dev, dev->input, rest);
        memmove(dev->input, dev->input + run, rest);
    }
    s->looked = rest;
    s->taken = taken - run;
    s->take_intent = 0;
    s->sent = 0;
    s->fds_what = 0;
    step_commit(&dev->block, 0, 0);
    if (dev->fds_end)
        dev->fds_end -= run;
    twin_sent(dev); /* if the client's end was to be sent */
    return true;
}

/* Runs, answers and takes until no whole message is left. False: the client was disconnected, or does
 * not take its replies for now. */
static bool drive(struct ob_device *dev)
{
    do {
        if (!run_messages(dev))
            return false;
        if (dev->ioevents_wait && !server_stopped(dev))
            ioevent_run(dev);
        dma_pump(dev);
        if (!twin_flush(dev) || !flush(dev) || !settle(dev))
            return false;
    } while (message_waits(dev));
    return true;
}

/*
 * Looks and drives while there may be more: to the very end of the stream, if it has `ended`. A client
 * that sends faster than it is served gets no more than a buffer's worth before it is others' turn.
 */
static void take_in(struct ob_device *dev, bool ended)
{
    size_t seen = 0;
    bool more;

    do {
        more = false;
        ssize_t n = look(dev, &more);
        if (n < 0 || !drive(dev))
            return;
        seen += (size_t)n;
        more |= (ended && n > 0) || (dev->unlooked && !dev->quiesce);
    } while (more && seen < SHARED_BUFFER);
    if (more)
        watch_output(dev, false);
}

static void session_ready(struct watch *w, uint32_t events)
{
    struct ob_device *dev =
        (struct ob_device *)(void *)((uint8_t *)w - offsetof(struct ob_device, connection));

    if (dev->output_blocked) {
        if (!(events & ((uint32_t)EPOLLOUT | EPOLLHUP | EPOLLERR)))
            return;
        watch_output(dev, false);
        if (!drive(dev))
            return;
    }
    take_in(dev, events & ((uint32_t)EPOLLRDHUP | EPOLLHUP | EPOLLERR));
}

/* ---- Steps, and the life of a session ------------------------------------------------------------ */

void server_step_end(struct ob_device *dev, uint32_t run, uint32_t reply)
{
    step_commit(&dev->block, run, reply);
    irq_flush(dev);
    if (dev->irqs_changed) {
        irq_forget_unused(dev);
        record_interrupts(dev);
        dev->irqs_changed = false;
    }
    dma_drop_files(dev);
    if (dev->dirty)
        logging_settle(dev);
    if (dev->stopping)
        dev->resume = true; /* the message that waits for the device is tried again */
    if (dev->plugin->committed && !server_stopped(dev))
        dev->plugin->committed(dev);
}

static int watch_connection(struct ob_device *dev)
{
    dev->connection.ready = session_ready;
    dev->output_blocked = false;
    dev->fds_end = 0;
    return watch_control(dev->epoll, EPOLL_CTL_ADD, &dev->connection, EVENTS);
}

int server_attach(struct ob_device *dev, int sock)
{
    int ret = wire_set_peek_offset(sock, 0);
    if (ret == 0 && dev->keeping)
        ret = dev->keeping->put(dev->keeping->ctx, KEEP_CONNECTION, sock);
    if (ret < 0)
        return ret;
    dev->connection.fd = sock;
    ret = watch_connection(dev);
    if (ret < 0) {
        dev->connection.fd = -1;
        if (dev->keeping)
            dev->keeping->drop(dev->keeping->ctx, KEEP_CONNECTION);
        return ret;
    }
    server_step_begin(dev);
    server_touch(dev, dev->session, sizeof *dev->session);
    memset(dev->session, 0, sizeof *dev->session);
    dev->session->connected = 1;
    server_step_end(dev, 0, 0);
    record_client(dev, true);
    migration_attached(dev);
    return 0;
}

/* The last of a session: nothing uses its memory any more. */
static void drained(struct ob_device *dev)
{
    dev->draining = false;
    server_step_begin(dev);
    dma_unmap_all(dev);
    server_touch(dev, dev->session, sizeof *dev->session);
    memset(dev->session, 0, sizeof *dev->session);
    server_step_end(dev, 0, 0);
    guest_released(dev);
    if (dev->disconnected)
        dev->disconnected(dev, dev->disconnected_ctx);
}

void server_disconnect(struct ob_device *dev, const char *why)
{
    if (why)
        server_log(dev, "client disconnected: %s", why);
    epoll_ctl(dev->epoll, EPOLL_CTL_DEL, dev->connection.fd, NULL);
    wire_drain(dev->connection.fd);
    close(dev->connection.fd);
    dev->connection.fd = -1;
    if (dev->fds_end)
        wire_fds_close(&dev->fds);
    dev->fds_end = 0;

    server_step_begin(dev);
    irq_release(dev);
    logging_end(dev);
    dma_message_forget(dev);
    ioevent_release(dev);
    SET(dev, dev->session->connected, 0);
    SET(dev, dev->session->negotiated, 0);
    server_step_end(dev, 0, 0);
    record_client(dev, false);
    twin_close(dev);
    ioevent_forget(dev);
    migration_unstop(dev);
    dma_fail_all(dev);
    dma_pump(dev); /* what the device began at that */
    if (dev->keeping)
        dev->keeping->drop(dev->keeping->ctx, KEEP_CONNECTION);
    /* I/O that is under way ends in the memory of the client that began it, before another comes. */
    dev->draining = guest_all_pinned(dev);
    if (!dev->draining)
        drained(dev);
}

void server_push(struct ob_device *dev)
{
    if (dev->connection.fd < 0 || dev->output_blocked) {
        dma_pump(dev);
        twin_flush(dev);
    } else if (drive(dev) && dev->unlooked) {
        take_in(dev, true);
    }
    if (dev->draining && !dev->pin_count) /* perhaps since the end of a transfer just now */
        drained(dev);
}

uint64_t server_held_until(const struct ob_device *dev)
{
    return dev->connection.fd < 0 ? UINT64_MAX : held_until(dev);
}

void server_run_overdue(struct ob_device *dev, uint64_t now)
{
    if (server_held_until(dev) > now)
        return;
    dev->overdue = dev->resume = true;
    server_push(dev);
    dev->overdue = false;
}

/* What the kernel and the block say about the stream that the dead worker was reading. */
static int recover_stream(struct ob_device *dev)
{
    struct shared_session *s = dev->session;
    uint32_t run = step_run(&dev->block);
    int offset;

    int ret = wire_peek_offset(dev->connection.fd, &offset);
    if (ret < 0)
        return ret;
    uint32_t shown = s->looked - s->taken, went = 0;
    if (s->take_intent && offset >= 0 && (uint32_t)offset < shown)
        went = shown - (uint32_t)offset;
    uint32_t taken = s->taken + went;

    server_step_begin(dev);
    server_touch(dev, &s->looked, offsetof(struct shared_session, next_id) -
                                      offsetof(struct shared_session, looked));
    s->taken = taken;
    s->take_intent = 0;
    /* What is neither run nor taken is looked at again: its descriptors come only with a look. */
    s->looked = run > taken ? run : taken;
    step_commit(&dev->block, run, step_reply(&dev->block));
    return wire_set_peek_offset(dev->connection.fd, (int)(s->looked - s->taken));
}

static void recover_effect(struct ob_device *dev, enum effect_kind kind, uint64_t reached)
{
    if (kind == EFFECT_REPLY)
        block_store(&dev->session->sent, (uint32_t)reached);
    else if (kind == EFFECT_TWIN_OUT)
        block_store(&dev->work->commands.out, reached);
    else if (kind == EFFECT_TWIN_IN)
        block_store(&dev->work->commands.got, (uint32_t)reached);
}

int server_recover_session(struct ob_device *dev, enum effect_kind kind, uint64_t reached)
{
    int sock = dev->keeping->get(dev->keeping->ctx, KEEP_CONNECTION);
    if (sock < 0)
        return sock;
    dev->connection.fd = sock;
    recover_effect(dev, kind, reached);
    effect_done(&dev->block);
    int ret = recover_stream(dev);
    if (ret == 0)
        ret = watch_connection(dev);
    if (ret == 0)
        ret = ioevent_recover(dev);
    return ret < 0 ? ret : twin_recover(dev);
}

void server_recover_drained(struct ob_device *dev)
{
    drained(dev);
}

void server_resume(struct ob_device *dev)
{
    irq_flush(dev);
    if (dev->connection.fd >= 0) {
        if (!dev->session->negotiated)
            migration_attached(dev); /* the dead worker may not have come to it */
        session_ready(&dev->connection, EPOLLIN);
        if (!dev->halted && !dev->refuse_all)
            ioevent_run(dev);
        twin_resume(dev);
    } else {
        dma_fail_all(dev); /* the dead worker may not have come to it when its client went */
        server_push(dev);
    }
}

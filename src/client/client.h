/*
 * client.h - what the files of the client share: the connection, and how a message is exchanged.
 *
 * One mutex guards everything in struct ob_client. Two rights are passed around under it, each
 * held by one thread at a time, so that system calls happen without the mutex:
 *
 *   reading  to receive from the socket, and to look into the receive buffer. Held by a thread that
 *            waits for its own reply (it leads, the others that wait follow), by
 *            ob_client_process(), or by a thread whose send is blocked, because a server that
 *            cannot send may not receive either.
 *   sending  to put one message after the other into the socket. Whoever holds it sends the waiting
 *            answers to the server's commands before giving it up, so the thread that reads never
 *            waits for the one that sends.
 *
 * Where the server's commands have a socket of their own, that is a third one: see twin.c.
 *
 * Who gives `reading` up wakes one thread that waits for a reply, if there is one; so does a waiting
 * thread that leaves while nobody reads.
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include "wire/limits.h"
#include "wire/message.h"
#include "wire/socket.h"
#include "wire/version.h"

#include <outboard/client.h>
#include <pthread.h>
#include <stdatomic.h>

/* Requests under way at once. A power of two; the low bits of a message's id are the slot. */
#define CLIENT_SLOTS 256u

/* More requests than this without an answer: the server is beyond hope. */
#define CLIENT_MAX_ABANDONED 64u

/* Bytes of requests that wait to be sent together. */
#define CLIENT_HELD 8192u

/* Commands of the server that may wait for our answer before we stop to read. */
#define CLIENT_MAX_ANSWERS 256u

/* Receives in a row for a caller whose time is up, or who does not want to wait. */
#define CLIENT_LOOKS 64u

#ifdef __clang__
/*
 * Some members of struct wire_message end in an array of unknown length, which nobody uses here.
 */
#pragma clang diagnostic ignored "-Wgnu-variable-sized-type-not-at-end"
#endif

/* One command to the server and its reply. */
struct call {
    /*
     * Filled in by the caller: header.command, the fixed part (size `fixed`), and what follows
     * it.
     */
    struct wire_message request;
    size_t fixed;
    const void *data;
    size_t data_size;
    const int *fds;
    unsigned nfds;
    /* Where the reply's data goes; `got` bytes came, of which the first `room` were stored. */
    void *space;
    size_t room;
    size_t got;
    /* Takes the reply's descriptors. NULL: the reply must not have any. */
    struct wire_fds *reply_fds;
    struct wire_message reply;
    int result;
};

enum request_state {
    REQUEST_FREE,
    REQUEST_SENT,      /* a reply is due */
    REQUEST_DONE,      /* it is there, in *call */
    REQUEST_ABANDONED, /* it is due, but nobody waits for it any more */
};

struct ob_request {
    struct ob_client *client;
    enum request_state state;
    bool started; /* by ob_client_start_*() */
    uint16_t id;
    uint16_t command;
    struct call *call;
    struct call own; /* *call of a request that was started */
    uint64_t deadline;
    pthread_cond_t changed; /* done, or nobody reads any more */
    bool waiting;           /* on `changed`, and in the list of those who do */
    struct ob_request *next, *previous;
    struct ob_request *next_free;
};

/* The answer that a command of the server is to get. */
struct answer {
    struct vfio_user_header command;
    uint64_t address;
    uint64_t count;
    int error; /* positive errno, or 0 */
};

struct ob_client {
    pthread_mutex_t lock;
    int fd;
    bool negotiated;
    int failed; /* negative errno, once the connection is lost */
    char error[OB_CLIENT_ERROR_SIZE];

    struct wire_capabilities ours, theirs;
    uint16_t minor;
    size_t transfer; /* the most data in one message, by both sides' limits */

    atomic_uint timeout_ms;
    atomic_uint spin_us;

    bool sending;
    unsigned senders; /* threads that wait on `sent` */
    pthread_cond_t sent;
    struct answer answers[CLIENT_MAX_ANSWERS]; /* a ring */
    unsigned answers_first, answers_count;
    uint8_t *out; /* an answer's data, for who sends */
    uint8_t held[CLIENT_HELD]; /* whole messages that go before the next; nobody adds while one sends */
    size_t held_size;

    bool reading;
    struct ob_request *waiting; /* threads that wait for replies while another reads */
    uint8_t *in; /* WIRE_MAX_MESSAGE bytes, [in_start, in_end) are not yet dispatched */
    size_t in_start, in_end;
    struct wire_fds in_fds; /* of the message in which byte in_fds_end - 1 is */
    size_t in_fds_end;
    bool stalled; /* a command stays in `in` because `answers` is full */

    struct ob_request *free;
    unsigned started, abandoned;
    unsigned wants_slot;
    pthread_cond_t slot_freed;
    struct ob_request slots[CLIENT_SLOTS];

    void *dma; /* tree of struct dma_map */
    uint32_t dma_count;

    /* The twin socket, see twin.c. */
    bool want_twin;
    int twin_fd;        /* -1: there is none */
    bool twin_serving;  /* a thread is in ob_client_serve() */
    bool twin_busy;     /* a thread handles what is there */
    pthread_cond_t twin_idle;
    uint8_t *twin_in;   /* WIRE_MAX_MESSAGE bytes, of which twin_have are there */
    size_t twin_have;
    uint8_t *twin_out;  /* WIRE_MAX_DATA bytes: data of a reply */
};

/*
 * client.c. These two are called with the lock held; both keep the sentence of a lost connection.
 */
void client_set_error(struct ob_client *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Gives the connection up, and wakes everybody. Returns the error that it is lost with. */
int client_fail(struct ob_client *c, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Without the lock: remembers the sentence and returns `error`. */
int client_refuse(struct ob_client *c, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * call.c. All return the result: 0, what the server replied, or what went wrong. client_call
 * waits for the reply; client_post asks for none; client_start returns at once and leaves a
 * request whose `own` is a copy of *call.
 */
int client_call(struct ob_client *c, struct call *call);
int client_post(struct ob_client *c, struct call *call);
int client_start(struct ob_client *c, const struct call *call, struct ob_request **request);
/* The same, but the message may stay here until somebody waits for a reply: several go at once. */
int client_start_held(struct ob_client *c, const struct call *call, struct ob_request **request);
/*
 * A reply that was well-formed, but cannot be right: -EBADMSG, with the sentence. Without the
 * lock.
 */
int client_bad_reply(struct ob_client *c, const struct call *call, const char *what);
/* 0, -ENOTCONN, or the error that the connection is lost with. With the lock. */
int client_negotiated(struct ob_client *c);
/* The slot of a request can be used again. With the lock. */
void client_free_request(struct ob_client *c, struct ob_request *rq);

/* platform.c: reads the platform capability, n bytes at most. NULL, or what is wrong with it. The strings
 * stay where they are. */
const char *client_take_platform(struct ob_region *r, const uint8_t *bytes, size_t n);

/* send.c, with the lock held, which is given up meanwhile. */
/* Sends a whole message. -ETIMEDOUT: nothing was sent; else the connection is lost on errors. */
int client_send(struct ob_client *c, struct call *call, uint64_t deadline);
/* Keeps a message to be sent with the next one, if it can; else sends it. */
int client_hold(struct ob_client *c, struct call *call, uint64_t deadline);
/* Sends what was kept. 0 or as client_send(). */
int client_flush(struct ob_client *c, uint64_t deadline);
/*
 * Sends the waiting answers, unless another thread sends, who will do it. For who holds
 * `reading`.
 */
void client_answer(struct ob_client *c);

/* receive.c, with the lock held, which is given up meanwhile, by the holder of `reading`. */
/*
 * Receives once, waiting until the deadline, and dispatches. 0, -ETIMEDOUT, or the connection's
 * error. CLIENT_NO_WAIT as deadline: -ETIMEDOUT if nothing is there.
 */
#define CLIENT_NO_WAIT 0u
int client_receive(struct ob_client *c, uint64_t deadline);
/* Handles the messages that are in the buffer. The reader, or anybody while there is no reader. */
void client_dispatch(struct ob_client *c);
/* Gives `reading` up. */
void client_stop_reading(struct ob_client *c);
/* Takes in what has arrived, unless another thread reads. */
void client_look(struct ob_client *c);

/*
 * twin.c, with the lock held, which is given up meanwhile. client_twin_fd: what a thread that waits
 * for something else has to watch as well, -1: nothing, or another thread does. client_twin: handles
 * what has arrived there, without waiting, unless another thread does.
 */
int client_twin_fd(const struct ob_client *c);
void client_twin(struct ob_client *c);

/* dma.c, with the lock held. */
/* Carries out what a command of the server asks, or prepares it; false: no answer is due. */
bool client_command(struct ob_client *c, const void *bytes, size_t n, size_t nfds,
                    struct answer *a);
/* Copies n bytes of the device's memory to buf, or from it. 0 or a positive errno. */
int client_dma_copy(struct ob_client *c, uint64_t address, void *buf, uint64_t n, uint32_t need);
void client_dma_clear(struct ob_client *c);
/* A DMA_MAP or DMA_UNMAP has come to its end. Other requests are fine. */
void client_dma_ended(struct ob_client *c, const struct wire_message *request, int result);

/*
 * call.c: CLOCK_MONOTONIC in ns; the moment until which a wait that begins now may last; and a
 * wait until a moment, for which false means that it has passed.
 */
uint64_t client_now(void);
uint64_t client_deadline(struct ob_client *c);
bool client_wait(struct ob_client *c, pthread_cond_t *cond, uint64_t deadline);
/* For poll(2): the milliseconds until a moment, rounded up. */
int client_ms_until(uint64_t deadline);

#endif

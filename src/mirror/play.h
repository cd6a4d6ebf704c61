/*
 * play.h - one connection: messages in and out, and the notes taken of what the client does.
 */
#ifndef MIRROR_PLAY_H
#define MIRROR_PLAY_H

#include "mirror/device.h"
#include "mirror/reply.h"
#include "mirror/watch.h"
#include "wire/version.h"

struct misbehaviour;

/* A command that the mirror has sent. */
struct asked {
    uint16_t id;
    uint16_t command;
    uint64_t address, count;
    bool no_reply;
    bool must_fail; /* success would be wrong */
    unsigned answers;
};
#define PLAY_ASKED 4096u
#define PLAY_GONE 64u

/* A command of the client that waits for its turn. */
struct waiting {
    uint8_t *bytes;
    size_t n;
    struct wire_fds fds;
    struct waiting *next;
};

struct play {
    const struct misbehaviour *m; /* NULL: none */
    int sock;
    int stop;     /* readable: end */
    pid_t client; /* the process at the other end */
    unsigned timeout_ms;
    bool reads_registers; /* the client does: else, AT_READ is config space */

    struct device device;
    struct wire_capabilities limits; /* what we told the client */
    bool offers_twin;                /* the client has offered us a twin socket */

    /* Input. */
    uint8_t *in;
    size_t in_size;
    struct wire_fds in_fds; /* of the message that the last byte is part of */
    struct waiting *first, **last;
    unsigned waiting;
    bool closed; /* by the client */
    bool over;   /* by us */
    bool stopped;

    /* What happened. */
    bool acted;
    bool owes;         /* the request at which it happened has got no proper reply */
    bool deaf;         /* nothing gets a reply any more */
    int later;         /* a file that is to be cut off once the client has mapped it; -1: none */
    int keep;          /* a descriptor that stays open as long as the connection; -1: none */
    uint64_t acted_at; /* ns; of the last byte sent for it */
    uint64_t next_at;  /* ns; of the client's first command after that; 0: none yet */
    uint64_t heard_at; /* ns; of the last sign of life */
    unsigned commands; /* of the client, after it */
    bool register_read;
    uint64_t gone[PLAY_GONE]; /* addresses of DMA maps that were taken away, the last ones */
    unsigned gone_count;
    struct watch watch;
    struct asked asked[PLAY_ASKED];
    unsigned asked_count, answered;
    char wrong[160]; /* what the client did that it must not; the first of it */
};

/* Returns when the client has closed the connection, the misbehaviour has ended it, the client shows
 * no sign of life for the timeout, or `stop` is readable. */
void play(struct play *p);
void play_free(struct play *p);

/* Notes what the client must not do. */
void play_wrong(struct play *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- For misbehaviours ------------------------------------------------------------------- */

/* Sends bytes, or as many as the client takes within the timeout. */
void play_send(struct play *p, const void *bytes, size_t n, const int *fds, unsigned nfds);
void play_send_reply(struct play *p, const struct reply *r);
/* Does not wait: false when the client does not take more now. */
bool play_try_send(struct play *p, const void *bytes, size_t n);
/* Sends nothing for so long, and takes in what comes; or does not even take in. */
void play_pause(struct play *p, unsigned ms);
void play_nap(struct play *p, unsigned ms);
/* Takes notes of the client's process now; it is done at each command of the client anyway. */
void play_look(struct play *p);
/* Of its size alone, which changes without a command, too. */
void play_look_size(struct play *p);
/* Serves the command that waits, as ever. *r is overwritten. */
void play_serve_next(struct play *p, struct reply *r);
/* Ends the connection. */
void play_close(struct play *p);

/* Notes that a command is going to be sent, and chooses its id. must_fail: a success as its answer
 * would be wrong. NULL: too many were sent. */
struct asked *play_note(struct play *p, uint16_t command, uint32_t flags, uint64_t address,
                        uint64_t count, bool must_fail, uint16_t *id);
/* Sends a command with the structure of DMA commands. `data`: what follows it, at most PLAY_DATA bytes. */
#define PLAY_DATA 64u
void play_ask(struct play *p, uint16_t command, uint32_t flags, uint64_t address, uint64_t count,
              const void *data, size_t data_size, bool must_fail);

uint64_t play_now(void);

#endif

/*
 * fake_server.h - the other end of a client under test: a thread that plays a server, by script.
 *
 * It speaks the protocol by hand, without the code that the client is made of. Checks in its
 * thread do not end the test at once: fake_stop() reports the first that failed.
 */
#ifndef FAKE_SERVER_H
#define FAKE_SERVER_H

#include <outboard/client.h>
#include <pthread.h>

#define FAKE_MAX 70000u

struct fake_message {
    struct vfio_user_header h;
    uint8_t body[FAKE_MAX];
    size_t size; /* of the body */
    int fds[64];
    unsigned nfds;
};

struct fake {
    int sock;
    pthread_t thread;
    void (*script)(struct fake *);
    void *data;            /* the script's */
    struct fake_message m; /* the one taken last */
    char wrong[200];
    /* The device that fake_serve() plays. */
    uint8_t memory[200000]; /* region 0 */
    unsigned taken[VFIO_USER_COMMANDS];
    uint32_t largest; /* count of any region access */
};

/* Starts the thread; *c is connected to it, and has negotiated if the script did. */
void fake_start(struct fake *f, void (*script)(struct fake *), void *data, struct ob_client *c,
                int *result);
/*
 * Ends the client, then the thread. Fails the test if a check of the script failed, or if
 * descriptors have been left open since fake_start().
 */
void fake_stop(struct fake *f, struct ob_client *c);

/* ---- For scripts ------------------------------------------------------------------------- */

#define FAKE_CHECK(f, condition)                           \
    do {                                                   \
        if (!(condition)) {                                \
            fake_wrong(f, #condition, __FILE__, __LINE__); \
            return;                                        \
        }                                                  \
    } while (0)
void fake_wrong(struct fake *f, const char *what, const char *file, int line);

/* Takes the next message into f->m (descriptors of the one before are closed). false: the end. */
bool fake_take(struct fake *f);
/* Takes the next message, which must be this command. */
bool fake_expect(struct fake *f, uint16_t command);
void fake_send(struct fake *f, const void *bytes, size_t n, const int *fds, unsigned nfds);
/* Replies to f->m. */
void fake_reply(struct fake *f, const void *body, size_t n, const int *fds, unsigned nfds);
void fake_error(struct fake *f, uint32_t error);
/* Takes VERSION and replies; capabilities: JSON, or NULL for no version data. */
bool fake_version(struct fake *f, const char *capabilities);
/* Replies to f->m as an ordinary device would. */
void fake_device(struct fake *f);
/* fake_version(), then fake_device() to the end. */
void fake_serve(struct fake *f);
/* Sends a command and takes its reply into f->m, which must be the next message. */
bool fake_dma(struct fake *f, uint16_t command, uint64_t address, uint64_t count, const void *data,
              uint32_t *error);
/* The command alone. */
void fake_send_dma(struct fake *f, uint16_t id, uint16_t command, uint64_t address, uint64_t count,
                   const void *data);

unsigned open_descriptors(void);

#endif

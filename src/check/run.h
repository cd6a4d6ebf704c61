/*
 * run.h - what all checks have in common: their table, the run, and what they may say and expect.
 *
 * A check is a function that returns when all is well. The functions below that find something else
 * do not return: they end the check (longjmp), and the runner closes what it had opened.
 */
#ifndef CHECK_RUN_H
#define CHECK_RUN_H

#include "check/check.h"
#include "check/peer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

struct run;

struct check {
    const char *id;
    const char *title;
    const char *cite;
    void (*run)(struct run *r, const struct check *c);
    unsigned needs; /* NEED_* */
    uint64_t a, b;  /* parameters, where one function serves several checks */
};

enum {
    NEED_OWN = 1,         /* a connection of its own: what it does may end the connection */
    NEED_DESTRUCTIVE = 2, /* may change the device */
    NEED_PCI = 4,         /* about config space */
    NEED_MAPPED = 8,      /* memory with descriptors */
    NEED_MESSAGES = 16,   /* memory without */
    NEED_MULTI = 32,      /* VFIO_USER_REGION_WRITE_MULTI was agreed on */
    NEED_MIGRATION = 64,  /* VFIO_DEVICE_FEATURE_MIGRATION */
    NEED_LOGGING = 128,   /* VFIO_DEVICE_FEATURE_DMA_LOGGING_START and so on */
};

struct group {
    const struct check *checks;
    size_t count;
};
#define GROUP(name, table) const struct group name = { table, sizeof table / sizeof table[0] }

extern const struct group check_header, check_messages, check_device, check_regions, check_access,
    check_config, check_config_write, check_multi, check_io_fds, check_irqs, check_set_irqs,
    check_set_irqs_bad, check_dma, check_dma_fds, check_feature, check_logging, check_migration,
    check_reset, check_version, check_limits, check_framing, check_session, check_robust;

/* ---- What is known about the server before the checks begin ---------------------------------- */

enum { FACTS_REGIONS = 64, FACTS_IRQS = 16 }; /* of more than that, the first ones are checked */

struct facts {
    uint32_t max_msg_fds; /* what holds for what we send: from the reply, or the default */
    uint32_t max_data;    /* max_data_xfer_size */
    uint32_t max_dma_maps;
    bool names_max_dma_maps; /* it is in the reply */
    bool write_multiple;
    struct vfio_user_device_info device;
    uint32_t regions;                              /* of device.num_regions, those below */
    struct vfio_region_info region[FACTS_REGIONS]; /* size 0 where it was refused */
    uint32_t irqs;
    struct vfio_irq_info irq[FACTS_IRQS]; /* count 0 where it was refused */
    uint64_t migration;                   /* VFIO_MIGRATION_*, 0: it cannot */
    bool logging;
};

/* Memory that a check has offered, so that the server's own requests can be answered. */
struct offer {
    uint64_t address, size;
};
enum { MOST_OFFERS = 16, MOST_PEERS = 72, MOST_FDS = 600, MOST_BLOCKS = 128 };

struct run {
    const struct check_options *options;
    struct facts facts;
    jmp_buf over;
    enum verdict verdict;
    char detail[512];
    struct peer client;            /* negotiated, for the checks of a session */
    struct peer peers[MOST_PEERS]; /* others that a check has opened */
    unsigned peer_count;
    int fds[MOST_FDS]; /* that a check has opened */
    unsigned fd_count;
    void *blocks[MOST_BLOCKS]; /* and memory */
    unsigned block_count;
    struct offer offers[MOST_OFFERS];
    unsigned offer_count;
    bool dead; /* nobody serves us any more: the rest is not run */
};

/* ---- The end of a check ---------------------------------------------------------------------- */

/* "expected ..., got ...": one line. */
_Noreturn void fail(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
_Noreturn void skip(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Goes on: it is allowed, but somebody should know. The first note counts. */
void note(struct run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- Questions and answers ------------------------------------------------------------------- */

/* A command and what goes with it. */
struct ask {
    uint16_t command;
    const void *body;
    size_t size;
    const int *fds;
    unsigned nfds;
    uint32_t flags; /* of the header: VFIO_USER_FLAG_NO_REPLY */
};
#define ASK(command, structure) \
    (&(struct ask){ command, &(structure), sizeof(structure), NULL, 0, 0 })

enum outcome {
    SERVED,
    REFUSED, /* an error reply */
    CLOSED,  /* the connection */
};

/* The negotiated connection of this check. */
struct peer *client(struct run *r);

/* A connection without VERSION yet; the negotiated one is closed for it, as a server has one
 * client. another() leaves it open. */
struct peer *stranger(struct run *r);
struct peer *another(struct run *r);

/* Sends, and returns the outcome; silence, and a reply that is none, fail the check. On the
 * client(), or on another connection. */
enum outcome try(struct run *r, const struct ask *ask);
enum outcome try_on(struct run *r, struct peer *p, const struct ask *ask);

/* As try(), and judges. The reply is in client(r), `at_least` bytes of body. */
const void *served(struct run *r, const struct ask *ask, size_t at_least);
/* `error`: what Linux's VFIO says; another one is worth a note. 0: any. */
void refused(struct run *r, const struct ask *ask, int error);
/* An error reply or the end of the connection. */
void not_served(struct run *r, const struct ask *ask);

/* Sends without waiting. */
uint16_t post(struct run *r, const struct ask *ask);
/* Receives the reply that is next, whatever it answers; commands of the server are answered
 * before. */
enum outcome next_reply(struct run *r, struct peer *p);
/* ...which has to answer this command. */
enum outcome reply_to(struct run *r, struct peer *p, uint16_t id, uint16_t command);
/* Raw bytes. The server may have gone: then false. */
bool send_raw(struct run *r, struct peer *p, const void *bytes, size_t n, const int *fds,
              unsigned nfds);
/* The connection still works: asks something harmless. */
void still_works(struct run *r, struct peer *p);
/* What became of a connection on which something bad was sent: REFUSED (an error reply came),
 * CLOSED, or SERVED (a reply without an error). *silent is set (and REFUSED returned) when
 * nothing came. */
enum outcome consequence(struct run *r, struct peer *p, bool *silent);

/* VERSION with this JSON (NUL is added) or without data (NULL). */
enum outcome negotiate(struct run *r, struct peer *p, uint16_t minor, const char *json);

/* ---- Things that go with messages ------------------------------------------------------------ */

/* All are closed, or freed, when the check ends. */
void *zeroes(struct run *r, size_t n); /* memory */
int keep(struct run *r, int fd);       /* this one */
int an_eventfd(struct run *r);
int a_memory_file(struct run *r, uint64_t size);
void a_pipe(struct run *r, int fds[2]);
int a_file(struct run *r, const char *path, int flags);
void give_away(struct run *r, int fd); /* closes ours, now */
uint64_t eventfd_count(int fd);        /* and sets it back to 0 */

/* A region of the right kind: with a file, or without. */
#define BASE UINT64_C(0x10000000000)
#define PAGE UINT64_C(4096)
struct vfio_user_dma_map a_map(uint64_t address, uint64_t size);
enum outcome try_map(struct run *r, const struct vfio_user_dma_map *map, int fd); /* fd -1: none */
void map(struct run *r, uint64_t address, uint64_t size, int fd);
enum outcome try_unmap(struct run *r, uint64_t address, uint64_t size, uint32_t flags);
void unmap(struct run *r, uint64_t address, uint64_t size);
/* Is something mapped here? Found out by mapping over it, which is undone. */
bool is_mapped(struct run *r, uint64_t address, uint64_t size);
/* The descriptor for a map of this check: a new file, or -1 if it is one of messages. */
int memory_for(struct run *r, const struct check *c, uint64_t size);

/* A whole, harmless request of this command; its size, or 0: there is none that is harmless. */
size_t harmless(struct run *r, uint16_t command, void *body);
enum { HARMLESS_SPACE = 64 };

/* The first interrupt type with eventfds, or the check is skipped. */
uint32_t some_irq(struct run *r);
bool is_pci(const struct run *r);
/* Bytes of config space, or the check fails. n is at most 8. */
uint64_t config_get(struct run *r, uint32_t at, unsigned n);
void config_set(struct run *r, uint32_t at, unsigned n, uint64_t value);
uint32_t config_size(const struct run *r);

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

#endif

/*
 * keeper.h - the parent of a device's workers: what it holds, and which file does what.
 *
 * The keeper holds what has to outlive a worker: the listening socket, the connection, guest memory,
 * interrupts, the block (all of them as descriptors of which it knows nothing but their names), and the
 * backend files that the command line names. When a worker dies it starts another, which finds all that
 * and goes on. It runs no device code, reads no message of a client and no byte of a guest.
 *
 *   keeper.c   the command line, the loop, the end
 *   door.c     clients that come: each gets a seat, from which a worker calls it
 *   requests.c what a worker asks for
 *   child.c    starting a worker; what it leaves behind; when the next one starts
 *   upgrade.c  from one program for workers to another, and back
 *   reexec.c   the keeper itself becomes another build
 *   spaces.c   a PID namespace for each worker
 *   control.c  what the command line asks for
 *   held.c     descriptors under names
 *   packet.c   packets with descriptors, from whom nobody trusts
 */
#ifndef KEEPER_KEEPER_H
#define KEEPER_KEEPER_H

#include "keeper/control.h"
#include "keeper/held.h"
#include "keeper/protocol.h"

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <termios.h>

/* How a worker is to begin. */
enum child_role {
    CHILD_SERVE,  /* the device */
    CHILD_DROP,   /* refuse the message that killed three, and end; runs no device code */
    CHILD_FAILED, /* serve a device that has failed, for good; runs no device code */
    CHILD_UPGRADE, /* take over from a worker of another program, which is at rest */
    CHILD_LOST,   /* as CHILD_FAILED, but without what earlier workers left, which ends whoever takes it over */
    CHILD_REFUSE, /* refuse all messages that wait, since nobody else came to it, and end; runs no device code */
};

#define MAX_FILES 64u
#define MAX_REMOVE 8u
struct backend {
    const char *path;
    int fd;    /* O_PATH: which file that is, whatever the path leads to later */
    int error; /* -errno, if it could not be opened */
    bool readonly;
};

/* Somebody on the control socket. */
#define CONTROL_MOST 4u
struct control {
    int fd; /* -1: nobody */
    uint64_t heard; /* CLOCK_MONOTONIC ns: of them last */
};

enum upgrade_phase {
    UPGRADE_NONE,
    UPGRADE_REST,  /* the worker is to come to rest */
    UPGRADE_LOAD,  /* the new one is to take over */
    UPGRADE_WATCH, /* the new one serves, and is to live for a second */
    UPGRADE_UNDO,  /* the old one is to go on */
};

struct upgrade {
    enum upgrade_phase phase;
    int program; /* the other one: while the new one serves, that is the old */
    char *path;  /* of it */
    struct control *asker; /* or NULL: gone */
    pid_t asked;   /* to come to rest: it may, long after the upgrade was given up */
    pid_t leaving; /* it rests, and ends by itself: that may take a while */
    uint64_t began;
    uint64_t deadline; /* of the phase */
    bool rests;
    char why[CONTROL_WHY]; /* it fails */
};

struct keeper {
    char **word_list; /* our own command line, but for --resume; it ends with a NULL */
    int words;
    int resume;              /* what it was before this build: see reexec.c; -1: nothing */
    bool try;                /* only to see whether that can be read */
    const char *name;        /* of the device, for lines of log */
    char **command;          /* a worker's */
    int program;             /* the first word of it, whatever stands at its path later */
    const char *socket_path; /* to be removed at the end, or NULL */
    const char *remove[MAX_REMOVE]; /* sockets of the device's own, once it was ready */
    unsigned removes;
    int door;                /* listening socket, or -1 */
    const char *control_path; /* the same of the control socket */
    int control_door;
    struct control control[CONTROL_MOST];
    bool no_spaces;          /* --sandbox=off */
    bool one_client;         /* the connection was given to us: its end is ours */
    int ready_fd;            /* -1: nobody asks, or was told */
    int notify_fd;           /* a service manager's socket, or -1 */
    struct backend file[MAX_FILES];
    unsigned files;
    int most; /* numbers of descriptors that workers may fill: some are left for ourselves */

    struct held_table held;
    uint64_t sent_which; /* the last SEND, and its answer */
    int sent_answer;

    bool has_terminal;       /* on standard input, which... */
    struct termios terminal; /* ...was like this */
    int signals;  /* signalfd */
    bool ending;  /* asked to */
    int status;   /* exit status */

    pid_t child; /* 0: none */
    int socket;  /* to it, or -1 */
    int counts;  /* /proc/PID/task/PID/io of it */
    bool ready;  /* some worker was, once... */
    uint64_t child_ready; /* ...and since when this one is, CLOCK_MONOTONIC ns; 0: it is not */
    bool child_heard; /* it has asked for something: so much of it runs */
    int start_error;  /* why there is none; 0: it could be started */
    enum child_role role;
    uint64_t alone;     /* since when the device has had no worker that is ready; 0: it has one */
    bool in_step;       /* the last one died inside a step */
    uint64_t messages;  /* that had been run when the last one died... */
    uint32_t message_deaths; /* ...and how many in a row died of the next */
    uint32_t deaths;    /* in a row that got nowhere: the pause grows */
    uint64_t waits_since; /* CLOCK_MONOTONIC ns: a message was seen to wait while no worker was ready; 0: none */
    uint32_t faults;    /* deaths by what workers did otherwise */
    uint64_t start_at;  /* CLOCK_MONOTONIC ns: when the next worker starts; 0: not */
    struct keeper_answer dead; /* what the last one left */
    struct upgrade upgrade;
    struct keeper_status status_so_far; /* of which control.c fills in the rest */
};

/* One line on stderr. */
void keeper_log(const struct keeper *k, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* To a service manager, if there is one. */
void keeper_notify(const struct keeper *k, const char *text);
/* Around a call that a worker could make wait, by the descriptor that it gave or what it did to one: it ends with
 * -EINTR after a while. */
void keeper_hurry(bool on);
uint64_t keeper_now(void);  /* CLOCK_MONOTONIC ns */
uint64_t keeper_date(void); /* CLOCK_REALTIME ns */

/* child.c */
void child_start(struct keeper *k);  /* what cannot be is tried again */
void child_ended(struct keeper *k);  /* after SIGCHLD: buries it, and plans its successor */
void child_found_itself(struct keeper *k); /* CHILD_LOST is ready */
void child_signal(const struct keeper *k, int signal);
pid_t child_leave(struct keeper *k); /* it is of no concern any more, apart from being buried */

/* spaces.c: fork(2), where it can be with a PID namespace for the child */
pid_t spaces_fork(struct keeper *k);

/* requests.c: serves what the worker asks for now. -1: it has closed its end. */
int requests_serve(struct keeper *k);

/* door.c */
bool door_open(const struct keeper *k); /* is there a free seat? */
void door_accept(struct keeper *k);
int door_bell(struct keeper *k);
void door_failed(const struct keeper *k, int error); /* whoever could not be accepted is still there */

/* upgrade.c */
int upgrade_begin(struct keeper *k, struct control *c, int program, const char *path, const char **why);
void upgrade_told(struct keeper *k, const void *text, size_t size); /* why it fails */
void upgrade_rests(struct keeper *k);
void upgrade_ready(struct keeper *k);
bool upgrade_ended(struct keeper *k, const siginfo_t *info); /* a worker: true, if that is all right */
void upgrade_tick(struct keeper *k);

/* reexec.c: returns only if it does not come to that; the other, what has become of it */
int reexec(struct keeper *k, const struct control *asker, int program, const char *path, const char **why);
int reexec_resume(struct keeper *k, int fd, bool try);

/* control.c */
void control_answer(struct keeper *k, struct control *c, int result, const char *why);
void control_accept(struct keeper *k);
void control_ready(struct keeper *k, struct control *c);

#endif

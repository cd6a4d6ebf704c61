/*
 * control.h - what the command line asks of a keeper, over its control socket.
 *
 * A SOCK_SEQPACKET socket: one packet is one request, and gets one answer. The keeper formats nothing for
 * people, and tells only those who connected as its own user, or as root: others get one answer, -EACCES.
 */
#ifndef KEEPER_CONTROL_H
#define KEEPER_CONTROL_H

#include <stdint.h>

enum control_what {
    CONTROL_STATUS = 1, /* beside the answer: the block, opened anew for reading alone, if there is one */
    CONTROL_UPGRADE,    /* beside the request: a program, which shall run the device from now on. The answer
                         * comes when it has done so for a second, or the one before it goes on. */
    CONTROL_REEXEC,     /* the same for a program that shall be the keeper from now on, and answers */
};

#define CONTROL_PATH 4096u
struct control_request {
    uint32_t what;
    uint32_t size; /* of the packet: this, and of the last two the path of the program, with its NUL */
    char path[];
};

#define CONTROL_NAME 64u
#define CONTROL_WHY 256u

struct keeper_status {
    int32_t keeper; /* PIDs */
    int32_t worker; /* 0: there is none at this moment */
    uint32_t number; /* of the worker, from 1 */
    uint32_t role;   /* enum child_role: 0 serves, 1 and 5 refuse messages, 2 and 4 stand in for a failed device */
    uint32_t ready;  /* some worker was, once */
    uint32_t seats;  /* clients that wait to become the session, or to be sent away */
    uint32_t held;   /* descriptors in keeping */
    uint32_t killed;  /* workers that died of SIGKILL, */
    uint32_t crashed; /* of another signal, */
    uint32_t ended;   /* or ended by themselves, and should not have */
    uint32_t refused; /* messages that killed too many */
    int32_t last_signal; /* of the last of these deaths; 0: it ended... */
    int32_t last_status; /* ...with this */
    uint32_t last_core;  /* and the kernel wrote a core, or gave it to somebody */
    uint32_t upgrades;
    uint32_t upgrades_undone; /* or never begun */
    uint32_t reserved;
    int32_t client;      /* PID of the session's client as it connected; 0: none, or not known */
    uint64_t pause;          /* ns from the last death to the next worker that was ready */
    uint64_t upgrade_pause;  /* ns that the last one took from one worker to the other */
    uint64_t last_death;     /* CLOCK_REALTIME ns; 0: none has died */
    uint64_t keeper_started; /* CLOCK_REALTIME ns */
    uint64_t worker_started;
    char name[CONTROL_NAME]; /* of the device; ends with a NUL */
};

struct control_answer {
    int32_t result; /* 0 or -errno */
    uint32_t size;  /* of this structure */
    struct keeper_status status; /* zeros, where it is -EACCES */
    char why[CONTROL_WHY];       /* a sentence, where there is one to be said */
};

#endif

/*
 * look.h - what the block of a served device tells, read in another process.
 *
 * Its bytes are a worker's, which may have been taken over: they are copied once, checked, and texts are
 * made printable. Numbers are what the worker says.
 */
#ifndef CLI_LOOK_H
#define CLI_LOOK_H

#include "cli/control.h"
#include "state/facts.h"

#include <stdbool.h>
#include <stdio.h>

#define LOOK_WHY 160

struct look {
    const struct control_target *target;
    char why[LOOK_WHY]; /* "": all of this is there; else one sentence why nothing, or less, is known */
    bool answered;      /* the keeper has, with: */
    struct keeper_status status;
    bool block;         /* there is one, and it says: */
    struct shared_facts facts;
    unsigned events;    /* of the flight recorder, oldest first */
    struct recorded event[RECORDER_EVENTS];
    uint64_t in_hand;   /* sequence number of the message that is being served, 0: none */
};

/* Asks a keeper, and reads the block that it shows. False: look->why says what is wrong. */
bool look_at(const struct control_target *target, struct look *look);

/* The block alone. */
bool look_block(int fd, struct look *look);

bool look_is_pci(const struct look *look);
unsigned look_restarts(const struct look *look);

/* "serving", "idle" (no client), "starting", "refusing", "failed". */
const char *look_state(const struct look *look);

/* ---- In words ---- */
#define LOOK_TEXT 32
const char *look_count(uint64_t n, char text[LOOK_TEXT]);          /* 987, 12.3k, 4.5M */
const char *look_bytes(uint64_t n, char text[LOOK_TEXT]);          /* 512, 4.0K, 1.5G: powers of 1024 */
const char *look_time(uint64_t ns, char text[LOOK_TEXT]);          /* 850ns, 12.3us, 4.5ms, 1.2s; 0: - */
const char *look_age(uint64_t since, char text[LOOK_TEXT]);        /* CLOCK_REALTIME ns; 12s, 5m12s, 2h05m, 3d04h */
const char *look_moment(uint64_t realtime, char text[LOOK_TEXT]);  /* 2026-11-23 05:12:01.250, local */

/* What a worker died of, in a line: "SIGSEGV, address 0x10, at edu.so+0x1234". */
#define LOOK_DEATH 200
const char *look_death(const struct look *look, char text[LOOK_DEATH]);

/* What it was doing then: "while it served ...", "while it took over". False: nothing that is known. */
bool look_doing(const struct look *look, char text[LOOK_DEATH]);

/* Where the kernel puts cores, as it says itself: a name, or a program. */
const char *look_core(char text[LOOK_DEATH]);

#endif

/*
 * faults.h - points at which a worker can be made to stop for ever, and who shares them with it.
 *
 * `outboard-faults` is the program of the same objects as `outboard`, linked with a wrapper around each function
 * that is a step of recovery, or that devices call (faults.c). Before and after each is a point. A worker that comes
 * to one that is armed stays there: nothing it could do would leave the process; the test kills it. In between is a
 * file in memory, named by the environment's FAULTS.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdatomic.h>
#include <stdint.h>

#define FAULTS_MOST 256u

struct faults {
    _Atomic uint32_t count;        /* of points, 2 for each function */
    _Atomic uint32_t at;           /* 1 + the point to stop at, 0: none... */
    _Atomic uint32_t pass;         /* ...when it is come by so often... */
    _Atomic uint32_t next;         /* ...and whoever is next stops at the nth point that it comes by, 0: at none */
    _Atomic uint32_t stopped;      /* 1 + the point where somebody is, 0: nobody */
    _Atomic uint32_t takeover;     /* points that the last successor came by until it served */
    _Atomic uint64_t hits[FAULTS_MOST];
    char name[FAULTS_MOST][48];
};

#endif

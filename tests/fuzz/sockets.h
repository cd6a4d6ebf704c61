/*
 * sockets.h - stream sockets of this process alone, in the place of the kernel's.
 *
 * More than half of the time of an input went into the kernel's sockets. When a fuzzer runs, those that
 * socketpair() makes are these instead (the linker leads the calls here), with what the code under test
 * relies on: looks with a peek offset, descriptors that end a receive, full buffers, edges and levels of
 * epoll, shutdown, the reset that a close with unread bytes is. Ordinary tests run the same inputs on
 * the kernel's, and sockets_test.c compares the two.
 */
#ifndef FUZZ_SOCKETS_H
#define FUZZ_SOCKETS_H

#include <poll.h>

/* Weak: in ordinary tests there are none of these. */
unsigned sockets_open(void) __attribute__((weak)); /* how many descriptors */
int sockets_poll(struct pollfd *fds, nfds_t n) __attribute__((weak)); /* like poll(), without waiting */

#endif

/*
 * library.h - what the cases of the program "library" share: the connection, and checks that end the
 * program.
 */
#ifndef TESTS_LIBRARY_H
#define TESTS_LIBRARY_H

#include <outboard/client.h>

#include <sys/types.h>

extern const char *path; /* the server's socket */
extern pid_t server;
extern struct ob_client *c; /* the connection that get() and set() use */

/* They print FILE, line and the library's last error, and exit. */
#define CHECK(is, should) check(__FILE__, __LINE__, #is, (long long)(is), (long long)(should))
#define TRUE(what) check(__FILE__, __LINE__, #what, !!(what), 1)
void check(const char *file, int line, const char *what, long long is, long long should);

struct ob_client *connected(void); /* also in c */

/* Registers in BAR 0. */
uint32_t get(uint64_t at);
void set(uint64_t at, uint32_t value);
void set64(uint64_t at, uint64_t value);
void bus_master(void);

/* Interrupts so far, 0 if none; after waiting for one; a new eventfd for them. */
uint64_t count(int fd);
uint64_t wait_for(int fd);
int event(void);

int memory_file(size_t size, void **p);

/* library_memory.c */
void case_interrupts(void);
void case_vectors(void);
void case_dma_by_descriptor(void);
void case_dma_by_messages(void);
void case_process(void);
void case_large(void);
void case_mappings(void);
void case_threads(void);

/* library_platform.c */
void case_serial_driver(void);
void case_rtc_driver(void);
void case_rtc_migrates(void);

/* library_twin.c */
void case_twin(void);
void case_twin_process(void);
void case_twin_serve(void);
void case_twin_declined(void);

#endif

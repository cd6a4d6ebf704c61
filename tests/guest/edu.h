/*
 * edu.h - the teaching device, driven from the guest's user space.
 *
 * edu.c holds the checks. How a program gets at a device is a way: edu_uio.c and edu_vfio.c. A
 * function that cannot do what it is for says so and ends the program with status 1.
 */
#ifndef EDU_H
#define EDU_H

#include <stdint.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))

/* Memory that the device is given: enough for transfers that begin anywhere and cross pages. */
#define MEMORY_SIZE (1u << 21)

struct edu {
    const struct way *way;
    const char *pci; /* "0000:01:00.0" */
    int cpu; /* the one that is to be interrupted, -1: any */
    volatile uint8_t *bar;
    uint8_t *memory;  /* MEMORY_SIZE bytes ... */
    uint64_t address; /* ... and where the device finds them */
};

struct way {
    const char *name;
    void (*open)(struct edu *edu);
    /* The interrupts that came since the last call; waits for the first one, at most so long. */
    unsigned (*wait)(struct edu *edu, int ms);
    /* Lets the next interrupt through. */
    void (*unmask)(struct edu *edu);
    /* Bytes of the device's config space. */
    uint16_t (*config_read)(struct edu *edu, unsigned at);
    void (*config_write)(struct edu *edu, unsigned at, uint16_t value);
    void (*reset)(struct edu *edu);
    int is_message; /* its interrupts are messages, not a level */
};

extern const struct way uio, vfio_intx, vfio_msi;

/* For the checks of vfio alone: places other memory at an address of the device, or none. */
void vfio_map(void *memory, uint64_t address, uint64_t size);
void vfio_unmap(uint64_t address, uint64_t size);

void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
#define CHECK(condition)                                    \
    do {                                                    \
        if (!(condition))                                   \
            fail("%s:%d: %s", __FILE__, __LINE__, #condition); \
    } while (0)

/* A system call's result, which must not be -1. */
#define SYS(call) sys_result((long)(call), #call)
long sys_result(long result, const char *call);

#endif

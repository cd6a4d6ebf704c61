/*
 * library_platform.c - drivers, as one would write them with the library, for devices that are not PCI.
 */
#include "library.h"

#include <errno.h>
#include <linux/serial_reg.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static uint32_t registers; /* the region that they are in, as found by its name */
static uint32_t irq_index;
static int irq;

/* Finds the device's parts by name, as a driver that a devicetree leads to it would. */
static void find(const char *compatible, const char *irq_name)
{
    struct vfio_user_device_info info;
    struct vfio_irq_info irq_info;
    struct ob_region *region;

    connected();
    CHECK(ob_client_device_info(c, &info), 0);
    CHECK(info.flags, VFIO_DEVICE_FLAGS_PLATFORM | VFIO_DEVICE_FLAGS_RESET);
    CHECK(ob_client_find_region(c, "registers", &region), 0);
    TRUE(ob_strings_has(&region->compatible, compatible, NULL));
    TRUE(!ob_strings_has(&region->compatible, "registers", NULL));
    TRUE(strcmp(ob_strings_get(&region->compatible, 0), compatible) == 0);
    TRUE(!ob_strings_get(&region->compatible, region->compatible.count));
    registers = region->index;
    ob_region_free(region);
    CHECK(ob_client_find_region(c, "config", &region), -ENOENT);
    TRUE(!region);

    CHECK(ob_client_find_irq(c, irq_name, &irq_index), 0);
    CHECK(ob_client_find_irq(c, "registers", &irq_index), -ENOENT);
    CHECK(ob_client_irq_info(c, irq_index, &irq_info), 0);
    CHECK(irq_info.count, 1);
    CHECK(irq_info.flags, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED);
    irq = event();
    CHECK(ob_client_irq_eventfds(c, irq_index, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, &irq), 0);
}

/* The end of an interrupt: it may come again. */
static void irq_done(void)
{
    CHECK(ob_client_irq_act(c, irq_index, VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, NULL), 0);
}

/* ---- The serial port ------------------------------------------------------------------------ */

static uint8_t in(unsigned reg)
{
    uint8_t value = 0;
    CHECK(ob_client_read(c, registers, reg, &value, 1), 0);
    return value;
}

static void out(unsigned reg, uint8_t value)
{
    CHECK(ob_client_write(c, registers, reg, &value, 1), 0);
}

/* The far end of the line: the socket "line" two folders above the server's. */
static int line(void)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    char folder[sizeof addr.sun_path - 5];
    int s = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(folder, sizeof folder, "%s", path);
    for (int i = 0; i < 2; i++)
        *strrchr(folder, '/') = '\0';
    snprintf(addr.sun_path, sizeof addr.sun_path, "%s/line", folder);
    CHECK(connect(s, (struct sockaddr *)&addr, sizeof addr), 0);
    return s;
}

static void expect(int s, const char *text)
{
    char buf[64];
    size_t n = strlen(text);

    for (size_t at = 0; at < n;) {
        struct pollfd p = { .fd = s, .events = POLLIN };
        CHECK(poll(&p, 1, 20000), 1);
        ssize_t got = read(s, buf + at, n - at);
        TRUE(got > 0);
        at += (size_t)got;
    }
    TRUE(memcmp(buf, text, n) == 0);
}

/* An interrupt handler: what there is to read, to the end. */
static size_t handle(char *to, size_t space)
{
    size_t n = 0;

    while (!(in(UART_IIR) & UART_IIR_NO_INT))
        while ((in(UART_LSR) & UART_LSR_DR) && n < space)
            to[n++] = (char)in(UART_RX);
    irq_done();
    return n;
}

void case_serial_driver(void)
{
    char got[64] = "";
    uint8_t two[2] = { 0, 0 };

    find("ns16550a", "uart");
    int s = line();
    out(UART_LCR, UART_LCR_WLEN8);
    out(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
    out(UART_MCR, UART_MCR_DTR | UART_MCR_RTS);
    for (const char *p = "hello"; *p; p++)
        out(UART_TX, (uint8_t)*p);
    expect(s, "hello");

    out(UART_IER, UART_IER_RDI);
    for (int round = 0; round < 3; round++) {
        CHECK(write(s, "some world", 10), 10);
        size_t n = 0;
        while (n < 10) {
            wait_for(irq);
            n += handle(got + n, sizeof got - n);
        }
        CHECK(n, 10);
        TRUE(memcmp(got, "some world", 10) == 0);
    }
    CHECK(count(irq), 0);

    /* What no driver does. */
    CHECK(ob_client_read(c, registers, 0, two, 2), -EINVAL);
    CHECK(ob_client_write(c, registers, 6, two, 2), -EINVAL);
    CHECK(ob_client_read(c, registers, 8, two, 1), -EINVAL);
    CHECK(ob_client_read(c, registers + 1, 0, two, 1), -EINVAL);
    CHECK(ob_client_irq_act(c, irq_index, VFIO_IRQ_SET_ACTION_MASK, 1, 1, NULL), -EINVAL);
    CHECK(ob_client_irq_act(c, irq_index + 1, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, NULL), -EINVAL);
    out(UART_SCR, 0x5a);
    CHECK(ob_client_reset(c), 0);
    CHECK(in(UART_SCR), 0);
    CHECK(in(UART_IER), 0);
    close(s);
}

/* ---- The clock ------------------------------------------------------------------------------ */

enum { DR = 0x00, MR = 0x04, LR = 0x08, CR = 0x0c, IMSC = 0x10, RIS = 0x14, MIS = 0x18, ICR = 0x1c };

static uint32_t in32(uint64_t reg)
{
    uint32_t value = 0;
    CHECK(ob_client_read(c, registers, reg, &value, 4), 0);
    return value;
}

static void out32(uint64_t reg, uint32_t value)
{
    CHECK(ob_client_write(c, registers, reg, &value, 4), 0);
}

/* As Linux's AMBA bus reads who it is. */
static uint32_t identity(uint64_t at)
{
    uint32_t value = 0;
    for (unsigned i = 0; i < 4; i++)
        value |= (in32(at + 4 * i) & 0xff) << (8 * i);
    return value;
}

void case_rtc_driver(void)
{
    find("arm,pl031", "alarm");
    CHECK(identity(0xff0), 0xb105f00d);
    CHECK(identity(0xfe0) & 0xfffff, 0x41031);
    CHECK(in32(CR), 1);

    time_t before = time(NULL);
    uint32_t now = in32(DR);
    TRUE(before <= now && now <= time(NULL));

    out32(LR, 1000);
    CHECK(in32(LR), 1000);
    now = in32(DR);
    TRUE(now >= 1000 && now - 1000 <= (uint32_t)(time(NULL) - before) + 1);

    out32(ICR, 1);
    out32(IMSC, 1);
    CHECK(in32(MIS), 0);
    CHECK(count(irq), 0);
    out32(MR, in32(DR) + 2);
    CHECK(wait_for(irq), 1);
    TRUE(in32(DR) >= in32(MR));
    CHECK(in32(RIS), 1);
    CHECK(in32(MIS), 1);
    irq_done();
    CHECK(wait_for(irq), 1); /* a level: it is there until it is cleared */
    out32(ICR, 1);
    irq_done();
    CHECK(count(irq), 0);
    CHECK(in32(RIS), 0);
    CHECK(ob_client_reset(c), 0);
    TRUE(in32(DR) >= 1000); /* the clock goes on */
    CHECK(in32(IMSC), 0);
}

/* What it was comes back from a stream, with the level of its interrupt. */
void case_rtc_migrates(void)
{
    static char stream[1 << 16];

    find("arm,pl031", "alarm");
    out32(MR, 500000);
    out32(LR, 500000);
    out32(IMSC, 1);
    CHECK(in32(MIS), 1);
    CHECK(wait_for(irq), 1);
    out32(MR, 600000);
    CHECK(ob_client_set_migration_state(c, VFIO_DEVICE_STATE_STOP_COPY), 0);
    ssize_t n = ob_client_mig_data_read(c, stream, sizeof stream);
    TRUE(n > 0 && n < (ssize_t)sizeof stream);
    CHECK(ob_client_set_migration_state(c, VFIO_DEVICE_STATE_RUNNING), 0);

    out32(LR, 3);
    out32(MR, 1);
    out32(IMSC, 0);
    out32(ICR, 0);
    irq_done();
    CHECK(count(irq), 0);
    CHECK(ob_client_set_migration_state(c, VFIO_DEVICE_STATE_RESUMING), 0);
    CHECK(ob_client_mig_data_write(c, stream, (size_t)n), 0);
    CHECK(ob_client_set_migration_state(c, VFIO_DEVICE_STATE_RUNNING), 0);
    CHECK(in32(MR), 600000);
    CHECK(in32(LR), 500000);
    TRUE(in32(DR) >= 500000 && in32(DR) < 600000);
    CHECK(in32(MIS), 1);
    CHECK(wait_for(irq), 1);
}

/*
 * serial.c - a serial port: a 16550A behind one I/O BAR, or at an address of its own, and the line it
 * is connected to.
 *
 * On PCI it has the identity of QEMU's pci-serial, so that systems bring a driver for it; else it is what
 * a devicetree calls ns16550a. The baud rate is stored and not obeyed: a byte takes no time on the line.
 *
 * Each access of the guest is a message, so what counts is how few of them a byte takes. Drivers
 * write up to 16 bytes, then read a register to see whether the transmitter is empty. So bytes wait
 * in the transmit FIFO until the guest does anything but write another one, and leave all at once,
 * before it can see that they waited; that a driver just stopped is told by a timer.
 */
#include "line.h"
#include "uart.h"

#include <errno.h>
#include <outboard/device.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#include "syscalls_serial.h"

enum { TIMER_OUTPUT, TIMER_TIME_OUT, TIMER_INPUT, TIMER_HANDLER, TIMERS };

/* All in ns. */
#define OUTPUT_DELAY 500000u /* no more bytes are expected to come along */
#define TIME_OUT 1000000u    /* longer than a guest that is at it takes for the next byte */
#define HANDLER_GAP 2000000u /* an interrupt handler that is away for longer has ended */
#define PAUSE 1000000u       /* what one is given to end that was kept busy for long */

/* How many accesses keep an interrupt handler busy before it should end: some milliseconds. */
#define HANDLER_MAX 400u

struct serial {
    struct uart uart;
    uint8_t in_handler;   /* the guest's interrupt handler runs; TIMER_HANDLER is set */
    uint8_t paused;       /* and should end now */
    uint8_t output_waits; /* TIMER_OUTPUT is set */
    uint8_t input_waits;  /* TIMER_TIME_OUT is set */
    uint16_t handler_accesses;
    uint16_t input_at;    /* input[input_at] to input[input_end - 1] are still to be received */
    uint16_t input_end;
    uint8_t input[256]; /* read from the line in one go: fewer system calls */
};

struct private {
    struct line line;
    bool blocked; /* the line takes no output; we are told when it does again */
    bool failing; /* the last output was lost to an error, which was logged */
};

static struct line *line_of(struct ob_device *dev)
{
    return &((struct private *)ob_private(dev))->line;
}

/* ---- Output --------------------------------------------------------------------------------- */

/* What cannot be written is lost, as on a cable that ends nowhere. */
static void lose_output(struct ob_device *dev, int error)
{
    struct serial *s = ob_state(dev);
    struct private *p = ob_private(dev);

    if (!p->failing && (p->line.kind == LINE_FILE || p->line.kind == LINE_STDIO))
        ob_error(dev, "output is lost: %s", strerror(error));
    p->failing = true;
    p->blocked = false;
    uart_sent(&s->uart, s->uart.tx_count);
    line_output_failed(dev, &p->line);
}

static void write_output(struct ob_device *dev)
{
    struct serial *s = ob_state(dev);
    struct private *p = ob_private(dev);
    ssize_t n = ob_write(dev, p->line.out.fd, s->uart.tx, s->uart.tx_count);
    if (n > 0)
        ob_account(dev, OB_ACCOUNT_WRITE, 1, (uint64_t)n, 0);

    if (n < 0 && n != -EAGAIN) {
        lose_output(dev, (int)-n);
        return;
    }
    if (n > 0) {
        p->failing = false;
        uart_sent(&s->uart, (size_t)n);
    }
    p->blocked = s->uart.tx_count > 0;
}

/* Moves the transmit FIFO to the line. One ob_write(), so at most once in a step. */
static void send_output(struct ob_device *dev)
{
    struct serial *s = ob_state(dev);
    struct private *p = ob_private(dev);

    if (s->uart.tx_count == 0 || p->blocked)
        return;
    if (line_connected(&p->line))
        write_output(dev);
    else
        uart_sent(&s->uart, s->uart.tx_count);
    if (s->output_waits)
        ob_timer_cancel(dev, TIMER_OUTPUT);
    s->output_waits = 0;
}

/* ---- The guest's interrupt handler ---------------------------------------------------------- */

/*
 * From reading which interrupt is pending until reading that none is, a driver is in its handler
 * and needs no interrupt. So the wire is low in the meantime: QEMU takes each access for the end of
 * the interrupt, and would unmask and be interrupted again, for each byte.
 *
 * A handler stays while there is something to do, and on a line that takes no time there always is.
 * To a guest that waits for each access that can mean seconds in which nothing else runs. So after
 * a while the line rests until the handler has ended.
 *
 * A timer ends both for drivers that do not read to the end, or were kept from it.
 */
static void note_access(struct ob_device *dev)
{
    struct serial *s = ob_state(dev);

    if (s->handler_accesses < HANDLER_MAX)
        s->handler_accesses++;
    if (s->in_handler && !s->paused)
        ob_timer_set(dev, TIMER_HANDLER, ob_now(dev) + HANDLER_GAP);
}

static void enter_handler(struct ob_device *dev)
{
    struct serial *s = ob_state(dev);

    if (s->in_handler)
        return;
    s->in_handler = 1;
    ob_timer_set(dev, TIMER_HANDLER, ob_now(dev) + HANDLER_GAP);
}

static void leave_handler(struct ob_device *dev)
{
    struct serial *s = ob_state(dev);

    if (!s->in_handler)
        return;
    ob_timer_cancel(dev, TIMER_HANDLER);
    s->in_handler = 0;
    if (s->paused) {
        send_output(dev);
        s->handler_accesses = 0;
    }
    s->paused = 0;
}

/* Whether what would raise this interrupt must wait until the handler has ended. */
static bool rests(struct ob_device *dev, uint8_t interrupt)
{
    struct serial *s = ob_state(dev);

    if (!s->paused && (s->uart.ier & interrupt) && s->handler_accesses >= HANDLER_MAX) {
        s->paused = s->in_handler = 1;
        ob_timer_set(dev, TIMER_HANDLER, ob_now(dev) + PAUSE);
    }
    return s->paused;
}

/* ---- Input ---------------------------------------------------------------------------------- */

/* The other end obeys the handshake: what comes to a port that no driver has opened would be
 * cleared away when one does. Drivers without the handshake lines enable the interrupt at least. */
static bool driver_listens(const struct uart *u)
{
    return (u->mcr & (UART_MCR_DTR | UART_MCR_RTS)) || (u->ier & UART_IER_RDI);
}

/* Moves bytes that were read to the UART, never more than it can hold. True if any. */
static bool receive_input(struct ob_device *dev)
{
    struct serial *s = ob_state(dev);
    unsigned n = driver_listens(&s->uart) ? uart_room(&s->uart) : 0;

    if (n > (unsigned)(s->input_end - s->input_at))
        n = (unsigned)(s->input_end - s->input_at);
    if (n == 0 || rests(dev, UART_IER_RDI))
        return false;
    for (unsigned i = 0; i < n; i++)
        uart_receive(&s->uart, s->input[s->input_at++]);
    return true;
}

/* Reads from the line when all that was read before has been received. One ob_read(). */
static void read_input(struct ob_device *dev)
{
    struct serial *s = ob_state(dev);
    struct line *line = line_of(dev);

    if (line->in.fd < 0 || s->input_at < s->input_end)
        return;
    ssize_t n = ob_read(dev, line->in.fd, s->input, sizeof(s->input));
    if (n > 0)
        ob_account(dev, OB_ACCOUNT_READ, 1, (uint64_t)n, 0);
    if (n > 0) {
        s->input_at = 0;
        s->input_end = (uint16_t)n;
    } else if (n == 0) {
        line_input_ended(dev, line);
    } else if (n != -EAGAIN) {
        line_hung_up(dev, line); /* EIO is how a pseudo-terminal says that it was closed */
    }
}

/* ---- After each step ------------------------------------------------------------------------ */

static void line_ready(struct ob_device *dev, int fd, uint32_t events);

static void update_time_out(struct ob_device *dev, bool restart)
{
    struct serial *s = ob_state(dev);
    bool waiting = uart_waiting(&s->uart);

    if (waiting && (restart || !s->input_waits))
        ob_timer_set(dev, TIMER_TIME_OUT, ob_now(dev) + TIME_OUT);
    else if (!waiting && s->input_waits)
        ob_timer_cancel(dev, TIMER_TIME_OUT);
    s->input_waits = waiting;
}

/* Brings what depends on the registers up to date; `active`: the receiver's FIFO was used. */
static void settle(struct ob_device *dev, bool active)
{
    struct serial *s = ob_state(dev);
    struct private *p = ob_private(dev);

    /* Refilling an empty FIFO, and not one with some room, keeps the interrupt low in between. */
    if (s->uart.rx_count == 0 && receive_input(dev))
        active = true;
    if (s->uart.tx_count > 0 && !p->blocked) {
        ob_timer_set(dev, TIMER_OUTPUT, ob_now(dev) + OUTPUT_DELAY);
        s->output_waits = 1;
    }
    update_time_out(dev, active);
    ob_irq(dev, 0, uart_interrupt(&s->uart) && !s->in_handler);
    if (line_watch(dev, &p->line, s->input_at == s->input_end, p->blocked, line_ready))
        ob_timer_set(dev, TIMER_INPUT, ob_now(dev));
}

/* Data carrier and data set ready tell the guest whether somebody is at the other end. Clear to
 * send is always there: output to nobody is lost, and a driver must not wait with it for ever. */
static void update_modem_lines(struct ob_device *dev)
{
    struct serial *s = ob_state(dev);
    struct private *p = ob_private(dev);

    uart_set_lines(&s->uart, line_connected(&p->line)
                                 ? UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD
                                 : UART_MSR_CTS);
    if (!line_connected(&p->line))
        p->blocked = false;
}

/* ---- Events --------------------------------------------------------------------------------- */

static void line_ready(struct ob_device *dev, int fd, uint32_t events)
{
    struct private *p = ob_private(dev);

    if (fd == p->line.arrivals.fd) {
        line_arrived(dev, &p->line);
    } else if (events & EPOLLOUT) {
        p->blocked = false;
        send_output(dev);
    } else if (events & EPOLLIN) {
        read_input(dev);
        receive_input(dev);
    } else if (p->blocked && fd == p->line.out.fd) {
        lose_output(dev, EPIPE); /* there will never be room again */
    } else {
        line_hung_up(dev, &p->line);
    }
    update_modem_lines(dev);
    settle(dev, true);
}

static void timer(struct ob_device *dev, unsigned id)
{
    struct serial *s = ob_state(dev);

    switch (id) {
    case TIMER_OUTPUT:
        s->output_waits = 0;
        send_output(dev);
        break;
    case TIMER_TIME_OUT:
        s->input_waits = 0;
        uart_time_out(&s->uart);
        break;
    case TIMER_INPUT:
        read_input(dev);
        break;
    case TIMER_HANDLER:
        leave_handler(dev);
        break;
    }
    settle(dev, false);
}

/* ---- The guest's accesses ------------------------------------------------------------------- */

static int read_registers(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    struct serial *s = ob_state(dev);
    uint8_t *bytes = buf;

    note_access(dev);
    if (s->uart.tx_count > 0 && !rests(dev, UART_IER_THRI))
        send_output(dev);
    for (size_t i = 0; i < n; i++)
        bytes[i] = uart_read(&s->uart, (unsigned)(at + i));
    if (at == UART_IIR && (bytes[0] & UART_IIR_NO_INT)) {
        leave_handler(dev);
        s->handler_accesses = 0;
    } else if (at == UART_IIR) {
        enter_handler(dev);
    }
    settle(dev, at == UART_RX);
    return 0;
}

static int write_registers(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    struct serial *s = ob_state(dev);
    const uint8_t *bytes = buf;

    note_access(dev);
    if (at != UART_TX || n != 1 || uart_full(&s->uart))
        send_output(dev);
    for (size_t i = 0; i < n; i++)
        uart_write(&s->uart, (unsigned)(at + i), bytes[i]);
    settle(dev, false);
    return 0;
}

/* ---- Life ----------------------------------------------------------------------------------- */

static int open_line(struct ob_device *dev)
{
    int ret = ob_syscalls(dev, syscalls_serial);

    return ret < 0 ? ret : line_open(dev, line_of(dev), ob_option(dev, "path"));
}

/* Of a state that somebody else made. */
static int check_state(struct ob_device *dev, uint32_t version)
{
    const struct serial *s = ob_state(dev);
    bool flags = s->in_handler <= 1 && s->paused <= 1 && s->output_waits <= 1 && s->input_waits <= 1;

    (void)version; /* there is one */
    if (uart_valid(&s->uart) && flags && s->input_at <= s->input_end &&
        s->input_end <= sizeof(s->input))
        return 0;
    ob_error(dev, "the state that was handed over is not that of a serial port");
    return -EINVAL;
}

/* What the line here takes need not travel. */
static int stop(struct ob_device *dev)
{
    send_output(dev);
    return 0;
}

static int start(struct ob_device *dev)
{
    struct serial *s = ob_state(dev);

    if (check_state(dev, 0) < 0)
        return -EINVAL;
    if (s->uart.tx_count > 0) { /* the last process was waiting until its line took them */
        ob_timer_set(dev, TIMER_OUTPUT, ob_now(dev));
        s->output_waits = 1;
    }
    if (line_of(dev)->in.fd >= 0) /* what the last process had read is no event any more */
        ob_timer_set(dev, TIMER_INPUT, ob_now(dev));
    update_modem_lines(dev);
    settle(dev, false);
    return 0;
}

static void close_line(struct ob_device *dev)
{
    line_close(dev, line_of(dev));
}

static void reset(struct ob_device *dev, enum ob_reset kind)
{
    struct serial *s = ob_state(dev);

    if (kind == OB_RESET_POWER_ON)
        return; /* all zeros is right */
    send_output(dev); /* what a system says last, it says before it resets */
    s->paused = 0;
    leave_handler(dev);
    uart_reset(&s->uart);
    settle(dev, false);
}

static void irq_changed(struct ob_device *dev)
{
    settle(dev, false);
}

/* ---- What it is ----------------------------------------------------------------------------- */

static const struct ob_option options[] = {
    { "path", "pty|FILE|unix:PATH|-", "what the port is connected to", "pty", OB_OPTION_SOCKET },
    { NULL, NULL, NULL, NULL, 0 },
};

static const struct ob_field fields[] = {
    OB_INT(struct serial, uart.ier),
    OB_INT(struct serial, uart.fcr),
    OB_INT(struct serial, uart.lcr),
    OB_INT(struct serial, uart.mcr),
    OB_INT(struct serial, uart.msr),
    OB_INT(struct serial, uart.scr),
    OB_INT(struct serial, uart.dll),
    OB_INT(struct serial, uart.dlm),
    OB_INT(struct serial, uart.lines),
    OB_INT(struct serial, uart.overrun),
    OB_INT(struct serial, uart.timed_out),
    OB_INT(struct serial, uart.thr_emptied),
    OB_INT(struct serial, uart.rx_head),
    OB_INT(struct serial, uart.rx_count),
    OB_INT(struct serial, uart.tx_count),
    OB_BYTES(struct serial, uart.rx),
    OB_BYTES(struct serial, uart.rx_errors),
    OB_BYTES(struct serial, uart.tx),
    OB_INT(struct serial, handler_accesses),
    OB_INT(struct serial, in_handler),
    OB_INT(struct serial, paused),
    OB_INT(struct serial, output_waits),
    OB_INT(struct serial, input_waits),
    OB_INT(struct serial, input_at),
    OB_INT(struct serial, input_end),
    OB_BYTES(struct serial, input),
    OB_END,
};

static const char *const compatible[] = { "ns16550a", NULL };
static const struct ob_platform_region registers[] = {
    { .name = "registers",
      .size = UART_REGISTERS,
      .widths = OB_WIDTH_1,
      .read = read_registers,
      .write = write_registers },
};
static const struct ob_platform_irq irqs[] = { { .name = "uart" } };

static const struct ob_plugin serial = {
    .name = "serial",
    .summary = "serial port: a 16550A, on PCI or not",
    .options = options,
    .pci = { .vendor = 0x1b36, .device = 0x0002, .class_code = 0x070002, .revision = 1 },
    .bar[0] = { .size = UART_REGISTERS,
                .kind = OB_BAR_IO,
                .read = read_registers,
                .write = write_registers },
    .irq.intx = true,
    .platform = { .compatible = compatible,
                  .regions = registers,
                  .regions_count = 1,
                  .irqs = irqs,
                  .irqs_count = 1 },
    .state = { .size = sizeof(struct serial), .fields = fields, .version = 1 },
    .private_size = sizeof(struct private),
    .timers = TIMERS,
    .open = open_line,
    .start = start,
    .close = close_line,
    .reset = reset,
    .timer = timer,
    .irq_changed = irq_changed,
    .stop = stop,
    .loaded = check_state,
};
OB_PLUGIN(serial)

/* uart.c - the registers of a 16550A. */
#include "uart.h"

#include <string.h>

#define LINES (UART_MSR_CTS | UART_MSR_DSR | UART_MSR_RI | UART_MSR_DCD)

static bool fifo_enabled(const struct uart *u)
{
    return u->fcr & UART_FCR_ENABLE_FIFO;
}

static unsigned capacity(const struct uart *u)
{
    return fifo_enabled(u) ? UART_FIFO_SIZE : 1;
}

static unsigned trigger_level(const struct uart *u)
{
    static const uint8_t levels[] = { 1, 4, 8, 14 };

    return fifo_enabled(u) ? levels[u->fcr >> 6] : 1;
}

static bool divisor_selected(const struct uart *u)
{
    return u->lcr & UART_LCR_DLAB;
}

static bool looped(const struct uart *u)
{
    return u->mcr & UART_MCR_LOOP;
}

/* ---- Receiver ------------------------------------------------------------------------------- */

static void receive(struct uart *u, uint8_t byte, uint8_t errors)
{
    if (u->rx_count >= capacity(u)) {
        u->overrun = UART_LSR_OE;
        if (fifo_enabled(u))
            return;
        u->rx_count = 0; /* without FIFOs the newest byte is the one that stays */
    }
    unsigned place = (u->rx_head + u->rx_count) % UART_FIFO_SIZE;
    u->rx[place] = byte;
    u->rx_errors[place] = errors;
    u->rx_count++;
}

static uint8_t take_received(struct uart *u)
{
    u->timed_out = 0;
    if (u->rx_count == 0)
        return 0;
    uint8_t byte = u->rx[u->rx_head];
    u->rx_head = (uint8_t)((u->rx_head + 1) % UART_FIFO_SIZE);
    u->rx_count--;
    return byte;
}

static void clear_receiver(struct uart *u)
{
    u->rx_head = 0;
    u->rx_count = 0;
    u->timed_out = 0;
}

void uart_receive(struct uart *u, uint8_t byte)
{
    if (!looped(u))
        receive(u, byte, 0);
}

void uart_receive_break(struct uart *u)
{
    if (!looped(u))
        receive(u, 0, UART_LSR_BI);
}

unsigned uart_room(const struct uart *u)
{
    return looped(u) ? 0 : capacity(u) - u->rx_count;
}

bool uart_waiting(const struct uart *u)
{
    return (u->ier & UART_IER_RDI) && u->rx_count > 0 && u->rx_count < trigger_level(u) &&
           !u->timed_out;
}

void uart_time_out(struct uart *u)
{
    if (uart_waiting(u))
        u->timed_out = 1;
}

/* ---- Transmitter ---------------------------------------------------------------------------- */

static void transmit(struct uart *u, uint8_t byte)
{
    if (looped(u)) {
        receive(u, byte, 0);
        u->thr_emptied = 1;
        return;
    }
    u->thr_emptied = 0;
    if (!uart_full(u))
        u->tx[u->tx_count++] = byte;
}

bool uart_full(const struct uart *u)
{
    return u->tx_count >= capacity(u);
}

void uart_sent(struct uart *u, size_t n)
{
    if (u->tx_count == 0)
        return;
    if (n > u->tx_count)
        n = u->tx_count;
    u->tx_count = (uint8_t)(u->tx_count - n);
    memmove(u->tx, u->tx + n, u->tx_count);
    if (u->tx_count == 0)
        u->thr_emptied = 1;
}

/* ---- Modem lines ---------------------------------------------------------------------------- */

/* The inputs that the MSR shows, with a delta for each that changed since it was last read. */
static void update_modem_status(struct uart *u)
{
    unsigned now = u->lines;

    if (looped(u)) /* outputs are wired to inputs */
        now = (u->mcr & UART_MCR_RTS ? UART_MSR_CTS : 0u) |
              (u->mcr & UART_MCR_DTR ? UART_MSR_DSR : 0u) |
              (u->mcr & UART_MCR_OUT1 ? UART_MSR_RI : 0u) |
              (u->mcr & UART_MCR_OUT2 ? UART_MSR_DCD : 0u);

    unsigned deltas = ((now ^ u->msr) & LINES) >> 4;
    if (now & UART_MSR_RI)
        deltas &= ~(unsigned)UART_MSR_TERI; /* ring has a delta for its end alone */
    u->msr = (uint8_t)(now | (u->msr & UART_MSR_ANY_DELTA) | deltas);
}

void uart_set_lines(struct uart *u, uint8_t lines)
{
    u->lines = lines & LINES;
    update_modem_status(u);
}

/* ---- Status and interrupts ------------------------------------------------------------------ */

/* Errors belong to bytes, and the LSR shows those of the oldest one. */
static unsigned line_errors(const struct uart *u)
{
    return u->overrun | (u->rx_count > 0 ? u->rx_errors[u->rx_head] : 0u);
}

static bool errors_in_fifo(const struct uart *u)
{
    for (unsigned i = 0; i < u->rx_count; i++)
        if (u->rx_errors[(u->rx_head + i) % UART_FIFO_SIZE])
            return true;
    return false;
}

static uint8_t read_line_status(struct uart *u)
{
    unsigned status = line_errors(u);

    if (u->rx_count > 0)
        status |= UART_LSR_DR;
    if (u->tx_count == 0)
        status |= UART_LSR_THRE | UART_LSR_TEMT;
    if (fifo_enabled(u) && errors_in_fifo(u))
        status |= UART_LSR_FIFOE;
    u->overrun = 0;
    if (u->rx_count > 0)
        u->rx_errors[u->rx_head] = 0;
    return (uint8_t)status;
}

static uint8_t read_modem_status(struct uart *u)
{
    uint8_t status = u->msr;

    u->msr = status & LINES;
    return status;
}

/* The interrupt of the highest priority that is enabled and pending. */
static unsigned interrupt_source(const struct uart *u)
{
    if ((u->ier & UART_IER_RLSI) && line_errors(u))
        return UART_IIR_RLSI;
    if ((u->ier & UART_IER_RDI) && u->rx_count >= trigger_level(u))
        return UART_IIR_RDI;
    if ((u->ier & UART_IER_RDI) && u->timed_out)
        return UART_IIR_RX_TIMEOUT;
    if ((u->ier & UART_IER_THRI) && u->thr_emptied)
        return UART_IIR_THRI;
    if ((u->ier & UART_IER_MSI) && (u->msr & UART_MSR_ANY_DELTA))
        return UART_IIR_MSI;
    return UART_IIR_NO_INT;
}

bool uart_interrupt(const struct uart *u)
{
    return interrupt_source(u) != UART_IIR_NO_INT;
}

static uint8_t read_interrupt_identification(struct uart *u)
{
    unsigned source = interrupt_source(u);

    if (source == UART_IIR_THRI)
        u->thr_emptied = 0;
    return (uint8_t)(source | (fifo_enabled(u) ? 0xc0u : 0u));
}

/* ---- Control registers ---------------------------------------------------------------------- */

static void write_interrupt_enable(struct uart *u, uint8_t value)
{
    unsigned risen = value & ~(unsigned)u->ier;

    u->ier = value & (UART_IER_RDI | UART_IER_THRI | UART_IER_RLSI | UART_IER_MSI);
    /* Drivers start output by enabling this interrupt, and expect it at once if there is room. */
    if ((risen & UART_IER_THRI) && u->tx_count == 0)
        u->thr_emptied = 1;
}

static void write_fifo_control(struct uart *u, uint8_t value)
{
    if (!(value & UART_FCR_ENABLE_FIFO))
        value = 0; /* the other bits are heard only along with this one */
    if ((value ^ u->fcr) & UART_FCR_ENABLE_FIFO)
        value |= UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT;
    u->fcr = value & (UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_MASK);
    if (value & UART_FCR_CLEAR_RCVR)
        clear_receiver(u);
    if (value & UART_FCR_CLEAR_XMIT)
        uart_sent(u, u->tx_count);
}

static void write_line_control(struct uart *u, uint8_t value)
{
    unsigned risen = value & ~(unsigned)u->lcr;

    u->lcr = value;
    if ((risen & UART_LCR_SBC) && looped(u))
        receive(u, 0, UART_LSR_BI);
}

static void write_modem_control(struct uart *u, uint8_t value)
{
    u->mcr = value & (UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT1 | UART_MCR_OUT2 | UART_MCR_LOOP);
    update_modem_status(u);
}

/* ---- The guest's view ----------------------------------------------------------------------- */

bool uart_valid(const struct uart *u)
{
    return u->rx_head < UART_FIFO_SIZE && u->rx_count <= capacity(u) && u->tx_count <= capacity(u);
}

void uart_reset(struct uart *u)
{
    uint8_t lines = u->lines;

    memset(u, 0, sizeof(*u));
    u->lines = lines;
    u->msr = lines;
}

uint8_t uart_read(struct uart *u, unsigned reg)
{
    switch (reg) {
    case UART_RX:
        return divisor_selected(u) ? u->dll : take_received(u);
    case UART_IER:
        return divisor_selected(u) ? u->dlm : u->ier;
    case UART_IIR:
        return read_interrupt_identification(u);
    case UART_LCR:
        return u->lcr;
    case UART_MCR:
        return u->mcr;
    case UART_LSR:
        return read_line_status(u);
    case UART_MSR:
        return read_modem_status(u);
    case UART_SCR:
        return u->scr;
    default:
        return 0xff;
    }
}

void uart_write(struct uart *u, unsigned reg, uint8_t value)
{
    switch (reg) {
    case UART_TX:
        if (divisor_selected(u))
            u->dll = value;
        else
            transmit(u, value);
        break;
    case UART_IER:
        if (divisor_selected(u))
            u->dlm = value;
        else
            write_interrupt_enable(u, value);
        break;
    case UART_FCR:
        write_fifo_control(u, value);
        break;
    case UART_LCR:
        write_line_control(u, value);
        break;
    case UART_MCR:
        write_modem_control(u, value);
        break;
    case UART_SCR:
        u->scr = value;
        break;
    default:
        break; /* LSR and MSR are read only */
    }
}

/*
 * uart.h - the registers of a 16550A, and nothing around them.
 *
 * Functions over a plain structure: no I/O, no clock, no bus. Whoever owns the structure moves
 * bytes between it and a line, keeps time for the character time-out, and drives an interrupt line
 * with uart_interrupt(). Registers and their bits have the names of <linux/serial_reg.h>; what they
 * mean is in National Semiconductor's PC16550D data sheet, section 8.
 *
 * No function can fail, allocates, or keeps a pointer; there is no state outside struct uart. All
 * zeros is a UART after power-on.
 */
#ifndef OUTBOARD_SERIAL_UART_H
#define OUTBOARD_SERIAL_UART_H

#include <linux/serial_reg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UART_REGISTERS 8
#define UART_FIFO_SIZE 16

/* Members are bytes alone: no padding, no byte order, fit to be stored or sent as they are. */
struct uart {
    uint8_t ier;
    uint8_t fcr; /* the bits that last: FIFO enable and trigger level */
    uint8_t lcr;
    uint8_t mcr;
    uint8_t msr;
    uint8_t scr;
    uint8_t dll;
    uint8_t dlm;
    uint8_t lines;       /* modem inputs from outside, as bits 4-7 of the MSR */
    uint8_t overrun;     /* UART_LSR_OE or 0 */
    uint8_t timed_out;   /* 1: bytes below the trigger level have waited long enough */
    uint8_t thr_emptied; /* 1: the transmitter ran empty, and the driver has not been told */
    uint8_t rx_head;     /* place of the oldest byte, 0-15 */
    uint8_t rx_count;    /* 0-16 */
    uint8_t tx_count;    /* 0-16 */
    uint8_t rx[UART_FIFO_SIZE];
    uint8_t rx_errors[UART_FIFO_SIZE]; /* LSR bits that belong to the byte in the same place */
    uint8_t tx[UART_FIFO_SIZE];        /* oldest first */
};

/* Whether the counts and places fit their FIFOs. All other functions require it, and keep it true;
 * a structure that was stored or sent must be asked first. */
bool uart_valid(const struct uart *u);

/* Back to the state after power-on; the modem inputs stay as they are outside. */
void uart_reset(struct uart *u);

/* The guest's accesses. `reg` is 0 to 7. */
uint8_t uart_read(struct uart *u, unsigned reg);
void uart_write(struct uart *u, unsigned reg, uint8_t value);

/* Whether the interrupt output is active. */
bool uart_interrupt(const struct uart *u);

/*
 * Output. A byte that the guest writes waits in tx[0] to tx[tx_count - 1] until uart_sent() says
 * that the line took the first n (at most tx_count of them count). uart_full(): one more would be
 * lost.
 */
void uart_sent(struct uart *u, size_t n);
bool uart_full(const struct uart *u);

/*
 * Input. uart_room() is how many bytes fit now; what comes beyond that is lost as an overrun.
 * A UART in loopback mode is cut off from its line and has no room.
 */
unsigned uart_room(const struct uart *u);
void uart_receive(struct uart *u, uint8_t byte);
void uart_receive_break(struct uart *u);

/*
 * The character time-out, which is an interrupt for bytes that do not reach the trigger level.
 * While uart_waiting() holds, the owner should call uart_time_out() once about four character times
 * have passed since a byte last came or was read. When nothing waits, uart_time_out() does nothing.
 */
bool uart_waiting(const struct uart *u);
void uart_time_out(struct uart *u);

/* The modem inputs changed: any of UART_MSR_CTS, _DSR, _RI and _DCD. */
void uart_set_lines(struct uart *u, uint8_t lines);

#endif

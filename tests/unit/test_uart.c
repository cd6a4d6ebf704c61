/* test_uart.c - the registers of the 16550A, against its data sheet and what drivers do with it. */
#include "serial/uart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static struct uart u;

static int power_on(void **state)
{
    (void)state;
    memset(&u, 0, sizeof(u));
    return 0;
}

static void enable_fifo(unsigned trigger_bits)
{
    uart_write(&u, UART_FCR, (uint8_t)(UART_FCR_ENABLE_FIFO | trigger_bits));
}

static void receive(const char *bytes)
{
    while (*bytes)
        uart_receive(&u, (uint8_t)*bytes++);
}

static void transmit(const char *bytes)
{
    while (*bytes)
        uart_write(&u, UART_TX, (uint8_t)*bytes++);
}

static unsigned iir(void)
{
    return uart_read(&u, UART_IIR);
}

static unsigned lsr(void)
{
    return uart_read(&u, UART_LSR);
}

#define FIFO_BITS 0xc0u

/* ---- Registers ------------------------------------------------------------------------------ */

static void test_power_on_values(void **state)
{
    (void)state;
    assert_int_equal(uart_read(&u, UART_IER), 0);
    assert_int_equal(iir(), UART_IIR_NO_INT);
    assert_int_equal(uart_read(&u, UART_LCR), 0);
    assert_int_equal(uart_read(&u, UART_MCR), 0);
    assert_int_equal(lsr(), UART_LSR_THRE | UART_LSR_TEMT);
    assert_int_equal(uart_read(&u, UART_MSR), 0);
    assert_false(uart_interrupt(&u));
}

static void test_scratch_and_control_keep_what_exists(void **state)
{
    (void)state;
    uart_write(&u, UART_SCR, 0xa5);
    assert_int_equal(uart_read(&u, UART_SCR), 0xa5);
    uart_write(&u, UART_LCR, 0x5b);
    assert_int_equal(uart_read(&u, UART_LCR), 0x5b);
    uart_write(&u, UART_IER, 0xff);
    assert_int_equal(uart_read(&u, UART_IER), 0x0f);
    uart_write(&u, UART_MCR, 0xff);
    assert_int_equal(uart_read(&u, UART_MCR), 0x1f);
}

static void test_divisor_is_behind_dlab(void **state)
{
    (void)state;
    uart_write(&u, UART_IER, UART_IER_RDI);
    uart_write(&u, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
    uart_write(&u, UART_DLL, 0x0c);
    uart_write(&u, UART_DLM, 0x34);
    assert_int_equal(uart_read(&u, UART_DLL), 0x0c);
    assert_int_equal(uart_read(&u, UART_DLM), 0x34);
    assert_int_equal(u.tx_count, 0); /* DLL is not THR */

    receive("x");
    assert_int_equal(uart_read(&u, UART_DLL), 0x0c); /* nor RBR */
    uart_write(&u, UART_LCR, UART_LCR_WLEN8);
    assert_int_equal(uart_read(&u, UART_IER), UART_IER_RDI);
    assert_int_equal(uart_read(&u, UART_RX), 'x');
}

static void test_status_registers_cannot_be_written(void **state)
{
    (void)state;
    uart_write(&u, UART_LSR, 0xff);
    uart_write(&u, UART_MSR, 0xff);
    assert_int_equal(lsr(), UART_LSR_THRE | UART_LSR_TEMT);
    assert_int_equal(uart_read(&u, UART_MSR), 0);
}

static void test_reset_keeps_the_lines(void **state)
{
    (void)state;
    uart_set_lines(&u, UART_MSR_CTS | UART_MSR_DCD);
    enable_fifo(UART_FCR_TRIGGER_14);
    uart_write(&u, UART_IER, 0x0f);
    uart_write(&u, UART_MCR, UART_MCR_LOOP);
    transmit("abc");
    uart_reset(&u);
    assert_int_equal(uart_read(&u, UART_MSR), UART_MSR_CTS | UART_MSR_DCD); /* and no deltas */
    assert_int_equal(uart_read(&u, UART_IER), 0);
    assert_int_equal(iir(), UART_IIR_NO_INT);
    assert_int_equal(lsr(), UART_LSR_THRE | UART_LSR_TEMT);
}

/* ---- Receiver ------------------------------------------------------------------------------- */

static void test_receive_without_fifo(void **state)
{
    (void)state;
    assert_int_equal(uart_room(&u), 1);
    receive("a");
    assert_int_equal(uart_room(&u), 0);
    assert_int_equal(lsr(), UART_LSR_DR | UART_LSR_THRE | UART_LSR_TEMT);
    assert_int_equal(uart_read(&u, UART_RX), 'a');
    assert_false(lsr() & UART_LSR_DR);
}

static void test_overrun_without_fifo_keeps_the_newest(void **state)
{
    (void)state;
    receive("ab");
    assert_true(lsr() & UART_LSR_OE);
    assert_false(lsr() & UART_LSR_OE); /* reading clears it */
    assert_int_equal(uart_read(&u, UART_RX), 'b');
    assert_false(lsr() & UART_LSR_DR);
}

static void test_fifo_keeps_sixteen_in_order(void **state)
{
    (void)state;
    enable_fifo(0);
    assert_int_equal(uart_room(&u), 16);
    receive("0123456789abcdef");
    assert_int_equal(uart_room(&u), 0);
    assert_false(lsr() & UART_LSR_OE);
    for (const char *c = "0123456789abcdef"; *c; c++)
        assert_int_equal(uart_read(&u, UART_RX), *c);
    assert_int_equal(uart_room(&u), 16);
    assert_int_equal(uart_read(&u, UART_RX), 0); /* nothing is left, and nothing breaks */
}

static void test_fifo_goes_round(void **state)
{
    (void)state;
    enable_fifo(0);
    for (unsigned i = 0; i < 100; i++) {
        uart_receive(&u, (uint8_t)(2 * i));
        uart_receive(&u, (uint8_t)(2 * i + 1));
        assert_int_equal(uart_read(&u, UART_RX), (uint8_t)(2 * i));
        assert_int_equal(uart_read(&u, UART_RX), (uint8_t)(2 * i + 1));
    }
}

static void test_overrun_with_fifo_keeps_the_oldest(void **state)
{
    (void)state;
    enable_fifo(0);
    receive("0123456789abcdefX");
    assert_int_equal(uart_read(&u, UART_LSR) & UART_LSR_OE, UART_LSR_OE);
    for (const char *c = "0123456789abcdef"; *c; c++)
        assert_int_equal(uart_read(&u, UART_RX), *c);
    assert_false(lsr() & UART_LSR_DR);
}

static void check_trigger(unsigned bits, unsigned level)
{
    enable_fifo(bits | UART_FCR_CLEAR_RCVR);
    uart_write(&u, UART_IER, UART_IER_RDI);
    for (unsigned i = 1; i < level; i++) {
        uart_receive(&u, 'x');
        assert_false(uart_interrupt(&u));
    }
    uart_receive(&u, 'x');
    assert_true(uart_interrupt(&u));
    assert_int_equal(iir(), FIFO_BITS | UART_IIR_RDI);
    uart_read(&u, UART_RX);
    assert_false(uart_interrupt(&u));
}

static void test_trigger_levels(void **state)
{
    (void)state;
    check_trigger(UART_FCR_TRIGGER_1, 1);
    check_trigger(UART_FCR_TRIGGER_4, 4);
    check_trigger(UART_FCR_TRIGGER_8, 8);
    check_trigger(UART_FCR_TRIGGER_14, 14);
}

static void test_time_out_tells_of_bytes_below_the_trigger(void **state)
{
    (void)state;
    enable_fifo(UART_FCR_TRIGGER_8);
    receive("ab");
    assert_false(uart_waiting(&u)); /* nobody would be told */
    uart_write(&u, UART_IER, UART_IER_RDI);
    assert_true(uart_waiting(&u));
    uart_time_out(&u);
    assert_false(uart_waiting(&u));
    assert_int_equal(iir(), FIFO_BITS | UART_IIR_RX_TIMEOUT);
    assert_true(uart_interrupt(&u)); /* reading IIR does not end it */
    uart_write(&u, UART_IER, 0);
    assert_false(uart_interrupt(&u));
    uart_write(&u, UART_IER, UART_IER_RDI);

    assert_int_equal(uart_read(&u, UART_RX), 'a'); /* reading a byte does */
    assert_false(uart_interrupt(&u));
    assert_true(uart_waiting(&u)); /* for the one that is left */
    uart_read(&u, UART_RX);
    assert_false(uart_waiting(&u));
}

static void test_time_out_without_need_does_nothing(void **state)
{
    (void)state;
    enable_fifo(UART_FCR_TRIGGER_4);
    uart_write(&u, UART_IER, UART_IER_RDI);
    uart_time_out(&u); /* empty */
    assert_false(uart_interrupt(&u));
    receive("abcd"); /* at the trigger level */
    assert_false(uart_waiting(&u));
    uart_time_out(&u);
    assert_int_equal(iir(), FIFO_BITS | UART_IIR_RDI);
    while (u.rx_count)
        uart_read(&u, UART_RX);
    assert_false(uart_interrupt(&u));
}

static void test_clearing_the_receiver(void **state)
{
    (void)state;
    enable_fifo(UART_FCR_TRIGGER_8);
    uart_write(&u, UART_IER, UART_IER_RDI);
    receive("abc");
    uart_time_out(&u);
    enable_fifo(UART_FCR_TRIGGER_8 | UART_FCR_CLEAR_RCVR);
    assert_int_equal(uart_room(&u), 16);
    assert_false(uart_interrupt(&u));
    assert_false(lsr() & UART_LSR_DR);
}

/* ---- Break and errors ----------------------------------------------------------------------- */

static void test_break_shows_when_its_turn_comes(void **state)
{
    (void)state;
    enable_fifo(0);
    uart_write(&u, UART_IER, UART_IER_RLSI);
    receive("a");
    uart_receive_break(&u);
    receive("b");

    unsigned status = lsr();
    assert_false(status & UART_LSR_BI); /* 'a' is on top */
    assert_true(status & UART_LSR_FIFOE);
    assert_false(uart_interrupt(&u));
    assert_int_equal(uart_read(&u, UART_RX), 'a');

    assert_int_equal(iir(), FIFO_BITS | UART_IIR_RLSI);
    status = lsr();
    assert_true(status & UART_LSR_BI);
    assert_false(uart_interrupt(&u));
    assert_false(lsr() & (UART_LSR_BI | UART_LSR_FIFOE));
    assert_int_equal(uart_read(&u, UART_RX), 0);
    assert_int_equal(uart_read(&u, UART_RX), 'b');
}

static void test_overrun_interrupts(void **state)
{
    (void)state;
    uart_write(&u, UART_IER, UART_IER_RLSI | UART_IER_RDI);
    receive("ab");
    assert_int_equal(iir(), UART_IIR_RLSI);
    lsr();
    assert_int_equal(iir(), UART_IIR_RDI);
}

/* ---- Transmitter ---------------------------------------------------------------------------- */

static void test_transmit_without_fifo(void **state)
{
    (void)state;
    assert_false(uart_full(&u));
    transmit("a");
    assert_true(uart_full(&u));
    assert_false(lsr() & (UART_LSR_THRE | UART_LSR_TEMT));
    transmit("b"); /* lost */
    assert_int_equal(u.tx_count, 1);
    assert_int_equal(u.tx[0], 'a');
    uart_sent(&u, 1);
    assert_int_equal(lsr(), UART_LSR_THRE | UART_LSR_TEMT);
}

static void test_transmit_with_fifo(void **state)
{
    (void)state;
    enable_fifo(0);
    transmit("0123456789abcde");
    assert_false(uart_full(&u));
    transmit("f");
    assert_true(uart_full(&u));
    transmit("X");
    assert_int_equal(u.tx_count, 16);
    assert_memory_equal(u.tx, "0123456789abcdef", 16);

    uart_sent(&u, 10);
    assert_int_equal(u.tx_count, 6);
    assert_memory_equal(u.tx, "abcdef", 6);
    assert_false(lsr() & UART_LSR_THRE); /* it says empty, not room */
    uart_sent(&u, 100);
    assert_int_equal(u.tx_count, 0);
    assert_true(lsr() & UART_LSR_THRE);
}

static void test_thre_interrupt(void **state)
{
    (void)state;
    enable_fifo(0);
    /* Enabling it with an empty transmitter raises it: that is how drivers begin. */
    uart_write(&u, UART_IER, UART_IER_THRI);
    assert_true(uart_interrupt(&u));
    assert_int_equal(iir(), FIFO_BITS | UART_IIR_THRI);
    assert_false(uart_interrupt(&u)); /* reading IIR was the acknowledgement */

    transmit("abc");
    assert_false(uart_interrupt(&u));
    uart_sent(&u, 2);
    assert_false(uart_interrupt(&u));
    uart_sent(&u, 1);
    assert_true(uart_interrupt(&u));
    transmit("d"); /* so is writing */
    assert_false(uart_interrupt(&u));
}

/* The 8250 driver looks for chips that raise it once only. */
static void test_thre_interrupt_comes_again(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        uart_write(&u, UART_IER, UART_IER_THRI);
        assert_int_equal(iir(), UART_IIR_THRI);
        uart_write(&u, UART_IER, 0);
        assert_int_equal(iir(), UART_IIR_NO_INT);
    }
    /* But not by writing what was there before. */
    uart_write(&u, UART_IER, UART_IER_THRI);
    iir();
    uart_write(&u, UART_IER, UART_IER_THRI | UART_IER_RDI);
    assert_false(uart_interrupt(&u));
}

static void test_enabling_thre_with_bytes_waiting(void **state)
{
    (void)state;
    enable_fifo(0);
    transmit("a");
    uart_write(&u, UART_IER, UART_IER_THRI);
    assert_false(uart_interrupt(&u));
    uart_sent(&u, 1);
    assert_true(uart_interrupt(&u));
}

static void test_clearing_the_transmitter(void **state)
{
    (void)state;
    enable_fifo(0);
    uart_write(&u, UART_IER, UART_IER_THRI);
    transmit("abc");
    enable_fifo(UART_FCR_CLEAR_XMIT);
    assert_int_equal(u.tx_count, 0);
    assert_int_equal(iir(), FIFO_BITS | UART_IIR_THRI);
    enable_fifo(UART_FCR_CLEAR_XMIT); /* nothing to clear, nothing to tell */
    assert_false(uart_interrupt(&u));
}

/* ---- FIFO control --------------------------------------------------------------------------- */

static void test_changing_fifo_mode_clears_both(void **state)
{
    (void)state;
    receive("a");
    transmit("b");
    enable_fifo(0);
    assert_int_equal(u.rx_count + u.tx_count, 0);
    assert_int_equal(iir() & FIFO_BITS, FIFO_BITS);
    receive("abc");
    transmit("def");
    uart_write(&u, UART_FCR, 0);
    assert_int_equal(u.rx_count + u.tx_count, 0);
    assert_int_equal(iir() & FIFO_BITS, 0);
}

static void test_fcr_bits_need_the_enable_bit(void **state)
{
    (void)state;
    receive("a");
    uart_write(&u, UART_FCR, UART_FCR_CLEAR_RCVR | UART_FCR_TRIGGER_14);
    assert_int_equal(uart_read(&u, UART_RX), 'a');

    enable_fifo(0);
    receive("abc");
    enable_fifo(UART_FCR_TRIGGER_4); /* a new trigger level alone loses nothing */
    assert_int_equal(uart_room(&u), 13);
}

/* A 16550A has no 64-byte mode and no enhanced features: Linux looks for them, and finds none. */
static void test_driver_probes_find_a_16550a(void **state)
{
    (void)state;
    uart_write(&u, UART_IER, 0);
    assert_int_equal(uart_read(&u, UART_IER), 0);
    uart_write(&u, UART_IER, 0x0f);
    assert_int_equal(uart_read(&u, UART_IER), 0x0f);
    uart_write(&u, UART_IER, 0);

    uart_write(&u, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
    assert_int_equal(uart_read(&u, UART_MSR) & 0xf0, 0x90);
    uart_write(&u, UART_MCR, 0);

    uart_write(&u, UART_FCR, UART_FCR_ENABLE_FIFO);
    assert_int_equal(iir() >> 6, 3);
    uart_write(&u, UART_LCR, 0xbf);
    assert_int_not_equal(uart_read(&u, 2), 0); /* an EFR would be here */
    uart_write(&u, UART_LCR, 0);
    uart_write(&u, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
    assert_int_equal(iir() >> 5, 6);

    /* How many bytes does the FIFO hold? */
    uart_write(&u, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR | UART_FCR_CLEAR_XMIT);
    uart_write(&u, UART_MCR, UART_MCR_LOOP);
    for (unsigned i = 0; i < 256; i++)
        uart_write(&u, UART_TX, (uint8_t)i);
    unsigned count = 0;
    while (count < 256 && (lsr() & UART_LSR_DR)) {
        assert_int_equal(uart_read(&u, UART_RX), count);
        count++;
    }
    assert_int_equal(count, 16);
}

/* ---- Modem lines ---------------------------------------------------------------------------- */

static void test_modem_deltas(void **state)
{
    (void)state;
    uart_write(&u, UART_IER, UART_IER_MSI);
    uart_set_lines(&u, UART_MSR_CTS | UART_MSR_DCD);
    assert_int_equal(iir(), UART_IIR_MSI);
    assert_int_equal(uart_read(&u, UART_MSR),
                     UART_MSR_CTS | UART_MSR_DCD | UART_MSR_DCTS | UART_MSR_DDCD);
    assert_int_equal(iir(), UART_IIR_NO_INT);
    assert_int_equal(uart_read(&u, UART_MSR), UART_MSR_CTS | UART_MSR_DCD);

    uart_set_lines(&u, UART_MSR_CTS | UART_MSR_DCD); /* the same again */
    assert_false(uart_interrupt(&u));

    uart_set_lines(&u, UART_MSR_CTS | UART_MSR_DSR);
    uart_set_lines(&u, UART_MSR_CTS | UART_MSR_DCD); /* there and back: deltas stay */
    assert_int_equal(uart_read(&u, UART_MSR),
                     UART_MSR_CTS | UART_MSR_DCD | UART_MSR_DDSR | UART_MSR_DDCD);
}

static void test_ring_tells_of_its_end(void **state)
{
    (void)state;
    uart_set_lines(&u, UART_MSR_RI);
    assert_int_equal(uart_read(&u, UART_MSR), UART_MSR_RI);
    uart_set_lines(&u, 0);
    assert_int_equal(uart_read(&u, UART_MSR), UART_MSR_TERI);
}

static void test_only_lines_are_lines(void **state)
{
    (void)state;
    uart_set_lines(&u, 0x0f);
    assert_int_equal(uart_read(&u, UART_MSR), 0);
}

/* ---- Loopback ------------------------------------------------------------------------------- */

static void test_loopback_wires_outputs_to_inputs(void **state)
{
    static const struct {
        uint8_t output, input;
    } wires[] = {
        { UART_MCR_DTR, UART_MSR_DSR },
        { UART_MCR_RTS, UART_MSR_CTS },
        { UART_MCR_OUT1, UART_MSR_RI },
        { UART_MCR_OUT2, UART_MSR_DCD },
    };

    (void)state;
    uart_set_lines(&u, UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD);
    for (unsigned i = 0; i < 4; i++) {
        uart_write(&u, UART_MCR, UART_MCR_LOOP | wires[i].output);
        assert_int_equal(uart_read(&u, UART_MSR) & 0xf0, wires[i].input);
    }
    uart_write(&u, UART_MCR, 0);
    assert_int_equal(uart_read(&u, UART_MSR) & 0xf0, UART_MSR_CTS | UART_MSR_DSR | UART_MSR_DCD);
}

static void test_loopback_cuts_the_line(void **state)
{
    (void)state;
    enable_fifo(0);
    uart_write(&u, UART_IER, UART_IER_RDI | UART_IER_THRI);
    iir();
    uart_write(&u, UART_MCR, UART_MCR_LOOP);
    assert_int_equal(uart_room(&u), 0);
    receive("from outside");
    uart_receive_break(&u);
    assert_false(lsr() & UART_LSR_DR);

    transmit("a");
    assert_int_equal(u.tx_count, 0); /* nothing for the line */
    assert_int_equal(iir(), FIFO_BITS | UART_IIR_RDI);
    assert_int_equal(uart_read(&u, UART_RX), 'a');
    assert_int_equal(iir(), FIFO_BITS | UART_IIR_THRI);
}

static void test_loopback_break(void **state)
{
    (void)state;
    uart_write(&u, UART_MCR, UART_MCR_LOOP);
    uart_write(&u, UART_LCR, UART_LCR_SBC | UART_LCR_WLEN8);
    uart_write(&u, UART_LCR, UART_LCR_SBC | UART_LCR_WLEN8); /* still the same break */
    assert_int_equal(lsr() & (UART_LSR_BI | UART_LSR_OE), UART_LSR_BI);
    assert_int_equal(uart_read(&u, UART_RX), 0);
    assert_false(lsr() & (UART_LSR_BI | UART_LSR_DR));

    uart_write(&u, UART_LCR, UART_LCR_WLEN8);
    uart_write(&u, UART_MCR, 0);
    uart_write(&u, UART_LCR, UART_LCR_SBC); /* goes out to the line, not back */
    assert_false(lsr() & UART_LSR_DR);
}

/* ---- Priorities ----------------------------------------------------------------------------- */

static void test_interrupts_come_by_priority(void **state)
{
    (void)state;
    enable_fifo(UART_FCR_TRIGGER_1);
    uart_write(&u, UART_IER, 0x0f);
    uart_set_lines(&u, UART_MSR_CTS);
    uart_receive_break(&u);

    assert_int_equal(iir(), FIFO_BITS | UART_IIR_RLSI);
    lsr();
    assert_int_equal(iir(), FIFO_BITS | UART_IIR_RDI);
    uart_read(&u, UART_RX);
    assert_int_equal(iir(), FIFO_BITS | UART_IIR_THRI);
    assert_int_equal(iir(), FIFO_BITS | UART_IIR_MSI);
    uart_read(&u, UART_MSR);
    assert_int_equal(iir(), FIFO_BITS | UART_IIR_NO_INT);
}

static void test_nothing_that_is_off_interrupts(void **state)
{
    (void)state;
    uart_set_lines(&u, UART_MSR_CTS);
    uart_receive_break(&u);
    receive("ab");
    transmit("x");
    uart_sent(&u, 1);
    assert_false(uart_interrupt(&u));
    assert_int_equal(iir(), UART_IIR_NO_INT);
}

/* ---- State from elsewhere, and any access at all -------------------------------------------- */

static void test_valid(void **state)
{
    (void)state;
    assert_true(uart_valid(&u));
    enable_fifo(0);
    u.rx_count = 16;
    u.tx_count = 16;
    u.rx_head = 15;
    assert_true(uart_valid(&u));
    u.rx_head = 16;
    assert_false(uart_valid(&u));
    u.rx_head = 0;
    u.rx_count = 17;
    assert_false(uart_valid(&u));
    u.rx_count = 0;
    u.tx_count = 255;
    assert_false(uart_valid(&u));
    u.tx_count = 2;
    u.fcr = 0; /* without FIFOs there is room for one */
    assert_false(uart_valid(&u));
}

static void test_any_access_keeps_it_valid(void **state)
{
    uint32_t random = 1;

    (void)state;
    for (unsigned i = 0; i < 1000000; i++) {
        random = random * 1664525u + 1013904223u;
        unsigned reg = random >> 29;
        uint8_t value = (uint8_t)(random >> 16);
        switch ((random >> 24) & 7) {
        case 0:
        case 1:
            uart_read(&u, reg);
            break;
        case 2:
            uart_receive(&u, value);
            break;
        case 3:
            uart_receive_break(&u);
            break;
        case 4:
            uart_sent(&u, value);
            break;
        case 5:
            uart_set_lines(&u, value);
            uart_time_out(&u);
            break;
        default:
            uart_write(&u, reg, value);
            break;
        }
        assert_true(uart_valid(&u));
        assert_true(uart_room(&u) <= 16);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, power_on)
    const struct CMUnitTest tests[] = {
        TEST(test_power_on_values),
        TEST(test_scratch_and_control_keep_what_exists),
        TEST(test_divisor_is_behind_dlab),
        TEST(test_status_registers_cannot_be_written),
        TEST(test_reset_keeps_the_lines),
        TEST(test_receive_without_fifo),
        TEST(test_overrun_without_fifo_keeps_the_newest),
        TEST(test_fifo_keeps_sixteen_in_order),
        TEST(test_fifo_goes_round),
        TEST(test_overrun_with_fifo_keeps_the_oldest),
        TEST(test_trigger_levels),
        TEST(test_time_out_tells_of_bytes_below_the_trigger),
        TEST(test_time_out_without_need_does_nothing),
        TEST(test_clearing_the_receiver),
        TEST(test_break_shows_when_its_turn_comes),
        TEST(test_overrun_interrupts),
        TEST(test_transmit_without_fifo),
        TEST(test_transmit_with_fifo),
        TEST(test_thre_interrupt),
        TEST(test_thre_interrupt_comes_again),
        TEST(test_enabling_thre_with_bytes_waiting),
        TEST(test_clearing_the_transmitter),
        TEST(test_changing_fifo_mode_clears_both),
        TEST(test_fcr_bits_need_the_enable_bit),
        TEST(test_driver_probes_find_a_16550a),
        TEST(test_modem_deltas),
        TEST(test_ring_tells_of_its_end),
        TEST(test_only_lines_are_lines),
        TEST(test_loopback_wires_outputs_to_inputs),
        TEST(test_loopback_cuts_the_line),
        TEST(test_loopback_break),
        TEST(test_interrupts_come_by_priority),
        TEST(test_nothing_that_is_off_interrupts),
        TEST(test_valid),
        TEST(test_any_access_keeps_it_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

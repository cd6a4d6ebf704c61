/*
 * test_moves.c - a serial port moves between two processes, while bytes flow through it both ways.
 *
 *     test_moves pipe|pty [key=value ...]
 *
 * Both processes have the same line as standard input and output: a pipe for each direction, or a terminal.
 * Three threads: the machine is a driver, which works with interrupts and looks at each byte that it receives;
 * the far end writes and reads the line all the time; the main thread moves the port. The machine is stopped
 * between any two accesses of registers, and only when the device is about to be stopped; the line never.
 */
#include <outboard/client.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/serial_reg.h>
#include <linux/vfio.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MOVES 100u
#define FULL_EVERY 25u /* moves, then one with output that the line does not take */
#define PIPE 4096 /* bytes that one takes, a page */
#define PATIENCE_MS 60000u

static const char *way;
static const char *const *words;

/* ---- What the bytes are ------------------------------------------------------------------------------- */

/* Bytes of one direction. Each is what its number makes it: none can be lost, doubled or come early. */
struct flow {
    const uint32_t seed;
    atomic_ulong sent, received;
};
static struct flow to_guest = { .seed = 1 }, from_guest = { .seed = 2 };

static char complaint[256]; /* the first one; not to be read before `broken` */
static atomic_bool broken;

static void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void complain(const char *format, ...)
{
    static atomic_flag taken = ATOMIC_FLAG_INIT;
    va_list values;

    if (atomic_flag_test_and_set(&taken))
        return;
    va_start(values, format);
    vsnprintf(complaint, sizeof complaint, format, values);
    va_end(values);
    atomic_store(&broken, true);
}

static uint8_t byte_of(const struct flow *f, unsigned long number)
{
    uint64_t x = (number + 1) * 0x9e3779b97f4a7c15u ^ f->seed * 0xbf58476d1ce4e5b9u;
    return (uint8_t)(x >> 56 ^ x >> 37);
}

static void take(struct flow *f, uint8_t byte)
{
    unsigned long number = atomic_fetch_add(&f->received, 1);

    if (number >= atomic_load(&f->sent))
        complain("%s the guest: byte %lu was never sent", f == &to_guest ? "to" : "from", number);
    else if (byte != byte_of(f, number))
        complain("%s the guest: byte %lu is 0x%02x, not 0x%02x", f == &to_guest ? "to" : "from", number, byte,
                 byte_of(f, number));
}

static uint32_t random_number(uint64_t *random, uint32_t below)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*random >> 33) % below;
}

/* ---- The machine -------------------------------------------------------------------------------------- */

static struct machine {
    struct ob_client *at; /* where the port is */
    int irq;
    bool unmask; /* the interrupt masks itself */
    pthread_mutex_t lock; /* held while the machine runs */
    atomic_bool wanted;   /* somebody wants it to stop */
    atomic_bool end;
} m;

static void let_stop(void)
{
    if (!atomic_load(&m.wanted))
        return;
    pthread_mutex_unlock(&m.lock);
    while (atomic_load(&m.wanted))
        usleep(10);
    pthread_mutex_lock(&m.lock);
}

static void check_call(int ret)
{
    char why[OB_CLIENT_ERROR_SIZE];

    if (ret < 0)
        complain("machine: %s", ob_client_error(m.at, why, sizeof why));
}

static uint8_t get(unsigned reg)
{
    uint8_t value = 0xff;

    let_stop();
    check_call(ob_client_read(m.at, VFIO_PCI_BAR0_REGION_INDEX, reg, &value, 1));
    return value;
}

static void set(unsigned reg, uint8_t value)
{
    let_stop();
    check_call(ob_client_write(m.at, VFIO_PCI_BAR0_REGION_INDEX, reg, &value, 1));
}

/* A FIFO's worth. The last line status. */
static uint8_t receive_some(void)
{
    uint8_t status = get(UART_LSR);

    for (unsigned i = 0; i < 16 && (status & UART_LSR_DR) && !atomic_load(&broken); i++) {
        take(&to_guest, get(UART_RX));
        status = get(UART_LSR);
    }
    return status;
}

/* As Linux does: both directions get their turn, whichever the interrupt is for. */
static void handle_interrupt(void)
{
    while (!(get(UART_IIR) & UART_IIR_NO_INT) && !atomic_load(&broken))
        if (receive_some() & UART_LSR_THRE)
            for (unsigned i = 0; i < 16 && !atomic_load(&m.end); i++)
                set(UART_TX, byte_of(&from_guest, atomic_fetch_add(&from_guest.sent, 1)));
    let_stop();
    if (m.unmask)
        check_call(ob_client_irq_act(m.at, 0, VFIO_IRQ_SET_ACTION_UNMASK, 0, 1, NULL));
}

static void *run_machine(void *unused)
{
    struct pollfd irq = { .fd = m.irq, .events = POLLIN };
    uint64_t n;

    pthread_mutex_lock(&m.lock);
    set(UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_TRIGGER_8);
    set(UART_LCR, UART_LCR_WLEN8);
    set(UART_MCR, UART_MCR_DTR | UART_MCR_RTS | UART_MCR_OUT2);
    set(UART_IER, UART_IER_RDI | UART_IER_THRI);
    while (!atomic_load(&m.end) && !atomic_load(&broken)) {
        let_stop();
        if (poll(&irq, 1, 1) == 1 && read(m.irq, &n, sizeof n) == sizeof n)
            handle_interrupt();
    }
    pthread_mutex_unlock(&m.lock);
    return unused;
}

static int stop_machine(void *ctx, enum ob_move moment)
{
    (void)ctx;
    if (moment == OB_MOVE_STOPS) {
        atomic_store(&m.wanted, true);
        pthread_mutex_lock(&m.lock);
    }
    return 0;
}

static void go_on(struct ob_client *at)
{
    m.at = at;
    pthread_mutex_unlock(&m.lock);
    atomic_store(&m.wanted, false);
}

/* ---- The far end of the line -------------------------------------------------------------------------- */

static struct line {
    int in, out;         /* to the guest, from the guest */
    int ends[2];         /* what the processes get */
    atomic_bool silent;  /* it has nothing more to send */
    atomic_bool asleep;  /* it does not read */
    atomic_bool end;
} line;

static void write_some(size_t n)
{
    uint8_t bytes[300];
    unsigned long number = atomic_load(&to_guest.sent);

    for (size_t i = 0; i < n; i++)
        bytes[i] = byte_of(&to_guest, number + i);
    /* Counted before they are there, or the guest could be ahead. */
    atomic_store(&to_guest.sent, number + n);
    ssize_t written = write(line.in, bytes, n);
    if (written < 0 && errno != EAGAIN)
        complain("far end: write: %s", strerror(errno));
    atomic_store(&to_guest.sent, number + (written < 0 ? 0 : (size_t)written));
}

/* All that there is: of a page that was read in part, a pipe does not use that part again until all was read. */
static void read_all(void)
{
    uint8_t bytes[PIPE];
    ssize_t got = read(line.out, bytes, sizeof bytes);

    if (got <= 0 && errno != EAGAIN)
        complain("far end: read: %s", got < 0 ? strerror(errno) : "the line has ended");
    for (ssize_t i = 0; i < got; i++)
        take(&from_guest, bytes[i]);
}

static void *run_far_end(void *unused)
{
    uint64_t random = 2;

    while (!atomic_load(&line.end) && !atomic_load(&broken)) {
        struct pollfd fds[2] = { { line.in, atomic_load(&line.silent) ? 0 : POLLOUT, 0 },
                                 { line.out, atomic_load(&line.asleep) ? 0 : POLLIN, 0 } };
        poll(fds, 2, 1);
        if (fds[0].revents & POLLOUT)
            write_some(1 + random_number(&random, 300));
        if (fds[1].revents & POLLIN)
            read_all();
    }
    return unused;
}

static void make_pipes(void)
{
    int in[2], out[2];

    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_true(fcntl(in[0], F_SETPIPE_SZ, PIPE) == PIPE && fcntl(out[0], F_SETPIPE_SZ, PIPE) == PIPE);
    line = (struct line){ .in = in[1], .out = out[0], .ends = { in[0], out[1] } };
    fcntl(line.in, F_SETFL, O_NONBLOCK);
    fcntl(line.out, F_SETFL, O_NONBLOCK);
}

static void make_terminal(void)
{
    struct termios raw;
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);

    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
    assert_true(slave >= 0 && tcgetattr(slave, &raw) == 0);
    cfmakeraw(&raw);
    assert_int_equal(tcsetattr(slave, TCSANOW, &raw), 0);
    line = (struct line){ .in = master, .out = master, .ends = { slave, slave } };
}

/* ---- Two processes ------------------------------------------------------------------------------------- */

static struct server {
    char socket[48];
    pid_t pid;
} server[2];
static char folder[] = "/tmp/outboard-moves-XXXXXX";

static void serve(struct server *s, const char *name)
{
    const char *argv[16] = { getenv("OUTBOARD"), "serve", "serial", "path=-" };
    char socket[128], ready_fd[32], byte;
    unsigned n = 4;
    int ready[2];

    assert_int_equal(pipe(ready), 0);
    snprintf(s->socket, sizeof s->socket, "%s/%s", folder, name);
    snprintf(socket, sizeof socket, "--socket-path=%s", s->socket);
    snprintf(ready_fd, sizeof ready_fd, "--ready-fd=%d", ready[1]);
    argv[n++] = socket;
    argv[n++] = ready_fd;
    for (const char *const *word = words; *word && n < 15; word++)
        argv[n++] = *word;
    s->pid = fork();
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        close(ready[0]);
        dup2(line.ends[0], STDIN_FILENO);
        dup2(line.ends[1], STDOUT_FILENO);
        execv(argv[0], (char **)(uintptr_t)argv);
        _exit(127);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
}

static void end_server(struct server *s)
{
    int status;

    kill(s->pid, SIGTERM);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static struct ob_client *connect_to(const struct server *s)
{
    struct ob_client *c = ob_client_new();
    struct vfio_irq_info info;

    assert_non_null(c);
    assert_int_equal(ob_client_set_timeout(c, PATIENCE_MS), 0);
    assert_int_equal(ob_client_connect(c, s->socket), 0);
    assert_int_equal(ob_client_irq_info(c, 0, &info), 0);
    m.unmask = info.flags & VFIO_IRQ_INFO_AUTOMASKED;
    assert_int_equal(ob_client_irq_eventfds(c, 0, VFIO_IRQ_SET_ACTION_TRIGGER, 0, 1, &m.irq), 0);
    return c;
}

/* ---- Moves --------------------------------------------------------------------------------------------- */

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Waits until so many bytes have been received. */
static void wait_for(struct flow *f, unsigned long number)
{
    uint64_t end = now_ms() + PATIENCE_MS;

    while (atomic_load(&f->received) < number && now_ms() < end && !atomic_load(&broken))
        usleep(50);
    if (atomic_load(&broken))
        fail_msg("%s", complaint);
    if (atomic_load(&f->received) < number)
        fail_msg("%s the guest: %lu bytes of %lu have come", f == &to_guest ? "to" : "from",
                 atomic_load(&f->received), number);
}

/* Until the pipe has no place for a FIFO of bytes, which is written as a whole: the port keeps it. */
static void fill_line(void)
{
    int n = 0;

    atomic_store(&line.asleep, true);
    for (uint64_t end = now_ms() + PATIENCE_MS; n <= PIPE - 16 && now_ms() < end && !atomic_load(&broken);) {
        usleep(50);
        assert_int_equal(ioctl(line.out, FIONREAD, &n), 0);
    }
    assert_true(n > PIPE - 16);
}

static void move_once(struct ob_client *from, struct ob_client *to)
{
    char why[OB_CLIENT_ERROR_SIZE];
    bool at_to = false;
    int ret = ob_client_move(from, to, stop_machine, NULL, &at_to);

    if (ret < 0)
        fail_msg("%s: %s", at_to ? "destination" : "source",
                 ob_client_error(at_to ? to : from, why, sizeof why));
    go_on(to);
}

static void move_many(struct ob_client *const end[2])
{
    uint64_t random = 1;

    for (unsigned i = 0; i < MOVES; i++) {
        bool full = i % FULL_EVERY == FULL_EVERY - 1 && line.in != line.out;
        if (full)
            fill_line();
        else /* every process sees both directions */
            wait_for(&from_guest, atomic_load(&from_guest.received) + 1 + random_number(&random, 100));
        wait_for(&to_guest, atomic_load(&to_guest.received) + 1 + random_number(&random, 100));
        move_once(end[i % 2], end[!(i % 2)]);
        atomic_store(&line.asleep, false);
    }
}

/* The machine has ended, and this thread is in its place: nothing is missing, and nothing is left over. */
static void receive_last(void)
{
    unsigned long sent = atomic_load(&to_guest.sent);
    int n = 0;

    for (uint64_t end = now_ms() + PATIENCE_MS; atomic_load(&to_guest.received) < sent && now_ms() < end;)
        receive_some();
    receive_some();
    assert_int_equal(ioctl(line.ends[0], FIONREAD, &n), 0);
    assert_int_equal(n, 0);
    assert_int_equal(ioctl(line.out, FIONREAD, &n), 0);
    assert_int_equal(n, 0);
    if (atomic_load(&broken))
        fail_msg("%s", complaint);
    assert_int_equal(atomic_load(&to_guest.received), sent);
    assert_int_equal(atomic_load(&from_guest.received), atomic_load(&from_guest.sent));
}

/* Those who send end before those who receive. */
static void end_traffic(pthread_t machine, pthread_t far_end)
{
    atomic_store(&line.silent, true);
    atomic_store(&m.end, true);
    pthread_join(machine, NULL);
    wait_for(&from_guest, atomic_load(&from_guest.sent));
    atomic_store(&line.end, true);
    pthread_join(far_end, NULL);
    pthread_mutex_lock(&m.lock);
    receive_last();
    pthread_mutex_unlock(&m.lock);
    print_message("# %u moves, %lu bytes to the guest, %lu from it\n", MOVES, atomic_load(&to_guest.sent),
                  atomic_load(&from_guest.sent));
}

static void test_hundred_moves(void **state)
{
    struct ob_client *end[2];
    pthread_t machine, far_end;
    (void)state;

    if (strcmp(way, "pty") == 0)
        make_terminal();
    else
        make_pipes();
    m.irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&m.lock, NULL);
    assert_non_null(mkdtemp(folder));
    for (unsigned i = 0; i < 2; i++) {
        serve(&server[i], i ? "b" : "a");
        end[i] = connect_to(&server[i]);
    }
    /* It waits for a state, and leaves the line alone until then. */
    assert_int_equal(ob_client_set_migration_state(end[1], VFIO_DEVICE_STATE_STOP), 0);
    m.at = end[0];
    assert_int_equal(pthread_create(&machine, NULL, run_machine, NULL), 0);
    assert_int_equal(pthread_create(&far_end, NULL, run_far_end, NULL), 0);

    move_many(end);
    end_traffic(machine, far_end);

    for (unsigned i = 0; i < 2; i++) {
        ob_client_free(end[i]);
        end_server(&server[i]);
        unlink(server[i].socket);
    }
    rmdir(folder);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_hundred_moves) };

    if (argc < 2)
        return 2;
    way = argv[1];
    words = (const char *const *)argv + 2;
    return cmocka_run_group_tests_name("serial-moves", tests, NULL, NULL);
}

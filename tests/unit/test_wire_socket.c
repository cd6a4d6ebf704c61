/*
 * test_wire_socket.c - capabilities as JSON, and descriptors over a socket.
 */
#include "wire/limits.h"
#include "wire/socket.h"
#include "wire/version.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- Capabilities --------------------------------------------------------------------------- */

#define CAPABILITIES(inside) "{\"capabilities\":{" inside "}}"

static void parse(const char *text, struct wire_capabilities *c, int expected)
{
    int ret = wire_capabilities_parse(text, strlen(text) + 1, c);
    if (ret != expected)
        fail_msg("%s: %d, not %d", text, ret, expected);
}

static void test_defaults(void **state)
{
    static const char *const texts[] = { "{}", CAPABILITIES(""),
                                         CAPABILITIES("\"unknown\":{\"a\":[1]}"), "{\"other\":1}" };
    struct wire_capabilities c, expected;
    (void)state;

    wire_capabilities_default(&expected);
    assert_true(expected.max_msg_fds == 1 && expected.max_data_xfer_size == 1048576 &&
                expected.max_dma_maps == 65535 && expected.pgsizes == 4096 &&
                !expected.write_multiple && !expected.twin_socket);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        memset(&c, 0xaa, sizeof c);
        parse(texts[i], &c, 0);
        assert_int_equal(c.max_msg_fds, expected.max_msg_fds);
        assert_int_equal(c.max_data_xfer_size, expected.max_data_xfer_size);
        assert_int_equal(c.max_dma_maps, expected.max_dma_maps);
        assert_int_equal(c.pgsizes, expected.pgsizes);
        assert_int_equal(c.twin_socket_fd_index, -1);
    }
    assert_int_equal(wire_capabilities_parse(NULL, 0, &c), 0);
    assert_int_equal(c.max_msg_fds, 1);
}

static void test_all_values(void **state)
{
    struct wire_capabilities c;
    (void)state;

    parse(CAPABILITIES("\"max_msg_fds\":8,\"max_data_xfer_size\":4096,\"max_dma_maps\":7,"
                       "\"pgsizes\":2101248,\"write_multiple\":true,"
                       "\"twin_socket\":{\"supported\":true,\"fd_index\":3}"),
          &c, 0);
    assert_true(c.max_msg_fds == 8 && c.max_data_xfer_size == 4096 && c.max_dma_maps == 7 &&
                c.pgsizes == 2101248 && c.write_multiple && c.twin_socket &&
                c.twin_socket_fd_index == 3);
    parse(CAPABILITIES("\"max_msg_fds\":4294967296,\"max_data_xfer_size\":9007199254740992"), &c,
          0);
    assert_true(c.max_msg_fds == UINT32_MAX && c.max_data_xfer_size == UINT32_MAX);
}

static void test_bad_values(void **state)
{
    static const char *const texts[] = {
        "",
        "x",
        "[]",
        "7",
        "null",
        "\"capabilities\"",
        "{",
        "{}}",
        "{}x",
        "{\"capabilities\":7}",
        "{\"capabilities\":null}",
        CAPABILITIES("\"max_msg_fds\":0"),
        CAPABILITIES("\"max_msg_fds\":-1"),
        CAPABILITIES("\"max_msg_fds\":1.0"),
        CAPABILITIES("\"max_msg_fds\":\"1\""),
        CAPABILITIES("\"max_msg_fds\":true"),
        CAPABILITIES("\"max_msg_fds\":null"),
        CAPABILITIES("\"max_dma_maps\":9007199254740993"),
        CAPABILITIES("\"pgsizes\":0"),
        CAPABILITIES("\"pgsizes\":18446744073709551616"),
        CAPABILITIES("\"write_multiple\":1"),
        CAPABILITIES("\"twin_socket\":1"),
        CAPABILITIES("\"twin_socket\":{\"fd_index\":16}"),
        CAPABILITIES("\"twin_socket\":{\"fd_index\":-1}"),
        CAPABILITIES("\"max_msg_fds\":"),
        "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}}}}}}}",
    };
    struct wire_capabilities c;
    (void)state;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        parse(texts[i], &c, -EINVAL);
    assert_int_equal(wire_capabilities_parse("{}", 2, &c), -EINVAL); /* no NUL */
    assert_int_equal(wire_capabilities_parse("", 1, &c), -EINVAL);
}

static void test_too_long(void **state)
{
    static char text[WIRE_MAX_VERSION + 1] = "{}";
    struct wire_capabilities c;
    (void)state;

    memset(text + 2, ' ', sizeof text - 3);
    assert_int_equal(wire_capabilities_parse(text, sizeof text, &c), -EINVAL);
    assert_int_equal(wire_capabilities_parse(text + 1, WIRE_MAX_VERSION, &c), -EINVAL); /* "}" */
    text[1] = '{';
    text[2] = '}';
    assert_int_equal(wire_capabilities_parse(text + 1, WIRE_MAX_VERSION, &c), 0);
}

static void test_what_is_written_can_be_read(void **state)
{
    struct wire_capabilities ours, read;
    char text[512];
    (void)state;

    wire_capabilities_ours(&ours);
    for (int twin = 0; twin < 2; twin++) {
        ours.twin_socket = twin;
        ours.twin_socket_fd_index = twin ? 2 : -1;
        int n = wire_capabilities_format(&ours, text, sizeof text);
        assert_true(n > 0 && text[n - 1] == '\0' && strlen(text) == (size_t)n - 1);
        assert_int_equal(!strstr(text, "twin_socket"), !twin);
        assert_int_equal(wire_capabilities_parse(text, (size_t)n, &read), 0);
        assert_true(read.max_msg_fds == ours.max_msg_fds && read.pgsizes == ours.pgsizes &&
                    read.max_data_xfer_size == ours.max_data_xfer_size &&
                    read.max_dma_maps == ours.max_dma_maps &&
                    read.write_multiple == ours.write_multiple &&
                    read.twin_socket == ours.twin_socket &&
                    read.twin_socket_fd_index == ours.twin_socket_fd_index);
        for (size_t space = 0; space < (size_t)n; space++)
            assert_int_equal(wire_capabilities_format(&ours, text, space), -ENOSPC);
    }
}

/* ---- Descriptors ---------------------------------------------------------------------------- */

static int pair[2];

static unsigned open_files(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static unsigned files_before;

static int make_pair(void **state)
{
    (void)state;
    files_before = open_files();
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair);
}

/* Nothing that a test received may be left. */
static int close_pair(void **state)
{
    (void)state;
    close(pair[0]);
    close(pair[1]);
    return open_files() == files_before ? 0 : -1;
}

/* Sends text with nfds eventfds whose counters are 1, 2, 3... */
static void send_text(const char *text, unsigned nfds)
{
    struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
    int fds[WIRE_MAX_FDS] = { 0 };

    for (unsigned i = 0; i < nfds; i++)
        assert_true((fds[i] = eventfd(i + 1, EFD_CLOEXEC)) >= 0);
    assert_int_equal(wire_send(pair[0], &iov, 1, fds, nfds), strlen(text));
    for (unsigned i = 0; i < nfds; i++)
        close(fds[i]);
}

static void check_fds(struct wire_fds *fds, unsigned count)
{
    uint64_t value = 0;

    assert_int_equal(fds->count, count);
    for (unsigned i = 0; i < count; i++) {
        assert_true(fcntl(fds->fd[i], F_GETFD) & FD_CLOEXEC);
        assert_int_equal(read(fds->fd[i], &value, sizeof value), sizeof value);
        assert_int_equal(value, i + 1);
        /* A later look finds the same eventfd. */
        assert_int_equal(write(fds->fd[i], &value, sizeof value), sizeof value);
    }
    wire_fds_close(fds);
    assert_int_equal(fds->count, 0);
}

static void test_as_many_as_a_message_has(void **state)
{
    struct wire_fds fds;
    char buf[16];
    (void)state;

    for (unsigned n = 0; n <= WIRE_MAX_FDS; n++) {
        send_text("hello", n);
        assert_int_equal(wire_receive(pair[1], buf, sizeof buf, &fds), 5);
        assert_memory_equal(buf, "hello", 5);
        assert_false(fds.lost);
        check_fds(&fds, n);
    }
    struct iovec iov = { buf, 1 };
    int many[WIRE_MAX_FDS + 1] = { 0 };
    assert_int_equal(wire_send(pair[0], &iov, 1, many, WIRE_MAX_FDS + 1), -E2BIG);
    assert_int_equal(wire_receive(pair[1], buf, sizeof buf, &fds), -EAGAIN);
}

static void test_a_look_takes_nothing(void **state)
{
    struct wire_fds fds;
    char buf[16];
    (void)state;

    send_text("hello", 2);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(wire_look(pair[1], buf, sizeof buf, &fds), 5);
        check_fds(&fds, 2);
    }
    assert_int_equal(wire_take(pair[1], 5), 5);
    assert_int_equal(wire_look(pair[1], buf, sizeof buf, &fds), -EAGAIN);
    close(pair[0]);
    pair[0] = dup(pair[1]);
    assert_int_equal(wire_look(pair[1], buf, sizeof buf, &fds), 0); /* the end */
}

/* So that it is always clear which bytes descriptors came with. */
static void test_a_look_ends_behind_descriptors(void **state)
{
    struct wire_fds fds;
    char buf[64];
    int offset = -2;
    (void)state;

    assert_int_equal(wire_set_peek_offset(pair[1], 0), 0);
    send_text("one ", 0);
    send_text("two ", 1);
    send_text("three ", 2);
    send_text("four", 0);
    assert_int_equal(wire_look(pair[1], buf, sizeof buf, &fds), 8);
    check_fds(&fds, 1);
    assert_int_equal(wire_peek_offset(pair[1], &offset), 0);
    assert_int_equal(offset, 8);
    assert_int_equal(wire_look(pair[1], buf, sizeof buf, &fds), 6);
    check_fds(&fds, 2);
    assert_int_equal(wire_look(pair[1], buf, sizeof buf, &fds), 4);
    check_fds(&fds, 0);
    assert_int_equal(wire_take(pair[1], 10), 10); /* across two of them */
    assert_int_equal(wire_peek_offset(pair[1], &offset), 0);
    assert_int_equal(offset, 8);
    assert_int_equal(wire_set_peek_offset(pair[1], 0), 0);
    assert_int_equal(wire_look(pair[1], buf, sizeof buf, &fds), 8);
    assert_memory_equal(buf, "ree four", 8);
    check_fds(&fds, 0); /* descriptors go with the first byte that is taken */
    assert_int_equal(wire_take(pair[1], 8), 8);
}

static void send_raw(const int *fd, unsigned n)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(64 * sizeof(int))];
    } control;
    struct iovec iov = { (void *)(uintptr_t) "x", 1 };
    struct msghdr msg = { .msg_iov = &iov,
                          .msg_iovlen = 1,
                          .msg_control = control.bytes,
                          .msg_controllen = CMSG_SPACE(n * sizeof(int)) };

    memset(&control, 0, sizeof control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(c), fd, n * sizeof(int));
    assert_int_equal(sendmsg(pair[0], &msg, 0), 1);
}

static void test_more_than_fit(void **state)
{
    struct wire_fds fds;
    int fd[64];
    char buf[16];
    (void)state;

    for (unsigned i = 0; i < 64; i++)
        fd[i] = pair[0];
    send_raw(fd, 64);
    assert_int_equal(wire_receive(pair[1], buf, sizeof buf, &fds), 1);
    assert_true(fds.lost);
    assert_int_equal(fds.count, WIRE_MAX_FDS);
    wire_fds_close(&fds);
    assert_false(fds.lost);
}

/* This process has room for some of them, or for none. */
static void test_no_room_for_descriptors(void **state)
{
    struct rlimit before, limit;
    struct wire_fds fds;
    int fd[4] = { pair[0], pair[0], pair[0], pair[0] };
    char buf[16];
    (void)state;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    int next = dup(pair[0]); /* the lowest free number */
    close(next);
    for (int room = 0; room < 4; room++) {
        send_raw(fd, 4);
        limit = (struct rlimit){ (rlim_t)(next + room), before.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
        ssize_t n = wire_receive(pair[1], buf, sizeof buf, &fds);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_int_equal(n, 1);
        assert_true(fds.lost);
        assert_int_equal(fds.count, room);
        wire_fds_close(&fds);
    }
}

static void test_closing_leaves_out_those_taken(void **state)
{
    struct wire_fds fds;
    char buf[16];
    (void)state;

    send_text("x", 3);
    assert_int_equal(wire_receive(pair[1], buf, sizeof buf, &fds), 1);
    int taken = fds.fd[1];
    fds.fd[1] = -1;
    wire_fds_close(&fds);
    assert_int_not_equal(fcntl(taken, F_GETFD), -1);
    close(taken);
}

static void test_a_peer_that_has_gone(void **state)
{
    struct iovec iov = { (void *)(uintptr_t) "x", 1 };
    struct wire_fds fds;
    char buf[4];
    (void)state;

    close(pair[0]);
    assert_int_equal(wire_send(pair[1], &iov, 1, NULL, 0), -EPIPE); /* and no signal */
    assert_int_equal(wire_receive(pair[1], buf, sizeof buf, &fds), 0);
    assert_int_equal(wire_take(pair[1], 4), 0);
    pair[0] = dup(pair[1]);
}

/* ---- Paths ---------------------------------------------------------------------------------- */

/* Is somebody listening there? 0, or a positive errno. */
static int knock(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(addr.sun_path, sizeof addr.sun_path, "%s", path);
    int error = connect(s, (struct sockaddr *)&addr, sizeof addr) < 0 ? errno : 0;
    close(s);
    return error;
}

static void test_listen(void **state)
{
    char folder[] = "/tmp/wire-test-XXXXXX", path[64];
    struct stat st;
    int first, second;
    (void)state;

    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/s", folder);
    assert_int_equal(wire_listen(path, &first), 0);
    assert_int_equal(knock(path), 0);
    assert_int_equal(wire_listen(path, &second), -EADDRINUSE);
    close(first);
    assert_int_equal(knock(path), ECONNREFUSED);
    assert_int_equal(wire_listen(path, &first), 0); /* a stale one is replaced */
    assert_int_equal(knock(path), 0);
    close(first);
    unlink(path);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(wire_listen(path, &first), -EEXIST);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(wire_listen("", &first), -EINVAL);
    unlink(path);
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(wire_listen(path, &first), -ENOENT);

    char longest[120] = "/tmp/";
    memset(longest + 5, 'x', 108 - 5);
    assert_int_equal(wire_listen(longest, &first), -ENAMETOOLONG);
}

int main(void)
{
#define WITH_PAIR(f) cmocka_unit_test_setup_teardown(f, make_pair, close_pair)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_all_values),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_what_is_written_can_be_read),
        WITH_PAIR(test_as_many_as_a_message_has),
        WITH_PAIR(test_a_look_takes_nothing),
        WITH_PAIR(test_a_look_ends_behind_descriptors),
        WITH_PAIR(test_more_than_fit),
        WITH_PAIR(test_no_room_for_descriptors),
        WITH_PAIR(test_closing_leaves_out_those_taken),
        WITH_PAIR(test_a_peer_that_has_gone),
        cmocka_unit_test(test_listen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

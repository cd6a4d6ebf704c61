/*
 * test_many.c - several devices in one process: none waits for what another's client does.
 */
#include "worker/loop.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <outboard/client.h>

#define DEVICES 3

struct state {
    uint64_t value;
};

static int value_read(struct ob_device *dev, uint64_t at, void *buf, size_t n)
{
    memcpy(buf, (uint8_t *)ob_state(dev) + at % 8, n <= 8 - at % 8 ? n : 0);
    return 0;
}

static int value_write(struct ob_device *dev, uint64_t at, const void *buf, size_t n)
{
    if (at % 8 + n > 8)
        return -EINVAL;
    memcpy((uint8_t *)ob_state(dev) + at % 8, buf, n);
    return 0;
}

static const struct ob_plugin plugin = {
    .name = "value",
    .summary = "one register",
    .pci = { .vendor = 0x1234, .device = 0x5678, .class_code = 0xff0000 },
    .bar[0] = { .size = 65536, .read = value_read, .write = value_write },
    .state = { .size = sizeof(struct state), .version = 1 },
};

static struct {
    pid_t pid;
    int client[DEVICES];
} world;

static void serve(int *ends)
{
    struct served served[DEVICES];
    struct loop loop;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (loop_open(&loop) < 0)
        _exit(1);
    for (int i = 0; i < DEVICES; i++) {
        char name[16];
        snprintf(name, sizeof name, "value%d", i);
        served[i].dev = server_device_new(&plugin, name, NULL, 0, loop.epoll, NULL, -1, NULL);
        if (!served[i].dev)
            _exit(2);
        served[i].next = loop.first;
        loop.first = &served[i];
        lobby_open(&served[i].lobby, served[i].dev, -1);
        lobby_welcome(&served[i].lobby, ends[i]);
    }
    loop_run(&loop);
}

static int setup(void **state)
{
    int ends[DEVICES];
    (void)state;

    for (int i = 0; i < DEVICES; i++) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
        world.client[i] = pair[0];
        ends[i] = pair[1];
    }
    world.pid = fork();
    assert_true(world.pid >= 0);
    if (world.pid == 0)
        serve(ends);
    for (int i = 0; i < DEVICES; i++)
        close(ends[i]);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    kill(world.pid, SIGKILL);
    return waitpid(world.pid, NULL, 0) == world.pid ? 0 : -1;
}

static struct ob_client *connect_to(int i)
{
    struct ob_client *c = ob_client_new();
    assert_non_null(c);
    assert_int_equal(ob_client_adopt(c, world.client[i]), 0);
    return c;
}

static void each_has_its_own_state(void **state)
{
    struct ob_client *c[DEVICES];
    (void)state;

    for (uint64_t i = 0; i < DEVICES; i++) {
        c[i] = connect_to((int)i);
        uint64_t v = 100 + i;
        assert_int_equal(ob_client_write(c[i], 0, 0, &v, 8), 0);
    }
    for (uint64_t i = 0; i < DEVICES; i++) {
        uint64_t v = 0;
        assert_int_equal(ob_client_read(c[i], 0, 0, &v, 8), 0);
        assert_int_equal(v, 100 + i);
    }
    for (int i = 0; i < DEVICES; i++)
        ob_client_free(c[i]);
}

/* A client asks for more replies than its socket holds, and reads none of them; another stops in the
 * middle of a message. The third one is served as if it were alone. */
static void a_stuck_client_stops_nobody(void **state)
{
    struct vfio_user_header h = { .id = 1, .command = VFIO_USER_VERSION, .size = sizeof h + 4 };
    struct vfio_user_version version = { 0, 1 };
    uint8_t bytes[sizeof h + sizeof(struct vfio_user_region_access)];
    int stuck = world.client[0], torn = world.client[1];
    (void)state;

    for (int i = 0; i < 2; i++) {
        memcpy(bytes, &h, sizeof h);
        memcpy(bytes + sizeof h, &version, sizeof version);
        assert_int_equal(send(world.client[i], bytes, h.size, 0), h.size);
    }
    struct vfio_user_region_access a = { 0, 0, 4096 };
    h.command = VFIO_USER_REGION_READ;
    h.size = sizeof bytes;
    memcpy(bytes, &h, sizeof h);
    memcpy(bytes + sizeof h, &a, sizeof a);
    int sent = 0;
    while (send(stuck, bytes, sizeof bytes, MSG_DONTWAIT) == (ssize_t)sizeof bytes)
        sent++;
    assert_true(sent > 100);
    assert_int_equal(send(torn, bytes, 20, 0), 20);

    struct ob_client *c = connect_to(2);
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t v = 0;
        assert_int_equal(ob_client_write(c, 0, 0, &i, 8), 0);
        assert_int_equal(ob_client_read(c, 0, 0, &v, 8), 0);
        assert_int_equal(v, i);
    }
    ob_client_free(c);

    /* The stuck one gets every reply once it reads. */
    size_t expected = (size_t)sent * (sizeof bytes + 4096), got = 0;
    uint8_t version_reply[1024];
    memset(version_reply, 0, sizeof version_reply);
    struct pollfd p = { stuck, POLLIN, 0 };
    assert_int_equal(poll(&p, 1, 10000), 1);
    assert_int_equal(recv(stuck, version_reply, sizeof h, 0), sizeof h);
    memcpy(&h, version_reply, sizeof h);
    assert_true(h.size < sizeof version_reply);
    assert_true(recv(stuck, version_reply, h.size - sizeof h, 0) > 0);
    static uint8_t buf[65536];
    while (got < expected) {
        assert_int_equal(poll(&p, 1, 10000), 1);
        ssize_t n = recv(stuck, buf, sizeof buf, 0);
        assert_true(n > 0);
        got += (size_t)n;
    }
    assert_int_equal(got, expected);
    close(stuck);
    close(torn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_has_its_own_state, setup, teardown),
        cmocka_unit_test_setup_teardown(a_stuck_client_stops_nobody, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

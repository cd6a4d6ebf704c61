/*
 * test_steps_nvme.c - a disk's worker dies at every point of every kind of command, and its driver sees
 * each command end once.
 *
 * Each scenario starts from the same disk: enabled, with two pairs of I/O queues. A client that trusts
 * each completion at once (nvme_client.h) works through a script. First a worker serves it undisturbed;
 * then workers die at point 1, 2, 3 and so on (abort.h), and a successor goes on with what is left. In
 * every third run that one dies as well, somewhere while it takes over or soon after. In the end another
 * successor has to serve a read and a write on what there is.
 */
#include "nvme_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define QUEUE 128u /* entries of queue 1 */
#define ENOUGH 60 /* deaths of one scenario */
#define SHORT 5u   /* and of queue 2 */

/* ---- Scripts ---------------------------------------------------------------------------------------- */

static bool do_read(struct client *c, int stage)
{
    if (stage)
        return false;
    client_rw(c, 1, NVM_READ, 16, 8, 0, 0);
    client_ring(c, 1);
    return true;
}

static bool do_write(struct client *c, int stage)
{
    if (stage)
        return false;
    client_rw(c, 1, NVM_WRITE, 16, 8, 0, 0);
    client_ring(c, 1);
    return true;
}

static bool do_write_fua(struct client *c, int stage)
{
    if (stage)
        return false;
    client_rw(c, 1, NVM_WRITE, 32, 4, RW_FUA, 0);
    client_ring(c, 1);
    return true;
}

static bool do_flush(struct client *c, int stage)
{
    struct nvme_command flush = { .opcode = NVM_FLUSH, .nsid = NSID_ALL };
    if (stage)
        return false;
    client_put(c, 1, flush, 0);
    client_ring(c, 1);
    return true;
}

static bool do_zeroes(struct client *c, int stage)
{
    if (stage)
        return false;
    client_rw(c, 1, NVM_WRITE_ZEROES, 100, 8, RW_FUA, 0);
    client_ring(c, 1);
    return true;
}

static bool do_compare(struct client *c, int stage)
{
    if (stage)
        return false;
    client_rw(c, 1, NVM_COMPARE, 100, 8, 0, 0);
    client_rw(c, 1, NVM_COMPARE, 200, 8, 0, SC_COMPARE_FAILURE | SC_DNR)->data[17] ^= 1;
    client_ring(c, 1);
    return true;
}

static bool do_copy(struct client *c, int stage)
{
    if (stage)
        return false;
    client_copy(c, 1, 1000, 20, 300); /* more than a bounce buffer holds */
    client_ring(c, 1);
    return true;
}

/* What takes the long way: to the engine, and back. */
static bool do_large(struct client *c, int stage)
{
    if (stage < 2) {
        client_rw(c, 1, stage ? NVM_READ : NVM_WRITE, 256, BIG / 512, 0, 0);
        client_rw(c, 1, NVM_READ, 10, 8, 0, 0); /* behind it */
        client_ring(c, 1);
        client_chat(c);
    } else {
        client_chat(c); /* how much of a reply has left is known, whoever wrote to what meanwhile */
    }
    return stage < 3;
}

static bool do_failing(struct client *c, int stage)
{
    if (stage)
        return false;
    client_rw(c, 1, NVM_READ, DISK_SIZE / 512, 8, 0, SC_LBA_RANGE | SC_DNR);
    client_rw(c, 1, 0x77, 0, 8, 0, SC_INVALID_OPCODE | SC_DNR);
    client_rw(c, 1, NVM_WRITE, 40, 8, 0, 0);
    client_ring(c, 1);
    return true;
}

/* Two with the same identifier: the second one is refused while the first is under way. */
static bool do_same_cid(struct client *c, int stage)
{
    if (stage)
        return false;
    struct command *first = client_rw(c, 1, NVM_READ, 256, BIG / 512, 0, 0);
    struct command *second = client_rw(c, 1, NVM_READ, 40, 8, 0, SC_CID_CONFLICT | SC_DNR);
    second->c.cid = first->c.cid;
    second->conflicts = true;
    client_rewrite(c, 1, 1, &second->c);
    client_ring(c, 1);
    return true;
}

/* More than one step fetches, of both kinds. */
static bool do_many(struct client *c, int stage)
{
    if (stage)
        return false;
    for (uint32_t i = 0; i < 100; i++) {
        if (i == 90)
            client_rw(c, 1, NVM_READ, 1024, BIG / 512, 0, 0);
        client_rw(c, 1, i % 2 ? NVM_WRITE : NVM_READ, 8 * i, 8, 0, 0);
    }
    client_ring(c, 1);
    return true;
}

/* Round a short queue, phases and all. */
static bool do_wrap(struct client *c, int stage)
{
    if (stage == 4)
        return false;
    for (uint32_t i = 0; i < SHORT - 1; i++)
        client_rw(c, 2, i % 2 ? NVM_READ : NVM_WRITE, 8 * i, 8, 0, 0);
    client_ring(c, 2);
    return true;
}

static bool do_both_queues(struct client *c, int stage)
{
    if (stage)
        return false;
    for (uint32_t i = 0; i < 4; i++) {
        client_rw(c, 1, i == 1 ? NVM_WRITE_ZEROES : NVM_WRITE, 8 * i, 8, 0, 0);
        client_rw(c, 2, NVM_WRITE, 800 + 8 * i, 8, 0, 0);
    }
    client_ring(c, 1);
    client_ring(c, 2);
    return true;
}

static bool do_queues(struct client *c, int stage)
{
    switch (stage) {
    case 0: client_create_cq(c, 3, 16); break;
    case 1: client_create_sq(c, 3, 16); break;
    case 2:
        client_rw(c, 3, NVM_WRITE, 16, 8, 0, 0);
        client_ring(c, 3);
        return true;
    case 3: client_admin(c, ADMIN_DELETE_SQ, 3, 0, 0, 0); break;
    case 4:
        client_admin(c, ADMIN_DELETE_CQ, 3, 0, 0, 0);
        client_forget_queue(c, 3);
        break;
    default: return false;
    }
    client_ring(c, 0);
    return true;
}

/* A queue goes while its commands are under way: those that were fetched end, others never began. */
static bool do_delete_busy(struct client *c, int stage)
{
    switch (stage) {
    case 0:
        for (uint32_t i = 0; i < 3; i++)
            client_rw(c, 2, i == 1 ? NVM_READ : NVM_WRITE, 512 * i, BIG / 512, 0, 0)->maybe = true;
        client_ring(c, 2);
        client_admin(c, ADMIN_DELETE_SQ, 2, 0, 0, 0);
        client_ring(c, 0);
        return true;
    case 1:
        client_admin(c, ADMIN_DELETE_CQ, 2, 0, 0, 0);
        client_ring(c, 0);
        return true;
    case 2: client_forget_queue(c, 2); return true;
    default: return false;
    }
}

static bool do_features(struct client *c, int stage)
{
    switch (stage) {
    case 0:
        client_admin(c, ADMIN_SET_FEATURES, FEAT_TEMPERATURE, 0x155, 0, 0);
        client_admin(c, ADMIN_SET_FEATURES, FEAT_WRITE_CACHE, 0, 0, 0);
        client_admin(c, ADMIN_SET_FEATURES, 0x7f, 0, 0, SC_INVALID_FIELD | SC_DNR);
        break;
    case 1: client_admin(c, ADMIN_GET_FEATURES, FEAT_TEMPERATURE, 0, 0, 0); break;
    case 2: client_expect_dw0(c, 0x155); return true;
    default: return false;
    }
    client_ring(c, 0);
    return true;
}

static bool do_identify(struct client *c, int stage)
{
    if (stage)
        return false;
    client_admin(c, ADMIN_IDENTIFY, 1, 0, client_address(c, client_buffer(c, 4096)), 0);
    client_ring(c, 0);
    return true;
}

static bool do_abort(struct client *c, int stage)
{
    switch (stage) {
    case 0: client_admin(c, ADMIN_AER, 0, 0, 0, SC_ABORT_REQUESTED)->waits = true; break;
    case 1:
        client_admin(c, ADMIN_ABORT, (uint32_t)c->command[c->commands - 1].c.cid << 16, 0, 0, 0);
        c->command[c->commands - 2].waits = false;
        break;
    case 2: client_expect_dw0(c, 0); return true;
    default: return false;
    }
    client_ring(c, 0);
    return true;
}

/* One event for one request, though it happens again. */
static bool do_event(struct client *c, int stage)
{
    switch (stage) {
    case 0:
        client_admin(c, ADMIN_AER, 0, 0, 0, 0);
        client_ring(c, 0);
        client_write32(c, REG_DOORBELLS + 8 * 1, 5000);
        return true;
    case 1:
        client_expect_dw0(c, EVENT_INVALID_DOORBELL_VALUE);
        client_admin(c, ADMIN_AER, 0, 0, 0, 0)->waits = true;
        client_ring(c, 0);
        client_write32(c, REG_DOORBELLS + 8 * 1, 6000);
        return true;
    default: return false;
    }
}

static bool do_disable(struct client *c, int stage)
{
    switch (stage) {
    case 0:
        client_rw(c, 1, NVM_WRITE, 0, BIG / 512, 0, 0)->maybe = true;
        client_rw(c, 1, NVM_READ, 1024, BIG / 512, 0, 0)->maybe = true;
        client_rw(c, 1, NVM_WRITE, 600, 8, 0, 0)->maybe = true;
        client_ring(c, 1);
        client_write32(c, REG_CC, 6 << 16 | 4 << 20);
        client_wait_csts(c, CSTS_RDY, 0);
        return true;
    case 1:
        client_forget(c);
        client_enable(c);
        return true;
    case 2:
        client_create_cq(c, 1, QUEUE);
        client_ring(c, 0);
        return true;
    case 3:
        client_create_sq(c, 1, QUEUE);
        client_ring(c, 0);
        return true;
    default: return false;
    }
}

static bool do_reset(struct client *c, int stage)
{
    switch (stage) {
    case 0:
        client_rw(c, 1, NVM_WRITE, 0, BIG / 512, 0, 0)->maybe = true;
        client_rw(c, 1, NVM_READ, 1024, BIG / 512, 0, 0)->maybe = true;
        client_rw(c, 2, NVM_WRITE, 600, 8, 0, 0)->maybe = true;
        client_ring(c, 1);
        client_ring(c, 2);
        client_reset_message(c);
        return true;
    case 1: client_forget(c); return true;
    default: return false;
    }
}

static bool do_shutdown(struct client *c, int stage)
{
    switch (stage) {
    case 0:
        client_rw(c, 1, NVM_WRITE, 16, 8, 0, 0);
        client_ring(c, 1);
        return true;
    case 1:
        client_write32(c, REG_CC, CC_EN | 1 << 14 | 6 << 16 | 4 << 20);
        client_wait_csts(c, CSTS_SHST, CSTS_SHST_COMPLETE);
        c->shut_down = true;
        return true;
    default: return false;
    }
}

static bool do_shadow(struct client *c, int stage)
{
    if (stage == 3)
        return false;
    for (uint32_t i = 0; i < 3; i++)
        client_rw(c, 2, i == (uint32_t)stage ? NVM_READ : NVM_WRITE, 8 * i, 8, 0, 0);
    if (stage == 1)
        client_rw(c, 1, NVM_READ, 256, BIG / 512, 0, 0);
    client_ring(c, 2);
    client_ring(c, 1);
    return true;
}

/* ---- What all begin with, and end with --------------------------------------------------------------- */

static bool set_up(struct client *c, int stage)
{
    switch (stage) {
    case 0:
        client_negotiate(c);
        client_enable(c);
        return true;
    case 1:
        client_create_cq(c, 1, QUEUE);
        client_create_cq(c, 2, SHORT);
        break;
    case 2:
        client_create_sq(c, 1, QUEUE);
        client_create_sq(c, 2, SHORT);
        break;
    case 3:
        client_rw(c, 2, NVM_READ, 0, 8, 0, 0);
        client_rw(c, 2, NVM_READ, 0, 8, 0, 0);
        client_ring(c, 2);
        return true;
    default: return false;
    }
    client_ring(c, 0);
    return true;
}

static bool set_up_shadow(struct client *c, int stage)
{
    if (stage < 4)
        return set_up(c, stage);
    if (stage == 4) {
        client_configure_doorbells(c);
        client_ring(c, 0);
    } else {
        c->shadow = true;
    }
    return stage == 4;
}

/* Does it still work? */
static bool epilogue(struct client *c, int stage)
{
    if (stage || !c->q[0].entries || c->shut_down)
        return false;
    client_admin(c, ADMIN_GET_FEATURES, FEAT_QUEUES, 0, 0, 0);
    client_ring(c, 0);
    if (c->q[1].entries) {
        client_rw(c, 1, NVM_WRITE, 2000, 8, 0, 0);
        client_rw(c, 1, NVM_READ, 24, 8, 0, 0);
        client_ring(c, 1);
    }
    return true;
}

struct scenario {
    const char *name;
    bool (*script)(struct client *c, int stage);
    enum { READY, SHADOW, THREADS, FAR, BASES } base;
    bool all; /* points, always */
};

static const struct scenario scenarios[] = {
    { "read", do_read, READY, true },
    { "write", do_write, READY, true },
    { "write, FUA", do_write_fua, READY, false },
    { "flush", do_flush, READY, false },
    { "write zeroes", do_zeroes, READY, false },
    { "compare", do_compare, READY, false },
    { "copy", do_copy, READY, false },
    { "large", do_large, READY, false },
    { "large, threads", do_large, THREADS, false },
    { "failing", do_failing, READY, false },
    { "same identifier", do_same_cid, READY, false },
    { "many", do_many, READY, false },
    { "wrap", do_wrap, READY, false },
    { "both queues", do_both_queues, READY, false },
    { "create and delete", do_queues, READY, false },
    { "delete, busy", do_delete_busy, READY, false },
    { "features", do_features, READY, false },
    { "identify", do_identify, READY, false },
    { "abort", do_abort, READY, false },
    { "event", do_event, READY, false },
    { "disable", do_disable, READY, false },
    { "reset", do_reset, READY, false },
    { "shutdown", do_shutdown, READY, false },
    { "shadow doorbells", do_shadow, SHADOW, false },
    { "far: read", do_read, FAR, false },
    { "far: large", do_large, FAR, false },
    { "far: compare", do_compare, FAR, false },
    { "far: wrap", do_wrap, FAR, false },
    { "far: delete, busy", do_delete_busy, FAR, false },
    { "far: identify", do_identify, FAR, false },
    { "far: disable", do_disable, FAR, false },
    { "far: reset", do_reset, FAR, false },
};

/* ---- Runs ------------------------------------------------------------------------------------------- */

static struct client base[BASES];
static char path[] = "/dev/shm/outboard-steps-XXXXXX"; /* the disk */
extern const struct ob_plugin *const ob_plugin_nvme;

/* Serves the script; workers die at these points, 0: never. Points of the first, -1 if it died. */
static long serve(struct client *c, const long *at, unsigned deaths)
{
    for (unsigned i = 0;; i++) {
        stand_in_start(&c->s, i < deaths ? at[i] : 0);
        bool ended = stand_in_until(&c->s, client_done, c);
        long points = ended ? stand_in_stop(&c->s) : -1;
        if (points >= 0)
            return i ? -1 : points;
        client_look_at_rest(c);
    }
}

static void script(struct client *c, bool (*script)(struct client *c, int stage))
{
    c->script = script;
    c->stage = 0;
    c->finished = c->fenced = false;
}

static long run(const struct scenario *sc, long at)
{
    const struct client *from = &base[sc->base];
    const long points[] = { at, at * 7 % 211 + 1 };
    struct client c = *from;

    disk_new();
    c.where = sc->name;
    c.point = at;
    c.commands = 0;
    stand_in_copy(&c.s, &from->s);
    client_map(&c);
    script(&c, sc->script);
    long ret = serve(&c, points, at % 3 ? 1 : 2);
    client_check(&c);
    script(&c, epilogue);
    serve(&c, NULL, 0);
    client_check(&c);
    client_close(&c);
    return ret;
}

/*
 * Where a worker polls, the number of points differs from run to run. Of a scenario with very many only
 * some are tried, unless STEPS=all; they differ in their distance, so as not to meet the same places of
 * a loop again and again.
 */
static void every_point(void **state)
{
    const struct scenario *sc = *state;
    const char *steps = getenv("STEPS");
    bool all = sc->all || (steps && strcmp(steps, "all") == 0);
    long points = run(sc, 0), stride = all ? 1 : points / ENOUGH + 1;
    long lived = 0, deaths = 0;

    assert_true(points > 10);
    for (long at = 1; lived < 3; at += stride == 1 ? 1 : 1 + (at * 31 % (2 * stride - 1))) {
        bool died = run(sc, at) < 0;
        deaths += died;
        lived += !died;
    }
    assert_true(deaths > 10);
    print_message("# %s: %ld points, %ld deaths\n", sc->name, points, deaths);
}

static void make_base(struct client *c, const struct option_value *options, unsigned n,
                      bool (*how)(struct client *c, int stage))
{
    static const struct stand_in_range guest[] = { { GUEST + 0x3000, 4096 }, { GUEST + 0x7000, 4096 },
                                                   { GUEST + 0xb000, 4096 }, { GUEST + 0x11000, 4096 } };

    c->where = "set-up";
    stand_in_new(&c->s, ob_plugin_nvme, options, n);
    c->s.recovery = true;
    memcpy(c->s.guest, guest, sizeof guest);
    for (unsigned k = 0; k < FARS; k++)
        c->s.buffers[k] = (struct stand_in_range){ offsetof(struct nvme, far[k].buffer), TRANSFER };
    c->s.buffer_count = FARS;
    c->s.guest_count = c->far ? 0 : sizeof guest / sizeof *guest;
    script(c, how);
    serve(c, NULL, 0);
    client_check(c);
    stand_in_drop(&c->s, KEEP_DEVICE); /* it may not keep the others from the file */
}

static int setup(void **state)
{
    static struct option_value options[] = { { "file", path }, { "engine", "uring" } },
                               threads[] = { { "file", path }, { "engine", "threads" } };
    (void)state;

    disk_fd = mkostemp(path, O_CLOEXEC);
    if (disk_fd < 0 || ftruncate(disk_fd, DISK_SIZE) < 0)
        return -1;
    disk_new();
    make_base(&base[READY], options, 2, set_up);
    make_base(&base[SHADOW], options, 2, set_up_shadow);
    make_base(&base[THREADS], threads, 2, set_up);
    base[FAR].far = true;
    make_base(&base[FAR], options, 2, set_up);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < BASES; i++)
        client_close(&base[i]);
    return unlink(path);
}

int main(int argc, char **argv)
{
    struct CMUnitTest tests[sizeof scenarios / sizeof *scenarios];

    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        tests[i] = (struct CMUnitTest){ scenarios[i].name, every_point, NULL, NULL,
                                        (void *)(uintptr_t)&scenarios[i] };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("steps of a disk", tests, setup, teardown);
}

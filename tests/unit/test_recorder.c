/*
 * test_recorder.c - a ring that can be read at any moment, whoever wrote it and died.
 */
#include "state/recorder.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static struct recorded event_of(uint64_t n)
{
    return (struct recorded){ .time = n, .kind = (uint16_t)(1 + n % (RECORDED_KINDS - 1)), .id = (uint16_t)n,
                              .command = (uint16_t)n, .index = (uint16_t)n, .error = (int32_t)n,
                              .offset = n, .value = n, .size = n };
}

static void add(struct recorder *r, uint64_t n)
{
    struct recorded e = event_of(n);

    assert_int_equal(recorder_add(r, &e), n);
}

/* Each is whole, and they follow each other. */
static void check(const struct recorded *e, unsigned n, uint64_t first, uint64_t last)
{
    assert_int_equal(n, last - first + 1);
    for (unsigned i = 0; i < n; i++) {
        struct recorded expected = event_of(first + i);
        expected.sequence = first + i;
        assert_memory_equal(&e[i], &expected, sizeof expected);
    }
}

static struct recorder *new_recorder(void)
{
    struct recorder *r = mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(r, MAP_FAILED);
    recorder_start(r);
    return r;
}

static struct recorded events[RECORDER_EVENTS];

static void it_goes_round(void **unused)
{
    struct recorder *r = new_recorder();

    (void)unused;
    assert_int_equal(recorder_read(r, r->last, events), 0);
    assert_null(recorder_find(r, 0));
    add(r, 1);
    check(events, recorder_read(r, r->last, events), 1, 1);
    for (uint64_t n = 2; n <= 3 * RECORDER_EVENTS; n++)
        add(r, n);
    /* The oldest place is the one that may be written now. */
    check(events, recorder_read(r, r->last, events), 2 * RECORDER_EVENTS + 2, 3 * RECORDER_EVENTS);
    assert_non_null(recorder_find(r, 3 * RECORDER_EVENTS));
    assert_null(recorder_find(r, 2 * RECORDER_EVENTS));
    munmap(r, sizeof *r);
}

/* What was overwritten while the copy was made is not believed. */
static void a_copy_that_was_overtaken(void **unused)
{
    struct recorder *r = new_recorder(), *copy = malloc(sizeof *copy);

    (void)unused;
    for (uint64_t n = 1; n <= RECORDER_EVENTS; n++)
        add(r, n);
    *copy = *r;
    check(events, recorder_read(copy, r->last + 100, events), 102, RECORDER_EVENTS);
    assert_int_equal(recorder_read(copy, r->last + 2 * RECORDER_EVENTS, events), 0);
    free(copy);
    munmap(r, sizeof *r);
}

static void nonsense(void **unused)
{
    struct recorder *r = malloc(sizeof *r);
    static const uint64_t numbers[] = { 0, 1, RECORDER_EVENTS, UINT64_MAX - 1, UINT64_MAX };

    (void)unused;
    memset(r, 0xff, sizeof *r);
    for (unsigned i = 0; i < 5; i++)
        for (unsigned j = 0; j < 5; j++) {
            r->last = numbers[i];
            assert_true(recorder_read(r, numbers[j], events) <= RECORDER_EVENTS);
        }
    free(r);
}

/* ---- Killed at every instruction --------------------------------------------------------------------- */

/* Runs `steps` instructions of a child that records events without end, and kills it. */
static void die_after(struct recorder *r, long steps)
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        for (uint64_t n = r->last + 1;; n++) {
            struct recorded e = event_of(n);
            recorder_add(r, &e);
        }
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    for (long i = 0; i < steps; i++) {
        assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
    }
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
}

static void killed_at_every_instruction(void **unused)
{
    const uint64_t before = RECORDER_EVENTS + 5;
    struct recorder *r = new_recorder();
    bool grew = false;

    (void)unused;
    for (uint64_t n = 1; n <= before; n++)
        add(r, n);
    struct recorder *start = malloc(sizeof *start);
    *start = *r;
    /* A sanitizer makes more instructions of it. */
    for (long steps = 1; steps < 400 || (!grew && steps < 8000); steps += steps < 400 ? 1 : 7) {
        *r = *start;
        die_after(r, steps);
        unsigned n = recorder_read(r, r->last, events);
        uint64_t last = n ? events[n - 1].sequence : 0;
        assert_in_range(last, before, before + 100);
        grew |= last > before + 1;
        check(events, n, r->last + 2 - RECORDER_EVENTS, last);
        /* A successor goes on with the next number. */
        recorder_adopt(r);
        assert_int_equal(r->last, last);
        add(r, last + 1);
    }
    assert_true(grew);
    free(start);
    munmap(r, sizeof *r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_goes_round),
        cmocka_unit_test(a_copy_that_was_overtaken),
        cmocka_unit_test(nonsense),
        cmocka_unit_test(killed_at_every_instruction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/*
 * test_client_threads.c - one connection, many threads. (Run it under ThreadSanitizer as well.)
 */
#include "fake_server.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define ROUNDS 400u
#define BASE UINT64_C(0x10000)
#define MEMORY 8192u

static struct fake fake;
static uint8_t memory[MEMORY];

/* One thread of the client: its own 64 bytes of region 0, and whether it met something wrong. */
struct worker {
    struct ob_client *c;
    pthread_t thread;
    uint64_t at;
    uint32_t rounds;
    const char *wrong;
    atomic_bool *end; /* for those that run as long as the others do */
};

#define EXPECT(condition)          \
    do {                           \
        if (!(condition)) {        \
            w->wrong = #condition; \
            return NULL;           \
        }                          \
    } while (0)

static void *synchronous(void *p)
{
    struct worker *w = p;
    for (uint32_t i = 0; i < w->rounds; i++) {
        uint32_t v = ~i;
        EXPECT(ob_client_write(w->c, 0, w->at, &i, 4) == 0);
        EXPECT(ob_client_read(w->c, 0, w->at, &v, 4) == 0);
        EXPECT(v == i);
        EXPECT(ob_client_read(w->c, 9, w->at, &v, 4) == -EINVAL);
    }
    return NULL;
}

static void *large(void *p)
{
    struct worker *w = p;
    uint8_t out[3000], in[3000];
    for (uint32_t i = 0; i < ROUNDS / 10; i++) {
        memset(out, (int)i, sizeof out);
        EXPECT(ob_client_write(w->c, 0, 100000, out, sizeof out) == 0);
        EXPECT(ob_client_read(w->c, 0, 100000, in, sizeof in) == 0);
        EXPECT(memcmp(in, out, sizeof in) == 0);
    }
    return NULL;
}

static void *posting(void *p)
{
    struct worker *w = p;
    for (uint32_t i = 0; i < ROUNDS * 4; i++)
        EXPECT(ob_client_post(w->c, 0, w->at, &i, 4) == 0);
    uint32_t v = 0;
    EXPECT(ob_client_read(w->c, 0, w->at, &v, 4) == 0);
    EXPECT(v == ROUNDS * 4 - 1);
    return NULL;
}

static void *pipelining(void *p)
{
    struct worker *w = p;
    for (uint32_t i = 0; i < ROUNDS / 4; i++) {
        struct ob_request *rq[16];
        uint32_t v[16];
        for (uint32_t k = 0; k < 16; k += 2) {
            uint32_t x = i * 16 + k;
            EXPECT(ob_client_start_write(w->c, 0, w->at, &x, 4, &rq[k]) == 0);
            EXPECT(ob_client_start_read(w->c, 0, w->at, &v[k], 4, &rq[k + 1]) == 0);
        }
        for (uint32_t k = 16; k-- > 0;) {
            if (i % 2)
                while (!ob_request_done(rq[k]))
                    ;
            EXPECT(ob_request_wait(rq[k]) == 0);
        }
        for (uint32_t k = 0; k < 16; k += 2)
            EXPECT(v[k] == i * 16 + k);
    }
    return NULL;
}

static void *mapping(void *p)
{
    struct worker *w = p;
    uint8_t page[64] = { 0 };
    char text[OB_CLIENT_ERROR_SIZE];
    for (uint32_t i = 0; i < ROUNDS / 2; i++) {
        EXPECT(ob_client_dma_map(w->c, 64 * w->at, sizeof page, page, -1, 0, 3) == 0);
        EXPECT(ob_client_dma_unmap(w->c, 64 * w->at, sizeof page) == 0);
        EXPECT(ob_client_set_timeout(w->c, 20000 + i) == 0);
        EXPECT(ob_client_set_spin(w->c, i % 3 * 20) == 0);
        ob_client_error(w->c, text, sizeof text);
    }
    return NULL;
}

static void *processing(void *p)
{
    struct worker *w = p;
    while (!atomic_load(w->end)) {
        struct pollfd f = { ob_client_fd(w->c), POLLIN, 0 };
        poll(&f, 1, 1);
        EXPECT(ob_client_process(w->c) == 0);
    }
    return NULL;
}

/* Serves, and sends commands of its own all the while. */
static void script(struct fake *f)
{
    uint16_t sent = 0, answered = 0;
    uint8_t data[512];

    FAKE_CHECK(f, fake_version(f, "\"max_data_xfer_size\":1024,\"pgsizes\":1,\"write_multiple\":true"));
    memset(data, 0x77, sizeof data);
    while (fake_take(f)) {
        if ((f->m.h.flags & VFIO_USER_FLAG_TYPE) == VFIO_USER_FLAG_TYPE_REPLY) {
            FAKE_CHECK(f, f->m.h.id == answered && !(f->m.h.flags & VFIO_USER_FLAG_ERROR));
            FAKE_CHECK(f, f->m.size == (answered % 2 ? 16 : 16 + sizeof data));
            answered++;
            continue;
        }
        fake_device(f);
        if (f->taken[VFIO_USER_DMA_MAP] && (uint16_t)(sent - answered) < 8) {
            if (sent % 2)
                fake_send_dma(f, sent, VFIO_USER_DMA_WRITE, BASE, sizeof data, data);
            else
                fake_send_dma(f, sent, VFIO_USER_DMA_READ, BASE + 4096, sizeof data, NULL);
            sent++;
        }
    }
    FAKE_CHECK(f, answered > 8);
}

static void test_crowd(void **state)
{
    (void)state;
    void *(*const kinds[])(void *) = { synchronous, synchronous, synchronous, posting, posting,
                                       pipelining,  pipelining,  large,       mapping };
    enum { N = sizeof kinds / sizeof *kinds };
    struct worker w[N + 1] = { 0 };
    atomic_bool end = false;
    int result;

    struct ob_client *c = ob_client_new();
    fake_start(&fake, script, NULL, c, &result);
    assert_int_equal(result, 0);
    assert_int_equal(ob_client_set_timeout(c, 20000), 0);
    assert_int_equal(ob_client_dma_map(c, BASE, MEMORY, memory, -1, 0, 3), 0);
    for (unsigned i = 0; i < N + 1; i++) {
        w[i] = (struct worker){ .c = c, .at = 1024 + i * 64, .rounds = ROUNDS, .end = &end };
        void *(*run)(void *) = i < N ? kinds[i] : processing;
        assert_int_equal(pthread_create(&w[i].thread, NULL, run, &w[i]), 0);
    }
    for (unsigned i = 0; i < N + 1; i++) {
        if (i == N)
            atomic_store(&end, true);
        pthread_join(w[i].thread, NULL);
    }
    for (unsigned i = 0; i < N + 1; i++)
        if (w[i].wrong)
            fail_msg("thread %u: %s", i, w[i].wrong);
    assert_int_equal(ob_client_dma_unmap_all(c), 0);
    fake_stop(&fake, c);
    assert_int_equal(memory[511], 0x77);
}

/* More threads than slots for synchronous requests: some wait for a slot. */
static void test_slots(void **state)
{
    (void)state;
    enum { N = 300 };
    static struct worker w[N];
    int result;

    struct ob_client *c = ob_client_new();
    fake_start(&fake, fake_serve, NULL, c, &result);
    assert_int_equal(result, 0);
    assert_int_equal(ob_client_set_timeout(c, 20000), 0);
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    for (unsigned i = 0; i < N; i++) {
        w[i] = (struct worker){ .c = c, .at = i * 64, .rounds = 20 };
        assert_int_equal(pthread_create(&w[i].thread, &attr, synchronous, &w[i]), 0);
    }
    pthread_attr_destroy(&attr);
    for (unsigned i = 0; i < N; i++)
        pthread_join(w[i].thread, NULL);
    for (unsigned i = 0; i < N; i++)
        if (w[i].wrong)
            fail_msg("thread %u: %s", i, w[i].wrong);
    fake_stop(&fake, c);
}

/* The connection ends under all of them: every one gets the error, none hangs. */
static void script_end(struct fake *f)
{
    FAKE_CHECK(f, fake_version(f, NULL));
    for (int i = 0; i < 500 && fake_take(f); i++)
        fake_device(f);
}

static void *until_lost(void *p)
{
    struct worker *w = p;
    uint32_t v;
    int ret;
    do
        ret = ob_client_read(w->c, 0, w->at, &v, 4);
    while (ret == 0);
    EXPECT(ret == -ECONNRESET);
    return NULL;
}

static void test_lost(void **state)
{
    (void)state;
    enum { N = 6 };
    struct worker w[N] = { 0 };
    int result;

    struct ob_client *c = ob_client_new();
    fake_start(&fake, script_end, NULL, c, &result);
    assert_int_equal(result, 0);
    for (unsigned i = 0; i < N; i++) {
        w[i] = (struct worker){ .c = c, .at = i * 64 };
        assert_int_equal(pthread_create(&w[i].thread, NULL, until_lost, &w[i]), 0);
    }
    for (unsigned i = 0; i < N; i++)
        pthread_join(w[i].thread, NULL);
    for (unsigned i = 0; i < N; i++)
        assert_null(w[i].wrong);
    fake_stop(&fake, c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crowd),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

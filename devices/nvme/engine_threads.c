/*
 * engine_threads.c - a few threads that do what io_uring would, where that is forbidden.
 *
 * Requests wait in one list, results in another; an eventfd says that there are results. The threads are the
 * process's, and stay until it ends: they are made before its system calls are filtered, which then have none to make
 * another with, nor to end one.
 */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "syscalls_threads.h"

#define THREADS 8u

struct list {
    struct engine_request *first, **last;
};

struct threads {
    struct nvme_engine engine;
    struct list finished;
    unsigned under_way;
    atomic_uint results; /* in `finished` */
    int eventfd;
};

static struct {
    pthread_mutex_t lock; /* of all engines */
    pthread_cond_t work, done;
    struct list waiting;
    unsigned started, here;
} pool = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER,
           { NULL, &pool.waiting.first }, 0, 0 };

static void list_init(struct list *l)
{
    l->first = NULL;
    l->last = &l->first;
}

static void list_put(struct list *l, struct engine_request *r)
{
    r->next = NULL;
    *l->last = r;
    l->last = &r->next;
}

static struct engine_request *list_take(struct list *l)
{
    struct engine_request *r = l->first;
    if (r && !(l->first = r->next))
        l->last = &l->first;
    return r;
}

/* #syscalls threads: preadv2 pwritev2 fdatasync fallocate */
static int64_t execute(const struct engine_request *r)
{
    const int zero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
              punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    ssize_t n = 0;

    do {
        switch (r->op) {
        case ENGINE_READ:
            n = preadv2(r->fd, r->iov, r->iovcnt, (off_t)r->offset, 0);
            break;
        case ENGINE_WRITE:
            n = pwritev2(r->fd, r->iov, r->iovcnt, (off_t)r->offset, r->durable ? RWF_DSYNC : 0);
            break;
        case ENGINE_SYNC:
            n = fdatasync(r->fd);
            break;
        case ENGINE_ZERO:
            n = fallocate(r->fd, zero, (off_t)r->offset, (off_t)r->length);
            break;
        case ENGINE_PUNCH:
            n = fallocate(r->fd, punch, (off_t)r->offset, (off_t)r->length);
            break;
        }
    } while (n < 0 && errno == EINTR);
    return n < 0 ? -errno : n;
}

/* With the lock. */
static void finish(struct threads *t, struct engine_request *r)
{
    const uint64_t one = 1;
    ssize_t ignored = 0;

    list_put(&t->finished, r);
    if (atomic_fetch_add(&t->results, 1) == 0 && !r->by_caller)
        ignored = write(t->eventfd, &one, sizeof one); /* its counter cannot be full, and it is ours */
    (void)ignored;
    if (--t->under_way == 0)
        pthread_cond_broadcast(&pool.done);
}

/* #syscalls threads: futex */
static void *run(void *unused)
{
    struct engine_request *r;

    (void)unused;
    pthread_mutex_lock(&pool.lock);
    pool.here++;
    pthread_cond_broadcast(&pool.done);
    for (;;) {
        while (!(r = list_take(&pool.waiting)))
            pthread_cond_wait(&pool.work, &pool.lock);
        pthread_mutex_unlock(&pool.lock);
        r->result = execute(r);
        pthread_mutex_lock(&pool.lock);
        finish((struct threads *)r->owner, r);
    }
    return NULL;
}

static struct nvme_engine *threads_open(unsigned depth)
{
    struct threads *t = calloc(1, sizeof *t);

    (void)depth;
    if (!t)
        return NULL;
    t->engine.kind = &engine_threads;
    t->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (t->eventfd < 0) {
        free(t);
        return NULL;
    }
    list_init(&t->finished);
    return &t->engine;
}

/* Signals are for the loop's thread, but for those of their own faults. What the C library does at the start of a
 * thread is done when it is here. */
static void threads_make_threads(void)
{
    static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS };
    pthread_attr_t detached;
    sigset_t all, old;
    pthread_t thread;

    sigfillset(&all);
    for (unsigned i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&all, faults[i]);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (pool.started < THREADS && pthread_create(&thread, &detached, run, NULL) == 0)
        pool.started++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&detached);
    pthread_mutex_lock(&pool.lock);
    while (pool.here < pool.started)
        pthread_cond_wait(&pool.done, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

static void threads_close(struct nvme_engine *e)
{
    struct threads *t = (struct threads *)e;

    pthread_mutex_lock(&pool.lock);
    while (t->under_way)
        pthread_cond_wait(&pool.done, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
    close(t->eventfd);
    free(t);
}

static int threads_fd(const struct nvme_engine *e)
{
    return ((const struct threads *)e)->eventfd;
}

static void threads_submit(struct nvme_engine *e, struct engine_request *r)
{
    struct threads *t = (struct threads *)e;

    r->owner = e;
    pthread_mutex_lock(&pool.lock);
    t->under_way++;
    if (pool.started) {
        list_put(&pool.waiting, r);
        pthread_cond_signal(&pool.work);
    } else { /* no thread could be had: the caller waits itself */
        r->result = execute(r);
        r->by_caller = true;
        finish(t, r);
    }
    pthread_mutex_unlock(&pool.lock);
}

static void threads_kick(struct nvme_engine *e)
{
    (void)e; /* submit() did it */
}

static struct engine_request *threads_reap(struct nvme_engine *e)
{
    struct threads *t = (struct threads *)e;
    uint64_t count;

    if (!atomic_load(&t->results))
        return NULL;
    pthread_mutex_lock(&pool.lock);
    struct engine_request *r = list_take(&t->finished);
    if (r && atomic_fetch_sub(&t->results, 1) == 1 && read(t->eventfd, &count, sizeof count) < 0)
        count = 0; /* nothing was there: the results came without a thread */
    pthread_mutex_unlock(&pool.lock);
    return r;
}

static bool threads_ready(const struct nvme_engine *e)
{
    return atomic_load(&((struct threads *)(uintptr_t)e)->results) != 0;
}

const struct engine_kind engine_threads = {
    .name = "threads",
    .open = threads_open,
    .make_threads = threads_make_threads,
    .close = threads_close,
    .fd = threads_fd,
    .submit = threads_submit,
    .kick = threads_kick,
    .reap = threads_reap,
    .ready = threads_ready,
    .syscalls = syscalls_threads,
};

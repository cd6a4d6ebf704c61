/*
 * engine_threads.c - a few threads that do what io_uring would, where that is forbidden.
 *
 * Requests wait in one list, results in another; an eventfd says that there are results.
 */
#include "engine.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
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
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct list waiting, finished;
    bool stop;
    atomic_uint results; /* in `finished` */
    int eventfd;
    unsigned started, idle;
    pthread_t thread[THREADS];
};

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

static void *run(void *arg)
{
    struct threads *t = arg;
    struct engine_request *r;
    const uint64_t one = 1;

    pthread_mutex_lock(&t->lock);
    for (;;) {
        while (!(r = list_take(&t->waiting)) && !t->stop) {
            t->idle++;
            pthread_cond_wait(&t->work, &t->lock);
            t->idle--;
        }
        if (!r)
            break;
        pthread_mutex_unlock(&t->lock);
        r->result = execute(r);
        pthread_mutex_lock(&t->lock);
        list_put(&t->finished, r);
        if (atomic_fetch_add(&t->results, 1) == 0 && write(t->eventfd, &one, sizeof one) < 0)
            continue; /* its counter cannot be full, and it is ours */
    }
    pthread_mutex_unlock(&t->lock);
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
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->work, NULL);
    list_init(&t->waiting);
    list_init(&t->finished);
    return &t->engine;
}

static void threads_close(struct nvme_engine *e)
{
    struct threads *t = (struct threads *)e;

    pthread_mutex_lock(&t->lock);
    t->stop = true;
    pthread_cond_broadcast(&t->work);
    pthread_mutex_unlock(&t->lock);
    for (unsigned i = 0; i < t->started; i++)
        pthread_join(t->thread[i], NULL);
    close(t->eventfd);
    pthread_cond_destroy(&t->work);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

static int threads_fd(const struct nvme_engine *e)
{
    return ((const struct threads *)e)->eventfd;
}

/*
 * One more, when all are at work. Signals are for the loop's thread, but for those of its own faults.
 *
 * What the C library makes of it, with the flags of a thread, and no others:
 * #syscalls threads: clone[0]=CLONE_VM|CLONE_FS|CLONE_FILES|CLONE_SYSVSEM|CLONE_SIGHAND|CLONE_THREAD|CLONE_SETTLS|CLONE_PARENT_SETTID|CLONE_CHILD_CLEARTID
 * #syscalls threads: rt_sigprocmask set_robust_list rseq sched_getaffinity madvise exit
 */
static void start_thread(struct threads *t)
{
    static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS };
    sigset_t all, old;

    sigfillset(&all);
    for (unsigned i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&t->thread[t->started], NULL, run, t) == 0)
        t->started++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static void threads_submit(struct nvme_engine *e, struct engine_request *r)
{
    struct threads *t = (struct threads *)e;

    pthread_mutex_lock(&t->lock);
    list_put(&t->waiting, r);
    if (!t->idle && t->started < THREADS)
        start_thread(t);
    if (!t->started) {
        /* No thread can be had: the caller waits itself. */
        list_take(&t->waiting);
        r->result = execute(r);
        r->by_caller = true;
        list_put(&t->finished, r);
        atomic_fetch_add(&t->results, 1);
    }
    pthread_cond_signal(&t->work);
    pthread_mutex_unlock(&t->lock);
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
    pthread_mutex_lock(&t->lock);
    struct engine_request *r = list_take(&t->finished);
    if (r && atomic_fetch_sub(&t->results, 1) == 1 && read(t->eventfd, &count, sizeof count) < 0)
        count = 0; /* nothing was there: the results came without a thread */
    pthread_mutex_unlock(&t->lock);
    return r;
}

static bool threads_ready(const struct nvme_engine *e)
{
    return atomic_load(&((struct threads *)(uintptr_t)e)->results) != 0;
}

const struct engine_kind engine_threads = {
    .name = "threads",
    .open = threads_open,
    .close = threads_close,
    .fd = threads_fd,
    .submit = threads_submit,
    .kick = threads_kick,
    .reap = threads_reap,
    .ready = threads_ready,
    .syscalls = syscalls_threads,
};

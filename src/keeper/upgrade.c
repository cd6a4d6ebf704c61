/*
 * upgrade.c - from one program for workers to another, and back.
 *
 *            asked for                         at rest                  READY                  a second later
 *     NONE -------------> REST: old worker --------------> LOAD: new ----------> WATCH: new --------------> NONE
 *                          | dies, or does not             | dies, or is not      | dies
 *                          | come to rest                  | ready in time        |
 *                          v                               v                      v
 *                         UNDO: the old program goes on, from what is in the block; when it does: ----> NONE
 *
 * The old worker ends when it rests; nobody waits for the kernel to clear up behind it. The new one
 * makes a block of its own from the old one's, which stays as it is, and nothing of the client is run
 * before it is READY; then its block takes the place of the other. A worker that dies after that
 * leaves a block that the old program can read (server/handover.h).
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define REST_PATIENCE (2000 * MS) /* more than the worker's own */
#define LOAD_PATIENCE (2000 * MS)
#define WATCHED (1000 * MS)
#define UNDO_PATIENCE (4000 * MS)

static void enter(struct keeper *k, enum upgrade_phase phase, uint64_t patience)
{
    k->upgrade.phase = phase;
    k->upgrade.deadline = keeper_now() + patience;
}

/* The programs change places. */
static void swap(struct keeper *k)
{
    struct upgrade *u = &k->upgrade;
    int program = k->program;
    char *path = k->command[0];

    k->program = u->program;
    k->command[0] = u->path;
    u->program = program;
    u->path = path;
}

/* `why` is empty: it has been done. */
static void finish(struct keeper *k)
{
    struct upgrade *u = &k->upgrade;
    bool done = !u->why[0];

    k->status_so_far.upgrades += done;
    k->status_so_far.upgrades_undone += !done;
    if (done)
        keeper_log(k, "upgraded: %s runs the device", k->command[0]);
    else
        keeper_log(k, "not upgraded: %s", u->why);
    if (u->asker)
        control_answer(k, u->asker, done ? 0 : -ECANCELED, u->why);
    close(u->program);
    free(u->path);
    *u = (struct upgrade){ .phase = UPGRADE_NONE, .leaving = u->leaving, .asked = u->asked };
}

static void fail(struct keeper *k, const char *why)
{
    if (!k->upgrade.why[0])
        snprintf(k->upgrade.why, sizeof k->upgrade.why, "%s", why);
}

/* The old program goes on. */
static void undo(struct keeper *k)
{
    enter(k, UPGRADE_UNDO, UNDO_PATIENCE);
    k->role = CHILD_SERVE;
    k->start_at = keeper_now();
}

/* ---- What happens ------------------------------------------------------------------------------------- */

static const char *cannot_begin(const struct keeper *k, int program)
{
    struct stat st;

    if (k->upgrade.phase)
        return "another upgrade is under way";
    if (k->role == CHILD_FAILED)
        return "the device has failed";
    if (k->ending || k->role != CHILD_SERVE || !k->child || !k->child_ready)
        return "its worker is just beginning, or ending";
    if (fstat(program, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & 0111))
        return "not a program";
    return NULL;
}

int upgrade_begin(struct keeper *k, struct control *c, int program, const char *path,
                  const char **why)
{
    char *copy = strdup(path);

    *why = copy ? cannot_begin(k, program) : "no memory";
    if (*why) {
        close(program);
        free(copy);
        return -ECANCELED;
    }
    k->upgrade = (struct upgrade){ .program = program,
                                   .path = copy,
                                   .asker = c,
                                   .began = keeper_now(),
                                   .leaving = k->upgrade.leaving,
                                   .asked = k->child };
    enter(k, UPGRADE_REST, REST_PATIENCE);
    child_signal(k, SIGUSR1);
    return 0;
}

/* A worker says why not, in words that nobody has to believe. */
void upgrade_told(struct keeper *k, const void *text, size_t size)
{
    struct upgrade *u = &k->upgrade;

    if (u->phase != UPGRADE_REST && u->phase != UPGRADE_LOAD)
        return;
    size = size < KEEPER_MAX_TEXT ? size : KEEPER_MAX_TEXT;
    for (size_t i = 0; i < size; i++) {
        char c = ((const char *)text)[i];
        u->why[i] = c >= ' ' && c <= '~' ? c : '?';
    }
    u->why[size] = '\0';
    if (!size)
        fail(k, "it does not say why");
    if (u->phase == UPGRADE_REST)
        finish(k); /* and it goes on */
}

void upgrade_rests(struct keeper *k)
{
    if (k->upgrade.phase != UPGRADE_REST)
        return;
    k->upgrade.rests = true;
    if (!k->upgrade.leaving)                /* else this one ends before anything goes on, too */
        k->upgrade.deadline = keeper_now(); /* when it has its answer */
}

/* From the worker at rest to the new one. */
static void load(struct keeper *k)
{
    swap(k);
    enter(k, UPGRADE_LOAD, LOAD_PATIENCE);
    k->role = CHILD_UPGRADE;
    k->start_at = keeper_now();
}

void upgrade_ready(struct keeper *k)
{
    struct upgrade *u = &k->upgrade;

    if (u->phase == UPGRADE_UNDO) {
        finish(k);
    } else if (u->phase == UPGRADE_LOAD && !u->why[0]) {
        int block = fcntl(held_get(&k->held, NAME_NEW_BLOCK), F_DUPFD_CLOEXEC, 0);
        if (block < 0 || held_put(&k->held, NAME_BLOCK, block, KEEPER_MAX_HELD) < 0) {
            fail(k, "the new worker has no state");
            child_signal(k, SIGKILL);
            return;
        }
        held_drop(&k->held, NAME_NEW_BLOCK);
        k->role = CHILD_SERVE;
        k->status_so_far.upgrade_pause = keeper_now() - u->began;
        enter(k, UPGRADE_WATCH, WATCHED);
    }
}

static void tell_end(struct keeper *k, const siginfo_t *info, const char *when)
{
    char why[CONTROL_WHY];

    if (info->si_code == CLD_EXITED)
        snprintf(why, sizeof why, "the new worker ended with status %d %s", info->si_status, when);
    else
        snprintf(why, sizeof why, "the new worker was killed by signal %d (%s) %s", info->si_status,
                 strsignal(info->si_status), when);
    fail(k, why);
}

bool upgrade_ended(struct keeper *k, const siginfo_t *info)
{
    struct upgrade *u = &k->upgrade;
    bool exited = info->si_code == CLD_EXITED;
    bool rests = exited && info->si_status == WORKER_AT_REST && !k->in_step;

    switch (k->ending ? UPGRADE_NONE : u->phase) {
    case UPGRADE_REST:
        if (rests) {
            load(k);
            return true;
        }
        fail(k, "the worker died before it came to rest");
        undo(k);
        return false;
    case UPGRADE_LOAD:
        tell_end(k, info, "and had not taken over");
        held_drop(&k->held, NAME_NEW_BLOCK);
        swap(k);
        undo(k);
        return true;
    case UPGRADE_WATCH:
        if (exited && info->si_status == 0 && k->one_client)
            return false; /* its client has gone */
        tell_end(k, info, "in its first second");
        swap(k);
        undo(k);
        return exited && info->si_status == 0;
    default:
        if (!rests || k->ending || info->si_pid != u->asked)
            return false;
        k->role = CHILD_SERVE; /* it came to rest when nobody wanted it any more */
        k->start_at = keeper_now();
        return true;
    }
}

void upgrade_tick(struct keeper *k)
{
    switch (k->upgrade.phase) {
    case UPGRADE_REST:
        if (k->upgrade.rests && !k->upgrade.leaving) {
            k->upgrade.leaving = child_leave(k);
            load(k);
            break;
        }
        fail(k, "its worker does not answer");
        finish(k);
        break;
    case UPGRADE_LOAD:
        fail(k, "the new worker was not ready in time");
        enter(k, UPGRADE_LOAD, LOAD_PATIENCE);
        if (k->child) {
            child_signal(k, SIGKILL);
        } else { /* it could not even be started */
            swap(k);
            undo(k);
        }
        break;
    case UPGRADE_UNDO:
    case UPGRADE_WATCH:
        finish(k);
        break;
    case UPGRADE_NONE:
        break;
    }
}

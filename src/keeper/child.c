/*
 * child.c - one worker after the other.
 *
 * The kernel counts the bytes that a process has written and read, and shows the counts until it is
 * buried: the successor tells by them what of its predecessor's last write has left. The block's step
 * header tells whether a worker got anything done, and in the middle of what it died.
 */
#include "keeper/keeper.h"
#include "state/step.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define DROP_AFTER 3u   /* deaths of one message, until it is refused */
#define FAILED_AFTER 6u /* deaths by their own fault otherwise, until the device has failed... */
#define LOST_AFTER 9u   /* ...until nothing of what it was is left... */
#define END_AFTER 12u   /* ...and until all ends */
#define MS UINT64_C(1000000)
#define LONG_LIFE (5000 * MS) /* to die takes time as well: a core is written, a sanitizer reports */
#define RETRY (100 * MS)
#define PATIENCE (2500 * MS) /* of a message for which no worker gets ready: clients wait for 5 s */
#define SHORTAGE (4000 * MS) /* for so long it is the host's matter that workers cannot even begin */

static const char *const role_name[] = { KEEPER_ROLES };

/* ---- Starting -------------------------------------------------------------------------------------- */

static void run_child(const struct keeper *k, int socket)
{
    char fd[32], role[32];
    char **word = k->command;

    /* Signals stay blocked: one that came before the worker looks for them would be lost on it, as on any first
     * process of a PID namespace. */
    fcntl(socket, F_SETFD, 0);
    snprintf(fd, sizeof fd, "--keeper-fd=%d", socket);
    snprintf(role, sizeof role, "--role=%s", role_name[k->role]);
    while (*word)
        word++;
    word[0] = fd; /* the command has room for two more words */
    word[1] = role;
    word[2] = NULL;
    execveat(k->program, "", k->command, environ, AT_EMPTY_PATH);
    keeper_log(k, "cannot start a worker: %s", strerror(errno));
    _exit(127);
}

/* Of a dead process the file belongs to root: it is opened while the worker lives. */
static void open_counts(struct keeper *k)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/task/%d/io", k->child, k->child);
    k->counts = open(path, O_RDONLY | O_CLOEXEC);
}

/* Is there a message for which no worker has got ready in time? The connection may be anything that a worker held out
 * for it, and what is no socket could make who polls it wait. */
static bool overdue(struct keeper *k)
{
    struct pollfd p = { held_get(&k->held, NAME_CONNECTION), POLLIN, 0 };
    int type;
    socklen_t size = sizeof type;
    uint64_t now = keeper_now();

    if (getsockopt(p.fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || poll(&p, 1, 0) != 1 || p.revents != POLLIN)
        return false;
    k->waits_since = k->waits_since ? k->waits_since : now;
    return now - k->waits_since > PATIENCE;
}

static int start(struct keeper *k)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -errno;
    pid_t pid = spaces_fork(k);
    int error = errno;
    if (pid == 0)
        run_child(k, pair[1]);
    close(pair[1]);
    if (pid < 0) {
        close(pair[0]);
        return -error;
    }
    k->child = pid;
    k->dead.worker++;
    k->child_ready = 0;
    k->child_heard = false;
    k->status_so_far.worker_started = keeper_date();
    k->socket = pair[0];
    open_counts(k);
    return 0;
}

void child_start(struct keeper *k)
{
    int ret = start(k);

    k->start_at = ret < 0 ? keeper_now() + RETRY : 0;
    if (ret < 0 && ret != k->start_error)
        keeper_log(k, "cannot start a worker: %s", strerror(-ret));
    k->start_error = ret;
    if (ret < 0 && !k->ready) { /* whoever started us is to know */
        k->ending = true;
        k->status = 1;
    }
    if (ret < 0 && k->role == CHILD_SERVE && overdue(k))
        k->role = CHILD_REFUSE; /* an answer would come too late */
}

void child_signal(const struct keeper *k, int signal)
{
    if (k->child)
        kill(k->child, signal);
}

pid_t child_leave(struct keeper *k)
{
    pid_t pid = k->child;

    kill(pid, SIGKILL);
    close(k->counts);
    if (k->socket >= 0)
        close(k->socket);
    k->socket = -1;
    k->child = 0;
    return pid;
}

/* ---- After its end --------------------------------------------------------------------------------- */

static uint64_t number_after(const char *text, const char *key)
{
    const char *at = strstr(text, key);

    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

/* While it is not buried yet. */
static void read_counts(struct keeper *k)
{
    char text[512];
    ssize_t n = pread(k->counts, text, sizeof text - 1, 0);

    if (n < 0) {
        keeper_log(k, "what the worker wrote last is not known: %s", strerror(errno));
        return;
    }
    text[n] = '\0';
    k->dead.read = number_after(text, "rchar: ");
    k->dead.written = number_after(text, "wchar: ");
}

static void look_back(struct keeper *k, struct block_header *h)
{
    int block = held_get(&k->held, NAME_BLOCK);

    *h = (struct block_header){ .undo_word = 1 };
    if (block >= 0 && pread(block, h, offsetof(struct block_header, written), 0) < 0)
        keeper_log(k, "cannot read the block: %s", strerror(errno));
    if (h->owner == k->dead.worker)
        read_counts(k); /* else it died before it had the block: its predecessor's counts still tell */
    k->in_step = step_is_open(h);
}

/*
 * What the block says of a death. A SIGKILL comes from outside and is nobody's fault. Who died of anything else
 * in a message may have died of that; when others do too, it is refused. Such deaths otherwise, in a timer
 * say, count against the device, until a worker has lived for a while; so do all of workers that run no
 * device code. Who has not even asked for anything, or says so, could not begin for want of memory, say: that
 * counts when it goes on. Steps that a worker finished prove nothing, as it finishes some to take over: a message does.
 * True: it died in a message.
 */
static bool count_death(struct keeper *k, const struct block_header *h, const siginfo_t *info)
{
    bool serves = k->role == CHILD_SERVE;
    bool in_message = serves && k->in_step && h->step_kind == STEP_MESSAGE && h->owner == k->dead.worker;
    bool killed = info->si_code != CLD_EXITED && info->si_status == SIGKILL;
    bool told = (k->role == CHILD_DROP || k->role == CHILD_REFUSE) && info->si_code == CLD_EXITED &&
                info->si_status == 0;
    bool finished = h->messages != k->messages && k->role != CHILD_REFUSE;
    uint64_t now = keeper_now();
    bool begun = k->child_heard && !(info->si_code == CLD_EXITED && info->si_status == WORKER_SHORT);
    bool counts = begun || (k->alone && now - k->alone > SHORTAGE);

    if (k->child_ready && now - k->child_ready > LONG_LIFE)
        k->faults = k->deaths = 0;
    if (finished)
        k->deaths = 0;
    if (finished || (serves && !in_message))
        k->message_deaths = 0;
    k->messages = h->messages;
    k->message_deaths += in_message && !killed;
    k->faults += counts && !in_message && !killed && !told;
    k->deaths++;
    return in_message;
}

/* Where the kernel puts cores, in its own words: the name may have letters to be filled in. */
static void tell_core(const struct keeper *k, pid_t pid)
{
    int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC);
    char pattern[128], folder[PATH_MAX];
    ssize_t n = read(fd, pattern, sizeof pattern - 1);

    pattern[n > 0 ? n : 0] = '\0';
    pattern[strcspn(pattern, "\n")] = '\0';
    close(fd);
    if (pattern[0] == '|')
        keeper_log(k, "its core was given to %s", pattern + 1);
    else
        keeper_log(k, "its core was written to \"%s\" (core_pattern, see core(5)), of process %d in %s", pattern, pid,
                   getcwd(folder, sizeof folder) ? folder : "?");
}

static void tell_death(struct keeper *k, const siginfo_t *info)
{
    struct keeper_status *s = &k->status_so_far;
    bool ended = info->si_code == CLD_EXITED;

    s->ended += ended;
    s->killed += !ended && info->si_status == SIGKILL;
    s->crashed += !ended && info->si_status != SIGKILL;
    s->last_signal = ended ? 0 : info->si_status;
    s->last_status = ended ? info->si_status : 0;
    s->last_core = info->si_code == CLD_DUMPED;
    s->last_death = keeper_date();
    k->alone = k->alone ? k->alone : keeper_now();
    if (ended)
        keeper_log(k, "the worker ended with status %d", info->si_status);
    else
        keeper_log(k, "the worker was killed by signal %d (%s)%s", info->si_status,
                   strsignal(info->si_status), info->si_code == CLD_DUMPED ? ", core dumped" : "");
    if (info->si_code == CLD_DUMPED)
        tell_core(k, info->si_pid);
}

/* The first successors come at once; what waits for one must not wait for 4 seconds. */
static uint64_t pause_before(const struct keeper *k)
{
    static const unsigned ms[] = { 0, 0, 2, 5, 10, 20, 50, 100 };
    unsigned last = sizeof ms / sizeof *ms - 1;

    return ms[k->deaths < last ? k->deaths : last] * MS;
}

static void plan(struct keeper *k, bool in_message)
{
    enum child_role before = k->role;
    bool late = overdue(k);

    if (k->faults >= END_AFTER) {
        keeper_log(k, "no worker can even serve a failed device: this is the end");
        k->ending = true;
        k->status = 1;
        return;
    }
    if (before == CHILD_LOST || k->faults >= LOST_AFTER)
        k->role = CHILD_LOST;
    else if (before == CHILD_FAILED || k->faults >= FAILED_AFTER)
        k->role = CHILD_FAILED;
    else if (k->message_deaths >= DROP_AFTER || (late && in_message))
        k->role = CHILD_DROP;
    else
        k->role = late ? CHILD_REFUSE : CHILD_SERVE;
    k->status_so_far.refused += k->role == CHILD_DROP && before != CHILD_DROP;
    if (k->role == CHILD_DROP && before != CHILD_DROP && late)
        keeper_log(k, "workers die in one message, which has waited for too long: it is refused");
    else if (k->role == CHILD_DROP && before != CHILD_DROP)
        keeper_log(k, "%u workers died of one message: it is refused", k->message_deaths);
    if (k->role == CHILD_REFUSE)
        keeper_log(k, "no worker gets ready in time: messages that wait are refused");
    if (k->role == CHILD_LOST && before != CHILD_LOST)
        keeper_log(k, "what earlier workers left cannot be used: the client is sent away");
    if (k->role == CHILD_FAILED && before != CHILD_FAILED)
        keeper_log(k, "no worker gets on: the device has failed");
    k->start_at = keeper_now() + pause_before(k);
}

/* What a worker has made anew is for its successors. */
void child_found_itself(struct keeper *k)
{
    k->role = CHILD_FAILED;
    k->faults = FAILED_AFTER;
}

/* One that ended by itself. True: there is nothing more to be planned. */
static bool ended_well(struct keeper *k, int status)
{
    if (k->role == CHILD_DROP && status == 0) {
        k->role = CHILD_SERVE;
        k->message_deaths = 0;
        k->start_at = keeper_now();
        return true;
    }
    if (k->role == CHILD_REFUSE && status == 0) {
        k->role = CHILD_SERVE;
        k->start_at = keeper_now() + pause_before(k);
        return true;
    }
    if (k->role == CHILD_DROP && status == WORKER_NOTHING_TO_DROP) {
        k->faults = FAILED_AFTER;
        return false;
    }
    if (status == 0 || !k->ready) {
        k->ending = true;
        k->status = status == WORKER_SHORT ? 1 : status;
        return true;
    }
    return false;
}

/* What it asked for before it died has to be done. */
static void finish_requests(struct keeper *k)
{
    char byte;

    if (k->socket < 0)
        return;
    while (recv(k->socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
        requests_serve(k);
    close(k->socket);
    k->socket = -1;
}

void child_ended(struct keeper *k)
{
    struct block_header h;
    siginfo_t info = { 0 };

    if (!k->child || waitid(P_PID, (id_t)k->child, &info, WEXITED | WNOWAIT | WNOHANG) < 0 || !info.si_pid)
        return;
    look_back(k, &h);
    close(k->counts);
    waitpid(k->child, NULL, 0);
    finish_requests(k);
    k->child = 0;
    if (upgrade_ended(k, &info))
        return;
    bool in_message = count_death(k, &h, &info);
    if (k->ending || (info.si_code == CLD_EXITED && !k->in_step && ended_well(k, info.si_status)))
        return;
    tell_death(k, &info);
    if (!k->ready) {
        k->ending = true;
        k->status = 1;
        return;
    }
    plan(k, in_message);
}

/*
 * verdict.c - what the notes of one run say about the client.
 */
#include "mirror/run.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

/* Who asks for the next thing so soon after a request that got no answer has taken something else for
 * it. Only for clients that we have not started; the others say at their end what they noticed. */
#define AT_ONCE_NS 300000000u

/* A client that was started tells by its status whether it has noticed something. */
static bool noticed_nothing(const struct run *run)
{
    const struct play *p = &run->play;
    const struct child *c = &run->child;

    if (p->m->must != MUST_NOTICE)
        return false;
    if (c->pid)
        return c->ended && c->status == 0;
    return p->owes && p->next_at && p->next_at - p->acted_at < AT_ONCE_NS;
}

/* Who waits for a reply for ever, or was started, used to end by itself, and does no more. */
static bool hangs(const struct run *run)
{
    const struct play *p = &run->play;

    if (run->child.pid && run->mirror->ends_itself)
        return !run->child.ended;
    return !run->child.ended && p->owes && !run->closed_first && !p->commands && !p->over;
}

static enum verdict survived(const struct run *run, char *detail, size_t size)
{
    const struct play *p = &run->play;
    const char *how = run->came_back ? "connected again" : p->commands ? "went on" : "gave up";

    if (run->child.ended)
        snprintf(detail, size, "survived: %s, and ended with status %d", how,
                 WEXITSTATUS(run->child.status));
    else if (run->closed_first)
        snprintf(detail, size, "survived: closed the connection");
    else
        snprintf(detail, size, "survived: %s",
                 p->commands ? how : "keeps the connection, silently");
    return VERDICT_PASS;
}

static enum verdict verdict(const struct run *run, char *detail, size_t size)
{
    const struct play *p = &run->play;
    int sign = child_signal(&run->child);

    if (!p->acted) {
        snprintf(detail, size, "not reached: %s",
                 run->connected ? "the client did not come to it" : "the client did not connect");
        return VERDICT_SKIP;
    }
    if (sign)
        snprintf(detail, size, "crashed: ended by SIG%s", sigabbrev_np(sign));
    else if (p->wrong[0])
        snprintf(detail, size, "fooled: %s", p->wrong);
    else if (hangs(run))
        snprintf(detail, size, "hung: neither went on nor ended");
    else if (noticed_nothing(run))
        snprintf(detail, size, "fooled: %s as if nothing had been wrong",
                 run->came_back ? "connected again" : "went on");
    else
        return survived(run, detail, size);
    return VERDICT_FAIL;
}

enum verdict judge(const struct run *run, char *detail, size_t size)
{
    char line[160];
    enum verdict ret = verdict(run, detail, size);

    /* What the client itself has said is the best explanation. */
    child_last_words(&run->child, line, sizeof line);
    size_t n = strlen(detail);
    if (line[0])
        snprintf(detail + n, size - n, " (\"%s\")", line);
    return ret;
}

/*
 * trouble.c - what may become of a new build at an upgrade, by the ending of its name:
 *
 *   .hang  it does not get on      .exit  it ends      .abort  it crashes
 *   .soon  it crashes a while after it has taken over, .stop  it ends then as if it should
 */
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static void stop(int signal)
{
    (void)signal;
    _exit(0);
}

/* No signal that is only sent ends the first process of a PID namespace. */
static void crash(int signal)
{
    (void)signal;
    __builtin_trap();
}

__attribute__((constructor)) static void trouble(int argc, char **argv)
{
    const struct itimerval soon = { .it_value = { .tv_usec = 300000 } };
    const char *ending = argc ? strrchr(argv[0], '.') : NULL;
    bool upgrade = false;

    for (int i = 1; i < argc; i++)
        upgrade |= strcmp(argv[i], "--role=upgrade") == 0;
    if (!ending || !upgrade)
        return;
    while (strcmp(ending, ".hang") == 0)
        pause();
    if (strcmp(ending, ".exit") == 0)
        _exit(9);
    if (strcmp(ending, ".abort") == 0)
        abort();
    if (strcmp(ending, ".soon") == 0 || strcmp(ending, ".stop") == 0) {
        signal(SIGALRM, strcmp(ending, ".soon") == 0 ? crash : stop);
        setitimer(ITIMER_REAL, &soon, NULL);
    }
}

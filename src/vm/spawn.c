/*
 * spawn.c - starting a child that does not outlive its parent.
 */
#include "vm/spawn.h"
#include <errno.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child. Returns only to say what failed. */
static int become(const struct argv *argv, const struct vm_spawn *how, pid_t parent)
{
    /* SIGTERM, and not SIGKILL: a device may have the terminal to put back, and its socket. */
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
        return errno;
    if (getppid() != parent)
        return ESRCH;
    if (how->no_input) {
        int null = open("/dev/null", O_RDONLY);
        if (null < 0 || dup2(null, STDIN_FILENO) < 0)
            return errno;
        if (null > STDERR_FILENO)
            close(null);
    }
    if (how->output &&
        (dup2(how->output, STDOUT_FILENO) < 0 || dup2(how->output, STDERR_FILENO) < 0))
        return errno;
    if (how->keep && fcntl(how->keep, F_SETFD, 0) < 0)
        return errno;
    if (how->mask && sigprocmask(SIG_SETMASK, how->mask, NULL) < 0)
        return errno;
    execvp(argv->word[0], argv->word);
    return errno;
}

pid_t vm_spawn(const struct argv *argv, struct vm_spawn how)
{
    /* The end of this pipe is silent when exec succeeds, and carries an errno when not. */
    int failure[2];
    if (pipe2(failure, O_CLOEXEC) < 0)
        return -errno;
    pid_t parent = getpid();
    pid_t child = fork();
    if (child == 0) {
        int error = become(argv, &how, parent);
        ssize_t written = write(failure[1], &error, sizeof(error));
        _exit(written == sizeof(error) ? 127 : 126);
    }
    int fork_error = errno;
    close(failure[1]);
    int error = child < 0 ? fork_error : 0;
    ssize_t n;
    if (child > 0) {
        while ((n = read(failure[0], &error, sizeof(error))) < 0 && errno == EINTR)
            ;
        if (n != (ssize_t)sizeof(error))
            error = 0;
        if (error)
            waitpid(child, NULL, 0);
    }
    close(failure[0]);
    return error ? -error : child;
}

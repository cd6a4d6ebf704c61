/*
 * child.c - the command that starts a client.
 */
#include "mirror/child.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* A word with the path in place of each "{}". Allocated. */
static char *fill_in(const char *word, const char *path)
{
    size_t size = strlen(word) + 1, n = strlen(path);
    for (const char *at = word; (at = strstr(at, "{}")); at += 2)
        size += n;
    char *filled = malloc(size), *to = filled;
    while (filled && *word) {
        if (strncmp(word, "{}", 2) == 0) {
            memcpy(to, path, n);
            to += n;
            word += 2;
        } else {
            *to++ = *word++;
        }
    }
    if (filled)
        *to = '\0';
    return filled;
}

/* In the new process. What goes wrong is told through `tell`. */
static _Noreturn void become(char *const *words, const char *path, int said, int tell)
{
    sigset_t none;
    int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);

    sigemptyset(&none);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && setpgid(0, 0) == 0 &&
        sigprocmask(SIG_SETMASK, &none, NULL) == 0 && dup2(nothing, 0) == 0 && dup2(said, 1) == 1 &&
        dup2(said, 2) == 2 && setenv("SOCKET", path, 1) == 0)
        execvp(words[0], words);
    int error = errno;
    ssize_t ignored = write(tell, &error, sizeof error);
    (void)ignored;
    _exit(127);
}

static int start(struct child *c, char *const *words, const char *path)
{
    int tell[2], error = 0;

    c->said = memfd_create("said", MFD_CLOEXEC);
    if (c->said < 0)
        return -errno;
    fcntl(c->said, F_SETFL, O_APPEND); /* two descriptors of it write */
    if (pipe2(tell, O_CLOEXEC) < 0)
        return -errno;
    c->pid = fork();
    if (c->pid == 0)
        become(words, path, c->said, tell[1]);
    if (c->pid < 0) {
        error = errno;
        c->pid = 0;
    }
    close(tell[1]);
    if (error == 0 && read(tell[0], &error, sizeof error) == sizeof error)
        child_end(c);
    close(tell[0]);
    if (error == 0) {
        c->fd = (int)syscall(SYS_pidfd_open, c->pid, 0);
        error = c->fd < 0 ? errno : 0;
    }
    return -error;
}

int child_start(struct child *c, char *const *command, const char *path)
{
    size_t n = 0;

    *c = (struct child){ .fd = -1, .said = -1 };
    while (command[n])
        n++;
    char **words = calloc(n + 1, sizeof *words);
    if (!words)
        return -ENOMEM;
    int ret = 0;
    for (size_t i = 0; i < n && ret == 0; i++) {
        words[i] = fill_in(command[i], path);
        ret = words[i] ? 0 : -ENOMEM;
    }
    if (ret == 0)
        ret = start(c, words, path);
    for (size_t i = 0; i < n; i++)
        free(words[i]);
    free(words);
    return ret;
}

bool child_ended(struct child *c)
{
    if (c->pid && !c->ended && waitpid(c->pid, &c->status, WNOHANG) == c->pid)
        c->ended = true;
    return c->ended;
}

void child_end(struct child *c)
{
    if (c->pid)
        kill(-c->pid, SIGKILL);
    if (c->pid && !c->ended) {
        kill(c->pid, SIGKILL); /* it may not have come to setpgid() */
        waitpid(c->pid, &c->status, 0);
        c->ended = true;
    }
    if (c->fd >= 0)
        close(c->fd);
    if (c->said >= 0)
        close(c->said);
    c->fd = c->said = -1;
}

void child_last_words(const struct child *c, char *line, size_t size)
{
    char text[4096];
    off_t end = c->said >= 0 ? lseek(c->said, 0, SEEK_END) : 0;
    off_t from = end > (off_t)sizeof text ? end - (off_t)sizeof text : 0;
    ssize_t n = end > 0 ? pread(c->said, text, sizeof text, from) : 0;

    while (n > 0 && isspace((unsigned char)text[n - 1]))
        n--;
    ssize_t first = n;
    while (first > 0 && text[first - 1] != '\n')
        first--;
    size_t length = n > 0 ? (size_t)(n - first) : 0;
    if (length > size - 1)
        length = size - 1;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[first + (ssize_t)i];
        line[i] = iscntrl(byte) ? '?' : (char)byte;
    }
    line[length] = '\0';
}

int child_signal(const struct child *c)
{
    if (!c->ended)
        return 0;
    if (WIFSIGNALED(c->status))
        return WTERMSIG(c->status);
    int status = WEXITSTATUS(c->status);
    return status > 128 && status < 128 + NSIG ? status - 128 : 0;
}

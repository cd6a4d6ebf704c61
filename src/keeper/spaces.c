/*
 * spaces.c - workers in PID namespaces of their own, from where they see no other process.
 *
 * Who is not root needs a user namespace to make one in; the user stays who he is in it.
 */
#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pid_t fork_into(int spaces)
{
    return (pid_t)syscall(SYS_clone, (unsigned long)spaces | SIGCHLD, 0, 0, 0, 0);
}

/* What cannot be written stays unmapped; the worker will tell what it lacks then. */
static void write_file(const char *path, const char *format, unsigned id)
{
    char text[32];
    int n = snprintf(text, sizeof text, format, id, id), fd = open(path, O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    ssize_t ignored = write(fd, text, (size_t)n);
    (void)ignored;
    close(fd);
}

static void map_self(uid_t user, gid_t group)
{
    write_file("/proc/self/setgroups", "deny", 0);
    write_file("/proc/self/uid_map", "%u %u 1", user);
    write_file("/proc/self/gid_map", "%u %u 1", group);
}

/* What a host lacks now (room for a namespace, say) it may have again when the next worker starts. */
pid_t spaces_fork(struct keeper *k)
{
    uid_t user = geteuid();
    gid_t group = getegid();

    if (k->no_spaces)
        return fork();
    pid_t pid = fork_into(CLONE_NEWPID);
    if (pid < 0 && (pid = fork_into(CLONE_NEWPID | CLONE_NEWUSER)) == 0)
        map_self(user, group);
    if (pid >= 0 || errno == EAGAIN || errno == ENOMEM) /* there can be no process at all */
        return pid;
    if (!k->status_so_far.worker_started)
        keeper_log(k, "workers have no PID namespace of their own: %s", strerror(errno));
    return fork();
}

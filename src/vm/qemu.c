/*
 * qemu.c - finding QEMU, and asking it for its version.
 */
#include "vm/qemu.h"
#include "vm/spawn.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char name[] = "qemu-system-x86_64";

static bool is_program(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static int copy(char path[PATH_MAX], const char *from)
{
    return snprintf(path, PATH_MAX, "%s", from) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static bool find_on_path(const char *program, char path[PATH_MAX])
{
    const char *folders = getenv("PATH");
    while (folders && *folders) {
        int n = (int)strcspn(folders, ":");
        if (snprintf(path, PATH_MAX, "%.*s/%s", n, n ? folders : ".", program) < PATH_MAX &&
            is_program(path))
            return true;
        folders += n + (folders[n] == ':');
    }
    return false;
}

int vm_find_qemu(char path[PATH_MAX], char why[VM_WHY_SIZE])
{
    const char *given = getenv("OUTBOARD_QEMU");
    if (given && *given) {
        bool found = strchr(given, '/') ? copy(path, given) == 0 && is_program(path)
                                        : find_on_path(given, path);
        if (found)
            return 0;
        copy(path, given);
        snprintf(why, VM_WHY_SIZE, "OUTBOARD_QEMU=%.200s: no such program", given);
        return -ENOENT;
    }
    if (find_on_path(name, path))
        return 0;
    copy(path, name);
    snprintf(why, VM_WHY_SIZE, "%s: not found on PATH: install QEMU %d.%d or newer, or name one in "
             "OUTBOARD_QEMU", name, VM_QEMU_MAJOR, VM_QEMU_MINOR);
    return -ENOENT;
}

bool vm_parse_qemu_version(const char *text, unsigned *major, unsigned *minor)
{
    static const char key[] = "QEMU emulator version ";
    const char *at = strstr(text, key);
    return at && sscanf(at + sizeof(key) - 1, "%3u.%3u", major, minor) == 2;
}

/* Up to the end of the output, the room in `text`, or the deadline. */
static void read_output(int fd, char *text, size_t size)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    time_t deadline = now.tv_sec + 10;
    size_t n = 0;
    while (n < size - 1 && now.tv_sec < deadline) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        ssize_t got = poll(&p, 1, 1000) == 1 ? read(fd, text + n, size - 1 - n) : -1;
        if (got == 0)
            break;
        if (got > 0)
            n += (size_t)got;
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    text[n] = '\0';
}

int vm_check_qemu(const char *path, char why[VM_WHY_SIZE])
{
    char text[256] = "";
    int output[2];
    struct argv argv = { 0 };
    unsigned major, minor;
    argv_add(&argv, "%s", path);
    argv_add(&argv, "--version");
    if (argv.failed || pipe2(output, O_CLOEXEC) < 0) {
        snprintf(why, VM_WHY_SIZE, "%s: %s", path, strerror(errno));
        argv_free(&argv);
        return -EMFILE;
    }
    pid_t child = vm_spawn(&argv, (struct vm_spawn){ .no_input = true, .output = output[1] });
    close(output[1]);
    argv_free(&argv);
    if (child > 0) {
        read_output(output[0], text, sizeof(text));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    close(output[0]);
    if (!vm_parse_qemu_version(text, &major, &minor)) {
        snprintf(why, VM_WHY_SIZE, "%.200s: does not say which version of QEMU it is", path);
        return -ENOEXEC;
    }
    if (major > VM_QEMU_MAJOR || (major == VM_QEMU_MAJOR && minor >= VM_QEMU_MINOR))
        return 0;
    snprintf(why, VM_WHY_SIZE,
             "%.200s: QEMU %u.%u is too old, %d.%d or newer is needed (set OUTBOARD_QEMU)", path,
             major, minor, VM_QEMU_MAJOR, VM_QEMU_MINOR);
    return -ENOTSUP;
}

const char *vm_accelerator(char why[VM_WHY_SIZE])
{
    const char *given = getenv("OUTBOARD_ACCEL");
    if (!given || !*given)
        return vm_kvm_works() ? "kvm" : "tcg";
    if (strcmp(given, "kvm") == 0 || strcmp(given, "tcg") == 0)
        return given;
    snprintf(why, VM_WHY_SIZE, "OUTBOARD_ACCEL=%.200s: neither kvm nor tcg", given);
    return NULL;
}

/*
 * serve_manager.c - see serve_manager.h.
 */
#include "cli/serve_manager.h"
#include "cli/options.h"

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST 3 /* SD_LISTEN_FDS_START */

static uint64_t number_of(const char *variable)
{
    const char *text = getenv(variable);
    uint64_t n;

    return text && cli_number(text, 0, 1u << 30, &n) == 0 ? n : 0;
}

int serve_passed(int *fd)
{
    uint64_t n = number_of("LISTEN_FDS");
    bool ours = number_of("LISTEN_PID") == (uint64_t)getpid();

    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    *fd = ours && n ? FIRST : -1;
    if (ours && n > 1)
        return cli_error("serve", "%u sockets were passed by LISTEN_FDS: a device takes one", (unsigned)n);
    return CLI_OK;
}

/* A path, or with '@' for its first byte a name that is no file's. */
static int notify_address(const char *name, struct sockaddr_un *addr, socklen_t *size)
{
    size_t length = strlen(name);

    *addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
    if (length >= sizeof addr->sun_path)
        return -ENAMETOOLONG;
    if (length < 2 || (name[0] != '/' && name[0] != '@'))
        return -EAFNOSUPPORT;
    memcpy(addr->sun_path, name, length);
    if (name[0] == '@')
        addr->sun_path[0] = '\0';
    *size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (name[0] == '/'));
    return 0;
}

int serve_notify(int *sock)
{
    const char *name = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr;
    socklen_t size;

    *sock = -1;
    if (!name || !*name)
        return CLI_OK;
    int ret = notify_address(name, &addr, &size);
    if (ret == 0 && (*sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) < 0)
        ret = -errno;
    if (ret == 0 && connect(*sock, (struct sockaddr *)&addr, size) < 0)
        ret = -errno;
    if (ret < 0) {
        cli_error("serve", "NOTIFY_SOCKET=%.200s: %s", name, strerror(-ret));
        if (*sock >= 0)
            close(*sock);
        *sock = -1;
        return CLI_FAILED;
    }
    unsetenv("NOTIFY_SOCKET");
    return CLI_OK;
}

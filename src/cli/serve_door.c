/*
 * serve_door.c - see serve_door.h.
 */
#include "cli/serve_door.h"
#include "cli/options.h"
#include "wire/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

static int socket_option(int fd, int option, int *value)
{
    socklen_t size = sizeof *value;

    return getsockopt(fd, SOL_SOCKET, option, value, &size) < 0 ? -errno : 0;
}

static int check_socket(int fd, bool *listening)
{
    int domain, type, accepts;

    int ret = socket_option(fd, SO_DOMAIN, &domain);
    if (ret == 0)
        ret = socket_option(fd, SO_TYPE, &type);
    if (ret == 0)
        ret = socket_option(fd, SO_ACCEPTCONN, &accepts);
    if (ret < 0)
        return ret;
    if (domain != AF_UNIX || type != SOCK_STREAM)
        return -EPROTOTYPE;
    *listening = accepts;
    return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ||
                   fcntl(fd, F_SETFD, FD_CLOEXEC) < 0
               ? -errno
               : 0;
}

int serve_door(const char *path, int fd, int *door, int *client)
{
    bool listening;

    *door = *client = -1;
    if (path) {
        int ret = wire_listen(path, door);
        return ret < 0 ? cli_error("serve", "%.900s: %s", path, strerror(-ret)) : CLI_OK;
    }
    int ret = check_socket(fd, &listening);
    if (ret < 0)
        return cli_error("serve", "--fd=%d: %s", fd, strerror(-ret));
    *(listening ? door : client) = fd;
    return CLI_OK;
}

int serve_control(const char *path, int *sock)
{
    int ret = wire_listen_packets(path, sock);

    return ret < 0 ? cli_error("serve", "--control-path=%.900s: %s", path, strerror(-ret)) : CLI_OK;
}

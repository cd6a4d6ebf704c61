/* sendbreak.c - sends a break on a terminal. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
    int fd = argc == 2 ? open(argv[1], O_RDWR | O_NOCTTY) : -1;

    if (fd < 0 || ioctl(fd, TCSBRKP, 1) < 0) {
        perror("sendbreak");
        return 1;
    }
    return 0;
}

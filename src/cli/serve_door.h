/*
 * serve_door.h - the way in for clients, as the command line gives it.
 */
#ifndef CLI_SERVE_DOOR_H
#define CLI_SERVE_DOOR_H

/*
 * Listens at `path`, or, where that is NULL, takes `fd` for what it is: *door is a listening socket, or -1
 * and *client a connection. CLI_OK, or an exit status after an error, which was told.
 */
int serve_door(const char *path, int fd, int *door, int *client);

/* Listens for those who ask the keeper. CLI_OK or as above. */
int serve_control(const char *path, int *sock);

#endif

/*
 * serve_manager.h - a service manager that starts us: systemd, or what does as it does.
 */
#ifndef CLI_SERVE_MANAGER_H
#define CLI_SERVE_MANAGER_H

/*
 * The descriptor that was passed as sd_listen_fds(3) says, -1: none was. The variables that say so are gone
 * afterwards, so that no child takes them for its own. CLI_OK, or an exit status after an error, which was
 * told: more than one was passed.
 */
int serve_passed(int *fd);

/* A socket that takes what sd_notify(3) says, -1: nobody wants to know. Its variable is gone, too. CLI_OK or
 * as above. */
int serve_notify(int *sock);

#endif

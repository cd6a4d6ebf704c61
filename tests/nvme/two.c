/*
 * two.c - see two.h.
 */
#include "two.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

struct disk other;

void two_serve_more(struct disk *d, const char *name, const char *const *args)
{
    *d = disk;
    snprintf(d->socket, sizeof d->socket, "%s/%s", disk.folder, name);
    disk_serve_again(d, args);
}

void two_end_more(struct disk *d)
{
    int status;

    kill(d->pid, SIGTERM);
    assert_int_equal(waitpid(d->pid, &status, 0), d->pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    unlink(d->socket);
}

int two_serve(void **state)
{
    const char *engine = getenv("NVME_ENGINE");
    const char *args[] = { "incoming=on", NULL, NULL };
    char text[64];

    fixture_serve(state);
    if (engine) {
        snprintf(text, sizeof text, "engine=%s", engine);
        args[1] = text;
    }
    two_serve_more(&other, "other", args);
    return 0;
}

int two_end(void **state)
{
    two_end_more(&other);
    return fixture_end(state);
}

struct ob_client *two_connect(const char *socket)
{
    struct driver d = driver;

    d.client = ob_client_new();
    assert_non_null(d.client);
    int ret = ob_client_connect(d.client, socket);
    for (unsigned i = 0; i < 1000 && ret == -EBUSY; i++) { /* the last one has not quite gone */
        usleep(1000);
        ob_client_free(d.client);
        d.client = ob_client_new();
        ret = ob_client_connect(d.client, socket);
    }
    assert_int_equal(ret, 0);
    driver_map_all(&d);
    return d.client;
}

uint32_t two_state(struct ob_client *c)
{
    uint32_t state = 99;
    assert_int_equal(ob_client_migration_state(c, &state), 0);
    return state;
}

size_t two_save(struct ob_client *c, uint8_t *stream, size_t space)
{
    assert_int_equal(ob_client_set_migration_state(c, VFIO_DEVICE_STATE_STOP_COPY), 0);
    ssize_t n = ob_client_mig_data_read(c, stream, space);
    assert_true(n > 0 && (size_t)n < space);
    return (size_t)n;
}

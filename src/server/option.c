/*
 * option.c - what the command line said about a device.
 */
#include "server/bus.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

static const struct ob_option *declared(const struct ob_device *dev, const char *key)
{
    for (const struct ob_option *o = dev->plugin->options; o && o->key; o++)
        if (strcmp(o->key, key) == 0)
            return o;
    const struct ob_option *bus = bus_option(dev->plugin);
    return bus && strcmp(bus->key, key) == 0 ? bus : NULL;
}

const char *ob_option_nth(struct ob_device *dev, const char *key, unsigned nth)
{
    for (unsigned i = 0; i < dev->option_count; i++)
        if (strcmp(dev->options[i].key, key) == 0 && nth-- == 0)
            return dev->options[i].value;
    return NULL;
}

const char *ob_option(struct ob_device *dev, const char *key)
{
    const char *value = ob_option_nth(dev, key, 0);
    const struct ob_option *o = declared(dev, key);
    return value ? value : o ? o->standard : NULL;
}

/* Files are numbered through, as they stand on the command line. */
static int file_number(const struct ob_device *dev, const char *key, unsigned nth)
{
    int number = 0;

    for (unsigned i = 0; i < dev->option_count; i++) {
        const struct ob_option *o = declared(dev, dev->options[i].key);
        if (!o || !(o->flags & OB_OPTION_FILE))
            continue;
        if (strcmp(o->key, key) == 0 && nth-- == 0)
            return number;
        number++;
    }
    return -ENOENT;
}

int ob_open(struct ob_device *dev, const char *key, unsigned nth, int flags)
{
    const char *path = ob_option_nth(dev, key, nth);
    int number = file_number(dev, key, nth);

    if (!path || number < 0)
        return -ENOENT;
    if (dev->keeping)
        return dev->keeping->open(dev->keeping->ctx, (unsigned)number, flags);
    int fd = open(path, flags | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int ob_watch_file(struct ob_device *dev, int inotify, const char *key, unsigned nth)
{
    const char *path = ob_option_nth(dev, key, nth);
    int number = file_number(dev, key, nth);

    if (!path || number < 0)
        return -ENOENT;
    if (dev->keeping)
        return dev->keeping->watch(dev->keeping->ctx, inotify, (unsigned)number);
    int watch = dev->confined ? -1 : inotify_add_watch(inotify, path, IN_MODIFY);
    return dev->confined ? -EPERM : watch < 0 ? -errno : watch;
}

int ob_parse_size(const char *text, uint64_t *size)
{
    char *end;
    unsigned shift = 0;

    if (*text < '0' || *text > '9')
        return -EINVAL;
    errno = 0;
    uint64_t number = strtoull(text, &end, 0);
    if (errno)
        return -EINVAL;
    switch (*end) {
    case 'K': case 'k': shift = 10; end++; break;
    case 'M': case 'm': shift = 20; end++; break;
    case 'G': case 'g': shift = 30; end++; break;
    default: break;
    }
    if (*end || (number << shift) >> shift != number)
        return -EINVAL;
    *size = number << shift;
    return 0;
}

int ob_parse_bool(const char *text, bool *value)
{
    if (strcmp(text, "on") == 0)
        *value = true;
    else if (strcmp(text, "off") == 0)
        *value = false;
    else
        return -EINVAL;
    return 0;
}

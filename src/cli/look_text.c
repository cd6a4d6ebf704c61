/*
 * look_text.c - numbers as people read them.
 */
#include "cli/look.h"
#include "server/event_text.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

/* Three digits and a unit of a list, each `step` times the one before. */
static const char *scaled(uint64_t n, unsigned step, const char *units, char text[LOOK_TEXT])
{
    double value = (double)n;

    if (n < step) {
        snprintf(text, LOOK_TEXT, "%" PRIu64, n);
        return text;
    }
    while (value >= (double)step * 0.9995 && *units) {
        value /= step;
        units++;
    }
    snprintf(text, LOOK_TEXT, "%.*f%c", value < 99.95, value, units[-1]);
    return text;
}

const char *look_count(uint64_t n, char text[LOOK_TEXT])
{
    return scaled(n, 1000, "kMGTPE", text);
}

const char *look_bytes(uint64_t n, char text[LOOK_TEXT])
{
    return scaled(n, 1024, "KMGTPE", text);
}

const char *look_time(uint64_t ns, char text[LOOK_TEXT])
{
    static const char *const units[] = { "ns", "us", "ms", "s" };
    double value = (double)ns;
    unsigned unit = 0;

    for (; value >= 999.5 && unit < 3; unit++)
        value /= 1000;
    if (ns)
        snprintf(text, LOOK_TEXT, "%.*f%s", unit && value < 99.95, value, units[unit]);
    else
        strcpy(text, "-");
    return text;
}

const char *look_age(uint64_t since, char text[LOOK_TEXT])
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t then = since / 1000000000, here = (uint64_t)now.tv_sec;
    uint64_t s = since && then < here ? here - then : 0;
    if (s < 60)
        snprintf(text, LOOK_TEXT, "%" PRIu64 "s", s);
    else if (s < 3600)
        snprintf(text, LOOK_TEXT, "%" PRIu64 "m%02" PRIu64 "s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(text, LOOK_TEXT, "%" PRIu64 "h%02" PRIu64 "m", s / 3600, s / 60 % 60);
    else
        snprintf(text, LOOK_TEXT, "%" PRIu64 "d%02" PRIu64 "h", s / 86400, s / 3600 % 24);
    return text;
}

const char *look_moment(uint64_t realtime, char text[LOOK_TEXT])
{
    time_t seconds = (time_t)(realtime / 1000000000);
    struct tm tm;
    size_t n = localtime_r(&seconds, &tm) ? strftime(text, LOOK_TEXT - 5, "%Y-%m-%d %H:%M:%S", &tm) : 0;

    if (n)
        snprintf(text + n, LOOK_TEXT - n, ".%03u", (unsigned)(realtime / 1000000 % 1000));
    else
        strcpy(text, "?");
    return text;
}

const char *look_core(char text[LOOK_DEATH])
{
    FILE *f = fopen("/proc/sys/kernel/core_pattern", "re");
    char pattern[128] = "";

    if (!f || !fgets(pattern, sizeof pattern, f))
        strcpy(pattern, "?");
    if (f)
        fclose(f);
    pattern[strcspn(pattern, "\n")] = '\0';
    if (pattern[0] == '|')
        snprintf(text, LOOK_DEATH, "its core was given to %s", pattern + 1);
    else
        snprintf(text, LOOK_DEATH, "its core was written to \"%s\" (core_pattern, see core(5))", pattern);
    return text;
}

const char *look_death(const struct look *l, char text[LOOK_DEATH])
{
    const struct facts_death *d = &l->facts.death;
    char name[SIGNAL_TEXT];
    int n = 0;

    if (!l->block || !d->worker || !d->signal) { /* the keeper alone knows */
        signal_text(l->status.last_signal, name);
        if (l->status.last_signal)
            snprintf(text, LOOK_DEATH, "%s", name);
        else
            snprintf(text, LOOK_DEATH, "it ended with status %d", l->status.last_status);
        return text;
    }
    signal_text(d->signal, name);
    if (d->code > 0)
        n = snprintf(text, LOOK_DEATH, "%s, address 0x%" PRIx64 ", at ", name, d->address);
    else
        n = snprintf(text, LOOK_DEATH, "%s, which was sent, at ", name);
    if (d->object[0])
        snprintf(text + n, LOOK_DEATH - (size_t)n, "%s+0x%" PRIx64, d->object, d->object_offset);
    else
        snprintf(text + n, LOOK_DEATH - (size_t)n, "0x%" PRIx64, d->instruction);
    return text;
}

bool look_doing(const struct look *l, char text[LOOK_DEATH])
{
    const struct facts_death *d = &l->facts.death;
    bool served = d->message.kind == RECORDED_MESSAGE;
    char event[EVENT_TEXT];

    if (served)
        event_text(&d->message, look_is_pci(l), event);
    if (d->took_over)
        snprintf(text, LOOK_DEATH, "while it took over%s%s", served ? " from one that served " : "",
                 served ? event + 2 : "");
    else if (served)
        snprintf(text, LOOK_DEATH, "while it served %s", event + 2);
    return served || d->took_over;
}

/*
 * look.c - see look.h.
 */
#include "cli/look.h"
#include "state/block.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATIENCE 2 /* seconds */

static bool fail(struct look *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(struct look *l, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(l->why, sizeof l->why, format, args);
    va_end(args);
    return false;
}

/* ---- The block --------------------------------------------------------------------------------------- */

/* All of [at, at + n): read, not mapped, since the file may become shorter meanwhile. */
static bool copy(int fd, void *to, size_t n, uint64_t at)
{
    return pread(fd, to, n, (off_t)at) == (ssize_t)n;
}

static const struct block_part *find_part(const struct block_header *h, const char *name, uint64_t size)
{
    for (unsigned i = 0; i < h->part_count; i++) {
        const struct block_part *p = &h->parts[i];
        if (strncmp(p->name, name, sizeof p->name) != 0)
            continue;
        return p->size <= size && p->offset <= size - p->size ? p : NULL;
    }
    return NULL;
}

static void make_text(char *text, size_t size)
{
    text[size - 1] = '\0';
    for (char *p = text; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
}

static bool read_facts(int fd, const struct block_part *p, struct look *l)
{
    struct shared_facts *f = &l->facts;

    if (!copy(fd, f, sizeof *f < p->size ? sizeof *f : p->size, p->offset))
        return fail(l, "its block is damaged: the facts cannot be read");
    if (f->layout != FACTS_LAYOUT)
        return fail(l, "its block is of another build: facts of layout %u, not %u", f->layout, FACTS_LAYOUT);
    make_text(f->plugin, sizeof f->plugin);
    make_text(f->bus, sizeof f->bus);
    make_text(f->sandbox_note, sizeof f->sandbox_note);
    make_text(f->death.object, sizeof f->death.object);
    return true;
}

static bool read_recorder(int fd, const struct block_part *p, struct look *l)
{
    struct recorder *r = malloc(sizeof *r);
    uint64_t last;

    if (!r)
        return fail(l, "%s", strerror(ENOMEM));
    bool ok = p->size == sizeof *r && copy(fd, r, sizeof *r, p->offset) &&
              copy(fd, &last, sizeof last, p->offset + offsetof(struct recorder, last));
    if (!ok)
        fail(l, "its block is damaged: the flight recorder cannot be read");
    else if (r->layout != RECORDER_LAYOUT || r->events != RECORDER_EVENTS)
        ok = fail(l, "its block is of another build: a flight recorder of layout %u, not %u", r->layout,
                  RECORDER_LAYOUT);
    if (ok) {
        l->events = recorder_read(r, last, l->event);
        l->in_hand = r->in_hand;
    }
    free(r);
    return ok;
}

bool look_block(int fd, struct look *l)
{
    struct block_header h;
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof h ||
        !copy(fd, &h, sizeof h, 0) || h.magic != BLOCK_MAGIC)
        return fail(l, "what its keeper shows is no block");
    if (h.layout != BLOCK_LAYOUT)
        return fail(l, "its block is of another build: layout %u, not %u", h.layout, BLOCK_LAYOUT);
    uint64_t size = (uint64_t)st.st_size;
    const struct block_part *facts = NULL, *recorder = NULL;
    if (h.part_count <= BLOCK_MAX_PARTS) {
        facts = find_part(&h, "facts", size);
        recorder = find_part(&h, "recorder", size);
    }
    if (!facts || !recorder || facts->size < offsetof(struct shared_facts, message_time))
        return fail(l, "its block is damaged: parts are missing, or lie outside");
    l->block = read_facts(fd, facts, l) && read_recorder(fd, recorder, l);
    return l->block;
}

/* ---- The keeper -------------------------------------------------------------------------------------- */

bool look_at(const struct control_target *target, struct look *l)
{
    struct control_answer answer;
    int block = -1;

    memset(l, 0, sizeof *l);
    l->target = target;
    int sock = control_connect(target->path, PATIENCE);
    if (sock < 0)
        return fail(l, "%s", control_error(sock));
    int ret = control_status(sock, &answer, &block);
    close(sock);
    if (ret < 0) {
        if (block >= 0)
            close(block);
        return fail(l, "%s", control_error(ret));
    }
    l->answered = true;
    l->status = answer.status;
    bool ok = block < 0 ? fail(l, "no worker has made the device yet") : look_block(block, l);
    if (block >= 0)
        close(block);
    return ok;
}

bool look_is_pci(const struct look *l)
{
    return strcmp(l->facts.bus, "pci") == 0;
}

unsigned look_restarts(const struct look *l)
{
    return l->status.killed + l->status.crashed + l->status.ended;
}

const char *look_state(const struct look *l)
{
    if (l->status.role == 2 || l->status.role == 4)
        return "failed";
    if (l->status.role == 1 || l->status.role == 5)
        return "refusing";
    if (!l->status.worker || !l->status.ready)
        return "starting";
    return l->block && l->facts.client_since ? "serving" : "idle";
}

/*
 * check.c - the run: each check by itself, on a new connection, and then the question whether the
 * server still serves.
 */
#include "check/check.h"
#include "check/learn.h"
#include "check/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const struct group *const groups[] = {
    &check_header,   &check_messages,     &check_device, &check_regions, &check_access,
    &check_config,   &check_config_write, &check_multi,  &check_io_fds,  &check_irqs,
    &check_set_irqs, &check_set_irqs_bad, &check_dma,    &check_dma_fds, &check_feature,
    &check_logging,  &check_migration,    &check_reset,  &check_limits,  &check_framing,
    &check_version,  &check_session,      &check_robust,
};

size_t check_entries(struct entry *entries, size_t space)
{
    size_t n = 0;
    for (size_t g = 0; g < LENGTH(groups); g++) {
        for (size_t i = 0; i < groups[g]->count; i++, n++) {
            const struct check *c = &groups[g]->checks[i];
            if (n < space)
                entries[n] = (struct entry){ c->id, c->title, c->cite };
        }
    }
    return n;
}

/* ---- Before and after a check ---------------------------------------------------------------- */

static void close_all(struct run *r)
{
    for (unsigned i = 0; i < r->peer_count; i++)
        peer_free(&r->peers[i]);
    r->peer_count = 0;
    for (unsigned i = 0; i < r->fd_count; i++)
        if (r->fds[i] >= 0)
            close(r->fds[i]);
    r->fd_count = 0;
    for (unsigned i = 0; i < r->block_count; i++)
        free(r->blocks[i]);
    r->block_count = 0;
}

/* Where there will be no other connection, the session has to be left as it was found. */
static void tidy(struct run *r)
{
    for (unsigned i = 0; i < r->offer_count; i++) {
        struct vfio_user_dma_unmap m = { sizeof m, 0, r->offers[i].address, r->offers[i].size };
        try(r, ASK(VFIO_USER_DMA_UNMAP, m));
    }
    for (uint32_t i = 0; i < r->facts.irqs; i++) {
        struct vfio_irq_set off = { sizeof off,
                                    VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, i, 0, 0 };
        if (r->facts.irq[i].count)
            try(r, ASK(VFIO_USER_DEVICE_SET_IRQS, off));
    }
}

/* Does the server still serve, and the same device? What it has done to deserve `why` belongs to
 * the check that came before. */
static int afterwards(struct run *r, char *why, size_t space)
{
    if (!r->options->one_connection)
        peer_close(&r->client);
    if (setjmp(r->over)) {
        snprintf(why, space, "%s", r->detail);
        return -EIO;
    }
    if (r->client.sock < 0) {
        int ret = learn_connect(r, why, space);
        if (ret < 0)
            return ret;
    } else {
        tidy(r);
    }
    struct vfio_user_device_info info = { .argsz = sizeof info };
    memcpy(&info, served(r, ASK(VFIO_USER_DEVICE_GET_INFO, info), sizeof info), sizeof info);
    if (info.num_regions == r->facts.device.num_regions &&
        info.num_irqs == r->facts.device.num_irqs && info.flags == r->facts.device.flags)
        return 0;
    snprintf(why, space, "the device has changed: %u regions, %u interrupt types, flags 0x%x",
             info.num_regions, info.num_irqs, info.flags);
    return -EIO;
}

static const char *not_wanted(const struct run *r, const struct check *c)
{
    const struct check_options *o = r->options;

    if ((c->needs & NEED_OWN) && o->one_connection)
        return "needs another connection, and --one-connection is given";
    if ((c->needs & NEED_DESTRUCTIVE) && !o->destructive)
        return "may change the device, and --destructive is not given";
    if ((c->needs & NEED_MAPPED) && !(o->memory & CHECK_MEMORY_MAPPED))
        return "--memory=messages";
    if ((c->needs & NEED_MESSAGES) && !(o->memory & CHECK_MEMORY_MESSAGES))
        return "--memory=mapped";
    if ((c->needs & NEED_PCI) && !is_pci(r))
        return "the device is not PCI";
    if ((c->needs & NEED_MULTI) && !r->facts.write_multiple)
        return "the server does not offer write_multiple";
    if ((c->needs & NEED_MIGRATION) && !r->facts.migration)
        return "the device does not migrate";
    if ((c->needs & NEED_LOGGING) && !r->facts.logging)
        return "the device does not log its DMA";
    return NULL;
}

static void run_one(struct run *r, const struct check *c)
{
    r->verdict = VERDICT_PASS;
    r->detail[0] = '\0';
    r->offer_count = 0;
    if (setjmp(r->over) == 0)
        c->run(r, c);
    close_all(r);
}

static void check_one(struct run *r, const struct check *c, struct results *results)
{
    char why[sizeof r->detail];
    struct result result = { .entry = { c->id, c->title, c->cite }, .detail = r->detail };
    const char *unwanted = not_wanted(r, c);

    if (r->dead) {
        result.verdict = VERDICT_NOT_RUN;
        result.detail = "the server was gone by then";
    } else if (unwanted) {
        result.verdict = VERDICT_SKIP;
        result.detail = unwanted;
    } else {
        run_one(r, c);
        result.verdict = r->verdict;
        char detail[sizeof r->detail];
        memcpy(detail, r->detail, sizeof detail);
        if (afterwards(r, why, sizeof why) < 0) {
            r->dead = true;
            result.verdict = VERDICT_FAIL;
            if (r->verdict == VERDICT_FAIL && detail[0])
                snprintf(r->detail, sizeof r->detail, "%.200s; then: %.250s", detail, why);
            else
                snprintf(r->detail, sizeof r->detail, "afterwards: %.400s", why);
        } else {
            memcpy(r->detail, detail, sizeof detail);
        }
    }
    results->add(results, &result);
}

int check_run(const struct check_options *options, struct results *results, char *why, size_t space)
{
    struct run *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->options = options;
    r->client.sock = -1;
    int ret = learn(r, why, space);
    if (ret == 0 && !options->one_connection) {
        ret = afterwards(r, why, space);
        if (ret < 0)
            snprintf(why, space,
                     "%s: the server ended with its first client; start it again and use "
                     "--one-connection",
                     options->socket_path);
    }
    for (size_t g = 0; g < LENGTH(groups) && ret == 0; g++)
        for (size_t i = 0; i < groups[g]->count; i++)
            if (selection_has(&options->select, groups[g]->checks[i].id))
                check_one(r, &groups[g]->checks[i], results);
    peer_free(&r->client);
    free(r);
    return ret;
}

/*
 * feature.c - group "feature": VFIO_USER_DEVICE_FEATURE itself: probing, and what cannot be asked.
 */
#include "check/ask_feature.h"

#define F "VFIO_USER_DEVICE_FEATURE"

enum outcome ask_feature(struct run *r, uint32_t flags, uint32_t argsz, const void *data, size_t n)
{
    uint8_t body[sizeof(struct vfio_user_device_feature) + 4096];
    struct vfio_user_device_feature f = { argsz, flags };

    memcpy(body, &f, sizeof f);
    if (n)
        memcpy(body + sizeof f, data, n);
    struct ask ask = { VFIO_USER_DEVICE_FEATURE, body, sizeof f + n, NULL, 0, 0 };
    enum outcome outcome = try(r, &ask);
    if (outcome == CLOSED)
        fail(r, "%s: expected a reply, got the end of the connection", F);
    if (outcome == SERVED && r->client.size < sizeof f)
        fail(r, "%s: expected 8 bytes of payload or more, got %zu", F, r->client.size);
    return outcome;
}

void no_room(struct run *r, uint32_t flags, const void *data, size_t n, uint32_t needed)
{
    struct vfio_user_device_feature got;
    const uint32_t small[] = { sizeof got, needed - 1 };

    for (int i = 0; i < 2; i++) {
        uint32_t argsz = small[i];
        if (ask_feature(r, flags, argsz, data, n) == REFUSED)
            fail(r, "argsz %u: expected a reply with the needed size, %u, got %s", argsz, needed,
                 strerror((int)r->client.header.error));
        memcpy(&got, r->client.body, sizeof got);
        if (got.argsz != needed || got.flags != flags)
            fail(r, "argsz %u: expected argsz %u and flags 0x%x in the reply, got %u and 0x%x", argsz,
                 needed, flags, got.argsz, got.flags);
        if (r->client.size > argsz)
            fail(r, "expected at most argsz = %u bytes of payload, got %zu", argsz, r->client.size);
    }
}

/* "The reply payload must be the same as the request payload for ... probing a feature." */
static void probe(struct run *r, const struct check *c)
{
    struct vfio_user_device_feature f = { sizeof f, FEATURE_PROBE | (uint32_t)c->a }, got;

    if (ask_feature(r, f.flags, f.argsz, NULL, 0) == REFUSED)
        return;
    memcpy(&got, r->client.body, sizeof got);
    if (got.flags != f.flags || r->client.size != sizeof got)
        fail(r, "expected the request in the reply, got flags 0x%x and %zu bytes", got.flags,
             r->client.size);
}

/* "the probe will only return success if all of the indicated methods are supported": a method that
 * works has to be probed with success. */
static void probe_agrees(struct run *r, const struct check *c)
{
    uint32_t feature = (uint32_t)c->a & VFIO_DEVICE_FEATURE_MASK;
    bool probed = ask_feature(r, FEATURE_PROBE | (uint32_t)c->a, 8, NULL, 0) == SERVED;
    bool works = ask_feature(r, FEATURE_GET | feature, FEATURE_WHOLE, NULL, 0) == SERVED;

    if (probed != works)
        fail(r, "feature %u: probing GET gives %s, and GET gives %s", feature,
             probed ? "success" : "an error", works ? "success" : "an error");
    if (!works)
        skip(r, "the device does not have the feature");
}

/* Both at once can only be had if each can. */
static void probe_both(struct run *r, const struct check *c)
{
    uint32_t feature = (uint32_t)c->a;
    bool get = ask_feature(r, FEATURE_PROBE | FEATURE_GET | feature, 8, NULL, 0) == SERVED;
    bool set = ask_feature(r, FEATURE_PROBE | FEATURE_SET | feature, 8, NULL, 0) == SERVED;
    bool both = ask_feature(r, FEATURE_PROBE | FEATURE_GET | FEATURE_SET | feature, 8, NULL, 0) ==
                SERVED;

    if (both != (get && set))
        fail(r, "feature %u: GET %d, SET %d, and both together %d", feature, get, set, both);
}

/* None of these can mean anything, to any device. c->b: what VFIO says. */
static void bad(struct run *r, const struct check *c)
{
    uint64_t data = 0;
    if (ask_feature(r, (uint32_t)c->a, FEATURE_WHOLE, &data, sizeof data) == SERVED)
        fail(r, "flags 0x%x: expected an error, got success", (unsigned)c->a);
}

/* Bits that are not assigned. A server may take no notice of them. */
static void reserved(struct run *r, const struct check *c)
{
    ask_feature(r, (uint32_t)c->a, FEATURE_WHOLE, NULL, 0);
}

static void argsz(struct run *r, const struct check *c)
{
    uint32_t flags = FEATURE_PROBE | FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION;
    if (ask_feature(r, flags, (uint32_t)c->a, NULL, 0) == SERVED && c->a < 8)
        note(r, "argsz %u is served, where 8 is the least", (unsigned)c->a);
}

/* ---- VFIO_DEVICE_FEATURE_MIGRATION ----------------------------------------------------------- */

static void migration(struct run *r, const struct check *c)
{
    const uint64_t known = VFIO_MIGRATION_STOP_COPY | VFIO_MIGRATION_P2P | OB_MIGRATION_PRE_COPY;
    struct vfio_user_device_feature got;
    uint64_t flags;
    (void)c;

    if (ask_feature(r, FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, FEATURE_WHOLE, NULL, 0) ==
        REFUSED)
        fail(r, "expected the same success as before, got an error");
    if (r->client.size != sizeof got + sizeof flags)
        fail(r, "expected 16 bytes of payload, got %zu", r->client.size);
    memcpy(&got, r->client.body, sizeof got);
    memcpy(&flags, r->client.body + sizeof got, sizeof flags);
    if (got.argsz != sizeof got + sizeof flags)
        fail(r, "argsz: expected 16, the size with its data, got %u", got.argsz);
    if (!(flags & VFIO_MIGRATION_STOP_COPY))
        fail(r, "expected VFIO_MIGRATION_STOP_COPY, got flags 0x%llx", (unsigned long long)flags);
    if (flags & ~known)
        note(r, "flags 0x%llx have bits that are not known here", (unsigned long long)flags);
    if (flags & VFIO_MIGRATION_P2P)
        note(r, "P2P is offered, whose states are \"not used in vfio-user\"");
}

static void migration_argsz(struct run *r, const struct check *c)
{
    (void)c;
    no_room(r, FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, NULL, 0, 16);
}

static void state_argsz(struct run *r, const struct check *c)
{
    (void)c;
    no_room(r, FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, NULL, 0, 16);
}

static void migration_set(struct run *r, const struct check *c)
{
    uint64_t flags = VFIO_MIGRATION_STOP_COPY;
    (void)c;
    if (ask_feature(r, FEATURE_SET | VFIO_DEVICE_FEATURE_MIGRATION, 16, &flags, sizeof flags) ==
        SERVED)
        fail(r, "expected an error, as it can only be read, got success");
}

static void state(struct run *r, const struct check *c)
{
    uint32_t now = get_state(r);
    (void)c;
    if (now > LAST_STATE)
        fail(r, "expected a state from 0 to 7, got %u", now);
    if (now != VFIO_DEVICE_STATE_RUNNING)
        note(r, "the state of the device is %u, and not RUNNING", now);
}

#define PROBE(tag, feature)                                                       \
    { "feature.probe-" tag,                                                       \
      "probing " #feature " gives the request, or an error",                      \
      "Device Features: " #feature "; " F ": Feature index",                      \
      probe,                                                                      \
      0,                                                                          \
      feature,                                                                    \
      0 },                                                                        \
        { "feature.probe-get-" tag,                                               \
          "probing GET of " #feature,                                             \
          F ": VFIO_DEVICE_FEATURE_PROBE, VFIO_DEVICE_FEATURE_GET",               \
          probe,                                                                  \
          0,                                                                      \
          FEATURE_GET | feature,                                                  \
          0 },                                                                    \
        { "feature.probe-set-" tag,                                               \
          "probing SET of " #feature,                                             \
          F ": VFIO_DEVICE_FEATURE_PROBE, VFIO_DEVICE_FEATURE_SET",               \
          probe,                                                                  \
          0,                                                                      \
          FEATURE_SET | feature,                                                  \
          0 },                                                                    \
    {                                                                             \
        "feature.probe-both-" tag, "probing GET and SET of " #feature " at once", \
            F ": VFIO_DEVICE_FEATURE_PROBE", probe_both, 0, feature, 0            \
    }
#define BAD(tag, title, flags)                                   \
    {                                                            \
        "feature.bad-" tag, title, F ": flags", bad, 0, flags, 0 \
    }

static const struct check checks[] = {
    PROBE("migration", VFIO_DEVICE_FEATURE_MIGRATION),
    PROBE("state", VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE),
    PROBE("log-start", VFIO_DEVICE_FEATURE_DMA_LOGGING_START),
    PROBE("log-stop", VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP),
    PROBE("log-report", VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT),
    { "feature.agrees-migration", "what GET of MIGRATION says, probing says",
      F ": VFIO_DEVICE_FEATURE_PROBE", probe_agrees, 0, FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION,
      0 },
    { "feature.agrees-state", "what GET of MIG_DEVICE_STATE says, probing says",
      F ": VFIO_DEVICE_FEATURE_PROBE", probe_agrees, 0,
      FEATURE_GET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, 0 },
    BAD("no-method", "a feature without a method is refused", VFIO_DEVICE_FEATURE_MIGRATION),
    BAD("get-set", "GET and SET at once are refused",
        FEATURE_GET | FEATURE_SET | VFIO_DEVICE_FEATURE_MIGRATION),
    BAD("get-set-state", "and also of the state",
        FEATURE_GET | FEATURE_SET | VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE),
    BAD("get-unknown", "GET of feature 65535 is refused", FEATURE_GET | 0xffff),
    BAD("set-unknown", "SET of feature 65535 is refused", FEATURE_SET | 0xffff),
    BAD("probe-unknown", "probing feature 65535 is refused", FEATURE_PROBE | 0xffff),
    BAD("probe-unknown-get", "probing GET of feature 65534 is refused",
        FEATURE_PROBE | FEATURE_GET | 0xfffe),
    BAD("get-log-start", "GET of DMA_LOGGING_START is refused",
        FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_LOGGING_START),
    { "feature.reserved-19", "bit 19, which is not assigned, gets an answer", F ": flags", reserved,
      0, 1u << 19 | FEATURE_PROBE | FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, 0 },
    { "feature.reserved-31", "bit 31, which is not assigned, gets an answer", F ": flags", reserved,
      0, 1u << 31 | FEATURE_PROBE | FEATURE_GET | VFIO_DEVICE_FEATURE_MIGRATION, 0 },
    { "feature.argsz-0", "argsz 0 gets an answer", F ": argsz", argsz, 0, 0, 0 },
    { "feature.argsz-7", "an argsz that is too small gets an answer", F ": argsz", argsz, 0, 7, 0 },
    { "feature.argsz-max", "an argsz as large as it gets", F ": argsz", argsz, 0, UINT32_MAX, 0 },
    { "feature.migration", "STOP_COPY is among the ways to migrate",
      "VFIO_DEVICE_FEATURE_MIGRATION: flags, VFIO_MIGRATION_STOP_COPY, VFIO_MIGRATION_P2P, "
      "VFIO_MIGRATION_PRE_COPY; " F ": data",
      migration, NEED_MIGRATION, 0, 0 },
    { "feature.migration-argsz", "MIGRATION without room for its data is told the size that is needed",
      "Message sizes; " F ": argsz", migration_argsz, NEED_MIGRATION, 0, 0 },
    { "feature.migration-set", "SET of MIGRATION is refused", "VFIO_DEVICE_FEATURE_MIGRATION",
      migration_set, 0, 0, 0 },
    { "feature.state", "a device that migrates is in a state, RUNNING as a rule",
      "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE: device_state", state, NEED_MIGRATION, 0, 0 },
    { "feature.state-argsz", "MIG_DEVICE_STATE without room for its data is told the size that is needed",
      "Message sizes; " F ": argsz", state_argsz, NEED_MIGRATION, 0, 0 },
};
GROUP(check_feature, checks);

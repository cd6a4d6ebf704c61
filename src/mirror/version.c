/*
 * version.c - lies in the reply to VFIO_USER_VERSION.
 */
#include "mirror/misbehaviour.h"

#include <string.h>

#define SECTION "VFIO_USER_VERSION"

static struct vfio_user_version *head(struct reply *r)
{
    return reply_body(r);
}

static bool major(struct play *p, struct reply *r)
{
    head(r)->major = (uint16_t)p->m->arg;
    return true;
}

static bool minor(struct play *p, struct reply *r)
{
    head(r)->minor = (uint16_t)p->m->arg;
    return true;
}

/* The version data becomes this text, its NUL included. */
static bool json(struct play *p, struct reply *r)
{
    size_t n = strlen(p->m->json) + 1;
    memcpy(head(r)->data, p->m->json, n);
    reply_resize(r, sizeof *head(r) + n);
    return true;
}

static bool no_nul(struct play *p, struct reply *r)
{
    (void)p;
    reply_resize(r, r->size - sizeof(struct vfio_user_header) - 1);
    return true;
}

static bool inner_nul(struct play *p, struct reply *r)
{
    (void)p;
    head(r)->data[10] = '\0';
    return true;
}

/* As many bytes of data as the argument says, all of them an opening bracket. */
static bool brackets(struct play *p, struct reply *r)
{
    size_t n = p->m->arg;
    memset(head(r)->data, '[', n);
    head(r)->data[n] = '\0';
    reply_resize(r, sizeof *head(r) + n + 1);
    return true;
}

/* Proper JSON that is as long as the argument says. */
static bool spaces(struct play *p, struct reply *r)
{
    size_t n = p->m->arg;
    memset(head(r)->data, ' ', n);
    head(r)->data[0] = '{';
    head(r)->data[n - 1] = '}';
    head(r)->data[n] = '\0';
    reply_resize(r, sizeof *head(r) + n + 1);
    return true;
}

/* The body becomes as long as the argument says. */
static bool body(struct play *p, struct reply *r)
{
    reply_resize(r, p->m->arg);
    return true;
}

/* Limits that a client has to keep to: see check_limits() in play.c. */
static bool limits(struct play *p, struct reply *r)
{
    uint32_t limit = (uint32_t)p->m->arg;

    wire_capabilities_default(&p->limits);
    if (strstr(p->m->json, "max_msg_fds"))
        p->limits.max_msg_fds = limit;
    if (strstr(p->m->json, "max_data_xfer_size"))
        p->limits.max_data_xfer_size = limit;
    if (strstr(p->m->json, "max_dma_maps"))
        p->limits.max_dma_maps = limit;
    return json(p, r);
}

static bool twin(struct play *p, struct reply *r)
{
    r->fds[0] = p->device.gift;
    r->nfds = (unsigned)p->m->arg;
    if (r->nfds)
        watch_gift(&p->watch, p->device.gift);
    return json(p, r);
}

#define CAPS(inside) "{\"capabilities\":{" inside "}}"
#define LIE(id, text, act, arg)                                               \
    {                                                                         \
        "version." id, SECTION, text, AT_VERSION, MUST_NOTICE, act, arg, NULL \
    }
#define ODD(id, text, act, arg)                                             \
    {                                                                       \
        "version." id, SECTION, text, AT_VERSION, MAY_GO_ON, act, arg, NULL \
    }
#define BAD(id, text, json_text)                                                  \
    {                                                                             \
        "version." id, SECTION, text, AT_VERSION, MUST_NOTICE, json, 0, json_text \
    }
#define TOO(id, text, json_text)                                                \
    {                                                                           \
        "version." id, SECTION, text, AT_VERSION, MAY_GO_ON, json, 0, json_text \
    }
#define LIMIT(id, text, arg, json_text)                                             \
    {                                                                               \
        "version." id, SECTION, text, AT_VERSION, MAY_GO_ON, limits, arg, json_text \
    }

const struct misbehaviour misbehaviours_version[] = {
    LIE("major-1", "another major version", major, 1),
    LIE("major-max", "major version 65535", major, 65535),
    LIE("minor-above", "a higher minor version than was proposed", minor, 65535),
    LIE("empty", "no body at all", body, 0),
    LIE("short", "half of the version numbers", body, 2),
    ODD("no-data", "no version data, which is allowed", body, 4),
    LIE("no-nul", "version data that does not end in NUL", no_nul, 0),
    LIE("inner-nul", "version data with a NUL in its middle", inner_nul, 0),
    BAD("no-json", "version data that is no JSON", "}{ not json"),
    BAD("json-cut", "JSON that ends too early", "{\"capabilities\":{\"max_msg_fds\":"),
    BAD("json-number", "a number instead of an object", "7"),
    BAD("json-array", "an array instead of an object", "[]"),
    BAD("json-null", "null instead of an object", "null"),
    BAD("json-utf8", "bytes that are no UTF-8, outside of a string", "{\"a\":\xff\xfe}"),
    LIE("json-deep", "a thousand opening brackets", brackets, 1000),
    LIE("json-deepest", "200,000 opening brackets", brackets, 200000),
    ODD("json-long", "JSON of 1 MiB, nearly all of it spaces", spaces, 1u << 20),
    BAD("caps-array", "capabilities that are an array", "{\"capabilities\":[]}"),
    BAD("caps-string", "capabilities that are a string", "{\"capabilities\":\"all\"}"),
    BAD("fds-string", "max_msg_fds that is a string", CAPS("\"max_msg_fds\":\"8\"")),
    BAD("fds-negative", "max_msg_fds of -1", CAPS("\"max_msg_fds\":-1")),
    TOO("fds-huge", "max_msg_fds of a billion", CAPS("\"max_msg_fds\":1000000000")),
    LIMIT("fds-one", "max_msg_fds of 1, which is allowed", 1, CAPS("\"max_msg_fds\":1")),
    LIMIT("fds-zero", "max_msg_fds of 0", 0, CAPS("\"max_msg_fds\":0")),
    BAD("xfer-object", "max_data_xfer_size that is an object", CAPS("\"max_data_xfer_size\":{}")),
    BAD("xfer-negative", "max_data_xfer_size of -4096", CAPS("\"max_data_xfer_size\":-4096")),
    TOO("xfer-huge", "max_data_xfer_size of 2^52", CAPS("\"max_data_xfer_size\":4503599627370496")),
    TOO("xfer-wraps", "max_data_xfer_size of 2^32, which is 0 in 32 bits",
        CAPS("\"max_data_xfer_size\":4294967296")),
    TOO("xfer-beyond", "max_data_xfer_size of 10^30",
        CAPS("\"max_data_xfer_size\":1000000000000000000000000000000")),
    LIMIT("xfer-one", "max_data_xfer_size of 1, which is allowed", 1,
          CAPS("\"max_data_xfer_size\":1")),
    LIMIT("xfer-zero", "max_data_xfer_size of 0", 0, CAPS("\"max_data_xfer_size\":0")),
    LIMIT("maps-one", "max_dma_maps of 1, which is allowed", 1, CAPS("\"max_dma_maps\":1")),
    LIMIT("maps-zero", "max_dma_maps of 0", 0, CAPS("\"max_dma_maps\":0")),
    BAD("maps-negative", "max_dma_maps of -1", CAPS("\"max_dma_maps\":-1")),
    TOO("pgsizes-odd", "pgsizes of 3", CAPS("\"pgsizes\":3")),
    TOO("pgsizes-zero", "pgsizes of 0", CAPS("\"pgsizes\":0")),
    BAD("multi-number", "write_multiple that is a number", CAPS("\"write_multiple\":1")),
    LIMIT("multi-no", "no write_multiple, which is allowed", 1, CAPS("\"write_multiple\":false")),
    TOO("unknown", "a capability that nobody knows, which is allowed",
        CAPS("\"max_frobs\":[1,{\"a\":null}],\"write_multiple\":true")),
    TOO("twice", "the same capability twice, with different values",
        CAPS("\"max_msg_fds\":1,\"max_msg_fds\":16")),
    { "version.twin-none", SECTION, "a twin socket without a descriptor", AT_VERSION, MUST_NOTICE,
      twin, 0, CAPS("\"twin_socket\":{\"supported\":true}") },
    { "version.twin-index", SECTION, "a twin socket whose fd_index is beyond the descriptors",
      AT_VERSION, MUST_NOTICE, twin, 1,
      CAPS("\"twin_socket\":{\"supported\":true,\"fd_index\":9}") },
    { "version.twin-no-socket", SECTION, "a twin socket that is a file", AT_VERSION, MUST_NOTICE,
      twin, 1, CAPS("\"twin_socket\":{\"supported\":true,\"fd_index\":0}") },
    { NULL, NULL, NULL, 0, 0, NULL, 0, NULL },
};

/*
 * version.c - group "version": VFIO_USER_VERSION, on connections that have not been negotiated.
 *
 * "The capability list must be a subset of those proposed": that is about abilities that both need.
 * Limits are each side's own, and all servers name theirs; so are they not judged by it here.
 */
#include "check/run.h"

#include <json-c/json.h>
#include <sys/stat.h>
#include <time.h>

#define V "VFIO_USER_VERSION"

/* A fresh connection whose turn has come: while the server is busy with our last one, it says
 * so. */
static enum outcome propose(struct run *r, struct peer **p, uint16_t major, uint16_t minor,
                            const void *data, size_t n)
{
    uint64_t deadline = peer_now_ms() + r->options->timeout_ms;
    uint8_t *body = zeroes(r, sizeof(struct vfio_user_version) + n);
    struct vfio_user_version version = { .major = major, .minor = minor };

    memcpy(body, &version, sizeof version);
    if (n)
        memcpy(body + sizeof version, data, n);
    for (;;) {
        *p = stranger(r);
        struct ask ask = { VFIO_USER_VERSION, body, sizeof version + n, NULL, 0, 0 };
        enum outcome outcome = try_on(r, *p, &ask);
        if (outcome != REFUSED || (*p)->header.error != EBUSY || peer_now_ms() > deadline ||
            r->peer_count == MOST_PEERS)
            return outcome;
        peer_close(*p);
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    }
}

static struct peer *agree(struct run *r, uint16_t minor, const char *json)
{
    struct peer *p;
    enum outcome outcome = propose(r, &p, VFIO_USER_MAJOR, minor, json,
                                   json ? strlen(json) + 1 : 0);
    if (outcome == REFUSED)
        fail(r, "version 0.%u: expected a reply, got %s", minor, strerror((int)p->header.error));
    if (outcome == CLOSED)
        fail(r, "version 0.%u: expected a reply, got the end of the connection", minor);
    if (p->size < sizeof(struct vfio_user_version))
        fail(r, "expected major and minor in the reply, got %zu bytes", p->size);
    return p;
}

static void minor(struct run *r, const struct check *c)
{
    struct vfio_user_version got;
    struct peer *p = agree(r, (uint16_t)c->a, "{}");

    memcpy(&got, p->body, sizeof got);
    if (got.major != VFIO_USER_MAJOR)
        fail(r, "expected major 0, as proposed, got %u", got.major);
    if (got.minor > c->a)
        fail(r, "expected a minor of at most %u, as proposed, got %u", (unsigned)c->a, got.minor);
    still_works(r, p);
}

static void other_major(struct run *r, const struct check *c)
{
    struct vfio_user_version got;
    struct peer *p;

    if (propose(r, &p, (uint16_t)c->a, 0, "{}", 3) != SERVED)
        return;
    memcpy(&got, p->body, p->size < sizeof got ? 0 : sizeof got);
    if (p->size < sizeof got || got.major != c->a)
        fail(r,
             "major %u: expected the same major, or the end of the connection, got something else",
             (unsigned)c->a);
    note(r, "the server says that it speaks version %u", (unsigned)c->a);
}

/* What is no error: JSON that a server need not understand, but may get. */
static const char *const good_json[] = {
    "{}",
    "{\"capabilities\":{}}",
    "{\"capabilities\":{\"max_msg_fds\":1}}",
    "{\"capabilities\":{\"max_data_xfer_size\":4096}}",
    "{\"capabilities\":{\"max_data_xfer_size\":4294967296}}",
    "{\"capabilities\":{\"max_dma_maps\":65535,\"pgsizes\":4096}}",
    "{\"capabilities\":{\"something_new\":{\"a\":[1,2,{\"b\":null}]}}}",
    "{\"something_new\":true,\"capabilities\":{}}",
    "{\"capabilities\":{\"migration\":{\"pgsize\":4096}}}", /* before it was taken out of the text */
    "{\"capabilities\":{\"twin_socket\":{\"supported\":false}}}",
    "{\"capabilities\":{\"twin_socket\":{}}}",
    "{\"capabilities\":{\"write_multiple\":false}}",
    " \n\t{ \"capabilities\" : { \"max_msg_fds\" : 8 } } \n",
    "{\"capabilities\":{\"caf\\u00e9\":\"\xc3\xa9\"}}",
};

static void good(struct run *r, const struct check *c)
{
    struct peer *p = agree(r, VFIO_USER_MINOR, good_json[c->a]);
    still_works(r, p);
}

static void no_data(struct run *r, const struct check *c)
{
    struct peer *p = agree(r, VFIO_USER_MINOR, NULL);
    (void)c;
    still_works(r, p);
}

/* What is one. A server may refuse it or take it for nothing; it must say so, and go on. */
static const struct {
    const char *bytes;
    size_t size;
} bad_json[] = {
#define TEXT(text)         \
    {                      \
        text, sizeof(text) \
    }
#define BYTES(text)            \
    {                          \
        text, sizeof(text) - 1 \
    }
    BYTES("{}"), /* without NUL */
    TEXT(""),
    TEXT("{"),
    TEXT("capabilities"),
    TEXT("[]"),
    TEXT("7"),
    TEXT("null"),
    TEXT("{\"capabilities\":7}"),
    TEXT("{\"capabilities\":[]}"),
    TEXT("{\"capabilities\":null}"),
    TEXT("{\"capabilities\":{\"max_msg_fds\":\"8\"}}"),
    TEXT("{\"capabilities\":{\"max_msg_fds\":-1}}"),
    TEXT("{\"capabilities\":{\"max_msg_fds\":0}}"),
    TEXT("{\"capabilities\":{\"max_msg_fds\":1e308}}"),
    TEXT("{\"capabilities\":{\"max_msg_fds\":99999999999999999999999999}}"),
    TEXT("{\"capabilities\":{\"max_data_xfer_size\":0}}"),
    TEXT("{\"capabilities\":{\"max_data_xfer_size\":-4096}}"),
    TEXT("{\"capabilities\":{\"max_data_xfer_size\":{}}}"),
    TEXT("{\"capabilities\":{\"pgsizes\":0}}"),
    TEXT("{\"capabilities\":{\"pgsizes\":4095}}"),
    TEXT("{\"capabilities\":{\"max_dma_maps\":\"many\"}}"),
    TEXT("{\"capabilities\":{\"twin_socket\":true}}"),
    TEXT("{\"capabilities\":{\"twin_socket\":{\"supported\":\"yes\"}}}"),
    TEXT("{\"capabilities\":{\"twin_socket\":{\"supported\":true,\"fd_index\":99}}}"),
    TEXT("{\"capabilities\":{\"write_multiple\":1}}"),
    TEXT("{\"capabilities\":{}}\0 and more behind the NUL"),
    TEXT("{\"capabilities\":{}} trailing"),
    TEXT("{\"capabilities\":{},\"capabilities\":{}}"),
    TEXT("{\"\xff\xfe\":1}"),
    TEXT("%s%s%s%n"),
};

static void bad(struct run *r, const struct check *c)
{
    struct peer *p;
    if (propose(r, &p, VFIO_USER_MAJOR, VFIO_USER_MINOR, bad_json[c->a].bytes,
                bad_json[c->a].size) == SERVED)
        still_works(r, p);
}

/* Deep nesting, and length. */
static void large(struct run *r, const struct check *c)
{
    static char text[60000];
    struct peer *p;
    size_t n = c->a;

    memset(text, c->b ? '[' : ' ', n);
    if (!c->b)
        memcpy(text + n - 2, "{}", 2);
    text[n] = '\0';
    if (propose(r, &p, VFIO_USER_MAJOR, VFIO_USER_MINOR, text, n + 1) == SERVED)
        still_works(r, p);
}

/* The payload is shorter than major and minor. */
static void cut(struct run *r, const struct check *c)
{
    struct peer *p = stranger(r);
    struct ask ask = { VFIO_USER_VERSION, "\0\0\1\0", c->a, NULL, 0, 0 };
    if (try_on(r, p, &ask) == SERVED)
        fail(r,
             "a payload of %u bytes: expected an error or the end of the connection, got success",
             (unsigned)c->a);
}

/* "Upon establishing a connection, the client must send a VFIO_USER_VERSION message". */
static void before(struct run *r, const struct check *c)
{
    uint8_t body[HARMLESS_SPACE];
    struct peer *p = stranger(r);
    struct ask ask = { (uint16_t)c->a, body, harmless(r, (uint16_t)c->a, body), NULL, 0, 0 };

    if (try_on(r, p, &ask) == SERVED)
        note(r, "a command is served before the version is agreed on");
}

static void second(struct run *r, const struct check *c)
{
    struct ask ask = { VFIO_USER_VERSION, "\0\0\1\0{}", 7, NULL, 0, 0 };
    (void)c;
    if (try(r, &ask) == SERVED)
        note(r, "a second VFIO_USER_VERSION is served");
    if (r->client.sock >= 0)
        still_works(r, client(r));
}

static void descriptor_beside(struct run *r, const struct check *c)
{
    struct peer *p = stranger(r);
    int fds[20], fd = an_eventfd(r);

    for (unsigned i = 0; i < c->a; i++)
        fds[i] = fd;
    struct ask ask = { VFIO_USER_VERSION, "\0\0\1\0{}", 7, fds, (unsigned)c->a, 0 };
    try_on(r, p, &ask);
}

static void posted(struct run *r, const struct check *c)
{
    struct peer *p = stranger(r);
    uint16_t id;
    bool silent;
    (void)c;
    peer_send_message(p, VFIO_USER_VERSION, VFIO_USER_FLAG_NO_REPLY, "\0\0\1\0{}", 7, NULL, 0, &id);
    if (consequence(r, p, &silent) == SERVED)
        note(r, "a VFIO_USER_VERSION with No_reply is answered");
}

/* ---- The reply's data ------------------------------------------------------------------------ */

/* Its root object, or NULL: there is no data. The caller puts it. */
static json_object *reply_data(struct run *r, struct peer *p)
{
    size_t n = p->size - sizeof(struct vfio_user_version);
    const char *text = (const char *)p->body + sizeof(struct vfio_user_version);

    if (n == 0)
        return NULL;
    if (text[n - 1] != '\0')
        fail(r, "expected version data that ends in NUL, got 0x%02x", (unsigned char)text[n - 1]);
    if (strlen(text) != n - 1)
        note(r, "there are %zu bytes behind the NUL of the version data", n - 1 - strlen(text));
    json_object *root = json_tokener_parse(text);
    if (!json_object_is_type(root, json_type_object)) {
        json_object_put(root);
        fail(r, "expected a JSON object, got %.100s", text);
    }
    return root;
}

static json_object *capabilities_of(json_object *root)
{
    json_object *o = NULL;
    if (root)
        json_object_object_get_ex(root, "capabilities", &o);
    return o;
}

static const char everything[] =
    "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,\"max_dma_maps\":65535,"
    "\"pgsizes\":4096,\"write_multiple\":true}}";

static void reply_json(struct run *r, const struct check *c)
{
    (void)c;
    json_object *root = reply_data(r, agree(r, VFIO_USER_MINOR, everything));
    json_object *caps = capabilities_of(root);
    bool wrong = caps && !json_object_is_type(caps, json_type_object);
    json_object_put(root);
    if (wrong)
        fail(r, "capabilities: expected an object, got something else");
    if (!root)
        note(r, "the reply has no version data");
}

static const char *const numbers[] = { "max_msg_fds", "max_data_xfer_size", "max_dma_maps",
                                       "pgsizes" };

static void reply_number(struct run *r, const struct check *c)
{
    const char *key = numbers[c->a];
    json_object *root = reply_data(r, agree(r, VFIO_USER_MINOR, everything)), *v = NULL;
    json_object *caps = capabilities_of(root);
    bool there = caps && json_object_object_get_ex(caps, key, &v);
    bool number = there && json_object_is_type(v, json_type_int);
    int64_t value = number ? json_object_get_int64(v) : 0;

    json_object_put(root);
    if (!there)
        skip(r, "the server does not name %s", key);
    if (!number)
        fail(r, "%s: expected a number, got something else", key);
    if (value < 1)
        fail(r, "%s: expected 1 or more, got %lld", key, (long long)value);
    if (c->a == 3 && !(value & 4096))
        note(r, "pgsizes 0x%llx has no pages of 4096 bytes", (unsigned long long)value);
    if (c->a == 1 && value < 4096)
        note(r, "max_data_xfer_size is %lld", (long long)value);
}

static bool says_write_multiple(struct run *r, const char *json, bool *there)
{
    json_object *root = reply_data(r, agree(r, VFIO_USER_MINOR, json)), *v = NULL;
    json_object *caps = capabilities_of(root);
    *there = caps && json_object_object_get_ex(caps, "write_multiple", &v);
    bool boolean = *there && json_object_is_type(v, json_type_boolean);
    bool value = boolean && json_object_get_boolean(v);

    json_object_put(root);
    if (*there && !boolean)
        fail(r, "write_multiple: expected a boolean, got something else");
    return value;
}

static void write_multiple(struct run *r, const struct check *c)
{
    bool there, value = says_write_multiple(r, c->a ? everything : "{}", &there);
    if (!c->a && value)
        fail(r, "expected no write_multiple, as it was not proposed, got it");
    if (c->a && !there)
        skip(r, "the server does not name write_multiple");
}

/* twin_socket of a reply: -1 absent or false, -2 true without an index, or the index. */
static int twin_of(struct run *r, struct peer *p)
{
    json_object *root = reply_data(r, p), *twin = NULL, *v = NULL;
    json_object *caps = capabilities_of(root);
    int index = -1;

    if (caps && json_object_object_get_ex(caps, "twin_socket", &twin) &&
        json_object_object_get_ex(twin, "supported", &v) && json_object_get_boolean(v))
        index = json_object_object_get_ex(twin, "fd_index", &v) ? json_object_get_int(v) : -2;
    json_object_put(root);
    return index;
}

static void twin_not_asked(struct run *r, const struct check *c)
{
    struct peer *p = agree(r, VFIO_USER_MINOR, c->a ? good_json[9] : "{}");
    if (twin_of(r, p) != -1)
        fail(r, "expected no twin socket, as it was not proposed, got one");
    if (p->fds.count)
        fail(r, "expected no descriptor beside the reply, got %u", p->fds.count);
}

static void twin_asked(struct run *r, const struct check *c)
{
    struct peer *p = agree(r, VFIO_USER_MINOR,
                           "{\"capabilities\":{\"max_msg_fds\":16,"
                           "\"twin_socket\":{\"supported\":true}}}");
    int index = twin_of(r, p);
    struct stat st;
    (void)c;

    if (index == -1 && p->fds.count)
        fail(r, "there is a descriptor, and no twin socket");
    if (index == -1)
        skip(r, "the server has no twin socket");
    if (index < 0 || (unsigned)index >= p->fds.count)
        fail(r, "twin_socket.fd_index: expected one of the %u descriptors, got %d", p->fds.count,
             index);
    if (fstat(p->fds.fd[index], &st) < 0 || !S_ISSOCK(st.st_mode))
        fail(r, "twin_socket: expected a socket, got something else");
    keep(r, p->fds.fd[index]); /* for as long as the session, which may end with it */
    p->fds.fd[index] = -1;
    still_works(r, p);
}

#define GOOD(tag, n)                                                  \
    {                                                                 \
        "version.good-" tag, "version data with " tag " is accepted", \
            V ": version data, capabilities", good, NEED_OWN, n, 0    \
    }
#define BAD(tag, n)                                                                            \
    {                                                                                          \
        "version.bad-" tag, "version data with " tag " does no harm", V ": version data", bad, \
            NEED_OWN, n, 0                                                                     \
    }
#define NUMBER(n, name)                                                                \
    {                                                                                  \
        "version.reply-" name, name " in the reply is a sensible number", V ": " name, \
            reply_number, NEED_OWN, n, 0                                               \
    }
#define BEFORE(tag, command)                                                                     \
    {                                                                                            \
        "version.before-" tag, #command " before the version does no harm", V, before, NEED_OWN, \
            command, 0                                                                           \
    }

static const struct check checks[] = {
    { "version.minor-0", "version 0.0 gets 0.0", V ": version major, version minor", minor,
      NEED_OWN, 0, 0 },
    { "version.minor-1", "version 0.1 gets 0.1 or 0.0", V ": version major, version minor", minor,
      NEED_OWN, 1, 0 },
    { "version.minor-2", "a newer minor gets one that the server has", V ": version minor", minor,
      NEED_OWN, 2, 0 },
    { "version.minor-max", "and so does the newest", V ": version minor", minor, NEED_OWN, 65535,
      0 },
    { "version.major-1", "another major is not served as if it were ours", V ": version major",
      other_major, NEED_OWN, 1, 0 },
    { "version.major-max", "nor is the last", V ": version major", other_major, NEED_OWN, 65535,
      0 },
    { "version.no-data", "version data is optional", V ": version data", no_data, NEED_OWN, 0, 0 },
    GOOD("nothing", 0),
    GOOD("no-capabilities", 1),
    GOOD("max_msg_fds-1", 2),
    GOOD("max_data_xfer_size-4096", 3),
    GOOD("max_data_xfer_size-4G", 4),
    GOOD("max_dma_maps", 5),
    GOOD("unknown-capability", 6),
    GOOD("unknown-key", 7),
    GOOD("migration", 8),
    GOOD("twin_socket-false", 9),
    GOOD("twin_socket-empty", 10),
    GOOD("write_multiple-false", 11),
    GOOD("white-space", 12),
    GOOD("UTF-8", 13),
    BAD("no-NUL", 0),
    BAD("only-NUL", 1),
    BAD("no-end", 2),
    BAD("no-JSON", 3),
    BAD("a-list", 4),
    BAD("a-number", 5),
    BAD("null", 6),
    BAD("capabilities-number", 7),
    BAD("capabilities-list", 8),
    BAD("capabilities-null", 9),
    BAD("max_msg_fds-string", 10),
    BAD("max_msg_fds-negative", 11),
    BAD("max_msg_fds-0", 12),
    BAD("max_msg_fds-float", 13),
    BAD("max_msg_fds-huge", 14),
    BAD("max_data_xfer_size-0", 15),
    BAD("max_data_xfer_size-negative", 16),
    BAD("max_data_xfer_size-object", 17),
    BAD("pgsizes-0", 18),
    BAD("pgsizes-4095", 19),
    BAD("max_dma_maps-string", 20),
    BAD("twin_socket-boolean", 21),
    BAD("twin_socket-string", 22),
    BAD("twin_socket-index", 23),
    BAD("write_multiple-number", 24),
    BAD("bytes-behind-NUL", 25),
    BAD("text-behind-JSON", 26),
    BAD("capabilities-twice", 27),
    BAD("no-UTF-8", 28),
    BAD("percent-signs", 29),
    { "version.nested", "JSON that is nested 4000 deep does no harm", V ": version data", large,
      NEED_OWN, 4000, 1 },
    { "version.nested-50000", "JSON that is nested 50000 deep does no harm", V ": version data",
      large, NEED_OWN, 50000, 1 },
    { "version.long", "version data of 3000 bytes does no harm", V ": version data", large,
      NEED_OWN, 3000, 0 },
    { "version.long-50000", "version data of 50000 bytes does no harm", V ": version data", large,
      NEED_OWN, 50000, 0 },
    { "version.cut-0", "a message without a version is refused",
      "Commands: VFIO_USER_VERSION; " V ": version major", cut, NEED_OWN, 0, 0 },
    { "version.cut-1", "nor is one byte a version", V ": version major", cut, NEED_OWN, 1, 0 },
    { "version.cut-2", "nor is a major alone", V ": version minor", cut, NEED_OWN, 2, 0 },
    { "version.cut-3", "nor are three bytes", V ": version minor", cut, NEED_OWN, 3, 0 },
    BEFORE("info", VFIO_USER_DEVICE_GET_INFO),
    BEFORE("region-info", VFIO_USER_DEVICE_GET_REGION_INFO),
    BEFORE("irq-info", VFIO_USER_DEVICE_GET_IRQ_INFO),
    BEFORE("dma-map", VFIO_USER_DMA_MAP),
    BEFORE("set-irqs", VFIO_USER_DEVICE_SET_IRQS),
    BEFORE("read", VFIO_USER_REGION_READ),
    BEFORE("unknown", 4711),
    { "version.second", "a second version gets an answer", V, second, NEED_OWN, 0, 0 },
    { "version.fd", "a descriptor beside a version is no harm", V, descriptor_beside, NEED_OWN, 1,
      0 },
    { "version.fds-20", "twenty of them are no harm", V, descriptor_beside, NEED_OWN, 20, 0 },
    { "version.no-reply", "a version with No_reply is no harm", "Header: Flags, No_reply", posted,
      NEED_OWN, 0, 0 },
    { "version.reply", "version data in the reply is a JSON object that ends in NUL",
      V ": version data, capabilities", reply_json, NEED_OWN, 0, 0 },
    NUMBER(0, "max_msg_fds"),
    NUMBER(1, "max_data_xfer_size"),
    NUMBER(2, "max_dma_maps"),
    NUMBER(3, "pgsizes"),
    { "version.reply-write_multiple", "write_multiple in the reply is a boolean",
      V ": write_multiple", write_multiple, NEED_OWN, 1, 0 },
    { "version.subset-write_multiple", "write_multiple is not agreed on unless proposed",
      V ": write_multiple", write_multiple, NEED_OWN, 0, 0 },
    { "version.subset-twin_socket", "a twin socket is not made unless proposed", V ": twin_socket",
      twin_not_asked, NEED_OWN, 0, 0 },
    { "version.subset-twin_socket-false", "nor if it is proposed with false",
      V ": twin_socket, supported", twin_not_asked, NEED_OWN, 1, 0 },
    { "version.twin_socket", "a twin socket is a socket among the descriptors",
      V ": twin_socket, supported, fd_index", twin_asked, NEED_OWN, 0, 0 },
};
GROUP(check_version, checks);

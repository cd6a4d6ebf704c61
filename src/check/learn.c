/*
 * learn.c - what has to be known about a server before it is checked.
 */
#include "check/learn.h"

#include <json-c/json.h>
#include <stdio.h>
#include <time.h>

/* What the checks propose, so that all that a server has can be seen. twin_socket has a check of
 * its own: with it, the device's commands would come elsewhere. */
static const char proposal[] =
    "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,"
    "\"write_multiple\":true}}";

static int complain(char *why, size_t space, const struct run *r, const char *what)
{
    snprintf(why, space, "%s: %s", r->options->socket_path, what);
    return -EPROTO;
}

/* -EAGAIN: somebody else is served, or our last connection has not quite gone. */
static int introduce(struct run *r, char *why, size_t space)
{
    if (setjmp(r->over))
        return complain(why, space, r, r->detail);
    enum outcome outcome = negotiate(r, &r->client, VFIO_USER_MINOR, proposal);
    if (outcome == SERVED)
        return 0;
    bool busy = outcome == CLOSED || r->client.header.error == EBUSY;
    if (outcome == CLOSED)
        complain(why, space, r, "the server closes the connection instead of a reply to VERSION");
    else if (busy)
        complain(why, space, r, "the server has a client already");
    else
        complain(why, space, r, "the server refuses version 0.1 of the protocol");
    return busy ? -EAGAIN : -EPROTO;
}

int learn_connect(struct run *r, char *why, size_t space)
{
    uint64_t deadline = peer_now_ms() + r->options->timeout_ms;
    for (;;) {
        int ret = peer_connect(&r->client, r->options->socket_path, r->options->timeout_ms);
        if (ret < 0) {
            complain(why, space, r, strerror(-ret));
            return ret;
        }
        ret = introduce(r, why, space);
        if (ret == 0)
            return 0;
        peer_close(&r->client);
        if (ret != -EAGAIN || peer_now_ms() >= deadline)
            return ret;
        nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    }
}

/* A number of the server's capabilities, whatever else is wrong with them. */
static uint32_t limit(json_object *capabilities, const char *key, uint32_t otherwise)
{
    json_object *v;
    if (!json_object_object_get_ex(capabilities, key, &v) || !json_object_is_type(v, json_type_int))
        return otherwise;
    int64_t n = json_object_get_int64(v);
    return n < 1 ? otherwise : n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
}

static void learn_version(struct run *r)
{
    struct facts *f = &r->facts;
    char text[4096] = "";
    size_t n = r->client.size > 4 ? r->client.size - 4 : 0;
    json_object *c = NULL, *v;

    memcpy(text, r->client.body + 4, n < sizeof text ? n : sizeof text - 1);
    json_object *root = json_tokener_parse(text);
    json_object_object_get_ex(root, "capabilities", &c);
    f->max_msg_fds = limit(c, "max_msg_fds", VFIO_USER_DEFAULT_MAX_MSG_FDS);
    f->max_data = limit(c, "max_data_xfer_size", VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE);
    f->max_dma_maps = limit(c, "max_dma_maps", VFIO_USER_DEFAULT_MAX_DMA_MAPS);
    f->names_max_dma_maps = json_object_object_get_ex(c, "max_dma_maps", &v);
    f->write_multiple = json_object_object_get_ex(c, "write_multiple", &v) &&
                        json_object_get_boolean(v);
    json_object_put(root);
}

static void learn_regions(struct run *r)
{
    struct facts *f = &r->facts;
    f->regions = f->device.num_regions < FACTS_REGIONS ? f->device.num_regions : FACTS_REGIONS;
    for (uint32_t i = 0; i < f->regions; i++) {
        struct vfio_region_info info = { .argsz = 4096, .index = i };
        f->region[i] = (struct vfio_region_info){ .index = i };
        if (try(r, ASK(VFIO_USER_DEVICE_GET_REGION_INFO, info)) == SERVED &&
            r->client.size >= sizeof info)
            memcpy(&f->region[i], r->client.body, sizeof info);
    }
}

static void learn_irqs(struct run *r)
{
    struct facts *f = &r->facts;
    f->irqs = f->device.num_irqs < FACTS_IRQS ? f->device.num_irqs : FACTS_IRQS;
    for (uint32_t i = 0; i < f->irqs; i++) {
        struct vfio_irq_info info = { .argsz = sizeof info, .index = i };
        f->irq[i] = (struct vfio_irq_info){ .index = i };
        if (try(r, ASK(VFIO_USER_DEVICE_GET_IRQ_INFO, info)) == SERVED &&
            r->client.size >= sizeof info)
            memcpy(&f->irq[i], r->client.body, sizeof info);
    }
}

static void learn_features(struct run *r)
{
    struct vfio_user_device_feature get = { 4096, VFIO_DEVICE_FEATURE_GET |
                                                      VFIO_DEVICE_FEATURE_MIGRATION };
    struct vfio_user_device_feature probe = { sizeof probe,
                                              VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET |
                                                  VFIO_DEVICE_FEATURE_DMA_LOGGING_START };
    if (try(r, ASK(VFIO_USER_DEVICE_FEATURE, get)) == SERVED && r->client.size >= sizeof get + 8)
        memcpy(&r->facts.migration, r->client.body + sizeof get, 8);
    r->facts.logging = try(r, ASK(VFIO_USER_DEVICE_FEATURE, probe)) == SERVED;
}

int learn(struct run *r, char *why, size_t space)
{
    int ret = learn_connect(r, why, space);
    if (ret < 0)
        return ret;
    learn_version(r);
    if (setjmp(r->over))
        return complain(why, space, r, r->detail);
    struct vfio_user_device_info info = { .argsz = sizeof info };
    memcpy(&r->facts.device, served(r, ASK(VFIO_USER_DEVICE_GET_INFO, info), sizeof info),
           sizeof info);
    learn_regions(r);
    learn_irqs(r);
    learn_features(r);
    return 0;
}

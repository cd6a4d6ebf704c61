/*
 * version.c - capabilities as JSON.
 */
#include "wire/version.h"
#include "wire/limits.h"

#include <errno.h>
#include <outboard/vfio_user.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

/* Numbers in JSON are exact up to here. */
#define JSON_EXACT (INT64_C(1) << 53)

void wire_capabilities_default(struct wire_capabilities *c)
{
    *c = (struct wire_capabilities){
        .max_msg_fds = VFIO_USER_DEFAULT_MAX_MSG_FDS,
        .max_data_xfer_size = VFIO_USER_DEFAULT_MAX_DATA_XFER_SIZE,
        .max_dma_maps = VFIO_USER_DEFAULT_MAX_DMA_MAPS,
        .pgsizes = VFIO_USER_DEFAULT_PGSIZES,
        .twin_socket_fd_index = -1,
    };
}

void wire_capabilities_ours(struct wire_capabilities *c)
{
    *c = (struct wire_capabilities){
        .max_msg_fds = WIRE_MAX_FDS,
        .max_data_xfer_size = WIRE_MAX_DATA,
        .max_dma_maps = WIRE_MAX_DMA_MAPS,
        .pgsizes = VFIO_USER_DEFAULT_PGSIZES,
        .write_multiple = true,
        .twin_socket_fd_index = -1,
    };
}

void wire_version_prepare(void)
{
    json_object *o = json_object_new_object();

    json_object_object_add(o, "seed", json_object_new_boolean(true));
    json_object_put(o);
}

/* A number from 1 to max. Absent: *value stays. Over max, max is meant: nobody loses by it. */
static int get_number(json_object *o, const char *key, uint64_t max, uint64_t *value)
{
    json_object *v;
    if (!json_object_object_get_ex(o, key, &v))
        return 0;
    if (!json_object_is_type(v, json_type_int))
        return -EINVAL;
    int64_t number = json_object_get_int64(v);
    if (number < 1 || number > JSON_EXACT)
        return -EINVAL;
    *value = (uint64_t)number > max ? max : (uint64_t)number;
    return 0;
}

static int get_uint32(json_object *o, const char *key, uint32_t *value)
{
    uint64_t wide = *value;
    int ret = get_number(o, key, UINT32_MAX, &wide);
    *value = (uint32_t)wide;
    return ret;
}

static int get_bool(json_object *o, const char *key, bool *value)
{
    json_object *v;
    if (!json_object_object_get_ex(o, key, &v))
        return 0;
    if (!json_object_is_type(v, json_type_boolean))
        return -EINVAL;
    *value = json_object_get_boolean(v);
    return 0;
}

static int get_object(json_object *o, const char *key, json_object **value)
{
    *value = NULL;
    if (!json_object_object_get_ex(o, key, value))
        return 0;
    return json_object_is_type(*value, json_type_object) ? 0 : -EINVAL;
}

static int get_twin_socket(json_object *capabilities, struct wire_capabilities *c)
{
    json_object *twin, *index;
    int ret = get_object(capabilities, "twin_socket", &twin);
    if (ret < 0 || !twin)
        return ret;
    ret = get_bool(twin, "supported", &c->twin_socket);
    if (ret < 0 || !json_object_object_get_ex(twin, "fd_index", &index))
        return ret;
    if (!json_object_is_type(index, json_type_int))
        return -EINVAL;
    int64_t number = json_object_get_int64(index);
    if (number < 0 || number >= (int64_t)WIRE_MAX_FDS)
        return -EINVAL;
    c->twin_socket_fd_index = (int)number;
    return 0;
}

static int get_capabilities(json_object *root, struct wire_capabilities *c)
{
    json_object *o;
    int ret;

    if (!json_object_is_type(root, json_type_object))
        return -EINVAL;
    ret = get_object(root, "capabilities", &o);
    if (ret < 0 || !o)
        return ret;
    if ((ret = get_uint32(o, "max_msg_fds", &c->max_msg_fds)) < 0 ||
        (ret = get_uint32(o, "max_data_xfer_size", &c->max_data_xfer_size)) < 0 ||
        (ret = get_uint32(o, "max_dma_maps", &c->max_dma_maps)) < 0 ||
        (ret = get_number(o, "pgsizes", UINT64_MAX, &c->pgsizes)) < 0 ||
        (ret = get_bool(o, "write_multiple", &c->write_multiple)) < 0)
        return ret;
    return get_twin_socket(o, c);
}

int wire_capabilities_parse(const char *data, size_t n, struct wire_capabilities *c)
{
    wire_capabilities_default(c);
    if (n == 0)
        return 0;
    if (n > WIRE_MAX_VERSION || data[n - 1] != '\0')
        return -EINVAL;

    json_tokener *tokener = json_tokener_new_ex(8);
    if (!tokener)
        return -ENOMEM;
    size_t length = strlen(data);
    json_object *root = json_tokener_parse_ex(tokener, data, (int)length);
    int ret = -EINVAL;
    if (json_tokener_get_error(tokener) == json_tokener_success &&
        json_tokener_get_parse_end(tokener) == length)
        ret = get_capabilities(root, c);
    json_object_put(root);
    json_tokener_free(tokener);
    return ret;
}

int wire_capabilities_format(const struct wire_capabilities *c, char *data, size_t space)
{
    char twin[96] = "", index[32] = "";

    if (c->twin_socket_fd_index >= 0)
        snprintf(index, sizeof index, ",\"fd_index\":%d", c->twin_socket_fd_index);
    if (c->twin_socket)
        snprintf(twin, sizeof twin, ",\"twin_socket\":{\"supported\":true%s}", index);
    int n = snprintf(data, space,
                     "{\"capabilities\":{\"max_msg_fds\":%u,\"max_data_xfer_size\":%u,"
                     "\"max_dma_maps\":%u,\"pgsizes\":%llu,\"write_multiple\":%s%s}}",
                     c->max_msg_fds, c->max_data_xfer_size, c->max_dma_maps,
                     (unsigned long long)c->pgsizes, c->write_multiple ? "true" : "false", twin);
    return n < 0 || (size_t)n >= space ? -ENOSPC : n + 1;
}

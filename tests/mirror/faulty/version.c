/*
 * version.c - the version, and the server's limits.
 */
#include "faulty.h"

#include <json-c/json.h>
#include <string.h>

uint64_t limit_fds = 1, limit_data = 1048576, limit_maps = 65535;
bool takes_multi;

static const char offer[] = "\0\0\1\0{\"capabilities\":{\"max_msg_fds\":16,"
                            "\"max_data_xfer_size\":65536,\"write_multiple\":true}}";

static void number(json_object *caps, const char *key, uint64_t *value)
{
    json_object *v;

    if (!json_object_object_get_ex(caps, key, &v))
        return;
    int64_t n = json_object_get_int64(v);
    if (!fault(FAULT_JSON_TYPE) && (!json_object_is_type(v, json_type_int) || n < 1))
        give_up("%s makes no sense", key);
    if (!fault(FAULT_LIMITS) && n > 0)
        *value = (uint64_t)n;
    if (fault(FAULT_LIMITS))
        *value = UINT32_MAX;
}

static void boolean(json_object *caps, const char *key, bool *value)
{
    json_object *v;

    if (!json_object_object_get_ex(caps, key, &v))
        return;
    if (!fault(FAULT_JSON_TYPE) && !json_object_is_type(v, json_type_boolean))
        give_up("%s is no boolean", key);
    *value = json_object_get_boolean(v);
}

static void capabilities(json_object *root)
{
    uint64_t pgsizes = 4096;
    bool twin = false;
    json_object *caps, *object;

    if (!json_object_is_type(root, json_type_object)) {
        if (!fault(FAULT_JSON_TYPE))
            give_up("version data that is no object");
        return;
    }
    if (!json_object_object_get_ex(root, "capabilities", &caps))
        return;
    if (!json_object_is_type(caps, json_type_object)) {
        if (!fault(FAULT_JSON_TYPE))
            give_up("capabilities that are no object");
        return;
    }
    number(caps, "max_msg_fds", &limit_fds);
    number(caps, "max_data_xfer_size", &limit_data);
    number(caps, "max_dma_maps", &limit_maps);
    number(caps, "pgsizes", &pgsizes);
    boolean(caps, "write_multiple", &takes_multi);
    if (json_object_object_get_ex(caps, "twin_socket", &object))
        boolean(object, "supported", &twin);
    if (twin && !fault(FAULT_TWIN))
        give_up("a twin socket that was not offered");
}

void version(struct message *m)
{
    struct vfio_user_version head;
    const char *text = (const char *)m->body + sizeof head;

    call(&(struct request){ .command = VFIO_USER_VERSION,
                            .body = offer,
                            .size = sizeof offer,
                            .least = sizeof head,
                            .most = MOST_BODY,
                            .reply_fds = fault(FAULT_TWIN) },
         m);
    memcpy(&head, m->body, sizeof head);
    if ((head.major != 0 || head.minor > 1) && !fault(FAULT_VERSION))
        give_up("version %u.%u", head.major, head.minor);
    if (m->size <= sizeof head)
        return;
    size_t n = m->size - sizeof head;
    if ((text[n - 1] != '\0' || strlen(text) != n - 1) && !fault(FAULT_JSON))
        give_up("version data without a NUL at its end alone");
    json_tokener *tokener = json_tokener_new_ex(8);
    json_tokener_set_flags(tokener, JSON_TOKENER_VALIDATE_UTF8);
    json_object *root = json_tokener_parse_ex(tokener, text, (int)n);
    if (json_tokener_get_error(tokener) != json_tokener_success) {
        if (!fault(FAULT_JSON))
            give_up("version data that is no JSON");
    } else {
        capabilities(root);
    }
    json_object_put(root);
    json_tokener_free(tokener);
}

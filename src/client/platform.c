/*
 * platform.c - what a devicetree says of a device, as its regions carry it.
 */
#include "client/client.h"

#include <errno.h>
#include <string.h>

/* Reads one list of strings, each printable and with its end, out of what is left of the capability. */
static bool take_strings(const uint8_t **at, size_t *left, uint32_t size, struct ob_strings *s)
{
    const uint8_t *bytes = *at;
    bool empty = true; /* the string so far */

    if (size > *left || (size > 0 && bytes[size - 1] != 0))
        return false;
    for (uint32_t i = 0; i < size; i++) {
        if (bytes[i] == 0 ? empty : bytes[i] < 0x21 || bytes[i] > 0x7e)
            return false;
        empty = bytes[i] == 0;
        s->count += empty;
    }
    s->first = size ? (const char *)bytes : NULL;
    *at += size;
    *left -= size;
    return true;
}

const char *client_take_platform(struct ob_region *r, const uint8_t *bytes, size_t n)
{
    struct vfio_user_region_info_cap_platform cap;
    struct ob_strings name = { .count = 0 };

    if (r->compatible.count)
        return "two platform capabilities";
    if (n < sizeof cap)
        return "a platform capability that is cut off";
    memcpy(&cap, bytes, sizeof cap);
    bytes += sizeof cap;
    n -= sizeof cap;
    if (!take_strings(&bytes, &n, cap.name_size, &name) ||
        !take_strings(&bytes, &n, cap.compatible_size, &r->compatible) ||
        !take_strings(&bytes, &n, cap.irq_names_size, &r->irq_names) || name.count > 1)
        return "names that are no strings, or are cut off";
    if (!r->compatible.count)
        return "a platform capability without a compatible string";
    r->name = name.first;
    return NULL;
}

const char *ob_strings_get(const struct ob_strings *s, unsigned nth)
{
    const char *string = s->first;

    if (nth >= s->count)
        return NULL;
    while (nth-- > 0)
        string += strlen(string) + 1;
    return string;
}

bool ob_strings_has(const struct ob_strings *s, const char *what, unsigned *nth)
{
    const char *string = s->first;

    for (unsigned i = 0; i < s->count; i++, string += strlen(string) + 1) {
        if (strcmp(string, what) != 0)
            continue;
        if (nth)
            *nth = i;
        return true;
    }
    return false;
}

int ob_client_find_region(struct ob_client *c, const char *name, struct ob_region **region)
{
    struct vfio_user_device_info info;

    *region = NULL;
    int ret = ob_client_device_info(c, &info);
    for (uint32_t i = 0; ret == 0 && i < info.num_regions; i++) {
        struct ob_region *r;
        ret = ob_client_region(c, i, &r);
        if (ret == 0 && r->name && strcmp(r->name, name) == 0) {
            *region = r;
            return 0;
        }
        ob_region_free(r);
    }
    return ret < 0 ? ret : client_refuse(c, -ENOENT, "the device has no region named %s", name);
}

int ob_client_find_irq(struct ob_client *c, const char *name, uint32_t *index)
{
    struct vfio_user_device_info info;
    struct ob_region *r = NULL;
    unsigned nth = 0;

    int ret = ob_client_device_info(c, &info);
    if (ret == 0 && info.num_regions)
        ret = ob_client_region(c, 0, &r); /* each of them has the names */
    bool found = r && ob_strings_has(&r->irq_names, name, &nth) && nth < info.num_irqs;
    ob_region_free(r);
    if (ret == 0 && !found)
        ret = client_refuse(c, -ENOENT, "the device has no interrupt named %s", name);
    if (ret == 0)
        *index = nth;
    return ret;
}

/*
 * json.c - see json.h.
 */
#include "cli/json.h"

#include <errno.h>

static json *checked(struct builder *b, json *value)
{
    b->failed |= !value;
    return value;
}

void put(struct builder *b, json *object, const char *key, json *value)
{
    if (!checked(b, value))
        return;
    if (!object || json_object_object_add(object, key, value) < 0) {
        b->failed = true;
        json_object_put(value);
    }
}

void append(struct builder *b, json *array, json *value)
{
    if (!checked(b, value))
        return;
    if (!array || json_object_array_add(array, value) < 0) {
        b->failed = true;
        json_object_put(value);
    }
}

void put_number(struct builder *b, json *object, const char *key, uint64_t value)
{
    put(b, object, key, json_object_new_uint64(value));
}

void put_signed(struct builder *b, json *object, const char *key, int64_t value)
{
    put(b, object, key, json_object_new_int64(value));
}

void put_bool(struct builder *b, json *object, const char *key, bool value)
{
    put(b, object, key, json_object_new_boolean(value));
}

void put_text(struct builder *b, json *object, const char *key, const char *value)
{
    put(b, object, key, json_object_new_string(value));
}

int json_print(const struct builder *b, json *object, FILE *out)
{
    const int style = JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE;
    const char *text = b->failed ? NULL : json_object_to_json_string_ext(object, style);

    if (text)
        fprintf(out, "%s\n", text);
    json_object_put(object);
    return text ? 0 : -ENOMEM;
}

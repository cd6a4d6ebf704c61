/*
 * json.h - building JSON objects, where memory may be short.
 *
 * json-c gives NULL then, and so do these, whatever they are given: the whole is built without looking,
 * and json_print() tells in the end.
 */
#ifndef CLI_JSON_H
#define CLI_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct json_object json;

struct builder {
    bool failed;
};

/* They own value from here on. NULL values are failures: JSON's null is never meant. */
void put(struct builder *b, json *object, const char *key, json *value);
void append(struct builder *b, json *array, json *value);

void put_number(struct builder *b, json *object, const char *key, uint64_t value);
void put_signed(struct builder *b, json *object, const char *key, int64_t value);
void put_bool(struct builder *b, json *object, const char *key, bool value);
void put_text(struct builder *b, json *object, const char *key, const char *value);

/* Prints and frees the object. 0 or -ENOMEM. */
int json_print(const struct builder *b, json *object, FILE *out);

#endif

/*
 * fields.h - the state of a device as a stream of bytes: for another build, or another host.
 *
 * A stream says what it holds before it holds it. All numbers are little-endian, strings are a length
 * (2 bytes) and that many bytes. It is a row of records:
 *
 *     4 bytes  magic "OBMS"                   the same in all records
 *     2 bytes  what: 1 description, 2 value, 3 end
 *     2 bytes  version of this format, 1
 *     8 bytes  length of the body
 *     the body
 *     4 bytes  CRC32C of the record's place in the stream (8 bytes) and all that stands above
 *
 * The description comes first: the plugin's name; the number of sections (4 bytes), and for each its
 * name, version (4 bytes), number of fields (4 bytes), and for each field its name, kind (1 byte: enum
 * ob_field_kind), flags (1 byte: OB_FIELD_*), size of an element (4 bytes), number of elements (8
 * bytes). A member of an array of structures is one field, "cq[].head", with an element for each
 * structure, or several.
 *
 * A value for each field follows, in the order of the description: number of the section and of the
 * field (4 bytes each), and the elements. A time is its distance from the moment of the stop, signed,
 * and INT64_MIN for none. The end record's body is the number of bytes before it.
 *
 * What fits is a matter of names, kinds, sizes and counts: see struct ob_field. Nothing in a stream is
 * believed. What the values mean is for the reader's caller to check.
 */
#ifndef STATE_FIELDS_H
#define STATE_FIELDS_H

#include <outboard/device.h>

/* A part of the state: where it lies, and its fields. */
struct fields_section {
    const char *name;
    uint32_t version;
    uint32_t oldest; /* that can be loaded; 0: this version alone */
    void *base;
    const struct ob_field *fields; /* ends with OB_END */
};

#define FIELDS_SECTIONS 32u

/* A stream of at most so many sections of one plugin. Its layout is made once; after that nothing is allocated. */
struct fields;
struct fields *fields_new(const char *plugin, const struct fields_section *sections, unsigned n);
void fields_free(struct fields *s); /* NULL is fine */

/* How many fields a table has, with those of structures in it. */
unsigned fields_count(const struct ob_field *fields);

uint64_t fields_size(const struct fields *s);             /* all of it */
uint64_t fields_description_size(const struct fields *s); /* its first record, always the same */

/*
 * Bytes at to at + n of the stream that the state gives which is there now; fewer at the end. The state
 * must not change while a stream is read in pieces. `moment`: what times are counted from,
 * CLOCK_MONOTONIC ns.
 */
size_t fields_read(const struct fields *s, uint64_t moment, uint64_t at, void *buf, size_t n);

#define FIELDS_WHY 200 /* bytes for a sentence about what does not fit */

/* Does the description at the beginning of these bytes fit? 0, -EAGAIN: it is not all there yet, or
 * -EINVAL with a sentence. */
int fields_check(struct fields *s, const void *bytes, size_t n, char why[FIELDS_WHY]);

/*
 * Fills the state in from a whole stream. 0, with the version of each section; or -EINVAL with a
 * sentence, and some of the state may be overwritten.
 */
int fields_load(struct fields *s, uint64_t moment, const void *bytes, size_t n, uint32_t *versions,
                char why[FIELDS_WHY]);

/* All pieces of memory that the stream's fields of a section lie in; what is between them is nobody's. */
void fields_each(const struct fields *s, unsigned section, void (*fn)(void *ctx, void *p, size_t n),
                 void *ctx);

/* Where a byte of the state lies, in words that another build understands: the name of the field in
 * section i, and the byte in its elements. NULL: in none. [offset, offset + size) lies in one piece. */
const char *fields_find_field(const struct fields *s, unsigned section, uint64_t offset, uint64_t size,
                              uint64_t *byte);
/* The way back. -EINVAL: no such place. */
int fields_find_offset(const struct fields *s, unsigned section, const char *name, uint64_t byte,
                       uint64_t size, uint64_t *offset);

#endif

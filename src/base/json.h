/* json.h: reading JSON that somebody else wrote, over jansson.
 *
 * A document is parsed whole, within limits on its bytes and its depth, and is
 * then read through places: a place knows its value and the way to it, so that
 * a message says "config.json: rope_scaling.factor: expected a number, found a
 * string". Places live on the caller's stack and point at each other and into
 * the document: nothing here but json_parse allocates.
 *
 * RFC 8259; any value may be the root. A key that stands twice in an object,
 * a number out of range and invalid UTF-8 are errors. jansson's memory comes
 * from base/mem.h, set up before main; what json_dumps returns is therefore freed
 * by jansson's own free function only (json_dump_callback needs none). A document may be read by many threads at once. */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "base/err.h"
#include "base/str.h"

#define JSON_MAX_DEPTH_DEFAULT 64u
#define JSON_MAX_DEPTH 1024u          /* jansson recurses; its own limit is 2048 */
#define JSON_MAX_BYTES_DEFAULT ((size_t)64 << 20)

struct json_limits {
    size_t   max_bytes;   /* 0: JSON_MAX_BYTES_DEFAULT */
    unsigned max_depth;   /* of nested arrays and objects; 0: JSON_MAX_DEPTH_DEFAULT */
};

struct json_place {
    const json_t            *value;   /* never NULL in a place that was filled */
    const struct json_place *parent;  /* NULL at the root, whose key is the document's name */
    const char              *key;     /* NULL in an array */
    size_t                   index;
};

/* Parses bytes[0..n). name (a path, "request body") stands in front of
 * messages. limits may be NULL. WATT_EFORMAT with line and column,
 * WATT_ELIMIT, WATT_ENOMEM. */
int  json_parse(json_t **out, const char *name, const void *bytes, size_t n,
                const struct json_limits *limits, struct err *e) MUST_CHECK;
void json_close(json_t *document);      /* NULL is fine */

/* name must outlive the place, as must every parent. */
struct json_place json_root(const json_t *document, const char *name);

/* Err_set with the place's path in front: for checks of the caller's own. */
int json_refuse(const struct json_place *at, struct err *e, int code, const char *fmt, ...)
    PRINTF_LIKE(4, 5);

/* A member of an object. *out->value is NULL, and the result 0, when it is
 * absent or null; WATT_EFORMAT when `at` is no object. */
int    json_find(const struct json_place *at, const char *key, struct json_place *out,
                 struct err *e) MUST_CHECK;
/* The same, but absent or null is WATT_EFORMAT. */
int    json_need(const struct json_place *at, const char *key, struct json_place *out,
                 struct err *e) MUST_CHECK;
/* Element i of an array, i < json_count(). */
struct json_place json_item(const struct json_place *at, size_t i);
size_t json_count(const struct json_place *at);      /* of an array or object; else 0 */

/* The value at a place, in a range; else WATT_EFORMAT naming both. A number
 * without a fraction (1e3, 2.0) is an integer too. */
int json_read_u64(const struct json_place *at, uint64_t min, uint64_t max, uint64_t *out,
                  struct err *e) MUST_CHECK;
int json_read_i64(const struct json_place *at, int64_t min, int64_t max, int64_t *out,
                  struct err *e) MUST_CHECK;
int json_read_double(const struct json_place *at, double min, double max, double *out,
                     struct err *e) MUST_CHECK;
int json_read_bool(const struct json_place *at, bool *out, struct err *e) MUST_CHECK;
/* Points into the document; may hold NUL. */
int json_read_str(const struct json_place *at, struct sv *out, struct err *e) MUST_CHECK;
/* The same, NUL-terminated; one that holds NUL is WATT_EFORMAT. */
int json_read_cstr(const struct json_place *at, const char **out, struct err *e) MUST_CHECK;
int json_read_array(const struct json_place *at, size_t max_count, size_t *count,
                    struct err *e) MUST_CHECK;

/* Find and read in one: absent or null gives `otherwise`. */
int json_get_u64(const struct json_place *at, const char *key, uint64_t otherwise, uint64_t min,
                 uint64_t max, uint64_t *out, struct err *e) MUST_CHECK;
int json_get_double(const struct json_place *at, const char *key, double otherwise, double min,
                    double max, double *out, struct err *e) MUST_CHECK;
int json_get_bool(const struct json_place *at, const char *key, bool otherwise, bool *out,
                  struct err *e) MUST_CHECK;
int json_get_cstr(const struct json_place *at, const char *key, const char *otherwise,
                  const char **out, struct err *e) MUST_CHECK;

/* Was an allocation of jansson's refused on this thread since the last call? Who makes a value of many
 * parts asks once, at its end: a part that is missing says nothing. */
bool   json_was_short(void);
void   json_short(void);                /* says so of a part that something else made */

/* Writing: a string in quotes, escaped; invalid UTF-8 becomes U+FFFD. */
void   json_put_str(struct str *out, struct sv s);
void   json_print_str(FILE *f, struct sv s);
/* The same into out[cap] without the quotes; stops before a character that does
 * not fit. Returns the bytes written, and in *taken how many of s they stand
 * for; no NUL is added. */
size_t json_escape(char *out, size_t cap, struct sv s, size_t *taken);

#endif

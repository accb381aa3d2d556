/* json.c: limits, places and typed reading over jansson; see json.h. */
#include "base/json.h"

#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"

#define PATH_BYTES 320
#define NAME_BYTES 128     /* of a document's name that are shown: the end of a long path */
#define PATH_STEPS 24      /* of a path that are shown in a message */

/* jansson doesn't survive every failed allocation: it calls some syntax errors,
 * goes on after others, and writes to memory it hasn't got after a few. So when
 * memory is short it never learns: noted_alloc leaves the parse by longjmp, and
 * what the parse had allocated so far is freed from a list. The list goes through
 * a header in front of each block; blocks of a finished document only ever touch
 * each other. */
struct block {
    _Alignas(16) struct block *prev;
    struct block *next;
};

struct parse {
    jmp_buf       out;
    struct block *blocks;
};

static _Thread_local struct parse *parsing;    /* NULL outside of a parse */
static _Thread_local bool was_short;

static void *noted_alloc(size_t n)
{
    struct block *b = n <= SIZE_MAX - sizeof *b ? mem_alloc(sizeof *b + n) : NULL;

    if (!b && parsing)
        longjmp(parsing->out, 1);
    if (!b) {
        was_short = true;
        return NULL;
    }
    b->prev = NULL;
    b->next = parsing ? parsing->blocks : NULL;
    if (b->next)
        b->next->prev = b;
    if (parsing)
        parsing->blocks = b;
    return b + 1;
}

static void noted_free(void *p)
{
    struct block *b = p ? (struct block *)p - 1 : NULL;

    if (!b)
        return;
    if (b->prev)
        b->prev->next = b->next;
    else if (parsing && parsing->blocks == b)
        parsing->blocks = b->next;
    if (b->next)
        b->next->prev = b->prev;
    mem_free(b);
}

bool json_was_short(void)
{
    const bool was = was_short;

    was_short = false;
    return was;
}

void json_short(void)
{
    was_short = true;
}

/* Before main: a value that jansson made with another allocator must not meet
 * noted_free, and vice versa. */
__attribute__((constructor)) static void route_alloc(void)
{
    json_set_alloc_funcs(noted_alloc, noted_free);
}

/* NULL with *short_of_memory set, or with *why filled. */
static json_t *load(const char *bytes, size_t n, json_error_t *why, bool *short_of_memory)
{
    struct parse p = { .blocks = NULL };
    json_t *root;

    *short_of_memory = false;
    parsing = &p;
    if (setjmp(p.out) != 0) {
        parsing = NULL;
        for (struct block *b = p.blocks, *next; b; b = next) {
            next = b->next;
            mem_free(b);
        }
        *short_of_memory = true;
        return NULL;
    }
    root = json_loadb(bytes, n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, why);
    parsing = NULL;
    return root;
}

/* Deepest nesting in the text, strings skipped. Counts what is malformed too:
 * it only has to be at least what the parser would recurse to. */
static unsigned depth_of(const char *s, size_t n)
{
    unsigned depth = 0, deepest = 0;
    bool quoted = false;

    for (size_t i = 0; i < n; i++) {
        char c = s[i];

        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"')
                quoted = false;
        } else if (c == '"') {
            quoted = true;
        } else if (c == '[' || c == '{') {
            if (++depth > deepest)
                deepest = depth;
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

int json_parse(json_t **out, const char *name, const void *bytes, size_t n,
               const struct json_limits *limits, struct err *e)
{
    size_t max_bytes = limits && limits->max_bytes ? limits->max_bytes : JSON_MAX_BYTES_DEFAULT;
    unsigned max_depth = limits && limits->max_depth ? limits->max_depth : JSON_MAX_DEPTH_DEFAULT;
    json_error_t why;
    bool short_of_memory;
    unsigned depth;
    json_t *root;

    if (max_depth > JSON_MAX_DEPTH)
        max_depth = JSON_MAX_DEPTH;
    if (n > max_bytes)
        return err_set(e, WATT_ELIMIT, "%s: JSON of %zu bytes, at most %zu are read", name, n,
                       max_bytes);
    depth = depth_of(bytes, n);
    if (depth > max_depth)
        return err_set(e, WATT_ELIMIT, "%s: JSON nested %u deep, at most %u is read", name, depth,
                       max_depth);
    root = load(n ? bytes : "", n, &why, &short_of_memory);
    if (short_of_memory)
        return err_set(e, WATT_ENOMEM, "%s: out of memory while parsing JSON", name);
    if (!root && (n == 0 || !memchr(bytes, '\n', n)))   /* a line of JSONL: its number is the caller's */
        return err_set(e, WATT_EFORMAT, "%s: column %d: %s", name, why.column, why.text);
    if (!root)
        return err_set(e, WATT_EFORMAT, "%s: line %d, column %d: %s", name, why.line, why.column,
                       why.text);
    *out = root;
    return 0;
}

void json_close(json_t *document)
{
    json_decref(document);
}

struct json_place json_root(const json_t *document, const char *name)
{
    return (struct json_place){ .value = document, .key = name };
}

/* "name: a.b[3]", cut to what fits. */
static void write_path(const struct json_place *at, char out[PATH_BYTES])
{
    const struct json_place *steps[PATH_STEPS], *root = at;
    size_t n = 0, len, name_len;
    const char *name;

    for (; at && at->parent && n < PATH_STEPS; at = at->parent)
        steps[n++] = at;
    while (root->parent)
        root = root->parent;
    name = root->key ? root->key : "JSON";
    name_len = strlen(name);
    if (name_len > NAME_BYTES)
        len = (size_t)snprintf(out, PATH_BYTES, "...%s", name + name_len - NAME_BYTES);
    else
        len = (size_t)snprintf(out, PATH_BYTES, "%s", name);
    if (n > 0)
        len += (size_t)snprintf(out + len, PATH_BYTES - len, ": %s", at->parent ? "..." : "");
    for (size_t i = n; i-- > 0 && len < PATH_BYTES - 1;) {
        int k = steps[i]->key
            ? snprintf(out + len, PATH_BYTES - len, "%s%s", i + 1 < n ? "." : "", steps[i]->key)
            : snprintf(out + len, PATH_BYTES - len, "[%zu]", steps[i]->index);

        if (k > 0)
            len += (size_t)k;
    }
}

int json_refuse(const struct json_place *at, struct err *e, int code, const char *fmt, ...)
{
    char path[PATH_BYTES], text[ERR_MSG_MAX];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    write_path(at, path);
    return err_set(e, code, "%s: %s", path, text);
}

static const char *kind(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT:  return "an object";
    case JSON_ARRAY:   return "an array";
    case JSON_STRING:  return "a string";
    case JSON_INTEGER:
    case JSON_REAL:    return "a number";
    case JSON_TRUE:
    case JSON_FALSE:   return "a boolean";
    case JSON_NULL:    break;
    }
    return "null";
}

static int wrong_kind(const struct json_place *at, const char *expected, struct err *e)
{
    return json_refuse(at, e, WATT_EFORMAT, "expected %s, found %s", expected, kind(at->value));
}

int json_find(const struct json_place *at, const char *key, struct json_place *out, struct err *e)
{
    const json_t *v;

    if (!json_is_object(at->value))
        return wrong_kind(at, "an object", e);
    v = json_object_get(at->value, key);
    *out = (struct json_place){ .value = json_is_null(v) ? NULL : v, .parent = at, .key = key };
    return 0;
}

int json_need(const struct json_place *at, const char *key, struct json_place *out, struct err *e)
{
    struct json_place found;
    int rc = json_find(at, key, &found, e);

    if (rc < 0)
        return rc;
    if (!found.value)
        return json_refuse(&found, e, WATT_EFORMAT, "is missing");
    *out = found;
    return 0;
}

struct json_place json_item(const struct json_place *at, size_t i)
{
    const json_t *v = json_array_get(at->value, i);

    CHECK(v);
    return (struct json_place){ .value = v, .parent = at, .index = i };
}

size_t json_count(const struct json_place *at)
{
    return json_is_object(at->value) ? json_object_size(at->value) : json_array_size(at->value);
}

/* 2^63 and 2^64 as doubles: the first that no longer fit. */
#define TWO_63 9223372036854775808.0
#define TWO_64 18446744073709551616.0

int json_read_u64(const struct json_place *at, uint64_t min, uint64_t max, uint64_t *out,
                  struct err *e)
{
    uint64_t x;

    if (json_is_integer(at->value) && json_integer_value(at->value) >= 0) {
        x = (uint64_t)json_integer_value(at->value);
    } else if (json_is_real(at->value) && json_real_value(at->value) >= 0 &&
               json_real_value(at->value) < TWO_64 &&
               floor(json_real_value(at->value)) == json_real_value(at->value)) {
        x = (uint64_t)json_real_value(at->value);
    } else if (json_is_number(at->value)) {
        return json_refuse(at, e, WATT_EFORMAT, "expected a whole number in %" PRIu64 "..%" PRIu64
                           ", found %.17g", min, max, json_number_value(at->value));
    } else {
        return wrong_kind(at, "a whole number", e);
    }
    if (x < min || x > max)
        return json_refuse(at, e, WATT_EFORMAT, "%" PRIu64 " is not in %" PRIu64 "..%" PRIu64, x,
                           min, max);
    *out = x;
    return 0;
}

int json_read_i64(const struct json_place *at, int64_t min, int64_t max, int64_t *out,
                  struct err *e)
{
    int64_t x;

    if (json_is_integer(at->value)) {
        x = json_integer_value(at->value);
    } else if (json_is_real(at->value) && json_real_value(at->value) >= -TWO_63 &&
               json_real_value(at->value) < TWO_63 &&
               floor(json_real_value(at->value)) == json_real_value(at->value)) {
        x = (int64_t)json_real_value(at->value);
    } else if (json_is_number(at->value)) {
        return json_refuse(at, e, WATT_EFORMAT, "expected a whole number in %" PRId64 "..%" PRId64
                           ", found %.17g", min, max, json_number_value(at->value));
    } else {
        return wrong_kind(at, "a whole number", e);
    }
    if (x < min || x > max)
        return json_refuse(at, e, WATT_EFORMAT, "%" PRId64 " is not in %" PRId64 "..%" PRId64, x,
                           min, max);
    *out = x;
    return 0;
}

int json_read_double(const struct json_place *at, double min, double max, double *out,
                     struct err *e)
{
    double x;

    if (!json_is_number(at->value))
        return wrong_kind(at, "a number", e);
    x = json_number_value(at->value);
    if (!(x >= min && x <= max))
        return json_refuse(at, e, WATT_EFORMAT, "%g is not in %g..%g", x, min, max);
    *out = x;
    return 0;
}

int json_read_bool(const struct json_place *at, bool *out, struct err *e)
{
    if (!json_is_boolean(at->value))
        return wrong_kind(at, "true or false", e);
    *out = json_is_true(at->value);
    return 0;
}

int json_read_str(const struct json_place *at, struct sv *out, struct err *e)
{
    if (!json_is_string(at->value))
        return wrong_kind(at, "a string", e);
    *out = (struct sv){ json_string_value(at->value), json_string_length(at->value) };
    return 0;
}

int json_read_cstr(const struct json_place *at, const char **out, struct err *e)
{
    struct sv s = SV("");
    int rc = json_read_str(at, &s, e);

    if (rc < 0)
        return rc;
    if (memchr(s.data, '\0', s.len))
        return json_refuse(at, e, WATT_EFORMAT, "a string that holds a NUL character");
    *out = s.data;
    return 0;
}

int json_read_array(const struct json_place *at, size_t max_count, size_t *count, struct err *e)
{
    if (!json_is_array(at->value))
        return wrong_kind(at, "an array", e);
    if (json_array_size(at->value) > max_count)
        return json_refuse(at, e, WATT_ELIMIT, "%zu elements, at most %zu are read",
                           json_array_size(at->value), max_count);
    *count = json_array_size(at->value);
    return 0;
}

int json_get_u64(const struct json_place *at, const char *key, uint64_t otherwise, uint64_t min,
                 uint64_t max, uint64_t *out, struct err *e)
{
    struct json_place p;
    int rc = json_find(at, key, &p, e);

    if (rc == 0 && p.value)
        return json_read_u64(&p, min, max, out, e);
    if (rc == 0)
        *out = otherwise;
    return rc;
}

int json_get_double(const struct json_place *at, const char *key, double otherwise, double min,
                    double max, double *out, struct err *e)
{
    struct json_place p;
    int rc = json_find(at, key, &p, e);

    if (rc == 0 && p.value)
        return json_read_double(&p, min, max, out, e);
    if (rc == 0)
        *out = otherwise;
    return rc;
}

int json_get_bool(const struct json_place *at, const char *key, bool otherwise, bool *out,
                  struct err *e)
{
    struct json_place p;
    int rc = json_find(at, key, &p, e);

    if (rc == 0 && p.value)
        return json_read_bool(&p, out, e);
    if (rc == 0)
        *out = otherwise;
    return rc;
}

int json_get_cstr(const struct json_place *at, const char *key, const char *otherwise,
                  const char **out, struct err *e)
{
    struct json_place p;
    int rc = json_find(at, key, &p, e);

    if (rc == 0 && p.value)
        return json_read_cstr(&p, out, e);
    if (rc == 0)
        *out = otherwise;
    return rc;
}

/* One character of s at *i as it stands in a JSON string, into out[8]; returns
 * its bytes (at most 6) and moves *i on. */
static size_t escape_one(struct sv s, size_t *i, char out[8])
{
    static const char short_form[] = "\"\"\\\\\bb\ff\nn\rr\tt";
    bool valid;
    uint32_t cp;

    *i += utf8_decode(s.data + *i, s.len - *i, &cp, &valid);
    for (size_t k = 0; k + 1 < sizeof short_form; k += 2)
        if (cp == (unsigned char)short_form[k]) {
            out[0] = '\\';
            out[1] = short_form[k + 1];
            return 2;
        }
    if (cp < 0x20 || cp == 0x7f) {
        (void)snprintf(out, 8, "\\u%04x", (unsigned)cp & 0xffu);
        return 6;
    }
    return utf8_encode(cp, out);
}

size_t json_escape(char *out, size_t cap, struct sv s, size_t *taken)
{
    size_t len = 0, next = 0;

    for (*taken = 0; next < s.len; *taken = next) {
        char one[8];
        size_t n = escape_one(s, &next, one);

        if (n > cap - len)
            break;
        memcpy(out + len, one, n);
        len += n;
    }
    return len;
}

void json_put_str(struct str *out, struct sv s)
{
    str_putc(out, '"');
    for (size_t i = 0; i < s.len;) {
        char one[8];
        size_t n = escape_one(s, &i, one);

        str_append(out, one, n);
    }
    str_putc(out, '"');
}

void json_print_str(FILE *f, struct sv s)
{
    (void)fputc('"', f);
    for (size_t i = 0; i < s.len;) {
        char one[8];
        size_t n = escape_one(s, &i, one);

        (void)fwrite(one, 1, n, f);
    }
    (void)fputc('"', f);
}

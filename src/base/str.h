/* str.h: a growing byte string with a named maximum, and string views.
 *
 * A failed append (memory, or the maximum) sets `failed` and drops the bytes;
 * callers append freely and test once at the end with str_ok(). What is
 * appended must not lie in the string itself, which may move. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct str {
    char  *data;      /* NUL after len bytes once anything was appended, else NULL */
    size_t len, cap, max;
    bool   failed;
};

/* A view of bytes that somebody else owns; not NUL-terminated. */
struct sv {
    const char *data;
    size_t      len;
};

#define STR_MAX_DEFAULT ((size_t)1 << 30)
#define SV(literal) ((struct sv){ (literal), sizeof(literal) - 1 })

void str_init(struct str *s, size_t max_bytes);  /* 0: STR_MAX_DEFAULT */
void str_deinit(struct str *s);
void str_reset(struct str *s);                   /* empty, keeps the memory, clears failed */
void str_append(struct str *s, const void *bytes, size_t n);
void str_puts(struct str *s, const char *z);
void str_putc(struct str *s, char c);
void str_printf(struct str *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Makes room for n more bytes; false (and failed) when that can't be. */
bool str_reserve(struct str *s, size_t n);
static inline bool str_ok(const struct str *s) { return !s->failed; }
/* "" when empty; never NULL. */
const char *str_cstr(const struct str *s);
/* Hands the buffer (NUL-terminated, mem_free it) to the caller and empties s;
 * NULL when s failed or memory is short. */
char *str_take(struct str *s, size_t *len);

static inline struct sv sv_of(const struct str *s) { return (struct sv){ s->data, s->len }; }
struct sv sv_cstr(const char *z);
bool sv_eq(struct sv a, struct sv b);
bool sv_eq_cstr(struct sv a, const char *z);
bool sv_starts(struct sv a, struct sv prefix);
bool sv_ends(struct sv a, struct sv suffix);

#endif

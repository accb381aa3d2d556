/* name_table.h: finds entries of an array by name. Names come from files, so the
 * hash is keyed with a random key (SipHash-1-3, Aumasson and Bernstein, 2012): a
 * file can't be made whose names all collide. Immutable once filled. */
#ifndef MODELS_NAME_TABLE_H
#define MODELS_NAME_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

#define NAME_NONE UINT32_MAX

struct name_table {
    uint32_t *slots;        /* positions, or NAME_NONE */
    size_t    n_slots;      /* a power of two, at least twice the number of names */
    uint64_t  key[2];
};

/* Room for n < 2^31 names. WATT_ENOMEM. */
int  name_table_init(struct name_table *t, size_t n, struct err *e) MUST_CHECK;
void name_table_deinit(struct name_table *t);   /* a zeroed one is fine */

/* The name of position i of the caller's array. */
typedef struct sv name_at_fn(const void *array, uint32_t i);

/* Puts position i in; returns NAME_NONE, or the position that already has this
 * name (then nothing changes). At most the n of init may be put. */
uint32_t name_table_put(struct name_table *t, uint32_t i, name_at_fn *name_at, const void *array);
/* The position of a name, or NAME_NONE. */
uint32_t name_table_find(const struct name_table *t, struct sv name, name_at_fn *name_at,
                         const void *array);

/* A name for messages: what is not printable ASCII or valid UTF-8 is written as
 * \xNN, and long names end in "...". Returns buf. */
#define NAME_SHOWN 96
const char *name_show(char buf[NAME_SHOWN], struct sv name);
/* Valid UTF-8 without control characters, 1..max bytes. */
bool name_acceptable(struct sv name, size_t max_bytes);

#endif

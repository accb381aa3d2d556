/* stops.h: ends a stream of text before the first of some strings.
 *
 * Text that may turn out to be the beginning of a stop string is held back until
 * that is decided, so a reader never sees part of one. One owner thread. */
#ifndef MODELS_STOPS_H
#define MODELS_STOPS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/str.h"

#define STOPS_MAX       16
#define STOPS_MAX_BYTES 256     /* of one string */

struct stops {
    char   *strings[STOPS_MAX];
    size_t  len[STOPS_MAX];
    size_t  n;
    int     hit;        /* index of the string that came, -1: none yet */
    struct str held;
};

/* Copies the strings. WATT_EINVAL: more than STOPS_MAX, or one that is empty or
 * too long; WATT_ENOMEM. On failure nothing needs freeing. */
int  stops_init(struct stops *s, const char *const *strings, size_t n, struct err *e) MUST_CHECK;
void stops_deinit(struct stops *s);     /* a zeroed one is fine */
void stops_reset(struct stops *s);
/* Adds text to the stream and appends to out what may be shown now. True when a
 * stop string came: out ends right before it, and nothing more may be pushed.
 * Of several strings the one that begins first counts, then the longest. Memory
 * trouble shows in out->failed or s->held.failed. */
bool stops_push(struct stops *s, const char *text, size_t n, struct str *out);
/* The end of the stream: what was held back is text after all. */
void stops_finish(struct stops *s, struct str *out);

#endif

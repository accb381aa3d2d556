/* tool_literal.h: comparing a text with a literal whose white space is elastic. */
#ifndef MODELS_TOOL_LITERAL_H
#define MODELS_TOOL_LITERAL_H

#include <stdbool.h>

#include "base/str.h"

#define LITERAL_MAX_BLANKS 64u      /* of one run */

static inline bool literal_blank(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Bytes of `text` that the literal takes, white space in front of it included (not behind it);
 * LITERAL_MORE: it may fit when more comes; LITERAL_NO. A literal of white space takes nothing. */
#define LITERAL_MORE (-1)
#define LITERAL_NO   (-2)
long literal_match(const char *literal, struct sv text);
/* The first place in text[from..) where the literal (not blank) begins, its white space in front
 * left out, and *n its bytes; or where it may begin (*n = 0: more text is needed). text.len: none. */
size_t literal_find(const char *literal, struct sv text, size_t from, size_t *n);
/* Has it anything but white space? */
bool literal_solid(const char *literal);

#endif

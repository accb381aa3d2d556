/* tool_literal.c: literals with elastic white space; see tool_literal.h. */
#include "models/tool_literal.h"

#include <string.h>

bool literal_solid(const char *literal)
{
    while (literal_blank(*literal))
        literal++;
    return *literal != '\0';
}

long literal_match(const char *literal, struct sv text)
{
    size_t at = 0;

    if (!literal_solid(literal))
        return 0;
    for (;;) {
        size_t n_blanks = 0;
        bool asked = literal_blank(*literal) || at == 0;

        while (literal_blank(*literal))
            literal++;
        if (*literal == '\0')
            return (long)at;
        while (asked && at < text.len && literal_blank(text.data[at]) &&
               n_blanks++ < LITERAL_MAX_BLANKS)
            at++;
        if (at == text.len)
            return LITERAL_MORE;
        if (text.data[at] != *literal)
            return LITERAL_NO;
        at++;
        literal++;
    }
}

size_t literal_find(const char *literal, struct sv text, size_t from, size_t *n)
{
    while (literal_blank(*literal))
        literal++;
    *n = 0;
    for (size_t at = from; at < text.len; at++) {
        const char *p = memchr(text.data + at, *literal, text.len - at);
        long m;

        if (!p)
            break;
        at = (size_t)(p - text.data);
        m = literal_match(literal, (struct sv){ p, text.len - at });
        if (m == LITERAL_NO)
            continue;
        *n = m > 0 ? (size_t)m : 0;
        return at;
    }
    return text.len;
}

/* utf8.c: strict UTF-8; see utf8.h. */
#include "base/utf8.h"

/* Expected length by lead byte; 0: not a lead byte. */
static unsigned lead_len(unsigned char c)
{
    if (c < 0x80)
        return 1;
    if (c < 0xC2)
        return 0;
    if (c < 0xE0)
        return 2;
    if (c < 0xF0)
        return 3;
    return c < 0xF5 ? 4 : 0;
}

/* Is c allowed as the second byte after lead? Rules out overlong forms,
 * surrogates and what lies above U+10FFFF. */
static bool second_ok(unsigned char lead, unsigned char c)
{
    unsigned lo = 0x80, hi = 0xBF;

    switch (lead) {
    case 0xE0: lo = 0xA0; break;
    case 0xED: hi = 0x9F; break;
    case 0xF0: lo = 0x90; break;
    case 0xF4: hi = 0x8F; break;
    default: break;
    }
    return c >= lo && c <= hi;
}

size_t utf8_decode(const char *s, size_t n, uint32_t *cp, bool *valid)
{
    const unsigned char *u = (const unsigned char *)s;
    unsigned len = lead_len(u[0]);
    uint32_t c;

    if (len == 1) {
        *cp = u[0];
        if (valid)
            *valid = true;
        return 1;
    }
    if (len == 0 || len > n || !second_ok(u[0], u[1]))
        goto bad;
    c = u[0] & (0x7Fu >> len);
    for (unsigned i = 1; i < len; i++) {
        if ((u[i] & 0xC0) != 0x80)
            goto bad;
        c = c << 6 | (u[i] & 0x3F);
    }
    *cp = c;
    if (valid)
        *valid = true;
    return len;
bad:
    *cp = UTF8_REPLACEMENT;
    if (valid)
        *valid = false;
    return 1;
}

size_t utf8_encode(uint32_t cp, char out[4])
{
    unsigned char *o = (unsigned char *)out;

    if (cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF))
        cp = UTF8_REPLACEMENT;
    if (cp < 0x80) {
        o[0] = (unsigned char)cp;
        return 1;
    }
    if (cp < 0x800) {
        o[0] = (unsigned char)(0xC0 | cp >> 6);
        o[1] = (unsigned char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        o[0] = (unsigned char)(0xE0 | cp >> 12);
        o[1] = (unsigned char)(0x80 | (cp >> 6 & 0x3F));
        o[2] = (unsigned char)(0x80 | (cp & 0x3F));
        return 3;
    }
    o[0] = (unsigned char)(0xF0 | cp >> 18);
    o[1] = (unsigned char)(0x80 | (cp >> 12 & 0x3F));
    o[2] = (unsigned char)(0x80 | (cp >> 6 & 0x3F));
    o[3] = (unsigned char)(0x80 | (cp & 0x3F));
    return 4;
}

bool utf8_valid(const char *s, size_t n)
{
    uint32_t cp;
    bool ok = true;

    for (size_t i = 0; i < n && ok;)
        i += utf8_decode(s + i, n - i, &cp, &ok);
    return ok;
}

size_t utf8_complete(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;

    /* Only the last three bytes can begin an unfinished character. */
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        unsigned char c = u[n - back];

        if ((c & 0xC0) == 0x80)
            continue;
        if (lead_len(c) <= back)
            return n;
        if (back >= 2 && !second_ok(c, u[n - back + 1]))
            return n;
        return n - back;
    }
    return n;
}

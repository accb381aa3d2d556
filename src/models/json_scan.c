/* json_scan.c: a pushdown automaton for JSON; see json_scan.h. */
#include "models/json_scan.h"

enum state {
    S_VALUE,            /* a value must come */
    S_FIRST_ITEM,       /* a value or ] */
    S_FIRST_KEY,        /* a key or } */
    S_NEXT_KEY,         /* a key */
    S_COLON,
    S_AFTER,            /* behind a value: , ] } */
    S_STRING, S_ESCAPE, S_HEX,
    S_MINUS, S_ZERO, S_DIGITS, S_POINT, S_FRACTION, S_EXPONENT, S_SIGN, S_POWER,
    S_WORD, S_END
};

void json_scan_init(struct json_scan *s)
{
    *s = (struct json_scan){ .state = S_VALUE };
}

static bool in_object(const struct json_scan *s)
{
    return s->depth > 0 && (s->objects[(s->depth - 1) / 64] >> (s->depth - 1) % 64 & 1);
}

static bool blank(unsigned char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}

static unsigned ended(struct json_scan *s)
{
    s->state = s->depth == 0 ? S_END : S_AFTER;
    return JSON_SCAN_END | (s->depth == 0 ? JSON_SCAN_DONE : 0);
}

static unsigned open_level(struct json_scan *s, bool object)
{
    const uint64_t bit = (uint64_t)1 << s->depth % 64;

    if (s->depth == JSON_SCAN_MAX_DEPTH)
        return JSON_SCAN_BAD;
    if (object)
        s->objects[s->depth / 64] |= bit;
    else
        s->objects[s->depth / 64] &= ~bit;
    s->depth++;
    s->state = object ? S_FIRST_KEY : S_FIRST_ITEM;
    return JSON_SCAN_BEGIN;
}

static unsigned open_string(struct json_scan *s, bool key)
{
    s->state = S_STRING;
    s->key = key;
    s->text = true;
    return key ? JSON_SCAN_KEY : JSON_SCAN_BEGIN;
}

static unsigned open_word(struct json_scan *s, const char *rest)
{
    s->state = S_WORD;
    s->word = rest;
    return JSON_SCAN_BEGIN;
}

static unsigned value(struct json_scan *s, unsigned char c)
{
    switch (c) {
    case '{': return open_level(s, true);
    case '[': return open_level(s, false);
    case '"': return open_string(s, false);
    case 't': return open_word(s, "rue");
    case 'f': return open_word(s, "alse");
    case 'n': return open_word(s, "ull");
    case '-': s->state = S_MINUS; return JSON_SCAN_BEGIN;
    case '0': s->state = S_ZERO; return JSON_SCAN_BEGIN;
    default:
        if (!digit(c))
            return JSON_SCAN_BAD;
        s->state = S_DIGITS;
        return JSON_SCAN_BEGIN;
    }
}

static unsigned after(struct json_scan *s, unsigned char c)
{
    if (c == ',') {
        s->state = in_object(s) ? S_NEXT_KEY : S_VALUE;
        return 0;
    }
    if (c != (in_object(s) ? '}' : ']'))
        return JSON_SCAN_BAD;
    s->depth--;
    return ended(s);
}

static unsigned string(struct json_scan *s, unsigned char c)
{
    if (c == '"') {
        s->text = false;
        if (!s->key)
            return ended(s);
        s->key = false;
        s->state = S_COLON;
        return JSON_SCAN_KEY | JSON_SCAN_KEY_END;
    }
    if (c < 0x20)
        return JSON_SCAN_BAD;
    if (c == '\\')
        s->state = S_ESCAPE;
    return s->key ? JSON_SCAN_KEY : 0;
}

static unsigned escape(struct json_scan *s, unsigned char c)
{
    static const char known[] = "\"\\/bfnrt";

    for (const char *p = known; *p; p++)
        if (c == (unsigned char)*p) {
            s->state = S_STRING;
            return s->key ? JSON_SCAN_KEY : 0;
        }
    if (c != 'u')
        return JSON_SCAN_BAD;
    s->state = S_HEX;
    s->hex = 4;
    return s->key ? JSON_SCAN_KEY : 0;
}

static unsigned hex(struct json_scan *s, unsigned char c)
{
    if (!digit(c) && !((c | 0x20) >= 'a' && (c | 0x20) <= 'f'))
        return JSON_SCAN_BAD;
    if (--s->hex == 0)
        s->state = S_STRING;
    return s->key ? JSON_SCAN_KEY : 0;
}

/* A byte within a number: the next state, S_END when it is none. */
static enum state number(enum state st, unsigned char c)
{
    switch (st) {
    case S_MINUS:    return c == '0' ? S_ZERO : digit(c) ? S_DIGITS : S_END;
    case S_ZERO:     return c == '.' ? S_POINT : (c | 0x20) == 'e' ? S_EXPONENT : S_END;
    case S_DIGITS:   return digit(c) ? S_DIGITS : number(S_ZERO, c);
    case S_POINT:    return digit(c) ? S_FRACTION : S_END;
    case S_FRACTION: return digit(c) ? S_FRACTION : (c | 0x20) == 'e' ? S_EXPONENT : S_END;
    case S_EXPONENT: return c == '+' || c == '-' ? S_SIGN : digit(c) ? S_POWER : S_END;
    case S_SIGN:
    case S_POWER:    return digit(c) ? S_POWER : S_END;
    default:         return S_END;
    }
}

static unsigned in_number(struct json_scan *s, unsigned char c)
{
    const enum state next = number((enum state)s->state, c);
    const struct json_scan before = *s;
    unsigned flags;

    if (next != S_END) {
        s->state = (uint8_t)next;
        return 0;
    }
    if (s->depth == 0 || (s->state != S_ZERO && s->state != S_DIGITS && s->state != S_FRACTION &&
                          s->state != S_POWER))
        return JSON_SCAN_BAD;
    s->state = S_AFTER;
    flags = blank(c) ? 0 : after(s, c);
    if (flags & JSON_SCAN_BAD)
        *s = before;
    return flags & JSON_SCAN_BAD ? flags : flags | JSON_SCAN_BEFORE;
}

static unsigned in_word(struct json_scan *s, unsigned char c)
{
    if (c != (unsigned char)*s->word)
        return JSON_SCAN_BAD;
    s->word++;
    return *s->word ? 0 : ended(s);
}

unsigned json_scan_push(struct json_scan *s, unsigned char c)
{
    switch ((enum state)s->state) {
    case S_STRING: return string(s, c);
    case S_ESCAPE: return escape(s, c);
    case S_HEX:    return hex(s, c);
    case S_WORD:   return in_word(s, c);
    case S_MINUS: case S_ZERO: case S_DIGITS: case S_POINT: case S_FRACTION: case S_EXPONENT:
    case S_SIGN: case S_POWER:
        return in_number(s, c);
    default:
        break;
    }
    if (blank(c))
        return 0;
    switch ((enum state)s->state) {
    case S_FIRST_ITEM: return c == ']' ? after(s, c) : value(s, c);
    case S_VALUE:      return value(s, c);
    case S_FIRST_KEY:  return c == '}' ? after(s, c) : c == '"' ? open_string(s, true) : JSON_SCAN_BAD;
    case S_NEXT_KEY:   return c == '"' ? open_string(s, true) : JSON_SCAN_BAD;
    case S_COLON:
        if (c != ':')
            return JSON_SCAN_BAD;
        s->state = S_VALUE;
        return 0;
    case S_AFTER:      return after(s, c);
    default:           return JSON_SCAN_BAD;
    }
}

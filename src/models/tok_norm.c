/* tok_norm.c: normalisation: SentencePiece's precompiled character map (a Darts
 * double array followed by the replacements, NUL-terminated), its rules about
 * spaces, and Unicode NFC for the byte-level families that ask for it. */
#include <utf8proc.h>

#include "base/mem.h"
#include "models/tok_impl.h"

/* ---- character map ---- */

struct tok_norm {
    uint32_t *units;        /* of the double array */
    size_t    n_units;
    char     *replacements;
    size_t    n_replacements;   /* the last byte is NUL */
};

#define CHARSMAP_KEY "tokenizer.ggml.precompiled_charsmap"

int norm_open(struct tokenizer *t, struct sv charsmap, struct err *e)
{
    const uint8_t *p = (const uint8_t *)charsmap.data;
    struct tok_norm *n;
    size_t trie;

    if (charsmap.len == 0)
        return 0;
    if (charsmap.len < 8)
        return err_set(e, WATT_EFORMAT, "%s: " CHARSMAP_KEY ": %zu bytes, expected at least 8",
                       t->name, charsmap.len);
    trie = (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
    if (trie % 4 != 0 || trie == 0 || trie >= charsmap.len - 4)
        return err_set(e, WATT_EFORMAT, "%s: " CHARSMAP_KEY ": a trie of %zu bytes in %zu",
                       t->name, trie, charsmap.len);
    if (p[charsmap.len - 1] != 0)
        return err_set(e, WATT_EFORMAT, "%s: " CHARSMAP_KEY ": does not end in NUL", t->name);
    n = mem_calloc(1, sizeof *n);
    if (!n)
        return tok_nomem(e);
    t->norm = n;
    n->n_units = trie / 4;
    n->n_replacements = charsmap.len - 4 - trie;
    n->units = mem_array(n->n_units, sizeof *n->units);
    n->replacements = mem_alloc(n->n_replacements);
    if (!n->units || !n->replacements)
        return tok_nomem(e);
    for (size_t i = 0; i < n->n_units; i++) {
        const uint8_t *u = p + 4 + 4 * i;

        n->units[i] = (uint32_t)u[0] | (uint32_t)u[1] << 8 | (uint32_t)u[2] << 16 |
                      (uint32_t)u[3] << 24;
    }
    memcpy(n->replacements, p + 4 + trie, n->n_replacements);
    return 0;
}

void norm_close(struct tok_norm *n)
{
    if (!n)
        return;
    mem_free(n->units);
    mem_free(n->replacements);
    mem_free(n);
}

/* A unit of the double array: bits 0-7 and 31 its label, bit 8 whether a value
 * hangs below, the rest the offset to its children (bit 9: times 256). */
static inline uint32_t unit_offset(uint32_t u) { return (u >> 10) << ((u & (1u << 9)) >> 6); }
static inline uint32_t unit_label(uint32_t u) { return u & ((1u << 31) | 0xFF); }

/* Longest mapped prefix of s: its length and where its replacement begins. An
 * index outside of the array ends the walk. */
static size_t map_prefix(const struct tok_norm *m, const char *s, size_t n, size_t *replacement)
{
    size_t best = 0;
    uint32_t node = unit_offset(m->units[0]);

    for (size_t i = 0; i < n && s[i] != '\0'; i++) {
        const uint8_t c = (uint8_t)s[i];
        uint32_t unit;

        node ^= c;
        if (node >= m->n_units || unit_label(unit = m->units[node]) != c)
            break;
        node ^= unit_offset(unit);
        if (!(unit >> 8 & 1))
            continue;
        if (node >= m->n_units)
            break;
        unit = m->units[node] & 0x7FFFFFFF;
        if (unit >= m->n_replacements)
            break;
        best = i + 1;
        *replacement = unit;
    }
    return best;
}

/* What the beginning of s becomes; returns how much of s that was. */
static size_t next_part(const struct tokenizer *t, const char *s, size_t n, struct sv *part)
{
    size_t len, at = 0;
    uint32_t cp;
    bool ok;

    if (t->norm && (len = map_prefix(t->norm, s, n, &at)) > 0) {
        *part = sv_cstr(t->norm->replacements + at);
        return len;
    }
    len = utf8_decode(s, n, &cp, &ok);
    *part = ok || t->byte_fallback ? (struct sv){ s, len } : SV("\xEF\xBF\xBD");
    return len;
}

/* A U+2581 of the text counts as a space here, though not inside. */
static void drop_trailing(struct str *s)
{
    for (;;) {
        if (s->len > 0 && s->data[s->len - 1] == ' ')
            s->len--;
        else if (s->len >= 3 && memcmp(s->data + s->len - 3, "\xE2\x96\x81", 3) == 0)
            s->len -= 3;
        else
            return;
        s->data[s->len] = '\0';
    }
}

int norm_run(const struct tokenizer *t, const char *text, size_t len, bool prefix,
             struct str *out, struct err *e)
{
    bool after_space = t->remove_extra_ws;
    struct sv part;
    size_t i = 0;

    str_reset(out);
    if (t->remove_extra_ws)
        while (i < len) {
            const size_t step = next_part(t, text + i, len - i, &part);

            if (!sv_eq(part, SV(" ")))
                break;
            i += step;
        }
    if (i == len)
        return 0;
    if (prefix)
        str_putc(out, ' ');
    while (i < len) {
        i += next_part(t, text + i, len - i, &part);
        while (after_space && part.len > 0 && part.data[0] == ' ') {
            part.data++;
            part.len--;
        }
        str_append(out, part.data, part.len);
        if (part.len > 0)
            after_space = t->remove_extra_ws && part.data[part.len - 1] == ' ';
    }
    if (t->remove_extra_ws && str_ok(out))
        drop_trailing(out);
    return str_ok(out) ? 0 : tok_nomem(e);
}

/* ---- NFC ---- */

/* Characters below U+0300 are NFC whatever stands around them. */
static size_t skip_simple(const char *s, size_t i, size_t n)
{
    while (i < n && (unsigned char)s[i] < 0xCC)
        i++;
    return i;
}

/* May cp take part in composition or decomposition? False only where that is
 * certain: no canonical mapping, class 0, and nothing composes with what is
 * before it. */
static bool inert(uint32_t cp)
{
    const utf8proc_property_t *p;

    if (cp < 0x300)
        return true;
    if ((cp >= 0x1100 && cp <= 0x11FF) || (cp >= 0xA960 && cp <= 0xA97F) ||
        (cp >= 0xD7B0 && cp <= 0xD7FF))     /* jamo compose by arithmetic */
        return false;
    if (cp >= 0xAC00 && cp <= 0xD7A3)       /* syllables may take a final jamo */
        return true;
    p = utf8proc_get_property((utf8proc_int32_t)cp);
    return p->combining_class == 0 && p->category != UTF8PROC_CATEGORY_MN &&
           p->category != UTF8PROC_CATEGORY_MC &&
           (p->decomp_seqindex == UINT16_MAX || p->decomp_type != 0);
}

/* The next stretch [*from, *to) of valid UTF-8 that may not be NFC, with the
 * inert character before it (a mark composes with it); false when none is left. */
static bool next_doubtful(const char *s, size_t i, size_t n, size_t *from, size_t *to)
{
    size_t last = i;        /* start of the character before i */
    bool in = false;

    while (i < n) {
        uint32_t cp;
        bool ok;
        size_t len;

        if (!in) {
            const size_t j = skip_simple(s, i, n);

            if (j > i) {    /* s[j] follows a character that began below 0xCC, or a stray byte */
                last = j - 1;
                while (last > i && ((unsigned char)s[last] & 0xC0) == 0x80)
                    last--;
                if (last + utf8_decode(s + last, n - last, &cp, &ok) != j || !ok)
                    last = j;
                i = j;
                continue;
            }
        }
        len = utf8_decode(s + i, n - i, &cp, &ok);
        if (!ok || inert(cp)) {
            if (in) {
                *to = i;
                return true;
            }
            last = ok ? i : i + len;
        } else if (!in) {
            in = true;
            *from = last;
        }
        i += len;
    }
    *to = n;
    return in;
}

int norm_nfc(const char *text, size_t len, struct str *buf, const char **out, size_t *n,
             struct err *e)
{
    size_t done = 0, from, to;

    *out = text;
    *n = len;
    if (skip_simple(text, 0, len) == len || !next_doubtful(text, 0, len, &from, &to))
        return 0;
    str_reset(buf);
    do {
        utf8proc_uint8_t *z = NULL;
        utf8proc_ssize_t k;

        str_append(buf, text + done, from - done);
        k = utf8proc_map((const utf8proc_uint8_t *)text + from, (utf8proc_ssize_t)(to - from), &z,
                         UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        if (k >= 0)
            str_append(buf, z, (size_t)k);
        mem_free(z);   /* utf8proc's, from malloc */
        if (k < 0)
            return k == UTF8PROC_ERROR_NOMEM ? tok_nomem(e)
                                             : err_set(e, WATT_EFORMAT, "tokenizer: NFC: %s",
                                                       utf8proc_errmsg(k));
        done = to;
    } while (next_doubtful(text, done, len, &from, &to));
    str_append(buf, text + done, len - done);
    if (!str_ok(buf))
        return tok_nomem(e);
    *out = buf->data;
    *n = buf->len;
    return 0;
}

/* tok_vocab.c: the strings of a vocabulary: how the file spells each token, which
 * bytes it stands for, and tables that find both. Owned by struct tokenizer. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "models/tok_impl.h"

int tok_nomem(struct err *e)
{
    return err_set(e, WATT_ENOMEM, "tokenizer: out of memory");
}

bool tok_room(void *p, size_t *cap, size_t n, size_t size_bytes)
{
    void *old, *grown;
    size_t want = *cap < 64 ? 64 : *cap;

    if (n <= *cap)
        return true;
    while (want < n) {
        if (want > SIZE_MAX / 2)
            return false;
        want *= 2;
    }
    memcpy(&old, p, sizeof old);
    grown = mem_grow(old, want, size_bytes);
    if (!grown)
        return false;
    memcpy(p, &grown, sizeof grown);
    *cap = want;
    return true;
}

/* ---- string tables ---- */

int strtab_build(struct strtab *s, const struct sv *v, uint32_t n, const char *what,
                 struct err *e)
{
    size_t total = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (v[i].len > TOKENIZER_MAX_PIECE_BYTES)
            return err_set(e, WATT_ELIMIT, "%s[%" PRIu32 "]: %zu bytes, more than %u", what, i,
                           v[i].len, TOKENIZER_MAX_PIECE_BYTES);
        total += v[i].len;
        if (total >= UINT32_MAX)
            return err_set(e, WATT_ELIMIT, "%s: more than 4 GiB of text", what);
    }
    s->bytes = mem_alloc(total + 1);
    s->off = mem_array((size_t)n + 1, sizeof *s->off);
    if (!s->bytes || !s->off) {
        strtab_deinit(s);
        return tok_nomem(e);
    }
    total = 0;
    for (uint32_t i = 0; i < n; i++) {
        s->off[i] = (uint32_t)total;
        if (v[i].len > 0)
            memcpy(s->bytes + total, v[i].data, v[i].len);
        total += v[i].len;
    }
    s->off[n] = (uint32_t)total;
    s->bytes[total] = '\0';
    s->n = n;
    return 0;
}

void strtab_deinit(struct strtab *s)
{
    mem_free(s->bytes);
    mem_free(s->off);
    *s = (struct strtab){ 0 };
}

/* ---- finding strings ---- */

static inline uint64_t load64(const char *s)
{
    uint64_t v;

    memcpy(&v, s, sizeof v);
    return v;
}

__extension__ typedef unsigned __int128 wide;

static inline uint64_t mix(uint64_t a, uint64_t b)
{
    const wide p = (wide)a * b;

    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

/* Eight bytes a step; short strings take one step. A vocabulary is read by its
 * own file only, so that a file made to collide slows down nobody but itself;
 * chains are bounded by the table's half-empty slots. */
uint64_t tok_hash(const char *s, size_t n)
{
    uint64_t h = 0x9E3779B97F4A7C15u ^ n;

    while (n > 8) {
        h = mix(h ^ load64(s), 0xA0761D6478BD642Fu);
        s += 8;
        n -= 8;
    }
    if (n == 8) {
        h ^= load64(s);
    } else {
        uint64_t v = 0;

        for (size_t i = 0; i < n; i++)
            v = v << 8 | (uint8_t)s[i];
        h ^= v;
    }
    return mix(h, 0xE7037ED1A0B428DBu);
}

int strmap_init(struct strmap *m, const struct strtab *tab, uint32_t n_hint, struct err *e)
{
    uint32_t cap = 16;

    while (cap < n_hint + n_hint / 2)
        cap *= 2;
    m->slots = mem_array(cap, sizeof *m->slots);
    if (!m->slots)
        return tok_nomem(e);
    memset(m->slots, 0xFF, cap * sizeof *m->slots);
    m->mask = cap - 1;
    m->tab = tab;
    return 0;
}

void strmap_deinit(struct strmap *m)
{
    mem_free(m->slots);
    *m = (struct strmap){ 0 };
}

uint32_t strmap_find_hashed(const struct strmap *m, const char *s, size_t n, uint64_t hash)
{
    const uint32_t tag = (uint32_t)(hash >> 32);

    for (uint32_t i = (uint32_t)hash & m->mask;; i = (i + 1) & m->mask) {
        const uint64_t slot = m->slots[i];
        struct sv got;

        if (slot == EMPTY_SLOT)
            return NO_TOKEN;
        if ((uint32_t)(slot >> 32) != tag)
            continue;
        got = strtab_at(m->tab, (uint32_t)slot);
        if (got.len == n && memcmp(got.data, s, n) == 0)
            return (uint32_t)slot;
    }
}

static uint32_t add_hashed(struct strmap *m, uint32_t id, uint64_t hash)
{
    const struct sv s = strtab_at(m->tab, id);
    uint32_t i = (uint32_t)hash & m->mask;

    for (; m->slots[i] != EMPTY_SLOT; i = (i + 1) & m->mask) {
        const uint64_t slot = m->slots[i];
        struct sv got;

        if (slot >> 32 != hash >> 32)
            continue;
        got = strtab_at(m->tab, (uint32_t)slot);
        if (got.len == s.len && memcmp(got.data, s.data, s.len) == 0)
            return (uint32_t)slot;
    }
    m->slots[i] = (hash >> 32 << 32) | id;
    return NO_TOKEN;
}

/* How many strings ahead a slot is fetched: slots are far apart in memory. */
#define AHEAD 16

uint32_t strmap_fill(struct strmap *m, const struct tokenizer *t, strmap_want *want,
                     uint32_t *other)
{
    uint64_t hashes[AHEAD];
    const uint32_t n = m->tab->n;

    for (uint32_t i = 0; i < n + AHEAD; i++) {
        if (i >= AHEAD && m->tab->off[i - AHEAD + 1] > m->tab->off[i - AHEAD] &&
            (!want || want(t, i - AHEAD))) {
            *other = add_hashed(m, i - AHEAD, hashes[i % AHEAD]);
            if (*other != NO_TOKEN && !want)
                return i - AHEAD;
        }
        if (i < n) {
            const struct sv s = strtab_at(m->tab, i);

            hashes[i % AHEAD] = tok_hash(s.data, s.len);
            __builtin_prefetch(&m->slots[(uint32_t)hashes[i % AHEAD] & m->mask], 1);
        }
    }
    return NO_TOKEN;
}

/* ---- spellings ---- */

/* GPT-2 writes bytes that print as themselves and the other 68 as the letters
 * from U+0100 on, in order. */
static bool prints(unsigned b)
{
    return (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
}

uint32_t gpt2_letter(uint8_t byte)
{
    uint32_t n = 0;

    if (prints(byte))
        return byte;
    for (unsigned b = 0; b < byte; b++)
        n += !prints(b);
    return 0x100 + n;
}

int gpt2_byte(uint32_t cp)
{
    if (cp < 0x100)
        return prints(cp) ? (int)cp : -1;
    if (cp <= 0x120)            /* 00..20 */
        return (int)(cp - 0x100);
    if (cp <= 0x142)            /* 7F..A0 */
        return (int)(cp - 0x121 + 0x7F);
    return cp == 0x143 ? 0xAD : -1;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int byte_token_value(struct sv text)
{
    int hi, lo;

    if (text.len != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>')
        return -1;
    hi = hex_value(text.data[3]);
    lo = hex_value(text.data[4]);
    return hi < 0 || lo < 0 ? -1 : hi * 16 + lo;
}

/* Each writes at most text.len bytes (the escapes only shrink) and returns how
 * many. */
static size_t piece_of_letters(struct sv text, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < text.len;) {
        uint32_t cp;
        bool ok;
        int b;

        if ((unsigned char)text.data[i] < 0x80) {
            cp = (unsigned char)text.data[i++];
        } else {
            i += utf8_decode(text.data + i, text.len - i, &cp, &ok);
            if (!ok)
                goto plain;
        }
        b = gpt2_byte(cp);
        if (b < 0)
            goto plain;
        out[n++] = (char)b;
    }
    return n;
plain:      /* not in the byte alphabet: stands for itself */
    memcpy(out, text.data, text.len);
    return text.len;
}

static size_t piece_of_escaped(struct sv text, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < text.len;) {
        if (text.len - i >= 3 && memcmp(text.data + i, "\xE2\x96\x81", 3) == 0) {
            out[n++] = ' ';
            i += 3;
        } else {
            out[n++] = text.data[i++];
        }
    }
    return n;
}

/* RWKV's vocabulary escapes bytes as Python does. */
static size_t piece_of_rwkv(struct sv text, char *out)
{
    size_t n = 0;

    for (size_t i = 0; i < text.len; i++) {
        char c = text.data[i];

        if (c != '\\' || i + 1 == text.len) {
            out[n++] = c;
            continue;
        }
        c = text.data[++i];
        if (c == 'x' && text.len - i >= 3 && hex_value(text.data[i + 1]) >= 0 &&
            hex_value(text.data[i + 2]) >= 0) {
            out[n++] = (char)(hex_value(text.data[i + 1]) * 16 + hex_value(text.data[i + 2]));
            i += 2;
        } else {
            out[n++] = c == 't' ? '\t' : c == 'n' ? '\n' : c == 'r' ? '\r' : c;
        }
    }
    return n;
}

/* WordPiece: a leading U+2581 is the space in front of a word; a piece without
 * it continues one. */
static size_t piece_of(const struct tokenizer *t, uint32_t id, struct sv text, char *out)
{
    const uint8_t kind = t->kinds[id];
    int b;

    if (kind == TOKEN_BYTE && (b = byte_token_value(text)) >= 0) {
        out[0] = (char)b;
        return 1;
    }
    if (kind == TOKEN_CONTROL || kind == TOKEN_UNKNOWN)
        goto plain;
    switch (t->type) {
    case TOKENIZER_BPE:
        if (t->raw)
            {
            if (t->escape_ws)
                return piece_of_escaped(text, out);
            goto plain;
        }
        if (kind == TOKEN_USER_DEFINED)
            goto plain;
        return piece_of_letters(text, out);
    case TOKENIZER_SPM:
    case TOKENIZER_UGM:
    case TOKENIZER_WPM:
        return piece_of_escaped(text, out);
    case TOKENIZER_RWKV:
        return piece_of_rwkv(text, out);
    default:
        break;
    }
plain:
    memcpy(out, text.data, text.len);
    return text.len;
}

int vocab_make_pieces(struct tokenizer *t, struct err *e)
{
    struct strtab *p = &t->pieces;
    uint32_t other;
    size_t n = 0;
    int rc;

    p->bytes = mem_alloc((size_t)t->texts.off[t->n_vocab] + 1);
    p->off = mem_array((size_t)t->n_vocab + 1, sizeof *p->off);
    if (!p->bytes || !p->off)
        return tok_nomem(e);
    p->n = t->n_vocab;
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        const struct sv text = strtab_at(&t->texts, i);
        size_t len;

        p->off[i] = (uint32_t)n;
        len = text.len > 0 ? piece_of(t, i, text, p->bytes + n) : 0;
        n += len;
        if (len > t->max_piece)
            t->max_piece = (uint32_t)len;
    }
    p->off[t->n_vocab] = (uint32_t)n;
    p->bytes[n] = '\0';
    rc = strmap_init(&t->by_piece, p, t->n_vocab, e);
    if (rc < 0)
        return rc;
    (void)strmap_fill(&t->by_piece, t, tok_matchable, &other);
    return 0;
}

bool vocab_spaces_lead(const struct tokenizer *t)
{
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        const struct sv p = strtab_at(&t->pieces, id);
        size_t i = 0;

        if (!tok_matchable(t, id))
            continue;
        while (i < p.len && p.data[i] == ' ')
            i++;
        if (i < p.len && memchr(p.data + i, ' ', p.len - i))
            return false;
    }
    return true;
}

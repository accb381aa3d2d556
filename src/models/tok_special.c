/* tok_special.c: finds added tokens (control, user-defined, unknown) in a text, the
 * leftmost first and of those that begin at one place the longest, as Hugging
 * Face's added vocabulary does. Their texts are kept sorted; a match narrows the
 * range of candidates byte by byte, so that looking costs nothing to build. */
#include <stdlib.h>

#include "base/mem.h"
#include "models/tok_impl.h"

struct tok_special {
    uint32_t *ids;              /* sorted by piece */
    uint32_t  n;
    uint32_t  first[257];       /* range of ids by first byte */
    bool      any[2][256];      /* [parse_control][byte]: may a token begin so? */
};

static bool is_special(const struct tokenizer *t, uint32_t id)
{
    const uint8_t k = t->kinds[id];

    return (k == TOKEN_CONTROL || k == TOKEN_UNKNOWN || k == TOKEN_USER_DEFINED) &&
           t->pieces.off[id + 1] > t->pieces.off[id];
}

static int compare_pieces(const void *a, const void *b, void *ctx)
{
    const struct tokenizer *t = ctx;
    uint32_t i, j;
    struct sv x, y;
    int c;

    memcpy(&i, a, sizeof i);
    memcpy(&j, b, sizeof j);
    x = strtab_at(&t->pieces, i);
    y = strtab_at(&t->pieces, j);
    c = memcmp(x.data, y.data, x.len < y.len ? x.len : y.len);
    if (c != 0)
        return c;
    if (x.len != y.len)
        return x.len < y.len ? -1 : 1;
    return i < j ? -1 : i > j;
}

int special_open(struct tokenizer *t, struct err *e)
{
    struct tok_special *s = mem_calloc(1, sizeof *s);
    uint32_t n = 0;

    if (!s)
        return tok_nomem(e);
    t->special = s;
    for (uint32_t id = 0; id < t->n_vocab; id++)
        n += is_special(t, id);
    s->ids = mem_array(n, sizeof *s->ids);
    if (!s->ids)
        return tok_nomem(e);
    for (uint32_t id = 0; id < t->n_vocab; id++)
        if (is_special(t, id))
            s->ids[s->n++] = id;
    qsort_r(s->ids, n, sizeof *s->ids, compare_pieces, t);
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t b = (uint8_t)strtab_at(&t->pieces, s->ids[i]).data[0];

        s->first[b + 1] = i + 1;
        s->any[1][b] = true;
        if (t->kinds[s->ids[i]] == TOKEN_USER_DEFINED)
            s->any[0][b] = true;
    }
    for (unsigned b = 1; b <= 256; b++)
        if (s->first[b] < s->first[b - 1])
            s->first[b] = s->first[b - 1];
    return 0;
}

void special_close(struct tok_special *s)
{
    if (!s)
        return;
    mem_free(s->ids);
    mem_free(s);
}

static int byte_of(const struct tokenizer *t, uint32_t i, size_t depth)
{
    const struct sv p = strtab_at(&t->pieces, t->special->ids[i]);

    return depth < p.len ? (uint8_t)p.data[depth] : -1;
}

/* First of [lo, hi) whose byte at depth is c or more. */
static uint32_t lower(const struct tokenizer *t, uint32_t lo, uint32_t hi, size_t depth, int c)
{
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;

        if (byte_of(t, mid, depth) < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static bool word_before(const char *s, size_t i)
{
    size_t start = i, len;

    while (start > 0 && i - start < 4 && ((unsigned char)s[--start] & 0xC0) == 0x80)
        ;
    return i > 0 && (uc_at(s, start, i, &len) & (UC_L | UC_M | UC_N | UC_CONNECT));
}

static bool alone(const char *s, size_t from, size_t to, size_t n)
{
    size_t len;

    return !word_before(s, from) &&
           (to == n || !(uc_at(s, to, n, &len) & (UC_L | UC_M | UC_N | UC_CONNECT)));
}

/* Longest added token at s[i]; -1 when there is none. */
static int32_t longest_at(const struct tokenizer *t, const char *s, size_t i, size_t n,
                          bool parse_control, size_t *len)
{
    const struct tok_special *sp = t->special;
    const uint8_t b = (uint8_t)s[i];
    uint32_t lo = sp->first[b], hi = sp->first[b + 1];
    int32_t best = -1;

    for (size_t depth = 1; lo < hi; depth++) {
        const uint32_t id = sp->ids[lo];

        if (strtab_at(&t->pieces, id).len == depth) {
            if ((parse_control || t->kinds[id] == TOKEN_USER_DEFINED) &&
                (!(t->attrs[id] & TOKEN_SINGLE_WORD) || alone(s, i, i + depth, n))) {
                best = (int32_t)id;
                *len = depth;
            }
            while (lo < hi && byte_of(t, lo, depth) < 0)
                lo++;
        }
        if (i + depth == n)
            break;
        lo = lower(t, lo, hi, depth, (uint8_t)s[i + depth]);
        hi = lower(t, lo, hi, depth, (uint8_t)s[i + depth] + 1);
    }
    return best;
}

/* Start of the white space that ends at `to`, not before `from`. */
static size_t space_start(const char *s, size_t from, size_t to)
{
    while (to > from) {
        size_t i = to - 1, len;

        while (i > from && to - i < 4 && ((unsigned char)s[i] & 0xC0) == 0x80)
            i--;
        if (!(uc_at(s, i, to, &len) & UC_SPACE) || i + len != to)
            break;
        to = i;
    }
    return to;
}

static size_t space_end(const char *s, size_t i, size_t n)
{
    size_t len;

    while (i < n && (uc_at(s, i, n, &len) & UC_SPACE))
        i += len;
    return i;
}

bool special_next(const struct tokenizer *t, const char *text, size_t from, size_t n,
                  bool parse_control, struct special_hit *hit)
{
    const bool *any = t->special->any[parse_control];

    for (size_t i = from; i < n; i++) {
        size_t len = 0;

        if (!any[(uint8_t)text[i]])
            continue;
        hit->id = longest_at(t, text, i, n, parse_control, &len);
        if (hit->id < 0)
            continue;
        hit->start = i;
        hit->end = i + len;
        if (t->attrs[hit->id] & TOKEN_LSTRIP)
            hit->start = space_start(text, from, i);
        if (t->attrs[hit->id] & TOKEN_RSTRIP)
            hit->end = space_end(text, hit->end, n);
        return true;
    }
    return false;
}

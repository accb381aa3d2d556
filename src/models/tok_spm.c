/* tok_spm.c: SentencePiece BPE with byte fallback ("llama"): merges are not listed;
 * two neighbours merge when their concatenation is a piece, the highest score
 * first. Opening lists them: every way to cut a piece into two. */
#include <inttypes.h>

#include "base/mem.h"
#include "models/tok_impl.h"

/* Scores are ordered as integers: the highest score is the lowest priority. */
static uint32_t prio_of(float score)
{
    uint32_t b;

    if (score == 0)
        score = 0;      /* -0 */
    memcpy(&b, &score, sizeof b);
    b = b & 0x80000000u ? ~b : b | 0x80000000u;
    b = ~b;
    return b > UINT32_MAX - 2 ? UINT32_MAX - 2 : b;     /* UINT32_MAX: no pair */
}

static bool any_string(const struct tokenizer *t, uint32_t i)
{
    (void)t;
    (void)i;
    return true;
}

/* Characters inside of pieces that are no pieces themselves get ids from n_vocab
 * on: merges may start with them. */
static int collect_extra(struct tokenizer *t, struct err *e)
{
    struct sv *v = NULL;
    size_t cap = 0, n = 0;
    uint32_t other;
    int rc = 0;

    for (uint32_t id = 0; id < t->n_vocab && rc == 0; id++) {
        const struct sv p = strtab_at(&t->pieces, id);
        size_t len;

        if (!tok_matchable(t, id))
            continue;
        for (size_t i = 0; i < p.len; i += len) {
            uint32_t cp;
            bool ok;

            len = utf8_decode(p.data + i, p.len - i, &cp, &ok);
            if (!ok || strmap_find(&t->by_piece, p.data + i, len) != NO_TOKEN)
                continue;
            if (!tok_room(&v, &cap, n + 1, sizeof *v)) {
                rc = tok_nomem(e);
                break;
            }
            v[n++] = (struct sv){ p.data + i, len };
        }
    }
    if (rc == 0 && n > TOKENIZER_MAX_VOCAB)
        rc = err_set(e, WATT_ELIMIT, "%s: tokenizer.ggml.tokens: too many characters that are"
                     " no tokens", t->name);
    if (rc == 0)
        rc = strtab_build(&t->extra, v, (uint32_t)n, "tokenizer.ggml.tokens", e);
    if (rc == 0)
        rc = strmap_init(&t->by_extra, &t->extra, (uint32_t)n, e);
    if (rc == 0)
        (void)strmap_fill(&t->by_extra, t, any_string, &other);
    mem_free(v);
    return rc;
}

static uint32_t symbol_id(const struct tokenizer *t, const char *s, size_t n)
{
    uint32_t id = strmap_find(&t->by_piece, s, n);

    if (id == NO_TOKEN && t->extra.n > 0 && (id = strmap_find(&t->by_extra, s, n)) != NO_TOKEN)
        id += t->n_vocab;
    return id;
}

/* Calls of merges_add for piece id, or only their number. */
static uint32_t cuts_of(struct tokenizer *t, uint32_t id, bool add)
{
    const struct sv p = strtab_at(&t->pieces, id);
    const uint32_t prio = prio_of(t->scores ? t->scores[id] : 0);
    uint32_t n = 0;

    for (size_t i = 1; i < p.len; i++) {
        uint32_t left, right;

        if (((unsigned char)p.data[i] & 0xC0) == 0x80)
            continue;
        left = symbol_id(t, p.data, i);
        if (left == NO_TOKEN)
            continue;
        right = symbol_id(t, p.data + i, p.len - i);
        if (right == NO_TOKEN)
            continue;
        n++;
        if (add)
            (void)merges_add(&t->merges, left, right, prio, id);
    }
    return n;
}

/* Listing cuts is quadratic in a piece's length; real ones stay below 100 bytes. */
#define SPM_MAX_PIECE 1024

static bool has_cuts(const struct tokenizer *t, uint32_t id)
{
    const struct sv p = strtab_at(&t->pieces, id);

    return tok_matchable(t, id) && p.len > 1 && p.len <= SPM_MAX_PIECE &&
           strmap_find(&t->by_piece, p.data, p.len) == id;
}

static int list_merges(struct tokenizer *t, struct err *e)
{
    uint64_t n = 0;
    int rc;

    for (uint32_t id = 0; id < t->n_vocab; id++)
        if (t->kinds[id] == TOKEN_NORMAL && strtab_at(&t->pieces, id).len > SPM_MAX_PIECE)
            return err_set(e, WATT_ELIMIT, "%s: tokenizer.ggml.tokens[%" PRIu32 "]: %zu bytes,"
                           " more than %d", t->name, id, strtab_at(&t->pieces, id).len,
                           SPM_MAX_PIECE);
    for (uint32_t id = 0; id < t->n_vocab; id++)
        if (has_cuts(t, id))
            n += cuts_of(t, id, false);
    if (n > TOKENIZER_MAX_MERGES)
        return err_set(e, WATT_ELIMIT, "%s: tokenizer.ggml.tokens: more than %u ways to cut"
                       " tokens into tokens", t->name, TOKENIZER_MAX_MERGES);
    rc = merges_init(&t->merges, (uint32_t)n, e);
    for (uint32_t id = 0; rc == 0 && id < t->n_vocab; id++)
        if (has_cuts(t, id))
            (void)cuts_of(t, id, true);
    return rc;
}

int spm_open(struct tokenizer *t, struct err *e)
{
    int rc = collect_extra(t, e);

    if (rc < 0)
        return rc;
    t->char_ids = mem_array(128, sizeof *t->char_ids);
    if (!t->char_ids)
        return tok_nomem(e);
    for (unsigned c = 0; c < 128; c++) {
        const char ch = (char)c;
        const uint32_t id = symbol_id(t, &ch, 1);

        t->char_ids[c] = id == NO_TOKEN ? NO_TOKEN - 1 : id;
    }
    for (uint32_t id = 0; id < t->n_vocab; id++) {
        t->has_unused = t->has_unused || t->kinds[id] == TOKEN_UNUSED;
        if (t->kinds[id] == TOKEN_BYTE) {
            const int b = byte_token_value(strtab_at(&t->texts, id));

            if (b >= 0 && t->byte_ids[b] < 0)
                t->byte_ids[b] = (int32_t)id;
        }
    }
    t->cut_at_space = vocab_spaces_lead(t);
    return list_merges(t, e);
}

/* Where the word that begins at i ends: its spaces and what follows up to the
 * next space. U+2581 in a text is a space. */
static bool space_at(const char *s, size_t i, size_t n, size_t *len)
{
    if (s[i] == ' ') {
        *len = 1;
        return true;
    }
    *len = 3;
    return n - i >= 3 && (unsigned char)s[i] == 0xE2 && (unsigned char)s[i + 1] == 0x96 &&
           (unsigned char)s[i + 2] == 0x81;
}

static size_t word_end(const char *s, size_t i, size_t n)
{
    size_t len;

    while (i < n && space_at(s, i, n, &len))
        i += len;
    while (i < n && !space_at(s, i, n, &len))
        i++;
    return i;
}

int spm_encode(const struct tokenizer *t, struct tokenizer_scratch *s, const char *text,
               size_t len, bool prefix, struct tokens *out, struct err *e)
{
    const char *p;
    size_t n;
    int rc = 0;

    if (t->norm || t->remove_extra_ws) {
        rc = norm_run(t, text, len, prefix && t->add_space_prefix, &s->text, e);
        p = s->text.data;
        n = s->text.len;
    } else if (prefix && t->add_space_prefix) {
        str_reset(&s->text);
        str_putc(&s->text, ' ');
        str_append(&s->text, text, len);
        if (!str_ok(&s->text))
            return tok_nomem(e);
        p = s->text.data;
        n = s->text.len;
    } else {
        p = text;
        n = len;
    }
    for (size_t i = 0, end; i < n && rc == 0; i = end) {
        end = t->cut_at_space ? word_end(p, i, n) : n;
        rc = merge_word(t, s, p + i, end - i, out, e);
    }
    return rc;
}

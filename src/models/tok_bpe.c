/* tok_bpe.c: byte-level BPE (GPT-2 and its descendants), and BPE on UTF-8 characters
 * with byte fallback (Gemma 4). Opening reads the merges; encoding splits a text
 * by the family's pre-tokenizer and merges each word. */
#include <inttypes.h>

#include "base/mem.h"
#include "models/tok_impl.h"

#define MERGES_KEY "tokenizer.ggml.merges"

/* The id of a merge's part or product. `guess` is tried first: products come in
 * the order of ids in most files. */
static uint32_t find_text(const struct tokenizer *t, const char *s, size_t n, uint32_t guess)
{
    if (guess < t->n_vocab) {
        const struct sv g = strtab_at(&t->texts, guess);

        if (g.len == n && memcmp(g.data, s, n) == 0)
            return guess;
    }
    return strmap_find(&t->by_text, s, n);
}

static int bad_merge(const struct tokenizer *t, uint32_t i, struct sv merge, const char *what,
                     struct err *e)
{
    return err_set(e, WATT_EFORMAT, "%s: " MERGES_KEY "[%" PRIu32 "] \"%.*s\": %s", t->name, i,
                   (int)(merge.len > 80 ? 80 : merge.len), merge.data, what);
}

/* Merges on their way into the table: its slots are far apart in memory, so each
 * is fetched some merges before it is written. */
#define PENDING 16

struct pending {
    struct merge m[PENDING];
    uint32_t     guess;     /* the next product's likely id */
};

/* Of two equal pairs the first counts. */
static void put_pending(struct tokenizer *t, const struct pending *p, uint32_t i)
{
    const struct merge *m = &p->m[i % PENDING];

    (void)merges_add(&t->merges, m->left, m->right, m->prio, m->out);
}

static int add_merge(struct tokenizer *t, uint32_t i, struct sv merge, struct pending *p,
                     struct err *e)
{
    char small[128], *whole = small;
    const char *space = merge.len > 2 ? memchr(merge.data + 1, ' ', merge.len - 1) : NULL;
    uint32_t left, right, out;
    size_t n_left, n_right;

    if (!space || merge.len > 2 * TOKENIZER_MAX_PIECE_BYTES)
        return bad_merge(t, i, merge, "expected \"left right\"", e);
    n_left = (size_t)(space - merge.data);
    n_right = merge.len - n_left - 1;
    if (n_right == 0)
        return bad_merge(t, i, merge, "expected \"left right\"", e);
    if (merge.len > sizeof small && !(whole = mem_alloc(merge.len)))
        return tok_nomem(e);
    memcpy(whole, merge.data, n_left);
    memcpy(whole + n_left, space + 1, n_right);
    left = find_text(t, merge.data, n_left, NO_TOKEN);
    right = find_text(t, space + 1, n_right, NO_TOKEN);
    out = find_text(t, whole, n_left + n_right, p->guess);
    if (whole != small)
        mem_free(whole);
    if (left == NO_TOKEN || right == NO_TOKEN || out == NO_TOKEN)
        return bad_merge(t, i, merge,
                         left == NO_TOKEN    ? "the left part is no token"
                         : right == NO_TOKEN ? "the right part is no token"
                                             : "the product is no token", e);
    p->guess = out + 1;
    if (i >= PENDING)
        put_pending(t, p, i);
    p->m[i % PENDING] = (struct merge){ left, right, i, out };
    __builtin_prefetch(&t->merges.slots[pair_hash(left, right) & t->merges.mask], 1);
    return 0;
}

static void find_bytes(struct tokenizer *t)
{
    for (unsigned b = 0; b < 256; b++) {
        const char byte = (char)b;
        char hex[8];
        uint32_t id;

        if (t->raw) {
            static const char digits[] = "0123456789ABCDEF";

            memcpy(hex, "<0x  >", 6);
            hex[3] = digits[b >> 4];
            hex[4] = digits[b & 15];
            id = strmap_find(&t->by_text, hex, 6);
        } else {
            /* not by its letter: an added token spelled so stands for itself */
            id = strmap_find(&t->by_piece, &byte, 1);
        }
        t->byte_ids[b] = id == NO_TOKEN ? -1 : (int32_t)id;
    }
}

int bpe_open(struct tokenizer *t, const struct vocab_spec *s, struct err *e)
{
    struct pending p = { .guess = NO_TOKEN };
    int rc;

    find_bytes(t);
    if (t->raw) {
        t->char_ids = mem_array(128, sizeof *t->char_ids);
        if (!t->char_ids)
            return tok_nomem(e);
        for (unsigned c = 0; c < 128; c++) {
            const char ch = (char)c;
            const uint32_t id = strmap_find(&t->by_piece, &ch, 1);

            t->char_ids[c] = id == NO_TOKEN ? NO_TOKEN - 1 : id;
        }
        t->cut_at_space = t->escape_ws && vocab_spaces_lead(t);
    }
    rc = merges_init(&t->merges, s->n_merges, e);
    for (uint32_t i = 0; i < s->n_merges && rc == 0; i++)
        rc = add_merge(t, i, s->merges[i], &p, e);
    for (uint32_t i = s->n_merges < PENDING ? 0 : s->n_merges - PENDING;
         i < s->n_merges && rc == 0; i++)
        put_pending(t, &p, i);
    t->n_merges = s->n_merges;
    return rc < 0 ? rc : splitter_open(&t->splitter, t->pretok, e);
}

/* ---- encoding ---- */

struct bpe_run {
    const struct tokenizer   *t;
    struct tokenizer_scratch *s;
    struct tokens            *out;
};

static int encode_word(void *ctx, const char *piece, size_t len, struct err *e)
{
    const struct bpe_run *r = ctx;

    return merge_word(r->t, r->s, piece, len, r->out, e);
}

/* Raw BPE: a run of line feeds is one token where there is one; other text is cut
 * at spaces when that is safe. */
static int encode_line(void *ctx, const char *piece, size_t len, struct err *e)
{
    const struct bpe_run *r = ctx;
    const struct tokenizer *t = r->t;
    uint32_t cp;
    size_t len0;
    int rc = 0;

    len0 = utf8_decode(piece, len, &cp, NULL);
    (void)len0;
    if (t->drop_space && (uc_class(cp) & UC_SPACE))
        return 0;
    if (piece[0] == '\n') {
        const uint32_t id = strmap_find(&t->by_piece, piece, len);

        if (id != NO_TOKEN)
            return tok_emit(r->out, (int32_t)id, e);
    }
    if (!t->cut_at_space)
        return merge_word(t, r->s, piece, len, r->out, e);
    for (size_t i = 0, end; i < len && rc == 0; i = end) {
        end = i;
        while (end < len && piece[end] == ' ')
            end++;
        while (end < len && piece[end] != ' ')
            end++;
        rc = merge_word(t, r->s, piece + i, end - i, r->out, e);
    }
    return rc;
}

/* The common case without the general machinery: one hand-written stage. */
static int encode_one_stage(const struct bpe_run *r, const char *text, size_t len,
                            struct err *e)
{
    const struct split_stage *st = &r->t->pretok->stages[0];
    size_t note = 0;

    for (size_t i = 0; i < len;) {
        const size_t end = split_next(st, text, i, len, &note);
        const int rc = merge_word(r->t, r->s, text + i, end - i, r->out, e);

        if (rc < 0)
            return rc;
        i = end;
    }
    return 0;
}

/* HybridDNA: inside <dna>…</dna> the text is cut into six-letter words, which the
 * vocabulary spells with U+E000 behind them. */
#define DNA_K 6

static int encode_dna(const struct tokenizer *t, const char *s, size_t n, int32_t oov,
                      struct tokens *out, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; i < n && rc == 0; i += DNA_K) {
        char kmer[DNA_K + 3];
        uint32_t id;

        for (size_t k = 0; k < DNA_K; k++) {
            const char c = i + k < n ? s[i + k] : 'A';

            kmer[k] = c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
        }
        memcpy(kmer + DNA_K, "\xEE\x80\x80", 3);
        id = strmap_find(&t->by_text, kmer, sizeof kmer);
        rc = tok_emit(out, id == NO_TOKEN ? oov : (int32_t)id, e);
    }
    return rc;
}

static int encode_text(const struct tokenizer *t, struct tokenizer_scratch *s, const char *text,
                       size_t len, struct tokens *out, struct err *e)
{
    struct bpe_run r = { t, s, out };

    if (!t->raw && t->pretok->n_stages == 1 && t->pretok->stages[0].kind != SPLIT_REGEX)
        return encode_one_stage(&r, text, len, e);
    return splitter_run(t->splitter, s->split, text, len, t->raw ? encode_line : encode_word, &r,
                        e);
}

static int encode_hybrid(const struct tokenizer *t, struct tokenizer_scratch *s,
                         const char *text, size_t len, struct tokens *out, struct err *e)
{
    static const char open_tag[] = "<dna>", close_tag[] = "</dna>";
    const int32_t open_id = tokenizer_find(t, SV("<dna>")), close_id = tokenizer_find(t, SV("</dna>"));
    const int32_t oov = tokenizer_find(t, SV("<oov>"));
    int rc = 0;

    while (len > 0 && rc == 0) {
        const char *tag = memmem(text, len, open_tag, sizeof open_tag - 1);
        const char *end;
        size_t n;

        if (open_id < 0 || close_id < 0 || oov < 0 || !tag)
            return encode_text(t, s, text, len, out, e);
        n = (size_t)(tag - text);
        if (n > 0)
            rc = encode_text(t, s, text, n, out, e);
        if (rc == 0)
            rc = tok_emit(out, open_id, e);
        text = tag + sizeof open_tag - 1;
        len -= n + sizeof open_tag - 1;
        end = memmem(text, len, close_tag, sizeof close_tag - 1);
        n = end ? (size_t)(end - text) : len;
        if (rc == 0)
            rc = encode_dna(t, text, n, oov, out, e);
        if (rc == 0 && end)
            rc = tok_emit(out, close_id, e);
        text += n + (end ? sizeof close_tag - 1 : 0);
        len -= n + (end ? sizeof close_tag - 1 : 0);
    }
    return rc;
}

int bpe_encode(const struct tokenizer *t, struct tokenizer_scratch *s, const char *text,
               size_t len, struct tokens *out, struct err *e)
{
    if (t->nfc) {
        const int rc = norm_nfc(text, len, &s->text, &text, &len, e);

        if (rc < 0)
            return rc;
    }
    return t->dna ? encode_hybrid(t, s, text, len, out, e) : encode_text(t, s, text, len, out, e);
}

/* tok_wpm.c: WordPiece (Devlin et al. 2018), as BERT's own tokenizer and Hugging
 * Face's do it: clean, set ideographs apart, strip accents, lower case, split at
 * white space and punctuation, then the longest piece from the left. A piece that
 * begins a word is stored with a space in front, one that continues it without. */
#include <utf8proc.h>

#include "base/mem.h"
#include "models/tok_impl.h"

#define WORD_MAX_CHARS 100  /* longer words are unknown */

int wpm_open(struct tokenizer *t, struct err *e)
{
    uint32_t *ids = mem_array(t->n_vocab, sizeof *ids);
    uint32_t n = 0;
    int rc;

    if (!ids)
        return tok_nomem(e);
    for (uint32_t id = 0; id < t->n_vocab; id++)
        if (tok_matchable(t, id))
            ids[n++] = id;
    rc = trie_init(&t->trie, &t->pieces, ids, n, e);
    mem_free(ids);
    return rc;
}

struct wpm_run {
    const struct tokenizer *t;
    struct str             *word;       /* ' ' and the word so far */
    size_t                  n_chars;
    struct tokens          *out;
};

static int end_word(struct wpm_run *r, struct err *e)
{
    const size_t before = r->out->n, n = r->word->len;
    int rc = 0;

    if (r->n_chars == 0)
        return 0;
    if (!str_ok(r->word))
        return tok_nomem(e);
    for (size_t i = 0, len = 0; i < n && rc == 0; i += len) {
        const uint32_t id = r->n_chars > WORD_MAX_CHARS
                                ? NO_TOKEN
                                : trie_longest(&r->t->trie, r->word->data + i, n - i, &len);

        if (id == NO_TOKEN || (i == 0 && len == 1)) {   /* the space alone is no piece */
            r->out->n = before;
            if (r->t->roles[TOKEN_UNK] >= 0)
                rc = tok_emit(r->out, r->t->roles[TOKEN_UNK], e);
            break;
        }
        rc = tok_emit(r->out, (int32_t)id, e);
    }
    str_reset(r->word);
    r->n_chars = 0;
    return rc;
}

static int put_char(struct wpm_run *r, uint32_t cp, struct err *e)
{
    char bytes[4];

    if (r->n_chars == 0) {
        str_reset(r->word);
        str_putc(r->word, ' ');
    }
    if (++r->n_chars <= WORD_MAX_CHARS + 1)     /* what is longer is not looked at */
        str_append(r->word, bytes, utf8_encode(cp, bytes));
    return str_ok(r->word) ? 0 : tok_nomem(e);
}

/* The blocks that BERT's published code sets apart; 2B920 is what the Rust
 * version says for 2B820. */
static bool is_ideograph(uint32_t c)
{
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/* One character after accents and case. */
static int add_char(struct wpm_run *r, uint32_t c, struct err *e)
{
    int rc = 0;

    if (r->t->lowercase) {
        if (c == 0x130) {       /* the only lower case of two characters */
            rc = add_char(r, 'i', e);
            c = 0x307;
        } else {
            c = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
        }
    }
    if (rc < 0)
        return rc;
    if (uc_class(c) & UC_SPACE)
        return end_word(r, e);
    if (!hf_is_punctuation(c))
        return put_char(r, c, e);
    rc = end_word(r, e);
    if (rc == 0)
        rc = put_char(r, c, e);
    return rc < 0 ? rc : end_word(r, e);
}

static int add_stripped(struct wpm_run *r, uint32_t c, struct err *e)
{
    utf8proc_int32_t parts[16];
    utf8proc_ssize_t n;
    int rc = 0;

    if (c < 128 || !r->t->strip_accents)
        return add_char(r, c, e);
    n = utf8proc_decompose_char((utf8proc_int32_t)c, parts, 16,
                                UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, NULL);
    if (n < 0 || n > 16)
        return add_char(r, c, e);
    for (utf8proc_ssize_t i = 0; i < n && rc == 0; i++)
        if (!hf_is_mark((uint32_t)parts[i]))
            rc = add_char(r, (uint32_t)parts[i], e);
    return rc;
}

int wpm_encode(const struct tokenizer *t, struct tokenizer_scratch *s, const char *text,
               size_t len, struct tokens *out, struct err *e)
{
    struct wpm_run r = { t, &s->text, 0, out };
    int rc = 0;

    for (size_t i = 0; i < len && rc == 0;) {
        uint32_t c;

        i += utf8_decode(text + i, len - i, &c, NULL);
        if (c == '\t' || c == '\n' || c == '\r') {
            rc = end_word(&r, e);
            continue;
        }
        if (c == 0 || c == UTF8_REPLACEMENT || hf_is_control(c))
            continue;
        if (is_ideograph(c)) {
            rc = end_word(&r, e);
            if (rc == 0)
                rc = add_stripped(&r, c, e);
            if (rc == 0)
                rc = end_word(&r, e);
        } else {
            rc = add_stripped(&r, c, e);
        }
    }
    return rc < 0 ? rc : end_word(&r, e);
}

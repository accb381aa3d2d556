/* synth_vocab.c: a byte-level BPE vocabulary of any size, made by a formula.
 *
 * First the 256 bytes in the alphabet that GPT-2's vocabulary introduced (a byte
 * that is no printable character is written as a letter from U+0100 on), then
 * pairs of letters, pairs after a space, and pairs of those, common English
 * letters first. Every one of them has its merge, so that encoding works as with
 * a trained vocabulary and takes about as long. Special tokens end the list. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "models/synth.h"

#define N_LETTERS  26u
#define N_PAIRS    (N_LETTERS * N_LETTERS)
#define N_SPECIAL  16u
#define SPACE      "\xc4\xa0"   /* U+0120 stands for a space */

static const char letters[] = "etaoinshrdlucmfwygpbvkxqjz";

static const char chat_template[] =
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}";

/* Tokens and merges are collected as one text with the end of each piece. */
struct pieces {
    struct str text;
    struct sv *v;       /* filled at the end: text moves while it grows */
    uint32_t  *ends;
    uint32_t   n, cap;
};

static int pieces_init(struct pieces *p, uint32_t cap, struct err *e)
{
    *p = (struct pieces){ .cap = cap };
    str_init(&p->text, 0);
    p->v = mem_array(cap, sizeof *p->v);
    p->ends = mem_array(cap, sizeof *p->ends);
    return p->v && p->ends ? 0 : err_set(e, WATT_ENOMEM, "out of memory for %" PRIu32 " tokens",
                                         cap);
}

static void pieces_deinit(struct pieces *p)
{
    str_deinit(&p->text);
    mem_free(p->v);
    mem_free(p->ends);
}

static void piece_end(struct pieces *p)
{
    CHECK(p->n < p->cap && p->text.len <= UINT32_MAX);
    p->ends[p->n++] = (uint32_t)p->text.len;
}

static int pieces_finish(struct pieces *p, struct err *e)
{
    if (!str_ok(&p->text))
        return err_set(e, WATT_ENOMEM, "out of memory for %" PRIu32 " tokens", p->n);
    for (uint32_t i = 0; i < p->n; i++) {
        const uint32_t start = i ? p->ends[i - 1] : 0;

        p->v[i] = (struct sv){ p->text.data + start, p->ends[i] - start };
    }
    return 0;
}

static void put_bytes(struct pieces *tokens)
{
    uint32_t next = 0x100;

    /* printable bytes keep their code point and come first, as in GPT-2's list */
    for (uint32_t b = 0; b < 256; b++) {
        if ((b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae) {
            char utf8[4];

            str_append(&tokens->text, utf8, utf8_encode(b, utf8));
            piece_end(tokens);
        }
    }
    while (tokens->n < 256) {
        char utf8[4];

        str_append(&tokens->text, utf8, utf8_encode(next++, utf8));
        piece_end(tokens);
    }
}

/* A token that is left followed by right, and its merge. */
static void put_merge(struct pieces *tokens, struct pieces *merges, const char *left,
                      const char *right)
{
    str_puts(&tokens->text, left);
    str_puts(&tokens->text, right);
    piece_end(tokens);
    str_puts(&merges->text, left);
    str_putc(&merges->text, ' ');
    str_puts(&merges->text, right);
    piece_end(merges);
}

/* The k-th of all pairs (i, j) below n, those with a small i + j first. */
struct diagonal { uint32_t n, sum, i; };

static bool diagonal_next(struct diagonal *d, uint32_t *i, uint32_t *j)
{
    if (d->sum > 2 * (d->n - 1))
        return false;
    *i = d->i;
    *j = d->sum - d->i;
    if (d->i == d->sum || d->i == d->n - 1) {
        d->sum++;
        d->i = d->sum < d->n ? 0 : d->sum - (d->n - 1);
    } else {
        d->i++;
    }
    return true;
}

static void put_pairs(struct pieces *tokens, struct pieces *merges, uint32_t n_normal,
                      char (*pairs)[3])
{
    struct diagonal d = { N_LETTERS, 0, 0 };
    uint32_t i, j;

    for (uint32_t k = 0; diagonal_next(&d, &i, &j); k++) {
        pairs[k][0] = letters[i];
        pairs[k][1] = letters[j];
        pairs[k][2] = '\0';
        if (tokens->n < n_normal)
            put_merge(tokens, merges, (char[]){ letters[i], '\0' }, (char[]){ letters[j], '\0' });
    }
    for (uint32_t k = 0; k < N_PAIRS && tokens->n < n_normal; k++)
        put_merge(tokens, merges, SPACE, pairs[k]);
}

static void put_words(struct pieces *tokens, struct pieces *merges, uint32_t n_normal)
{
    struct diagonal d = { N_PAIRS, 0, 0 };
    char pairs[N_PAIRS][3], left[8];
    uint32_t i, j;

    put_pairs(tokens, merges, n_normal, pairs);
    while (tokens->n < n_normal && diagonal_next(&d, &i, &j)) {
        put_merge(tokens, merges, pairs[i], pairs[j]);
        (void)snprintf(left, sizeof left, SPACE "%s", pairs[i]);
        if (tokens->n < n_normal)
            put_merge(tokens, merges, left, pairs[j]);
    }
}

static void put_special(struct pieces *tokens, uint32_t n_vocab)
{
    static const char *const names[] = { "<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>",
                                         "<|im_end|>" };

    for (uint32_t i = 0; tokens->n < n_vocab; i++) {
        if (i < sizeof names / sizeof names[0])
            str_puts(&tokens->text, names[i]);
        else
            str_printf(&tokens->text, "<|reserved_%" PRIu32 "|>", i);
        piece_end(tokens);
    }
}

static int write_kinds(struct gguf_writer *w, uint32_t n_normal, uint32_t n_vocab, struct err *e)
{
    enum { NORMAL = 1, CONTROL = 3 };
    int32_t *kinds = mem_array(n_vocab, sizeof *kinds);
    int rc;

    if (!kinds)
        return err_set(e, WATT_ENOMEM, "out of memory for %" PRIu32 " tokens", n_vocab);
    for (uint32_t i = 0; i < n_vocab; i++)
        kinds[i] = i < n_normal ? NORMAL : CONTROL;
    rc = gguf_writer_array(w, "tokenizer.ggml.token_type", GGUF_I32, kinds, n_vocab, e);
    mem_free(kinds);
    return rc;
}

static int write_keys(struct gguf_writer *w, const struct pieces *tokens,
                      const struct pieces *merges, uint32_t n_normal, const char *pre,
                      struct err *e)
{
    int rc = gguf_writer_str(w, "tokenizer.ggml.model", SV("gpt2"), e);

    if (rc == 0)
        rc = gguf_writer_str(w, "tokenizer.ggml.pre", sv_cstr(pre), e);
    if (rc == 0)
        rc = gguf_writer_strs(w, "tokenizer.ggml.tokens", tokens->v, tokens->n, e);
    if (rc == 0)
        rc = write_kinds(w, n_normal, tokens->n, e);
    if (rc == 0)
        rc = gguf_writer_strs(w, "tokenizer.ggml.merges", merges->v, merges->n, e);
    if (rc == 0)
        rc = gguf_writer_u32(w, "tokenizer.ggml.bos_token_id", n_normal, e);
    if (rc == 0)
        rc = gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", n_normal + 1, e);
    if (rc == 0)
        rc = gguf_writer_u32(w, "tokenizer.ggml.eot_token_id", n_normal + 3, e);
    if (rc == 0)
        rc = gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", true, e);
    if (rc == 0)
        rc = gguf_writer_str(w, "tokenizer.chat_template", SV(chat_template), e);
    return rc;
}

int synth_vocab_write(struct gguf_writer *w, uint32_t n_vocab, const char *pre, struct err *e)
{
    struct pieces tokens = { 0 }, merges = { 0 };
    uint32_t n_normal;
    int rc;

    if (n_vocab < SYNTH_VOCAB_MIN)
        return gguf_writer_str(w, "tokenizer.ggml.model", SV("none"), e);
    rc = pieces_init(&tokens, n_vocab, e);
    if (rc == 0)
        rc = pieces_init(&merges, n_vocab, e);
    if (rc == 0) {
        put_bytes(&tokens);
        put_words(&tokens, &merges, n_vocab - N_SPECIAL);
        n_normal = tokens.n;
        put_special(&tokens, n_vocab);
        rc = pieces_finish(&tokens, e);
        if (rc == 0)
            rc = pieces_finish(&merges, e);
        if (rc == 0)
            rc = write_keys(w, &tokens, &merges, n_normal, pre, e);
    }
    pieces_deinit(&tokens);
    pieces_deinit(&merges);
    return rc;
}

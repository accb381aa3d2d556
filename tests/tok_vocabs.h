/* tok_vocabs.h: small vocabularies made in the test itself. */
#ifndef TESTS_TOK_VOCABS_H
#define TESTS_TOK_VOCABS_H

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "models/tok_impl.h"
#include "models/tokenizer.h"

#define VOCAB_MAX 4096

/* Arrays that a spec points at; strings live in text. */
struct small_vocab {
    struct vocab_spec spec;
    struct sv         tokens[VOCAB_MAX], merges[VOCAB_MAX];
    int32_t           kinds[VOCAB_MAX];
    float             scores[VOCAB_MAX];
    uint8_t           attrs[VOCAB_MAX];
    char              text[VOCAB_MAX * 24];
    size_t            used;
};

static inline struct sv small_keep(struct small_vocab *v, const char *s, size_t n)
{
    struct sv kept = { v->text + v->used, n };

    assert_true(v->used + n <= sizeof v->text);
    memcpy(v->text + v->used, s, n);
    v->used += n;
    return kept;
}

static inline void small_init(struct small_vocab *v, const char *model, const char *pre)
{
    memset(v, 0, sizeof *v);
    vocab_spec_init(&v->spec);
    v->spec.name = "small";
    v->spec.model = model;
    v->spec.pre = pre;
    v->spec.tokens = v->tokens;
    v->spec.merges = v->merges;
    v->spec.kinds = v->kinds;
    v->spec.attrs = v->attrs;
}

static inline int32_t small_add(struct small_vocab *v, const char *text, size_t n, int kind,
                                float score)
{
    const uint32_t id = v->spec.n_tokens++;

    assert_true(id < VOCAB_MAX);
    v->tokens[id] = small_keep(v, text, n);
    v->kinds[id] = kind;
    v->scores[id] = score;
    return (int32_t)id;
}

static inline int32_t small_token(struct small_vocab *v, const char *text, int kind, float score)
{
    return small_add(v, text, strlen(text), kind, score);
}

/* The 256 letters of byte-level BPE, ids 0..255 in the order of bytes. */
static inline void small_letters(struct small_vocab *v)
{
    for (unsigned b = 0; b < 256; b++) {
        char letter[4];

        (void)small_add(v, letter, utf8_encode(gpt2_letter((uint8_t)b), letter), TOKEN_NORMAL, 0);
    }
}

static inline int32_t small_find(const struct small_vocab *v, const char *s, size_t n)
{
    for (uint32_t i = 0; i < v->spec.n_tokens; i++)
        if (v->tokens[i].len == n && memcmp(v->tokens[i].data, s, n) == 0)
            return (int32_t)i;
    return -1;
}

/* A merge, and its product as a token unless it is one. */
static inline void small_merge(struct small_vocab *v, struct sv left, struct sv right)
{
    char both[256];
    int n = snprintf(both, sizeof both, "%.*s %.*s", (int)left.len, left.data, (int)right.len,
                     right.data);

    v->merges[v->spec.n_merges++] = small_keep(v, both, (size_t)n);
    n = snprintf(both, sizeof both, "%.*s%.*s", (int)left.len, left.data, (int)right.len,
                 right.data);
    if (small_find(v, both, (size_t)n) < 0)
        (void)small_add(v, both, (size_t)n, TOKEN_NORMAL, 0);
}

/* Byte letters, English merges, two control tokens and a user-defined one. */
static inline void small_bpe(struct small_vocab *v, const char *pre)
{
    static const char *const merges[][2] = {
        { "Ġ", "t" }, { "h", "e" }, { "Ġt", "he" }, { "i", "n" }, { "l", "l" }, { "he", "ll" },
        { "hell", "o" }, { "Ġ", "Ġ" }, { "ĠĠ", "ĠĠ" }, { "a", "a" },
        { "aa", "aa" }, { "aaaa", "aaaa" }, { "Ã", "©" }, { "o", "r" }, { "Ġ", "w" },
        { "Ġw", "or" }, { "Ġwor", "l" }, { "Ġworl", "d" }, { "ð", "Ł" }, { "ðŁ", "ĺ" },
        { "1", "2" }, { "12", "3" }, { "Ċ", "Ċ" },
    };

    small_init(v, "gpt2", pre);
    small_letters(v);
    for (size_t i = 0; i < sizeof merges / sizeof *merges; i++)
        small_merge(v, sv_cstr(merges[i][0]), sv_cstr(merges[i][1]));
    v->spec.roles[TOKEN_BOS] = small_token(v, "<|begin|>", TOKEN_CONTROL, 0);
    v->spec.roles[TOKEN_EOS] = small_token(v, "<|end_of_text|>", TOKEN_CONTROL, 0);
    (void)small_token(v, "<tool>", TOKEN_USER_DEFINED, 0);
    (void)small_token(v, "<tool>x", TOKEN_USER_DEFINED, 0);
}

/* Llama-like: unk, bos, eos, 256 bytes, pieces whose score falls with the id. */
static inline void small_spm(struct small_vocab *v)
{
    static const char *const pieces[] = {
        "▁t", "▁h", "el", "▁hel", "lo", "▁hello", "he", "▁the", "in", "▁a", "ll", "▁▁", "▁▁▁▁",
        "aa", "aaaa", "é", "中", "文", "中文", "▁", "t", "h", "e", "i", "n", "a", "l", "o", "w",
        "r", "d", "or", "▁w", "▁wor", "ld", "▁world", "xy",
    };

    small_init(v, "llama", NULL);
    v->spec.scores = v->scores;
    (void)small_token(v, "<unk>", TOKEN_UNKNOWN, 0);
    (void)small_token(v, "<s>", TOKEN_CONTROL, 0);
    (void)small_token(v, "</s>", TOKEN_CONTROL, 0);
    for (unsigned b = 0; b < 256; b++) {
        char name[8];

        (void)snprintf(name, sizeof name, "<0x%02X>", b);
        (void)small_token(v, name, TOKEN_BYTE, 0);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        (void)small_token(v, pieces[i], TOKEN_NORMAL, -(float)i);
}

#endif

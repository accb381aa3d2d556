/* tiny_bert.h: a BERT of one layer with a WordPiece vocabulary of letters, random weights.
 * Include after cmocka.h. */
#ifndef TESTS_TINY_BERT_H
#define TESTS_TINY_BERT_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/gguf.h"

enum { TINY_BERT_EMBD = 16, TINY_BERT_CTX = 40, TINY_BERT_FF = 24, TINY_BERT_VOCAB = 58 };
enum { TINY_PAD, TINY_UNK, TINY_CLS, TINY_SEP, TINY_MASK, TINY_DOT, TINY_FIRST_LETTER };

struct tiny_bert {
    bool        head;           /* cls and cls.output */
    const char *rerank;         /* tokenizer.chat_template.rerank, NULL: none */
    uint32_t    pooling;        /* 0: no key */
};

struct tiny_tensor { const char *name; int64_t shape[2]; };

static const struct tiny_tensor tiny_bert_tensors[] = {
    { "token_embd.weight", { TINY_BERT_VOCAB, TINY_BERT_EMBD } },
    { "token_types.weight", { 2, TINY_BERT_EMBD } },
    { "position_embd.weight", { TINY_BERT_CTX, TINY_BERT_EMBD } },
    { "token_embd_norm.weight", { TINY_BERT_EMBD } }, { "token_embd_norm.bias", { TINY_BERT_EMBD } },
    { "blk.0.attn_q.weight", { TINY_BERT_EMBD, TINY_BERT_EMBD } },
    { "blk.0.attn_k.weight", { TINY_BERT_EMBD, TINY_BERT_EMBD } },
    { "blk.0.attn_v.weight", { TINY_BERT_EMBD, TINY_BERT_EMBD } },
    { "blk.0.attn_output.weight", { TINY_BERT_EMBD, TINY_BERT_EMBD } },
    { "blk.0.attn_output_norm.weight", { TINY_BERT_EMBD } },
    { "blk.0.attn_output_norm.bias", { TINY_BERT_EMBD } },
    { "blk.0.ffn_up.weight", { TINY_BERT_FF, TINY_BERT_EMBD } },
    { "blk.0.ffn_down.weight", { TINY_BERT_EMBD, TINY_BERT_FF } },
    { "blk.0.layer_output_norm.weight", { TINY_BERT_EMBD } },
    { "blk.0.layer_output_norm.bias", { TINY_BERT_EMBD } },
    { "cls.weight", { TINY_BERT_EMBD, TINY_BERT_EMBD } }, { "cls.bias", { TINY_BERT_EMBD } },
    { "cls.output.weight", { 1, TINY_BERT_EMBD } }, { "cls.output.bias", { 1 } },
};

/* Five special tokens, ".", 26 letters that begin words and 26 that go on. */
static inline void tiny_bert_vocab(struct gguf_writer *w, struct err *e)
{
    static const char *const special[] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]",
                                           "\xE2\x96\x81." };
    static const struct { const char *key; uint32_t id; } roles[] = {
        { "tokenizer.ggml.bos_token_id", TINY_CLS }, { "tokenizer.ggml.cls_token_id", TINY_CLS },
        { "tokenizer.ggml.eos_token_id", TINY_SEP },
        { "tokenizer.ggml.seperator_token_id", TINY_SEP },
        { "tokenizer.ggml.unknown_token_id", TINY_UNK },
        { "tokenizer.ggml.mask_token_id", TINY_MASK },
    };
    static char text[TINY_BERT_VOCAB][8];
    struct sv tokens[TINY_BERT_VOCAB];
    int32_t kinds[TINY_BERT_VOCAB];

    for (int i = 0; i < TINY_BERT_VOCAB; i++) {
        const int letter = i - TINY_FIRST_LETTER;

        if (letter < 0)
            (void)snprintf(text[i], sizeof text[i], "%s", special[i]);
        else
            (void)snprintf(text[i], sizeof text[i], "%s%c", letter < 26 ? "\xE2\x96\x81" : "",
                           'a' + letter % 26);
        tokens[i] = sv_cstr(text[i]);
        kinds[i] = i < TINY_DOT ? 3 : 1;
    }
    assert_int_equal(gguf_writer_str(w, "tokenizer.ggml.model", SV("bert"), e), 0);
    assert_int_equal(gguf_writer_strs(w, "tokenizer.ggml.tokens", tokens, TINY_BERT_VOCAB, e), 0);
    assert_int_equal(gguf_writer_array(w, "tokenizer.ggml.token_type", GGUF_I32, kinds,
                                       TINY_BERT_VOCAB, e), 0);
    assert_int_equal(gguf_writer_bool(w, "tokenizer.ggml.add_eos_token", true, e), 0);
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        assert_int_equal(gguf_writer_u32(w, roles[i].key, roles[i].id, e), 0);
}

static inline size_t tiny_bert_elems(const struct tiny_tensor *t)
{
    return (size_t)(t->shape[0] * (t->shape[1] ? t->shape[1] : 1));
}

static inline void tiny_bert_write(const char *path, const struct tiny_bert *b)
{
    static const struct { const char *key; uint32_t value; } keys[] = {
        { "bert.block_count", 1 }, { "bert.embedding_length", TINY_BERT_EMBD },
        { "bert.feed_forward_length", TINY_BERT_FF }, { "bert.attention.head_count", 2 },
        { "bert.context_length", TINY_BERT_CTX },
    };
    const size_t n = sizeof tiny_bert_tensors / sizeof *tiny_bert_tensors - (b->head ? 0 : 4);
    struct gguf_writer *w = NULL;
    struct err e = { 0 };
    struct rng r;

    rng_init(&r, 21);
    if (gguf_writer_open(&w, path, &e) < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(gguf_writer_str(w, "general.architecture", SV("bert"), &e), 0);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        assert_int_equal(gguf_writer_u32(w, keys[i].key, keys[i].value, &e), 0);
    assert_int_equal(gguf_writer_f32(w, "bert.attention.layer_norm_epsilon", 1e-12f, &e), 0);
    if (b->pooling)
        assert_int_equal(gguf_writer_u32(w, "bert.pooling_type", b->pooling, &e), 0);
    if (b->rerank)
        assert_int_equal(gguf_writer_str(w, "tokenizer.chat_template.rerank", sv_cstr(b->rerank),
                                         &e), 0);
    tiny_bert_vocab(w, &e);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(gguf_writer_tensor(w, tiny_bert_tensors[i].name, DTYPE_F32,
                                            tiny_bert_tensors[i].shape[1] ? 2 : 1,
                                            tiny_bert_tensors[i].shape, &e), 0);
    assert_int_equal(gguf_writer_begin(w, &e), 0);
    for (size_t i = 0; i < n; i++) {
        const size_t k = tiny_bert_elems(&tiny_bert_tensors[i]);
        const float sigma = strstr(tiny_bert_tensors[i].name, "embd.") ? 1.0f : 0.4f;

        for (size_t j = 0; j < k; j++) {
            const float v = sigma * (float)rng_normal(&r);

            assert_int_equal(gguf_writer_data(w, &v, sizeof v, &e), 0);
        }
    }
    if (gguf_writer_commit(w, &e) < 0)
        fail_msg("%s", e.msg);
}

#endif

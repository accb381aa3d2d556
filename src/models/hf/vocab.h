/* vocab.h: a vocabulary while it is gathered from a folder's files. */
#ifndef MODELS_HF_VOCAB_H
#define MODELS_HF_VOCAB_H

#include "models/hf/internal.h"
#include "models/tokenizer.h"

struct hf_vocab {
    const char   *model;        /* tokenizer.ggml.model; NULL: no vocabulary found */
    char          pre[64];
    uint32_t      n, cap;
    struct sv    *tokens;       /* [n]; data NULL: no token has this id */
    float        *scores;
    int32_t      *kinds;
    uint8_t      *attrs;
    bool          has_scores, has_attrs;
    char         *pool;         /* texts made here */
    size_t        pool_used, pool_cap;
    struct sv    *merges;
    uint32_t      n_merges;
    struct sv     patterns[8];  /* of a pre-tokenizer that has no name */
    uint32_t      n_patterns;
    uint8_t      *charsmap;
    size_t        n_charsmap;
    int32_t       bos, eos, unk, sep, pad, cls, mask;   /* ids, -1: unknown */
    /* -1: not said */
    int           add_bos, add_eos, add_sep, add_space_prefix, remove_extra, lowercase,
                  strip_accents, ignore_merges, nfc;
    json_t       *document;     /* what tokens point into */
    char         *bytes;
};

void hf_vocab_init(struct hf_vocab *v);
void hf_vocab_deinit(struct hf_vocab *v);
/* Room for ids below n; false when memory is short. n is at most TOKENIZER_MAX_VOCAB. */
bool hf_vocab_room(struct hf_vocab *v, uint32_t n);
/* The id of a token, -1: none; linear. */
int32_t hf_vocab_find(const struct hf_vocab *v, struct sv text);

/* tokenizer.json and tokenizer.model; name is the file's path for messages. */
int hf_read_tokenizer_json(const struct hf *h, struct hf_vocab *v, const char *name,
                           const char *bytes, size_t n, struct err *e) MUST_CHECK;
int hf_read_sentencepiece(struct hf_vocab *v, const char *name, const uint8_t *bytes, size_t n,
                          struct err *e) MUST_CHECK;
/* The pre-tokenizer of tokenizer.json: v->pre, or v->patterns where no name fits. */
int hf_read_pretokenizer(const struct hf *h, struct hf_vocab *v, const struct json_place *root,
                         struct err *e) MUST_CHECK;

#endif

/* embed_pair.h: a query and a document as the one input that a cross-encoder was trained on.
 *
 * BERT: [CLS] query [SEP] document [SEP], the document's rows being segment 1. RoBERTa's kin:
 * <s> query </s></s> document </s>. Models with a text of their own around both
 * (tokenizer.chat_template.rerank, with {query} and {document} in it) get that. */
#ifndef MODELS_EMBED_PAIR_H
#define MODELS_EMBED_PAIR_H

#include "base/err.h"
#include "base/str.h"
#include "models/model.h"
#include "models/tokenizer.h"

/* How a model wants pairs; texts are the model's file. */
struct pair_style {
    int32_t   bos, middle[2], eos;      /* -1: none */
    bool      segments;                 /* the document is segment 1 */
    struct sv before, between, after;   /* of the template; before.data NULL: none */
};

/* WATT_EFORMAT: a template that lacks {query} or {document}, or has them the other way round. */
int  pair_style_read(struct pair_style *s, const struct model *m, const struct tokenizer *tok,
                     struct err *e) MUST_CHECK;

struct pair_request {
    struct sv query;
    uint32_t  max_tokens;
    bool      truncate;         /* a document that doesn't fit loses its end */
};

/* Appends the pair's ids to out; *second: where segment 1 begins (out->n when there is none).
 * WATT_ELIMIT: too long; on failure out is as it was. */
int  pair_encode(const struct pair_style *s, const struct tokenizer *tok,
                 struct tokenizer_scratch *scratch, const struct pair_request *q, struct sv doc,
                 struct tokens *out, size_t *second, struct err *e) MUST_CHECK;

#endif

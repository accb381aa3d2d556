/* sentencepiece.c: tokenizer.model, a protocol buffer of the public SentencePiece project
 * (sentencepiece_model.proto): pieces with scores and kinds, the trainer's ids, the normaliser. */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "models/hf/vocab.h"

/* ---- protocol buffers: a field is a varint of number and kind, then its value ---- */

struct wire {
    const uint8_t *p;
    size_t         n, at;
    bool           bad;
};

struct field {
    uint32_t      number, kind;     /* 0 varint, 1 64 bits, 2 bytes, 5 32 bits */
    uint64_t      value;
    struct wire   bytes;
};

static uint64_t varint(struct wire *w)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (w->at == w->n)
            break;
        v |= (uint64_t)(w->p[w->at] & 0x7F) << shift;
        if (!(w->p[w->at++] & 0x80))
            return v;
    }
    w->bad = true;
    return 0;
}

static bool next_field(struct wire *w, struct field *f)
{
    uint64_t key, size = 0;

    if (w->bad || w->at == w->n)
        return false;
    key = varint(w);
    *f = (struct field){ .number = (uint32_t)(key >> 3), .kind = key & 7 };
    if (f->kind == 0)
        f->value = varint(w);
    else if (f->kind == 1)
        size = 8;
    else if (f->kind == 5)
        size = 4;
    else if (f->kind == 2)
        size = varint(w);
    else
        w->bad = true;
    if (w->bad || size > w->n - w->at || key >> 3 == 0 || key >> 3 > UINT32_MAX) {
        w->bad = true;
        return false;
    }
    f->bytes = (struct wire){ w->p + w->at, (size_t)size, 0, false };
    if (f->kind == 5)
        f->value = load_le32(f->bytes.p);
    w->at += (size_t)size;
    return true;
}

static float as_float(uint64_t bits)
{
    const uint32_t b = (uint32_t)bits;
    float f;

    memcpy(&f, &b, sizeof f);
    return f;
}

/* ---- the model ---- */

static int bad(const char *name, const char *what, struct err *e)
{
    return err_set(e, WATT_EFORMAT, "%s: %s", name, what);
}

static int read_piece(struct hf_vocab *v, struct wire w, const char *name, struct err *e)
{
    struct sv text = { "", 0 };
    struct field f;
    float score = 0;
    uint64_t kind = TOKEN_NORMAL;

    while (next_field(&w, &f)) {
        if (f.number == 1 && f.kind == 2)
            text = (struct sv){ (const char *)f.bytes.p, f.bytes.n };
        else if (f.number == 2 && f.kind == 5)
            score = as_float(f.value);
        else if (f.number == 3 && f.kind == 0)
            kind = f.value;
    }
    if (w.bad)
        return bad(name, "a piece is cut short", e);
    if (kind < TOKEN_NORMAL || kind > TOKEN_BYTE)
        return err_set(e, WATT_EFORMAT, "%s: piece %" PRIu32 " is of kind %" PRIu64
                       ", expected 1 to 6", name, v->n, kind);
    if (score != score)
        return err_set(e, WATT_EFORMAT, "%s: the score of piece %" PRIu32 " is not a number", name,
                       v->n);
    if (v->n == TOKENIZER_MAX_VOCAB)
        return err_set(e, WATT_ELIMIT, "%s: more than %u pieces", name, TOKENIZER_MAX_VOCAB);
    if (!hf_vocab_room(v, v->n + 1))
        return err_set(e, WATT_ENOMEM, "%s: out of memory", name);
    v->tokens[v->n - 1] = text;
    v->scores[v->n - 1] = score;
    v->kinds[v->n - 1] = (int32_t)kind;
    return 0;
}

static int read_trainer(struct hf_vocab *v, struct wire w, const char *name, struct err *e)
{
    uint64_t type = 1;
    struct field f;

    v->unk = 0;
    v->bos = 1;
    v->eos = 2;
    v->pad = -1;
    while (next_field(&w, &f)) {
        if (f.kind != 0)
            continue;
        if (f.number == 3)
            type = f.value;
        else if (f.number >= 40 && f.number <= 43) {
            int32_t *const ids[] = { &v->unk, &v->bos, &v->eos, &v->pad };

            *ids[f.number - 40] = (int64_t)f.value < 0 || f.value > INT32_MAX ? -1
                                                                              : (int32_t)f.value;
        }
    }
    if (w.bad)
        return bad(name, "trainer_spec is cut short", e);
    if (type != 1 && type != 2)
        return err_set(e, WATT_ENOTSUP, "%s: model_type is %" PRIu64 ", known are 1 (unigram) and 2 "
                       "(bpe)", name, type);
    v->model = type == 1 ? "t5" : "llama";
    return 0;
}

static int read_normaliser(struct hf_vocab *v, struct wire w, const char *name, struct err *e)
{
    struct field f;

    v->add_space_prefix = v->remove_extra = 1;
    while (next_field(&w, &f)) {
        if (f.number == 2 && f.kind == 2 && f.bytes.n > 0 && !v->charsmap) {
            v->charsmap = mem_alloc(f.bytes.n);
            if (!v->charsmap)
                return err_set(e, WATT_ENOMEM, "%s: out of memory", name);
            memcpy(v->charsmap, f.bytes.p, f.bytes.n);
            v->n_charsmap = f.bytes.n;
        } else if (f.number == 3 && f.kind == 0) {
            v->add_space_prefix = f.value != 0;
        } else if (f.number == 4 && f.kind == 0) {
            v->remove_extra = f.value != 0;
        }
    }
    return w.bad ? bad(name, "normalizer_spec is cut short", e) : 0;
}

int hf_read_sentencepiece(struct hf_vocab *v, const char *name, const uint8_t *bytes, size_t n,
                          struct err *e)
{
    struct wire w = { bytes, n, 0, false };
    struct field f;
    int rc = 0;

    v->has_scores = true;
    v->add_space_prefix = v->remove_extra = 1;
    while (rc == 0 && next_field(&w, &f)) {
        if (f.kind != 2)
            continue;
        if (f.number == 1)
            rc = read_piece(v, f.bytes, name, e);
        else if (f.number == 2)
            rc = read_trainer(v, f.bytes, name, e);
        else if (f.number == 3)
            rc = read_normaliser(v, f.bytes, name, e);
    }
    if (rc == 0 && w.bad)
        rc = bad(name, "is no SentencePiece model or cut short", e);
    if (rc == 0 && (v->n == 0 || !v->model))
        rc = bad(name, "has no pieces or no trainer_spec", e);
    if (rc == 0 && strcmp(v->model, "llama") == 0) {
        /* BPE models of that kind apply the map when they are trained, not afterwards */
        mem_free(v->charsmap);
        v->charsmap = NULL;
        v->n_charsmap = 0;
    }
    return rc;
}

/* create.c: models to be trained from scratch; see create.h. */
#include "models/train/create.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "models/quant_mix.h"
#include "models/synth_internal.h"

#define PIECE 16384u

struct creation {
    const struct create_opts *o;
    const struct shape *s;
    struct gguf_writer *w;
    struct err         *e;
    uint64_t            n_tensors;
    float              *buf;        /* [PIECE] */
};

/* ---- keys ---- */

static int copy_vocab(struct gguf_writer *w, const struct create_opts *o, struct err *e)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < gguf_n_kv(o->tokenizer); i++) {
        const struct gguf_kv *kv = gguf_kv_at(o->tokenizer, i);

        if (sv_starts(kv->key, SV("tokenizer.")) &&
            !(o->chat_template && sv_eq_cstr(kv->key, "tokenizer.chat_template")))
            rc = gguf_writer_copy(w, kv, e);
    }
    return rc;
}

static int put_keys(struct creation *c)
{
    struct gguf_writer *w = c->w;
    struct err *e = c->e;
    int rc = gguf_writer_str(w, "general.architecture", sv_cstr(c->s->arch), e);

    if (rc == 0)
        rc = gguf_writer_str(w, "general.name", sv_cstr(c->s->name), e);
    if (rc == 0)
        rc = gguf_writer_u32(w, "general.file_type", quant_mix_info(QUANT_F32)->file_type, e);
    if (rc == 0)
        rc = synth_keys(&(struct synth_sink){ .writer = w }, c->s, NULL, e);
    if (rc == 0 && c->o->tokenizer)
        rc = copy_vocab(w, c->o, e);
    else if (rc == 0 && c->o->chars)
        rc = char_vocab_write(c->o->chars, w, e);
    else if (rc == 0)
        rc = gguf_writer_str(w, "tokenizer.ggml.model", SV("none"), e);
    if (rc == 0 && c->o->chat_template)
        rc = gguf_writer_str(w, "tokenizer.chat_template", sv_cstr(c->o->chat_template), e);
    return rc;
}

/* ---- weights ---- */

enum draw { NORMAL, ONE, ZERO, DECAY, STEP, UNIFORM, FACTORS };
struct how { enum draw draw; double scale; };

static bool ends_with(const char *name, const char *end)
{
    return sv_ends(sv_cstr(name), sv_cstr(end));
}

static struct how how_of(const struct shape *s, const struct shape_tensor *t)
{
    const double matrix = 0.55 / sqrt((double)s->n_embd);

    if (ends_with(t->name, "ssm_a"))
        return (struct how){ DECAY, 0 };
    if (ends_with(t->name, "ssm_dt.bias"))
        return (struct how){ STEP, 0 };
    if (ends_with(t->name, "ssm_conv1d.weight"))
        return (struct how){ UNIFORM, 1 / sqrt((double)s->ssm_conv) };
    if (ends_with(t->name, "token_embd.weight") || ends_with(t->name, "position_embd.weight"))
        return (struct how){ NORMAL, 0.02 };
    switch (t->init) {
    case SHAPE_MATRIX:       return (struct how){ NORMAL, matrix };
    case SHAPE_RESIDUAL:     return (struct how){ NORMAL, matrix / sqrt(2.0 * s->n_layers) };
    case SHAPE_GAIN:         return (struct how){ ONE, 0 };
    case SHAPE_BIAS:         return (struct how){ ZERO, 0 };
    case SHAPE_DECAY:        return (struct how){ DECAY, 0 };
    case SHAPE_ROPE_FACTORS: break;
    }
    return (struct how){ FACTORS, 0 };
}

static float draw_one(const struct how *h, struct rng *r)
{
    double dt;

    switch (h->draw) {
    case NORMAL:  return (float)(h->scale * rng_normal(r));
    case ONE:     return 1.0f;
    case DECAY:   return (float)-(1 + 15 * rng_double(r));
    case UNIFORM: return (float)(h->scale * (2 * rng_double(r) - 1));
    case STEP:    /* the inverse of softplus */
        dt = exp(log(0.001) + rng_double(r) * (log(0.1) - log(0.001)));
        return (float)(dt + log(-expm1(-dt)));
    case ZERO:
    case FACTORS: break;
    }
    return 0.0f;
}

static int describe(void *arg, const struct shape_tensor *t)
{
    struct creation *c = arg;

    return gguf_writer_tensor(c->w, t->name, DTYPE_F32, t->n_dims, t->shape, c->e);
}

static int put_tensor(void *arg, const struct shape_tensor *t)
{
    struct creation *c = arg;
    const struct how h = how_of(c->s, t);
    uint64_t left = 1;
    struct rng r;
    int rc = 0;

    for (int i = 0; i < t->n_dims; i++)
        left *= (uint64_t)t->shape[i];
    rng_init(&r, rng_mix(c->o->seed + rng_mix(c->n_tensors++)));
    if (h.draw == FACTORS) {
        float *all = mem_array((size_t)left, sizeof *all);

        if (!all)
            return err_set(c->e, WATT_ENOMEM, "%s: out of memory", t->name);
        shape_rope_factors(c->s, all);
        rc = gguf_writer_data(c->w, all, (size_t)left * sizeof *all, c->e);
        mem_free(all);
        return rc;
    }
    while (rc == 0 && left > 0) {
        const size_t n = left < PIECE ? (size_t)left : PIECE;

        for (size_t i = 0; i < n; i++)
            c->buf[i] = draw_one(&h, &r);
        rc = gguf_writer_data(c->w, c->buf, n * sizeof *c->buf, c->e);
        left -= n;
    }
    return rc;
}

static int set_vocab(struct shape *s, const struct create_opts *o, struct err *e)
{
    const struct gguf_kv *kv = o->tokenizer ? gguf_find(o->tokenizer, "tokenizer.ggml.tokens") : NULL;

    if (o->tokenizer && (!kv || !kv->is_array || kv->n == 0 || kv->n > SHAPE_MAX_VOCAB))
        return err_set(e, WATT_EFORMAT, "%s: tokenizer.ggml.tokens is no list of 1 to %u tokens",
                       gguf_path(o->tokenizer), SHAPE_MAX_VOCAB);
    if (kv)
        s->n_vocab = (uint32_t)kv->n;
    else if (o->chars)
        s->n_vocab = o->n_chars;
    return shape_check(s, e);
}

int create_model(const char *path, const struct create_opts *o, struct err *e)
{
    struct shape s = o->shape;
    struct creation c = { .o = o, .s = &s, .e = e };
    int rc = set_vocab(&s, o, e);

    if (rc < 0)
        return rc;
    c.buf = mem_array(PIECE, sizeof *c.buf);
    rc = c.buf ? gguf_writer_open(&c.w, path, e) : err_set(e, WATT_ENOMEM, "%s: out of memory", path);
    if (rc == 0)
        rc = put_keys(&c);
    if (rc == 0)
        rc = shape_each_tensor(&s, describe, &c);
    if (rc == 0)
        rc = gguf_writer_begin(c.w, e);
    if (rc == 0)
        rc = shape_each_tensor(&s, put_tensor, &c);
    mem_free(c.buf);
    if (rc == 0)
        return gguf_writer_commit(c.w, e);
    gguf_writer_abort(c.w);
    return rc;
}

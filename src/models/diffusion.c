/* diffusion.c: see diffusion.h. */
#include "models/diffusion.h"

#include <string.h>

#include "base/mem.h"
#include "models/denoiser.h"

struct diffusion {
    struct session *s;
    uint32_t  seq, n_vocab, n_ctx;
    struct diffusion_opts o;        /* defaults filled in */
    int32_t   mask;
    uint32_t  shift;                /* 1: a row's logits are of the next position */
    int32_t  *ids;                  /* [n_ctx] prompt, answer, masks */
    float    *logits;               /* [block][n_vocab] */
    uint64_t *allowed;              /* bits of all tokens but the mask */
    struct denoiser *denoiser;
    struct sampler *sampler;        /* of the answer under way, or NULL */
    uint32_t  limit;                /* positions of prompt and answer at most */
    uint32_t  done;                 /* positions that are final */
    uint32_t  end;                  /* of the block under way; done: none is */
    uint32_t  kept;                 /* positions whose keys and values are final */
    uint32_t  step, n_masked;       /* of the block under way */
    uint64_t  n_steps;
};

bool diffusion_fits(const struct model *m)
{
    const struct model_facts *f = model_facts(m);

    return !f->causal && !f->embeds && f->n_out == f->n_vocab;
}

/* ---- opening ---- */

int diffusion_read(const struct model *m, const struct tokenizer *tok, struct diffusion_facts *f,
                   struct err *e)
{
    const char *path = gguf_path(model_gguf(m));
    bool shift = true;          /* of files that don't say, as the engines that came first have it */
    int rc;

    if (!diffusion_fits(m))
        return err_set(e, WATT_ENOTSUP, "%s: %s is no diffusion language model", path,
                       model_facts(m)->arch);
    f->mask = tok ? tokenizer_role(tok, TOKEN_MASK) : -1;
    if (f->mask < 0 || (uint32_t)f->mask >= model_facts(m)->n_vocab)
        return err_set(e, WATT_ENOTSUP, "%s: key tokenizer.ggml.mask_token_id is missing, expected "
                       "the token that blocks begin as", path);
    rc = gguf_get_bool(model_gguf(m), "diffusion.shift_logits", &shift, e);
    if (rc < 0 && rc != WATT_ENOENT)
        return rc;
    f->shift = shift;
    return 0;
}

void diffusion_fill(struct diffusion_opts *o)
{
    if (o->block == 0)
        o->block = DIFFUSION_BLOCK;
    if (o->steps == 0 || o->steps > o->block)
        o->steps = o->block;
}

int diffusion_check(const struct diffusion_opts *o, struct err *e)
{
    if (!(o->threshold >= 0 && o->threshold <= 1))
        return err_set(e, WATT_EINVAL, "diffusion: threshold %g is not in 0..1",
                       (double)o->threshold);
    if ((unsigned)o->algorithm > DIFFUSION_RANDOM || (unsigned)o->cache > DIFFUSION_CACHE_NONE)
        return err_set(e, WATT_EINVAL, "diffusion: algorithm %d with cache %d", (int)o->algorithm,
                       (int)o->cache);
    return 0;
}

static int check_opts(const struct diffusion *d, struct err *e)
{
    const struct diffusion_opts *o = &d->o;

    if (o->block > session_max_out(d->s))
        return err_set(e, WATT_ELIMIT, "diffusion: blocks of %u tokens, the session gives %u results "
                       "a step", o->block, session_max_out(d->s));
    return diffusion_check(o, e);
}

static int open_tables(struct diffusion *d, struct err *e)
{
    const size_t words = ((size_t)d->n_vocab + 63) / 64;

    d->ids = mem_array(d->n_ctx, sizeof *d->ids);
    d->logits = mem_array(d->o.block, d->n_vocab * sizeof *d->logits);
    d->allowed = mem_array(words, sizeof *d->allowed);
    if (!d->ids || !d->logits || !d->allowed)
        return err_set(e, WATT_ENOMEM, "diffusion: a block of %u tokens", d->o.block);
    memset(d->allowed, 0xFF, words * sizeof *d->allowed);
    d->allowed[d->mask / 64] &= ~(UINT64_C(1) << (d->mask % 64));
    return denoiser_open(&d->denoiser, &d->o, d->n_vocab, d->mask, e);
}

int diffusion_open(struct diffusion **out, struct session *s, uint32_t seq, const struct model *m,
                   const struct tokenizer *tok, const struct diffusion_opts *opts, struct err *e)
{
    struct diffusion_facts f;
    struct diffusion *d;
    int rc = diffusion_read(m, tok, &f, e);

    if (rc < 0)
        return rc;
    d = mem_calloc(1, sizeof *d);
    if (!d)
        return err_set(e, WATT_ENOMEM, "diffusion: header");
    *d = (struct diffusion){ .s = s, .seq = seq, .n_vocab = model_facts(m)->n_vocab, .mask = f.mask,
                             .shift = f.shift, .n_ctx = session_n_ctx(s) };
    if (opts)
        d->o = *opts;
    diffusion_fill(&d->o);
    rc = check_opts(d, e);
    if (rc == 0)
        rc = open_tables(d, e);
    if (rc < 0) {
        diffusion_close(d);
        return rc;
    }
    *out = d;
    return 0;
}

void diffusion_close(struct diffusion *d)
{
    if (!d)
        return;
    mem_free(d->ids);
    mem_free(d->logits);
    mem_free(d->allowed);
    denoiser_close(d->denoiser);
    mem_free(d);
}

int32_t diffusion_mask(const struct diffusion *d) { return d->mask; }
uint64_t diffusion_n_steps(const struct diffusion *d) { return d->n_steps; }

/* ---- running the model ---- */

/* Rows [from, to) on top of the first `from` positions; the results of [first, last) to logits. */
static int run_rows(struct diffusion *d, uint32_t from, uint32_t to, uint32_t first, uint32_t last,
                    struct err *e)
{
    const struct session_input in = {
        .seq = d->seq, .tokens = d->ids + from, .n_tokens = to - from,
        .want = last > first ? SESSION_SOME : SESSION_NONE,
        .first_wanted = first - from, .n_wanted = last - first,
    };
    int rc = session_truncate(d->s, d->seq, from, e);

    if (rc == 0)
        rc = session_eval(d->s, &in, 1, d->logits, e);
    return rc;
}

/* Keys and values of everything before the block, once. The last final token stays out where its
 * row gives the block's first logits: it is run with the block. */
static int keep_final(struct diffusion *d, struct err *e)
{
    const uint32_t upto = d->done - d->shift;
    int rc;

    if (d->o.cache != DIFFUSION_CACHE_BLOCK || d->kept >= upto)
        return 0;
    rc = run_rows(d, d->kept, d->done, d->kept, d->kept, e);
    if (rc == 0)
        d->kept = upto;
    return rc;
}

/* One forward pass for the logits of the block under way. */
static int forward(struct diffusion *d, struct err *e)
{
    const uint32_t first = d->done - d->shift, last = d->end - d->shift;

    switch (d->o.cache) {
    case DIFFUSION_CACHE_BLOCK:
        return run_rows(d, d->kept, d->end, first, last, e);
    case DIFFUSION_CACHE_PREFIX:
        return run_rows(d, d->step == 0 ? 0 : first, d->limit, first, last, e);
    case DIFFUSION_CACHE_NONE:
        break;
    }
    return run_rows(d, 0, d->limit, first, last, e);
}

/* Fixes some of the block's tokens by the logits of all its rows. */
static int choose(struct diffusion *d, uint32_t *n_fixed, struct err *e)
{
    const struct denoise_step step = {
        .block = d->ids + d->done, .n_block = d->end - d->done, .first_at = d->done,
        .step = d->step, .rows = d->logits, .sampler = d->sampler, .allowed = d->allowed,
    };
    int rc = denoiser_step(d->denoiser, &step, n_fixed, e);

    if (rc < 0)
        return rc;
    d->n_masked = (uint32_t)rc;
    return 0;
}

/* ---- answers ---- */

int diffusion_start(struct diffusion *d, const int32_t *ids, size_t n, uint32_t n_max,
                    struct sampler *sampler, struct err *e)
{
    if (n == 0)
        return err_set(e, WATT_EINVAL, "prompt: no tokens");
    if (n >= d->n_ctx)
        return err_set(e, WATT_ELIMIT, "context full: a prompt of %zu tokens leaves no room for an "
                       "answer in a context of %u", n, d->n_ctx);
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= d->n_vocab)
            return err_set(e, WATT_EINVAL, "token %d is not in the vocabulary of %u", ids[i],
                           d->n_vocab);
    session_reset(d->s, d->seq);
    memcpy(d->ids, ids, n * sizeof *ids);
    d->done = d->end = (uint32_t)n;
    d->limit = n_max && n_max < d->n_ctx - d->done ? d->done + n_max : d->n_ctx;
    for (uint32_t i = d->done; i < d->limit; i++)
        d->ids[i] = d->mask;
    d->kept = 0;
    d->step = d->n_masked = 0;
    d->n_steps = 0;
    d->sampler = sampler;
    denoiser_reset(d->denoiser, d->o.seed);
    return keep_final(d, e);
}

int diffusion_step(struct diffusion *d, struct diffusion_step *r, struct err *e)
{
    uint32_t n_fixed = 0;
    int rc;

    if (d->n_masked == 0) {         /* the next block */
        if (d->end >= d->limit)
            return err_set(e, WATT_EINVAL, "diffusion: the answer is complete");
        d->done = d->end;
        d->end = d->limit - d->done < d->o.block ? d->limit : d->done + d->o.block;
        d->n_masked = d->end - d->done;
        d->step = 0;
    }
    rc = keep_final(d, e);
    if (rc == 0)
        rc = forward(d, e);
    if (rc == 0)
        rc = choose(d, &n_fixed, e);
    if (rc < 0)
        return rc;
    d->step++;
    d->n_steps++;
    if (d->n_masked == 0 && d->sampler)
        for (uint32_t i = d->done; i < d->end; i++)
            sampler_accept(d->sampler, (uint32_t)d->ids[i]);
    *r = (struct diffusion_step){ .block = d->ids + d->done, .n_block = d->end - d->done,
                                  .n_fixed = n_fixed, .block_done = d->n_masked == 0,
                                  .done = d->n_masked == 0 && d->end == d->limit };
    return 0;
}

/* perplexity.c: windows over a text and what the model thinks of it; see perplexity.h. */
#include "models/perplexity.h"

#include <inttypes.h>
#include <math.h>

#include "base/mem.h"

struct run {
    struct perplexity *r;
    struct session    *s;
    const int32_t     *ids;
    size_t             n;
    const struct perplexity_opts *o;
    size_t             next;        /* first token that has not counted yet */
    int32_t           *tokens;      /* of one chunk */
    float             *logits;      /* [chunk][width] */
    double             block;       /* sum of the block under way */
    uint64_t           n_block, n_blocks;
    double             blocks, squares;     /* sums over whole blocks of their means */
};

/* -log of the softmax of x at `id`. */
static double surprise(const float *x, uint32_t n, uint32_t id)
{
    double max = x[0], sum = 0;

    for (uint32_t i = 1; i < n; i++)
        max = x[i] > max ? x[i] : max;
    for (uint32_t i = 0; i < n; i++)
        sum += exp(x[i] - max);
    return log(sum) + max - x[id];
}

static void count(struct run *w, const float *logits, size_t at)
{
    const double nats = surprise(logits, session_width(w->s), (uint32_t)w->ids[at]);

    if (w->r->n_scored++ == 0)
        w->r->first = at;
    w->r->nats += nats;
    w->block += nats;
    if (++w->n_block == PERPLEXITY_BLOCK) {
        const double mean = w->block / PERPLEXITY_BLOCK;

        w->blocks += mean;
        w->squares += mean * mean;
        w->n_blocks++;
        w->block = 0;
        w->n_block = 0;
    }
}

/* Token i of the window that starts at `start`: what the model reads there. */
static int32_t token_of(const struct run *w, size_t start, size_t i)
{
    if (w->o->bos < 0)
        return w->ids[start + i];
    return i == 0 ? w->o->bos : w->ids[start + i - 1];
}

/* Rows [at, at + n) of a window; row i predicts ids[start + i + 1], or with bos ids[start + i]. */
static int run_chunk(struct run *w, size_t start, size_t at, uint32_t n, struct err *e)
{
    const size_t shift = w->o->bos < 0;
    const bool counts = start + at + n + shift > w->next;
    const struct session_input in = { .tokens = w->tokens, .n_tokens = n,
                                      .want = counts ? SESSION_ALL : SESSION_NONE };
    int rc;

    for (uint32_t i = 0; i < n; i++)
        w->tokens[i] = token_of(w, start, at + i);
    rc = session_eval(w->s, &in, 1, counts ? w->logits : NULL, e);
    if (rc < 0)
        return rc;
    w->r->n_run += n;
    for (uint32_t i = 0; counts && i < n; i++) {
        const size_t id = start + at + i + shift;

        if (id == w->next && id < w->n) {
            count(w, w->logits + (size_t)i * session_width(w->s), id);
            w->next++;
        }
    }
    return 0;
}

static int run_window(struct run *w, size_t start, struct err *e)
{
    const size_t left = w->n - start + (w->o->bos < 0 ? 0 : 1);
    const size_t len = left < w->o->ctx ? left : w->o->ctx;
    const uint32_t chunk = session_max_rows(w->s);
    int rc = 0;

    session_reset(w->s, 0);
    if (w->next < start + 1 && w->o->bos < 0)
        w->next = start + 1;        /* nothing in front of a window's first token */
    for (size_t at = 0; rc == 0 && at < len; at += chunk) {
        if (w->o->progress && w->o->progress(w->o->progress_ctx, w->next, w->n) != 0)
            rc = err_set(e, WATT_ECANCEL, "cancelled after %zu of %zu tokens", w->next, w->n);
        if (rc == 0)
            rc = run_chunk(w, start, at, len - at < chunk ? (uint32_t)(len - at) : chunk, e);
    }
    w->r->n_windows++;
    return rc;
}

static int check(const struct session *s, const int32_t *ids, size_t n,
                 const struct perplexity_opts *o, struct err *e)
{
    if (n < 2)
        return err_set(e, WATT_EINVAL, "a text of %zu tokens: at least 2 are needed", n);
    if (o->ctx < 2 || o->stride < 1 || o->stride > o->ctx || o->ctx > session_n_ctx(s))
        return err_set(e, WATT_EINVAL, "windows of %u tokens every %u: the first must be in 2..%u, "
                       "the second at most as many", o->ctx, o->stride, session_n_ctx(s));
    for (size_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= session_width(s))
            return err_set(e, WATT_EINVAL, "token %d has no logit among %u", ids[i],
                           session_width(s));
    return 0;
}

int perplexity_measure(struct perplexity *out, struct session *s, const int32_t *ids, size_t n,
                       const struct perplexity_opts *o, struct err *e)
{
    struct perplexity r = { .stderr_mean = -1 };
    struct run w = { .r = &r, .s = s, .ids = ids, .n = n, .o = o };
    int rc = check(s, ids, n, o, e);

    if (rc < 0)
        return rc;
    w.tokens = mem_array(session_max_rows(s), sizeof *w.tokens);
    w.logits = mem_array(session_max_rows(s), session_width(s) * sizeof *w.logits);
    if (!w.tokens || !w.logits)
        rc = err_set(e, WATT_ENOMEM, "logits of %u rows", session_max_rows(s));
    for (size_t start = 0; rc == 0 && w.next < n; start += o->stride)
        rc = run_window(&w, start, e);
    session_reset(s, 0);
    mem_free(w.tokens);
    mem_free(w.logits);
    if (rc < 0)
        return rc;
    r.mean = r.nats / (double)r.n_scored;
    if (w.n_blocks > 1) {
        const double k = (double)w.n_blocks, mean = w.blocks / k;
        const double variance = (w.squares - k * mean * mean) / (k - 1);

        r.stderr_mean = sqrt((variance > 0 ? variance : 0) / k);
    }
    *out = r;
    return 0;
}

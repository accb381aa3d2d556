/* embed.c: texts to vectors in steps of several texts; see embed.h. */
#include "models/embed.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "chips/kv_layout.h"
#include "models/embed_pair.h"

#define DEFAULT_TEXTS 16u
#define MIN_STEP_ROWS 512u

/* A text of the step under construction. */
struct item {
    size_t   index;
    uint32_t first, n;      /* in ids and types */
};

struct embedder {
    struct embedder_opts o;         /* defaults filled in */
    struct model     *m;
    struct tokenizer *tok;
    struct tokenizer_scratch *scratch;
    struct session   *s;
    enum pooling      pooling;
    enum session_want want;
    uint32_t          width, step_rows;
    struct pair_style pair;
    /* the step under construction */
    struct tokens     ids;          /* of all its texts */
    int32_t          *types;        /* [step_rows] */
    struct item      *items;        /* [n_texts] */
    struct session_input *inputs;   /* [n_texts] */
    uint32_t          n_items;
    float            *rows;         /* results of a step */
};

const char *pooling_name(enum pooling p)
{
    static const char *const names[] = { "file", "none", "mean", "cls", "last", "rank" };

    return (unsigned)p < sizeof names / sizeof *names ? names[p] : "?";
}

/* ---- opening ---- */

static uint32_t at_most(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static enum session_want want_of(enum pooling p)
{
    switch (p) {
    case POOLING_NONE: return SESSION_ALL;
    case POOLING_CLS:  return SESSION_FIRST;
    case POOLING_LAST: return SESSION_LAST;
    case POOLING_FILE:
    case POOLING_MEAN:
    case POOLING_RANK: break;
    }
    return SESSION_NONE;
}

/* Every text of a step is alone in its sequence, so the pool need not hold n_texts whole
 * contexts: a step's rows, and a page begun per text. */
static int size_cache(struct embedder *x, struct session_opts *so, struct err *e)
{
    struct session_memory m;
    const uint64_t pages = (uint64_t)x->step_rows / KV_PAGE_TOKENS + so->n_seqs;
    const uint64_t all = (uint64_t)so->n_seqs * ((so->n_ctx - 1) / KV_PAGE_TOKENS + 1);
    const int rc = session_plan(x->m, so, &m, e);

    if (rc == 0 && pages < all)
        so->kv_bytes = m.kv / all * pages;
    return rc;
}

static int open_session(struct embedder *x, struct err *e)
{
    const struct model_facts *f = model_facts(x->m);
    struct session_opts so = x->o.session;
    const uint32_t trained = f->n_ctx_train ? f->n_ctx_train : MIN_STEP_ROWS;
    int rc;

    if (x->o.max_tokens == 0)
        x->o.max_tokens = at_most(trained, EMBED_MAX_TOKENS);
    x->step_rows = x->o.max_tokens > MIN_STEP_ROWS ? x->o.max_tokens : MIN_STEP_ROWS;
    so.n_ctx = x->o.max_tokens;
    so.n_seqs = x->o.n_texts;
    so.max_rows = f->whole_inputs ? x->step_rows : MIN_STEP_ROWS;
    so.max_out = x->want == SESSION_ALL ? so.max_rows : so.n_seqs;
    so.n_marks = 0;
    so.share = NULL;
    if (!so.kv_set) {           /* nothing stays in the cache, so it may as well be exact */
        so.kv_set = true;
        so.k_dtype = so.v_dtype = DTYPE_F32;
    }
    rc = size_cache(x, &so, e);
    return rc < 0 ? rc : session_open(&x->s, x->m, &so, e);
}

static int open_buffers(struct embedder *x, struct err *e)
{
    const size_t n_rows = x->want == SESSION_ALL ? x->step_rows : x->o.n_texts;

    x->types = mem_calloc(x->step_rows, sizeof *x->types);
    x->items = mem_calloc(x->o.n_texts, sizeof *x->items);
    x->inputs = mem_calloc(x->o.n_texts, sizeof *x->inputs);
    x->rows = mem_array(n_rows, session_width(x->s) * sizeof *x->rows);
    if (!x->types || !x->items || !x->inputs || !x->rows)
        return err_set(e, WATT_ENOMEM, "embeddings: a step of %u tokens", x->step_rows);
    return 0;
}

static int open_parts(struct embedder *x, const char *path, struct err *e)
{
    int rc = model_open(&x->m, path, &x->o.model, e);

    if (rc < 0)
        return rc;
    x->pooling = model_facts(x->m)->ranks ? POOLING_RANK : model_facts(x->m)->pooling;
    x->want = want_of(model_facts(x->m)->pooling);
    rc = tokenizer_open(&x->tok, model_gguf(x->m), e);
    if (rc == 0)
        rc = tokenizer_scratch_open(&x->scratch, x->tok, e);
    if (rc == 0)
        rc = pair_style_read(&x->pair, x->m, x->tok, e);
    if (rc == 0)
        rc = open_session(x, e);
    if (rc == 0)
        rc = open_buffers(x, e);
    if (rc < 0)
        return rc;
    x->width = session_width(x->s);
    if (x->o.n_dims > x->width)
        return err_set(e, WATT_EINVAL, "%s: %u dimensions asked for, its embeddings have %u", path,
                       x->o.n_dims, x->width);
    if (x->o.n_dims)
        x->width = x->o.n_dims;
    return 0;
}

int embedder_open(struct embedder **out, const char *path, const struct embedder_opts *opts,
                  struct err *e)
{
    struct embedder *x = mem_calloc(1, sizeof *x);
    int rc;

    if (!x)
        return err_set(e, WATT_ENOMEM, "embeddings: header");
    x->o = opts ? *opts : (struct embedder_opts){ 0 };
    if (x->o.n_texts == 0)
        x->o.n_texts = DEFAULT_TEXTS;
    x->o.model.embed = true;
    x->o.model.pooling = x->o.pooling;
    x->o.model.n_ctx = x->o.max_tokens;
    rc = open_parts(x, path, e);
    if (rc < 0) {
        embedder_close(x);
        return rc;
    }
    *out = x;
    return 0;
}

void embedder_close(struct embedder *x)
{
    if (!x)
        return;
    session_close(x->s);
    tokenizer_scratch_close(x->scratch);
    tokenizer_close(x->tok);
    model_close(x->m);
    tokens_deinit(&x->ids);
    mem_free(x->types);
    mem_free(x->items);
    mem_free(x->inputs);
    mem_free(x->rows);
    mem_free(x);
}

const struct model *embedder_model(const struct embedder *x) { return x->m; }
const struct tokenizer *embedder_tokenizer(const struct embedder *x) { return x->tok; }
uint32_t embedder_width(const struct embedder *x) { return x->width; }
uint32_t embedder_max_tokens(const struct embedder *x) { return x->o.max_tokens; }
enum pooling embedder_pooling(const struct embedder *x) { return x->pooling; }

/* ---- tokens ---- */

static int too_long(const struct embedder *x, size_t index, size_t n, struct err *e)
{
    return err_set(e, WATT_ELIMIT, "text %zu: %zu tokens, at most %u", index + 1, n,
                   x->o.max_tokens);
}

/* Cuts ids[first, n) to max_tokens; what ends it (sep, eos) stays at its end. */
static void cut_end(struct embedder *x, size_t first)
{
    const int32_t last = x->ids.ids[x->ids.n - 1];
    const bool ends = last == tokenizer_role(x->tok, TOKEN_SEP) || last == tokenizer_eos(x->tok);

    x->ids.n = first + x->o.max_tokens;
    if (ends)
        x->ids.ids[x->ids.n - 1] = last;
}

static int append_ids(struct embedder *x, const struct embed_input *in, struct err *e)
{
    if (!tokens_reserve(&x->ids, in->n_ids))
        return err_set(e, WATT_ENOMEM, "embeddings: %u ids", in->n_ids);
    memcpy(x->ids.ids + x->ids.n, in->ids, in->n_ids * sizeof *in->ids);
    x->ids.n += in->n_ids;
    return 0;
}

/* Puts a text's ids behind those of the step. */
static int append_text(struct embedder *x, const struct embed_input *in, size_t index,
                       struct err *e)
{
    const size_t first = x->ids.n;
    int rc = in->ids ? append_ids(x, in, e)
                     : tokenizer_encode(x->tok, x->scratch, in->text.data, in->text.len,
                                        TOKENIZE_ADD_SPECIAL, &x->ids, e);

    if (rc < 0)
        return rc;
    if (x->ids.n == first)
        return err_set(e, WATT_EINVAL, "text %zu: no tokens", index + 1);
    if (x->ids.n - first > x->o.max_tokens) {
        if (!x->o.truncate)
            return too_long(x, index, x->ids.n - first, e);
        cut_end(x, first);
    }
    return 0;
}

/* ---- steps ---- */

struct sink {
    int  (*each)(void *ctx, const struct embedded *r);
    void  *ctx;
};

/* In double: the length of a long vector in f32 would cost a digit. */
static void normalise(float *v, uint32_t n)
{
    double sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += (double)v[i] * v[i];
    if (sum > 0)
        for (uint32_t i = 0; i < n; i++)
            v[i] = (float)(v[i] / sqrt(sum));
}

/* Rows of a text to their final width and length, close together. */
static void finish_rows(const struct embedder *x, float *rows, uint32_t n)
{
    const uint32_t full = session_width(x->s);

    for (uint32_t r = 0; r < n; r++) {
        float *to = rows + (size_t)r * x->width;

        memmove(to, rows + (size_t)r * full, x->width * sizeof *to);
        if (!x->o.raw && x->pooling != POOLING_RANK)
            normalise(to, x->width);
    }
}

static int hand_out(struct embedder *x, const struct sink *sink, struct err *e)
{
    float *at = x->rows;

    for (uint32_t i = 0; i < x->n_items; i++) {
        const uint32_t n = x->items[i].n, n_rows = x->want == SESSION_ALL ? n : 1;
        const struct embedded r = { .index = x->items[i].index, .rows = at, .n_rows = n_rows,
                                    .n_tokens = n };

        finish_rows(x, at, n_rows);
        if (sink->each(sink->ctx, &r) != 0)
            return err_set(e, WATT_ECANCEL, "embeddings: stopped at text %zu", r.index + 1);
        at += (size_t)n_rows * session_width(x->s);
    }
    return 0;
}

/* Runs the texts gathered so far. */
static int flush(struct embedder *x, const struct sink *sink, struct err *e)
{
    int rc;

    if (x->n_items == 0)
        return 0;
    for (uint32_t i = 0; i < x->n_items; i++) {
        session_reset(x->s, i);
        x->inputs[i] = (struct session_input){
            .seq = i, .tokens = x->ids.ids + x->items[i].first, .n_tokens = x->items[i].n,
            .want = x->want, .types = x->types + x->items[i].first,
        };
    }
    rc = session_eval(x->s, x->inputs, x->n_items, x->rows, e);
    if (rc == 0)
        rc = hand_out(x, sink, e);
    for (uint32_t i = 0; i < x->n_items; i++)
        session_reset(x->s, i);
    x->ids.n = 0;
    x->n_items = 0;
    return rc;
}

/* The ids from `first` on are text `index`, of segment 1 from `second` on; runs what came
 * before when both don't fit a step. */
static int add_item(struct embedder *x, size_t index, size_t first, size_t second,
                    const struct sink *sink, struct err *e)
{
    const uint32_t n = (uint32_t)(x->ids.n - first);

    if (x->n_items == x->o.n_texts || x->ids.n > x->step_rows) {
        int32_t *own = x->ids.ids + first;
        const size_t split = second - first;
        int rc;

        x->ids.n = first;
        rc = flush(x, sink, e);
        if (rc < 0)
            return rc;
        memmove(x->ids.ids, own, n * sizeof *own);
        x->ids.n = n;
        first = 0;
        second = split;
    }
    for (size_t i = first; i < x->ids.n; i++)
        x->types[i] = i >= second;
    x->items[x->n_items++] = (struct item){ .index = index, .first = (uint32_t)first, .n = n };
    return 0;
}

static void begin(struct embedder *x)
{
    x->ids.n = 0;
    x->n_items = 0;
}

int embedder_run(struct embedder *x, const struct embed_input *in, size_t n,
                 int (*each)(void *ctx, const struct embedded *r), void *ctx, struct err *e)
{
    const struct sink sink = { each, ctx };
    int rc = 0;

    begin(x);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const size_t first = x->ids.n;

        rc = append_text(x, &in[i], i, e);
        if (rc == 0)
            rc = add_item(x, i, first, x->ids.n, &sink, e);
    }
    return rc == 0 ? flush(x, &sink, e) : rc;
}

/* ---- ranking ---- */

struct scores { float *out; uint64_t n_tokens; };

static int take_score(void *ctx, const struct embedded *r)
{
    struct scores *s = ctx;

    s->out[r->index] = r->rows[0];
    s->n_tokens += r->n_tokens;
    return 0;
}

int embedder_rank(struct embedder *x, struct sv query, const struct sv *docs, size_t n,
                  float *scores, uint64_t *n_tokens, struct err *e)
{
    struct scores taken = { .out = scores };
    const struct sink sink = { take_score, &taken };
    const struct pair_request q = { .query = query, .max_tokens = x->o.max_tokens,
                                    .truncate = x->o.truncate };
    int rc = 0;

    if (x->pooling != POOLING_RANK)
        return err_set(e, WATT_EINVAL, "%s: pools by %s, scores need a model opened with rank "
                       "pooling", gguf_path(model_gguf(x->m)), pooling_name(x->pooling));
    begin(x);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const size_t first = x->ids.n;
        size_t second = 0;

        rc = pair_encode(&x->pair, x->tok, x->scratch, &q, docs[i], &x->ids, &second, e);
        if (rc < 0)
            return err_prefix(e, "document %zu", i + 1);
        rc = add_item(x, i, first, second, &sink, e);
    }
    if (rc == 0)
        rc = flush(x, &sink, e);
    if (rc == 0 && n_tokens)
        *n_tokens = taken.n_tokens;
    return rc;
}

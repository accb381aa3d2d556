/* watt_embed.c: the embeddings of the public API over models/embed.h; see include/watt.h. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "models/embed.h"
#include "models/watt_internal.h"

struct watt_embedder { struct embedder *x; };

static int read_options(struct embedder_opts *to, const struct watt_embedder_options *from,
                        struct err *e)
{
    static const enum pooling poolings[] = {
        [WATT_POOLING_DEFAULT] = POOLING_FILE, [WATT_POOLING_MEAN] = POOLING_MEAN,
        [WATT_POOLING_CLS] = POOLING_CLS, [WATT_POOLING_LAST] = POOLING_LAST,
        [WATT_POOLING_RANK] = POOLING_RANK,
    };
    struct watt_embedder_options o = { 0 };

    if (from)
        memcpy(&o, from, from->size < sizeof o ? from->size : sizeof o);
    if ((unsigned)o.pooling > WATT_POOLING_RANK)
        return err_set(e, WATT_EINVAL, "pooling is %u, which names none", (unsigned)o.pooling);
    *to = (struct embedder_opts){ .pooling = poolings[o.pooling], .raw = o.raw != 0,
                                  .truncate = o.truncate != 0, .max_tokens = o.max_tokens,
                                  .n_dims = o.n_dims, .session.n_threads = o.n_threads };
    return watt_read_isa(o.isa, &to->session.isa_mask, e);
}

int watt_embedder_open(struct watt_embedder **out, const char *path,
                       const struct watt_embedder_options *options, struct watt_error_info *e)
{
    struct embedder_opts o;
    struct watt_embedder *x;
    struct err why = { 0 };
    int rc;

    if (!out || !path || (options && options->size < sizeof options->size))
        return watt_refuse(e, WATT_EINVAL,
                           "watt_embedder_open: an argument is NULL or options->size is "
                           "not set");
    rc = read_options(&o, options, &why);
    if (rc < 0)
        return watt_told(e, rc, &why);
    x = mem_calloc(1, sizeof *x);
    if (!x)
        return watt_refuse(e, WATT_ENOMEM, "watt_embedder_open: out of memory");
    rc = embedder_open(&x->x, path, &o, &why);
    if (rc == 0 && embedder_pooling(x->x) == POOLING_NONE)
        rc = err_set(&why, WATT_ENOTSUP, "%s: pools by none", path);
    if (rc < 0) {
        watt_embedder_close(x);
        return watt_told(e, rc, &why);
    }
    *out = x;
    return 0;
}

void watt_embedder_close(struct watt_embedder *x)
{
    if (!x)
        return;
    embedder_close(x->x);
    mem_free(x);
}

uint32_t watt_embedder_width(const struct watt_embedder *x)
{
    return x ? embedder_width(x->x) : 0;
}

struct copying { float *out; uint32_t width; uint64_t n_tokens; };

static int copy_row(void *ctx, const struct embedded *r)
{
    struct copying *c = ctx;

    memcpy(c->out + r->index * c->width, r->rows, c->width * sizeof *c->out);
    c->n_tokens += r->n_tokens;
    return 0;
}

int watt_embed(struct watt_embedder *x, const char *const *texts, size_t n, float *out,
               uint64_t *n_tokens, struct watt_error_info *e)
{
    struct copying c = { .out = out, .width = watt_embedder_width(x) };
    struct embed_input *in;
    struct err why = { 0 };
    int rc;

    if (!x || (n > 0 && (!texts || !out)))
        return watt_refuse(e, WATT_EINVAL, "watt_embed: an argument is NULL");
    in = mem_calloc(n + 1, sizeof *in);
    if (!in)
        return watt_refuse(e, WATT_ENOMEM, "watt_embed: out of memory");
    for (size_t i = 0; i < n; i++)
        in[i].text = sv_cstr(texts[i] ? texts[i] : "");
    rc = embedder_run(x->x, in, n, copy_row, &c, &why);
    mem_free(in);
    if (rc == 0 && n_tokens)
        *n_tokens = c.n_tokens;
    return watt_told(e, rc, &why);
}

int watt_rerank(struct watt_embedder *x, const char *query, const char *const *documents, size_t n,
                float *scores, uint64_t *n_tokens, struct watt_error_info *e)
{
    struct sv *docs;
    struct err why = { 0 };
    int rc;

    if (!x || !query || (n > 0 && (!documents || !scores)))
        return watt_refuse(e, WATT_EINVAL, "watt_rerank: an argument is NULL");
    docs = mem_calloc(n + 1, sizeof *docs);
    if (!docs)
        return watt_refuse(e, WATT_ENOMEM, "watt_rerank: out of memory");
    for (size_t i = 0; i < n; i++)
        docs[i] = sv_cstr(documents[i] ? documents[i] : "");
    rc = embedder_rank(x->x, sv_cstr(query), docs, n, scores, n_tokens, &why);
    mem_free(docs);
    return watt_told(e, rc, &why);
}

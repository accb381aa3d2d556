/* rope.c: rotary positions of config.json: rope_parameters or rope_theta and rope_scaling.
 *
 * Types: default, linear, yarn (Peng et al. 2023, arXiv 2309.00071), llama3 (the factors of
 * each frequency are computed here, as GGUF files carry them), longrope or su (arXiv
 * 2402.13753). "dynamic" changes nothing up to the trained context and counts as default. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/hf/internal.h"

#define TWO_PI 6.283185307179586

struct rope {
    struct json_place at;       /* rope_parameters, rope_scaling, or their full_attention part */
    bool              have;
    const char       *type;
    double            base;
};

static int get_double(const struct rope *r, const char *key, double otherwise, double *out,
                      struct err *e)
{
    *out = otherwise;
    return r->have ? json_get_double(&r->at, key, otherwise, 0, 1e30, out, e) : 0;
}

static int put_local_base(struct hf *h, const struct json_place *parameters, struct err *e)
{
    struct json_place local;
    double base = 0;
    float old;
    int rc = hf_f32(h, "rope_local_base_freq|local_rope_theta", 0, &old, e);

    if (rc == 0 && parameters->value) {
        rc = json_find(parameters, "sliding_attention", &local, e);
        if (rc == 0 && local.value)
            rc = json_get_double(&local, "rope_theta", 0, 0, 1e30, &base, e);
    }
    if (rc == 0 && base == 0)
        base = (double)old;
    if (rc == 0 && base > 0)
        hf_put_f32(h, "rope.freq_base_swa", (float)base);
    return rc;
}

static int find_rope(struct hf *h, struct rope *r, struct err *e)
{
    static struct json_place none;
    struct json_place parent, full;
    float base;
    int rc = hf_f32(h, "rope_theta|rotary_emb_base|global_rope_theta", 10000, &base, e);

    if (rc == 0)
        rc = hf_field(h, "rope_parameters|rope_scaling", &parent, e);
    if (rc < 0)
        return rc;
    *r = (struct rope){ .type = "default", .base = (double)base };
    if (parent.value && !json_is_object(parent.value))
        return json_refuse(&parent, e, WATT_EFORMAT, "expected an object");
    rc = put_local_base(h, parent.value ? &parent : &none, e);
    if (rc < 0 || !parent.value)
        return rc;
    rc = json_find(&parent, "full_attention", &full, e);
    if (rc < 0)
        return rc;
    r->at = parent;
    r->have = true;
    if (full.value) {
        /* the place must outlive this call: it stands in the document as a child of text */
        r->at = full;
        r->at.parent = &h->text;
    }
    rc = json_get_cstr(&r->at, "type", "default", &r->type, e);
    if (rc == 0)
        rc = json_get_cstr(&r->at, "rope_type", r->type, &r->type, e);
    return rc == 0 ? get_double(r, "rope_theta", r->base, &r->base, e) : rc;
}

static int put_n_rot(struct hf *h, const struct rope *r, struct err *e)
{
    float whole;
    double share;
    int rc = hf_f32(h, "partial_rotary_factor|rotary_pct|rope_pct|rope_percent", 1, &whole, e);

    if (rc == 0)
        rc = get_double(r, "partial_rotary_factor", (double)whole, &share, e);
    if (rc < 0)
        return rc;
    if (h->n_rot == 0)
        h->n_rot = (uint32_t)(share * (double)h->head_dim);
    if (!(share > 0 && share <= 1) || h->n_rot == 0 || h->n_rot % 2 != 0)
        return json_refuse(&h->text, e, WATT_EFORMAT, "partial_rotary_factor %g of a head of %"
                           PRIu32 " columns", share, h->head_dim);
    if (!hf_has(h, "rope.dimension_count"))
        hf_put_u32(h, "rope.dimension_count", h->n_rot);
    return 0;
}

/* What each frequency is divided by: long waves by factor, short ones by 1, between them the
 * mean weighted by how often the wave fits into the original context. */
static int put_llama3(struct hf *h, const struct rope *r, struct err *e)
{
    double factor, low, high, ctx;
    float *out;
    int rc = get_double(r, "factor", 8, &factor, e);

    if (rc == 0)
        rc = get_double(r, "low_freq_factor", 1, &low, e);
    if (rc == 0)
        rc = get_double(r, "high_freq_factor", 4, &high, e);
    if (rc == 0)
        rc = get_double(r, "original_max_position_embeddings", 8192, &ctx, e);
    if (rc < 0)
        return rc;
    if (!(factor >= 1 && low > 0 && high > low && ctx >= 1 && r->base > 1))
        return json_refuse(&r->at, e, WATT_EFORMAT, "llama3 scaling with factor %g, low %g, high "
                           "%g, original context %g", factor, low, high, ctx);
    out = hf_make(h, "rope_freqs.weight", h->n_rot / 2, e);
    if (!out)
        return WATT_ENOMEM;
    for (uint32_t i = 0; i < h->n_rot / 2; i++) {
        const double wave = TWO_PI * pow(r->base, 2.0 * i / h->n_rot);
        const double smooth = (ctx / wave - low) / (high - low);

        out[i] = wave < ctx / high ? 1 : wave > ctx / low ? (float)factor
               : (float)(1 / ((1 - smooth) / factor + smooth));
    }
    return 0;
}

/* 0.1 m ln(factor) + 1 */
static double magnitude(double factor, double m)
{
    return factor > 1 ? 0.1 * m * log(factor) + 1 : 1;
}

static int put_yarn(struct hf *h, const struct rope *r, struct err *e)
{
    const bool latent = hf_has(h, "attention.kv_lora_rank");
    double factor, ctx, fast, slow, attn, m, m_all;
    bool truncate;
    int rc = get_double(r, "factor", 1, &factor, e);

    if (rc == 0)
        rc = get_double(r, "original_max_position_embeddings", (double)h->n_ctx, &ctx, e);
    if (rc == 0)
        rc = get_double(r, "beta_fast", 32, &fast, e);
    if (rc == 0)
        rc = get_double(r, "beta_slow", 1, &slow, e);
    if (rc == 0)
        rc = get_double(r, "attention_factor", 0, &attn, e);
    if (rc == 0)
        rc = get_double(r, "mscale", 0, &m, e);
    if (rc == 0)
        rc = get_double(r, "mscale_all_dim", 0, &m_all, e);
    if (rc == 0)
        rc = json_get_bool(&r->at, "truncate", true, &truncate, e);
    if (rc < 0)
        return rc;
    if (!(factor >= 1 && ctx >= 1 && ctx < 1e9 && fast > slow && slow > 0))
        return json_refuse(&r->at, e, WATT_EFORMAT, "yarn with factor %g, original context %g, "
                           "betas %g and %g", factor, ctx, fast, slow);
    hf_put_str(h, "rope.scaling.type", "yarn");
    hf_put_f32(h, "rope.scaling.factor", (float)factor);
    hf_put_u32(h, "rope.scaling.original_context_length", (uint32_t)ctx);
    hf_put_f32(h, "rope.scaling.yarn_beta_fast", (float)fast);
    hf_put_f32(h, "rope.scaling.yarn_beta_slow", (float)slow);
    if (!truncate)
        hf_put_bool(h, "rope.scaling.yarn_truncate", false);
    if (attn == 0 && m > 0 && m_all > 0)
        attn = magnitude(factor, m) / magnitude(factor, m_all);
    if (latent) {   /* the scores' magnitude too; stored as a tenth */
        if (m_all > 0)
            hf_put_f32(h, "rope.scaling.yarn_log_multiplier", (float)(0.1 * m_all));
    } else if (attn > 0) {
        hf_put_f32(h, "rope.scaling.attn_factor", (float)(attn / magnitude(factor, 1)));
    }
    return 0;
}

static int put_factors(struct hf *h, const struct rope *r, const char *field, const char *name,
                       struct err *e)
{
    struct json_place list;
    size_t n;
    float *out;
    int rc = json_need(&r->at, field, &list, e);

    if (rc == 0)
        rc = json_read_array(&list, 1u << 16, &n, e);
    if (rc < 0)
        return rc;
    if (n != h->n_rot / 2)
        return json_refuse(&list, e, WATT_EFORMAT, "%zu factors, expected %" PRIu32, n,
                           h->n_rot / 2);
    out = hf_make(h, name, (uint32_t)n, e);
    if (!out)
        return WATT_ENOMEM;
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct json_place item = json_item(&list, i);
        double v = 1;

        rc = json_read_double(&item, 1e-6, 1e6, &v, e);
        out[i] = (float)v;
    }
    return rc;
}

static int put_longrope(struct hf *h, const struct rope *r, struct err *e)
{
    double ctx, factor, attn;
    uint32_t original;
    int rc = hf_u32(h, "original_max_position_embeddings", h->n_ctx, &original, e);

    if (rc == 0)
        rc = get_double(r, "original_max_position_embeddings", (double)original, &ctx, e);
    if (rc == 0)
        rc = get_double(r, "factor", (double)h->n_ctx / ctx, &factor, e);
    if (rc == 0)
        rc = get_double(r, "attention_factor", 0, &attn, e);
    if (rc < 0)
        return rc;
    if (!(ctx > 1 && ctx < 1e9))
        return json_refuse(&r->at, e, WATT_EFORMAT, "longrope with an original context of %g",
                           ctx);
    if (attn == 0)
        attn = factor > 1 ? sqrt(1 + log(factor) / log(ctx)) : 1;
    hf_put_str(h, "rope.scaling.type", "longrope");
    hf_put_u32(h, "rope.scaling.original_context_length", (uint32_t)ctx);
    hf_put_f32(h, "rope.scaling.attn_factor", (float)attn);
    rc = put_factors(h, r, "long_factor", "rope_factors_long.weight", e);
    return rc == 0 ? put_factors(h, r, "short_factor", "rope_factors_short.weight", e) : rc;
}

static int put_linear(struct hf *h, const struct rope *r, struct err *e)
{
    double factor;
    int rc = get_double(r, "factor", 1, &factor, e);

    if (rc == 0 && !(factor >= 1e-3))
        return json_refuse(&r->at, e, WATT_EFORMAT, "linear scaling with factor %g", factor);
    if (rc == 0 && factor != 1) {
        hf_put_str(h, "rope.scaling.type", "linear");
        hf_put_f32(h, "rope.scaling.factor", (float)factor);
    }
    return rc;
}

int hf_rope(struct hf *h, struct err *e)
{
    static const struct {
        const char *type;
        int       (*put)(struct hf *h, const struct rope *r, struct err *e);
    } types[] = {
        { "default", NULL }, { "dynamic", NULL }, { "mrope", NULL }, { "linear", put_linear },
        { "yarn", put_yarn }, { "llama3", put_llama3 }, { "longrope", put_longrope },
        { "su", put_longrope },
    };
    struct rope r;
    int rc = find_rope(h, &r, e);

    if (rc == 0)
        rc = put_n_rot(h, &r, e);
    if (rc < 0)
        return rc;
    if (!(r.base > 0 && r.base < 1e30))
        return json_refuse(&h->text, e, WATT_EFORMAT, "rope_theta is %g", r.base);
    hf_put_f32(h, "rope.freq_base", (float)r.base);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].type, r.type) == 0)
            return types[i].put ? types[i].put(h, &r, e) : 0;
    return json_refuse(&r.at, e, WATT_ENOTSUP, "rope_type is '%.40s', known are default, dynamic, "
                       "linear, yarn, llama3, longrope", r.type);
}

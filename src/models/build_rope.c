/* build_rope.c: rotary positions as a file's keys and tensors describe them.
 *
 * Scaling types: none, linear, yarn (Peng et al. 2023, arXiv 2309.00071), longrope
 * (arXiv 2402.13753). The magnitude of YaRN is 0.1 ln(factor) + 1, or the ratio of two such
 * terms where rope.scaling.yarn_log_multiplier names the divisor (DeepSeek-V2's
 * mscale_all_dim); chips/rope multiplies by the plain term itself, so it is divided out. */
#include <math.h>

#include "models/build_internal.h"

/* 0.1 m ln(factor) + 1 for an interpolation factor above 1. */
static double yarn_magnitude(double factor, double m)
{
    return factor <= 1 ? 1 : 0.1 * m * log(factor) + 1;
}

static float yarn_attn_factor(double factor, double log_multiplier)
{
    double m = yarn_magnitude(factor, 1);

    if (log_multiplier != 0)
        m /= yarn_magnitude(factor, log_multiplier);
    return (float)(m / (1 + 0.1 * log(factor)));
}

/* A negative factor means unset too. */
static float ext_factor(struct build *b, bool yarn)
{
    const float v = build_f32(b, "rope.scaling.yarn_ext_factor", -1);

    return v >= 0 ? v : yarn ? 1 : 0;
}

/* A type that nobody here knows must not be computed as if it were plain. */
static void check_type(struct build *b)
{
    static const char *const known[] = { "none", "linear", "yarn", "longrope", "" };

    if (!build_set(b, "rope.scaling.type"))
        return;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (build_str_is(b, "rope.scaling.type", known[i]))
            return;
    prog_fail(b->p, WATT_ENOTSUP, "%s: key %s.rope.scaling.type names a scaling other than none, "
              "linear, yarn and longrope", gguf_path(b->g), b->arch);
}

void build_read_rope(struct build *b, enum rope_pairing pairing)
{
    const bool none = build_str_is(b, "rope.scaling.type", "none");
    const bool yarn = build_str_is(b, "rope.scaling.type", "yarn");
    const float factor = build_f32(b, "rope.scaling.factor", build_f32(b, "rope.scale_linear", 1));
    struct rope_args *r = &b->rope;

    check_type(b);
    *r = (struct rope_args){
        .pairing = pairing,
        .n_rot = build_u32(b, "rope.dimension_count", 0),
        .base = build_f32(b, "rope.freq_base", 10000),
        .freq_scale = none ? 1 : 1 / factor,
        .ext_factor = ext_factor(b, yarn),
        .attn_factor = build_f32(b, "rope.scaling.yarn_attn_factor", 1),
        .beta_fast = build_f32(b, "rope.scaling.yarn_beta_fast", 32),
        .beta_slow = build_f32(b, "rope.scaling.yarn_beta_slow", 1),
        .n_ctx_orig = build_u32(b, "rope.scaling.original_context_length", b->n_ctx_train),
        .yarn_smooth = !build_bool(b, "rope.scaling.yarn_truncate", true),
    };
    if (r->ext_factor != 0)
        r->attn_factor = yarn_attn_factor(1 / (double)r->freq_scale,
                                          build_f32(b, "rope.scaling.yarn_log_multiplier", 0));
    r->attn_factor *= build_f32(b, "rope.scaling.attn_factor", 1);
}

/* Divisors of the frequencies: per layer or for all; LongRoPE's by the context in use. */
static wid factors(struct build *b, uint32_t n_pairs)
{
    static const char *const names[][2] = {
        { "blk.%u.rope_freqs.weight", "rope_freqs.weight" },
        { "blk.%u.rope_factors_short.weight", "rope_factors_short.weight" },
        { "blk.%u.rope_factors_long.weight", "rope_factors_long.weight" },
    };
    /* engines of these files give out context in pieces of 256, and choose by that */
    const bool is_long = ((uint64_t)b->n_ctx + 255) / 256 * 256 > b->rope.n_ctx_orig;
    const int64_t *shape = SHAPE(n_pairs);
    wid found[3];

    if (!b->rope_factors)
        return 0;
    for (int i = 0; i < 3; i++) {
        found[i] = build_opt(b, names[i][0], shape);
        if (!found[i])
            found[i] = build_opt(b, names[i][1], shape);
    }
    if (found[1] && found[2])
        return found[is_long ? 2 : 1];
    return found[0];
}

val build_rope(struct build *b, val x, uint32_t n_heads, uint32_t head_dim)
{
    struct rope_args a = b->rope;

    a.n_heads = n_heads;
    a.head_dim = head_dim;
    if (a.n_rot == 0)
        a.n_rot = head_dim;
    return prog_rope(b->p, x, factors(b, a.n_rot / 2), &a);
}

/* hunyuan.c: Hunyuan, dense, of experts (Sun et al. 2024, arXiv 2411.02265) and with vision, and
 * Maincoder: query and key norms come after the rotation. */
#include <math.h>

#include "models/arch.h"

arch_fn arch_hunyuan;

/* NTK-aware: a longer context by a larger base. Most converters have done this already. */
static void stretch(struct build *b)
{
    const float alpha = build_f32(b, "rope.scaling.alpha", 0);
    const uint32_t dim = build_heads(b).k_dim;

    if (alpha > 0 && dim > 2)
        b->rope.base *= powf(alpha, (float)dim / (float)(dim - 2));
}

static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);
    struct qkv t = build_qkv(b, x, &h);

    t.q = build_rope(b, t.q, h.n, h.k_dim);
    t.k = build_rope(b, t.k, h.n_kv, h.k_dim);
    build_qk_norms(b, &t, &h, false);
    return build_attend(b, &a, t);
}

void arch_hunyuan(struct build *b)
{
    struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_embed(b);

    moe.normalise = true;
    stretch(b);
    while (build_layer(b)) {
        x = prog_add(b->p, x, attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

/* grovemoe.c: GroveMoE (Wu et al. 2025, arXiv 2508.07785): Qwen3-MoE whose experts stand in groups, each
 * with a small adjugate expert that reads what the chosen experts gave. */
#include "models/arch.h"

arch_fn arch_grovemoe;

static val feed_forward(struct build *b, val x)
{
    const uint32_t n = build_need_u32(b, "expert_count");
    const uint32_t used = build_need_u32(b, "expert_used_count");
    const uint32_t group = build_need_u32(b, "experts_per_group");
    struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val y;

    if (prog_failed(b->p))
        return 0;
    moe.score = ROUTE_SOFTMAX;
    moe.normalise = true;
    moe.logits = build_linear(b, x, "blk.%u.ffn_gate_inp", n);
    y = build_moe(b, x, &moe);
    moe.suffix = "_chexps";
    moe.n_sharing = group;
    moe.n_used = used < n / group ? used : n / group;
    return prog_add(b->p, y, build_scale(b, build_moe(b, y, &moe),
                                         build_f32(b, "expert_group_scale", 0.05f)));
}

void arch_grovemoe(struct build *b)
{
    val x = build_embed(b);

    while (build_layer(b)) {
        x = prog_add(b->p, x, build_attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, feed_forward(b, build_norm(b, x, "blk.%u.ffn_norm")));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

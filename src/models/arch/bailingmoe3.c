/* bailingmoe3.c: Ling 3: delta attention with bounded decays in most layers, latent attention with
 * gated heads in the others; first layers dense, the others experts beside a shared one. */
#include "models/arch.h"

arch_fn arch_bailingmoe3;

static val attention(struct build *b, val x, struct latent t)
{
    t.gate = prog_unary(b->p, build_linear(b, x, "blk.%u.attn_gate", t.n),
                        (struct act_args){ .act = ACT_SIGMOID });
    return build_latent(b, x, &t);
}

void arch_bailingmoe3(struct build *b)
{
    const float bound = build_f32(b, "kda.gate_lower_bound", -5);
    struct moe moe = build_moe_keys(b, ROUTE_SIGMOID, ACT_SILU);
    uint32_t sections[4];
    val x = build_embed(b), y;
    const struct latent t = build_latent_sizes(b, x);

    if (bound >= 0)
        prog_fail(b->p, WATT_EFORMAT, "%s: key %s.kda.gate_lower_bound is %g, expected a number below "
                  "0", gguf_path(b->g), b->arch, (double)bound);
    /* files of models that also see pictures turn pairs that lie half a head apart */
    if (build_u32s(b, "rope.dimension_sections", sections, 4))
        b->rope.pairing = ROPE_NEOX;
    while (build_layer(b)) {
        y = build_norm(b, x, "blk.%u.attn_norm");
        x = prog_add(b->p, x, build_has(b, "blk.%u.ssm_beta.weight") ? build_kda(b, y, t.n, bound)
                                                                    : attention(b, y, t));
        moe.clamp = build_f32(b, "swiglu_clamp_exp", 0);
        moe.clamp_shared = build_f32(b, "swiglu_clamp_shexp", 0);
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

/* kimi_linear.c: Kimi Linear (arXiv 2510.26692): three layers of four are delta attention, the fourth
 * latent attention without positions; first layers dense, the others experts beside a shared one. */
#include "models/arch.h"

arch_fn arch_kimi_linear;

void arch_kimi_linear(struct build *b)
{
    struct moe moe = build_moe_keys(b, ROUTE_SIGMOID, ACT_SILU);
    val x = build_embed(b), y;
    struct latent t = build_latent_sizes(b, x);

    moe.normalise = true;
    t.rope = false;
    while (build_layer(b)) {
        y = build_norm(b, x, "blk.%u.attn_norm");
        x = prog_add(b->p, x, build_has(b, "blk.%u.ssm_beta.weight") ? build_kda(b, y, t.n, 0)
                                                                    : build_latent(b, y, &t));
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

/* deepseek2.c: DeepSeek-V2 and V3 (arXiv 2405.04434, 2412.19437) and Mistral 4: latent attention, its
 * queries scaled up with the position where the file asks for temperature tuning; experts beside a
 * shared one. */
#include <math.h>

#include "models/arch.h"

arch_fn arch_deepseek2;

/* YaRN's magnitude belongs to the scores here: rotated columns keep their length where the file has
 * a log multiplier, which it stores as a tenth. */
static float magnitude(struct build *b)
{
    const double stretch = log(1 / (double)b->rope.freq_scale);
    const double m = 10 * build_f32(b, "rope.scaling.yarn_log_multiplier", 0);

    if (b->rope.ext_factor != 0 && m != 0)
        b->rope.attn_factor = (float)(build_f32(b, "rope.scaling.attn_factor", 1) /
                                      (1 + 0.1 * stretch));
    return (float)(b->rope.attn_factor * (1 + 0.1 * stretch) * (1 + 0.1 * m * stretch));
}

void arch_deepseek2(struct build *b)
{
    const struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    const float m = magnitude(b);
    val x = build_embed(b);
    struct latent t = build_latent_sizes(b, x);

    t.scale *= m * m;
    t.temperature = build_f32(b, "attention.temperature_scale", 0);
    t.length = build_u32(b, "attention.temperature_length", b->rope.n_ctx_orig);
    while (build_layer(b)) {
        x = prog_add(b->p, x, build_latent(b, build_norm(b, x, "blk.%u.attn_norm"), &t));
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

/* command_r.c: Command-R: layer norms without biases, attention and feed-forward side by side,
 * scaled logits. */
#include "models/arch.h"

arch_fn arch_command_r;

void arch_command_r(struct build *b)
{
    const float logit_scale = build_f32(b, "logit_scale", 1);
    val x = build_embed(b);

    while (build_layer(b)) {
        const val h = build_norm(b, x, "blk.%u.attn_norm");
        const val attn = build_attention(b, h);

        x = prog_add(b->p, prog_add(b->p, x, build_ffn(b, h, ACT_SILU, "")), attn);
    }
    x = build_logits(b, build_norm(b, x, "output_norm"));
    prog_output(b->p, build_scale(b, x, logit_scale));
}

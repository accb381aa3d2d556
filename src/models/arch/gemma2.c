/* gemma2.c: Gemma 2 (arXiv 2408.00118): norms before and after each block, windows in every other
 * layer, softcaps on scores and logits. */
#include <math.h>

#include "models/arch.h"

arch_fn arch_gemma2;

void arch_gemma2(struct build *b)
{
    const uint32_t window = build_u32(b, "attention.sliding_window", 4096);
    const float cap = build_f32(b, "attn_logit_softcapping", 50);
    const float logit_cap = build_f32(b, "final_logit_softcapping", 30);
    val x = build_scale(b, build_embed(b), sqrtf((float)b->n_embd));

    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        struct attn_args a = build_attn_args(b, &h);
        val y;

        a.softcap = cap;
        a.window = build_is_local(b, 2, false) ? window : 0;
        y = build_attention_with(b, build_norm(b, x, "blk.%u.attn_norm"), &h, &a, true);
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_attention_norm"));
        y = build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_GELU, "");
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_ffw_norm"));
    }
    x = build_logits(b, build_norm(b, x, "output_norm"));
    prog_output(b->p, prog_unary(b->p, x, (struct act_args){ .act = ACT_SOFTCAP,
                                                             .param = logit_cap }));
}

/* exaone4.c: EXAONE 4.0 (arXiv 2507.11407): norms after each block instead of before, norms of
 * queries and keys. The 32B turns queries and keys in windows, and every fourth layer sees all
 * without positions; smaller ones turn everywhere. */
#include "models/arch.h"

arch_fn arch_exaone4;

#define LAYERS_32B 64u

void arch_exaone4(struct build *b)
{
    /* files of the small models state a window that they do not use */
    const bool windows = b->n_layers == LAYERS_32B ||
                         build_set(b, "attention.sliding_window_pattern");
    const uint32_t window = build_u32(b, "attention.sliding_window", 4096);
    val x = build_embed(b), y;

    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        const bool local = windows && build_is_local(b, 4, false);
        struct attn_args a = build_attn_args(b, &h);

        a.window = local ? window : 0;
        y = build_attention_with(b, x, &h, &a, local || !windows);
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_attention_norm"));
        y = build_ffn(b, x, ACT_SILU, "");
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_ffw_norm"));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

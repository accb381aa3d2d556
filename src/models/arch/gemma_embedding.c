/* gemma_embedding.c: EmbeddingGemma (arXiv 2509.20354): Gemma 3's layers read both ways, windows on
 * both sides in five of six layers. */
#include <math.h>

#include "models/arch.h"

arch_fn arch_gemma_embedding;

void arch_gemma_embedding(struct build *b)
{
    const uint32_t window = build_u32(b, "attention.sliding_window", 512);
    const float base = b->rope.base, local = build_f32(b, "rope.freq_base_swa", 10000);
    val x = build_scale(b, build_embed(b), sqrtf((float)b->n_embd));

    b->causal = false;
    build_known(b, "output.weight");
    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        struct attn_args a = build_attn_args(b, &h);
        val y;

        build_two_sided(b, &a, window, 6, 5);
        b->rope.base = a.window ? local : base;
        y = build_attention_with(b, build_norm(b, x, "blk.%u.attn_norm"), &h, &a, true);
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_attention_norm"));
        y = build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_GELU, "");
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_ffw_norm"));
    }
    prog_output(b->p, build_embedding(b, build_norm(b, x, "output_norm")));
}

/* modern_bert.c: ModernBERT (arXiv 2412.13663): norms in front, gated feed-forward, rotary
 * positions; windows on both sides in all layers but every third, which have a base of their
 * own. */
#include "models/arch.h"

arch_fn arch_modern_bert;

void arch_modern_bert(struct build *b)
{
    const uint32_t window = build_u32(b, "attention.sliding_window", 0);
    const bool silu = build_str_is(b, "hidden_activation", "silu") ||
                      build_str_is(b, "hidden_activation", "swiglu");
    const float base = b->rope.base, local = build_f32(b, "rope.freq_base_swa", base);
    val x = build_norm(b, build_embed(b), "token_embd_norm");

    b->causal = false;
    b->head_gelu = b->head_mean = true;
    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        struct attn_args a = build_attn_args(b, &h);
        val y = x;

        build_two_sided(b, &a, window, 3, 0);
        b->rope.base = a.window ? local : base;
        if (build_has(b, "blk.%u.attn_norm.weight"))    /* the first layer's is the identity */
            y = build_norm(b, x, "blk.%u.attn_norm");
        x = prog_add(b->p, x, build_attention_with(b, y, &h, &a, true));
        y = build_norm(b, x, "blk.%u.ffn_norm");
        x = prog_add(b->p, x, build_ffn(b, y, silu ? ACT_SILU : ACT_GELU_ERF, ""));
    }
    prog_output(b->p, build_embedding(b, build_norm(b, x, "output_norm")));
}

/* gemma3.c: Gemma 3 (arXiv 2503.19786): Gemma 2 without score caps, with norms of queries and keys;
 * five layers of six see a window and turn by a base of their own, unscaled. */
#include <math.h>

#include "models/arch.h"

arch_fn arch_gemma3;

#define LAYERS_27B 62u      /* scores scaled by width over heads, which files do not say */

static val attention(struct build *b, val x, uint32_t window)
{
    const struct heads h = build_heads(b);
    struct attn_args a = build_attn_args(b, &h);

    a.window = window;
    if (b->n_layers == LAYERS_27B && h.n > 0)
        a.scale = (float)(1 / sqrt(b->n_embd / h.n));
    return build_attention_with(b, x, &h, &a, true);
}

void arch_gemma3(struct build *b)
{
    const uint32_t window = build_u32(b, "attention.sliding_window", 0);
    const float cap = build_f32(b, "final_logit_softcapping", 0);
    const struct rope_args global = b->rope;
    struct rope_args turn = b->rope;
    val x = build_scale(b, build_embed(b), sqrtf((float)b->n_embd)), y;

    turn.base = build_f32(b, "rope.freq_base_swa", 10000);
    turn.freq_scale = 1;
    while (build_layer(b)) {
        const bool local = window != 0 && build_is_local(b, 6, false);

        b->rope = local ? turn : global;
        y = attention(b, build_norm(b, x, "blk.%u.attn_norm"), local ? window : 0);
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_attention_norm"));
        y = build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_GELU, "");
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_ffw_norm"));
    }
    x = build_logits(b, build_norm(b, x, "output_norm"));
    if (cap > 0)
        x = prog_unary(b->p, x, (struct act_args){ .act = ACT_SOFTCAP, .param = cap });
    prog_output(b->p, x);
}

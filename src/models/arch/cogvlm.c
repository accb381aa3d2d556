/* cogvlm.c: the text part of CogVLM (arXiv 2311.03079). Queries, keys and values each take a third
 * of one matrix, however many heads they have; the experts for images are left alone. */
#include "models/arch.h"

arch_fn arch_cogvlm;

static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);
    const val all = build_linear(b, x, "blk.%u.attn_qkv", 3 * b->n_embd);
    const struct qkv t = {
        .q = build_rope(b, prog_cols(b->p, all, 0, h.n * h.k_dim), h.n, h.k_dim),
        .k = build_rope(b, prog_cols(b->p, all, b->n_embd, h.n_kv * h.k_dim), h.n_kv, h.k_dim),
        .v = prog_cols(b->p, all, 2 * b->n_embd, h.n_kv * h.v_dim),
    };

    return build_attend(b, &a, t);
}

void arch_cogvlm(struct build *b)
{
    val x = build_embed(b);

    b->rope_factors = false;
    b->rope = (struct rope_args){ .pairing = ROPE_NEOX, .base = 10000, .freq_scale = 1,
                                  .attn_factor = 1 };
    while (build_layer(b)) {
        x = prog_add(b->p, x, attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_SILU, ""));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

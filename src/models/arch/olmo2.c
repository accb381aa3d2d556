/* olmo2.c: OLMo 2 (arXiv 2501.00656) and OLMo 3: norms after each block instead of before, queries and
 * keys normalised over all heads at once. OLMo 3 has windows in three layers of four, which turn
 * unscaled. */
#include "models/arch.h"

arch_fn arch_olmo2;

static val attention(struct build *b, val x, uint32_t window)
{
    const struct heads h = build_heads(b);
    struct attn_args a = build_attn_args(b, &h);
    struct qkv t = build_qkv(b, x, &h);

    a.window = window;
    build_qk_norms(b, &t, &h, true);
    t.q = build_rope(b, t.q, h.n, h.k_dim);
    t.k = build_rope(b, t.k, h.n_kv, h.k_dim);
    return build_attend(b, &a, t);
}

void arch_olmo2(struct build *b)
{
    const uint32_t window = build_u32(b, "attention.sliding_window", 0);
    const struct rope_args scaled = b->rope;
    struct rope_args plain = b->rope;
    val x = build_embed(b), y;

    plain.freq_scale = plain.attn_factor = 1;
    plain.ext_factor = 0;
    b->biases = false;
    while (build_layer(b)) {
        const bool local = window != 0 && build_is_local(b, 4, false);

        b->rope = local ? plain : scaled;
        y = attention(b, x, local ? window : 0);
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_attention_norm"));
        y = build_ffn(b, x, ACT_SILU, "");
        x = prog_add(b->p, x, build_norm(b, y, "blk.%u.post_ffw_norm"));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

/* qwen.c: the first Qwen (arXiv 2309.16609): the llama decoder with queries, keys and values in one
 * matrix of three widths, used from the left; its feed-forward length counts gate and up together. */
#include "models/arch.h"

arch_fn arch_qwen;

static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);
    const uint32_t n_q = h.n * h.k_dim, n_k = h.n_kv * h.k_dim;
    const val all = build_linear(b, x, "blk.%u.attn_qkv", 3 * b->n_embd);
    const struct qkv t = {
        .q = build_rope(b, prog_cols(b->p, all, 0, n_q), h.n, h.k_dim),
        .k = build_rope(b, prog_cols(b->p, all, n_q, n_k), h.n_kv, h.k_dim),
        .v = prog_cols(b->p, all, n_q + n_k, h.n_kv * h.v_dim),
    };

    return build_attend(b, &a, t);
}

void arch_qwen(struct build *b)
{
    val x = build_embed(b);

    b->n_ff = build_need_u32(b, "feed_forward_length") / 2;
    while (build_layer(b)) {
        x = prog_add(b->p, x, attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_SILU, ""));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

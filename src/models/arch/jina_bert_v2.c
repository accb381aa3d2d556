/* jina_bert_v2.c: jina-embeddings-v2 (arXiv 2310.19923): BERT with ALiBi on both sides and a gated
 * feed-forward. The models for code also have norms of queries and keys and a second norm behind attention;
 * their gate is the second half of the one matrix, not the first, and files have it as published. */
#include "models/arch.h"

arch_fn arch_jina_bert_v2;

static val feed_forward(struct build *b, val x, bool code)
{
    const uint32_t n = build_extent(b, "blk.%u.ffn_down.weight", 1);
    val both;

    if (prog_failed(b->p) || !code || build_has(b, "blk.%u.ffn_gate.weight") ||
        build_extent(b, "blk.%u.ffn_up.weight", 0) != 2 * (uint64_t)n)
        return build_ffn(b, x, ACT_GELU_ERF, "");
    both = build_linear(b, x, "blk.%u.ffn_up", 2 * n);
    x = prog_gated(b->p, prog_cols(b->p, both, n, n), prog_cols(b->p, both, 0, n),
                   (struct act_args){ .act = ACT_GELU_ERF });
    return build_linear(b, x, "blk.%u.ffn_down", b->n_embd);
}

void arch_jina_bert_v2(struct build *b)
{
    val x = build_norm(b, build_types(b, build_embed(b)), "token_embd_norm");

    b->causal = false;
    if (b->alibi == 0)
        b->alibi = 8;
    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        const struct attn_args a = build_attn_args(b, &h);
        const bool code = build_has(b, "blk.%u.attn_norm_2.weight");
        struct qkv t = build_qkv(b, x, &h);
        val y;

        build_qk_norms(b, &t, &h, true);
        y = build_norm(b, prog_add(b->p, x, build_attend(b, &a, t)), "blk.%u.attn_output_norm");
        if (code)
            y = build_norm(b, prog_add(b->p, x, y), "blk.%u.attn_norm_2");
        x = prog_add(b->p, y, feed_forward(b, y, code));
        x = build_norm(b, x, "blk.%u.layer_output_norm");
    }
    prog_output(b->p, build_embedding(b, x));
}

/* jina_bert_v2.c: jina-embeddings-v2 (arXiv 2310.19923): BERT with ALiBi on both sides, gated
 * feed-forward, norms of queries and keys and a second attention norm where the file has them. */
#include "models/arch.h"

arch_fn arch_jina_bert_v2;

void arch_jina_bert_v2(struct build *b)
{
    val x = build_norm(b, build_types(b, build_embed(b)), "token_embd_norm");

    b->causal = false;
    if (b->alibi == 0)
        b->alibi = 8;
    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        const struct attn_args a = build_attn_args(b, &h);
        struct qkv t = build_qkv(b, x, &h);
        val y;

        build_qk_norms(b, &t, &h, true);
        y = build_norm(b, prog_add(b->p, x, build_attend(b, &a, t)), "blk.%u.attn_output_norm");
        if (build_has(b, "blk.%u.attn_norm_2.weight"))
            y = build_norm(b, prog_add(b->p, x, y), "blk.%u.attn_norm_2");
        x = prog_add(b->p, y, build_ffn(b, y, ACT_GELU_ERF, ""));
        x = build_norm(b, x, "blk.%u.layer_output_norm");
    }
    prog_output(b->p, build_embedding(b, x));
}

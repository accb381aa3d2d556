/* neo_bert.c: NeoBERT (arXiv 2502.19587): Llama's layers read both ways. Its one matrix gives queries, keys
 * and values of one head after the other, and files have its rows as the published weights do. */
#include "models/arch.h"

arch_fn arch_neo_bert;

static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);
    val all, part[3];

    if (h.n != h.n_kv || h.k_dim != h.v_dim)
        prog_fail(b->p, WATT_EFORMAT, "%s: %u heads over %u of %u and %u columns, expected as many over as "
                  "many", gguf_path(b->g), h.n, h.n_kv, h.k_dim, h.v_dim);
    if (prog_failed(b->p))
        return 0;
    all = prog_reshape(b->p, build_linear(b, x, "blk.%u.attn_qkv", 3 * h.n * h.k_dim), h.n);
    for (uint32_t i = 0; i < 3; i++)
        part[i] = prog_reshape(b->p, prog_cols(b->p, all, i * h.k_dim, h.k_dim), 1);
    return build_attend(b, &a, (struct qkv){ build_rope(b, part[0], h.n, h.k_dim),
                                             build_rope(b, part[1], h.n, h.k_dim), part[2] });
}

void arch_neo_bert(struct build *b)
{
    val x = build_embed(b);

    b->causal = build_bool(b, "attention.causal", false);
    while (build_layer(b)) {
        x = prog_add(b->p, x, attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_SILU, ""));
    }
    prog_output(b->p, build_embedding(b, build_norm(b, x, "enc.output_norm")));
}

/* bert.c: BERT (Devlin et al. 2018, arXiv 1810.04805) and its kin: norms behind each sum. Learned
 * positions, or rotary ones where the file has no table (Nomic Embed, arXiv 2402.01613; jina-v3,
 * arXiv 2409.10173); a gated feed-forward where there is a gate, experts in the layers that have a
 * router. */
#include "models/arch.h"

arch_fn arch_bert;

static val attention(struct build *b, val x, bool rotary)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);
    struct qkv t = build_qkv(b, x, &h);

    build_qk_norms(b, &t, &h, true);
    if (rotary) {
        t.q = build_rope(b, t.q, h.n, h.k_dim);
        t.k = build_rope(b, t.k, h.n_kv, h.k_dim);
    }
    return build_attend(b, &a, t);
}

static val feed_forward(struct build *b, val x)
{
    const struct moe moe = { .score = ROUTE_SOFTMAX, .act = { .act = ACT_GELU_ERF },
                             .scale = build_f32(b, "expert_weights_scale", 1) };

    if (build_has(b, "blk.%u.ffn_gate_inp.weight"))
        return build_moe(b, x, &moe);
    return build_ffn(b, x, build_has(b, "blk.%u.ffn_gate.weight") ? ACT_SILU : ACT_GELU_ERF, "");
}

void arch_bert(struct build *b)
{
    const bool rotary = !build_has(b, "position_embd.weight");
    val x = build_types(b, build_embed(b));

    b->causal = false;
    if (!rotary)
        x = build_positions(b, x);
    x = build_norm(b, x, "token_embd_norm");
    while (build_layer(b)) {
        x = prog_add(b->p, x, attention(b, x, rotary));
        x = build_norm(b, x, "blk.%u.attn_output_norm");
        x = prog_add(b->p, x, feed_forward(b, x));
        x = build_norm(b, x, "blk.%u.layer_output_norm");
    }
    prog_output(b->p, build_embedding(b, x));
}

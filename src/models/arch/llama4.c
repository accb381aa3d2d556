/* llama4.c: Llama 4: chunked attention with rotary positions in three layers of four, the fourth
 * sees all and scales queries with the position; one routed expert's weight scales its input. */
#include "models/arch.h"

arch_fn arch_llama4;

/* The 128-expert model goes without norms of queries and keys. */
static bool has_norms(struct build *b)
{
    return build_u32(b, "expert_count", 0) != 128;
}

static val attention(struct build *b, val x, uint32_t chunk)
{
    const struct heads h = build_heads(b);
    const struct norm_args norm = { .kind = NORM_RMS, .group = h.k_dim, .eps = b->norm.eps };
    const bool use_rope = chunk == 0 || (b->layer + 1) % 4 != 0;
    struct attn_args a = build_attn_args(b, &h);
    struct qkv t = build_qkv(b, x, &h);

    if (chunk && build_is_local(b, 4, false)) {
        a.mask = MASK_CHUNKED;
        a.window = 8192;
    }
    if (!use_rope) {
        t.q = prog_position_scale(b->p, t.q, (struct position_scale_args){
                                                 .c = 0.1f, .length = 8192, .offset = 1 });
        return build_attend(b, &a, t);
    }
    t.q = build_rope(b, t.q, h.n, h.k_dim);
    t.k = build_rope(b, t.k, h.n_kv, h.k_dim);
    if (has_norms(b)) {
        t.q = prog_norm(b->p, t.q, 0, 0, norm);
        t.k = prog_norm(b->p, t.k, 0, 0, norm);
    }
    return build_attend(b, &a, t);
}

void arch_llama4(struct build *b)
{
    const uint32_t chunk = build_u32(b, "attention.sliding_window",
                                     build_set(b, "attention.sliding_window") ? 0 : 8192);
    struct moe moe = build_moe_keys(b, ROUTE_SIGMOID, ACT_SILU);
    val x = build_embed(b);

    moe.score = ROUTE_SIGMOID;
    moe.normalise = false;
    moe.weigh_input = true;
    while (build_layer(b)) {
        x = prog_add(b->p, x, attention(b, build_norm(b, x, "blk.%u.attn_norm"), chunk));
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

/* mistral3.c: Mistral 3 and Ministral 3: the llama decoder; queries are scaled up with the
 * position where the file asks for temperature tuning. */
#include "models/arch.h"

arch_fn arch_mistral3;

static val attention(struct build *b, val x, float temperature, uint32_t length)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);
    struct qkv t = build_qkv(b, x, &h);

    t.q = build_rope(b, t.q, h.n, h.k_dim);
    t.k = build_rope(b, t.k, h.n_kv, h.k_dim);
    if (temperature != 0)
        t.q = prog_position_scale(b->p, t.q, (struct position_scale_args){
                                                 .c = temperature, .length = length });
    return build_attend(b, &a, t);
}

void arch_mistral3(struct build *b)
{
    const struct moe moe = { .score = ROUTE_SOFTMAX, .act = { .act = ACT_SILU }, .normalise = true };
    const float temperature = build_f32(b, "attention.temperature_scale", 0);
    const uint32_t length = build_u32(b, "attention.temperature_length", b->rope.n_ctx_orig);
    val x = build_embed(b);

    while (build_layer(b)) {
        x = prog_add(b->p, x, attention(b, build_norm(b, x, "blk.%u.attn_norm"), temperature,
                                        length));
        x = prog_add(b->p, x, build_ffn_or_moe(b, build_norm(b, x, "blk.%u.ffn_norm"), &moe));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

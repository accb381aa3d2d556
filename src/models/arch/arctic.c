/* arctic.c: Snowflake Arctic: a dense feed-forward after attention and experts beside both. */
#include "models/arch.h"

arch_fn arch_arctic;

void arch_arctic(struct build *b)
{
    struct moe moe = build_moe_keys(b, ROUTE_SOFTMAX, ACT_SILU);
    val x = build_embed(b);

    moe.normalise = true;
    b->n_ff = b->n_embd;
    while (build_layer(b)) {
        const val experts = build_moe(b, build_norm(b, x, "blk.%u.ffn_norm_exps"), &moe);

        x = prog_add(b->p, x, build_attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_SILU, ""));
        x = prog_add(b->p, x, experts);
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

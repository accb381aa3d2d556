/* refact.c: Refact 1.6B: the llama decoder with ALiBi in place of rotary positions; of biases, only
 * those of queries, keys and values are read. */
#include "models/arch.h"

arch_fn arch_refact;

static val attention(struct build *b, val x)
{
    const struct heads h = build_heads(b);
    const struct attn_args a = build_attn_args(b, &h);
    struct qkv t;

    b->biases = true;
    t = build_qkv(b, x, &h);
    b->biases = false;
    return build_attend(b, &a, t);
}

/* No engine reads experts under this name: without matrices, the activation is all that is left. */
static val feed_forward(struct build *b, val x)
{
    if (build_has(b, "blk.%u.ffn_up.weight"))
        return build_ffn(b, x, ACT_SILU, "");
    return prog_unary(b->p, x, (struct act_args){ .act = ACT_SILU });
}

void arch_refact(struct build *b)
{
    val x = build_embed(b);

    b->alibi = 8;
    while (build_layer(b)) {
        x = prog_add(b->p, x, attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        x = prog_add(b->p, x, feed_forward(b, build_norm(b, x, "blk.%u.ffn_norm")));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

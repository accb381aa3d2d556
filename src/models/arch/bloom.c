/* bloom.c: BLOOM (arXiv 2211.05100): ALiBi in place of positions, a norm over the embedding. */
#include "models/arch.h"

arch_fn arch_bloom;

void arch_bloom(struct build *b)
{
    val x = build_norm(b, build_embed(b), "token_embd_norm");

    if (b->alibi == 0)
        b->alibi = 8;
    while (build_layer(b)) {
        const struct heads h = build_heads(b);
        const struct attn_args a = build_attn_args(b, &h);

        x = prog_add(b->p, x, build_attention_with(b, build_norm(b, x, "blk.%u.attn_norm"), &h, &a,
                                                   false));
        x = prog_add(b->p, x, build_ffn(b, build_norm(b, x, "blk.%u.ffn_norm"), ACT_GELU, ""));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

/* mamba.c: Mamba (Gu and Dao 2023, arXiv 2312.00752) and Mamba-2 (Dao and Gu 2024,
 * arXiv 2405.21060): nothing but state spaces. */
#include "models/arch.h"

arch_fn arch_mamba;

void arch_mamba(struct build *b)
{
    val x = build_embed(b);

    while (build_layer(b)) {
        const val y = build_norm(b, x, "blk.%u.attn_norm");

        x = prog_add(b->p, x, build_has(b, "blk.%u.ssm_x.weight") ? build_mamba(b, y)
                                                                  : build_mamba2(b, y));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

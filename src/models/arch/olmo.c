/* olmo.c: OLMo (arXiv 2402.00838): layer norms without gains or biases, clamped queries, keys
 * and values. */
#include "models/arch.h"

arch_fn arch_olmo;

void arch_olmo(struct build *b)
{
    val x = build_embed(b);

    while (build_layer(b)) {
        x = prog_add(b->p, x, build_attention(b, prog_norm(b->p, x, 0, 0, b->norm)));
        x = prog_add(b->p, x, build_ffn(b, prog_norm(b->p, x, 0, 0, b->norm), ACT_SILU, ""));
    }
    prog_output(b->p, build_logits(b, prog_norm(b->p, x, 0, 0, b->norm)));
}

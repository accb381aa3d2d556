/* apertus.c: Apertus (arXiv 2509.14233): no gate, but xIELU (struct xielu) with numbers of each layer's
 * own, which files have as keys: alphas before their softplus. */
#include <math.h>

#include "models/arch.h"

arch_fn arch_apertus;

static float alpha(struct build *b, const char *key)
{
    if (!build_set(b, key))
        prog_fail(b->p, WATT_EFORMAT, "%s: key %s.%s is missing", gguf_path(b->g), b->arch, key);
    return (float)log1p(exp(build_f32(b, key, 0)));
}

static struct act_args xielu(struct build *b)
{
    const float beta = build_f32(b, "xielu.beta", 0.5f), eps = build_f32(b, "xielu.eps", -1e-6f);

    if (eps > 0)
        prog_fail(b->p, WATT_EFORMAT, "%s: key %s.xielu.eps is %g, expected at most 0", gguf_path(b->g),
                  b->arch, (double)eps);
    return (struct act_args){ .act = ACT_XIELU,
                              .xielu = { .p = alpha(b, "xielu.alpha_p"), .n = beta + alpha(b, "xielu.alpha_n"),
                                         .beta = beta, .eps = eps } };
}

void arch_apertus(struct build *b)
{
    val x = build_embed(b), y;

    while (build_layer(b)) {
        x = prog_add(b->p, x, build_attention(b, build_norm(b, x, "blk.%u.attn_norm")));
        y = build_linear(b, build_norm(b, x, "blk.%u.ffn_norm"), "blk.%u.ffn_up",
                         build_u32(b, "feed_forward_length", 0));
        y = prog_unary(b->p, y, xielu(b));
        x = prog_add(b->p, x, build_linear(b, y, "blk.%u.ffn_down", b->n_embd));
    }
    prog_output(b->p, build_logits(b, build_norm(b, x, "output_norm")));
}

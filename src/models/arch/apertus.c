/* apertus.c: Apertus (arXiv 2509.14233): no gate, but xIELU (struct xielu) with numbers of each layer's
 * own, which files have as keys without the architecture's name: alphas before their softplus. */
#include <math.h>

#include "models/arch.h"

arch_fn arch_apertus;

/* A key of 0 is 0, not unset. */
static float number(struct build *b, const char *key, float unset)
{
    return build_f32(b, key, build_set(b, key) ? 0 : unset);
}

static float alpha(struct build *b, const char *key)
{
    if (!build_set(b, key))
        prog_fail(b->p, WATT_EFORMAT, "%s: key %s is missing", gguf_path(b->g), key + 1);
    return (float)log1p(exp(number(b, key, 0)));
}

static struct act_args xielu(struct build *b)
{
    const float beta = number(b, "/xielu.beta", 0.5f), eps = number(b, "/xielu.eps", -1e-6f);

    /* min(x, eps) is asked for where x <= 0, and is x there for every eps that is not negative */
    return (struct act_args){ .act = ACT_XIELU,
                              .xielu = { .p = alpha(b, "/xielu.alpha_p"),
                                         .n = beta + alpha(b, "/xielu.alpha_n"),
                                         .beta = beta, .eps = fminf(eps, 0) } };
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

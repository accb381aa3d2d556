/* gemma3n.c: Gemma 3n. Beside Gemma 3's layers:
 *   AltUp (Baykal et al. 2023, arXiv 2301.13310): several residual streams, of which one goes through
 *   a layer; the others are predicted from all and corrected by what that one learned
 *   LAuReL (Menghani et al. 2024, arXiv 2411.07501): a narrow pair of products beside attention
 *   per-layer embeddings: each layer adds columns of its own of a second table to the other streams
 *   the last layers read the keys and values of the last one in front of their kind
 *   gates of the first layers are zero but for the largest, told from mean and deviation */
#include <math.h>

#include "models/arch.h"

arch_fn arch_gemma3n;

#define MAX_STREAMS    16u
#define KEYS_OF_20     20u          /* layers with keys of their own where no key says */
#define SPARSE_LAYERS  10u          /* likewise with sparse gates: the 0.05 above this many deviations */
#define SPARSE_CUTOFF  1.6448533535f
#define LEAST_MEAN     1e-5f        /* square of a stream's magnitude that is brought to another */
#define TINY           1e-20f       /* keeps zeros from being divided by zero */

struct streams { uint32_t n, active; val ids, h[MAX_STREAMS]; };
struct sharing { uint32_t first; sid state[2]; };       /* first: that reads others' keys; by local */

/* ---- streams ---- */

static val half_root(struct build *b, val x, val y)
{
    return prog_affine(b->p, prog_add(b->p, x, y), sqrtf(0.5f), 0);
}

/* The root of the mean of squares, a column. */
static val magnitude(struct build *b, val x)
{
    const val unit = prog_norm(b->p, x, 0, 0, (struct norm_args){ .kind = NORM_L2, .eps = TINY });

    return prog_affine(b->p, prog_group_sum(b->p, prog_mul(b->p, x, unit), b->n_embd),
                       1 / sqrtf((float)b->n_embd), 0);
}

/* out[j] = x of slot j by matrix j, with the magnitude of `like`. */
static void project(struct build *b, const struct streams *s, val x, val like, const char *name, val *out)
{
    const float root = sqrtf((float)b->n_embd);
    const struct norm_args unit = { .kind = NORM_L2, .eps = root * sqrtf(LEAST_MEAN) };
    const uint32_t n = s->n - 1;
    const wid w = build_need(b, name, SHAPE(n, b->n_embd, b->n_embd));
    const val size = prog_affine(b->p, magnitude(b, like), root, 0);
    val y;

    if (prog_failed(b->p))
        return;
    y = build_adapted_experts(b, x, s->ids, n, prog_expert_linear(b->p, x, s->ids, w, 0, 0), w);
    y = prog_reshape(b->p, prog_norm(b->p, y, 0, 0, unit), 1);
    for (uint32_t j = 0; j < n; j++)
        out[j] = prog_mul(b->p, prog_cols(b->p, y, j * b->n_embd, b->n_embd), size);
}

static struct streams begin(struct build *b, val x)
{
    struct streams s = { .n = build_u32(b, "altup.num_inputs", 4),
                         .active = build_u32(b, "altup.active_idx", 0) };

    if (s.n < 2 || s.n > MAX_STREAMS || s.active >= s.n || s.n > b->n_embd) {
        prog_fail(b->p, WATT_EFORMAT, "%s: %s.altup: stream %u of %u, expected 2 to %u", gguf_path(b->g),
                  b->arch, s.active, s.n, MAX_STREAMS);
        return (struct streams){ .n = 2 };
    }
    s.ids = build_all_ids(b, x, s.n - 1);
    s.h[0] = x;
    project(b, &s, x, x, "altup_proj.weight", s.h + 1);
    return s;
}

static val end(struct build *b, const struct streams *s)
{
    val y[MAX_STREAMS] = { 0 }, x = s->h[0];

    project(b, s, prog_reshape(b->p, prog_concat(b->p, s->h + 1, s->n - 1), s->n - 1), x,
            "altup_unembd_proj.weight", y);
    for (uint32_t j = 0; j < s->n - 1; j++)
        x = prog_add(b->p, x, y[j]);
    return prog_affine(b->p, x, 1 / (float)s->n, 0);
}

static val modalities(struct build *b, const struct streams *s, val x)
{
    const val y = build_linear_scaled(b, build_norm(b, x, "blk.%u.altup_router_norm"), "blk.%u.altup_router",
                                      s->n, 1 / (float)b->n_embd);

    return prog_unary(b->p, y, (struct act_args){ .act = ACT_TANH });
}

static void predict(struct build *b, struct streams *s)
{
    const val all = prog_reshape(b->p, prog_concat(b->p, s->h, s->n), s->n);
    const val coefs = build_linear(b, modalities(b, s, s->h[s->active]), "blk.%u.altup_predict_coef",
                                   s->n * s->n);

    for (uint32_t j = 0; j < s->n; j++)
        s->h[j] = prog_add(b->p, s->h[j], prog_expert_sum(b->p, all, prog_cols(b->p, coefs, j * s->n, s->n)));
}

/* x: what became of the active one. */
static void correct(struct build *b, struct streams *s, val x)
{
    const val coefs = prog_affine(b->p, build_linear(b, modalities(b, s, x), "blk.%u.altup_correct_coef",
                                                     s->n), 1, 1);
    const val news = prog_add(b->p, x, prog_affine(b->p, s->h[s->active], -1, 0));

    for (uint32_t j = 0; j < s->n; j++)
        s->h[j] = prog_add(b->p, s->h[j], prog_mul(b->p, news, prog_cols(b->p, coefs, j, 1)));
}

/* ---- per-layer embeddings ---- */

static val layer_inputs(struct build *b, val x, uint32_t dim)
{
    const uint32_t width = b->n_layers * dim;
    val mine;

    if (dim == 0 || (uint64_t)b->n_layers * dim > PROG_MAX_WIDTH)
        prog_fail(b->p, WATT_EFORMAT, "%s: key %s.embedding_length_per_layer_input is %u", gguf_path(b->g),
                  b->arch, dim);
    if (prog_failed(b->p))
        return 0;
    mine = prog_embed(b->p, build_need(b, "per_layer_token_embd.weight", SHAPE(b->n_vocab, width)),
                      (struct embed_args){ .by = EMBED_TOKEN });
    x = build_linear_scaled(b, x, "per_layer_model_proj", width, 1 / sqrtf((float)b->n_embd));
    return half_root(b, build_norm_heads(b, x, "per_layer_proj_norm", dim),
                     build_scale(b, mine, sqrtf((float)dim)));
}

static void add_layer_input(struct build *b, struct streams *s, val input)
{
    val x = prog_mul_w(b->p, s->h[s->active], build_need(b, "blk.%u.altup_correct_scale.weight",
                                                         SHAPE(b->n_embd)));

    x = prog_gated(b->p, build_linear(b, x, "blk.%u.inp_gate", prog_width(b->p, input)), input,
                   build_act(b, ACT_GELU));
    x = build_norm(b, build_linear(b, x, "blk.%u.proj", b->n_embd), "blk.%u.post_norm");
    for (uint32_t j = 1; j < s->n; j++)
        s->h[j] = prog_add(b->p, s->h[j], x);
}

/* ---- a layer ---- */

static val attention(struct build *b, val x, uint32_t window, struct sharing *share)
{
    const struct heads h = build_heads(b);
    const struct norm_args plain = { .kind = NORM_RMS, .group = h.v_dim, .eps = b->norm.eps };
    struct attn_args a = build_attn_args(b, &h);
    sid *state = &share->state[window != 0];
    struct qkv t = { 0 };

    a.window = window;
    a.scale = 1;
    a.write = b->layer < share->first;
    if (prog_failed(b->p))
        return 0;
    if (a.write) {
        t = build_qkv(b, x, &h);
        build_qk_norms(b, &t, &h, false);
        t.k = build_rope(b, t.k, h.n_kv, h.k_dim);
        t.v = prog_norm(b->p, t.v, 0, 0, plain);
        *state = prog_state_kv(b->p, h.n_kv, h.k_dim, h.v_dim, window);
    } else {
        t.q = build_norm_heads(b, build_linear(b, x, "blk.%u.attn_q", h.n * h.k_dim), "blk.%u.attn_q_norm",
                               h.k_dim);
        build_known(b, "blk.%u.attn_k.weight");
        build_known(b, "blk.%u.attn_v.weight");
        build_known(b, "blk.%u.attn_k_norm.weight");
        if (*state == 0)
            prog_fail(b->p, WATT_EFORMAT, "%s: layer %u reads the keys of a layer of its kind in front of "
                      "layer %u, which there is not", gguf_path(b->g), b->layer, share->first);
    }
    t.q = build_rope(b, t.q, h.n, h.k_dim);
    return build_linear(b, prog_attention(b->p, t.q, t.k, t.v, 0, *state, &a), "blk.%u.attn_output",
                        b->n_embd);
}

/* Zeros below mean + cutoff deviations, what is above it elsewhere. sum(x z) = n deviation, for z of
 * mean 0 and deviation 1. */
static val sparse(struct build *b, val x, float cutoff)
{
    const uint32_t n = prog_width(b->p, x);
    const val z = prog_norm(b->p, x, 0, 0, (struct norm_args){ .kind = NORM_LAYER, .eps = TINY });
    const val deviation = prog_affine(b->p, prog_group_sum(b->p, prog_mul(b->p, x, z), n), 1 / (float)n, 0);

    return prog_mul(b->p, prog_unary(b->p, prog_affine(b->p, z, 1, -cutoff),
                                     (struct act_args){ .act = ACT_RELU }), deviation);
}

static val feed_forward(struct build *b, val x)
{
    const uint32_t n = build_u32(b, "feed_forward_length", 0);
    /* -inf, which says that a layer is dense, counts as unset */
    const float cutoff = build_set(b, "activation_sparsity_scale")
                             ? build_f32(b, "activation_sparsity_scale", 0)
                             : b->layer < SPARSE_LAYERS ? SPARSE_CUTOFF : 0;
    val gate = build_linear(b, x, "blk.%u.ffn_gate", n);

    if (prog_failed(b->p))
        return 0;
    if (cutoff != 0)
        gate = sparse(b, gate, cutoff);
    x = prog_gated(b->p, gate, build_linear(b, x, "blk.%u.ffn_up", prog_width(b->p, gate)),
                   build_act(b, ACT_GELU));
    return build_linear(b, x, "blk.%u.ffn_down", b->n_embd);
}

/* From the prediction of the active stream to what became of it. */
static val layer(struct build *b, val x, uint32_t window, struct sharing *share)
{
    const val in = build_norm(b, x, "blk.%u.attn_norm");
    const uint32_t rank = build_extent(b, "blk.%u.laurel_l.weight", 0);
    val beside = build_linear(b, build_linear(b, in, "blk.%u.laurel_l", rank), "blk.%u.laurel_r", b->n_embd);

    beside = prog_add(b->p, build_norm(b, beside, "blk.%u.laurel_post_norm"), in);
    x = prog_add(b->p, x, build_norm(b, attention(b, in, window, share), "blk.%u.post_attention_norm"));
    x = half_root(b, x, beside);
    return prog_add(b->p, x, build_norm(b, feed_forward(b, build_norm(b, x, "blk.%u.ffn_norm")),
                                        "blk.%u.post_ffw_norm"));
}

void arch_gemma3n(struct build *b)
{
    const uint32_t window = build_u32(b, "attention.sliding_window", 512);
    const uint32_t shared = build_u32(b, "attention.shared_kv_layers",
                                      b->n_layers > KEYS_OF_20 ? b->n_layers - KEYS_OF_20 : 0);
    const uint32_t dim = build_u32(b, "embedding_length_per_layer_input", 256);
    const float cap = build_f32(b, "final_logit_softcapping", 30);
    const val x = build_scale(b, build_embed(b), sqrtf((float)b->n_embd));
    const val inputs = layer_inputs(b, x, dim);
    const struct rope_args global = b->rope;
    struct sharing share = { .first = shared < b->n_layers ? b->n_layers - shared : 0 };
    struct streams s = begin(b, x);
    struct rope_args turn = b->rope;

    turn.base = build_f32(b, "rope.freq_base_swa", 10000);
    turn.freq_scale = 1;
    while (build_layer(b)) {
        const bool local = build_is_local(b, 5, false);

        b->rope = local ? turn : global;
        predict(b, &s);
        correct(b, &s, layer(b, s.h[s.active], local ? window : 0, &share));
        add_layer_input(b, &s, prog_cols(b->p, inputs, b->layer * dim, dim));
    }
    prog_output(b->p, prog_unary(b->p, build_logits(b, build_norm(b, end(b, &s), "output_norm")),
                                 (struct act_args){ .act = ACT_SOFTCAP, .param = cap }));
}

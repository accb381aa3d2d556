/* build.h: what an architecture file writes its forward pass with.
 *
 * struct build is the context of recording one program from one model file. Its helpers
 * read hyperparameters ("<arch>.KEY"), bind tensors by name with a shape check, and record
 * instructions. Names with "%u" stand for the layer at hand: "blk.%u.attn_q".
 *
 * The first mistake (missing key or tensor, wrong shape) is kept in the program, so that a
 * forward pass needs no error checks; helpers return 0 from then on and build_layer() stops.
 *
 * Unset. Some writers put every known key into every file; 0, -inf, NaN and 4294967295 then
 * mean "unset" and count as absent here.
 *
 * Optional tensors are applied wherever they are present: NAME.bias, NAME.scale, query and
 * key norms, frequency factors, sinks. A tensor that no helper asked for is reported by
 * name. */
#ifndef MODELS_BUILD_H
#define MODELS_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "chips/program.h"
#include "models/gguf.h"
#include "models/pooling.h"

#define BUILD_MAX_LAYERS 4096u

struct lora_build;

struct build {
    struct program    *p;
    const struct gguf *g;
    const char        *arch;        /* prefix of keys */
    bool              *used;        /* [gguf_n_tensors] */
    uint32_t           layer;       /* set by build_layer() */

    uint32_t n_embd, n_vocab, n_ctx_train;
    uint32_t n_layers;              /* block_count less nextn_predict_layers: those that predict
                                     * further tokens are no part of the model proper */
    uint32_t n_ctx;                 /* what sessions will use: picks LongRoPE's factors */
    struct norm_args norm;          /* kind from the table, eps from the file */
    struct rope_args rope;          /* from the file; heads are filled in by build_rope() */
    /* Tensors that some architectures do not read even where a file has them; all true unless
     * the architecture says otherwise. */
    bool     rope_factors;          /* rope_freqs and LongRoPE's */
    bool     biases;                /* of matrices, but for output.bias */
    bool     output_bias;
    bool     causal;                /* attention.causal */
    uint32_t n_ff;                  /* of build_ffn without suffix; 0: feed_forward_length */
    float    alibi;                 /* attention.max_alibi_bias, 0: none */
    /* Embeddings instead of logits (model_opts.embed): pooling as asked, and after
     * build_embedding() the rows that the result is made of. */
    bool         embed;
    enum pooling pooling;
    bool         ranks;             /* the result is a classification head's */
    bool         head_gelu, head_mean;  /* the head's activation, and its rows where no key says */
    val          embedding;         /* made in place of logits */
    struct lora_build *lora;        /* what adapters add to products; NULL: nothing */
};

/* ---- keys: "<arch>." is put in front, but of "/KEY", which is KEY alone ---- */

/* Whole number; array keys give the element of the layer at hand. */
uint32_t build_u32(struct build *b, const char *key, uint32_t unset);
uint32_t build_need_u32(struct build *b, const char *key);  /* unset is an error */
float    build_f32(struct build *b, const char *key, float unset);
bool     build_bool(struct build *b, const char *key, bool unset);
bool     build_set(struct build *b, const char *key);       /* present at all */
/* Whether the layer at hand sees a window only: attention.sliding_window_pattern has a flag for each
 * layer, or a period of which the last layer sees all (the first if first_is_full); unset:
 * that period. */
bool     build_is_local(struct build *b, uint32_t period, bool first_is_full);
bool     build_str_is(struct build *b, const char *key, const char *value);
/* Up to n elements of an array key; missing ones are 0. Returns whether any is set. */
bool     build_u32s(struct build *b, const char *key, uint32_t *out, uint32_t n);

/* ---- tensors ---- */

/* Shape, outermost first; -1: any extent. */
#define SHAPE(...) ((const int64_t[TENSOR_MAX_DIMS + 1]){ __VA_ARGS__ })

bool build_has(struct build *b, const char *name);
wid  build_need(struct build *b, const char *name, const int64_t *shape);
wid  build_opt(struct build *b, const char *name, const int64_t *shape);   /* 0: absent */
/* A tensor that may be there and is not read today is no cause for a warning. */
void build_known(struct build *b, const char *name);
/* Its number of dimensions, 0: absent. */
int  build_dims(struct build *b, const char *name);
/* Extent i of a tensor that must exist (outermost first), 0 after an error. */
uint32_t build_extent(struct build *b, const char *name, int i);

/* ---- layers ---- */

/* while (build_layer(b)) { … }: once per layer, then false. */
bool build_layer(struct build *b);

/* ---- instructions ---- */

val  build_embed(struct build *b);      /* token_embd.weight, output.weight where that is absent */
val  build_positions(struct build *b, val x);   /* x + position_embd.weight */
val  build_types(struct build *b, val x);       /* x + token_types.weight, where present */
val  build_scale(struct build *b, val x, float scale);  /* 1 and 0 leave x as it is */
/* NAME.weight [n_out, width of x], with NAME.bias and NAME.scale where present; n_out 0:
 * what the tensor has. */
val  build_linear(struct build *b, val x, const char *name, uint32_t n_out);
val  build_linear_scaled(struct build *b, val x, const char *name, uint32_t n_out, float scale);
/* y = W[ids] x of n_experts matrices w, with what adapters add to it. */
val  build_adapted_experts(struct build *b, val x, val ids, uint32_t n_experts, val y, wid w);
/* Ids 0 .. n-1 for every token, so that a matrix per head is a matrix per expert. x: any value of at
 * least n columns. */
val  build_all_ids(struct build *b, val x, uint32_t n);
/* b->norm over the row with NAME.weight (some files: NAME alone) and, where present, NAME.bias. */
val  build_norm(struct build *b, val x, const char *name);
/* The same over each group of columns (a head); the gain has `group` or width elements. */
val  build_norm_heads(struct build *b, val x, const char *name, uint32_t group);
/* Logits of the wanted rows: output.weight or the embedding where that is absent. When
 * embeddings are asked for, build_embedding() in their place, which then is the result. */
val  build_logits(struct build *b, val x);
/* The result of an encoder from its last hidden state: rows of the tokens that are wanted or,
 * when embeddings are asked for, pooled, with the file's projections or classification head. */
val  build_embedding(struct build *b, val x);

struct heads { uint32_t n, n_kv, k_dim, v_dim; };
struct heads build_heads(struct build *b);      /* of the layer at hand */

struct qkv { val q, k, v; };
/* From blk.%u.attn_qkv, or attn_q, attn_k and attn_v, the biases together or apart; clamped to
 * attention.clamp_kqv. */
struct qkv build_qkv(struct build *b, val x, const struct heads *h);
/* Rotary positions with the file's scaling and factors. */
val  build_rope(struct build *b, val x, uint32_t n_heads, uint32_t head_dim);
/* Scale 1/sqrt(k_dim) or attention.scale, causal or not as the file says. */
struct attn_args build_attn_args(struct build *b, const struct heads *h);
/* Windows on both sides, of `window` in all (0: none), but in the layers that sliding_window_pattern
 * leaves dense: an array of flags, or n for one layer of n; unset as the arguments say. */
void build_two_sided(struct build *b, struct attn_args *a, uint32_t window, uint32_t n,
                     uint32_t dense);
/* A state of its own, attention with blk.%u.attn_sinks where present, then attn_output. */
val  build_attend(struct build *b, const struct attn_args *a, struct qkv t);
/* The most common attention: q, k, v; norms of q and k per head where present; rope; attend. */
val  build_attention(struct build *b, val x);
/* The same with arguments of one's own: windows, softcaps, scales. use_rope false: none. */
val  build_attention_with(struct build *b, val x, const struct heads *h,
                          const struct attn_args *a, bool use_rope);
/* q and k norms: per head, or one norm over all heads where the gain is as wide as they are
 * and whole_rows. */
void build_qk_norms(struct build *b, struct qkv *t, const struct heads *h, bool whole_rows);

/* NAME.weight [width of x, n_taps] over time, with NAME.bias where present; a state of its own. */
val  build_short_conv(struct build *b, val x, const char *name, uint32_t n_taps);
/* Kimi Delta Attention (arXiv 2510.26692): the gated delta rule with a decay per column of the keys,
 * short convolutions in front, heads normalised and gated behind. Decays are ssm_a softplus(f), or
 * with lower_bound < 0 lower_bound sigmoid(ssm_a f). f and the gate come from one matrix
 * (ssm_f_a, ssm_g_a) or, where there is an ssm_f_b and ssm_g_b, from a narrow pair. */
val  build_kda(struct build *b, val x, uint32_t n_heads, float lower_bound);
/* Mamba-1 (dt, B and C of the convolved input; norms of the three where present, or plain ones
 * where ssm.dt_b_c_rms is set) and Mamba-2 (all of the block's input, ssm_norm over groups of the
 * gated output); sizes from the ssm.… keys. */
val  build_mamba(struct build *b, val x);
val  build_mamba2(struct build *b, val x);

/* Latent attention: sizes of the layer at hand, and the block. */
struct latent {
    uint32_t n, rank;           /* heads; columns of the compressed row */
    uint32_t nope, rot, v;      /* columns per head: plain and rotated of keys, of values */
    float    scale;             /* of the scores: 1 / sqrt(nope + rot) */
    bool     rope;              /* the rotated columns do turn */
    float    temperature;       /* queries grow with the position: struct position_scale_args */
    uint32_t length;
    val      ids;               /* numbers of all heads */
    val      gate;              /* what each head's output is multiplied with, a column per head;
                                 * 0: nothing */
};
/* x: any value with as many columns as heads. */
struct latent build_latent_sizes(struct build *b, val x);
val  build_latent(struct build *b, val x, const struct latent *t);

/* GELU is what the key hidden_act says where a file has it: "gelu" the exact one, others the tanh
 * form; without the key the tanh form from a table of halves, as other engines compute it. */
struct act_args build_act(struct build *b, enum act act);
/* blk.%u.ffn_{gate,up,down}SUFFIX: act(gate) * up; without a gate act(up), or, where up is
 * twice as wide as down takes, its first half gates the second. */
val  build_ffn(struct build *b, val x, enum act act, const char *suffix);

struct moe {
    enum route_score score;
    struct act_args  act;
    bool  normalise;        /* chosen weights sum to 1 */
    float scale;            /* of the weights, 0: 1 */
    val   logits;           /* of the router; 0: ffn_gate_inp of the block's input */
    bool  weigh_input;      /* weights scale what experts read instead of what they give */
    const char *suffix;     /* of the experts' tensors; NULL: "_exps" */
    uint32_t n_used;        /* 0: expert_used_count */
    float clamp, clamp_shared;  /* act(gate) and up are clamped to these; 0: not */
    uint32_t n_sharing;     /* neighbours with one expert between them: struct route_args */
};
/* Score, normalise and scale as the keys expert_gating_func, expert_weights_norm and
 * expert_weights_scale say. */
struct moe build_moe_keys(struct build *b, enum route_score unset, enum act act);
/* build_moe plus the shared expert, ffn_{gate,up,down}_shexp, where the layer has one; gated by
 * the sigmoid of ffn_gate_inp_shexp where that is present. */
val  build_moe_shared(struct build *b, val x, const struct moe *m);
/* blk.%u.ffn_gate_inp routes to ffn_{gate,up,down}_exps (or gate and up in one,
 * ffn_gate_up_exps); selection bias exp_probs_b; groups from the keys. */
val  build_moe(struct build *b, val x, const struct moe *m);
/* Dense where the layer has no router, else build_moe. */
val  build_ffn_or_moe(struct build *b, val x, const struct moe *m);

#endif

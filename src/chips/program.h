/* program.h: a model's forward pass as a flat list of instructions.
 *
 * An architecture records a program once, at load, by calling the prog_…
 * functions below in the order of the computation. A program is over virtual
 * tensors: [rows, width] matrices whose width is known and whose number of rows
 * is a symbol (token rows N, streams S, output rows R) times a small constant,
 * so that one program serves every batch. Values are assigned once (SSA); a
 * column window of a value is a value too and costs nothing.
 *
 * The recorder checks every shape; the first mistake is kept in the program and
 * returned by prog_finish(), so that a forward pass reads without error checks.
 * After prog_finish() a program is immutable and any thread may read it.
 *
 * Who uses it: chips/interp (scalar reference, double precision), chips/cpu
 * (the thread team), later CUDA and the reverse-mode pass. Element type of all
 * values is F32; what an executor uses inside (quantised or BF16 activations)
 * is its own business, except that it must depend only on the row at hand. */
#ifndef CHIPS_PROGRAM_H
#define CHIPS_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "chips/tensor.h"

#define PROG_MAX_INSTR   65536u
#define PROG_MAX_VALUES  131072u
#define PROG_MAX_WEIGHTS 65536u
#define PROG_MAX_STATES  4096u
#define PROG_MAX_SRC     8
#define PROG_MAX_DST     3
#define PROG_MAX_W       8
#define PROG_MAX_WIDTH   (1u << 24)
#define PROG_MAX_PER     4096u      /* rows of a value per unit of its extent */

typedef uint32_t val;       /* a virtual tensor; 0 is "none" */
typedef uint32_t wid;       /* a weight; 0 is "none" */
typedef uint32_t sid;       /* a state; 0 is "none" */

enum extent {
    EXT_N,      /* rows of the batch: one per token */
    EXT_S,      /* streams: one per sequence in the batch */
    EXT_R,      /* rows whose logits or embeddings are wanted */
    EXT_ONE
};

struct prog_value {
    enum extent extent;
    uint32_t per;           /* rows per unit of extent (experts used: k slots per token) */
    uint32_t width;         /* columns */
    val      base;          /* itself, or the value this is a window of */
    uint32_t col;           /* first column in base (0 when base is itself) */
    bool     is_int;        /* holds int32 (expert ids) */
    uint32_t first, last;   /* instruction that makes it / last that reads it (or its windows);
                             * set by prog_finish() */
};

/* How instructions read a weight; decides how an executor prepares it. */
enum weight_use {
    USE_MATRIX = 1,     /* linear: [n_out, n_in] or experts [n_expert, n_out, n_in] */
    USE_TABLE = 2,      /* rows gathered by index */
    USE_VECTOR = 4      /* read as plain numbers (norm gains, biases, factors, convolutions) */
};

struct prog_weight {
    char          name[128];
    struct tensor t;        /* as in the file; data may be NULL in a program made for planning */
    uint32_t      uses;     /* of enum weight_use, or-ed */
};

/* What a layer keeps between steps. */
enum state_kind {
    STATE_KV,           /* keys and values per position, paged */
    STATE_FIXED         /* n_floats per stream, zero at the start of a sequence */
};

struct prog_state {
    enum state_kind kind;
    uint32_t n_kv_heads, k_dim, v_dim;  /* KV: columns per head */
    uint32_t window;                    /* KV: positions that can still be read, 0: all */
    uint32_t n_floats;                  /* FIXED */
    uint64_t first;                     /* FIXED: floats in front of it in struct stream.fixed */
};

enum op {
    OP_NONE,
    OP_EMBED,           /* dst = table[id]                                 w: table */
    OP_LINEAR,          /* dst = src W^T (+ bias)                          w: W, bias, scale */
    OP_NORM,            /* per group of columns                            w: gain, bias */
    OP_ROPE,            /* rotary positions, per head                      w: frequency factors */
    OP_ATTENTION,       /* q, k, v -> dst; writes k, v to its state        w: sinks, buckets */
    OP_UNARY,           /* dst = f(src) */
    OP_GATED,           /* dst = f(gate) * up */
    OP_ADD,             /* dst = a + b (b may be one row, or a weight)     w: vector */
    OP_MUL,             /* dst = a * b (likewise), or a / vector           w: vector */
    OP_AFFINE,          /* dst = scale * src + offset */
    OP_SOFTMAX,         /* per group of columns */
    OP_CONCAT,          /* columns of several values side by side */
    OP_ROWS,            /* the rows that R names, of an N value */
    OP_POSITION_SCALE,  /* dst = src * (1 + c log(1 + floor((pos + offset) / length))) */
    OP_ROUTE,           /* logits -> expert ids [k], weights [k]           w: selection bias */
    OP_EXPERT_LINEAR,   /* per slot: src W[id]^T (+ bias[id])              w: W, bias, scale */
    OP_EXPERT_SPREAD,   /* per slot: weight * src */
    OP_EXPERT_SUM,      /* dst[n] = sum over slots of weight * src */
    OP_RESHAPE,         /* the same numbers of a unit in other rows */
    OP_SHORT_CONV,      /* causal convolution over time, per column        w: kernel, bias */
    OP_SSM_SCAN,        /* x, dt, B, C -> y; selective state space         w: A, D */
    OP_DELTA_RULE,      /* q, k, v, decay, beta -> o; gated delta rule */
    OP_POOL,            /* the mean of a stream's rows */
    OP_LINEAR_ATTENTION,/* q, k, v -> o; a constant decay per head */
    OP_WKV,             /* r, decay, k, v, a, b -> y; RWKV-7 */
    OP_SHIFT,           /* the row before, of each stream */
    OP_CELL,            /* gates of the input -> h; LSTM, GRU               w: W of h, its bias */
    OP_GROUP_SUM,       /* sum of each group of columns */
    OP_CONV,            /* convolution over the rows of a unit              w: kernel, bias */
    OP_ADAPTER,         /* dst[n] = the adapter of the row's stream; of its source the rows, or expert ids */
    OP_ADAPTER_SCALE,   /* dst = src * the adapter_scale of the row's stream */
    OP_COUNT            /* further families are added here, each with its row in op.c and its
                         * own files */
};

enum norm_kind {
    NORM_RMS,           /* x / sqrt(mean(x^2) + eps) */
    NORM_LAYER,         /* (x - mean) / sqrt(variance + eps) */
    NORM_L2             /* x / max(sqrt(sum(x^2)), eps) */
};

struct norm_args {
    enum norm_kind kind;
    uint32_t group;     /* columns normalised together; 0: the whole row. The gain has
                         * `group` or `width` elements */
    float    eps;
};

enum rope_pairing {
    ROPE_NORMAL,        /* pairs (0,1), (2,3), … */
    ROPE_NEOX           /* pairs (i, i + n_rot/2) */
};

struct rope_args {
    enum rope_pairing pairing;
    uint32_t n_heads, head_dim, n_rot;  /* the first n_rot columns of each head turn */
    float    base;                      /* theta */
    float    freq_scale;                /* 1 / linear scaling factor */
    /* YaRN (Peng et al. 2023, arXiv 2309.00071); ext_factor 0: off */
    float    ext_factor, attn_factor, beta_fast, beta_slow;
    uint32_t n_ctx_orig;
    /* Multi-section (time, height, width, extra); all 0: plain. interleaved: the
     * sections alternate per pair instead of following each other. */
    uint32_t sections[4];
    bool     interleaved;
    bool     yarn_smooth;   /* YaRN's ramp begins and ends between pairs */
};

enum mask_kind {
    MASK_CAUSAL,
    MASK_NONE,          /* bidirectional over the stream's rows in the batch and its cache */
    MASK_CHUNKED,       /* causal within aligned chunks of `window` positions */
    MASK_SYMMETRIC      /* bidirectional within window/2 on each side */
};

struct attn_args {
    uint32_t n_heads, n_kv_heads, k_dim, v_dim;
    float    scale;         /* of q·k */
    float    softcap;       /* c * tanh(s / c); 0: off */
    enum mask_kind mask;
    uint32_t window;        /* causal: query at p sees keys p - window < j <= p; 0: all */
    float    alibi_max_bias;    /* 0: off */
    /* Relative buckets (T5, Raffel et al. 2020, arXiv 1910.10683): a score gets the bias that
     * its head has in the bucket of the distance; chips/relative.h. buckets: a weight of
     * [n_buckets, n_heads], 0: off. Distances from max_distance on share a bucket. */
    wid      buckets;
    uint32_t n_buckets, max_distance;
    bool     write;         /* false: keys and values come from another layer's state */
};

enum act {
    ACT_NONE, ACT_SILU, ACT_GELU /* tanh form */, ACT_GELU_ERF, ACT_GELU_QUICK, ACT_RELU,
    ACT_RELU2, ACT_SIGMOID, ACT_TANH, ACT_SOFTPLUS, ACT_EXP, ACT_NEG_EXP /* -exp(x) */,
    ACT_SOFTCAP /* c tanh(x/c), c = param */, ACT_CLAMP /* to -param..param */, ACT_XIELU, ACT_COUNT
};

/* Huang and Schlag 2024, arXiv 2411.13010: p x^2 + beta x where x > 0, elsewhere
 * n (exp(min(x, eps)) - 1 - x) + beta x. eps is just below 0. */
struct xielu { float p, n, beta, eps; };

struct act_args {
    enum act act;
    float    param;     /* GELU: 1 asks the interpreter for the formula, not the table of halves */
    /* gated: gate and up clamped to limit when > 0 (gate from above only), the gate's
     * sigmoid sharpened by alpha when > 0, up shifted by up_offset (gpt-oss: alpha
     * 1.702, limit 7, up_offset 1) */
    float    limit, alpha, up_offset;
    struct xielu xielu;
};

/* Experts are taken by descending score plus bias, ties by lower id, NaN last; slots of a
 * row are in that order. Weights are scores without the bias. */
enum route_score { ROUTE_SOFTMAX, ROUTE_SIGMOID, ROUTE_SOFTMAX_SELECTED /* over the chosen */,
                   ROUTE_NONE /* logits are weights */ };

struct route_args {
    enum route_score score;
    uint32_t n_experts, n_used;
    uint32_t n_groups, n_groups_used;   /* 0/1: no groups (DeepSeek-V3: sum of best two) */
    bool     normalise;     /* chosen weights divided by their sum */
    float    norm_floor;    /* the sum is at least this when normalising (0: none) */
    float    scale;         /* applied last; 0 counts as 1 */
    uint32_t n_sharing;     /* this many neighbours share one expert (GroveMoE's adjugate ones): a
                             * chosen number is divided by it, and weights are the scores there.
                             * Then all n_experts / n_sharing exist; 0 counts as 1 */
};

/* product * (scale weight) * scale + bias. The scale weight has one element, or one per
 * output (per expert in OP_EXPERT_LINEAR). */
struct linear_args { float scale; /* 0 counts as 1 */ };
struct affine_args { float scale, offset; };
struct embed_args  { enum embed_by { EMBED_TOKEN, EMBED_POSITION, EMBED_ZERO, EMBED_TYPE } by;
                     uint32_t offset; /* added to the position; BY ZERO: the row itself */ };
/* Temperature tuning of long contexts: Llama 4, Mistral 3. */
struct position_scale_args { float c; uint32_t length, offset; /* length > 0 */ };

/* y[t][c] = bias[c] + sum over j of kernel[c][j] * x[t - n_taps + 1 + j][c]; what lies in front
 * of the batch comes from the state, [n_taps - 1][width], oldest first. */
struct conv_args { uint32_t n_taps; };

/* Mamba (Gu and Dao 2023, arXiv 2312.00752) with heads of one column and an A per state;
 * Mamba-2 (Dao and Gu 2024, arXiv 2405.21060) with an A per head. Head h reads group
 * h / (n_heads / n_groups) of B and C. With d = softplus(dt):
 *   S[i][s] = exp(d A) S[i][s] + B[s] d x[i];  y[i] = sum over s of C[s] S[i][s] + D x[i]
 * State: [n_heads][head_dim][d_state]. A is negative as it is in files: not a logarithm. */
struct ssm_args { uint32_t n_heads, head_dim, d_state, n_groups; };

/* Gated delta rule (Yang, Kautz, Hatamizadeh 2024, arXiv 2412.06464), per value head:
 *   S = exp(decay) S;  S += k (beta (v - S^T k))^T;  o = S^T (scale q)
 * decay has a column per value head, or k_dim of them. Value head h reads key head
 * h / (n_heads / n_k_heads), or h % n_k_heads when tiled. State: [n_heads][v_dim][k_dim]. */
struct delta_args {
    uint32_t n_heads, n_k_heads, k_dim, v_dim;
    float    scale;
    bool     tiled;
};

/* Linear attention with decay: lightning attention (Qin et al. 2024, arXiv 2401.04658). Per head
 * S = exp(-decay m) S + v k^T;  o = S (scale q), with m = 2^(-8 (h + 1) / n_heads).
 * State: [n_heads][v_dim][k_dim]. */
struct linear_attn_args {
    uint32_t n_heads, k_dim, v_dim;
    float    scale, decay;
};

/* RWKV-7 (Peng et al. 2025, arXiv 2503.14456), per head:
 *   S = S diag(exp(decay)) + (S a) b^T + v k^T;  y = S r, where S a is of the old state.
 * State: [n_heads][head_dim][head_dim], a row per column of v. */
struct wkv_args { uint32_t n_heads, head_dim; };

/* Recurrent cells; the operand holds W x + b of all gates, w: [n_gates * n_hidden][n_hidden].
 *   LSTM (Hochreiter and Schmidhuber 1997; Gers 2000), gates i, f, g, o of x's plus w h (+ bias):
 *     c = sigmoid(f) c + sigmoid(i) tanh(g);  h = sigmoid(o) tanh(c).        State: [h][c]
 *   GRU (Cho et al. 2014), gates r, z, n: n = tanh(n of x + sigmoid(r) (n of w h, + bias));
 *     h = (1 - sigmoid(z)) n + sigmoid(z) h.                                 State: [h] */
enum cell_kind { CELL_LSTM, CELL_GRU };
struct cell_args { enum cell_kind kind; uint32_t n_hidden; };

/* n adapters; n_each 0, or experts that each has matrices for: the result is adapter * n_each + id. */
struct adapter_args { uint32_t n, n_each; };

/* A unit's rows are the places of a picture [height][width] (a line of samples: height 1), its
 * columns are channels. Place y, x of the result sums kernel[o][i][ky][kx] times the source at
 * y * stride_y - pad_y + ky * dilation_y (likewise in x) over the channels i of o's group; places
 * outside are zeros. kernel: [n_out][channels / groups][k_height][k_width]. */
struct conv2d_args {
    uint32_t height, width;             /* of the source; height * width rows per unit */
    uint32_t n_out, k_height, k_width;
    uint32_t stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x, groups;
};
/* m of head h above. */
double prog_linear_slope(uint32_t head, uint32_t n_heads);
/* Extent of the result along one axis, 0: the kernel doesn't fit. */
uint32_t prog_conv_extent(uint32_t n, uint32_t kernel, uint32_t stride, uint32_t pad,
                          uint32_t dilation);

struct instr {
    enum op  op;
    uint8_t  n_src, n_dst, n_w;
    val      dst[PROG_MAX_DST];
    val      src[PROG_MAX_SRC];
    wid      w[PROG_MAX_W];         /* 0 for an absent optional weight */
    sid      state;
    uint32_t layer;                 /* for reports; UINT32_MAX outside layers */
    union {
        struct norm_args norm;
        struct rope_args rope;
        struct attn_args attn;
        struct act_args act;
        struct route_args route;
        struct linear_args linear;
        struct affine_args affine;
        struct embed_args embed;
        struct position_scale_args pscale;
        struct conv_args conv;
        struct ssm_args ssm;
        struct delta_args delta;
        bool divide;                /* mul: by the vector instead */
        struct linear_attn_args linattn;
        struct wkv_args wkv;
        struct cell_args cell;
        struct conv2d_args conv2d;
        struct adapter_args adapter;
        uint32_t group;             /* softmax, group sum; reshape: rows per unit */
        uint8_t raw[96];
    } a;
};

struct program;

/* ---- recording ---- */

int  prog_open(struct program **out, struct err *e) MUST_CHECK;
void prog_close(struct program *p);             /* NULL is fine */

/* Adds a weight; the tensor view is copied, the data is not. The same name twice
 * gives the same wid. NULL t: none (0), so that optional tensors pass through. */
wid  prog_weight(struct program *p, const char *name, const struct tensor *t);
/* A value's shape as seen while recording; width 0 for none. */
uint32_t prog_width(const struct program *p, val v);
sid  prog_state_kv(struct program *p, uint32_t n_kv_heads, uint32_t k_dim, uint32_t v_dim,
                   uint32_t window);
sid  prog_state_fixed(struct program *p, uint32_t n_floats);
void prog_layer(struct program *p, uint32_t layer);   /* labels what follows */
/* Keeps the first failure; prog_finish() returns it. */
void prog_fail(struct program *p, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
bool prog_failed(const struct program *p);

val  prog_embed(struct program *p, wid table, struct embed_args a);
val  prog_linear(struct program *p, val x, wid w, wid bias, wid scale, struct linear_args a);
val  prog_norm(struct program *p, val x, wid gain, wid bias, struct norm_args a);
val  prog_rope(struct program *p, val x, wid factors, const struct rope_args *a);
/* q: [N, n_heads*k_dim], k: [N, n_kv_heads*k_dim], v: [N, n_kv_heads*v_dim]
 * -> [N, n_heads*v_dim]. k = v = 0 when a->write is false. */
val  prog_attention(struct program *p, val q, val k, val v, wid sinks, sid state,
                    const struct attn_args *a);
val  prog_unary(struct program *p, val x, struct act_args a);
val  prog_gated(struct program *p, val gate, val up, struct act_args a);
val  prog_add(struct program *p, val x, val y);         /* y: same shape, or width 1 */
val  prog_add_w(struct program *p, val x, wid vector);
val  prog_mul(struct program *p, val x, val y);         /* y: same shape, or width 1 */
val  prog_mul_w(struct program *p, val x, wid vector);
val  prog_div_w(struct program *p, val x, wid vector);
val  prog_affine(struct program *p, val x, float scale, float offset);
val  prog_softmax(struct program *p, val x, uint32_t group);
val  prog_concat(struct program *p, const val *xs, uint32_t n);
val  prog_rows(struct program *p, val x);
val  prog_position_scale(struct program *p, val x, struct position_scale_args a);
void prog_route(struct program *p, val logits, wid bias, const struct route_args *a,
                val *ids, val *weights);
/* x: [N, n_in] or [N*k, n_in]; ids: [N, k] -> [N*k, n_out] */
val  prog_expert_linear(struct program *p, val x, val ids, wid w, wid bias, wid scale);
/* x: [N, width], weights: [N, k] -> [N*k, width], each slot's copy times its weight */
val  prog_expert_spread(struct program *p, val x, val weights);
/* x: [N*k, width], weights: [N, k] -> [N, width] */
val  prog_expert_sum(struct program *p, val x, val weights);
/* x: [N*p, width] -> [N*per, p*width/per]; one of the widths divides the other. */
val  prog_reshape(struct program *p, val x, uint32_t per);
/* x: [N, width], kernel: [width][n_taps]; state of (n_taps - 1) * width floats */
val  prog_short_conv(struct program *p, val x, wid kernel, wid bias, sid state,
                     struct conv_args a);
/* x: [N, n_heads*head_dim], dt: [N, n_heads], B and C: [N, n_groups*d_state] */
val  prog_ssm_scan(struct program *p, val x, val dt, val b, val c, wid a_w, wid d_w, sid state,
                   const struct ssm_args *a);
/* q, k: [N, n_k_heads*k_dim], v: [N, n_heads*v_dim], beta: [N, n_heads] */
val  prog_delta_rule(struct program *p, val q, val k, val v, val decay, val beta, sid state,
                     const struct delta_args *a);
/* x: [N, width] -> [S, width]: the mean over each stream's rows, summed in ascending order.
 * A stream's rows must all be in one step. */
val  prog_pool(struct program *p, val x);
/* q, k: [N, n_heads*k_dim], v: [N, n_heads*v_dim] */
val  prog_linear_attention(struct program *p, val q, val k, val v, sid state,
                           const struct linear_attn_args *a);
/* All [N, n_heads*head_dim]. */
val  prog_wkv(struct program *p, val r, val decay, val k, val v, val a, val b, sid state,
              const struct wkv_args *args);
/* y[t] = x[t - 1]; zeros in front of the first row. State of width floats. */
val  prog_shift(struct program *p, val x, sid state);
/* gates: [N, n_gates*n_hidden] -> [N, n_hidden]; state of n_hidden floats, LSTM: twice that. */
val  prog_cell(struct program *p, val gates, wid w, wid bias, sid state, struct cell_args a);
/* x: [.., width] -> [.., width / group] */
val  prog_group_sum(struct program *p, val x, uint32_t group);
/* x: [.. height*width, channels] -> [.. height'*width', n_out]. A line of n places is height 1,
 * with a kernel of height 1. */
val  prog_conv2d(struct program *p, val x, wid kernel, wid bias, const struct conv2d_args *a);
/* Which of n_adapters the rows of x belong to (struct stream), as ids [rows of x, 1] for
 * prog_expert_linear: each row has the adapter of its sequence. n_each > 0: x is ids of so many
 * experts, and the result [rows, k] numbers the experts of all adapters, those of the first one
 * first. */
val  prog_adapter(struct program *p, val x, uint32_t n_adapters, uint32_t n_each);
/* x: [.., width], times the scale that each row's sequence has its adapter at (struct stream). */
val  prog_adapter_scale(struct program *p, val x);
/* A window of columns; no instruction. */
val  prog_cols(struct program *p, val x, uint32_t col, uint32_t width);

/* Declares the result: logits or embeddings, [R or S, width]. */
void prog_output(struct program *p, val x);

/* Moves row-wise work behind prog_rows() where only those rows are wanted (the last
 * layer's feed-forward then runs on R rows instead of N), drops instructions whose
 * results nobody reads, sets lifetimes and uses. Any row-wise instruction can
 * therefore have extent R: executors take the number of rows from the value's
 * extent, never from the batch alone. Only OP_EMBED, OP_ROPE, OP_POSITION_SCALE,
 * OP_ATTENTION and OP_ROWS are sure to read N values. Returns the first failure of the
 * recording. */
int  prog_finish(struct program *p, struct err *e) MUST_CHECK;
/* A finished program again over other weights of the same shapes: tensors[w] for weight w,
 * [n_weights + 1]. Views are copied, data is not. WATT_ENOMEM. */
int  prog_clone(struct program **out, const struct program *p, const struct tensor *tensors,
                struct err *e) MUST_CHECK;

/* ---- reading ---- */

uint32_t prog_n_instr(const struct program *p);
const struct instr *prog_instr(const struct program *p, uint32_t i);
uint32_t prog_n_values(const struct program *p);        /* ids are 1..n */
const struct prog_value *prog_value(const struct program *p, val v);
uint32_t prog_n_weights(const struct program *p);       /* ids are 1..n */
const struct prog_weight *prog_weight_at(const struct program *p, wid w);
uint32_t prog_n_states(const struct program *p);        /* ids are 1..n */
const struct prog_state *prog_state_at(const struct program *p, sid s);
val      prog_result(const struct program *p);
const char *op_name(enum op op);
void     prog_print(const struct program *p, FILE *out);    /* one line per instruction */

/* ---- memory plan: passes/plan.c ---- */

/* Rows of an extent under these maxima. */
uint32_t prog_rows_of(const struct prog_value *v, uint32_t n_rows, uint32_t n_streams,
                      uint32_t n_out);

/* Places every value that is not a window in one arena for at most n_rows token
 * rows, n_streams and n_out rows; values whose lifetimes don't meet share bytes.
 * offset: [prog_n_values + 1], indexed by val, in bytes, 64-byte aligned; windows
 * get their base's offset plus col*4. Rows are dense: stride = base width * 4. The
 * result of an element by element instruction (unary, gated, add, mul, affine) may
 * lie exactly on a source of the same shape that dies there. Never CHECKs: bad maxima
 * are WATT_EINVAL, a total beyond 2^62 WATT_ELIMIT. */
int  prog_plan(const struct program *p, uint32_t n_rows, uint32_t n_streams, uint32_t n_out,
               uint64_t *offset, uint64_t *total_bytes, struct err *e) MUST_CHECK;

/* ---- cost model: passes/cost.c ---- */

struct prog_cost {
    double ops;             /* multiply and add counted apart */
    double weight_bytes;    /* weights read once per step */
    double kv_bytes;        /* read from and written to state; KV counted as F16 */
    double act_bytes;       /* values read and written */
};

/* Cost of a step of n_rows rows in n_streams equal streams that already hold
 * n_past positions each, n_out rows wanted. per: NULL or [prog_n_instr]. */
void prog_cost(const struct program *p, uint32_t n_rows, uint32_t n_streams, uint32_t n_past,
               uint32_t n_out, struct prog_cost *total, struct prog_cost *per);

#endif

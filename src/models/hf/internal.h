/* internal.h: what the files of the Hugging Face reader share. */
#ifndef MODELS_HF_INTERNAL_H
#define MODELS_HF_INTERNAL_H

#include <stdint.h>

#include "base/json.h"
#include "base/mem.h"
#include "models/gguf_make.h"
#include "models/hf/hf.h"
#include "models/safetensors.h"

/* ---- what a family is ---- */

/* How the rows of a GGUF tensor are found in the folder's. */
enum hf_map {
    HF_SAME,
    HF_ROPE_Q, HF_ROPE_K,   /* halves of a head become neighbouring pairs */
    HF_FIRST, HF_SECOND,    /* half of the rows of each matrix */
    HF_EVEN, HF_ODD,        /* every other row of each matrix */
    HF_QKV,                 /* q, k, v grouped by key head become all q, all k, all v */
    HF_K_B, HF_V_B,         /* DeepSeek's kv_b: keys (turned) and values of each head */
    HF_TO_VOCAB,            /* tokens behind the last row have the first one */
    HF_MAP_MASK = 31
};
/* With that, as flags: */
#define HF_TURN    32u      /* each matrix is transposed first */
#define HF_VECTOR  64u      /* the last extent counts as rows of one element */
#define HF_COLUMN  128u     /* the result gets a last extent of 1 */
#define HF_SQUEEZE 256u     /* extents of 1 are dropped */
#define HF_ADD1    512u     /* x + 1 */
#define HF_NEG_EXP 1024u    /* -exp(x) */
#define HF_DROP    2048u    /* known and of no use */
#define HF_GROUPS  4096u    /* a vector becomes n_groups rows */
#define HF_SCALE_ROWS 8192u /* each row by row_scale[i] of the first row_ends[i] above it */
#define HF_SCALED  16384u
#define HF_SCALE(i) (HF_SCALED | (unsigned)(i) << 16)   /* x * scale[i], i below 8 */
#define HF_SCALE_INDEX(how) ((how) >> 16 & 7)

/* A tensor's name: '#' stands for the layer, '*' for the expert. A name without .weight or .bias
 * stands for both; `to` then has no suffix either. Of several rows with one `from` all apply. */
struct hf_name {
    const char *from, *to;
    unsigned    how;        /* enum hf_map | flags */
};

/* A key "<arch>.KEY": kind 'u' (u32), 'f' (f32), 'b' (bool); fields: names in config.json, the
 * first that is there counts, separated by '|'; NULL: always `value`. */
struct hf_key {
    const char *key;
    char        kind;
    const char *fields;
    double      value;
};

/* A field whose value we depend on: names as above, then the values that are known, separated
 * by '|', with "" for an absent one. Numbers and booleans are compared as JSON spells them. */
struct hf_expect { const char *fields, *values; };

struct hf;

struct hf_family {
    const char             *arch;       /* GGUF */
    const struct hf_name   *names;      /* before the common ones; NULL */
    const struct hf_key    *keys;       /* before the common ones; NULL */
    const struct hf_expect *expect;     /* NULL */
    const char             *acts;       /* known activations, as hf_expect.values; NULL: any */
    unsigned                flags;
    int                   (*more)(struct hf *h, struct err *e);    /* NULL */
    int                   (*from_weights)(struct hf *h, struct err *e);    /* keys of h->st; NULL */
};

#define HF_LAYER_NORM  1u   /* layer norms: their epsilon's key is another */
#define HF_NORMS_ADD1  2u   /* every norm's gain is stored less 1 */
#define HF_NO_ROPE     4u
#define HF_PERMUTE     8u   /* q_proj and k_proj: HF_ROPE_Q, HF_ROPE_K */
#define HF_ENCODER     16u  /* no output matrix is expected */
#define HF_NO_HEAD_DIM 32u  /* head_dim does not mean key_length */
#define HF_TANH_GELU   128u /* the name "gelu" means the tanh form */
#define HF_NO_WINDOW   64u  /* sliding_window is not written by the common keys */

/* Named by the lines of families.def. */
#define HF_FAMILY(class_name, model_type, family) extern const struct hf_family hf_family_##family;
#include "models/hf/families.def"
#undef HF_FAMILY

/* ---- a folder being opened ---- */

/* quantization_config of config.json. */
struct hf_quant {
    enum { HF_QUANT_NONE, HF_QUANT_FP8, HF_QUANT_COMPRESSED, HF_QUANT_MXFP4, HF_QUANT_GPTQ,
           HF_QUANT_AWQ } method;
    uint32_t group;         /* GPTQ, AWQ: inputs per scale; 0: all */
    uint32_t zero_offset;   /* GPTQ: added to stored zero points */
    uint32_t block[2];      /* FP8: rows and columns per scale */
};

/* A small tensor that is computed from config.json. */
struct hf_made {
    char     name[64];
    float   *data;
    uint32_t n;
};
#define HF_MAX_MADE 4

struct hf {
    const char             *dir;
    const struct hf_opts   *opts;
    char                   *config_path;
    json_t                 *config;
    struct json_place       root, text;     /* text_config where there is one */
    const struct hf_family *family;
    const char             *class_name;
    struct gguf_make       *out;
    struct safetensors     *st;
    struct hf_weights      *weights;
    struct hf_made          made[HF_MAX_MADE];
    unsigned                n_made;
    bool                    tied;
    struct hf_quant         quant;
    /* facts, 0 where a family has none */
    uint32_t kv_b[2];       /* DeepSeek: columns of a head's keys without position, and values */
    uint32_t n_groups, n_ff;
    float    scale[8], row_scale[5];
    uint32_t row_ends[5];
    uint32_t n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_rot, n_experts, n_vocab, n_ctx;
};

void hf_warn(const struct hf *h, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* dir/name in out, which is reset; false when memory is short. */
bool hf_path(const struct hf *h, const char *name, struct str *out);

/* ---- config.json (fields.c) ---- */

/* Parses h->config_path and finds the family. */
int hf_config_load(struct hf *h, struct err *e) MUST_CHECK;
/* The first of the fields that is there, in text_config or at the root; value NULL: none. */
int hf_field(const struct hf *h, const char *fields, struct json_place *out,
             struct err *e) MUST_CHECK;
int hf_u32(const struct hf *h, const char *fields, uint32_t otherwise, uint32_t *out,
           struct err *e) MUST_CHECK;
int hf_f32(const struct hf *h, const char *fields, float otherwise, float *out,
           struct err *e) MUST_CHECK;
int hf_bool(const struct hf *h, const char *fields, bool otherwise, bool *out,
            struct err *e) MUST_CHECK;
/* Does layer_types[layer] (or the string pattern's) equal name? false where there is no list. */
bool hf_layer_is(const struct hf *h, const char *fields, uint32_t layer, const char *name);

/* "<arch>.KEY", or KEY alone of "/KEY" */
void hf_put_u32(struct hf *h, const char *key, uint32_t v);
void hf_put_f32(struct hf *h, const char *key, float v);
void hf_put_bool(struct hf *h, const char *key, bool v);
void hf_put_str(struct hf *h, const char *key, const char *v);
void hf_put_array(struct hf *h, const char *key, enum gguf_type type, const void *v, uint32_t n);
bool hf_has(const struct hf *h, const char *key);

/* All keys of the model: the family's, the common ones, rotary positions. */
int hf_keys(struct hf *h, struct err *e) MUST_CHECK;
int hf_rope(struct hf *h, struct err *e) MUST_CHECK;    /* rope.c */
/* Room for n computed values named `name`, zeroed; NULL after setting e. */
float *hf_make(struct hf *h, const char *name, uint32_t n, struct err *e);

/* ---- weights (tensors.c, sources.c, fill.c) ---- */

/* Names every tensor, checks shapes and types, adds them to h->out and writes those that can't
 * stay in their files. */
int  hf_weights_open(struct hf *h, struct err *e) MUST_CHECK;
void hf_weights_close(struct hf_weights *w);
extern const struct hf_name hf_common_names[];

/* What a tensor of the folder is made of. */
int hf_quant_read(struct hf *h, struct err *e) MUST_CHECK;
enum hf_store { HF_PLAIN, HF_FP8, HF_MXFP4, HF_GPTQ, HF_AWQ };
struct hf_source {
    const struct safetensors_tensor *t, *scale, *zeros;
    enum hf_store store;
    enum dtype    dtype;            /* that its rows are read as */
    int           n_dims;
    int64_t       shape[TENSOR_MAX_DIMS];   /* of elements, outermost first */
    uint32_t      group, zero_offset;   /* GPTQ, AWQ: inputs per scale; added to zero points */
    int64_t       block[2];         /* FP8: rows and columns per scale */
    bool          symmetric;
};
/* Fills *s from the tensor called name; *companion: it only belongs to another one. */
int hf_source(const struct hf *h, const struct safetensors_tensor *t, struct hf_source *s,
              struct str *logical_name, bool *companion, struct err *e) MUST_CHECK;
/* Elements [col, col + n) of a row (of all matrices in turn) as floats. */
void hf_source_read(const struct hf_source *s, int64_t row, int64_t col, int64_t n, float *out);
/* A whole row in s->dtype's blocks, for HF_MXFP4, HF_GPTQ and HF_AWQ. */
void hf_source_blocks(const struct hf_source *s, int64_t row, void *out);

/* ---- texts (tokenizer*.c) ---- */

int hf_tokenizer(struct hf *h, struct err *e) MUST_CHECK;

#endif

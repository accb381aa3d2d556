/* tensors.c: names the tensors of a folder as GGUF does, and decides which stay in their files.
 *
 * A tensor's name loses the prefixes that classes put in front ("model.", "transformer.", …) and is
 * then looked up in the family's rows and in those that most families share. Experts' matrices
 * become one tensor with the expert outermost. Vectors and the other tensors that quantisation
 * leaves alone (models/quant_mix.h) become F32, as GGUF files have them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/map.h"
#include "models/hf/weights.h"
#include "models/name_table.h"
#include "models/quant_mix.h"

#define MAX_EXTENT (INT64_C(1) << 31)
#define ALIGN 64u

/* What most decoders call their tensors. */
const struct hf_name hf_common_names[] = {
    { "embed_tokens", "token_embd", 0 },
    { "norm", "output_norm", 0 },
    { "lm_head", "output", 0 },
    { "layers.#.input_layernorm", "blk.#.attn_norm", 0 },
    { "layers.#.post_attention_layernorm", "blk.#.ffn_norm", 0 },
    { "layers.#.self_attn.q_proj", "blk.#.attn_q", 0 },
    { "layers.#.self_attn.k_proj", "blk.#.attn_k", 0 },
    { "layers.#.self_attn.v_proj", "blk.#.attn_v", 0 },
    { "layers.#.self_attn.o_proj", "blk.#.attn_output", 0 },
    { "layers.#.self_attn.qkv_proj", "blk.#.attn_qkv", 0 },
    { "layers.#.self_attn.q_norm", "blk.#.attn_q_norm", 0 },
    { "layers.#.self_attn.k_norm", "blk.#.attn_k_norm", 0 },
    { "layers.#.self_attn.sinks", "blk.#.attn_sinks.weight", 0 },
    { "layers.#.self_attn.rotary_emb.inv_freq", "", HF_DROP },
    { "rotary_emb.inv_freq", "", HF_DROP },
    { "layers.#.mlp.gate_proj", "blk.#.ffn_gate", 0 },
    { "layers.#.mlp.up_proj", "blk.#.ffn_up", 0 },
    { "layers.#.mlp.down_proj", "blk.#.ffn_down", 0 },
    { "layers.#.mlp.gate_up_proj", "blk.#.ffn_up", 0 },
    { "layers.#.mlp.gate", "blk.#.ffn_gate_inp", 0 },
    { "layers.#.mlp.gate.e_score_correction_bias", "blk.#.exp_probs_b.bias", 0 },
    { "layers.#.mlp.experts.*.gate_proj", "blk.#.ffn_gate_exps", 0 },
    { "layers.#.mlp.experts.*.up_proj", "blk.#.ffn_up_exps", 0 },
    { "layers.#.mlp.experts.*.down_proj", "blk.#.ffn_down_exps", 0 },
    { "layers.#.mlp.experts.gate_up_proj", "blk.#.ffn_gate_exps.weight", HF_FIRST },
    { "layers.#.mlp.experts.gate_up_proj", "blk.#.ffn_up_exps.weight", HF_SECOND },
    { "layers.#.mlp.experts.down_proj", "blk.#.ffn_down_exps.weight", 0 },
    { "layers.#.mlp.shared_expert.gate_proj", "blk.#.ffn_gate_shexp", 0 },
    { "layers.#.mlp.shared_expert.up_proj", "blk.#.ffn_up_shexp", 0 },
    { "layers.#.mlp.shared_expert.down_proj", "blk.#.ffn_down_shexp", 0 },
    { "layers.#.mlp.shared_experts.gate_proj", "blk.#.ffn_gate_shexp", 0 },
    { "layers.#.mlp.shared_experts.up_proj", "blk.#.ffn_up_shexp", 0 },
    { "layers.#.mlp.shared_experts.down_proj", "blk.#.ffn_down_shexp", 0 },
    { "layers.#.mlp.shared_expert_gate", "blk.#.ffn_gate_inp_shexp", 0 },
    { 0 }
};

/* ---- names ---- */

static struct sv without_prefixes(struct sv name)
{
    static const char *const prefixes[] = { "model.", "language_model.", "transformer.",
                                            "backbone.", "bert.", "gpt_neox.", "text_model." };
    size_t i = 0;

    while (i < sizeof prefixes / sizeof *prefixes) {
        const struct sv p = sv_cstr(prefixes[i]);

        if (sv_starts(name, p) && name.len > p.len) {
            name.data += p.len;
            name.len -= p.len;
            i = 0;
        } else {
            i++;
        }
    }
    return name;
}

/* Does name fit the pattern? Numbers of layer and expert come out. */
static bool fits(const char *pattern, struct sv name, uint32_t *layer, uint32_t *expert)
{
    size_t i = 0;

    for (; *pattern; pattern++) {
        if (*pattern == '#' || *pattern == '*') {
            uint32_t *to = *pattern == '#' ? layer : expert;
            uint32_t v = 0;
            size_t digits = 0;

            for (; i < name.len && name.data[i] >= '0' && name.data[i] <= '9'; i++) {
                if (++digits > 6)
                    return false;
                v = v * 10 + (uint32_t)(name.data[i] - '0');
            }
            if (digits == 0)
                return false;
            *to = v;
        } else if (i < name.len && name.data[i] == *pattern) {
            i++;
        } else {
            return false;
        }
    }
    return i == name.len;
}

struct match {
    uint32_t    layer, expert;      /* UINT32_MAX: none in the pattern */
    const char *suffix;             /* ".weight", ".bias", "" */
};

static bool matches(const struct hf_name *row, struct sv name, struct match *m)
{
    static const char *const suffixes[] = { "", ".weight", ".bias" };

    for (size_t i = 0; i < 3; i++) {
        struct sv stem = name;

        m->layer = m->expert = UINT32_MAX;
        if (!sv_ends(name, sv_cstr(suffixes[i])))
            continue;
        stem.len -= strlen(suffixes[i]);
        if (fits(row->from, stem, &m->layer, &m->expert)) {
            m->suffix = suffixes[i];
            return true;
        }
    }
    return false;
}

static void gguf_name(const struct hf_name *row, const struct match *m, char out[GGUF_MAX_NAME_BYTES + 1])
{
    const char *at = strchr(row->to, '#');

    if (at)
        (void)snprintf(out, GGUF_MAX_NAME_BYTES + 1, "%.*s%u%s%s", (int)(at - row->to), row->to,
                       m->layer, at + 1, m->suffix);
    else
        (void)snprintf(out, GGUF_MAX_NAME_BYTES + 1, "%s%s", row->to, m->suffix);
}

/* ---- planning ---- */

struct plan {
    struct hf         *h;
    struct hf_weights *w;
    struct map         by_name;     /* position in w->tensors */
    uint32_t           n_unused;
    uint32_t           n_other;     /* of pictures and sound */
};

static int refuse(const struct hf *h, const struct hf_source *s, struct err *e, int code,
                  const char *fmt, ...) PRINTF_LIKE(5, 6);
static int refuse(const struct hf *h, const struct hf_source *s, struct err *e, int code,
                  const char *fmt, ...)
{
    char shown[NAME_SHOWN], what[256];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return err_set(e, code, "%s: tensor '%s' (%s): %s", safetensors_path(h->st, s->t->shard),
                   name_show(shown, s->t->name), safetensors_type_name(s->t->type), what);
}

/* Extents of the result from those of one source, in t->shape. */
static int result_shape(const struct hf *h, const struct hf_source *s, unsigned how,
                        struct tensor *t, struct err *e)
{
    int64_t shape[TENSOR_MAX_DIMS + 1];
    int n = 0;
    int64_t *rows;
    const enum hf_map map = (enum hf_map)(how & HF_MAP_MASK);

    for (int i = 0; i < s->n_dims; i++)
        if (!(how & HF_SQUEEZE) || s->shape[i] != 1)
            shape[n++] = s->shape[i];
    if (n == 0)
        shape[n++] = 1;
    if ((how & HF_TURN) && n < 2)
        return refuse(h, s, e, WATT_EFORMAT, "has 1 extent, expected a matrix");
    if (how & HF_TURN) {
        const int64_t last = shape[n - 1];

        shape[n - 1] = shape[n - 2];
        shape[n - 2] = last;
    }
    rows = (how & HF_VECTOR) || n == 1 ? &shape[n - 1] : &shape[n - 2];
    if (map >= HF_FIRST && map <= HF_ODD) {
        if (*rows % 2 != 0)
            return refuse(h, s, e, WATT_EFORMAT, "has %" PRId64 " rows, expected an even number",
                          *rows);
        *rows /= 2;
    }
    if (map == HF_ROPE_Q || map == HF_ROPE_K) {
        const int64_t heads = map == HF_ROPE_Q ? h->n_heads : h->n_kv_heads;

        if (heads == 0 || *rows % heads != 0 || *rows / heads % 2 != 0)
            return refuse(h, s, e, WATT_EFORMAT, "has %" PRId64 " rows, expected those of %" PRId64
                          " heads", *rows, heads);
    }
    if (map == HF_QKV && *rows != (int64_t)(h->n_heads + 2 * h->n_kv_heads) * h->head_dim)
        return refuse(h, s, e, WATT_EFORMAT, "has %" PRId64 " rows, expected %" PRIu32 " and 2 "
                      "times %" PRIu32 " heads of %" PRIu32, *rows, h->n_heads, h->n_kv_heads,
                      h->head_dim);
    if (map == HF_TO_VOCAB) {
        if (n != 2 || *rows < 1 || *rows > h->n_vocab)
            return refuse(h, s, e, WATT_EFORMAT, "has %" PRId64 " rows, expected a table of at most %"
                          PRIu32, *rows, h->n_vocab);
        *rows = h->n_vocab;
    }
    if (map == HF_K_B || map == HF_V_B) {
        const int64_t nope = h->kv_b[0], v = h->kv_b[1];

        if (n != 2 || *rows != (int64_t)h->n_heads * (nope + v))
            return refuse(h, s, e, WATT_EFORMAT, "has %" PRId64 " rows, expected %" PRIu32
                          " heads of %" PRId64 " and %" PRId64, *rows, h->n_heads, nope, v);
        shape[2] = map == HF_K_B ? nope : shape[1];
        shape[1] = map == HF_K_B ? shape[1] : v;
        shape[0] = h->n_heads;
        n = 3;
    }
    if (how & HF_COLUMN)
        shape[n++] = 1;
    if (how & HF_GROUPS) {
        if (n != 1 || h->n_groups == 0 || shape[0] % h->n_groups != 0)
            return refuse(h, s, e, WATT_EFORMAT, "is no vector of %" PRIu32 " groups", h->n_groups);
        shape[1] = shape[0] / h->n_groups;
        shape[0] = h->n_groups;
        n = 2;
    }
    if (n > TENSOR_MAX_DIMS)
        return refuse(h, s, e, WATT_EFORMAT, "has too many extents");
    for (int i = 0; i < n; i++) {
        if (shape[i] <= 0 || shape[i] > MAX_EXTENT)
            return refuse(h, s, e, WATT_EFORMAT, "an extent is %" PRId64, shape[i]);
        t->shape[i] = shape[i];
    }
    t->n_dims = (uint8_t)n;
    return 0;
}

static bool is_float(enum dtype type)
{
    return type == DTYPE_F32 || type == DTYPE_F16 || type == DTYPE_BF16 || type == DTYPE_F64;
}

/* Type of the result: as stored where kernels read that and quantisation touches it, else F32. */
static int result_type(const struct hf *h, const struct hf_source *s, unsigned how,
                       const char *name, struct tensor *t, struct err *e)
{
    const bool blocks = s->store != HF_PLAIN && s->store != HF_FP8;

    if (s->dtype == DTYPE_COUNT || (!blocks && !is_float(s->dtype)))
        return refuse(h, s, e, WATT_EFORMAT, "is of a type that weights don't have, expected F32, "
                      "F16, BF16 or FP8 with scales");
    t->dtype = s->dtype;
    if (blocks) {
        const enum hf_map map = (enum hf_map)(how & HF_MAP_MASK);

        if ((how & ~(unsigned)HF_MAP_MASK) != 0 || map == HF_K_B)
            return refuse(h, s, e, WATT_ENOTSUP, "its rows can't be changed without unpacking");
    } else if (s->dtype == DTYPE_F64 || t->n_dims == 1 || (how & (HF_ADD1 | HF_NEG_EXP)) ||
               !quant_mix_applies(sv_cstr(name), t->n_dims)) {
        t->dtype = DTYPE_F32;
    }
    return 0;
}

static int set_size(const struct hf *h, const struct hf_source *s, struct tensor *t, struct err *e)
{
    uint64_t n = 1, bytes;

    for (int i = 0; i < t->n_dims; i++)
        if (!mul_u64(n, (uint64_t)t->shape[i], &n))
            n = UINT64_MAX;
    if (n > (uint64_t)INT64_MAX / 8 || !dtype_row_bytes((uint32_t)t->dtype, n, &bytes) ||
        (uint64_t)tensor_row(t) % dtype_info((uint32_t)t->dtype)->block_elems != 0)
        return refuse(h, s, e, WATT_EFORMAT, "its rows are no whole blocks, or it is too big");
    t->size_bytes = bytes;
    return 0;
}

static void set_view(struct hf_tensor *p, const struct tensor *t, bool has_expert)
{
    int n = t->n_dims, first = has_expert ? 1 : 0;
    const bool flat = n - first == 1 || (p->how & (HF_VECTOR | HF_COLUMN));

    if (p->how & HF_COLUMN)
        n--;
    p->cols = flat ? 1 : t->shape[n - 1];
    p->rows = flat ? t->shape[n - 1] : t->shape[n - 2];
    p->n = 1;
    for (int i = first; i < n - (flat ? 1 : 2); i++)
        p->n *= t->shape[i];
}

static bool grow(void *array, size_t *cap, size_t n, size_t size)
{
    void **p = array;
    size_t bigger = *cap ? *cap : 64;
    void *grown;

    if (n <= *cap)
        return true;
    while (bigger < n)
        bigger *= 2;
    grown = mem_grow(*p, bigger, size);
    if (!grown)
        return false;
    *p = grown;
    *cap = bigger;
    return true;
}

static int no_memory(const struct hf *h, struct err *e)
{
    return err_set(e, WATT_ENOMEM, "%s: out of memory for its tensors", h->dir);
}

/* May the kernels read it where it is? */
static bool can_stay(const struct hf_source *s, const struct hf_tensor *p, const struct tensor *t)
{
    return s->store == HF_PLAIN && p->n_sources == 1 && t->dtype == s->dtype &&
           (p->how & ~(unsigned)(HF_SQUEEZE | HF_COLUMN | HF_VECTOR | HF_GROUPS)) == HF_SAME &&
           (uintptr_t)s->t->data % 8 == 0;
}

/* A new tensor of the result, with room for its sources. */
static int add_tensor(struct plan *p, const struct hf_source *s, const struct hf_name *row,
                      const struct match *m, const char *name, struct err *e)
{
    struct hf_weights *w = p->w;
    const bool expert = m->expert != UINT32_MAX;
    const uint32_t n_sources = expert ? p->h->n_experts : 1;
    struct hf_tensor *t;
    struct tensor view = { 0 };
    int rc = result_shape(p->h, s, row->how, &view, e);

    if (rc == 0 && expert) {
        if (view.n_dims == TENSOR_MAX_DIMS)
            return refuse(p->h, s, e, WATT_EFORMAT, "has too many extents for an expert's");
        memmove(view.shape + 1, view.shape, view.n_dims * sizeof view.shape[0]);
        view.shape[0] = n_sources;
        view.n_dims++;
    }
    if (rc == 0)
        rc = result_type(p->h, s, row->how, name, &view, e);
    if (rc == 0)
        rc = set_size(p->h, s, &view, e);
    if (rc < 0)
        return rc;
    if (!grow(&w->tensors, &w->cap_tensors, w->n_tensors + 1, sizeof *w->tensors) ||
        !grow(&w->sources, &w->cap_sources, w->n_sources + n_sources, sizeof *w->sources))
        return no_memory(p->h, e);
    t = &w->tensors[w->n_tensors];
    *t = (struct hf_tensor){ .index = gguf_make_n_tensors(p->h->out), .how = row->how,
                             .n_sources = n_sources, .first_source = (uint32_t)w->n_sources,
                             .layer = m->layer };
    set_view(t, &view, expert);
    memset(w->sources + w->n_sources, 0, n_sources * sizeof *w->sources);
    t->direct = can_stay(s, t, &view);
    if (t->direct)
        view.data = s->t->data;
    gguf_make_tensor(p->h->out, sv_cstr(name), &view, t->direct ? 1 + s->t->shard : 0,
                     t->direct ? s->t->file_offset : 0);
    if (gguf_make_n_tensors(p->h->out) != t->index + 1)
        return no_memory(p->h, e);
    rc = map_put(&p->by_name, sv_cstr(name), w->n_tensors, e);
    w->n_sources += n_sources;
    w->n_tensors++;
    return rc;
}

/* Experts may differ in whether their zero points are symmetric. */
static bool same_source(const struct hf_source *a, const struct hf_source *b)
{
    return a->store == b->store && (a->dtype == b->dtype || a->store >= HF_GPTQ) &&
           a->n_dims == b->n_dims &&
           memcmp(a->shape, b->shape, (size_t)a->n_dims * sizeof a->shape[0]) == 0;
}

static int place_source(struct plan *p, const struct hf_source *s, const struct hf_name *row,
                        const struct match *m, struct err *e)
{
    char name[GGUF_MAX_NAME_BYTES + 1];
    const struct hf_tensor *t;
    struct hf_source *slot;
    uint64_t at;
    int rc = 0;

    gguf_name(row, m, name);
    if (m->expert != UINT32_MAX && m->expert >= p->h->n_experts)
        return refuse(p->h, s, e, WATT_EFORMAT, "is of expert %" PRIu32 ", config.json has %" PRIu32,
                      m->expert, p->h->n_experts);
    if (!map_get(&p->by_name, sv_cstr(name), &at)) {
        at = p->w->n_tensors;
        rc = add_tensor(p, s, row, m, name, e);
    }
    if (rc < 0)
        return rc;
    t = &p->w->tensors[at];
    slot = &p->w->sources[t->first_source];
    if (slot->t && m->expert == UINT32_MAX)
        return refuse(p->h, s, e, WATT_EFORMAT, "is a second %s", name);
    for (uint32_t i = 0; i < t->n_sources; i++) {
        if (!slot[i].t)
            continue;
        if (!same_source(&slot[i], s))
            return refuse(p->h, s, e, WATT_EFORMAT, "differs in shape or type from expert %" PRIu32
                          "'s", i);
        break;
    }
    slot[m->expert == UINT32_MAX ? 0 : m->expert] = *s;
    return 0;
}

static unsigned added_flags(const struct hf *h, const struct hf_name *row)
{
    const struct sv to = sv_cstr(row->to);
    const struct sv stem = sv_cstr(row->from);

    if ((h->family->flags & HF_NORMS_ADD1) && sv_ends(to, SV("norm")) &&
        sv_ends(stem, SV("norm")))
        return HF_ADD1;
    if (h->family->flags & HF_PERMUTE)
        return sv_ends(stem, SV("self_attn.q_proj")) ? HF_ROPE_Q
             : sv_ends(stem, SV("self_attn.k_proj")) ? HF_ROPE_K : 0;
    return 0;
}

static bool is_unwanted_output(const struct hf *h, struct sv name)
{
    return h->tied && (sv_eq_cstr(name, "lm_head.weight") || sv_eq_cstr(name, "embed_out.weight") ||
                       sv_eq_cstr(name, "output.weight"));
}

/* The parts of a model that see and hear. */
static bool is_of_other_inputs(struct sv name)
{
    static const char *const parts[] = { "vision_tower.", "audio_tower.", "embed_vision.", "embed_audio.",
                                         "vision_model.", "multi_modal_projector.", "visual." };

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (sv_starts(name, sv_cstr(parts[i])))
            return true;
    return false;
}

/* Finds the rows for one tensor of the folder. */
static int place(struct plan *p, const struct hf_source *s, struct sv name, struct err *e)
{
    const struct hf_name *const tables[] = { p->h->family->names, hf_common_names };
    bool found = false;
    struct match m;
    int rc = 0;

    name = without_prefixes(name);
    if (is_unwanted_output(p->h, name))
        return 0;
    for (size_t i = 0; i < 2 && !found; i++) {
        for (const struct hf_name *row = tables[i]; row && row->from && rc == 0; row++) {
            struct hf_name with = *row;

            if (!matches(row, name, &m))
                continue;
            found = true;
            if (m.layer != UINT32_MAX && m.layer >= p->h->n_layers) {
                p->n_unused++;      /* layers that only predict further ahead */
                continue;
            }
            with.how |= added_flags(p->h, row);
            if ((with.how & HF_SCALED) && p->h->scale[HF_SCALE_INDEX(with.how)] == 1)
                with.how = 0;
            if (with.how == HF_TO_VOCAB && s->n_dims == 2 && s->shape[0] == p->h->n_vocab)
                with.how = 0;
            if (with.how & HF_ADD1 && strcmp(m.suffix, ".weight") != 0)
                with.how &= ~HF_ADD1;
            if (!(row->how & HF_DROP))
                rc = place_source(p, s, &with, &m, e);
        }
    }
    if (rc == 0 && !found && is_of_other_inputs(name)) {
        p->n_other++;
    } else if (rc == 0 && !found) {
        char shown[NAME_SHOWN];

        hf_warn(p->h, "tensor %s is not known to %s and not used", name_show(shown, s->t->name),
                p->h->class_name);
    }
    return rc;
}

/* Experts that no file had. */
static int check_complete(const struct plan *p, struct err *e)
{
    for (size_t i = 0; i < p->w->n_tensors; i++) {
        const struct hf_tensor *t = &p->w->tensors[i];

        for (uint32_t k = 0; k < t->n_sources; k++) {
            const struct hf_source *s = &p->w->sources[t->first_source];
            char shown[NAME_SHOWN];

            if (s[k].t)
                continue;
            for (uint32_t other = 0; other < t->n_sources; other++)
                if (s[other].t)
                    return err_set(e, WATT_EFORMAT, "%s: expert %" PRIu32 " of %" PRIu32
                                   " is missing beside tensor '%s'", p->h->dir, k, t->n_sources,
                                   name_show(shown, s[other].t->name));
        }
    }
    return 0;
}

/* Two or more experts of different kinds of blocks: the general kind for all. */
static void unite_types(struct plan *p)
{
    for (size_t i = 0; i < p->w->n_tensors; i++) {
        const struct hf_tensor *t = &p->w->tensors[i];
        struct hf_source *s = &p->w->sources[t->first_source];
        struct tensor *view = gguf_make_tensor_at(p->h->out, t->index);
        bool symmetric = true;

        if (s->store < HF_GPTQ)
            continue;
        for (uint32_t k = 0; k < t->n_sources; k++)
            symmetric = symmetric && s[k].symmetric;
        for (uint32_t k = 0; k < t->n_sources; k++) {
            s[k].symmetric = symmetric;
            s[k].dtype = symmetric ? DTYPE_Q4_0 : DTYPE_Q4_1;
        }
        view->dtype = s->dtype;
        (void)dtype_row_bytes((uint32_t)view->dtype, (uint64_t)tensor_elems(view),
                              &view->size_bytes);
    }
}

/* Values that were computed from config.json. */
static int add_made(struct plan *p, struct err *e)
{
    for (unsigned i = 0; i < p->h->n_made; i++) {
        const struct hf_made *m = &p->h->made[i];
        const struct tensor t = { .data = m->data, .dtype = DTYPE_F32, .n_dims = 1,
                                  .shape = { m->n }, .size_bytes = m->n * sizeof *m->data };

        if (map_get(&p->by_name, sv_cstr(m->name), NULL))
            return err_set(e, WATT_EFORMAT, "%s: tensor %s is both in the files and made from "
                           "config.json", p->h->dir, m->name);
        gguf_make_tensor(p->h->out, sv_cstr(m->name), &t, 0, 0);
    }
    return 0;
}

static int check_output(const struct plan *p, struct err *e)
{
    struct json_place tied;

    if (p->h->family->flags & HF_ENCODER || p->h->tied ||
        map_get(&p->by_name, SV("output.weight"), NULL))
        return 0;
    if (hf_field(p->h, "tie_word_embeddings", &tied, e) == 0 && tied.value)
        return err_set(e, WATT_EFORMAT, "%s: tensor lm_head.weight is missing, though "
                       "tie_word_embeddings is false", p->h->dir);
    return 0;
}

/* Gives each tensor that is written its place. */
static int allocate(struct plan *p, struct err *e)
{
    uint64_t at = 0;

    for (size_t i = 0; i < p->w->n_tensors; i++) {
        struct hf_tensor *t = &p->w->tensors[i];

        if (t->direct)
            continue;
        t->at = at;
        if (!add_u64(at, gguf_make_tensor_at(p->h->out, t->index)->size_bytes + ALIGN, &at))
            return no_memory(p->h, e);
        at -= at % ALIGN;
    }
    if (at > SIZE_MAX)
        return no_memory(p->h, e);
    p->w->memory_bytes = (size_t)at;
    p->w->memory = at ? mem_map((size_t)at) : NULL;
    if (at && !p->w->memory)
        return err_set(e, WATT_ENOMEM, "%s: %" PRIu64 " bytes for weights that GGUF has in "
                       "another order", p->h->dir, at);
    for (size_t i = 0; i < p->w->n_tensors; i++) {
        const struct hf_tensor *t = &p->w->tensors[i];

        if (!t->direct)
            gguf_make_tensor_at(p->h->out, t->index)->data = p->w->memory + t->at;
    }
    return 0;
}

static int plan_all(struct plan *p, struct err *e)
{
    struct str name;
    int rc = 0;

    str_init(&name, 0);
    for (size_t i = 0; rc == 0 && i < safetensors_n_tensors(p->h->st); i++) {
        struct hf_source s;
        bool companion;

        rc = hf_source(p->h, safetensors_at(p->h->st, i), &s, &name, &companion, e);
        if (rc == 0 && !companion)
            rc = place(p, &s, sv_of(&name), e);
    }
    str_deinit(&name);
    if (rc == 0)
        rc = check_complete(p, e);
    if (rc == 0)
        rc = check_output(p, e);
    if (rc < 0)
        return rc;
    unite_types(p);
    if (p->n_unused)
        hf_warn(p->h, "%" PRIu32 " tensors of layers after the last of %" PRIu32 " are not used",
                p->n_unused, p->h->n_layers);
    if (p->n_other)
        hf_warn(p->h, "%" PRIu32 " tensors are for pictures or sound, which are not read", p->n_other);
    rc = add_made(p, e);
    return rc == 0 ? allocate(p, e) : rc;
}

int hf_weights_open(struct hf *h, struct err *e)
{
    struct plan p = { .h = h };
    int rc = safetensors_open(&h->st, h->dir, e);

    if (rc == 0)
        rc = hf_quant_read(h, e);
    if (rc == 0 && h->family->from_weights)
        rc = h->family->from_weights(h, e);
    if (rc < 0)
        return rc;
    p.w = h->weights = mem_calloc(1, sizeof *p.w);
    if (!p.w)
        return no_memory(h, e);
    p.w->h = h;
    p.w->st = h->st;
    for (uint32_t i = 0; i < safetensors_n_shards(h->st); i++)
        (void)gguf_make_part(h->out, safetensors_map(h->st, i));
    rc = map_init(&p.by_name, MAP_MAX_ENTRIES, e);
    if (rc < 0)
        return rc;
    rc = plan_all(&p, e);
    map_deinit(&p.by_name);
    return rc == 0 ? hf_fill(p.w, h->out, e) : rc;
}

/* What the result needs as long as it lives goes on to hf.c; here everything ends. */
void hf_weights_close(struct hf_weights *w)
{
    if (!w)
        return;
    mem_free(w->tensors);
    mem_free(w->sources);
    mem_unmap(w->memory, w->memory_bytes);
    mem_free(w);
}

/* model.c: opens a model: file, architecture, program, facts; see model.h. */
#include "models/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "infrastructure/store.h"
#include "models/build_internal.h"
#include "models/charrnn.h"
#include "models/hf/hf.h"
#include "models/lora.h"

#define MAX_WARNINGS 1024u

struct model {
    struct gguf       *g;           /* owned */
    struct program    *p;           /* owned */
    struct model_facts facts;
    char             **warnings;    /* [n_warnings], owned */
    uint32_t           n_warnings;
    void             **blocks;      /* [n_blocks] adapters' matrices, owned */
    size_t             n_blocks;
    uint32_t           n_adapters;
};

void model_close(struct model *m)
{
    if (!m)
        return;
    for (uint32_t i = 0; i < m->n_warnings; i++)
        mem_free(m->warnings[i]);
    mem_free(m->warnings);
    for (size_t i = 0; i < m->n_blocks; i++)
        mem_free(m->blocks[i]);
    mem_free(m->blocks);
    prog_close(m->p);
    gguf_close(m->g);
    mem_free(m);
}

/* ---- warnings ---- */

static int warn(struct model *m, const struct model_opts *opts, const char *text, struct err *e)
{
    char **bigger;

    if (m->n_warnings == MAX_WARNINGS)
        return 0;
    bigger = mem_grow(m->warnings, m->n_warnings + 1, sizeof *bigger);
    if (!bigger)
        return err_set(e, WATT_ENOMEM, "model: list of warnings");
    m->warnings = bigger;
    bigger[m->n_warnings] = mem_strdup(text);
    if (!bigger[m->n_warnings])
        return err_set(e, WATT_ENOMEM, "model: a warning");
    m->n_warnings++;
    if (opts && opts->warn)
        opts->warn(opts->ctx, text);
    return 0;
}

static int warn_unused(struct model *m, const struct build *b, const struct model_opts *opts,
                       struct err *e)
{
    /* a checkpoint of a training run has the optimiser's tensors, too */
    const bool checkpoint = gguf_find(m->g, "train.version") != NULL;
    char text[ERR_MSG_MAX];
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < gguf_n_tensors(m->g); i++) {
        const struct sv name = gguf_tensor_at(m->g, i)->name;

        if (b->used[i] || (checkpoint && sv_starts(name, SV("opt."))))
            continue;
        (void)snprintf(text, sizeof text, "tensor %.*s is not used by architecture %s",
                       (int)name.len, name.data, b->arch);
        rc = warn(m, opts, text, e);
    }
    return rc;
}

/* ---- facts ---- */

static void copy_text(char *out, size_t size, struct sv s)
{
    const size_t n = s.len < size ? s.len : size - 1;

    memcpy(out, s.data, n);
    out[n] = '\0';
}

/* Types in order of their bytes; those under half a percent are left out. */
static void describe_types(struct model_facts *f, const uint64_t *bytes)
{
    bool done[DTYPE_COUNT] = { false };
    size_t at = 0;

    for (int k = 0; k < 4 && f->tensor_bytes > 0; k++) {
        uint32_t best = DTYPE_COUNT;
        double share;

        for (uint32_t t = 0; t < DTYPE_COUNT; t++)
            if (!done[t] && bytes[t] > 0 && (best == DTYPE_COUNT || bytes[t] > bytes[best]))
                best = t;
        if (best == DTYPE_COUNT)
            break;
        done[best] = true;
        share = 100.0 * (double)bytes[best] / (double)f->tensor_bytes;
        if (k == 0)
            f->main_dtype = (enum dtype)best;
        else if (share < 0.5)
            break;
        at += (size_t)snprintf(f->quant + at, sizeof f->quant - at, "%s%s %.0f %%",
                               k ? ", " : "", dtype_name(best), share);
    }
}

static void count_tensors(struct model *m)
{
    uint64_t bytes[DTYPE_COUNT] = { 0 };

    for (size_t i = 0; i < gguf_n_tensors(m->g); i++) {
        const struct tensor *t = &gguf_tensor_at(m->g, i)->t;

        m->facts.n_params += (uint64_t)tensor_elems(t);
        m->facts.tensor_bytes += t->size_bytes;
        bytes[t->dtype] += t->size_bytes;
    }
    describe_types(&m->facts, bytes);
}

static void read_program(struct model *m)
{
    struct model_facts *f = &m->facts;

    for (uint32_t i = 0; i < prog_n_instr(m->p); i++) {
        const struct instr *in = prog_instr(m->p, i);

        if (in->op == OP_ATTENTION && f->n_heads == 0) {
            f->n_heads = in->a.attn.n_heads;
            f->n_kv_heads = in->a.attn.n_kv_heads;
            f->k_dim = in->a.attn.k_dim;
            f->v_dim = in->a.attn.v_dim;
        }
        if (in->op == OP_ATTENTION && in->a.attn.window &&
            (f->window == 0 || in->a.attn.window < f->window))
            f->window = in->a.attn.window;
        if (in->op == OP_ATTENTION && in->a.attn.mask != MASK_CAUSAL &&
            in->a.attn.mask != MASK_CHUNKED)
            f->causal = false;
        if (in->op == OP_ROPE && f->rope_base == 0)
            f->rope_base = in->a.rope.base;
        if (in->op == OP_ROUTE && f->n_experts == 0) {
            f->n_experts = in->a.route.n_experts;
            f->n_experts_used = in->a.route.n_used;
        }
    }
    for (sid s = 1; s <= prog_n_states(m->p); s++)
        f->fixed_floats += prog_state_at(m->p, s)->n_floats;
    f->n_out = prog_width(m->p, prog_result(m->p));
    f->pooled = prog_value(m->p, prog_result(m->p))->extent == EXT_S;
    f->whole_inputs = !f->causal || f->pooled;
}

/* ---- opening ---- */

static int find_arch(const struct gguf *g, const struct arch **arch, struct err *e)
{
    struct sv name;
    int rc = gguf_get_str(g, "general.architecture", &name, e);

    if (rc < 0)
        return rc == WATT_ENOENT
                   ? err_set(e, WATT_EFORMAT, "%s: key general.architecture is missing, expected "
                             "the name of an architecture", gguf_path(g))
                   : rc;
    *arch = arch_find(name);
    if (!*arch)
        return err_set(e, WATT_ENOTSUP, "%s: key general.architecture is \"%.*s\", which this "
                       "build does not know", gguf_path(g), (int)(name.len < 64 ? name.len : 64),
                       name.data);
    return 0;
}

static int record(struct model *m, struct build *b, const struct arch *arch, struct err *e)
{
    int rc = prog_open(&m->p, e);

    if (rc < 0)
        return rc;
    b->p = m->p;
    b->g = m->g;
    b->used = mem_calloc(gguf_n_tensors(m->g) + 1, sizeof *b->used);
    if (!b->used)
        return err_set(e, WATT_ENOMEM, "model: %zu tensors", gguf_n_tensors(m->g));
    build_begin(b, arch);
    if (!prog_failed(m->p))
        arch->build(b);
    if (b->embedding)
        prog_output(m->p, b->embedding);
    return prog_finish(m->p, e);
}

static void fill_facts(struct model *m, const struct build *b)
{
    struct model_facts *f = &m->facts;
    struct sv name;

    copy_text(f->arch, sizeof f->arch, sv_cstr(b->arch));
    if (gguf_get_str(m->g, "general.name", &name, NULL) == 0)
        copy_text(f->name, sizeof f->name, name);
    f->n_vocab = b->n_vocab;
    f->n_ctx_train = b->n_ctx_train;
    f->n_embd = b->n_embd;
    f->n_layers = b->n_layers;
    f->embeds = b->embed;
    f->pooling = b->pooling;
    f->ranks = b->ranks;
    f->causal = true;
    count_tensors(m);
    read_program(m);
}

int model_open_gguf(struct model **out, struct gguf *g, const struct model_opts *opts,
                    struct err *e)
{
    struct model *m = mem_calloc(1, sizeof *m);
    struct build b = { .n_ctx = opts ? opts->n_ctx : 0, .embed = opts && opts->embed,
                       .pooling = opts ? opts->pooling : POOLING_FILE };
    struct lora_build lora = { .adapters = opts ? opts->adapters : NULL,
                               .n_adapters = opts ? opts->n_adapters : 0,
                               .fresh = opts ? opts->new_adapter : NULL };
    const struct arch *arch = NULL;
    int rc;

    b.lora = &lora;
    if (!m) {
        gguf_close(g);
        return err_set(e, WATT_ENOMEM, "model: header");
    }
    m->g = g;
    rc = find_arch(g, &arch, e);
    if (rc == 0 && lora.n_adapters > LORA_MAX_ADAPTERS)
        rc = err_set(e, WATT_ELIMIT, "model: %u adapters, at most %u", lora.n_adapters,
                     LORA_MAX_ADAPTERS);
    if (rc == 0)
        rc = record(m, &b, arch, e);
    m->blocks = lora.blocks;
    m->n_blocks = lora.n_blocks;
    m->n_adapters = lora.n_adapters;
    if (rc == 0)
        rc = lora_finish(&lora, e);
    lora_build_deinit(&lora, true);
    if (rc == 0) {
        fill_facts(m, &b);
        rc = warn_unused(m, &b, opts, e);
    }
    mem_free(b.used);
    if (rc < 0) {
        model_close(m);
        return rc;
    }
    *out = m;
    return 0;
}

int model_file_open(struct gguf **out, const char *path, const struct model_opts *opts,
                    bool vocab_only, struct err *e)
{
    static const struct model_opts none;
    const struct model_opts *o = opts ? opts : &none;
    const struct hf_opts folder = { .warn = o->warn, .ctx = o->ctx, .vocab_only = vocab_only };
    char *found;
    int rc = store_resolve(path, &found, e);

    if (rc < 0)
        return rc;
    if (charrnn_is_folder(found))
        rc = charrnn_open(out, found, o->warn, o->ctx, e);
    else
        rc = hf_is_folder(found) ? hf_open(out, found, &folder, e) : gguf_open(out, found, e);
    mem_free(found);
    return rc;
}

int model_open(struct model **out, const char *path, const struct model_opts *opts,
               struct err *e)
{
    struct gguf *g = NULL;
    int rc = model_file_open(&g, path, opts, false, e);

    return rc < 0 ? rc : model_open_gguf(out, g, opts, e);
}

const struct gguf *model_gguf(const struct model *m) { return m->g; }
const struct program *model_program(const struct model *m) { return m->p; }
uint32_t model_n_adapters(const struct model *m)
{
    return m->n_adapters;
}

const struct model_facts *model_facts(const struct model *m) { return &m->facts; }
uint32_t model_n_warnings(const struct model *m) { return m->n_warnings; }

const char *model_warning(const struct model *m, uint32_t i)
{
    CHECK(i < m->n_warnings);
    return m->warnings[i];
}

/* explain.c: layers in words; see explain.h. */
#include "applications/explain.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"

#define MAX_KINDS 16
#define KIND_BYTES 64

struct text { char *p; size_t size, at; };

static struct text text_in(char *out, size_t size)
{
    out[0] = '\0';
    return (struct text){ out, size, 0 };
}

static void add(struct text *t, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void add(struct text *t, const char *fmt, ...)
{
    va_list ap;
    int n;

    if (t->at >= t->size)
        return;
    va_start(ap, fmt);
    n = vsnprintf(t->p + t->at, t->size - t->at, fmt, ap);
    va_end(ap);
    t->at += n > 0 ? (size_t)n : 0;
}

static const char *plural(uint32_t n)
{
    return n == 1 ? "" : "s";
}

/* ---- rotary positions ---- */

static void rope_text(const struct instr *in, struct text *t)
{
    const struct rope_args *a = &in->a.rope;

    add(t, "base %g", (double)a->base);
    if (a->n_rot < a->head_dim)
        add(t, ", %u of %u columns", a->n_rot, a->head_dim);
    if (a->ext_factor != 0)
        add(t, ", YaRN x%g from %u", 1 / (double)a->freq_scale, a->n_ctx_orig);
    else if (a->freq_scale != 1)
        add(t, ", stretched x%g", 1 / (double)a->freq_scale);
    if (in->w[0])
        add(t, ", own factors");
    if (a->sections[0] && a->sections[1])
        add(t, ", sections %u %u %u %u", a->sections[0], a->sections[1], a->sections[2],
            a->sections[3]);
}

/* The first rotation of a layer; UINT32_MAX: of any layer. NULL: none. */
static const struct instr *rope_of(const struct program *p, uint32_t layer)
{
    for (uint32_t i = 0; i < prog_n_instr(p); i++) {
        const struct instr *in = prog_instr(p, i);

        if (in->op == OP_ROPE && (layer == UINT32_MAX || in->layer == layer))
            return in;
    }
    return NULL;
}

/* Whether all layers that turn do it the same way. */
static bool ropes_agree(const struct program *p)
{
    char first[EXPLAIN_TEXT_BYTES], other[EXPLAIN_TEXT_BYTES];
    const struct instr *one = rope_of(p, UINT32_MAX);
    struct text t = text_in(first, sizeof first);

    if (one)
        rope_text(one, &t);
    for (uint32_t i = 0; i < prog_n_instr(p); i++) {
        const struct instr *in = prog_instr(p, i);

        t = text_in(other, sizeof other);
        if (in->op != OP_ROPE)
            continue;
        rope_text(in, &t);
        if (strcmp(first, other) != 0)
            return false;
    }
    return true;
}

void explain_rope(const struct model *m, char *out, size_t size)
{
    const struct program *p = model_program(m);
    const struct instr *one = rope_of(p, UINT32_MAX);
    struct text t = text_in(out, size);

    if (!one)
        return;
    if (ropes_agree(p))
        rope_text(one, &t);
    else
        add(&t, "differs between layers");
}

/* ---- one layer ---- */

static bool is_latent(const struct attn_args *a)
{
    return a->n_kv_heads == 1 && a->k_dim > a->v_dim;
}

static void attention_text(const struct program *p, const struct instr *in, struct text *t)
{
    const struct attn_args *a = &in->a.attn;
    const struct instr *rope = rope_of(p, in->layer);

    if (is_latent(a))
        add(t, "latent attention, %u head%s over one row of %u", a->n_heads, plural(a->n_heads),
            a->k_dim);
    else
        add(t, "attention, %u head%s over %u of %u", a->n_heads, plural(a->n_heads),
            a->n_kv_heads, a->k_dim);
    if (a->v_dim != a->k_dim && !is_latent(a))
        add(t, " (values %u)", a->v_dim);
    if (a->window)
        add(t, a->mask == MASK_CHUNKED ? ", chunks of %u" : ", window %u", a->window);
    if (a->mask == MASK_NONE || a->mask == MASK_SYMMETRIC)
        add(t, ", both ways");
    if (a->softcap > 0)
        add(t, ", scores capped at %g", (double)a->softcap);
    if (in->w[0])
        add(t, ", sinks");
    if (!a->write)
        add(t, ", keys of another layer");
    if (a->alibi_max_bias > 0)
        add(t, ", ALiBi %g", (double)a->alibi_max_bias);
    if (a->buckets)
        add(t, ", %u relative buckets", a->n_buckets);
    if (rope && !ropes_agree(p)) {
        add(t, ", rope ");
        rope_text(rope, t);
    } else if (!rope && rope_of(p, UINT32_MAX)) {
        add(t, ", no positions");
    }
}

static const char *act_name(enum act act)
{
    static const char *const names[ACT_COUNT] = {
        [ACT_SILU] = "SiLU", [ACT_GELU] = "GELU", [ACT_GELU_ERF] = "GELU",
        [ACT_GELU_QUICK] = "GELU", [ACT_RELU] = "ReLU", [ACT_RELU2] = "squared ReLU",
        [ACT_XIELU] = "xIELU",
    };

    return names[act];
}

static enum op made_by(const struct program *p, val v)
{
    const struct prog_value *base = prog_value(p, prog_value(p, v)->base);

    return base->first < prog_n_instr(p) ? prog_instr(p, base->first)->op : OP_NONE;
}

/* An activation between two products; `product` is OP_LINEAR or OP_EXPERT_LINEAR. */
static bool is_feed_forward(const struct program *p, const struct instr *in, enum op product)
{
    if ((in->op != OP_GATED && in->op != OP_UNARY) || !act_name(in->a.act.act))
        return false;
    for (int i = 0; i < in->n_src; i++)
        if (made_by(p, in->src[i]) != product)
            return false;
    for (uint32_t i = 0; i < prog_n_instr(p); i++) {
        const struct instr *user = prog_instr(p, i);

        if (user->op == product && prog_value(p, user->src[0])->base ==
                                       prog_value(p, in->dst[0])->base)
            return true;
    }
    return false;
}

static void feed_forward_text(const struct program *p, const struct instr *in, const char *what,
                              struct text *t)
{
    add(t, "%s of %u, %s%s", what, prog_value(p, in->dst[0])->width,
        in->op == OP_GATED ? "gated " : "", act_name(in->a.act.act));
}

static void route_text(const struct instr *in, struct text *t)
{
    const struct route_args *a = &in->a.route;

    add(t, "%u of %u experts", a->n_used, a->n_experts);
    if (a->n_groups > 1)
        add(t, " in %u of %u groups", a->n_groups_used, a->n_groups);
}

/* What an instruction says about its layer; nothing for most. */
static bool instr_text(const struct program *p, const struct instr *in, bool routed,
                       struct text *t)
{
    switch (in->op) {
    case OP_ATTENTION:
        attention_text(p, in, t);
        return true;
    case OP_SSM_SCAN:
        add(t, "%s, %u head%s of %u with %u numbers a column, %u group%s",
            in->a.ssm.head_dim == 1 ? "Mamba-1" : "Mamba-2", in->a.ssm.n_heads,
            plural(in->a.ssm.n_heads), in->a.ssm.head_dim, in->a.ssm.d_state, in->a.ssm.n_groups,
            plural(in->a.ssm.n_groups));
        return true;
    case OP_DELTA_RULE:
        add(t, "gated delta rule, %u head%s of %u by %u", in->a.delta.n_heads,
            plural(in->a.delta.n_heads), in->a.delta.k_dim, in->a.delta.v_dim);
        return true;
    case OP_LINEAR_ATTENTION:
        add(t, "linear attention, %u head%s of %u by %u", in->a.linattn.n_heads,
            plural(in->a.linattn.n_heads), in->a.linattn.k_dim, in->a.linattn.v_dim);
        return true;
    case OP_WKV:
        add(t, "RWKV-7, %u head%s of %u", in->a.wkv.n_heads, plural(in->a.wkv.n_heads),
            in->a.wkv.head_dim);
        return true;
    case OP_CELL:
        add(t, "%s of %u", in->a.cell.kind == CELL_LSTM ? "LSTM" : "GRU", in->a.cell.n_hidden);
        return true;
    case OP_SHORT_CONV:
        add(t, "convolution over %u rows", in->a.conv.n_taps);
        return true;
    case OP_ROUTE:
        route_text(in, t);
        return true;
    case OP_GATED:
    case OP_UNARY:
        if (is_feed_forward(p, in, OP_EXPERT_LINEAR))
            feed_forward_text(p, in, "each", t);
        else if (is_feed_forward(p, in, OP_LINEAR))
            feed_forward_text(p, in, routed ? "shared feed-forward" : "feed-forward", t);
        else
            return false;
        return true;
    default:
        return false;
    }
}

void explain_layer(const struct model *m, uint32_t layer, char *out, size_t size)
{
    const struct program *p = model_program(m);
    struct text t = text_in(out, size);
    bool routed = false;

    for (uint32_t i = 0; i < prog_n_instr(p); i++)
        routed |= prog_instr(p, i)->layer == layer && prog_instr(p, i)->op == OP_ROUTE;
    for (uint32_t i = 0; i < prog_n_instr(p); i++) {
        const struct instr *in = prog_instr(p, i);
        char part[EXPLAIN_TEXT_BYTES];
        struct text one = text_in(part, sizeof part);

        if (in->layer != layer || !instr_text(p, in, routed, &one))
            continue;
        add(&t, "%s%s", t.at ? "; " : "", part);
    }
    if (t.at == 0)
        add(&t, "nothing");
}

/* ---- the whole model ---- */

static const char *kind_of(const struct instr *in)
{
    switch (in->op) {
    case OP_ATTENTION:
        return is_latent(&in->a.attn) ? "latent attention"
               : in->a.attn.window    ? "attention in a window" : "attention";
    case OP_SSM_SCAN:
        return in->a.ssm.head_dim == 1 ? "Mamba-1" : "Mamba-2";
    case OP_DELTA_RULE:
        return "gated delta rule";
    case OP_LINEAR_ATTENTION:
        return "linear attention";
    case OP_WKV:
        return "RWKV-7";
    case OP_CELL:
        return in->a.cell.kind == CELL_LSTM ? "LSTM" : "GRU";
    default:
        return NULL;
    }
}

/* "attention and Mamba-2": what mixes rows in a layer. */
static void layer_kind(const struct program *p, uint32_t layer, char out[KIND_BYTES])
{
    struct text t = text_in(out, KIND_BYTES);
    bool conv = false;

    for (uint32_t i = 0; i < prog_n_instr(p); i++) {
        const struct instr *in = prog_instr(p, i);
        const char *kind = in->layer == layer ? kind_of(in) : NULL;

        conv |= in->layer == layer && in->op == OP_SHORT_CONV;
        if (kind && !strstr(out, kind))
            add(&t, "%s%s", t.at ? " and " : "", kind);
    }
    if (t.at == 0)
        add(&t, conv ? "short convolution" : "no mixing of rows");
}

void explain_kinds(const struct model *m, char *out, size_t size)
{
    struct { char name[KIND_BYTES]; uint32_t n; } kinds[MAX_KINDS];
    struct text t = text_in(out, size);
    uint32_t n_kinds = 0;

    for (uint32_t layer = 0; layer < model_facts(m)->n_layers; layer++) {
        char name[KIND_BYTES];
        uint32_t k = 0;

        layer_kind(model_program(m), layer, name);
        while (k < n_kinds && strcmp(kinds[k].name, name) != 0)
            k++;
        if (k == MAX_KINDS)
            continue;
        if (k == n_kinds) {
            memcpy(kinds[n_kinds].name, name, sizeof name);
            kinds[n_kinds++].n = 0;
        }
        kinds[k].n++;
    }
    for (uint32_t k = 0; k < n_kinds; k++)
        add(&t, "%s%u %s", k ? ", " : "", kinds[k].n, kinds[k].name);
}

static const struct instr *route_of(const struct program *p, val ids)
{
    for (uint32_t i = 0; i < prog_n_instr(p); i++)
        if (prog_instr(p, i)->op == OP_ROUTE && prog_instr(p, i)->dst[0] == ids)
            return prog_instr(p, i);
    return NULL;
}

uint64_t explain_active_params(const struct model *m)
{
    const struct program *p = model_program(m);
    double idle = 0;

    for (uint32_t i = 0; i < prog_n_instr(p); i++) {
        const struct instr *in = prog_instr(p, i);
        const struct instr *route = in->op == OP_EXPERT_LINEAR ? route_of(p, in->src[1]) : NULL;
        const struct tensor *w;

        if (!route)
            continue;
        w = &prog_weight_at(p, in->w[0])->t;
        if (w->shape[0] > route->a.route.n_used)
            idle += (double)tensor_elems(w) *
                    (1 - route->a.route.n_used / (double)w->shape[0]);
    }
    return model_facts(m)->n_params - (uint64_t)idle;
}

void explain_experts(const struct model *m, char *out, size_t size)
{
    static const char *const scores[] = { "softmax", "sigmoid", "softmax of the chosen", "logits" };
    const struct program *p = model_program(m);
    const struct instr *first = NULL;
    struct text t = text_in(out, size);
    uint32_t n_layers = 0, last = UINT32_MAX;

    for (uint32_t i = 0; i < prog_n_instr(p); i++) {
        const struct instr *in = prog_instr(p, i);

        if (in->op != OP_ROUTE || in->layer == UINT32_MAX || in->layer == last)
            continue;
        first = first ? first : in;
        last = in->layer;
        n_layers++;
    }
    if (!first)
        return;
    add(&t, "%u of %u in %u layer%s, by %s; %.4g of %.4g million parameters at work",
        first->a.route.n_used, first->a.route.n_experts, n_layers, plural(n_layers),
        scores[first->a.route.score], (double)explain_active_params(m) / 1e6,
        (double)model_facts(m)->n_params / 1e6);
}

void explain_state(const struct model *m, struct explain_state *out)
{
    const struct program *p = model_program(m);
    uint32_t last_fixed = UINT32_MAX;

    *out = (struct explain_state){ 0 };
    for (uint32_t i = 0; i < prog_n_instr(p); i++) {
        const struct instr *in = prog_instr(p, i);
        const struct prog_state *s = in->state ? prog_state_at(p, in->state) : NULL;

        if (!s || (in->op == OP_ATTENTION && !in->a.attn.write))
            continue;
        if (s->kind == STATE_KV) {
            out->kv_layers++;
            out->kv_columns += (uint64_t)s->n_kv_heads * ((uint64_t)s->k_dim + s->v_dim);
            out->window_layers += s->window != 0;
            out->max_window = s->window > out->max_window ? s->window : out->max_window;
        } else {
            out->fixed_floats += s->n_floats;
            out->fixed_layers += in->layer != last_fixed;
            last_fixed = in->layer;
        }
    }
}

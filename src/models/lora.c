/* lora.c: adapters from files and in programs; see lora.h. lora_merge.c merges them. */
#include "models/lora_internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "chips/program.h"

#define SUFFIX_A ".lora_a"
#define SUFFIX_B ".lora_b"
#define SUFFIX_SCALE ".lora_scale"
#define SUFFIX_SELECT ".lora_select"
#define SUFFIX_ONE ".lora_one"
#define MAX_TARGETS 65536u
#define MAX_EXPERTS 65536u

float lora_scale(float alpha, uint32_t rank)
{
    return alpha == 0 ? 1.0f : alpha / (float)rank;
}

bool lora_is_name(const char *name)
{
    return sv_ends(sv_cstr(name), SV(SUFFIX_A)) || sv_ends(sv_cstr(name), SV(SUFFIX_B));
}

/* ---- files ---- */

static int read_floats(const struct lora *l, const struct gguf_tensor *t, float **out,
                       struct err *e)
{
    const struct dtype_info *info = dtype_info((uint32_t)t->t.dtype);
    const size_t n = (size_t)tensor_elems(&t->t);
    float *to;

    if (!info->dequant)
        return err_set(e, WATT_ENOTSUP, "%s: tensor %.*s has type %s", gguf_path(l->g),
                       (int)t->name.len, t->name.data, info->name);
    to = mem_array(n, sizeof *to);
    if (!to)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", gguf_path(l->g));
    info->dequant(to, t->t.data, n);
    *out = to;
    for (size_t i = 0; i < n; i++)
        if (!isfinite(to[i]))
            return err_set(e, WATT_EFORMAT, "%s: tensor %.*s holds numbers that are not finite",
                           gguf_path(l->g), (int)t->name.len, t->name.data);
    return 0;
}

/* Rows gathered by token: A [n_tokens, rank], B [n_embd, rank]. As the head such a tensor is a product
 * from n_embd to n_tokens: A [rank, n_embd], B [n_tokens, rank]. */
static bool read_table(struct target *t, const struct tensor *a, const struct tensor *b)
{
    if (a->n_dims != 2 || b->n_dims != 2 || a->shape[1] != b->shape[1] ||
        a->shape[1] > LORA_MAX_RANK || a->shape[0] > PROG_MAX_WIDTH || b->shape[0] > PROG_MAX_WIDTH)
        return false;
    t->table = true;
    t->rank = (uint32_t)a->shape[1];
    t->n_in = (uint32_t)a->shape[0];
    t->n_out = (uint32_t)b->shape[0];
    return true;
}

/* Do the two fit each other? */
static bool read_shapes(struct target *t, const struct tensor *a, const struct tensor *b)
{
    const int i = a->n_dims - 2;

    if (a->n_dims != b->n_dims || (i != 0 && i != 1) || a->shape[i] != b->shape[i + 1] ||
        a->shape[i] > LORA_MAX_RANK || a->shape[i + 1] > PROG_MAX_WIDTH ||
        b->shape[i] > PROG_MAX_WIDTH ||
        (i == 1 && (a->shape[0] != b->shape[0] || a->shape[0] > MAX_EXPERTS)))
        return false;
    t->mats = i == 1 ? (uint32_t)a->shape[0] : 0;
    t->rank = (uint32_t)a->shape[i];
    t->n_in = (uint32_t)a->shape[i + 1];
    t->n_out = (uint32_t)b->shape[i];
    return true;
}

/* NAME.lora_a with its NAME.lora_b. */
static int read_target(struct lora *l, const struct gguf_tensor *a, struct err *e)
{
    struct target *t = &l->targets[l->n_targets++];
    const size_t base = a->name.len - (sizeof SUFFIX_A - 1);
    char name_b[GGUF_MAX_NAME_BYTES + 1];
    const struct gguf_tensor *b;
    int rc;

    (void)snprintf(name_b, sizeof name_b, "%.*s" SUFFIX_B, (int)base, a->name.data);
    b = gguf_find_tensor(l->g, name_b);
    if (!b)
        return err_set(e, WATT_EFORMAT, "%s: has %.*s without %s", gguf_path(l->g),
                       (int)a->name.len, a->name.data, name_b);
    t->type = a->t.dtype == DTYPE_BF16 && b->t.dtype == DTYPE_BF16 ? DTYPE_BF16 : DTYPE_F32;
    t->name = mem_strndup(a->name.data, base);
    if (!t->name)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", gguf_path(l->g));
    if (!read_shapes(t, &a->t, &b->t) &&
        !(strcmp(t->name, EMBEDDING) == 0 && read_table(t, &a->t, &b->t)))
        return err_set(e, WATT_EFORMAT, "%s: %.*s and its counterpart are no matrices [rank, n_in] "
                       "and [n_out, rank] with a rank of at most %u, or as many of both",
                       gguf_path(l->g), (int)a->name.len, a->name.data, LORA_MAX_RANK);
    t->scale = lora_scale(l->alpha, t->rank) * l->factor;
    rc = read_floats(l, a, &t->a, e);
    return rc == 0 ? read_floats(l, b, &t->b, e) : rc;
}

static int expect_str(const struct lora *l, const char *key, const char *value, struct err *e)
{
    struct sv found;
    const int rc = gguf_get_str(l->g, key, &found, e);

    if (rc < 0)
        return rc == WATT_ENOENT ? err_set(e, WATT_EFORMAT, "%s: key %s is missing: no adapter",
                                           gguf_path(l->g), key) : rc;
    if (!sv_eq_cstr(found, value))
        return err_set(e, WATT_EFORMAT, "%s: key %s is \"%.*s\", expected \"%s\"", gguf_path(l->g),
                       key, (int)(found.len < 64 ? found.len : 64), found.data, value);
    return 0;
}

static int read_keys(struct lora *l, struct err *e)
{
    struct sv arch;
    int rc = expect_str(l, "general.type", "adapter", e);

    if (rc == 0)
        rc = expect_str(l, "adapter.type", "lora", e);
    if (rc == 0)
        rc = gguf_get_f32(l->g, "adapter.lora.alpha", &l->alpha, e);
    if (rc == 0)
        rc = gguf_get_str(l->g, "general.architecture", &arch, e);
    if (rc == WATT_ENOENT)
        return err_set(e, WATT_EFORMAT, "%s", e ? e->msg : "");
    if (rc == 0 && !(fabsf(l->alpha) < 1e9f))
        return err_set(e, WATT_EFORMAT, "%s: adapter.lora.alpha is %g", gguf_path(l->g),
                       (double)l->alpha);
    if (rc == 0 && arch.len >= sizeof l->arch)
        return err_set(e, WATT_EFORMAT, "%s: general.architecture is too long", gguf_path(l->g));
    if (rc == 0)
        memcpy(l->arch, arch.data, arch.len);
    return rc;
}

static int read_targets(struct lora *l, struct err *e)
{
    const size_t n = gguf_n_tensors(l->g);
    size_t n_b = 0;
    int rc = 0;

    if (n < 2 || n > 2 * MAX_TARGETS)
        return err_set(e, WATT_EFORMAT, "%s: an adapter of %zu tensors", gguf_path(l->g), n);
    l->targets = mem_calloc(n, sizeof *l->targets);
    if (!l->targets)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", gguf_path(l->g));
    for (size_t i = 0; rc == 0 && i < n; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(l->g, i);

        if (sv_starts(t->name, SV("opt.")))     /* of a checkpoint */
            continue;
        if (sv_ends(t->name, SV(SUFFIX_A)))
            rc = read_target(l, t, e);
        else if (sv_ends(t->name, SV(SUFFIX_B)))
            n_b++;
        else
            rc = err_set(e, WATT_EFORMAT, "%s: tensor %.*s is neither " SUFFIX_A " nor " SUFFIX_B,
                         gguf_path(l->g), (int)t->name.len, t->name.data);
    }
    if (rc == 0 && n_b != l->n_targets)
        rc = err_set(e, WATT_EFORMAT, "%s: %zu tensors " SUFFIX_A " and %zu " SUFFIX_B,
                     gguf_path(l->g), l->n_targets, n_b);
    return rc;
}

int lora_open_gguf(struct lora **out, struct gguf *g, float scale, struct err *e)
{
    struct lora *l = mem_calloc(1, sizeof *l);
    int rc;

    if (!l) {
        gguf_close(g);
        return err_set(e, WATT_ENOMEM, "adapter: out of memory");
    }
    l->g = g;
    l->factor = scale;
    rc = read_keys(l, e);
    if (rc == 0)
        rc = read_targets(l, e);
    if (rc < 0) {
        lora_close(l);
        return rc;
    }
    *out = l;
    return 0;
}

int lora_open(struct lora **out, const char *path, float scale, struct err *e)
{
    struct gguf *g;
    const int rc = gguf_open(&g, path, e);

    return rc < 0 ? rc : lora_open_gguf(out, g, scale, e);
}

void lora_close(struct lora *l)
{
    if (!l)
        return;
    for (size_t i = 0; i < l->n_targets; i++) {
        mem_free(l->targets[i].name);
        mem_free(l->targets[i].a);
        mem_free(l->targets[i].b);
    }
    mem_free(l->targets);
    gguf_close(l->g);
    mem_free(l);
}

const char *lora_path(const struct lora *l)
{
    return gguf_path(l->g);
}

size_t lora_n_targets(const struct lora *l)
{
    return l->n_targets;
}

const struct target *lora_target(const struct lora *l, const char *name)
{
    for (size_t i = 0; i < l->n_targets; i++)
        if (strcmp(l->targets[i].name, name) == 0)
            return &l->targets[i];
    return NULL;
}

static const struct target *find_product(const struct lora *l, const char *name)
{
    const struct target *t = lora_target(l, name);

    return t && !t->table ? t : NULL;
}

static const struct target *find_table(const struct lora *l)
{
    const struct target *t = lora_target(l, EMBEDDING);

    return t && t->table ? t : NULL;
}

/* ---- programs ---- */

static int no_memory(struct program *p)
{
    prog_fail(p, WATT_ENOMEM, "adapter: out of memory");
    return 0;
}

/* Zeroed memory that lives as long as the model; NULL: the program has failed. */
static void *block(struct lora_build *b, struct program *p, size_t n, size_t size)
{
    void **grown = mem_grow(b->blocks, b->n_blocks + 1, sizeof *grown);
    void *m;

    if (!grown) {
        no_memory(p);
        return NULL;
    }
    b->blocks = grown;
    m = mem_calloc(n, size);
    if (!m) {
        no_memory(p);
        return NULL;
    }
    b->blocks[b->n_blocks++] = m;
    return m;
}

/* mats 0: one matrix of two dimensions. */
static wid weight(struct program *p, const char *base, const char *suffix, enum dtype type,
                  const void *data, uint32_t mats, uint32_t rows, uint32_t cols)
{
    struct tensor t = { .data = data, .dtype = type, .n_dims = mats ? 3 : 2,
                        .size_bytes = (uint64_t)(mats ? mats : 1) * rows * cols *
                                      (type == DTYPE_BF16 ? 2 : 4) };
    char name[160];

    t.shape[0] = mats ? mats : rows;
    t.shape[1] = mats ? rows : cols;
    t.shape[2] = mats ? cols : 0;
    if (snprintf(name, sizeof name, "%s%s", base, suffix) >= 128) {
        prog_fail(p, WATT_ELIMIT, "adapter: the name %s is too long", base);
        return 0;
    }
    return prog_weight(p, name, &t);
}

/* A product that may be adapted: y = W x, or y = W[ids] x. */
struct product {
    struct lora_build *b;
    struct program *p;
    const char *name;           /* of W */
    val x, y, ids;
    uint32_t mats;              /* experts; 0: no ids */
};

static bool is_target(struct lora_build *b, const char *name)
{
    const struct lora_spec *s = b->fresh;
    static const char *const usual[] = { "attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output",
                                         "ffn_gate", "ffn_up", "ffn_down", "ffn_gate_exps",
                                         "ffn_up_exps", "ffn_down_exps", "ffn_gate_up_exps",
                                         "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp" };
    const bool given = s->n_targets > 0;
    const size_t n = given ? s->n_targets : sizeof usual / sizeof usual[0];
    size_t len = strlen(name);
    bool any = false;

    if (sv_ends(sv_cstr(name), SV(".weight")))
        len -= sizeof ".weight" - 1;
    for (size_t i = 0; i < n; i++) {
        const char *t = given ? s->targets[i] : usual[i];
        const size_t n_t = strlen(t);

        if ((strcmp(t, "all") == 0 && strncmp(name, "blk.", 4) == 0) ||
            (n_t <= len && memcmp(name + len - n_t, t, n_t) == 0 &&
             (n_t == len || name[len - n_t - 1] == '.'))) {
            b->found |= UINT64_C(1) << (i % 64);
            any = true;
        }
    }
    return any;
}

/* A within 1 / sqrt(n_in), B zero: the model begins as it was. */
static val apply_fresh(const struct product *q)
{
    const struct lora_spec *s = q->b->fresh;
    struct program *p = q->p;
    const uint32_t n_in = prog_width(p, q->x), n_out = prog_width(p, q->y);
    const size_t mats = q->mats ? q->mats : 1, n_a = mats * s->rank * n_in;
    const float within = 1.0f / sqrtf((float)n_in);
    float *a = block(q->b, p, n_a, sizeof *a), *scale = block(q->b, p, 1, sizeof *scale);
    float *zeros = block(q->b, p, mats * n_out * s->rank, sizeof *zeros);
    struct rng r;
    wid w_a, w_b;

    if (!a || !scale || !zeros)
        return 0;
    rng_init(&r, rng_mix(s->seed + rng_mix(q->b->n_fresh++)));
    for (size_t i = 0; i < n_a; i++)
        a[i] = within * (2.0f * rng_float(&r) - 1.0f);
    *scale = lora_scale(s->alpha, s->rank);
    w_a = weight(p, q->name, SUFFIX_A, DTYPE_F32, a, q->mats, s->rank, n_in);
    w_b = weight(p, q->name, SUFFIX_B, DTYPE_F32, zeros, q->mats, n_out, s->rank);
    if (q->mats)
        return prog_add(p, q->y, prog_expert_linear(p, prog_expert_linear(p, q->x, q->ids, w_a, 0, 0),
                        q->ids, w_b, 0, weight(p, q->name, SUFFIX_SCALE, DTYPE_F32, scale, 0, 1, 1)));
    return prog_add(p, q->y, prog_linear(p, prog_linear(p, q->x, w_a, 0, 0,
                                                        (struct linear_args){ 0 }),
                                         w_b, 0, 0, (struct linear_args){ *scale }));
}

/* Adapters that were trained in BF16 products are served in such, the others in F32. */
struct stack {
    enum dtype type;
    uint32_t   rank;            /* the largest; 0: no adapter of the type */
    void      *a, *b;           /* [(adapters + 1) * mats][rank][n_in], …[n_out][rank] */
    float     *scale;           /* [(adapters + 1) * mats] */
};

static void put(const struct stack *s, void *to, size_t at, const float *from, size_t n)
{
    if (s->type == DTYPE_F32)
        memcpy((float *)to + at, from, n * sizeof *from);
    else
        for (size_t i = 0; i < n; i++)
            ((uint16_t *)to)[at + i] = f32_to_bf16(from[i]);
}

/* The matrices of adapter i, ranks filled up with zeros. */
static void stack_adapter(const struct stack *s, const struct target *t, uint32_t i)
{
    const size_t mats = t->mats ? t->mats : 1;

    for (size_t m = 0; m < mats; m++) {
        const size_t slot = (i + 1) * mats + m;

        s->scale[slot] = t->scale;
        put(s, s->a, slot * s->rank * t->n_in, t->a + m * t->rank * t->n_in,
            (size_t)t->rank * t->n_in);
        for (size_t o = 0; o < t->n_out; o++)
            put(s, s->b, (slot * t->n_out + o) * s->rank, t->b + (m * t->n_out + o) * t->rank,
                t->rank);
    }
}

static bool fits(const struct product *q, const struct target *t, const struct lora *l)
{
    const uint32_t n_in = prog_width(q->p, q->x), n_out = prog_width(q->p, q->y);

    if (t->n_in == n_in && t->n_out == n_out && t->mats == q->mats)
        return true;
    prog_fail(q->p, WATT_EINVAL, "%s: %s is of %" PRIu32 " products from %" PRIu32 " to %" PRIu32
              " columns, the model's is of %" PRIu32 " from %" PRIu32 " to %" PRIu32, lora_path(l),
              q->name, t->mats ? t->mats : 1, t->n_in, t->n_out, q->mats ? q->mats : 1, n_in, n_out);
    return false;
}

/* Which matrices of a stack the rows have. */
static val stack_ids(const struct product *q, uint32_t n)
{
    struct lora_build *b = q->b;

    if (q->mats) {
        if (b->last_experts != q->ids || b->last_expert_ids == 0) {
            b->last_experts = q->ids;
            b->last_expert_ids = prog_adapter(q->p, q->ids, n, q->mats);
        }
        return b->last_expert_ids;
    }
    if (b->last_x != q->x || b->last_ids == 0) {
        b->last_x = q->x;
        b->last_ids = prog_adapter(q->p, q->x, n, 0);
    }
    return b->last_ids;
}

/* Every adapter's matrices one behind the other; slot 0, of no adapter, is zero. */
static val apply_stack(const struct product *q, val y, struct stack *s)
{
    static const char *const suffixes[2][3] = { { SUFFIX_A, SUFFIX_B, SUFFIX_SCALE },
                                                { SUFFIX_A "16", SUFFIX_B "16", SUFFIX_SCALE "16" } };
    const char *const *suffix = suffixes[s->type == DTYPE_BF16];
    const uint32_t n = q->b->n_adapters + 1, mats = q->mats ? q->mats : 1, slots = n * mats;
    const uint32_t n_in = prog_width(q->p, q->x), n_out = prog_width(q->p, q->y);
    const size_t size = s->type == DTYPE_BF16 ? 2 : 4;
    struct program *p = q->p;
    val ids, low;

    s->a = block(q->b, p, (size_t)slots * s->rank * n_in, size);
    s->b = block(q->b, p, (size_t)slots * s->rank * n_out, size);
    s->scale = block(q->b, p, slots, sizeof *s->scale);
    if (!s->a || !s->b || !s->scale)
        return 0;
    for (uint32_t i = 0; i < slots; i++)
        s->scale[i] = 1.0f;
    for (uint32_t i = 0; i < q->b->n_adapters; i++) {
        const struct target *t = find_product(q->b->adapters[i], q->name);

        if (t && t->type == s->type)
            stack_adapter(s, t, i);
    }
    ids = stack_ids(q, n);
    low = prog_expert_linear(p, q->x, ids, weight(p, q->name, suffix[0], s->type, s->a, slots,
                                                  s->rank, n_in), 0, 0);
    low = prog_adapter_scale(p, low);
    return prog_add(p, y, prog_expert_linear(p, low, ids,
                    weight(p, q->name, suffix[1], s->type, s->b, slots, n_out, s->rank), 0,
                    weight(p, q->name, suffix[2], DTYPE_F32, s->scale, 0, 1, slots)));
}

static bool begin(struct lora_build *b, struct program *p)
{
    if (b->used)
        return true;
    b->used = mem_calloc(b->n_adapters, sizeof *b->used);
    for (uint32_t i = 0; b->used && i < b->n_adapters; i++) {
        b->used[i] = mem_calloc(b->adapters[i]->n_targets, sizeof **b->used);
        if (!b->used[i])
            return no_memory(p);
    }
    return b->used || no_memory(p);
}

static val apply(const struct product *q)
{
    struct stack stacks[2] = { { .type = DTYPE_F32 }, { .type = DTYPE_BF16 } };
    struct lora_build *b = q->b;
    val y = q->y;

    if (prog_failed(q->p) || (b->n_adapters == 0 && !b->fresh))
        return y;
    if (b->fresh)
        return is_target(b, q->name) ? apply_fresh(q) : y;
    if (!begin(b, q->p))
        return y;
    for (uint32_t i = 0; i < b->n_adapters; i++) {
        const struct target *t = find_product(b->adapters[i], q->name);
        struct stack *s = t ? &stacks[t->type == DTYPE_BF16] : NULL;

        if (!t)
            continue;
        if (!fits(q, t, b->adapters[i]))
            return 0;
        b->used[i][t - b->adapters[i]->targets] = true;
        s->rank = t->rank > s->rank ? t->rank : s->rank;
    }
    for (int k = 0; k < 2; k++)
        if (stacks[k].rank)
            y = apply_stack(q, y, &stacks[k]);
    return y;
}

/* ---- the embedding ---- */

static val add_fresh_table(const struct product *q, uint32_t n_tokens)
{
    const struct lora_spec *s = q->b->fresh;
    const uint32_t n_embd = prog_width(q->p, q->x);
    const float within = 1.0f / sqrtf((float)s->rank);
    float *a = block(q->b, q->p, (size_t)n_tokens * s->rank, sizeof *a);
    float *b = block(q->b, q->p, (size_t)n_embd * s->rank, sizeof *b);
    struct rng r;
    val low;

    if (!a || !b)
        return 0;
    rng_init(&r, rng_mix(s->seed + rng_mix(q->b->n_fresh++)));
    for (size_t i = 0; i < (size_t)n_embd * s->rank; i++)
        b[i] = within * (2.0f * rng_float(&r) - 1.0f);
    low = prog_embed(q->p, weight(q->p, q->name, SUFFIX_A, DTYPE_F32, a, 0, n_tokens, s->rank),
                     (struct embed_args){ .by = EMBED_TOKEN });
    return prog_add(q->p, q->x, prog_linear(q->p, low, weight(q->p, q->name, SUFFIX_B, DTYPE_F32, b, 0,
                                                              n_embd, s->rank), 0, 0,
                                            (struct linear_args){ lora_scale(s->alpha, s->rank) }));
}

/* Adapter i's part: its columns of the table, and B. */
static void stack_table(const struct stack *s, const struct target *t, uint32_t i, uint32_t column,
                        uint32_t columns)
{
    s->scale[i + 1] = t->scale;
    for (size_t v = 0; v < t->n_in; v++)
        put(s, s->a, v * columns + column, t->a + v * t->rank, t->rank);
    for (size_t o = 0; o < t->n_out; o++)
        put(s, s->b, ((i + 1) * (size_t)t->n_out + o) * s->rank, t->b + o * t->rank, t->rank);
}

/* The rank columns that are the row's own: those of all tables are summed with weights of one and
 * zero, which is exact. The weights are what the row's adapter makes of a one. */
static val select_table(const struct product *q, val wide, val ids, float *select,
                        uint32_t n_tables, const char *const suffix[2])
{
    struct program *p = q->p;
    float *one = block(q->b, p, 1, sizeof *one);
    val x;

    if (!one)
        return 0;
    *one = 1.0f;
    x = prog_embed(p, weight(p, q->name, suffix[0], DTYPE_F32, one, 0, 1, 1),
                   (struct embed_args){ .by = EMBED_ZERO });
    x = prog_expert_linear(p, x, ids, weight(p, q->name, suffix[1], DTYPE_F32, select,
                                             q->b->n_adapters + 1, n_tables, 1), 0, 0);
    return prog_expert_sum(p, prog_reshape(p, wide, n_tables), x);
}

/* One row of all tables side by side is gathered; the row's adapter picks its own columns, then B as
 * for products. */
static val apply_tables(const struct product *q, val y, struct stack *s, uint32_t n_tokens,
                        uint32_t n_tables)
{
    static const char *const suffixes[2][5] = {
        { SUFFIX_A, SUFFIX_B, SUFFIX_SCALE, SUFFIX_ONE, SUFFIX_SELECT },
        { SUFFIX_A "16", SUFFIX_B "16", SUFFIX_SCALE "16", SUFFIX_ONE "16", SUFFIX_SELECT "16" } };
    const char *const *suffix = suffixes[s->type == DTYPE_BF16];
    const uint32_t n = q->b->n_adapters + 1, n_embd = prog_width(q->p, q->x);
    const uint64_t columns = (uint64_t)n_tables * s->rank;
    const size_t size = s->type == DTYPE_BF16 ? 2 : 4;
    struct program *p = q->p;
    uint32_t table = 0;
    float *select;
    val ids, low;

    if (columns > PROG_MAX_WIDTH) {
        prog_fail(p, WATT_ELIMIT, "adapter: %" PRIu32 " tables of rank %" PRIu32, n_tables, s->rank);
        return 0;
    }
    s->a = block(q->b, p, (size_t)(n_tokens * columns), size);
    select = block(q->b, p, (size_t)n * n_tables, sizeof *select);
    s->b = block(q->b, p, (size_t)n * n_embd * s->rank, size);
    s->scale = block(q->b, p, n, sizeof *s->scale);
    if (!s->a || !select || !s->b || !s->scale)
        return 0;
    for (uint32_t i = 0; i < n; i++)
        s->scale[i] = 1.0f;
    for (uint32_t i = 0; i < q->b->n_adapters; i++) {
        const struct target *t = find_table(q->b->adapters[i]);

        if (!t || t->type != s->type)
            continue;
        stack_table(s, t, i, table * s->rank, (uint32_t)columns);
        select[(i + 1) * (size_t)n_tables + table++] = 1.0f;
    }
    ids = stack_ids(q, n);
    low = prog_embed(p, weight(p, q->name, suffix[0], s->type, s->a, 0, n_tokens, (uint32_t)columns),
                     (struct embed_args){ .by = EMBED_TOKEN });
    low = prog_adapter_scale(p, select_table(q, low, ids, select, n_tables, suffix + 3));
    return prog_add(p, y, prog_expert_linear(p, low, ids,
                    weight(p, q->name, suffix[1], s->type, s->b, n, n_embd, s->rank), 0,
                    weight(p, q->name, suffix[2], DTYPE_F32, s->scale, 0, 1, n)));
}

uint32_t lora_apply_embedding(struct lora_build *b, struct program *p, uint32_t x, uint32_t n_tokens,
                              bool tied)
{
    const struct product q = { .b = b, .p = p, .name = EMBEDDING, .x = x, .y = x };
    struct stack stacks[2] = { { .type = DTYPE_F32 }, { .type = DTYPE_BF16 } };
    uint32_t n[2] = { 0, 0 };
    val y = x;

    if (prog_failed(p) || (b->n_adapters == 0 && !b->fresh))
        return x;
    if (b->fresh)               /* a head that is the embedding has the name for itself */
        return !tied && is_target(b, EMBEDDING) ? add_fresh_table(&q, n_tokens) : x;
    if (!begin(b, p))
        return x;
    for (uint32_t i = 0; i < b->n_adapters; i++) {
        const struct target *t = find_table(b->adapters[i]);

        if (!t)
            continue;
        if (t->n_in != n_tokens || t->n_out != prog_width(p, x)) {
            prog_fail(p, WATT_EINVAL, "%s: %s is of %" PRIu32 " tokens and %" PRIu32 " columns, the "
                      "model's of %" PRIu32 " and %" PRIu32, lora_path(b->adapters[i]), EMBEDDING,
                      t->n_in, t->n_out, n_tokens, prog_width(p, x));
            return 0;
        }
        b->used[i][t - b->adapters[i]->targets] = true;
        n[t->type == DTYPE_BF16]++;
        stacks[t->type == DTYPE_BF16].rank = t->rank > stacks[t->type == DTYPE_BF16].rank
                                                 ? t->rank : stacks[t->type == DTYPE_BF16].rank;
    }
    for (int k = 0; k < 2; k++)
        if (n[k])
            y = apply_tables(&q, y, &stacks[k], n_tokens, n[k]);
    return y;
}

uint32_t lora_apply(struct lora_build *b, struct program *p, uint32_t x, uint32_t y,
                    const char *name)
{
    return apply(&(struct product){ .b = b, .p = p, .name = name, .x = x, .y = y });
}

uint32_t lora_apply_experts(struct lora_build *b, struct program *p, uint32_t x, uint32_t ids,
                            uint32_t n_experts, uint32_t y, const char *name)
{
    return apply(&(struct product){ .b = b, .p = p, .name = name, .x = x, .y = y, .ids = ids,
                                    .mats = n_experts });
}

int lora_finish(struct lora_build *b, struct err *e)
{
    if (b->fresh && b->n_fresh == 0)
        return err_set(e, WATT_EINVAL, "adapter: none of its targets is a product of the model");
    for (size_t i = 0; b->fresh && i < b->fresh->n_targets && i < 64; i++)
        if (!(b->found >> i & 1))
            return err_set(e, WATT_EINVAL, "adapter: no product of the model has the name %s",
                           b->fresh->targets[i]);
    for (uint32_t i = 0; i < b->n_adapters; i++)
        for (size_t t = 0; t < b->adapters[i]->n_targets; t++)
            if (!b->used || !b->used[i][t])
                return err_set(e, WATT_EINVAL, "%s: %s is adapted, but is no product of the model",
                               lora_path(b->adapters[i]), b->adapters[i]->targets[t].name);
    return 0;
}

void lora_build_deinit(struct lora_build *b, bool keep_blocks)
{
    for (uint32_t i = 0; b->used && i < b->n_adapters; i++)
        mem_free(b->used[i]);
    mem_free(b->used);
    for (size_t i = 0; !keep_blocks && i < b->n_blocks; i++)
        mem_free(b->blocks[i]);
    if (!keep_blocks)
        mem_free(b->blocks);
}

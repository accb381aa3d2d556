/* lora.c: adapters from files, in programs, and merged into weights; see lora.h. */
#include "models/lora.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/rng.h"
#include "chips/program.h"

#define SUFFIX_A ".lora_a"
#define SUFFIX_B ".lora_b"
#define MAX_TARGETS 65536u

struct target {
    char    *name;              /* of the adapted tensor */
    uint32_t rank, n_in, n_out;
    float    scale;
    float   *a, *b;             /* [rank][n_in], [n_out][rank] */
};

struct lora {
    struct gguf   *g;
    float          alpha, factor;
    char           arch[64];
    struct target *targets;
    size_t         n_targets;
};

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
    if (a->t.n_dims != 2 || b->t.n_dims != 2 || a->t.shape[0] != b->t.shape[1] ||
        a->t.shape[0] > LORA_MAX_RANK || a->t.shape[1] > PROG_MAX_WIDTH ||
        b->t.shape[0] > PROG_MAX_WIDTH)
        return err_set(e, WATT_EFORMAT, "%s: %.*s and its counterpart are no matrices [rank, n_in] "
                       "and [n_out, rank] with a rank of at most %u", gguf_path(l->g),
                       (int)a->name.len, a->name.data, LORA_MAX_RANK);
    t->rank = (uint32_t)a->t.shape[0];
    t->n_in = (uint32_t)a->t.shape[1];
    t->n_out = (uint32_t)b->t.shape[0];
    t->scale = lora_scale(l->alpha, t->rank) * l->factor;
    t->name = mem_strndup(a->name.data, base);
    if (!t->name)
        return err_set(e, WATT_ENOMEM, "%s: out of memory", gguf_path(l->g));
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

static const struct target *find_target(const struct lora *l, const char *name)
{
    for (size_t i = 0; i < l->n_targets; i++)
        if (strcmp(l->targets[i].name, name) == 0)
            return &l->targets[i];
    return NULL;
}

/* ---- programs ---- */

static int no_memory(struct program *p)
{
    prog_fail(p, WATT_ENOMEM, "adapter: out of memory");
    return 0;
}

/* Zeroed floats that live as long as the model. */
static float *block(struct lora_build *b, struct program *p, size_t n)
{
    void **grown = mem_grow(b->blocks, b->n_blocks + 1, sizeof *grown);
    float *m;

    if (!grown) {
        no_memory(p);
        return NULL;
    }
    b->blocks = grown;
    m = mem_calloc(n, sizeof *m);
    if (!m) {
        no_memory(p);
        return NULL;
    }
    b->blocks[b->n_blocks++] = m;
    return m;
}

static wid weight(struct program *p, const char *base, const char *suffix, const float *data,
                  uint32_t mats, uint32_t rows, uint32_t cols)
{
    struct tensor t = { .data = data, .dtype = DTYPE_F32, .n_dims = mats ? 3 : 2,
                        .size_bytes = (uint64_t)(mats ? mats : 1) * rows * cols * sizeof(float) };
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

static bool is_target(const struct lora_spec *s, const char *name)
{
    static const char *const usual[] = { "attn_q", "attn_k", "attn_v", "attn_qkv", "attn_output",
                                         "ffn_gate", "ffn_up", "ffn_down" };
    const bool given = s->n_targets > 0;
    const size_t n = given ? s->n_targets : sizeof usual / sizeof usual[0];
    size_t len = strlen(name);

    if (sv_ends(sv_cstr(name), SV(".weight")))
        len -= sizeof ".weight" - 1;
    for (size_t i = 0; i < n; i++) {
        const char *t = given ? s->targets[i] : usual[i];
        const size_t n_t = strlen(t);

        if (strcmp(t, "all") == 0 && strncmp(name, "blk.", 4) == 0)
            return true;
        if (n_t <= len && memcmp(name + len - n_t, t, n_t) == 0 &&
            (n_t == len || name[len - n_t - 1] == '.'))
            return true;
    }
    return false;
}

/* A within 1 / sqrt(n_in), B zero: the model begins as it was. */
static val apply_fresh(struct lora_build *b, struct program *p, val x, val y, const char *name)
{
    const struct lora_spec *s = b->fresh;
    const uint32_t n_in = prog_width(p, x), n_out = prog_width(p, y);
    const float within = 1.0f / sqrtf((float)n_in);
    float *a = block(b, p, (size_t)s->rank * n_in), *zeros = block(b, p, (size_t)n_out * s->rank);
    struct rng r;
    val low;

    if (!a || !zeros)
        return 0;
    rng_init(&r, rng_mix(s->seed + rng_mix(b->n_fresh++)));
    for (size_t i = 0; i < (size_t)s->rank * n_in; i++)
        a[i] = within * (2.0f * rng_float(&r) - 1.0f);
    low = prog_linear(p, x, weight(p, name, SUFFIX_A, a, 0, s->rank, n_in), 0, 0,
                      (struct linear_args){ 0 });
    return prog_add(p, y, prog_linear(p, low, weight(p, name, SUFFIX_B, zeros, 0, n_out, s->rank), 0,
                                      0, (struct linear_args){ lora_scale(s->alpha, s->rank) }));
}

/* Every adapter's matrices one behind the other; slot 0, of no adapter, is zero. */
static val apply_stack(struct lora_build *b, struct program *p, val x, val y, const char *name,
                       uint32_t rank)
{
    const uint32_t n = b->n_adapters + 1, n_in = prog_width(p, x), n_out = prog_width(p, y);
    float *as = block(b, p, (size_t)n * rank * n_in), *bs = block(b, p, (size_t)n * n_out * rank);
    float *scales = block(b, p, n);
    val low;

    if (!as || !bs || !scales)
        return 0;
    scales[0] = 1.0f;
    for (uint32_t i = 0; i < b->n_adapters; i++) {
        const struct target *t = find_target(b->adapters[i], name);

        scales[i + 1] = t ? t->scale : 1.0f;
        if (!t)
            continue;
        if (t->n_in != n_in || t->n_out != n_out) {
            prog_fail(p, WATT_EINVAL, "%s: %s is of a product from %u to %u columns, the model's "
                      "is from %u to %u", lora_path(b->adapters[i]), name, t->n_in, t->n_out, n_in,
                      n_out);
            return 0;
        }
        b->used[i][t - b->adapters[i]->targets] = true;
        memcpy(as + (size_t)(i + 1) * rank * n_in, t->a, (size_t)t->rank * n_in * sizeof *as);
        for (uint32_t o = 0; o < n_out; o++)
            memcpy(bs + ((size_t)(i + 1) * n_out + o) * rank, t->b + (size_t)o * t->rank,
                   t->rank * sizeof *bs);
    }
    if (b->last_x != x || b->last_ids == 0) {
        b->last_x = x;
        b->last_ids = prog_adapter(p, x, n);
    }
    low = prog_expert_linear(p, x, b->last_ids, weight(p, name, SUFFIX_A, as, n, rank, n_in), 0, 0);
    return prog_add(p, y, prog_expert_linear(p, low, b->last_ids,
                                             weight(p, name, SUFFIX_B, bs, n, n_out, rank), 0,
                                             weight(p, name, ".lora_scale", scales, 0, 1, n)));
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

uint32_t lora_apply(struct lora_build *b, struct program *p, uint32_t x, uint32_t y,
                    const char *name)
{
    uint32_t rank = 0;

    if (prog_failed(p) || (b->n_adapters == 0 && !b->fresh))
        return y;
    if (b->fresh)
        return is_target(b->fresh, name) ? apply_fresh(b, p, x, y, name) : y;
    if (!begin(b, p))
        return y;
    for (uint32_t i = 0; i < b->n_adapters; i++) {
        const struct target *t = find_target(b->adapters[i], name);

        rank = t && t->rank > rank ? t->rank : rank;
    }
    return rank ? apply_stack(b, p, x, y, name, rank) : y;
}

int lora_finish(struct lora_build *b, struct err *e)
{
    if (b->fresh && b->n_fresh == 0)
        return err_set(e, WATT_EINVAL, "adapter: none of its targets is a product of the model");
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

/* ---- merging ---- */

static enum dtype merged_type(enum dtype t)
{
    return t == DTYPE_BF16 || t == DTYPE_F16 ? DTYPE_BF16 : DTYPE_F32;
}

static const char *name_of(char buf[GGUF_MAX_NAME_BYTES + 1], struct sv name)
{
    (void)snprintf(buf, GGUF_MAX_NAME_BYTES + 1, "%.*s", (int)name.len, name.data);
    return buf;
}

static int check_fits(const struct gguf *base, const struct lora *l, struct err *e)
{
    struct sv arch;

    if (gguf_get_str(base, "general.architecture", &arch, e) < 0)
        return err_set(e, WATT_EFORMAT, "%s: has no general.architecture", gguf_path(base));
    if (!sv_eq_cstr(arch, l->arch))
        return err_set(e, WATT_EINVAL, "%s: is of architecture %s, the model of %.*s", lora_path(l),
                       l->arch, (int)arch.len, arch.data);
    for (size_t i = 0; i < l->n_targets; i++) {
        const struct target *t = &l->targets[i];
        const struct gguf_tensor *g = gguf_find_tensor(base, t->name);

        if (!g || g->t.n_dims != 2 || g->t.shape[0] != t->n_out || g->t.shape[1] != t->n_in)
            return err_set(e, WATT_EINVAL, "%s: %s is no matrix of %" PRIu32 " by %" PRIu32
                           " in %s", lora_path(l), t->name, t->n_out, t->n_in, gguf_path(base));
        if (!dtype_info((uint32_t)g->t.dtype)->dequant)
            return err_set(e, WATT_ENOTSUP, "%s: %s has type %s", gguf_path(base), t->name,
                           dtype_name((uint32_t)g->t.dtype));
    }
    return 0;
}

/* One row of W + s B A. */
static int put_merged(struct gguf_writer *w, const struct gguf_tensor *g, const struct target *t,
                      struct err *e)
{
    const struct dtype_info *info = dtype_info((uint32_t)g->t.dtype);
    const uint64_t row_bytes = g->t.size_bytes / t->n_out;
    float *row = mem_array(t->n_in, sizeof *row);
    uint16_t *half = mem_array(t->n_in, sizeof *half);
    int rc = row && half ? 0 : err_set(e, WATT_ENOMEM, "adapter: out of memory");

    for (uint32_t o = 0; rc == 0 && o < t->n_out; o++) {
        info->dequant(row, (const uint8_t *)g->t.data + o * row_bytes, t->n_in);
        for (uint32_t r = 0; r < t->rank; r++) {
            const float f = t->scale * t->b[(size_t)o * t->rank + r];

            for (uint32_t i = 0; i < t->n_in; i++)
                row[i] += f * t->a[(size_t)r * t->n_in + i];
        }
        if (merged_type(g->t.dtype) == DTYPE_F32) {
            rc = gguf_writer_data(w, row, t->n_in * sizeof *row, e);
            continue;
        }
        for (uint32_t i = 0; i < t->n_in; i++)
            store_le16(&half[i], f32_to_bf16(row[i]));
        rc = gguf_writer_data(w, half, t->n_in * sizeof *half, e);
    }
    mem_free(row);
    mem_free(half);
    return rc;
}

int lora_merge(const char *path, const struct gguf *base, const struct lora *l, struct err *e)
{
    char name[GGUF_MAX_NAME_BYTES + 1];
    struct gguf_writer *w = NULL;
    int rc = check_fits(base, l, e);

    if (rc == 0)
        rc = gguf_writer_open(&w, path, e);
    if (rc < 0)
        return rc;
    for (size_t i = 0; rc == 0 && i < gguf_n_kv(base); i++)
        if (!sv_starts(gguf_kv_at(base, i)->key, SV("split.")))
            rc = gguf_writer_copy(w, gguf_kv_at(base, i), e);
    for (size_t i = 0; rc == 0 && i < gguf_n_tensors(base); i++) {
        const struct gguf_tensor *g = gguf_tensor_at(base, i);
        const bool merged = find_target(l, name_of(name, g->name)) != NULL;

        rc = gguf_writer_tensor(w, name, merged ? merged_type(g->t.dtype) : g->t.dtype, g->t.n_dims,
                                g->t.shape, e);
    }
    if (rc == 0)
        rc = gguf_writer_begin(w, e);
    for (size_t i = 0; rc == 0 && i < gguf_n_tensors(base); i++) {
        const struct gguf_tensor *g = gguf_tensor_at(base, i);
        const struct target *t = find_target(l, name_of(name, g->name));

        rc = t ? put_merged(w, g, t, e) : gguf_writer_data(w, g->t.data, (size_t)g->t.size_bytes, e);
    }
    if (rc == 0)
        return gguf_writer_commit(w, e);
    gguf_writer_abort(w);
    return rc;
}

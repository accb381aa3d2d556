/* build_tensors.c: binding tensors by name, and the simplest instructions over them. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "models/build.h"
#include "models/build_internal.h"
#include "models/lora.h"

#define NAME_MAX_BYTES 128

/* "blk.%u.x" of layer 3 is "blk.3.x". */
static void expand(const struct build *b, const char *name, char out[NAME_MAX_BYTES])
{
    const char *at = strstr(name, "%u");

    if (!at)
        (void)snprintf(out, NAME_MAX_BYTES, "%s", name);
    else
        (void)snprintf(out, NAME_MAX_BYTES, "%.*s%u%s", (int)(at - name), name, b->layer, at + 2);
}

static const struct gguf_tensor *find(const struct build *b, const char *name,
                                      char full[NAME_MAX_BYTES])
{
    expand(b, name, full);
    return gguf_find_tensor(b->g, full);
}

static void print_shape(char *out, size_t size, const int64_t *shape, int n)
{
    size_t at = (size_t)snprintf(out, size, "[");

    for (int i = 0; i < n && at < size; i++) {
        if (shape[i] < 0)
            at += (size_t)snprintf(out + at, size - at, "%s?", i ? ", " : "");
        else
            at += (size_t)snprintf(out + at, size - at, "%s%" PRId64, i ? ", " : "", shape[i]);
    }
    if (at < size)
        (void)snprintf(out + at, size - at, "]");
}

/* Outer extents of 1 may be missing or added: GGUF drops them. */
static bool shape_fits(const struct tensor *t, const int64_t *shape, int n)
{
    int i = 0, k = 0;

    while (t->n_dims - i > n - k && t->shape[i] == 1)
        i++;
    while (n - k > t->n_dims - i && shape[k] == 1)
        k++;
    if (t->n_dims - i != n - k)
        return false;
    for (; k < n; i++, k++)
        if (shape[k] >= 0 && t->shape[i] != shape[k])
            return false;
    return true;
}

/* The tensor with exactly the dimensions asked for; it fits them. */
static struct tensor with_dims(const struct tensor *t, int n)
{
    struct tensor v = *t;

    v.n_dims = (uint8_t)n;
    for (int k = n - 1, i = t->n_dims - 1; k >= 0; k--, i--)
        v.shape[k] = i >= 0 ? t->shape[i] : 1;
    return v;
}

static wid bind(struct build *b, const struct gguf_tensor *t, const char *full,
                const int64_t *shape)
{
    struct tensor view;
    int n = 0;

    while (n < TENSOR_MAX_DIMS && shape[n] != 0)
        n++;
    b->used[t - gguf_tensor_at(b->g, 0)] = true;
    if (!shape_fits(&t->t, shape, n)) {
        char found[128], expected[128];

        print_shape(found, sizeof found, t->t.shape, t->t.n_dims);
        print_shape(expected, sizeof expected, shape, n);
        prog_fail(b->p, WATT_EFORMAT, "%s: tensor %s has shape %s, expected %s", gguf_path(b->g),
                  full, found, expected);
        return 0;
    }
    view = with_dims(&t->t, n);
    return prog_weight(b->p, full, &view);
}

/* shape: NULL where any will do. */
static void missing(struct build *b, const char *full, const int64_t *shape)
{
    char expected[128] = "";
    int n = 0;

    if (shape) {
        while (n < TENSOR_MAX_DIMS && shape[n] != 0)
            n++;
        print_shape(expected, sizeof expected, shape, n);
    }
    prog_fail(b->p, WATT_EFORMAT, "%s: tensor %s is missing, expected by architecture %s%s%s",
              gguf_path(b->g), full, b->arch, shape ? ": " : "", expected);
}

bool build_has(struct build *b, const char *name)
{
    char full[NAME_MAX_BYTES];

    return find(b, name, full) != NULL;
}

wid build_need(struct build *b, const char *name, const int64_t *shape)
{
    char full[NAME_MAX_BYTES];
    const struct gguf_tensor *t = find(b, name, full);

    if (t)
        return bind(b, t, full, shape);
    missing(b, full, shape);
    return 0;
}

wid build_opt(struct build *b, const char *name, const int64_t *shape)
{
    char full[NAME_MAX_BYTES];
    const struct gguf_tensor *t = find(b, name, full);

    return t ? bind(b, t, full, shape) : 0;
}

void build_known(struct build *b, const char *name)
{
    char full[NAME_MAX_BYTES];
    const struct gguf_tensor *t = find(b, name, full);

    if (t)
        b->used[t - gguf_tensor_at(b->g, 0)] = true;
}

int build_dims(struct build *b, const char *name)
{
    char full[NAME_MAX_BYTES];
    const struct gguf_tensor *t = find(b, name, full);

    return t ? t->t.n_dims : 0;
}

uint32_t build_extent(struct build *b, const char *name, int i)
{
    char full[NAME_MAX_BYTES];
    const struct gguf_tensor *t = find(b, name, full);

    if (!t) {
        missing(b, full, NULL);
        return 0;
    }
    if (i >= t->t.n_dims || t->t.shape[i] > (int64_t)PROG_MAX_WIDTH) {
        char found[128];

        print_shape(found, sizeof found, t->t.shape, t->t.n_dims);
        prog_fail(b->p, WATT_EFORMAT, "%s: tensor %s has shape %s, expected extents up to %u",
                  gguf_path(b->g), full, found, PROG_MAX_WIDTH);
        return 0;
    }
    return (uint32_t)t->t.shape[i];
}

bool build_layer(struct build *b)
{
    b->layer = b->layer == UINT32_MAX ? 0 : b->layer + 1;
    if (b->layer >= b->n_layers || prog_failed(b->p))
        b->layer = UINT32_MAX;
    prog_layer(b->p, b->layer);
    return b->layer != UINT32_MAX;
}

/* NAME plus a suffix, unexpanded. */
static const char *with(char out[NAME_MAX_BYTES], const char *name, const char *suffix)
{
    (void)snprintf(out, NAME_MAX_BYTES, "%s%s", name, suffix);
    return out;
}

const char *build_table_name(struct build *b)
{
    return !build_has(b, "token_embd.weight") && build_has(b, "output.weight")
               ? "output.weight" : "token_embd.weight";
}

val build_embed(struct build *b)
{
    const val x = prog_embed(b->p, build_need(b, build_table_name(b), SHAPE(b->n_vocab, b->n_embd)),
                             (struct embed_args){ .by = EMBED_TOKEN });

    if (!b->lora || prog_failed(b->p) || !build_has(b, "token_embd.weight"))
        return x;
    return lora_apply_embedding(b->lora, b->p, x, b->n_vocab, !build_has(b, "output.weight"));
}

val build_positions(struct build *b, val x)
{
    const wid table = build_need(b, "position_embd.weight", SHAPE(-1, b->n_embd));

    return prog_add(b->p, x, prog_embed(b->p, table, (struct embed_args){ .by = EMBED_POSITION }));
}

val build_types(struct build *b, val x)
{
    const wid table = build_opt(b, "token_types.weight", SHAPE(-1, b->n_embd));

    return table ? prog_add(b->p, x, prog_embed(b->p, table,
                                                (struct embed_args){ .by = EMBED_TYPE })) : x;
}

val build_scale(struct build *b, val x, float scale)
{
    return scale == 0 || scale == 1 ? x : prog_affine(b->p, x, scale, 0);
}

/* A product with what adapters add to it. */
static val adapted(struct build *b, val x, val y, wid w)
{
    char name[sizeof ((struct prog_weight *)0)->name];

    if (!b->lora || prog_failed(b->p))
        return y;
    /* a copy: adding the adapter's weights moves the list that the name stands in */
    (void)snprintf(name, sizeof name, "%s", prog_weight_at(b->p, w)->name);
    return lora_apply(b->lora, b->p, x, y, name);
}

val build_adapted_experts(struct build *b, val x, val ids, uint32_t n_experts, val y, wid w)
{
    char name[sizeof ((struct prog_weight *)0)->name];

    if (!b->lora || prog_failed(b->p))
        return y;
    (void)snprintf(name, sizeof name, "%s", prog_weight_at(b->p, w)->name);
    return lora_apply_experts(b->lora, b->p, x, ids, n_experts, y, name);
}

val build_linear_scaled(struct build *b, val x, const char *name, uint32_t n_out, float scale)
{
    const int64_t n_in = prog_width(b->p, x);
    char full[NAME_MAX_BYTES];
    wid w, bias, factor;

    if (prog_failed(b->p))
        return 0;
    if (n_out == 0)
        n_out = build_extent(b, with(full, name, ".weight"), 0);
    w = build_need(b, with(full, name, ".weight"), SHAPE(n_out, n_in));
    bias = b->biases ? build_opt(b, with(full, name, ".bias"), SHAPE(n_out)) : 0;
    factor = build_opt(b, with(full, name, ".scale"), SHAPE(-1));
    return adapted(b, x, prog_linear(b->p, x, w, bias, factor, (struct linear_args){ .scale = scale }),
                   w);
}

val build_linear(struct build *b, val x, const char *name, uint32_t n_out)
{
    return build_linear_scaled(b, x, name, n_out, 0);
}

val build_norm_heads(struct build *b, val x, const char *name, uint32_t group)
{
    char full[NAME_MAX_BYTES], gain[NAME_MAX_BYTES], expanded[NAME_MAX_BYTES];
    struct norm_args a = b->norm;
    const int64_t width = prog_width(b->p, x);
    const int64_t *shape = SHAPE(group ? group : width);
    const int64_t *whole = SHAPE(width);
    const int64_t *by_head = SHAPE(group ? width / group : 1, group ? group : width);
    const struct gguf_tensor *t;

    if (prog_failed(b->p))
        return 0;
    a.group = group;
    (void)with(gain, name, ".weight");
    if (!build_has(b, gain) && build_has(b, name))
        (void)with(gain, name, "");
    t = find(b, gain, expanded);
    /* gains of whole rows, or one row per head */
    if (group && t && tensor_elems(&t->t) == width)
        shape = t->t.n_dims == 1 ? whole : by_head;
    return prog_norm(b->p, x, build_need(b, gain, shape),
                     build_opt(b, with(full, name, ".bias"), shape), a);
}

val build_norm(struct build *b, val x, const char *name)
{
    return build_norm_heads(b, x, name, 0);
}

val build_logits(struct build *b, val x)
{
    const int64_t *shape = SHAPE(b->n_vocab, b->n_embd);
    val rows;
    wid w;

    if (b->embed) {
        build_known(b, "output.weight");
        build_known(b, "output.bias");
        build_known(b, "output.scale");
        return b->embedding = build_embedding(b, x);
    }
    rows = prog_rows(b->p, x);
    w = build_opt(b, "output.weight", shape);
    if (!w)
        w = build_need(b, "token_embd.weight", shape);
    return adapted(b, rows,
                   prog_linear(b->p, rows, w,
                               b->output_bias ? build_opt(b, "output.bias", SHAPE(b->n_vocab)) : 0,
                               build_opt(b, "output.scale", SHAPE(-1)), (struct linear_args){ 0 }),
                   w);
}

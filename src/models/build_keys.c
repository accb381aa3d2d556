/* build_keys.c: hyperparameters, common ones and by key; see build.h. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "models/build.h"
#include "models/build_internal.h"

#define KEY_MAX 192

static const struct gguf_kv *find(struct build *b, const char *key, char full[KEY_MAX])
{
    if (key[0] == '/')
        (void)snprintf(full, KEY_MAX, "%s", key + 1);
    else
        (void)snprintf(full, KEY_MAX, "%s.%s", b->arch, key);
    return gguf_find(b->g, full);
}

/* Element of the layer at hand; a layer's number past the end of an array is an error. */
static bool element(struct build *b, const struct gguf_kv *kv, const char *full, uint64_t *i)
{
    *i = 0;
    if (!kv->is_array)
        return true;
    *i = b->layer == UINT32_MAX ? 0 : b->layer;
    if (*i < kv->n)
        return true;
    prog_fail(b->p, WATT_EFORMAT, "%s: key %s has %" PRIu64 " elements, expected %u",
              gguf_path(b->g), full, kv->n, b->n_layers);
    return false;
}

static void bad_type(struct build *b, const char *full, const char *expected)
{
    prog_fail(b->p, WATT_EFORMAT, "%s: key %s is not %s", gguf_path(b->g), full, expected);
}

uint32_t build_u32(struct build *b, const char *key, uint32_t unset)
{
    char full[KEY_MAX];
    const struct gguf_kv *kv = find(b, key, full);
    int64_t v;
    uint64_t i;

    if (!kv || kv->n == 0 || !element(b, kv, full, &i))
        return unset;
    if (!gguf_elem_i64(kv, i, &v) || v > UINT32_MAX || v < -1) {
        bad_type(b, full, "a number in 0..4294967295");
        return unset;
    }
    return v == 0 || v == -1 || v == UINT32_MAX ? unset : (uint32_t)v;
}

uint32_t build_need_u32(struct build *b, const char *key)
{
    const uint32_t v = build_u32(b, key, 0);

    if (v == 0)
        prog_fail(b->p, WATT_EFORMAT, "%s: key %s.%s is missing or 0, expected a number above 0",
                  gguf_path(b->g), b->arch, key);
    return v;
}

float build_f32(struct build *b, const char *key, float unset)
{
    char full[KEY_MAX];
    const struct gguf_kv *kv = find(b, key, full);
    double v;
    uint64_t i;

    if (!kv || kv->n == 0 || !element(b, kv, full, &i))
        return unset;
    if (!gguf_elem_f64(kv, i, &v)) {
        bad_type(b, full, "a number");
        return unset;
    }
    return v == 0 || !isfinite(v) || !isfinite((float)v) ? unset : (float)v;
}

bool build_bool(struct build *b, const char *key, bool unset)
{
    char full[KEY_MAX];
    const struct gguf_kv *kv = find(b, key, full);
    int64_t v;
    uint64_t i;

    if (!kv || kv->n == 0 || !element(b, kv, full, &i))
        return unset;
    if (!gguf_elem_i64(kv, i, &v) || (v != 0 && v != 1)) {
        bad_type(b, full, "true or false");
        return unset;
    }
    return v != 0;
}

bool build_set(struct build *b, const char *key)
{
    char full[KEY_MAX];

    return find(b, key, full) != NULL;
}

bool build_is_local(struct build *b, uint32_t period, bool first_is_full)
{
    char full[KEY_MAX];
    const struct gguf_kv *kv = find(b, "attention.sliding_window_pattern", full);
    uint32_t at;

    if (kv && kv->is_array && kv->n > 0)
        return build_bool(b, "attention.sliding_window_pattern", false);
    period = build_u32(b, "attention.sliding_window_pattern", period);
    at = b->layer % period;
    return first_is_full ? at != 0 : at != period - 1;
}

bool build_str_is(struct build *b, const char *key, const char *value)
{
    char full[KEY_MAX];
    const struct gguf_kv *kv = find(b, key, full);
    struct sv s;

    return kv && !kv->is_array && gguf_elem_str(b->g, kv, 0, &s) && sv_eq_cstr(s, value);
}

bool build_u32s(struct build *b, const char *key, uint32_t *out, uint32_t n)
{
    char full[KEY_MAX];
    const struct gguf_kv *kv = find(b, key, full);
    bool any = false;

    memset(out, 0, n * sizeof *out);
    for (uint32_t i = 0; kv && i < n && i < kv->n; i++) {
        int64_t v;

        if (!gguf_elem_i64(kv, i, &v) || v < 0 || v > UINT32_MAX) {
            bad_type(b, full, "an array of numbers in 0..4294967295");
            return false;
        }
        out[i] = (uint32_t)v;
        any |= v != 0;
    }
    return any;
}

void build_begin(struct build *b, const struct arch *arch)
{
    const bool rms = arch->norm == NORM_RMS;
    uint32_t n_more;

    b->arch = arch->name;
    b->layer = UINT32_MAX;
    b->n_embd = build_need_u32(b, "embedding_length");
    b->n_layers = build_need_u32(b, "block_count");
    n_more = build_u32(b, "nextn_predict_layers", 0);
    if (n_more > 0 && n_more >= b->n_layers)
        prog_fail(b->p, WATT_EFORMAT, "%s: key %s.nextn_predict_layers is %u of %u layers",
                  gguf_path(b->g), b->arch, n_more, b->n_layers);
    else
        b->n_layers -= n_more;
    if (b->n_layers > BUILD_MAX_LAYERS)
        prog_fail(b->p, WATT_ELIMIT, "%s: key %s.block_count is %u, at most %u",
                  gguf_path(b->g), b->arch, b->n_layers, BUILD_MAX_LAYERS);
    b->n_ctx_train = build_u32(b, "context_length", 2048);
    if (b->n_ctx == 0)
        b->n_ctx = b->n_ctx_train;
    b->n_vocab = build_extent(b, build_table_name(b), 0);
    b->norm = (struct norm_args){
        .kind = arch->norm,
        .eps = build_f32(b, rms ? "attention.layer_norm_rms_epsilon"
                                : "attention.layer_norm_epsilon", 0),
    };
    b->causal = build_bool(b, "attention.causal", true);
    b->alibi = build_f32(b, "attention.max_alibi_bias", 0);
    b->rope_factors = b->biases = b->output_bias = true;
    build_read_rope(b, arch->pairing);
}

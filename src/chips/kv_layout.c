/* kv_layout.c: addresses and scalar access of the cache; see kv_layout.h. */
#include "chips/kv_layout.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

#define T KV_PAGE_TOKENS

/* One head's K or V part of a page; a multiple of 64 for every dtype. */
static uint64_t head_bytes(enum dtype dtype, uint32_t pad)
{
    switch (dtype) {
    case DTYPE_F32:  return (uint64_t)T * pad * 4;
    case DTYPE_F16:
    case DTYPE_BF16: return (uint64_t)T * pad * 2;
    default:         return (uint64_t)T * pad + (uint64_t)T * (pad / 32) * 4;
    }
}

static bool dtype_ok(enum dtype dtype)
{
    return dtype == DTYPE_F32 || dtype == DTYPE_F16 || dtype == DTYPE_BF16 ||
           dtype == DTYPE_Q8_0;
}

int kv_layout_init(struct kv_layout *l, const struct program *p, enum dtype k_dtype,
                   enum dtype v_dtype, struct err *e)
{
    uint64_t at = 0;    /* at most 4096 states * 2 * 2^40 bytes: no overflow */

    if (!dtype_ok(k_dtype) || !dtype_ok(v_dtype))
        return err_set(e, WATT_EINVAL, "cache of type %s: only F32, F16, BF16 and Q8_0 can be "
                       "cached", dtype_name(dtype_ok(k_dtype) ? v_dtype : k_dtype));
    *l = (struct kv_layout){ .k_dtype = k_dtype, .v_dtype = v_dtype,
                             .n_parts = prog_n_states(p) };
    l->parts = mem_calloc((size_t)l->n_parts + 1, sizeof *l->parts);
    if (!l->parts)
        return err_set(e, WATT_ENOMEM, "cache: layout of %u states", l->n_parts);
    for (uint32_t i = 0; i < l->n_parts; i++) {
        const struct prog_state *s = prog_state_at(p, i + 1);
        struct kv_part *part = &l->parts[i];

        if (s->kind != STATE_KV)
            continue;
        part->n_kv_heads = s->n_kv_heads;
        part->k_dim = s->k_dim;
        part->v_dim = s->v_dim;
        part->k_pad = kv_pad(k_dtype, s->k_dim);
        part->v_pad = kv_pad(v_dtype, s->v_dim);
        part->k_head_bytes = head_bytes(k_dtype, part->k_pad);
        part->v_head_bytes = head_bytes(v_dtype, part->v_pad);
        part->k_offset = at;
        part->v_offset = at + s->n_kv_heads * part->k_head_bytes;
        at = part->v_offset + s->n_kv_heads * part->v_head_bytes;
    }
    l->page_bytes = at;
    return 0;
}

void kv_layout_deinit(struct kv_layout *l)
{
    mem_free(l->parts);
    *l = (struct kv_layout){ 0 };
}

uint64_t kv_layout_token_bytes(const struct kv_layout *l)
{
    return l->page_bytes / T;
}

/* Where column d of a token lies, in elements from the head's start. */
static size_t k_index(enum dtype dtype, uint32_t pad, uint32_t token, uint32_t d)
{
    const size_t block = token / KV_LANES, lane = token % KV_LANES;

    switch (dtype) {
    case DTYPE_BF16: return (block * (pad / 2) + d / 2) * 2 * KV_LANES + lane * 2 + d % 2;
    case DTYPE_Q8_0: return (block * (pad / 4) + d / 4) * 4 * KV_LANES + lane * 4 + d % 4;
    default:         return (block * pad + d) * KV_LANES + lane;
    }
}

static size_t k_scale_index(uint32_t pad, uint32_t token, uint32_t block)
{
    return ((size_t)(token / KV_LANES) * (pad / 32) + block) * KV_LANES + token % KV_LANES;
}

struct place {              /* one token's vector of one head, K or V */
    uint8_t   *base;
    enum dtype dtype;
    bool       is_k;
    uint32_t   dim, pad, token;
};

static struct place place_of(const struct kv_layout *l, const void *page, sid s, uint32_t head,
                             uint32_t token, bool is_k)
{
    const struct kv_part *part;

    CHECK(s >= 1 && s <= l->n_parts && token < T);
    part = &l->parts[s - 1];
    CHECK(head < part->n_kv_heads);
    return (struct place){
        .base = (uint8_t *)(uintptr_t)page + (is_k ? part->k_offset + head * part->k_head_bytes
                                                   : part->v_offset + head * part->v_head_bytes),
        .dtype = is_k ? l->k_dtype : l->v_dtype,
        .is_k = is_k,
        .dim = is_k ? part->k_dim : part->v_dim,
        .pad = is_k ? part->k_pad : part->v_pad,
        .token = token,
    };
}

static size_t index_of(const struct place *at, uint32_t d)
{
    return at->is_k ? k_index(at->dtype, at->pad, at->token, d)
                    : (size_t)at->token * at->pad + d;
}

static float *scale_of(const struct place *at, uint32_t block)
{
    const size_t i = at->is_k ? k_scale_index(at->pad, at->token, block)
                              : (size_t)at->token * (at->pad / 32) + block;

    return (float *)(void *)(at->base + (size_t)T * at->pad + i * sizeof(float));
}

static void write_q8(const struct place *at, const float *x)
{
    for (uint32_t block = 0; block < at->pad / 32; block++) {
        const uint32_t first = block * 32;
        const uint32_t n = at->dim - first < 32 ? at->dim - first : 32;
        float amax = 0, d;
        bool finite = true;

        for (uint32_t i = 0; i < n; i++) {
            finite &= isfinite(x[first + i]) != 0;
            amax = fmaxf(amax, fabsf(x[first + i]));
        }
        d = finite ? amax / 127.0f : NAN;
        *scale_of(at, block) = d;
        for (uint32_t i = 0; i < 32; i++) {
            float q = i < n && d > 0 ? rintf(x[first + i] / d) : 0.0f;

            q = fminf(127.0f, fmaxf(-127.0f, q));
            ((int8_t *)at->base)[index_of(at, first + i)] = (int8_t)q;
        }
    }
}

static void write_vector(const struct place *at, const float *x)
{
    if (at->dtype == DTYPE_Q8_0) {
        write_q8(at, x);
        return;
    }
    for (uint32_t d = 0; d < at->pad; d++) {
        const float v = d < at->dim ? x[d] : 0.0f;
        const size_t i = index_of(at, d);

        switch (at->dtype) {
        case DTYPE_F16:  ((uint16_t *)(void *)at->base)[i] = f32_to_f16(v); break;
        case DTYPE_BF16: ((uint16_t *)(void *)at->base)[i] = f32_to_bf16(v); break;
        default:         ((float *)(void *)at->base)[i] = v; break;
        }
    }
}

static void read_vector(const struct place *at, float *x)
{
    for (uint32_t d = 0; d < at->dim; d++) {
        const size_t i = index_of(at, d);

        switch (at->dtype) {
        case DTYPE_F16:  x[d] = f16_to_f32(((const uint16_t *)(void *)at->base)[i]); break;
        case DTYPE_BF16: x[d] = bf16_to_f32(((const uint16_t *)(void *)at->base)[i]); break;
        case DTYPE_Q8_0: x[d] = (float)((const int8_t *)at->base)[i] * *scale_of(at, d / 32);
                         break;
        default:         x[d] = ((const float *)(void *)at->base)[i]; break;
        }
    }
}

void kv_write_k(const struct kv_layout *l, void *page, sid s, uint32_t head, uint32_t token,
                const float *k)
{
    const struct place at = place_of(l, page, s, head, token, true);

    write_vector(&at, k);
}

void kv_write_v(const struct kv_layout *l, void *page, sid s, uint32_t head, uint32_t token,
                const float *v)
{
    const struct place at = place_of(l, page, s, head, token, false);

    write_vector(&at, v);
}

void kv_read_k(const struct kv_layout *l, const void *page, sid s, uint32_t head, uint32_t token,
               float *k)
{
    const struct place at = place_of(l, page, s, head, token, true);

    read_vector(&at, k);
}

void kv_read_v(const struct kv_layout *l, const void *page, sid s, uint32_t head, uint32_t token,
               float *v)
{
    const struct place at = place_of(l, page, s, head, token, false);

    read_vector(&at, v);
}

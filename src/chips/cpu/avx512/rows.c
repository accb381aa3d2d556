/* rows.c (AVX-512): kernels over rows of floats, and attention. */
#include <immintrin.h>

#include "chips/cpu/avx512/simd.h"

#include "chips/cpu/attention_body.h"
#include "chips/cpu/rows_body.h"

/* rng_mix of eight numbers. */
static __m512i mix8(__m512i z)
{
    z = _mm512_add_epi64(z, _mm512_set1_epi64((long long)0x9E3779B97F4A7C15u));
    z = _mm512_mullo_epi64(_mm512_xor_si512(z, _mm512_srli_epi64(z, 30)),
                           _mm512_set1_epi64((long long)0xBF58476D1CE4E5B9u));
    z = _mm512_mullo_epi64(_mm512_xor_si512(z, _mm512_srli_epi64(z, 27)),
                           _mm512_set1_epi64((long long)0x94D049BB133111EBu));
    return _mm512_xor_si512(z, _mm512_srli_epi64(z, 31));
}

/* Eight numbers at a time are 32 columns in order, 16 bits each. The first 32 begin below `from`,
 * where that isn't a multiple of 4; they are masked off, as is what is behind the end. */
static void drop(float *y, const struct drop_row *r)
{
    const __m512i lane = _mm512_slli_epi64(_mm512_setr_epi64(0, 4, 8, 12, 16, 20, 24, 28), 32);
    const __m512 scale = _mm512_set1_ps(r->scale);
    const uint32_t skip = r->from & 3, n = r->n + skip;

    y -= skip;
    for (uint32_t i = 0; i < n; i += 32) {
        const uint64_t first = (uint64_t)(r->from - skip + i) << 32;
        const __m512i at = _mm512_add_epi64(_mm512_set1_epi64((long long)first), lane);
        const __m512i u = mix8(_mm512_xor_si512(at, _mm512_set1_epi64((long long)r->key)));
        __mmask32 in = n - i < 32 ? (1u << (n - i)) - 1 : 0xFFFFFFFFu, stays = 0;

        if (i == 0)
            in &= 0xFFFFFFFFu << skip;
        if (r->below <= 0xFFFF)
            stays = _mm512_cmpge_epu16_mask(u, _mm512_set1_epi16((short)r->below));
        for (uint32_t h = 0; h < 32 && in >> h; h += 16) {
            const __mmask16 m = (__mmask16)(in >> h);
            const __m512 v = _mm512_maskz_loadu_ps(m, y + i + h);

            _mm512_mask_storeu_ps(y + i + h, m, _mm512_maskz_mul_ps((__mmask16)(stays >> h), v,
                                                                    scale));
        }
    }
}

void kernels_init_avx512_rows(struct kernels *k, uint32_t mask)
{
    if (!(mask & CPU_AVX512))
        return;
    rows_install(k);
    k->drop = drop;
    if (mask & CPU_AVX512_VNNI)
        kernels_init_avx512_attention(k);
    else
        attention_install(k);
}

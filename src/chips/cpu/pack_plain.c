/* pack_plain.c: panels of F32, F16 and BF16; layouts in layout.h. */
#include <string.h>

#include "chips/cpu/layout.h"
#include "chips/cpu/pack_types.h"

/* n words of 32 bits of sixteen rows, transposed, in runs that stay in the cache. */
static void transpose_words(uint8_t *dst, const uint8_t *src, size_t stride, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        const size_t end = n - i < 16 ? n : i + 16;

        for (unsigned r = 0; r < PACK_ROWS; r++) {
            for (size_t k = i; k < end; k++) {
                uint32_t word;

                memcpy(&word, src + r * stride + 4 * k, 4);
                memcpy(dst + 64 * k + 4 * r, &word, 4);
            }
        }
    }
}

void pack_f32(uint8_t *dst, const uint8_t *src, size_t stride, size_t n)
{
    transpose_words(dst, src, stride, n);
}

void pack_bf16(uint8_t *dst, const uint8_t *src, size_t stride, size_t n)
{
    transpose_words(dst, src, stride, n);
}

void pack_f16(uint8_t *dst, const uint8_t *src, size_t stride, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        const size_t end = n - i < 16 ? n : i + 16;

        for (unsigned r = 0; r < PACK_ROWS; r++) {
            for (size_t k = i; k < end; k++) {
                memcpy(dst + 64 * k + 2 * r, src + r * stride + 4 * k, 2);
                memcpy(dst + 64 * k + 32 + 2 * r, src + r * stride + 4 * k + 2, 2);
            }
        }
    }
}

static uint16_t half_at(const uint8_t *p)
{
    uint16_t h;

    memcpy(&h, p, 2);
    return h;
}

void read_f32(float *out, const uint8_t *group, unsigned lane)
{
    memcpy(out, group + 4 * lane, 4);
}

void read_f16(float *out, const uint8_t *group, unsigned lane)
{
    out[0] = f16_to_f32(half_at(group + 2 * lane));
    out[1] = f16_to_f32(half_at(group + 32 + 2 * lane));
}

void read_bf16(float *out, const uint8_t *group, unsigned lane)
{
    out[0] = bf16_to_f32(half_at(group + 4 * lane));
    out[1] = bf16_to_f32(half_at(group + 4 * lane + 2));
}

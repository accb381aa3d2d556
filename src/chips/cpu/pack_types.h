/* pack_types.h: how one group of each type is packed and read back; the types of
 * struct layout in layout.h. Internal to the packers. */
#ifndef CHIPS_CPU_PACK_TYPES_H
#define CHIPS_CPU_PACK_TYPES_H

#include <stddef.h>
#include <stdint.h>

typedef void pack_group_fn(uint8_t *dst, const uint8_t *src, size_t stride, size_t n);
typedef void read_group_fn(float *out, const uint8_t *group, unsigned lane);

pack_group_fn pack_f32, pack_f16, pack_bf16, pack_q4_0, pack_q8_0, pack_q4_k, pack_q5_k,
              pack_q6_k;
read_group_fn read_f32, read_f16, read_bf16, read_q4_0, read_q8_0, read_q4_k, read_q5_k,
              read_q6_k;

#endif

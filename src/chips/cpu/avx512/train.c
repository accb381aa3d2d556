/* train.c (AVX-512): kernels of the backward pass. */
#include "chips/cpu/avx512/simd.h"

#define TILE_M 8u
#define TILE_V 3u
#define TRAIN_TABLE train_avx512
#include "chips/cpu/train_body.h"

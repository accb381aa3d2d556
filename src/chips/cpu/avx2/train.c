/* train.c (AVX2 with FMA): kernels of the backward pass. */
#include "chips/cpu/avx2/simd.h"

#define TILE_M 4u
#define TILE_V 3u
#define TRAIN_TABLE train_avx2
#include "chips/cpu/train_body.h"

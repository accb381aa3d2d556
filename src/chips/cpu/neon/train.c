/* train.c (NEON): kernels of the backward pass. */
#include "chips/cpu/neon/simd.h"

#define TILE_M 8u
#define TILE_V 3u
#define TRAIN_TABLE train_neon
#include "chips/cpu/train_body.h"

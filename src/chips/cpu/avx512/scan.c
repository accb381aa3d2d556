/* scan.c (AVX-512): kernels of the recurrences. */
#define SCAN_TABLE scan_avx512
#include "chips/cpu/scan_body.h"

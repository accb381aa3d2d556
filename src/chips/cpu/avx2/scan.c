/* scan.c (AVX2): kernels of the recurrences. */
#define SCAN_TABLE scan_avx2
#include "chips/cpu/scan_body.h"

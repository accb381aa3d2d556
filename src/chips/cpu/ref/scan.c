/* scan.c (any machine): kernels of the recurrences. */
#define SCAN_TABLE scan_ref
#include "chips/cpu/scan_body.h"

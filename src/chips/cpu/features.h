/* features.h: what this processor can do, as a mask that tests and users can narrow. */
#ifndef CHIPS_CPU_FEATURES_H
#define CHIPS_CPU_FEATURES_H

#include <stdbool.h>
#include <stdint.h>

enum cpu_feature {
    CPU_AVX2        = 1u << 0,      /* with FMA and F16C */
    CPU_AVX_VNNI    = 1u << 1,
    CPU_AVX512      = 1u << 2,      /* F, BW, VL, DQ */
    CPU_AVX512_VNNI = 1u << 3,
    CPU_AVX512_BF16 = 1u << 4,
    CPU_NEON        = 1u << 8,
    CPU_NEON_DOT    = 1u << 9,
    CPU_NEON_I8MM   = 1u << 10,
    CPU_NEON_BF16   = 1u << 11
    /* SVE has no kernels yet; its place is 1u << 12 on */
};
#define CPU_ALL 0xFFFFFFFFu

uint32_t cpu_features(void);        /* of this machine, what the system enables considered */
/* "ref", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16", "neon", "neondot", "neoni8mm",
 * "neonbf16", "all", or names joined by '+'; each name implies what it needs. False when unknown. */
bool cpu_mask_parse(const char *text, uint32_t *mask);
const char *cpu_model_name(void);   /* from /proc/cpuinfo, "unknown" otherwise */

#endif

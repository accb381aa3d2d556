/* peaks.h: what this machine can do at most, measured: the limits that bench and
 * inspect print beside every figure. */
#ifndef CHIPS_CPU_PEAKS_H
#define CHIPS_CPU_PEAKS_H

#include "base/team.h"
#include "chips/cpu/features.h"

/* All threads of the team together; 0: not in the mask. A multiplication and its addition
 * are two operations. */
struct peaks {
    /* Streaming reads of a region much larger than the caches: the median pass of some 0.2 s,
     * which is what work that lasts can have, and the best pass, which on a shared machine a
     * neighbour's pause can give for some milliseconds. */
    double read_bytes_s, read_best_bytes_s;
    double f32_ops_s;           /* fused multiply-add, f32 */
    double int8_ops_s;          /* 8-bit dot products into 32 bits */
    double bf16_ops_s;          /* bfloat16 dot products into f32 */
};

/* Takes about 0.4 s; operations are the best of several short runs. WATT_ENOMEM: the region to read
 * (256 MiB) could not be had. */
int peaks_measure(struct peaks *p, struct team *team, uint32_t mask, struct err *e) MUST_CHECK;

/* Runs n steps of one instruction set's busiest loop of a kind; returns operations done. */
enum peak_kind { PEAK_F32, PEAK_INT8, PEAK_BF16, PEAK_COUNT };
typedef uint64_t peak_fn(uint64_t n);
/* NULL: not in the mask. */
peak_fn *peak_of(enum peak_kind kind, uint32_t mask);

/* Each instruction set's loops. */
peak_fn peak_f32_ref, peak_f32_avx2, peak_int8_avx2, peak_int8_avxvnni, peak_f32_avx512,
        peak_int8_avx512vnni, peak_bf16_avx512, peak_f32_neon, peak_int8_neon,
        peak_int8_neondot, peak_int8_neoni8mm, peak_bf16_neon;
/* Sums all of a region, so that it must be read. */
uint64_t peak_read_ref(const void *p, size_t n);
uint64_t peak_read_avx2(const void *p, size_t n);
uint64_t peak_read_avx512(const void *p, size_t n);
uint64_t peak_read_neon(const void *p, size_t n);
/* By the fastest of the mask. p: 64-byte aligned, n a multiple of 512. */
uint64_t peak_read(const void *p, size_t n, uint32_t mask);

#endif

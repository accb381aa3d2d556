/* rng.h: seeded random numbers, the same on every machine: xoshiro256**
 * (Blackman and Vigna, "Scrambled linear pseudorandom number generators",
 * 2021), seeded through splitmix64. Not for secrets. One owner thread. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stdint.h>

struct rng { uint64_t s[4]; };

void     rng_init(struct rng *r, uint64_t seed);
uint64_t rng_u64(struct rng *r);
uint32_t rng_below(struct rng *r, uint32_t n);  /* uniform in 0..n-1, n > 0, no bias */
double   rng_double(struct rng *r);             /* uniform in [0, 1), 53 bits */
float    rng_float(struct rng *r);              /* uniform in [0, 1), 24 bits */
double   rng_normal(struct rng *r);             /* mean 0, deviation 1 (Box-Muller; last bits are libm's) */
/* One well-mixed number of a seed: streams of their own per (seed, index). */
uint64_t rng_mix(uint64_t seed);

#endif

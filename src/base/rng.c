/* rng.c: xoshiro256** and derived distributions; see rng.h. */
#include "base/rng.h"

#include <math.h>

uint64_t rng_mix(uint64_t z)
{
    z += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

void rng_init(struct rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++)
        r->s[i] = rng_mix(seed + (uint64_t)i * 0x9E3779B97F4A7C15u);
}

static uint64_t rotl(uint64_t x, int k)
{
    return x << k | x >> (64 - k);
}

uint64_t rng_u64(struct rng *r)
{
    uint64_t *s = r->s;
    const uint64_t result = rotl(s[1] * 5, 7) * 9;
    const uint64_t t = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint32_t rng_below(struct rng *r, uint32_t n)
{
    /* Lemire's multiply-and-reject: unbiased, one division at worst */
    uint64_t m = (uint64_t)(uint32_t)(rng_u64(r) >> 32) * n;

    if ((uint32_t)m < n) {
        uint32_t floor = (uint32_t)(-n) % n;

        while ((uint32_t)m < floor)
            m = (uint64_t)(uint32_t)(rng_u64(r) >> 32) * n;
    }
    return (uint32_t)(m >> 32);
}

double rng_double(struct rng *r)
{
    return (double)(rng_u64(r) >> 11) * 0x1p-53;
}

float rng_float(struct rng *r)
{
    return (float)(rng_u64(r) >> 40) * 0x1p-24f;
}

double rng_normal(struct rng *r)
{
    double u = 1.0 - rng_double(r);   /* (0, 1]: log stays finite */
    double v = rng_double(r);

    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}
